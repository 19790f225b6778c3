"""What may release by itself, later, what the runs have left behind: timers that are due, and entries with a stamp."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence

from leakharness.worker.protocol import ReleaseTimes
from leakharness.worker.unpatched import gc, time

__all__ = ["release_times"]

NEWEST = 20_000
"""Objects that are looked through for stamps: what some hundred runs leave behind."""
RECENT_S = 120.0
AHEAD_S = 3_600.0
"""A number from so long ago to so far ahead of one of the clocks is taken for a stamp, or for the end of a life."""


def release_times(of_threads: Sequence[float] = ()) -> ReleaseTimes:
    """Timers of all loops of asyncio and those ``of_threads``, in seconds, with the time until the last of them is due,
    and objects with a stamp.

    Modules are not asked: on 3.12 ``_asyncio`` shows its list of free iterators, which then holds each of them twice,
    and every later collection goes round in it for ever. A module is no entry of a store.
    """
    due = list(of_threads)
    clocks = (time.monotonic(), time.time())
    gc.unfreeze()
    due += _of_loops()
    stamped = sum(
        any(
            type(value) is float and any(clock - RECENT_S < value < clock + AHEAD_S for clock in clocks)
            for value in gc.get_referents(obj)
        )
        for obj in gc.get_objects()[-NEWEST:]
        if type(obj) is not types.ModuleType
    )
    gc.freeze()
    return ReleaseTimes(len(due), max(due, default=0.0), stamped)


def _of_loops() -> list[float]:
    """Seconds until each timer of a loop that has not closed is due; also of loops in other threads."""
    asyncio = sys.modules.get("asyncio.events")
    if asyncio is None:
        return []
    handles = [obj for obj in gc.get_objects() if type(obj) is asyncio.TimerHandle and obj._scheduled]
    return [
        handle.when() - handle._loop.time()
        for handle in handles
        if not (handle.cancelled() or handle._loop is None or handle._loop.is_closed())
    ]
