"""The numbers of a ``.heapsnapshot`` as the columns of a `HeapGraph`: parsed piece by piece, each checked against
what the header declares before anything of its size is allocated."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from leakharness.errors import SnapshotError
from leakharness.heap.graph import UNKNOWN_PLACE, HeapGraph
from leakharness.heap.v8_numbers import in_pieces, rows_of
from leakharness.heap.v8_objects import inner_nodes
from leakharness.heap.v8_scan import scanner_for, store_picker
from leakharness.heap.v8_sections import ALIASES_KEY, EDGE_FIELDS, NODE_FIELDS, Layout

__all__ = ["STORES", "columns_of"]

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]

INT32_MAX = 2**31 - 1
FURTHER_FIELDS: dict[str, type[np.uint8 | np.int32]] = {"detachedness": np.uint8, "trace_node_id": np.int32}
_POSITION_KINDS = ("element", "hidden")  # edges whose name_or_index is a number and not a string
STORES: Literal["stores"] = "stores"
"""Of the edges only those that lead to the parts of objects, without their names: what the sizes of families need."""


def columns_of(
    text: mmap.mmap,
    sections: dict[str, tuple[int, int]],
    layout: Layout,
    strings: list[str],
    *,
    edges: bool | Literal["stores"],
) -> HeapGraph:
    """The graph, with all of its edges, none, or `STORES`; then without `FURTHER_FIELDS` either."""
    graph = _nodes(text, sections["nodes"], layout, strings, further=edges != STORES)
    if edges == STORES:
        graph = _with_store_edges(graph, text, sections["edges"], layout)
    elif edges:
        graph = _with_edges(graph, text, sections["edges"], layout)
    else:
        graph = replace(graph, edge_start=np.zeros(layout.nodes + 1, np.int64))
    layout.ours.pop(ALIASES_KEY, None)
    return graph


def _nodes(text: mmap.mmap, span: tuple[int, int], layout: Layout, strings: list[str], *, further: bool) -> HeapGraph:
    """The graph without edges, but for where they begin."""
    n, width = layout.nodes, len(layout.node_fields)
    if n == 0:
        raise SnapshotError("has no nodes")
    _check_room("nodes", span, n, width)
    kind, name = np.empty(n, np.uint8), np.empty(n, np.int32)
    node_id, size = np.empty(n, np.uint64), np.empty(n, np.int64)
    start = np.zeros(n + 1, np.int64)
    more: dict[str, Any] = {
        field: np.zeros(n, dtype) for field, dtype in FURTHER_FIELDS.items() if further and field in layout.node_fields
    }
    wanted = [layout.node_fields.index(field) for field in (*NODE_FIELDS, *more)]
    for first, columns in rows_of(text, span, "nodes", n, width, wanted, to_limit=False):
        kinds, names, ids, sizes, counts, *others = columns
        part = slice(first, first + len(kinds))
        kind[part] = _below(kinds, len(layout.node_kinds), "node type")
        name[part] = _below(names, len(strings), "node name")
        node_id[part], size[part] = ids, sizes
        for field, values in zip(more, others, strict=True):
            more[field][part] = np.minimum(values, np.iinfo(FURTHER_FIELDS[field]).max)
        start[first + 1 : first + 1 + len(kinds)] = _below(counts, layout.edges + 1, "edge count")
    np.cumsum(start, out=start)
    if int(start[-1]) != layout.edges:
        raise SnapshotError(f"is corrupt: its nodes have {int(start[-1])} edges, its header says {layout.edges}")
    return HeapGraph(
        kind,
        name,
        node_id,
        size,
        start,
        np.empty(0, np.uint8),
        np.empty(0, np.int32),
        np.empty(0, np.int32),
        strings,
        layout.node_kinds,
        layout.edge_kinds,
        layout.ours,
        detachedness=more.get("detachedness"),
        trace_node=more.get("trace_node_id"),
    )


def _with_edges(graph: HeapGraph, text: mmap.mmap, span: tuple[int, int], layout: Layout) -> HeapGraph:
    m, strings = layout.edges, len(graph.strings)
    kind, name, to = np.empty(m, np.uint8), np.empty(m, np.int32), np.empty(m, np.int32)
    by_position = np.array([edge_kind in _POSITION_KINDS for edge_kind in layout.edge_kinds])
    for first, (kinds, targets, names) in _edges(text, span, layout, named=True):
        part = slice(first, first + len(kinds))
        kind[part], to[part] = kinds, targets
        most = int(names.max())
        if most >= strings and np.any((names >= strings) & ~by_position[kind[part]]):
            raise SnapshotError("is corrupt: an edge's name is not among its strings")
        name[part] = names if most <= UNKNOWN_PLACE else np.minimum(names, UNKNOWN_PLACE)
    start = graph.edge_start
    aliases = _aliases(layout, strings, int(start[1]))
    if len(aliases):
        places = aliases[:, 0] - np.arange(len(aliases))
        kind = np.insert(kind, places, aliases[:, 1].astype(np.uint8))
        name = np.insert(name, places, aliases[:, 2].astype(np.int32))
        to = np.insert(to, places, aliases[:, 3].astype(np.int32))
        start[1:] += len(aliases)
    return replace(graph, edge_kind=kind, edge_name=name, edge_to=to)


def _with_store_edges(graph: HeapGraph, text: mmap.mmap, span: tuple[int, int], layout: Layout) -> HeapGraph:
    inner = inner_nodes(graph)
    picked = _picked_by_scanner(graph, text, span, layout, inner)
    if picked is not None:
        return picked
    start = np.zeros(graph.node_count + 1, np.int64)
    found, done, node = [(np.empty(0, np.uint8), np.empty(0, np.int32))], 0, 1
    for first, (kinds, targets) in _edges(text, span, layout, named=False):
        chosen = inner[targets]
        last = first + len(kinds)
        end = int(np.searchsorted(graph.edge_start, last, side="right"))  # nodes whose edges end in this piece
        before = np.zeros(len(kinds) + 1, np.int32)
        np.cumsum(chosen, out=before[1:])
        start[node:end] = before[graph.edge_start[node:end] - first] + done
        node, done = end, done + int(before[-1])
        found.append((kinds[chosen].astype(np.uint8), targets[chosen]))
    to = np.concatenate([targets for _, targets in found])
    kind = np.concatenate([kinds for kinds, _ in found])
    return replace(graph, edge_start=start, edge_kind=kind, edge_name=np.zeros(len(to), np.int32), edge_to=to)


def _picked_by_scanner(
    graph: HeapGraph, text: mmap.mmap, span: tuple[int, int], layout: Layout, inner: npt.NDArray[np.bool_]
) -> HeapGraph | None:
    """The same by compiled code; None where there is none for this file, or where the general way has to say what is
    wrong with it."""
    scanner = scanner_for(text)
    if scanner is None:
        return None
    m, width, node_width = layout.edges, len(layout.edge_fields), len(layout.node_fields)
    _check_room("edges", span, m, width)
    fields = [layout.edge_fields.index(field) for field in ("type", "to_node")]
    limits = (len(layout.edge_kinds), layout.nodes * node_width, node_width)
    pick = store_picker(scanner, width, fields, limits, inner)
    done, places = 0, [np.empty(0, np.int64)]
    kinds, targets = [np.empty(0, np.uint8)], [np.empty(0, np.int32)]
    for _, found in in_pieces(text, span, pick):
        if found is None:
            return None
        rows, which, kind, target = found
        places.append(which + np.int64(done))
        kinds.append(kind)
        targets.append(target)
        done += rows
    if done != m:
        return None
    start = np.searchsorted(np.concatenate(places), graph.edge_start)
    to = np.concatenate(targets)
    kind = np.concatenate(kinds)
    return replace(graph, edge_start=start, edge_kind=kind, edge_name=np.zeros(len(to), np.int32), edge_to=to)


def _edges(text: mmap.mmap, span: tuple[int, int], layout: Layout, *, named: bool) -> Iterator[tuple[int, list[Any]]]:
    """(index of the first edge, kinds, targets and, if ``named``, names) of pieces of the edges."""
    m, width = layout.edges, len(layout.edge_fields)
    _check_room("edges", span, m, width)
    fields = [layout.edge_fields.index(field) for field in EDGE_FIELDS]
    wanted = [fields[0], fields[2], *([fields[1]] if named else [])]
    node_width = len(layout.node_fields)
    # half as wide where that is enough: a division of them takes a third of the time
    offset: type[np.int32 | np.int64] = np.int32 if layout.nodes * node_width <= INT32_MAX else np.int64
    for first, (kinds, ends, *names) in rows_of(text, span, "edges", m, width, wanted, to_limit=True):
        _below(kinds, len(layout.edge_kinds), "edge type")
        places = _below(ends, layout.nodes * node_width, "edge target").astype(offset)
        targets = places // node_width
        if np.any(targets * node_width != places):
            raise SnapshotError("is corrupt: an edge points between two nodes")
        yield first, [kinds, targets.astype(np.int32, copy=False), *names]


def _aliases(layout: Layout, strings: int, root_edges: int) -> Ints:
    """Further edges of the root that the metadata has, one a row."""
    found = layout.ours.get(ALIASES_KEY, [])
    try:
        table = np.array(found, np.int64).reshape(-1, 4)
    except (ValueError, TypeError, OverflowError):
        raise SnapshotError(f"is corrupt: its {ALIASES_KEY} cannot be used") from None
    limits = (root_edges + len(table), len(layout.edge_kinds), strings, layout.nodes)
    if len(table) and (np.any(table < 0) or np.any(table >= limits) or np.any(np.diff(table[:, 0]) <= 0)):
        raise SnapshotError(f"is corrupt: its {ALIASES_KEY} are out of range")
    return table


def _check_room(what: str, span: tuple[int, int], rows: int, width: int) -> None:
    """A number takes a digit and a comma: refuse counts that the text cannot hold before allocating for
    them.
    """
    if rows > INT32_MAX or rows * width * 2 > span[1] - span[0]:
        raise SnapshotError(f"is truncated or corrupt: its header counts {rows} {what}, which the file has no room for")


def _below(values: Ints, limit: int, what: str) -> Ints:
    if len(values) and int(values.max()) >= limit:
        raise SnapshotError(f"is corrupt: {what} {int(values.max())} is out of range (below {limit} was expected)")
    return values
