"""Growth between two snapshots: filter, order and figures, lanes, and classes with the evidence they rest on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from heap_graphs import build
from hypothesis import given, settings
from hypothesis import strategies as st

from leakharness.errors import OptionError, SnapshotError
from leakharness.heap import v8
from leakharness.heap.classify import (
    AMBIGUOUS,
    BY_DOMINATORS,
    BY_NAME,
    BY_RETAINERS,
    MODULE_GRAPH,
    NATIVE,
    RUNTIME_OBJECTS,
    Classification,
    classify_dominated,
    classify_growth,
    classify_name,
    classify_path,
)
from leakharness.heap.diff import Pair, diff, diff_graphs, diff_lane
from leakharness.heap.graph import HeapGraph
from leakharness.heap.lane import lane_pair

PAIR = Pair(Path("a"), Path("b"))


def registry(sizes: list[tuple[str, int]], holder: str = "kept") -> HeapGraph:
    """Objects of these types and sizes in a list of a module."""
    names = ["<root>", "module m", "list", *(f"{name}#{i}" for i, (name, _) in enumerate(sizes))]
    edges = [(0, "property", "sys.modules['m']", 1), (1, "property", holder, 2)]
    edges += [(2, "element", str(i), 3 + i) for i in range(len(sizes))]
    return build(names, edges, [0, 0, 0, *(size for _, size in sizes)])


objects = st.lists(st.tuples(st.sampled_from(["m.A", "m.B", "m.C", "m.D"]), st.integers(0, 5)), max_size=25)


@settings(max_examples=250, deadline=None)
@given(objects, objects, st.integers(0, 3), st.integers(1, 5))
def test_rows_are_those_of_the_definition(
    before: list[tuple[str, int]], after: list[tuple[str, int]], min_kb: int, top: int
) -> None:
    """Families of the later snapshot that grew by min_kb, by size, then count, then first appearance; top of them."""
    old, new = registry([(n, s * 1024) for n, s in before]), registry([(n, s * 1024) for n, s in after])
    found = diff_graphs(PAIR, old, new, top=top, min_kb=min_kb)
    sizes: dict[str, int] = dict.fromkeys(["<root>", "(module)", "list"], 0)  # they are in both, in this order
    counts: Counter[str] = Counter()
    for sign, heap in ((1, after), (-1, before)):
        for name, size in heap:
            if sign == 1 or name in sizes:
                sizes[name] = sizes.get(name, 0) + sign * size * 1024
                counts[name] += sign
    rows = [(name, size, counts[name]) for name, size in sizes.items() if size >= min_kb * 1024]
    rows.sort(key=lambda row: (-row[1], -row[2]))
    assert [(row.name, row.size_delta, row.count_delta) for row in found.rows] == rows[:top]
    assert found.nodes == (3 + len(before), 3 + len(after))


def test_by_path_groups_growth_by_who_holds_it() -> None:
    """The same type held in two places is two rows, each with its path and evidence."""
    old = registry([("m.A", 1024)])
    names = ["<root>", "module m", "list", "list#1", *(f"m.A#{i}" for i in range(4))]
    edges = [(0, "property", "sys.modules['m']", 1), (1, "property", "kept", 2), (1, "property", "log", 3)]
    edges += [(2, "element", str(i), 4 + i) for i in range(3)] + [(3, "element", "0", 7)]
    new = build(names, edges, [0, 0, 0, 0, *[4096] * 4])
    found = diff_graphs(PAIR, old, new, min_kb=1, by="path")
    assert [(row.name, row.size_delta, row.count_delta) for row in found.rows] == [
        ("sys.modules['m'] -> m.kept (list)[*] -> m.A", 3 * 4096 - 1024, 2),
        ("sys.modules['m'] -> m.log (list)[*] -> m.A", 4096, 1),
    ]
    assert found.evidence == "by retainers"


def test_the_document_has_the_keys_that_stay(tmp_path: Path) -> None:
    """The keys of `diff --json`, from two files."""
    v8.write(registry([]), tmp_path / "a.heapsnapshot")
    v8.write(registry([("m.A", 70_000)]), tmp_path / "b.heapsnapshot")
    document = diff(tmp_path / "a.heapsnapshot", tmp_path / "b.heapsnapshot").document()
    assert document == {
        "schema": "leakharness.diff/1",
        "before": str(tmp_path / "a.heapsnapshot"),
        "after": str(tmp_path / "b.heapsnapshot"),
        "pid": None,
        "thread": 0,
        "snapshots": 2,
        "nodes": [3, 4],
        "growth": {"grown": 70_000, "shrunk": 0, "explained": 1.0, "left_out": 0, "rows_left_out": 0},
        "rows": [
            {
                "type": "object",
                "name": "m.A",
                "size_delta": 70_000,
                "count_delta": 1,
                "class": "runtime-objects",
                "evidence": "by name",
            }
        ],
        "class": "runtime-objects",
        "evidence": "by name",
    }


def lane(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"{name}.heapsnapshot").touch()
    return folder


def test_a_lane_is_the_pid_with_most_snapshots_first_against_last(tmp_path: Path) -> None:
    """By time and then sequence, not by name or by the file system's order; other files are left alone."""
    folder = lane(
        tmp_path,
        "Heap.20260101.120000.9.0.002",
        "Heap.20260101.120000.9.0.010",
        "Heap.20251231.235959.9.0.011",
        "Heap.20260101.120000.5.0.001",
        "Heap.20260102.120000.5.0.001",
        "notes",
    )
    (tmp_path / "x.txt").touch()
    found = lane_pair(folder)
    assert (found.pid, found.snapshots) == (9, 3)
    assert found.before.name == "Heap.20251231.235959.9.0.011.heapsnapshot"
    assert found.after.name == "Heap.20260101.120000.9.0.010.heapsnapshot"
    assert lane_pair(folder, 5).after.name == "Heap.20260102.120000.5.0.001.heapsnapshot"


