"""Files of other producers and of other versions: read, and named by what they show."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from leakharness import __main__ as command_line
from leakharness.errors import SnapshotError
from leakharness.heap import v8
from leakharness.heap.lane import lane_of, lane_pair
from leakharness.heap.v8_details import allocation_sites

from v8_files import V8File  # isort: skip


def run(*arguments: str) -> int:
    """A command of ours, in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["leakharness", *arguments])
        return int(command_line._exit_code() or 0)


def julia() -> dict[str, Any]:
    """A file as Julia writes it: its own types, 64-bit indexes, three node fields more."""
    meta = {
        "node_fields": ["type", "name", "id", "self_size", "edge_count", "trace_node_id", "detachedness"],
        "node_types": [["synthetic", "jl_task_t", "jl_array_t", "object"], "string", *["number"] * 5],
        "edge_fields": ["type", "name_or_index", "to_node"],
        "edge_types": [["internal", "hidden", "element", "property"], "string_or_number", "from_node"],
    }
    return {
        "snapshot": {"meta": meta, "node_count": 3, "edge_count": 2},
        "nodes": [0, 0, 0, 0, 1, 0, 0, 2, 1, 2**63 - 25, 16, 1, 0, 0, 3, 2, 5, 100, 0, 0, 0],
        "edges": [0, 3, 7, 2, 2**64 - 1, 14],
        "strings": ["", "Array{Any, 1}", "Foo", "main"],
    }


def test_a_file_of_julia_is_read_with_its_types_and_its_64_bit_indexes(tmp_path: Path) -> None:
    path = tmp_path / "j.heapsnapshot"
    path.write_text(json.dumps(julia()))
    graph = v8.read(path)
    assert [graph.node_kinds[kind] for kind in graph.node_kind] == ["synthetic", "jl_array_t", "object"]
    assert int(graph.self_size.sum()) == 116
    assert v8.info(path).producer == "Julia"


@pytest.mark.parametrize(("row", "value"), [("nodes", 2**64 - 1), ("edges", 2**64 - 1)])
def test_a_number_of_64_bits_is_refused_where_it_is_no_index(tmp_path: Path, row: str, value: int) -> None:
    file = julia()
    file[row][-5 if row == "nodes" else -1] = value
    (tmp_path / "j.heapsnapshot").write_text(json.dumps(file))
    with pytest.raises(SnapshotError):
        v8.read(tmp_path / "j.heapsnapshot")


def tiny() -> V8File:
    file = V8File()
    file.held(file.top(), "property", "foo", "object", "Foo")
    return file


def test_types_that_v8_does_not_declare_are_read(tmp_path: Path) -> None:
    """Symbols of Node 8 under a header that stops at 11, and a type that is yet to come; a wild number is corrupt."""
    file = tiny()
    symbol = file.held(3, "property", "s", "symbol", "symbol", 32)
    graph = v8.read(file.write(tmp_path / "a.heapsnapshot", node_kinds=12))
    assert graph.node_kinds[graph.node_kind[symbol]] == "symbol"
    file.nodes[symbol][0] = 15
    graph = v8.read(file.write(tmp_path / "a.heapsnapshot"))
    assert graph.node_kinds[graph.node_kind[symbol]] == "(type 15)"
    file.nodes[symbol][0] = 40
    with pytest.raises(SnapshotError, match="node type 40"):
        v8.read(file.write(tmp_path / "a.heapsnapshot"))


