"""Native call sites by memray, with a memray that reads from a script."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from leakharness.worker.native_calls import NAMELESS, RUNS_PYTHON, native_calls

RUNS = 20
Frame = tuple[str, str, int]


@dataclass(frozen=True)
class Record:
    """What memray says of one call site."""

    size: int
    n_allocations: int
    stack: tuple[Frame, ...]
    python: tuple[Frame, ...] = ()

    def native_stack_trace(self, most: int) -> list[Frame]:
        return list(self.stack[:most])

    def stack_trace(self, most: int) -> list[Frame]:
        return list(self.python[:most])


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

        def __enter__(self) -> None:
            sys.setprofile(lambda *_: None)  # as memray's follows Python's calls

        def __exit__(self, *_: object) -> None:
            sys.setprofile(None)

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


def test_the_profile_function_of_memray_is_off_while_runs_are_made(batches: list[list[Record]]) -> None:
    """It breaks what switches stacks, and no line of Python is asked for."""
    profiles: list[object] = []
    batches += [[LEAK], [LEAK]]
    native_calls(lambda count: profiles.append(sys.getprofile()), RUNS)
    assert profiles == [None, None]


def test_a_library_without_symbols_is_told_by_the_line_that_called_it(batches: list[list[Record]]) -> None:
    """In two more batches, in which memray follows Python's calls; the other rows stay as they are."""
    nameless = Record(40_000, RUNS, ((NAMELESS, NAMELESS, 0),), (("run_once", "case.py", 22), ("main", "a.py", 1)))
    batches += [[LEAK, nameless]] * 4
    found = native_calls(lambda count: None, RUNS)
    assert [tuple(row) for row in found.rows] == [
        (*DECODE, 3_000),
        ("native code without symbols, called by run_once", "case.py", 22, 2_000),
    ]


def test_runs_that_fail_while_python_is_followed_cost_only_the_line(batches: list[list[Record]]) -> None:
    """What was found before is told."""
    nameless = Record(40_000, RUNS, ((NAMELESS, NAMELESS, 0),))
    batches += [[LEAK, nameless]] * 2

    def runs(count: int) -> None:
        if sys.getprofile() is not None:
            raise UnboundLocalError("deep")

    assert [row.function for row in native_calls(runs, RUNS).rows] == ["decode", NAMELESS]


@pytest.mark.parametrize(
    ("stack", "place"),
    {
        (("_PyObject_Malloc", "Objects/obmalloc.c", 9), ("list_resize", "Objects/listobject.c", 70), DECODE): DECODE,
        (("PyObject_Malloc", "???", 0), ("PyList_New", "???", 0), DECODE): DECODE,
        (("push_chunk", "Python/pystate.c", 2188), (RUNS_PYTHON, "Python/ceval.c", 1), DECODE): (
            *("push_chunk", "Python/pystate.c", 2188),
        ),
    }.items(),
    ids=["by-file", "by-name", "all-the-interpreter's"],
)
def test_the_call_is_that_of_the_library_not_of_the_interpreter(
    batches: list[list[Record]], stack: tuple[Frame, ...], place: Frame
) -> None:
    """It allocates on behalf of a library, unless Python code runs in between."""
    batches += [[Record(20_000, RUNS, stack)]] * 2
    assert [tuple(row)[:3] for row in native_calls(lambda count: None, RUNS).rows] == [place]


def test_without_memray_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run is made for it, either."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert native_calls(lambda count: pytest.fail("a run"), RUNS) == (False, ())
