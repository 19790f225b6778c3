"""Snapshot files: what is written can be read, V8's variants can be read, and no broken file does harm."""

from __future__ import annotations

import itertools
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heap_graphs import draw, plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leakharness.errors import SnapshotError
from leakharness.heap import v8, v8_columns, v8_numbers, v8_scan
from leakharness.heap.compiled import compiled
from leakharness.heap.graph import NODE_KINDS, HeapGraph
from leakharness.heap.v8_objects import size_owners

from v8_files import V8File  # isort: skip

COLUMNS = ("node_kind", "node_name", "self_size", "edge_start", "edge_kind", "edge_name", "edge_to")


def heap() -> HeapGraph:
    return draw("root -property:a-> A -element:7-> B -weak:w-> A\nroot -context:cell-> B\nB -> C", {"A": 10, "B": 5})


def small() -> dict[str, Any]:
    """A file as Node writes it, as a dictionary."""
    return {
        "snapshot": {
            "meta": {
                "node_fields": ["type", "name", "id", "self_size", "edge_count", "trace_node_id", "detachedness"],
                "node_types": [["synthetic", "object"], "string", "number", "number", "number", "number"],
                "edge_fields": ["type", "name_or_index", "to_node"],
                "edge_types": [["property", "element"], "string_or_number", "node"],
            },
            "node_count": 2,
            "edge_count": 2,
        },
        "nodes": [0, 0, 1, 0, 1, 0, 0, 1, 1, 3, 16, 1, 0, 0],
        "edges": [0, 2, 7, 1, 99, 7],
        "strings": ["root", "Thing", "x"],
    }


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "x.heapsnapshot"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def same(a: HeapGraph, b: HeapGraph) -> bool:
    return a.strings == b.strings and all(np.array_equal(getattr(a, c), getattr(b, c)) for c in COLUMNS)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """All columns, strings and our metadata survive; the file is private and leaves nothing beside it."""
    graph = heap()
    graph.meta.update(producer="leakharness 1", pid=42, python="3.11.7", harness_nodes=[2])
    path = tmp_path / "g.heapsnapshot"
    v8.write(graph, path)
    back = v8.read(path)
    assert same(graph, back)
    assert back.meta == graph.meta
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["g.heapsnapshot"]
    assert set(json.loads(path.read_bytes())["snapshot"]) >= {"meta", "node_count", "leakharness"}


def test_a_second_root_edge_to_a_node_is_kept_out_of_sight(tmp_path: Path) -> None:
    """DevTools cannot load two; ours come back in their places."""
    graph = draw(
        """
        root -property:sys.modules['os.path']-> P -property:x-> Q
        root -property:sys.modules['q']-> Q
        root -property:sys.modules['posixpath']-> P
        root -element:4-> P
        """
    )
    path = tmp_path / "g.heapsnapshot"
    v8.write(graph, path)
    assert same(graph, v8.read(path))
    assert v8.read(path).meta == {}
    document = json.loads(path.read_bytes())
    root_edges = document["nodes"][4]
    targets = document["edges"][2 : root_edges * 3 : 3]
    assert len(set(targets)) == len(targets) == 2
    for bad in ([[9, 0, 0, 1]], [[0, 0, 0, 99]], [[0, 0]], "x", [[1, 0, 0, 1], [1, 0, 0, 1]], [[-1, 0, 0, 1]]):
        document["snapshot"]["leakharness"]["root_aliases"] = bad
        with pytest.raises(SnapshotError, match="root_aliases"):
            v8.read(saved(tmp_path, document))


