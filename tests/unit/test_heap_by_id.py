"""What two snapshots of one process of Node say of its objects by id, and of texts that were put together."""

from __future__ import annotations

from pathlib import Path

from leakharness.heap import v8
from leakharness.heap.retainers import explain

from test_heap_javascript import grown, held_in_an_array, named, unique_strings  # isort: skip
from v8_files import V8File  # isort: skip


def test_a_text_of_many_parts_is_held_where_the_whole_is(tmp_path: Path) -> None:
    """`"<p>" + a + b` is three strings below two: one row by path, not one for each place in it."""

    def log(n: int) -> V8File:
        file = V8File()
        array = file.held(file.top(), "property", "log", "object", "Array")
        for i in range(n):
            whole = file.held(array, "element", i, "concatenated string", "(concatenated string)", 20)
            left = file.held(whole, "internal", "first", "concatenated string", "(concatenated string)", 20)
            file.held(left, "internal", "first", "string", f"a {i}", 500)
            file.held(left, "internal", "second", "string", f"b {i}", 500)
            file.held(whole, "internal", "second", "sliced string", f"c {i}", 20)
            file.held(len(file.nodes) - 1, "internal", "parent", "string", f"long c {i}", 500)
        return file

    found = grown(tmp_path, log(0), log(300), by="path")
    (row,) = found.rows
    assert row.name == "global -> global.log (Array)[*] -> (string)"
    assert (row.count_delta, row.size_delta) == (900, 450_000)


def test_objects_are_counted_by_id_as_new_gone_and_survived(tmp_path: Path) -> None:
    before, after = held_in_an_array(40), held_in_an_array(140)
    after.nodes[30][2] = 40_001  # one of the first forty went, and another one came
    for by in ("name", "path"):
        found = grown(tmp_path, before, after, by=by)
        assert found.turnover == (101, 1, 44)
        assert found.document()["objects"] == {"new": 101, "gone": 1, "survived": 44}


def test_two_processes_have_no_objects_in_common(tmp_path: Path) -> None:
    other = unique_strings(60)
    found = grown(tmp_path, held_in_an_array(60), other)
    assert found.turnover is None
    assert "objects" not in found.document()


def test_an_entry_whose_place_is_not_known_is_any_of_them(tmp_path: Path) -> None:
    """Julia writes the largest number of 64 bits as the index of what it has no index of."""
    file = V8File()
    array = file.held(file.top(), "property", "a", "object", "Array")
    for _ in range(3):
        file.held(array, "element", 2**64 - 1, "object", "Foo")
    graph = v8.read(file.write(tmp_path / "a.heapsnapshot"))
    (group,) = explain(graph, named(graph, "Foo"))
    assert group.path == ["global", "global.a (Array)[*]", "Foo"]
