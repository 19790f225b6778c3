"""The test file that made a family grow is named by when it grew, not by whose module shows what holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from heap_graphs import draw

from leakharness.heap import v8
from leakharness.heap.diff import diff
from leakharness.suite.growing_file import FileRun, GrowingFile, file_runs, growing_file
from leakharness.suite.investigate import investigate, report_markdown


def grown(sizes: dict[int, int], at_hand: list[int], *runs: FileRun, grew: int = 0) -> tuple[GrowingFile, list[int]]:
    """The answer, and the snapshots that were read for it; objects are of 10 bytes."""
    read: set[int] = set()

    def reading(number: int) -> tuple[int, int]:
        read.add(number)
        return sizes[number], sizes[number] // 10

    return growing_file(grew or max(sizes.values()), at_hand, sorted(sizes), runs, reading), sorted(read)


A, B, C = FileRun("a.py", 2, 5), FileRun("b.py", 5, 8), FileRun("c.py", 8, 11)


@pytest.mark.parametrize(
    ("first", "last", "named"), [(3, 4, "a.py"), (6, 7, "b.py"), (9, 10, "c.py")], ids=["first", "middle", "last"]
)
def test_the_file_that_ran_while_it_grew_is_found_between_snapshots_that_are_far_apart(
    first: int, last: int, named: str
) -> None:
    sizes = {number: 0 if number <= first else 1000 if number >= last else 500 for number in range(1, 13)}
    assert grown(sizes, [1, 12], A, B, C)[0] == GrowingFile(named)


def test_no_more_is_read_where_one_file_alone_ran() -> None:
    assert grown({1: 0, 2: 0, 3: 500, 4: 1000}, [1, 2, 4], A) == (GrowingFile("a.py"), [1, 2, 4])


def test_what_a_file_left_decides_where_no_snapshot_does() -> None:
    """Between two snapshots that follow each other three files ran: one of them left as many blocks as grew."""
    left = [FileRun(name, 2, 2, blocks, 0) for name, blocks in (("a.py", 3), ("b.py", 90), ("c.py", 40))]
    assert grown({2: 0, 3: 1000}, [2, 3], *left)[0] == GrowingFile("b.py")
    heavy = FileRun("a.py", 2, 2, 0, 60_000)  # what malloc made may have been as many
    assert grown({2: 0, 3: 1000}, [2, 3], heavy, *left[1:])[0] == GrowingFile(None, ("a.py", "b.py"))
    assert not left[1].left(600_000, 2), "90 blocks are no 600,000 bytes"


def test_two_files_that_made_it_by_halves_are_both_suspects_and_none_is_named() -> None:
    assert grown({2: 0, 4: 500, 6: 500, 7: 1000}, [2, 4, 6, 7], A, B)[0] == GrowingFile(None, ("a.py", "b.py"))


def test_of_a_type_that_grew_elsewhere_too_each_way_is_the_files_that_made_as_much() -> None:
    """400 bytes came with the imports, 100 by the tests of a.py: each is a row, and the readings are of the type."""
    sizes = {1: 0, 2: 400, 5: 500, 12: 500}
    assert grown(sizes, [1, 2, 5, 12], A, B, C, grew=100)[0] == GrowingFile("a.py")
    assert grown(sizes, [1, 2, 5, 12], A, B, C, grew=400)[0] == GrowingFile()


def test_growth_while_no_tests_ran_is_no_files() -> None:
    assert grown({1: 0, 2: 1000, 12: 1000}, [1, 2, 12], A, B, C)[0] == GrowingFile()
    assert grown({1: 0, 2: 1000}, [1, 2])[0] == GrowingFile()


def test_runs_are_of_one_process_and_of_traces_that_count_snapshots() -> None:
    row = trace_row("a.py", [2, 4], 7)
    others: list[dict[str, Any]] = [{**row, "pid": 8}, {**row, "phase": "collect"}]
    old = {key: value for key, value in row.items() if key != "snapshots"}
    assert file_runs([row, *others, old], 77) == [FileRun("a.py", 2, 4, 7, 0)]


def trace_row(file: str, snapshots: list[int], blocks: int) -> dict[str, Any]:
    before = {"rss": 0, "blocks": 0, "malloc_bytes": 0, "objects": 0}
    after = {**before, "blocks": blocks, "rss": 9 << 20 if blocks > 1000 else 0}
    row = {"schema": "leakharness.trace/1", "lane": "gw0", "file": file, "phase": "run", "pid": 77, "tests": 1}
    row |= {"delta_rss_bytes": after["rss"], "peak_rss_bytes": 50 << 20, "before": before, "after": after}
    return {**row, "snapshots": snapshots}


def worker(sessions: int, *, registry: str | None = "app.registry") -> str:
    """Two test files import a list by ``from``: it is a global of both, and of the module that defines it, if any."""
    modules = [name for name in ("test_reads", "test_writes", registry) if name]
    lines = ["root -property:x-> _pytest.python.Module"]
    lines += [f"root -property:sys.modules['{name}']-> module {name} -property:REGISTRY-> list" for name in modules]
    lines += [
        f"_pytest.python.Module#{i} -property:_obj-> module test_{word}" for i, word in enumerate(("reads", "writes"))
    ]
    lines += [f"root -property:stack-> _pytest.python.Module#{i}" for i in range(2)]
    return "\n".join([*lines, *(f"list -element:{i}-> app.Session#{i}" for i in range(sessions))])


def lane(tmp_path: Path, counts: list[int], **options: Any) -> Path:
    """A lane of snapshots, one a count of sessions."""
    folder = tmp_path / "gw0"
    folder.mkdir()
    for number, count in enumerate(counts, 1):
        graph = draw(worker(count, **options), size=1000)
        v8.write(graph, folder / f"Heap.20260101.1200{number:02d}.77.0.{number:03d}.heapsnapshot")
    return folder


def test_a_lanes_growth_is_credited_to_the_module_that_defines_what_tests_import(tmp_path: Path) -> None:
    (row,) = diff(lane_dir=lane(tmp_path, [0, 300]), by="path").rows
    assert row.path == ("sys.modules['app.registry']", "app.registry.REGISTRY (list)[*]", "Session")


def test_what_only_tests_hold_is_shown_by_their_module(tmp_path: Path) -> None:
    (row,) = diff(lane_dir=lane(tmp_path, [0, 300], registry=None), by="path").rows
    assert row.path[0] == "sys.modules['test_reads']"


@pytest.mark.parametrize("registry", ["app.registry", None])
def test_an_investigation_names_the_file_that_wrote_and_not_the_one_that_read(
    tmp_path: Path, registry: str | None
) -> None:
    folder = lane(tmp_path, [0, 0, 0, 0, 100, 200, 300, 300, 300], registry=registry)
    rows = [
        trace_row("tests/test_reads.py", [2, 4], 0),
        trace_row("tests/test_writes.py", [4, 7], 5000),
        trace_row("tests/test_zlast.py", [7, 8], 2000),
    ]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = investigate(folder, traces=[trace])
    assert [(f.type, f.file) for f in found.families] == [("app.Session", "tests/test_writes.py")]
    text = report_markdown(found)
    assert "mend the clean-up in tests/test_writes.py" in text
    assert "and grew while tests/test_writes.py ran" in text
    assert "test_reads.py ran" not in text
    assert "test_writes.py leaves" not in text, "it is not to be isolated but mended"
