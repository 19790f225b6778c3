"""Native call sites whose outstanding bytes grow from batch to batch, by memray's native traces. For the second,
explaining process, and only where the measured environment has memray: it is never required, and never decides."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Callable
from typing import Any

from leakharness.worker.protocol import NativeCall, NativeCalls
from leakharness.worker.unpatched import os

__all__ = ["native_calls"]

MOST_CALLS = 5
MOST_FRAMES = 40
EVERY_OTHER_RUN = 0.5
"""Allocations a run below which a site is left out."""


def native_calls(make_runs: Callable[[int], None], runs: int) -> NativeCalls:
    """The call sites of which something is left after each of two batches of so many runs, most bytes first; none
    where memray is not there."""
    if importlib.util.find_spec("memray") is None:
        return NativeCalls(False)
    memray = importlib.import_module("memray")
    first, second = (_outstanding(memray, make_runs, runs) for _ in range(2))
    rows = [
        NativeCall(*place, round(size / runs))
        for place, size in sorted(second.items(), key=lambda item: -item[1])
        if place in first
    ]
    return NativeCalls(True, tuple(rows[:MOST_CALLS]))


def _outstanding(memray: Any, make_runs: Callable[[int], None], runs: int) -> dict[tuple[str, str, int], int]:
    """Bytes by (function, file, line) of the innermost frame that is not the allocator's own."""
    descriptor, path = tempfile.mkstemp(prefix="leakharness-", suffix=".memray")
    os.close(descriptor)
    os.unlink(path)
    found: dict[tuple[str, str, int], int] = {}
    try:
        with memray.Tracker(path, native_traces=True):
            make_runs(runs)
        for record in memray.FileReader(path).get_leaked_allocation_records(merge_threads=True):
            if record.n_allocations >= EVERY_OTHER_RUN * runs:
                place = _place(record.hybrid_stack_trace(MOST_FRAMES))
                if place is not None:
                    found[place] = found.get(place, 0) + record.size
    finally:
        if os.path.exists(path):
            os.unlink(path)
    return found


def _place(frames: list[tuple[str, str, int]]) -> tuple[str, str, int] | None:
    for function, file, line in frames:
        if not function.startswith(("memray::", "_PyMem_", "PyMem_", "PyObject_Malloc")):
            return function, file, int(line)
    return None