def test_on_a_tie_the_lowest_pid_is_taken_and_our_names_count_too(tmp_path: Path) -> None:
    """baseline-PID-TIME and batch-N-PID-TIME make a lane like Node's names."""
    names = ("batch-1-30-1002", "baseline-30-1000", "batch-2-30-1003", "baseline-7-1", "batch-1-7-2", "batch-2-7-3")
    found = lane_pair(lane(tmp_path, *names))
    assert (found.pid, found.before.name, found.after.name) == (
        7,
        "baseline-7-1.heapsnapshot",
        "batch-2-7-3.heapsnapshot",
    )


def test_a_lane_without_a_pair_and_contradictions_are_refused(tmp_path: Path) -> None:
    """Each with a message that says what to do."""
    with pytest.raises(SnapshotError, match="no heap snapshots"):
        lane_pair(tmp_path)
    lane(tmp_path, "baseline-7-1", "baseline-8-1")
    with pytest.raises(SnapshotError, match="at least two"):
        lane_pair(tmp_path)
    with pytest.raises(SnapshotError, match="PID 9"):
        lane_pair(tmp_path, 9)
    with pytest.raises(SnapshotError, match="cannot be read"):
        lane_pair(tmp_path / "missing")
    for arguments in (
        {},
        {"before": "a"},
        {"before": "a", "after": "b", "lane_dir": "c"},
        {"before": "a", "after": "b", "pid": 3},
        {"before": "a", "after": "b", "top": 0},
        {"before": "a", "after": "b", "min_kb": -1},
        {"before": "a", "after": "b", "by": "colour"},
    ):
        with pytest.raises(OptionError):
            diff(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("object", "module gateway", MODULE_GRAPH),
        ("code", "code run (a.py:3)", MODULE_GRAPH),
        ("object", "type gateway.Transcript", MODULE_GRAPH),
        ("object", "_frozen_importlib.ModuleSpec", MODULE_GRAPH),
        ("regexp", "re.Pattern", MODULE_GRAPH),
        ("object", "_pytest.assertion.rewrite.AssertionRewritingHook", MODULE_GRAPH),
        ("object", "_pytest.fixtures.FixtureDef", MODULE_GRAPH),
        ("object", "gateway.Transcript", RUNTIME_OBJECTS),
        ("object", "t.test_x.<locals>.Session", RUNTIME_OBJECTS),
        ("object", "_asyncio.Future", RUNTIME_OBJECTS),
        ("object", "coroutine run (a.py:3)", RUNTIME_OBJECTS),
        ("object", "unittest.mock.MagicMock", RUNTIME_OBJECTS),
        ("object", "dict", AMBIGUOUS),
        ("closure", "function", AMBIGUOUS),
        ("string", "str", AMBIGUOUS),
        ("code", "(code)", MODULE_GRAPH),
        ("object shape", "system / Map", MODULE_GRAPH),
        ("object", "system / Context", AMBIGUOUS),
        ("array", "(object elements)", AMBIGUOUS),
        ("array", "system / DescriptorArray", MODULE_GRAPH),
        ("string", "import x from 'y';" + "a" * 300, MODULE_GRAPH),
        ("string", "hello", AMBIGUOUS),
        ("native", "Node / BackingStore", NATIVE),
        ("native", "system / JSArrayBufferData", NATIVE),
        ("object", "Timeout", RUNTIME_OBJECTS),
        ("object", "TLSSocket", RUNTIME_OBJECTS),
        ("object", "Session", RUNTIME_OBJECTS),
        ("object", "Object", AMBIGUOUS),
        ("closure", "", AMBIGUOUS),
    ],
)
def test_names_speak_for_a_class_or_for_none(kind: str, name: str, expected: str) -> None:
    """Names of Python's and of V8's; what both sides use stays ambiguous."""
    assert classify_name(kind, name) == expected


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("dict", ["sys.modules['m']", "m.CACHE (dict)[*]", "dict"], Classification(RUNTIME_OBJECTS, BY_RETAINERS)),
        ("dict", ["sys.modules['m']", "m.__dict__", "dict"], Classification(MODULE_GRAPH, BY_RETAINERS)),
        ("list", ["sys.modules['linecache']", "linecache.cache (dict)[*]", "list"],
         Classification(MODULE_GRAPH, BY_RETAINERS)),
        ("system / Context", ["(GC roots)", "x context 'keep'", "system / Context"],
         Classification(RUNTIME_OBJECTS, BY_RETAINERS)),
        ("m.Session", ["held by C or unknown", "m.Session"], Classification(RUNTIME_OBJECTS, BY_NAME)),
        ("dict", ["held by C or unknown", "dict"], Classification(AMBIGUOUS, BY_RETAINERS)),
    ],
)  # fmt: skip
def test_a_path_settles_what_a_name_does_not(name: str, path: list[str], expected: Classification) -> None:
    """The answer says which evidence it rests on, and unknown holders settle nothing."""
    assert classify_path("object", name, path) == expected