def test_a_failed_write_leaves_the_old_file_and_no_half_one(tmp_path: Path) -> None:
    """An error on the way (a string count that lies) neither replaces nor litters."""
    path = tmp_path / "g.heapsnapshot"
    path.write_text("old")
    broken = heap()
    broken.strings.append(object())  # type: ignore[arg-type]
    with pytest.raises(Exception):  # noqa: B017
        v8.write(broken, path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["g.heapsnapshot"]
    with pytest.raises(SnapshotError, match="cannot be written"):
        v8.write(heap(), tmp_path / "missing" / "g.heapsnapshot")


def test_metadata_may_not_use_words_other_readers_look_for(tmp_path: Path) -> None:
    """memlab looks for `"nodes":` anywhere in the text."""
    graph = heap()
    graph.meta["counts"] = [{"nodes": 3}]
    with pytest.raises(ValueError, match="nodes"):
        v8.write(graph, tmp_path / "g.heapsnapshot")


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_graph_survives(tmp_path: Path, data: st.DataObject) -> None:
    """Random graphs with any strings, small pieces and all."""
    n = data.draw(st.integers(1, 9))
    node = st.integers(0, n - 1)
    graph = plain(n, data.draw(st.lists(st.tuples(node, node), max_size=20)))
    graph.strings.extend(data.draw(st.lists(st.text(), max_size=4)))
    v8.write(graph, tmp_path / "g.heapsnapshot")
    assert same(graph, v8.read(tmp_path / "g.heapsnapshot"))


def test_pieces_of_any_size_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The piece size changes nothing, even where pieces cut rows."""
    graph = plain(300, [(i, (i * 7) % 300) for i in range(300)])
    v8.write(graph, tmp_path / "g.heapsnapshot")
    lines = saved(tmp_path, as_v8_writes(json.loads((tmp_path / "g.heapsnapshot").read_bytes())))
    for size in (40, 97, 1000):
        monkeypatch.setattr(v8_numbers, "CHUNK_BYTES", size)
        assert same(graph, v8.read(tmp_path / "g.heapsnapshot"))
        assert same(graph, v8.read(lines))


NUMBERS = [
    b"1,2,3",
    b" 10 ,\n20\t,\r30 ",
    b"0",
    b"1,,2",
    b"1,2,",
    b",1",
    b"1 2",
    b"1,x",
    b"1.5",
    b"9" * 25,
    b"12345678,123456789,9007199254740993,00000000000000001",
    b"1,18446744073709551615",
    b"9223372036854775807",
]


def test_numbers_are_read_as_the_general_parser_reads_them() -> None:
    """By words of eight digits or by numpy's own parser: the same numbers, and the same is refused."""
    for text, to_limit in itertools.product(NUMBERS, (False, True)):
        try:
            expected = v8_numbers._by_numpy(text, to_limit=to_limit).tolist()
        except SnapshotError:
            with pytest.raises(SnapshotError):
                v8_numbers.numbers_in(text, to_limit=to_limit)
        else:
            assert v8_numbers.numbers_in(text, to_limit=to_limit).tolist() == expected, text


@given(st.lists(st.tuples(*[st.integers(0, 10**16 - 1)] * 3), min_size=1))
def test_columns_of_lines_are_those_of_the_numbers(rows: list[tuple[int, int, int]]) -> None:
    """Rows as V8 writes them, one a line, by the columns asked for."""
    text = b"\n,".join(b"%d,%d,%d" % row for row in rows) + b"\n"
    for wanted in ((0, 1, 2), (2, 0), (1,)):
        columns = v8_numbers.columns_in(text, 3, wanted)
        assert columns is not None
        assert [column.tolist() for column in columns] == [[row[place] for row in rows] for place in wanted]
        by_loop = v8_scan.columns_by(v8_scan.scan, text, 3, wanted)
        assert by_loop is not None
        assert [column.tolist() for column in by_loop] == [column.tolist() for column in columns]


@pytest.mark.parametrize(
    "text",
    [
        b"1,2,3",
        b"1,2\n,3,4,5,6\n",
        b"1,2,3\n,4,5,6",
        b"1,2,3\n4,5,6\n",
        b"1,,3\n,4,5,6\n",
        b"1,2,3 \n,4,5,6\n",
        b"1,-2,3\n,4,5,6\n",
        b"1,2,3\n,4,5x,6\n",
        b"1,2,3\n,4,5,6\n\n",
        b"1,2,12345678901234567\n",
        b"\n",
        b"",
    ],
)
def test_lines_of_another_form_are_left_to_the_general_parser(text: bytes) -> None:
    """Rows that lines do not tell apart are not read by lines."""
    assert v8_numbers.columns_in(text, 3, (0, 1, 2)) is None


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"1,2,3", 1),
        (b"1,2\n,3,4,5,6\n", 2),  # lines say nothing here: a row is three numbers
        (b"1,2,3\n,4,5", -1),
        (b"1,2,3\n4,5,6\n", -1),
        (b"1,,3\n,4,5,6\n", -1),
        (b"1,2,3 \n,4,5,6\n", -1),
        (b"1,-2,3\n,4,5,6\n", -1),
        (b"1,2,3\n,4,5x,6\n", -1),
        (b"1,2,3\n,4,5,6\n\n", -1),
        (b"1,2,3,", -1),
        (b"1,2,12345678901234567\n", -1),
        (b"\n", -1),
        (b"", 0),
    ],
)
def test_one_loop_reads_whole_rows_and_leaves_what_is_written_otherwise(text: bytes, rows: int) -> None:
    found = v8_scan.columns_by(v8_scan.scan, text, 3, (0, 1, 2))
    assert (-1 if found is None else len(found[0])) == rows