def test_a_gzipped_file_is_read_and_a_broken_one_is_one_line(tmp_path: Path) -> None:
    path = tiny().write(tmp_path / "a.heapsnapshot.gz")
    assert v8.read(path).strings == v8.read(tiny().write(tmp_path / "a.heapsnapshot")).strings
    whole = path.read_bytes()
    bomb = gzip.compress(bytes(80 << 20))
    for content in (whole[: len(whole) // 2], whole[:-4] + b"abcd", b"\x1f\x8b\x08rubbish", bomb, gzip.compress(b"")):
        path.write_bytes(content)
        with pytest.raises(SnapshotError) as caught:
            v8.read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_lane_is_grouped_by_process_and_thread(tmp_path: Path) -> None:
    """Worker threads of one process have heaps of their own: vitest's threads pool writes them side by side."""
    for thread, sequences in ((0, (1, 2)), (1, (1, 2, 3)), (2, (1,))):
        for sequence in sequences:
            tiny().write(tmp_path / f"Heap.20260101.12000{sequence}.77.{thread}.00{sequence}.heapsnapshot")
    assert [(lane.thread, len(lane.snapshots)) for lane in lane_of(tmp_path)] == [(1, 3), (0, 2), (2, 1)]
    assert lane_pair(tmp_path).thread == 1
    assert lane_pair(tmp_path, 77, 0).before.name == "Heap.20260101.120001.77.0.001.heapsnapshot"
    with pytest.raises(SnapshotError, match="thread 9"):
        lane_pair(tmp_path, 77, 9)


@pytest.mark.parametrize(
    ("text", "producer"),
    [
        ("Node / Environment", "Node"),
        ("Window (global*)", "Chrome"),
        ("HermesInternal", "Hermes"),
        ("system / Map", "V8, embedder unknown"),
        ("(Strong root list)", "V8, embedder unknown"),
        ("a string of the program: Node", "unknown"),
    ],
)
def test_the_producer_is_what_the_file_shows(tmp_path: Path, text: str, producer: str) -> None:
    file = tiny()
    file.held(3, "property", "x", "native", text)
    assert v8.info(file.write(tmp_path / "a.heapsnapshot")).producer == producer


def test_detached_elements_and_the_time_line_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny()
    for i in range(5):
        file.edge(3, file.node("native", "<div>", 100, detached=2), "element", i)
    file.edge(3, file.node("native", "<div>", 100, detached=1), "element", 9)
    ids = [file.id(node) for node in range(len(file.nodes))]
    file.more["samples"] = [1_000_000, ids[3], 3_000_000, ids[5], 5_000_000, ids[-1]]
    found = v8.info(file.write(tmp_path / "a.heapsnapshot"))
    assert found.detached == (5, 500)
    assert found.time_line is not None
    assert found.time_line.seconds == (0.0, 2.0, 4.0)
    assert found.time_line.alive_bytes == (0, 200, 400)
    assert run("snapshot", "info", found.path) == 0
    text = capsys.readouterr().out
    assert "detached: 5 (500 B)" in text
    assert "alive by time of allocation, 4.0 s: ▁▅█" in text


def test_the_trace_tree_says_who_allocated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny()
    functions = [("(root)", "", 0), ("handle", "app.js", 7), ("Item", "item.js", 3)]
    rows = [[i, file.text(name), file.text(script), 1, line, 1] for i, (name, script, line) in enumerate(functions)]
    file.more["trace_function_infos"] = [value for row in rows for value in row]
    file.more["trace_tree"] = [1, 0, 0, 0, [2, 1, 1, 16, [3, 2, 9, 90, []], 4, 1, 1, 1, []]]
    for i in range(4):
        file.edge(2, file.node("object", "Item", trace=3 if i else 4), "element", i)
    path = file.write(tmp_path / "a.heapsnapshot")
    graph = v8.read(path)
    items = [node for node in range(graph.node_count) if graph.type_name(node) == "Item"]
    assert [(site.count, site.frames) for site in allocation_sites(path, graph, items)] == [
        (3, ("Item (item.js:3)", "handle (app.js:7)")),
        (1, ("handle (app.js:7)",)),
    ]
    assert run("retainers", str(path), "--type", "Item") == 0
    assert "3 of them allocated by Item (item.js:3) <- handle (app.js:7)" in capsys.readouterr().out
    assert "traced" in "".join(_said(path, capsys))


def _said(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    run("snapshot", "info", str(path))
    return capsys.readouterr().out


def test_an_island_is_told_with_its_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny()
    island = file.node("object", "Island", 1_000_000)
    file.held(island, "property", "i", "object", "Inner", 5)
    path = file.write(tmp_path / "a.heapsnapshot")
    assert run("dominators", str(path)) == 0
    text = capsys.readouterr().out
    assert text.startswith("40 B reachable; 977 KiB in 2 objects is not: no strong path from the root leads there")
    assert run("dominators", str(path), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["reachable_bytes"], found["unreachable_bytes"], found["unreachable_count"]) == (40, 1_000_005, 2)


def test_a_type_means_objects_and_a_kind_the_rest_of_that_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tiny()
    top = 2
    closure = file.held(top, "property", "Leak", "closure", "Leak", 64)
    file.held(closure, "internal", "name", "string", "Leak", 20)
    file.held(top, "property", "Only", "string", "Only")
    for i in range(3):
        file.held(top, "element", i, "object", "Leak", 100)
    path = str(file.write(tmp_path / "a.heapsnapshot"))
    assert run("retainers", path, "--type", "Leak") == 0
    assert capsys.readouterr().out.startswith("3 Leak in 1 group")
    assert run("retainers", path, "--type", "Leak", "--kind", "string") == 0
    assert capsys.readouterr().out.startswith("1 Leak in 1 group")
    assert run("retainers", path, "--type", "Only") == 2
    assert "no object is named 'Only', but 1 string (--kind 'string')" in capsys.readouterr().err
    assert run("retainers", path, "--type", "Leak", "--kind", "thing") == 2
