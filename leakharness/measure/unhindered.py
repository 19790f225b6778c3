"""Seconds that do not count what others took of the machine: a budget of time must not decide a verdict by its load."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["unhindered_clock", "waited_for_processor"]

MOST_STRETCHED = 4.0
"""Times the seconds asked for that may pass on a machine that is busy with other things: somebody waits."""
NANOSECOND = 1e-9


def unhindered_clock(
    pid: int,
    *,
    wall: Callable[[], float] = time.monotonic,
    waited: Callable[[int], float] | None = None,
) -> Callable[[], float]:
    """A clock that stands still while the process ``pid``, or this thread, which asks it, waits for a processor.

    Its seconds are those of ``wall``, less what ``waited(pid)`` gives, and at least a quarter of them. Where the
    platform does not tell how long a process waits, it is ``wall``.
    """
    waited = waited_for_processor if waited is None else waited
    began, before = wall(), waited(pid)

    def seconds() -> float:
        passed = wall() - began
        return max(passed - (waited(pid) - before), passed / MOST_STRETCHED)

    return seconds


def waited_for_processor(pid: int) -> float:
    """Seconds that the main thread of ``pid`` and this thread were ready to run, and did not (Linux,
    Documentation/scheduler/sched-stats.rst: the second number of schedstat, in ns); 0 where that is not told."""
    return sum(_waited(Path("/proc") / name / "schedstat") for name in (f"{pid}/task/{pid}", "thread-self"))


def _waited(path: Path) -> float:
    try:
        return int(path.read_text().split()[1]) * NANOSECOND
    except (OSError, ValueError, IndexError):  # another platform, a kernel without it, or a process that is gone
        return 0.0
