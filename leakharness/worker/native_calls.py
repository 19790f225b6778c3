"""Native call sites whose outstanding bytes grow from batch to batch, by memray's native traces. For the second,
explaining process, and only where the measured environment has memray: it is never required, and never decides."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from leakharness.worker.protocol import NativeCall, NativeCalls
from leakharness.worker.unpatched import os

__all__ = ["native_calls"]

Place = tuple[str, str, int]
PlaceOf = Callable[[Any], "Place | None"]

MOST_CALLS = 5
MOST_FRAMES = 40
EVERY_OTHER_RUN = 0.5
"""Allocations a run below which a site is left out."""
ALLOCATORS = ("memray::", "_PyMem_", "PyMem_", "PyObject_", "_PyObject_")
"""What a function of an allocator is called; of the interpreter's, those of Objects/obmalloc.c."""
NAMELESS = "<unknown>"
"""What memray says of a library whose symbols were taken away."""
NAMELESS_OF = "native code without symbols, called by"
RUNS_PYTHON = "_PyEval_EvalFrameDefault"
"""Beyond it is the code that called the Python code, which asked for nothing."""
INTERPRETERS_FILE = re.compile(r"(\./)?(Objects|Python|Modules|Parser|Include)/")
INTERPRETERS_NAME = re.compile(r"_?Py[A-Z_]")
"""What the interpreter's own frames are known by: their files, or, where their debugging information was taken away,
their names."""


def native_calls(make_runs: Callable[[int], None], runs: int) -> NativeCalls:
    """The call sites of which something is left after each of two batches of so many runs, most bytes first; none
    where memray is not there. Where the library says no names, the line of Python that called it is told."""
    if importlib.util.find_spec("memray") is None:
        return NativeCalls(False)
    memray = importlib.import_module("memray")
    rows = _left_in_both(memray, make_runs, runs, _place)
    if any(row.function == NAMELESS for row in rows):
        with contextlib.suppress(Exception):  # whatever the runs raise under memray's profile function
            callers = _left_in_both(memray, make_runs, runs, _caller)
            rows = [row for row in rows if row.function != NAMELESS]
            rows += [row for row in callers if row.function.startswith(NAMELESS_OF)]
            rows.sort(key=lambda row: -row.bytes)
    return NativeCalls(True, tuple(rows[:MOST_CALLS]))


def _left_in_both(memray: Any, make_runs: Callable[[int], None], runs: int, place_of: PlaceOf) -> list[NativeCall]:
    first, second = (_outstanding(memray, make_runs, runs, place_of) for _ in range(2))
    return [
        NativeCall(*place, round(size / runs))
        for place, size in sorted(second.items(), key=lambda item: -item[1])
        if place in first
    ]


def _outstanding(memray: Any, make_runs: Callable[[int], None], runs: int, place_of: PlaceOf) -> dict[Place, int]:
    """Bytes by (function, file, line) of the call that asked for them."""
    descriptor, path = tempfile.mkstemp(prefix="leakharness-", suffix=".memray")
    os.close(descriptor)
    os.unlink(path)
    calls: dict[Place, int] = {}
    found: dict[Place, int] = {}
    try:
        with memray.Tracker(path, native_traces=True):
            if place_of is _place:
                # Memray's profile function follows the calls of Python, which are not asked for here, and breaks what
                # switches stacks (greenlet 1.1 on 3.11 loses its local variables).
                sys.setprofile(None)
            make_runs(runs)
        for record in memray.FileReader(path).get_leaked_allocation_records(merge_threads=True):
            place = place_of(record)
            if place is not None:
                calls[place] = calls.get(place, 0) + record.n_allocations
                found[place] = found.get(place, 0) + record.size
    finally:
        if os.path.exists(path):
            os.unlink(path)
    return {place: size for place, size in found.items() if calls[place] >= EVERY_OTHER_RUN * runs}


def _place(record: Any) -> Place | None:
    """The innermost frame that is not the interpreter's own; where all are, what asked its allocator."""
    asked = None
    for function, file, line in record.native_stack_trace(MOST_FRAMES):
        if function == RUNS_PYTHON:
            break
        if function.startswith(ALLOCATORS):
            continue
        asked = asked or (function, file, int(line))
        if not INTERPRETERS_FILE.match(file) and not INTERPRETERS_NAME.match(function):
            return function, file, int(line)
    return asked


def _caller(record: Any) -> Place | None:
    """The innermost line of Python, and that what it calls has no name, where that is so."""
    place = _place(record)
    if place is None or place[0] != NAMELESS:
        return place
    for function, file, line in record.stack_trace(1):
        return f"{NAMELESS_OF} {function}", file, int(line)
    return None
