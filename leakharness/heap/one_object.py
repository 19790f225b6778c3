"""One object of a snapshot: what it is, what it refers to, who refers to it; and texts that a file has many times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leakharness.errors import UsageError
from leakharness.heap.dominators import dominators, retained_sizes
from leakharness.heap.graph import HeapGraph

__all__ = ["Duplicate", "Neighbour", "OneObject", "duplicate_strings", "one_object"]


@dataclass(frozen=True)
class Neighbour:
    """An edge of an object and what is at its other end."""

    edge_kind: str
    edge: str
    id: int
    kind: str
    name: str
    size: int


@dataclass(frozen=True)
class OneObject:
    """Sizes in bytes; ``fields`` and ``holders`` in the order of the file. ``dominator`` is the object whose loss would
    free it, None where none reaches it."""

    id: int
    kind: str
    name: str
    size: int
    retained: int
    dominator: Neighbour | None
    fields: tuple[Neighbour, ...]
    holders: tuple[Neighbour, ...]


def one_object(graph: HeapGraph, number: int) -> OneObject:
    """The object whose id is ``number``. Raises `UsageError` where there is none."""
    found = np.flatnonzero(graph.node_id == np.uint64(number)) if number >= 0 else np.empty(0, np.int64)
    if not len(found):
        raise UsageError(f"no object has the id {number}; retainers --where and --json list ids")
    node = int(found[0])
    tree = dominators(graph)
    retained = retained_sizes(graph, tree)
    above = int(tree.parent[node])
    outgoing = range(int(graph.edge_start[node]), int(graph.edge_start[node + 1]))
    incoming = np.flatnonzero(graph.edge_to == node).tolist()
    return OneObject(
        int(graph.node_id[node]),
        graph.node_kinds[int(graph.node_kind[node])],
        graph.type_name(node),
        int(graph.self_size[node]),
        int(retained[node]),
        _neighbour(graph, None, above) if above >= 0 and node else None,
        tuple(_neighbour(graph, edge, int(graph.edge_to[edge])) for edge in outgoing),
        tuple(_neighbour(graph, edge, graph.edge_source(edge)) for edge in incoming),
    )


def _neighbour(graph: HeapGraph, edge: int | None, node: int) -> Neighbour:
    return Neighbour(
        graph.edge_kinds[int(graph.edge_kind[edge])] if edge is not None else "",
        graph.edge_text(edge) if edge is not None else "",
        int(graph.node_id[node]),
        graph.node_kinds[int(graph.node_kind[node])],
        graph.type_name(node),
        int(graph.self_size[node]),
    )


@dataclass(frozen=True)
class Duplicate:
    """A text that ``count`` strings of a V8 file say: bytes of all, and of all but one."""

    text: str
    count: int
    size: int
    wasted: int


def duplicate_strings(graph: HeapGraph, top: int = 30) -> list[Duplicate]:
    """Texts that more than one string says, most wasted bytes first. Files of ours have no texts."""
    if not graph.of_v8:
        raise UsageError("only V8's files have the text of strings; ours name them by type, so that no value is stored")
    strings = np.flatnonzero(graph.node_kind == graph.node_kinds.index("string"))
    names = graph.node_name[strings]
    count = np.bincount(names, minlength=len(graph.strings))
    size = np.bincount(names, weights=graph.self_size[strings], minlength=len(graph.strings)).astype(np.int64)
    wasted = np.where(count > 1, size - size // np.maximum(count, 1), 0)
    order = np.argsort(-wasted, kind="stable")[:top]
    return [
        Duplicate(graph.strings[n], int(count[n]), int(size[n]), int(wasted[n]))
        for n in order.tolist()
        if wasted[n] > 0
    ]
