"""Raw capture (``worker/capture/file.py``) -> :class:`HeapGraph`: ids become node numbers, references get
their names, and the harness is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leakharness.errors import SnapshotError
from leakharness.heap.capture_edges import key_edges, name_the_rest, named, raw_edges, read_names
from leakharness.heap.capture_labels import labels_of
from leakharness.heap.capture_roots import HELD_BY_C, Flow, harness_nodes, roots_of, shrink_finalizer_table
from leakharness.heap.capture_tables import Bools, Broken, Edges, Ints, Tables, joined, sections_of
from leakharness.heap.graph import EDGE_KINDS, NODE_KINDS, HeapGraph
from leakharness.worker.capture.columns import TEXT
from leakharness.worker.capture.type_plans import CONTEXT, ELEMENT, FAMILIES, INTERNAL, PROPERTY, WEAK

__all__ = ["HELD_BY_C", "Capture", "load_capture"]

_KIND_NAMES = {
    CONTEXT: "context",
    ELEMENT: "element",
    PROPERTY: "property",
    INTERNAL: "internal",
    WEAK: "weak",
}
assert all(EDGE_KINDS[number] == name for number, name in _KIND_NAMES.items())
# Containers stay "object": Chrome DevTools adds the size of an "array" to its owner's.
_NODE_KIND = {
    "function": "closure",
    "code": "code",
}
_NODE_KIND_OF_TYPE = {
    "str": "string",
    "bytes": "string",
    "int": "number",
    "float": "number",
    "bool": "number",
}


@dataclass(frozen=True, eq=False)
class Capture:
    """A heap of ours, and which of its nodes are the retained tracked objects, with their labels."""

    graph: HeapGraph
    targets: list[int]
    labels: list[str]
    meta: dict[str, Any] = field(default_factory=dict)


def load_capture(path: str | Path) -> Capture:
    """Read a raw capture. Raises SnapshotError where it is missing, truncated or not one of ours."""
    where = Path(path)
    try:
        raw = where.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{where}: cannot read the capture: {error.strerror or error}") from None
    try:
        return _capture(Tables(sections_of(raw)))
    except Broken as error:
        raise SnapshotError(f"{where}: not a usable capture: {error}; take it again") from None
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise SnapshotError(f"{where}: corrupt capture ({type(error).__name__}: {error}); take it again") from None


def _capture(tables: Tables) -> Capture:
    raw = raw_edges(tables)
    hints = read_names(tables)
    known = hints.take((hints.target >= 0) & ((hints.kind & TEXT) == 0))
    edges = named(tables, raw, joined([known, key_edges(tables, known)]))
    order = np.argsort(edges.source, kind="stable")
    edges = edges.take(order)
    name_the_rest(tables, edges)
    labels = labels_of(tables, known)
    harness = harness_nodes(tables, known, labels)
    shrink_finalizer_table(tables, edges, harness)
    targets = tables.nodes_of(tables.words("targetid"))
    flow = Flow(tables.count, edges, harness)
    roots = roots_of(tables, labels, flow, edges, harness, targets)
    return _build(tables, edges, labels.of_node, flow.kept(harness), roots, targets)


def _build(
    tables: Tables, edges: Edges, names: Ints, kept: Bools, roots: list[tuple[str, int]], targets: Ints
) -> Capture:
    number = np.full(tables.count + 1, -1, np.int64)
    number[:-1][kept] = np.arange(1, int(kept.sum()) + 1)
    root_nodes = np.array([node for _, node in roots], np.int64)
    edges = edges.take(kept[edges.source] & kept[edges.target])
    counts = np.bincount(number[edges.source], minlength=int(kept.sum()) + 1)
    counts[0] = len(roots)
    start = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=start[1:])
    root_names = tables.strings.many([label for label, _ in roots])
    kinds = {name: index for index, name in enumerate(NODE_KINDS)}
    by_family = np.array([kinds[_NODE_KIND.get(name, "object")] for name in FAMILIES], np.int64)
    node_kind = by_family[tables.family]
    for name, kind in _NODE_KIND_OF_TYPE.items():
        node_kind[tables.type_string == tables.strings(name)] = kinds[kind]
    alive = targets >= 0
    target_nodes = number[targets]
    labels = [str(label) for label in tables.json("labels")]
    picked = [
        (int(node), label) for node, label, ok in zip(target_nodes, labels, alive, strict=True) if ok and node > 0
    ]
    root_name = tables.strings("(root)")
    meta = {key: tables.meta.get(key) for key in ("pid", "python", "time", "threads", "seconds", "cwd")}
    meta |= {"producer": "leakharness", "node_count": len(counts), "targets": len(picked)}
    node_name = np.concatenate([[root_name], names[kept]])
    edge_kind = np.concatenate([np.full(len(roots), PROPERTY), edges.kind])
    edge_name = np.concatenate([root_names, edges.name])
    strings = _used_strings(tables, node_name, edge_name, edge_kind != ELEMENT)
    graph = HeapGraph(
        node_kind=np.concatenate([[kinds["synthetic"]], node_kind[kept]]).astype(np.uint8),
        node_name=node_name.astype(np.int32),
        node_id=np.concatenate([[0], tables.ids[kept]]).astype(np.uint64),
        self_size=np.concatenate([[0], tables.size[kept]]).astype(np.int64),
        edge_start=start,
        edge_kind=edge_kind.astype(np.uint8),
        edge_name=edge_name.astype(np.int32),
        edge_to=np.concatenate([number[root_nodes], number[edges.target]]).astype(np.int32),
        strings=strings,
        meta=meta,
    )
    return Capture(graph, [node for node, _ in picked], [label for _, label in picked], meta)


def _used_strings(tables: Tables, node_name: Ints, edge_name: Ints, by_name: Bools) -> list[str]:
    """The strings that the graph needs; renumbers the two columns in place."""
    used = np.zeros(len(tables.strings.numbers), np.bool_)
    used[0] = True
    used[node_name] = True
    used[edge_name[by_name]] = True
    number = np.cumsum(used) - 1
    node_name[:] = number[node_name]
    edge_name[by_name] = number[edge_name[by_name]]
    return [text for text, wanted in zip(tables.strings.numbers, used.tolist(), strict=True) if wanted]