def test_a_dominator_settles_what_a_name_does_not() -> None:
    """The nearest dominator with a class decides; a module and the root dominate everything and decide nothing."""
    above = [("object", "list"), ("object", "_asyncio.Future"), ("object", "type m.T"), ("object", "module m")]
    assert classify_dominated("object", "dict", above) == Classification(RUNTIME_OBJECTS, BY_DOMINATORS)
    assert classify_dominated("object", "dict", above[2:]) == Classification(MODULE_GRAPH, BY_DOMINATORS)
    assert classify_dominated("object", "dict", above[3:]) == Classification(AMBIGUOUS, BY_DOMINATORS)
    assert classify_dominated("object", "m.Session", above) == Classification(RUNTIME_OBJECTS, BY_NAME)


def test_a_whole_has_a_class_only_by_a_clear_majority() -> None:
    """Ambiguous growth counts against every class, shrinking families not at all."""
    assert classify_growth([(MODULE_GRAPH, 60), (RUNTIME_OBJECTS, 40)]) == MODULE_GRAPH
    assert classify_growth([(MODULE_GRAPH, 59), (RUNTIME_OBJECTS, 41)]) == AMBIGUOUS
    assert classify_growth([(RUNTIME_OBJECTS, 50), (AMBIGUOUS, 50)]) == AMBIGUOUS
    assert classify_growth([(NATIVE, 10), (RUNTIME_OBJECTS, -90)]) == NATIVE
    assert classify_growth([]) == AMBIGUOUS