@pytest.mark.parametrize("engine", ["plain", "numba"])
def test_one_loop_finds_the_edges_into_stores_that_the_general_way_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """The same columns from a file of V8's lines, in pieces of any size, and the same error from a broken one."""
    if engine == "numba":
        pytest.importorskip("numba")
    file = V8File()
    top = file.top()
    for i in range(30):
        session = file.held(top, "property", f"s{i}", "object", "Session", 40 + i)
        file.held(session, "internal", "elements", "array", "(object elements)", 100 * i)
    whole = as_v8_writes(json.loads(file.text_of_file()))
    start = whole.index(b'"edges"')
    broken = whole[:start] + whole[start:].replace(b"\n,3,", b"\n,33,", 1)
    assert broken != whole
    path = tmp_path / "a.heapsnapshot"

    def answer(text: bytes, *, by_loop: bool) -> Any:
        path.write_bytes(text)
        for module in (v8_numbers, v8_columns):
            monkeypatch.setattr(module, "scanner_for", lambda _: scanner if by_loop else None)
        try:
            graph = v8.read(path, edges="stores")
        except SnapshotError as error:
            return str(error)
        return [column.tolist() for column in (graph.node_id, graph.edge_start, graph.edge_kind, graph.edge_to)]

    scanner = compiled(v8_scan.scan) if engine == "numba" else v8_scan.scan
    if engine == "plain":
        monkeypatch.setattr(v8_scan, "compiled", lambda function: function)
    for size in (64, 1 << 20):
        monkeypatch.setattr(v8_numbers, "CHUNK_BYTES", size)
        for text in (whole, broken):
            assert answer(text, by_loop=True) == answer(text, by_loop=False)
    assert sum(answer(whole, by_loop=True)[2]) > 0


def as_v8_writes(document: dict[str, Any]) -> bytes:
    """One row a line, with a comma before each further one."""
    text = json.dumps({**document, "nodes": [], "edges": []})
    for key, width in (("nodes", 7), ("edges", 3)):
        values = document[key]
        rows = [",".join(map(str, values[at : at + width])) for at in range(0, len(values), width)]
        text = text.replace(f'"{key}": []', f'"{key}": [' + "\n,".join(rows) + "\n]")
    return text.encode()


