"""Native call sites by memray, with a memray that reads from a script."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from leakharness.worker.native_calls import native_calls

RUNS = 20


@dataclass(frozen=True)
class Record:
    """What memray says of one call site."""

    size: int
    n_allocations: int
    stack: tuple[tuple[str, str, int], ...]

    def hybrid_stack_trace(self, most: int) -> list[tuple[str, str, int]]:
        return list(self.stack[:most])


DECODE = ("decode", "lossy.c", 63)
LEAK = Record(60_000, RUNS, (("PyMem_Malloc", "obmalloc.c", 9), DECODE, ("run", "case.py", 3)))
ONCE = Record(900_000, 1, (("table", "cache.c", 5),))
FIRST = Record(80_000, RUNS, (("warm", "cache.c", 7),))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[Record]]:
    """The records of each batch, for a test to fill."""
    batches: list[list[Record]] = []
    left: Iterator[list[Record]] = iter(batches)

    class Tracker:
        def __init__(self, path: str, *, native_traces: bool) -> None:
            assert native_traces

        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    class FileReader:
        def __init__(self, path: str) -> None: ...
        def get_leaked_allocation_records(self, merge_threads: bool) -> list[Record]:
            return next(left)

    module: Any = types.ModuleType("memray")
    module.Tracker, module.FileReader = Tracker, FileReader
    module.__spec__ = importlib.util.spec_from_loader("memray", None)
    monkeypatch.setitem(sys.modules, "memray", module)
    return batches


def test_what_both_batches_leave_behind_is_named(batches: list[list[Record]]) -> None:
    """By the function that called the allocator; not what only the first batch left, nor one large table."""
    batches += [[LEAK, FIRST, ONCE], [LEAK, ONCE]]
    made: list[int] = []
    found = native_calls(made.append, RUNS)
    assert made == [RUNS, RUNS]
    assert found.asked
    assert [tuple(row) for row in found.rows] == [(*DECODE, 3_000)]


def test_without_memray_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run is made for it, either."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert native_calls(lambda count: pytest.fail("a run"), RUNS) == (False, ())