def imported(n: int, entries: int = 0) -> HeapGraph:
    """``n`` modules with a class each, its docstring, its ``__dict__``, a method and its code; and a registry
    that a class has, with ``entries`` in it."""
    names, sizes = ["<root>", "module app", "type app.Registry", "dict"], [0, 100, 100, 100]
    edges = [
        (0, "property", "sys.modules['app']", 1),
        (1, "property", "Registry", 2),
        (2, "property", "items", 3),
    ]

    def add(holder: int, edge: str, name: str, size: int) -> int:
        names.append(name)
        sizes.append(size)
        edges.append((holder, "property", edge, len(names) - 1))
        return len(names) - 1

    for i in range(n):
        module = add(0, f"sys.modules['m{i}']", f"module m{i}", 100)
        owner = add(module, "C", f"type m{i}.C", 1500)
        add(owner, "__doc__", f"str#{10 * i}", 300)
        space = add(owner, "__dict__", f"dict#{10 * i}", 800)
        method = add(space, "f", f"function C.f (m{i}.py:3)", 160)
        add(add(method, "__code__", f"code C.f (m{i}.py:3)", 500), "co_consts", f"tuple#{10 * i}", 200)
    for i in range(entries):
        add(3, f"k{i}", f"list#{i}", 2000)
    return build(names, edges, sizes)


def test_imported_modules_are_few_rows_and_a_module_graph() -> None:
    """Each class, function and code has a name of its own: told one by one they are a thousand small rows."""
    for by in ("name", "path"):
        found = diff_graphs(PAIR, imported(3), imported(603), by=by, min_kb=64)
        assert found.growth.explained > 0.9
        assert {row.classification.kind for row in found.rows if row.type != "string"} <= {"module-graph", "ambiguous"}
    assert found.kind == "module-graph"
    assert {row.classification.kind for row in found.rows} == {"module-graph"}


def test_the_entries_of_a_registry_that_a_class_has_are_no_part_of_the_class() -> None:
    found = diff_graphs(PAIR, imported(3), imported(3, entries=500), by="path", min_kb=64)
    assert found.kind == "runtime-objects"
    assert found.rows[0].path[:3] == ("sys.modules['app']", "app.Registry", "app.Registry.items[*]")


@pytest.mark.parametrize("by", ["name", "path"])
def test_whatever_grew_is_shown_where_nothing_reaches_the_filter_and_each_file_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Of a lane as well: it has one process that gained 2 KiB and one that gained nothing."""
    for pid, gained in ((7, 2), (8, 0)):
        for time in (0, 1):
            heap = registry([("m.A", 1024)] * (1 + gained * time))
            v8.write(heap, tmp_path / f"Heap.20260101.12000{time}.{pid}.0.00{time}.heapsnapshot")
    read: list[Path] = []
    plain = v8.read

    def counted(path: Path, **options: Any) -> HeapGraph:
        read.append(path)
        return plain(path, **options)

    monkeypatch.setattr(v8, "read", counted)
    found = diff_lane(tmp_path, by=by, min_kb=None)
    assert [[row.size_delta for row in one.rows] for one in found] == [[2048], []]
    assert [one.min_kb for one in found] == [0, 0]
    assert sorted(read) == sorted(tmp_path.iterdir())
    filtered = diff_lane(tmp_path, by=by)
    assert [(one.rows, one.growth.left_out, one.growth.rows_left_out) for one in filtered] == [
        ((), 2048, 1),
        ((), 0, 0),
    ]


def test_a_lane_in_which_one_process_grew_by_enough_is_told_by_the_filter_alone(tmp_path: Path) -> None:
    for pid, gained in ((7, 2), (8, 100)):
        for time in (0, 1):
            heap = registry([("m.A", 1024)] * (1 + gained * time))
            v8.write(heap, tmp_path / f"Heap.20260101.12000{time}.{pid}.0.00{time}.heapsnapshot")
    found = {one.pair.pid: one for one in diff_lane(tmp_path, min_kb=None)}
    assert [row.size_delta for row in found[8].rows] == [100 * 1024]
    assert not found[7].rows
    assert found[7].growth.left_out == 2048
