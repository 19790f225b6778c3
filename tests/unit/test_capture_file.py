"""The raw capture file: what is broken is refused in one line; names, paths and ids are as documented."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakharness.errors import SnapshotError
from leakharness.heap.ingest import Capture, load_capture
from leakharness.worker.capture import snapshot as capture
from leakharness.worker.capture.file import is_harness_module, short_path
from leakharness.worker.capture.object_ids import _ids_by_buffer, _ids_by_call, ids_of


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of a process that has next to nothing in it."""
    path = tmp_path_factory.mktemp("capture") / "good"
    program = (
        "import sys; from leakharness.worker.capture import snapshot as capture\n"
        "class Anchor: pass\n"
        "anchor = Anchor()\n"
        "capture.write_capture(sys.argv[1], targets=lambda: [(anchor, 'anchor')])"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
    return path.read_bytes()


def test_the_good_one_is_read(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(good)
    found = load_capture(path)
    assert found.labels == ["anchor"]
    assert found.graph.type_name(found.targets[0]).endswith("Anchor")


@pytest.mark.parametrize("fraction", [0, 0.0000001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999999])
def test_a_cut_file_is_refused(fraction: float, good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(good[: int(len(good) * fraction)])
    with pytest.raises(SnapshotError, match=r"not a usable capture: it (is truncated|does not start like one)"):
        load_capture(path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"LHCAPT01", b"LHCAPT01" + b"\xff" * 40, b"LHCAPT01meta\0\0\0\0" + b"\xff" * 8]
)
def test_what_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "none"
    path.write_bytes(content)
    with pytest.raises(SnapshotError):
        load_capture(path)


def test_a_missing_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="cannot read the capture: No such file"):
        load_capture(tmp_path / "missing")


def test_damaged_bytes_give_an_error_or_a_graph_but_never_another_exception(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    rnd = random.Random(7)
    for _ in range(12):
        damaged = bytearray(good)
        for _ in range(rnd.choice((1, 50))):
            damaged[rnd.randrange(len(damaged))] = rnd.randrange(256)
        path.write_bytes(damaged)
        with suppress(SnapshotError):
            assert isinstance(load_capture(path), Capture)


@given(st.lists(st.one_of(st.integers(), st.text(), st.none(), st.binary()), max_size=50))
def test_ids_come_from_the_list_itself(items: list[Any]) -> None:
    assert ids_of(items) == _ids_by_call(items) == _ids_by_buffer(items)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("leakharness", True),
        ("leakharness.worker.capture.snapshot", True),
        ("leakharness.scenarios", False),
        ("leakharness.scenarios.embedded_run", False),
        ("leakharness_extras", False),
        ("scenarios.embedded_run", False),
        (None, False),
        (7, False),
    ],
)
def test_what_belongs_to_the_harness(name: object, answer: bool) -> None:
    assert is_harness_module(name) is answer


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/me/app/jobs.py", "jobs.py"),
        ("/home/me/app/scenarios/one.py", "scenarios/one.py"),
        ("/home/me/app/.venv/lib/python3.11/site-packages/httpx/_client.py", "httpx/_client.py"),
        ("/usr/lib/python3.11/asyncio/events.py", "asyncio/events.py"),
        ("/opt/other/thing.py", "/opt/other/thing.py"),
        ("<string>", "<string>"),
    ],
)
def test_paths_are_shown_as_short_as_they_are_clear(path: str, shown: str) -> None:
    assert short_path(path, "/home/me/app", "/usr/lib/python3.11") == shown


class Node:
    def __init__(self) -> None:
        self.left: Any = None
        self.right: Any = None


class SlottedNode:
    __slots__ = ("left", "right")

    def __init__(self) -> None:
        self.left: Any = None
        self.right: Any = None


KEYS = ("k0", "k1", "k2")
"""Constants of the code below, which is what lets a capture name them."""


def _build(seed: int) -> list[Any]:
    """Random containers that refer to each other."""
    rnd = random.Random(seed)
    made: list[Any] = []
    assert KEYS == ("k0", "k1", "k2")
    for _ in range(rnd.randrange(5, 60)):
        kind = rnd.randrange(6)
        some = rnd.sample(made, min(len(made), rnd.randrange(4)))
        if kind == 0:
            made.append(list(some))
        elif kind == 1:
            made.append((len(made), *some))
        elif kind == 2:
            made.append(dict(zip(KEYS, some)))  # noqa: B905 - as many as there are
        elif kind == 3:
            made.append(dict(enumerate(some)))
        else:
            node = Node() if kind == 4 else SlottedNode()
            node.left, node.right = (rnd.choice(made) if made else None for _ in range(2))
            made.append(node)
    return made


@pytest.mark.slow
def test_every_reference_is_there_once_and_under_its_name(tmp_path: Path) -> None:
    """Three hundred random structures, against a plain reading of the same objects."""
    made = [item for seed in range(300) for item in _build(seed)]
    path = str(tmp_path / "heap")
    capture.write_capture(path)
    graph = load_capture(path).graph
    number = dict(zip(graph.node_id.tolist(), range(graph.node_count), strict=True))
    for item in made:
        node = number[id(item)]
        edges = range(int(graph.edge_start[node]), int(graph.edge_start[node + 1]))
        kinds = [graph.edge_kinds[graph.edge_kind[edge]] for edge in edges]
        targets = [int(graph.node_id[graph.edge_to[edge]]) for edge in edges]
        names = [
            graph.strings[graph.edge_name[e]] if k != "element" else int(graph.edge_name[e])
            for e, k in zip(edges, kinds, strict=True)
        ]
        found = sorted(zip(map(str, names), targets, strict=True))
        raw = sorted(map(id, gc.get_referents(item)))
        keys = [target for name, target in zip(names, targets, strict=True) if name == "<key>"]
        if type(item) is list or type(item) is tuple:
            assert sorted(zip(names, targets, strict=True)) == [(i, id(part)) for i, part in enumerate(item)]
        elif type(item) is dict:
            values = [(name, target) for name, target in found if name != "<key>"]
            wanted = [(key if type(key) is str else "<int>", id(value)) for key, value in item.items()]
            assert values == sorted(wanted)
            assert sorted(keys) == sorted(map(id, item))
        else:
            assert sorted(targets) == raw
            wanted = [("left", id(item.left)), ("right", id(item.right))]
            if type(item) is SlottedNode:
                assert [pair for pair in found if pair[0] in ("left", "right")] == wanted
