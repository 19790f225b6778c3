"""Where descriptors are opened and threads are started that stay, seen by a profile function over a few runs.

At each call and return of a function, what is there more than at the last one of the same thread came by that thread,
or was seen by the one that made it: a look lets no other thread run. Standard library only, and for the second,
explaining process alone: a profile function slows every call, and the runs that it sees are not measured.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from leakharness.worker.protocol import Birth
from leakharness.worker.unpatched import gc, os, time

__all__ = ["births"]

RUNS_AT_ONCE = 5
MOST_RUNS = 60
"""Runs until something stays: it may come once in twenty runs."""
SECONDS = 2.0
"""No more runs are begun after so long."""
LEAST_SHARE = 0.1
"""Of what stays, from which on a place is told."""
SETTLE_S = 0.1
"""For what is on its way out."""
SWITCH_S = 0.05
"""How long a thread runs before another that waits gets its turn: one that made something has seen it by then."""
ROOM = 512
"""Descriptors that may come during these runs; what lies beyond is not seen."""
POLLNVAL = 0x20
"""poll(2), Linux: it is not open."""
OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
LIBRARY = tuple(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib"))
PACKAGES = tuple(os.path.join(sysconfig.get_path(name), "") for name in ("purelib", "platlib"))

Look = Callable[[], frozenset[int]]
Place = tuple[str, int]


def births(make_runs: Callable[[int], None], kind: str) -> tuple[Birth, ...]:
    """Where those of ``kind``, "fds" or "threads", came from that stay after some runs, the most frequent place first.
    Empty where the platform does not list them, or nothing stays."""
    look = _LOOKS[kind]()
    if look is None or (sys.version_info < (3, 12) and threading.active_count() > 1):  # which nobody would watch
        return ()
    found: dict[int, Place] = {}
    made, deadline = 0, time.monotonic() + SECONDS
    while made < MOST_RUNS and not found and time.monotonic() < deadline:
        _watched(make_runs, look, found)
        made += RUNS_AT_ONCE
        gc.collect()
        time.sleep(SETTLE_S if found else 0.0)
        there = look()
        for one in [one for one in found if one not in there]:
            del found[one]
    counts: dict[Place, int] = {}
    for place in found.values():
        counts[place] = counts.get(place, 0) + 1
    rows = [row for row in sorted(counts.items(), key=lambda row: -row[1]) if row[1] >= LEAST_SHARE * len(found)]
    return tuple(Birth(file, line, count / made) for (file, line), count in rows)


def _watched(make_runs: Callable[[int], None], look: Look, found: dict[int, Place]) -> None:
    """Make some runs, and add to ``found`` what comes in them, by its number."""
    known: dict[int, frozenset[int]] = {}

    def seen(frame: types.FrameType, event: str, called: Any) -> None:
        thread, now = threading.get_ident(), look()
        last = known.get(thread)
        known[thread] = now
        if now is last or now == last:
            return
        for gone in [one for one in found if one not in now]:
            del found[gone]
        if last is not None:
            maker = frame.f_back if event == "call" and frame.f_back is not None else frame
            place = _place(maker)
            found.update((one, place) for one in now - last - found.keys() - {thread})

    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    previous = sys.getprofile()
    _of_all_threads(seen)
    sys.setprofile(seen)
    try:
        make_runs(RUNS_AT_ONCE)
    finally:
        sys.setprofile(previous)
        _of_all_threads(None)
        sys.setswitchinterval(interval)


def _of_all_threads(profile: Any) -> None:
    """Also those that run already, from 3.12 on."""
    every = getattr(threading, "setprofile_all_threads", threading.setprofile)
    every(profile)


def _place(frame: types.FrameType) -> Place:
    """The innermost line that is neither the standard library's nor ours; the innermost where there is none."""
    for outer in _outwards(frame):
        file = outer.f_code.co_filename
        library = file.startswith(LIBRARY) and not file.startswith(PACKAGES)
        if not (library or file.startswith(("<frozen ", OWN_FOLDER))):
            return file, outer.f_lineno
    return frame.f_code.co_filename, frame.f_lineno


def _outwards(frame: types.FrameType | None) -> Iterator[types.FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


class _Pollfd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


def _open_descriptors() -> Look | None:
    """The numbers that are open, by one call of poll(2), which opens none itself as a look into /proc does."""
    try:
        count = max(map(int, os.listdir("/proc/self/fd"))) + ROOM
        poll = ctypes.PyDLL(None).poll  # PyDLL: it keeps the interpreter's lock
    except (AttributeError, OSError, ValueError):
        return None
    asked = (_Pollfd * count)(*(_Pollfd(number, 0, 0) for number in range(count)))
    size, answers = ctypes.sizeof(asked), dict[bytes, frozenset[int]]()

    def look() -> frozenset[int]:
        poll(asked, count, 0)
        answer = ctypes.string_at(asked, size)
        if answer not in answers:
            answers.clear()
            answers[answer] = frozenset(number for number in range(count) if not asked[number].revents & POLLNVAL)
        return answers[answer]

    return look


def _threads() -> Look:
    return lambda: frozenset(sys._current_frames())


_LOOKS: Mapping[str, Callable[[], Look | None]] = {
    "fds": _open_descriptors,
    "threads": _threads,
}
