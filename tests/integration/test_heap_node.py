"""Agreement with the tools of V8's world. Skipped without node; memlab's part needs LEAKHARNESS_NODE_MODULES.

``LEAKHARNESS_NODE_MODULES`` is a ``node_modules`` folder in which ``@memlab/core`` is installed
(``npm install --ignore-scripts @memlab/core``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakharness.heap import v8
from leakharness.heap.diff import diff
from leakharness.heap.dominators import dominators, retained_sizes
from leakharness.heap.graph import EDGE_KINDS, NODE_KINDS, HeapGraph

HERE = Path(__file__).parent
MODULES = os.environ.get("LEAKHARNESS_NODE_MODULES", "")
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
needs_memlab = pytest.mark.skipif(
    not (Path(MODULES) / "@memlab" / "core").is_dir() or not MODULES,
    reason="LEAKHARNESS_NODE_MODULES names no folder with @memlab/core",
)
SAMPLE = 2000
"""Objects whose dominator and retained size are compared."""

MAKE = """
const v8 = require("v8");
class Session { constructor(i) { this.id = i; this.tags = ["t" + i, { k: i }]; this.cb = () => i + this.id; } }
globalThis.keep = [];
const grow = (n) => { for (let i = 0; i < n; i++) keep.push(new Session(i)); };
grow(500);
v8.writeHeapSnapshot(process.argv[1] + "/a.heapsnapshot");
grow(4000);
v8.writeHeapSnapshot(process.argv[1] + "/b.heapsnapshot");
"""


@pytest.fixture(scope="module")
def made_by_node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two snapshots of one growing Node process."""
    folder = tmp_path_factory.mktemp("node")
    subprocess.run(["node", "-e", MAKE, str(folder)], check=True, capture_output=True, timeout=120)
    return folder


@pytest.mark.slow
def test_diff_gives_the_rows_of_a_whole_file_script(made_by_node: Path) -> None:
    """Rows, order and figures are equal for any filter."""
    script = HERE.parent / "bench" / "js" / "heap_delta.js"
    before, after = made_by_node / "a.heapsnapshot", made_by_node / "b.heapsnapshot"
    for top, min_kb in ((30, 64), (100, 1), (1_000_000, 0)):
        command = ["node", str(script), str(before), str(after), str(top), str(min_kb)]
        theirs = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
        ours = diff(before, after, top=top, min_kb=min_kb, raw=True)
        assert list(ours.nodes) == theirs["nodes"]
        rows = [
            {"type": r.type, "name": r.name, "size_delta": r.size_delta, "count_delta": r.count_delta}
            for r in ours.rows
        ]
        assert rows == theirs["rows"]


def test_a_node_snapshot_written_again_is_the_same(made_by_node: Path) -> None:
    """Reading and writing changes no column, and keeps V8's ids."""
    first = v8.read(made_by_node / "a.heapsnapshot")
    v8.write(first, made_by_node / "again.heapsnapshot")
    again = v8.read(made_by_node / "again.heapsnapshot")
    assert first.strings == again.strings
    for column in ("node_kind", "node_name", "node_id", "self_size", "edge_start", "edge_kind", "edge_name", "edge_to"):
        assert np.array_equal(getattr(first, column), getattr(again, column)), column


def memlab(path: Path, ids: list[int]) -> dict[str, Any]:
    """What memlab says of these nodes: id, name, own size, dominator's id, retained size."""
    done = subprocess.run(
        ["node", str(HERE / "heap_memlab.js"), str(path)],
        input=json.dumps(ids),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.rpartition("\n@@")[2])
    return answer


def agree(path: Path) -> None:
    """Sampled nodes have the same name, size, dominator and retained size in memlab and here."""
    graph = v8.read(path)
    tree = dominators(graph, ephemerons="both")  # memlab's rule
    retained = retained_sizes(graph, tree)
    reached = np.flatnonzero(tree.parent >= 0)
    count = min(SAMPLE, len(reached))
    chosen = np.sort(np.random.default_rng(1).choice(reached, count, replace=False)).tolist()
    answer = memlab(path, graph.node_id[chosen].tolist())
    assert answer["nodes"] == graph.node_count
    ours = [
        [
            int(graph.node_id[k]),
            graph.type_name(k),
            int(graph.self_size[k]),
            int(graph.node_id[tree.parent[k]]),
            int(retained[k]),
        ]
        for k in chosen
    ]
    assert answer["rows"] == ours


@needs_memlab
def test_memlab_agrees_on_a_snapshot_of_node(made_by_node: Path) -> None:
    """On a real heap."""
    agree(made_by_node / "b.heapsnapshot")


@needs_memlab
def test_memlab_agrees_on_a_snapshot_of_ours(tmp_path: Path) -> None:
    """It loads what we write, with every kind of edge, weak ones included."""
    v8.write(_python_like(20_000), tmp_path / "ours.heapsnapshot")
    agree(tmp_path / "ours.heapsnapshot")


def _python_like(n: int) -> HeapGraph:
    """A random heap: a tree with cross and back edges, strings as names, addresses as ids."""
    random = np.random.default_rng(11)
    source = np.concatenate([random.integers(0, np.arange(1, n)), random.integers(1, n, n)])
    target = np.concatenate([np.arange(1, n), random.integers(1, n, n)])
    kind = random.choice([EDGE_KINDS.index(k) for k in ("property", "element", "internal", "context")], len(source))
    kind[n - 1 :][random.random(n) < 0.2] = EDGE_KINDS.index("weak")
    order = np.argsort(source, kind="stable")
    start = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(source, minlength=n), out=start[1:])
    names = ["<root>", "dict", "list", 'gateway."nodes":[', "function run (a.py:1)", "é\n]"]
    kinds = [NODE_KINDS.index(v8.node_kind_of(name)) for name in names]
    name = random.integers(1, len(names), n)
    name[0] = 0
    node_kind = np.array(kinds)[name]
    node_kind[0] = NODE_KINDS.index("synthetic")
    return HeapGraph(
        node_kind=node_kind.astype(np.uint8),
        node_name=name.astype(np.int32),
        node_id=np.arange(n, dtype=np.uint64) * np.uint64(48) + np.uint64(0x7F12_3456_0000),
        self_size=random.integers(16, 500, n),
        edge_start=start,
        edge_kind=kind[order].astype(np.uint8),
        edge_name=random.integers(0, len(names), len(source)).astype(np.int32),
        edge_to=target[order].astype(np.int32),
        strings=names,
        meta={"producer": "leakharness", "pid": 1, "python": "3.11", "note": ']}"nodes":'},
    )