def test_only_the_edges_into_stores_are_read_for_the_sizes_of_families(tmp_path: Path) -> None:
    """The same owners by those edges alone as by all, whatever the size of the pieces."""
    document = small()
    document["snapshot"]["meta"]["node_types"][0] = ["hidden", "array", "string", "object", "code", "closure"]
    document["snapshot"] |= {"node_count": 5, "edge_count": 6}
    rows = [(3, 0, 2), (3, 1, 2), (1, 1, 1), (0, 1, 0), (1, 2, 1)]
    document["nodes"] = [x for at, (kind, name, count) in enumerate(rows) for x in (kind, name, at, 16, count, 0, 0)]
    targets = [1, 3, 2, 0, 4, 0]
    document["edges"] = [x for target in targets for x in (0, 2, target * 7)]
    for text in (as_v8_writes(document), json.dumps(document).encode()):
        whole = v8.read(saved(tmp_path, text))
        part = v8.read(saved(tmp_path, text), edges="stores")
        assert part.edge_to.tolist() == [3, 2, 4]
        assert part.edge_start.tolist() == [0, 1, 2, 3, 3, 3]
        assert size_owners(part).tolist() == size_owners(whole).tolist() == [0, 1, 1, 0, 1]


def test_files_of_v8_are_read_whatever_their_layout(tmp_path: Path) -> None:
    """Other key order, fields missing or added, keys we do not know, spaces and line ends: the same graph."""
    expected = v8.read(saved(tmp_path, small()))
    assert expected.edge_name.tolist() == [2, 99]
    assert expected.meta == {}
    reordered = {"strings": small()["strings"], "trace_tree": [0, [1, ["a]"]]], "x": {"y": "]}"}, "z": None, **small()}
    assert same(v8.read(saved(tmp_path, dict(reversed(reordered.items())))), expected)
    assert same(v8.read(saved(tmp_path, reordered)), expected)
    assert same(v8.read(saved(tmp_path, json.dumps(small(), indent=3).encode())), expected)
    assert same(v8.read(saved(tmp_path, json.dumps(small()).encode() + b" \r\n\t\n")), expected)
    behind = {**small(), "samples": [1, 2], "more": [["]"]], "last": [5]}
    assert same(v8.read(saved(tmp_path, behind)), expected)
    older = small()
    older["snapshot"]["meta"]["node_fields"] = ["id", "type", "name", "edge_count", "self_size"]
    older["snapshot"]["meta"]["node_types"] = ["number", ["synthetic", "object"], "string", "number", "number"]
    older["nodes"] = [1, 0, 0, 1, 0, 3, 1, 1, 1, 16]
    older["edges"] = [0, 2, 5, 1, 99, 5]
    assert same(v8.read(saved(tmp_path, older)), expected)


def test_halves_of_surrogate_pairs_are_replaced_and_whole_pairs_kept(tmp_path: Path) -> None:
    """V8 cuts strings between the halves of a pair."""
    text = json.dumps(small()).replace('"x"', r'"a\ud83d","\ude00b","\ud83d\ude00","\\ud83d","x"').encode()
    read = v8.read(saved(tmp_path, text)).strings
    assert read[2:6] == ["a\ufffd", "\ufffdb", "\U0001f600", r"\ud83d"]
    graph = heap()
    graph.strings.append("\udc80")
    v8.write(graph, tmp_path / "out.heapsnapshot")
    assert v8.read(tmp_path / "out.heapsnapshot").strings[-1] == "?"


def change(**values: Any) -> dict[str, Any]:
    document = small()
    document["snapshot"].update({k: v for k, v in values.items() if k in ("node_count", "edge_count", "meta")})
    document.update({k: v for k, v in values.items() if k not in ("node_count", "edge_count", "meta")})
    return document


