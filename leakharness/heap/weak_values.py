"""Entries of weak dictionaries by what keeps them: the key of a ``WeakValueDictionary`` is there while its value lives.

The dictionary's table holds the key, so a path ends at the dictionary, and cutting there says nothing: as long as the
value is held, its entry stays. Here the table's references to such an entry are made weak, and the value is given a
reference to the entry instead, so that paths to a key lead over what keeps the value.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from leakharness.heap.graph import HeapGraph

__all__ = ["ENTRY", "with_weak_values"]

KEYED_REFERENCE = "weakref.KeyedRef"
ENTRY = "<its entry in a WeakValueDictionary>"
Ints = npt.NDArray[np.int64]


def with_weak_values(graph: HeapGraph) -> HeapGraph:
    """The graph with that change; itself where there are no such entries. Numbers of nodes stay, those of edges not."""
    if KEYED_REFERENCE not in graph.strings or "weak" not in graph.edge_kinds:
        return graph
    weak = graph.edge_kinds.index("weak")
    is_entry = graph.node_name == graph.strings.index(KEYED_REFERENCE)
    source = np.repeat(np.arange(graph.node_count), np.diff(graph.edge_start))
    of_entry = np.flatnonzero(is_entry[source])
    to_value = of_entry[graph.edge_kind[of_entry] == weak]
    named_key = "key" in graph.strings
    to_key = (
        of_entry[(graph.edge_kind[of_entry] != weak) & _named(graph, of_entry, "key")] if named_key else of_entry[:0]
    )
    if not len(to_value) or not len(to_key):
        return graph
    is_table = np.zeros(graph.node_count, bool)
    is_table[source[is_entry[graph.edge_to]]] = True
    is_table &= graph.node_name == graph.strings.index("dict")
    given_up = np.zeros(graph.node_count, bool)  # entries, and keys that an entry has: what the table alone keeps
    given_up[is_entry] = True
    given_up[graph.edge_to[to_key]] = True
    kind = graph.edge_kind.copy()
    kind[is_table[source] & given_up[graph.edge_to]] = weak
    return _with_edges(replace(graph, edge_kind=kind), source, graph.edge_to[to_value], source[to_value])


def _named(graph: HeapGraph, edges: Ints, name: str) -> npt.NDArray[np.bool_]:
    by_name = ~np.isin(graph.edge_kind[edges], [graph.edge_kinds.index(kind) for kind in ("element", "hidden")])
    return np.asarray(by_name & (graph.edge_name[edges] == graph.strings.index(name)))


def _with_edges(graph: HeapGraph, source: Ints, holders: npt.NDArray[np.int32], held: Ints) -> HeapGraph:
    """The graph with an edge from each of ``holders`` to one of ``held``, after those that it has."""
    count = len(holders)
    sources = np.concatenate([source, holders.astype(np.int64)])
    order = np.argsort(sources, kind="stable")
    start = np.zeros(graph.node_count + 1, np.int64)
    np.cumsum(np.bincount(sources, minlength=graph.node_count), out=start[1:])
    kind = np.full(count, graph.edge_kinds.index("property"), graph.edge_kind.dtype)
    name = np.full(count, len(graph.strings), graph.edge_name.dtype)
    return replace(
        graph,
        strings=[*graph.strings, ENTRY],
        edge_start=start,
        edge_kind=np.concatenate([graph.edge_kind, kind])[order],
        edge_name=np.concatenate([graph.edge_name, name])[order],
        edge_to=np.concatenate([graph.edge_to, held.astype(graph.edge_to.dtype)])[order],
    )