BROKEN: dict[str, Any] = {
    "empty": b"",
    "blank": b"   \n",
    "text": b"hello",
    "array": b"[1,2]",
    "other JSON": b'{"a": 1}',
    "binary": bytes(range(256)),
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "not UTF-8": json.dumps(small()).encode().replace(b"Thing", b"Th\xff\xfeg"),
    "huge node count": change(node_count=10**15),
    "huge edge count": change(edge_count=10**15),
    "negative count": change(node_count=-1),
    "count is a text": change(node_count="2"),
    "no nodes": change(node_count=0, edge_count=0, nodes=[], edges=[]),
    "fewer nodes": change(nodes=small()["nodes"][:7]),
    "more nodes": change(nodes=small()["nodes"] * 2),
    "fewer edges": change(edges=small()["edges"][:3]),
    "half a row": change(nodes=small()["nodes"][:-1]),
    "edge sum": change(nodes=[0, 0, 1, 0, 2, 0, 0, 1, 1, 3, 16, 1, 0, 0]),
    "edge count overflows": change(nodes=[0, 0, 1, 0, 2**62, 0, 0, 1, 1, 3, 16, 2**62, 0, 0]),
    "target out of range": change(edges=[0, 2, 14, 1, 99, 7]),
    "target between nodes": change(edges=[0, 2, 8, 1, 99, 7]),
    "name out of range": change(nodes=[0, 9, 1, 0, 1, 0, 0, 1, 1, 3, 16, 1, 0, 0]),
    "edge name out of range": change(edges=[0, 3, 7, 1, 99, 7]),
    "type out of range": change(nodes=[2, 0, 1, 0, 1, 0, 0, 1, 1, 3, 16, 1, 0, 0]),
    "negative": change(nodes=[0, 0, 1, -5, 1, 0, 0, 1, 1, 3, 16, 1, 0, 0]),
    "float": change(nodes=[0, 0, 1, 0.5, 1, 0, 0, 1, 1, 3, 16, 1, 0, 0]),
    "too large": change(nodes=[0, 0, 1, 10**30, 1, 0, 0, 1, 1, 3, 16, 1, 0, 0]),
    "nodes are nested": change(nodes=[[1]]),
    "nodes are an object": change(nodes={}),
    "nodes are null": change(nodes=None),
    "strings are numbers": change(strings=[1, 2, 3]),
    "strings are mixed": change(strings=["a", 2, "x"]),
    "no meta": change(meta=None),
    "meta without fields": change(meta={}),
    "field missing": change(meta={**small()["snapshot"]["meta"], "node_fields": ["type", "name", "id"]}),
    "types missing": change(meta={**small()["snapshot"]["meta"], "node_types": []}),
    "text behind it": json.dumps(small()).encode() + b"\ngarbage",
    "a second one behind it": json.dumps(small()).encode() * 2,
    "another array behind it": json.dumps(small()).encode() + b"[1]",
    "zeros behind it": json.dumps(small()).encode() + bytes(8),
    "text behind its strings": json.dumps(small()).encode()[:-1] + b", garbage ]}",
    "text behind its last key": json.dumps({**small(), "last": [5]}).encode() + b" ]}",
    "twice closed": json.dumps(small()).encode()[:-1] + b"]}",
}


# `info` reads no edges, so it cannot know.
ABOUT_EDGES = {"fewer edges", "target out of range", "target between nodes", "edge name out of range"}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    """No other error and no memory for a count that lies: one line that names the file."""
    path = saved(tmp_path, BROKEN[name])
    for reader in (v8.read,) if name in ABOUT_EDGES else (v8.read, v8.info):
        with pytest.raises(SnapshotError) as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    """Missing, a folder, a pipe, an impossible name."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe", Path("a\0b")):
        with pytest.raises(SnapshotError):
            v8.read(path)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_mutation_gets_past_as_another_error(tmp_path: Path, data: st.DataObject) -> None:
    """Cut anywhere, or with bytes changed, a file is read as a valid graph or refused with SnapshotError."""
    text = bytearray(json.dumps(small()).encode())
    if data.draw(st.booleans()):
        del text[data.draw(st.integers(0, len(text) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3))):
        if text:
            text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(b'0129,]}[{"\\ x-\xff'))
    try:
        graph = v8.read(saved(tmp_path, bytes(text)))
    except SnapshotError:
        return
    assert int(graph.edge_start[-1]) == graph.edge_count
    assert not graph.edge_count or int(graph.edge_to.max()) < graph.node_count
    assert int(graph.node_name.max()) < len(graph.strings)


def test_ids_fit_other_readers_and_stay_the_same() -> None:
    """Unique, below 2**32, the same for one address in two snapshots, and V8's own are kept."""
    addresses = np.random.default_rng(3).choice(2**40, 100_000, replace=False).astype(np.uint64) * np.uint64(16)
    ids = v8.stable_ids(addresses)
    assert len(np.unique(ids)) == len(ids)
    assert int(ids.max()) < 2**32
    assert (ids % 2 == 1).all()
    again = v8.stable_ids(addresses[::-1])[::-1]
    assert (ids == again).mean() > 0.999
    assert v8.stable_ids(np.array([1, 3, 8], np.uint64)).tolist() == [1, 3, 8]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Heap.20260101.120000.77.0.003.heapsnapshot", (77, "20260101.120000", 3)),
        ("baseline-77-1700000000.heapsnapshot", (77, "1700000000", 0)),
        ("batch-12-77-20260101T120000.heapsnapshot", (77, "20260101T120000", 12)),
        ("Heap.20260101.120000.77.0.003.heapsnapshot.gz", (77, "20260101.120000", 3)),
        ("Heap.20260101.120000.77.1.003.heapsnapshot", (77, "20260101.120000", 3)),
        ("other.heapsnapshot", None),
        ("baseline-77-1.json", None),
    ],
)
def test_names_tell_process_and_time(name: str, expected: tuple[int, str, int] | None) -> None:
    """Node's names and ours; others are not taken."""
    parsed = v8.parse_name(name)
    assert (parsed and (parsed.pid, parsed.time, parsed.sequence)) == expected


def test_info_says_what_a_file_is(tmp_path: Path) -> None:
    """Producer, process, counts and sizes, from our metadata or from the name."""
    graph = heap()
    graph.meta.update(producer="leakharness 1", pid=42, python="3.11.7")
    v8.write(graph, tmp_path / "g.heapsnapshot")
    found = v8.info(tmp_path / "g.heapsnapshot")
    assert (found.producer, found.pid, found.python) == ("leakharness 1", 42, "3.11.7")
    assert (found.node_count, found.edge_count, found.shallow_bytes) == (4, 5, 17)
    named = tmp_path / "Heap.20260101.120000.77.0.003.heapsnapshot"
    named.write_text(json.dumps(small()))
    found = v8.info(named)
    assert (found.producer, found.pid, found.time, found.by_kind["object"]) == (
        "unknown",
        77,
        "20260101.120000",
        (1, 16),
    )


def test_a_node_type_that_an_old_v8_does_not_declare_is_read_as_what_it_is(tmp_path: Path) -> None:
    """The header of V8 before 6.8 stops at the sliced string (11); its symbols are of type 12 all the same."""
    file = small()
    kinds = file["snapshot"]["meta"]["node_types"][0] = list(NODE_KINDS[:12])
    width = len(file["snapshot"]["meta"]["node_fields"])
    file["nodes"][0::width] = [kinds.index("synthetic"), *[12] * (len(file["nodes"]) // width - 1)]
    path = tmp_path / "old.heapsnapshot"
    path.write_text(json.dumps(file))
    graph = v8.read(path)
    assert {graph.node_kinds[kind] for kind in graph.node_kind[1:].tolist()} == {"symbol"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes to it: to open it would be to wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for reader in (v8.info, v8.read):
        with pytest.raises(SnapshotError, match="is not a regular file"):
            reader(tmp_path / "pipe")
