"""Paths from the root: what is reachable, and the retainer path of a node that a person can read.

Breadth first by numpy. A wide frontier goes through arrays, a narrow one (a linked list makes one node a
level) through a plain loop, so neither shape is slow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakharness.heap.graph import HeapGraph

__all__ = ["UNKNOWN", "Links", "PathTree", "links", "path_tree", "ragged", "reachable", "root_rank"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NARROW = 24  # nodes in a frontier up to which a plain loop beats half a dozen numpy calls
_DENSE = 50  # from this fraction of all nodes on, marking them is quicker than sorting them
NOBODY = -1


@dataclass(frozen=True, eq=False)
class Links:
    """Who points to whom: the targets of node ``i`` are ``to[start[i]:start[i + 1]]``."""

    start: Ints
    to: Ints

    @classmethod
    def of(cls, n: int, by: Ints, other: Ints) -> Links:
        """Group ``other`` by ``by`` (both one entry an edge); the order within a group is kept."""
        start = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(by, minlength=n), out=start[1:])
        return cls(start, other[np.argsort(by, kind="stable")])

    def reversed(self) -> Links:
        n = len(self.start) - 1
        return Links.of(n, self.to, np.repeat(np.arange(n), np.diff(self.start)))


def links(graph: HeapGraph, keep: Mask) -> Links:
    """The graph's edges where ``keep`` is set, by source."""
    kept_before = np.zeros(graph.edge_count + 1, np.int64)
    np.cumsum(keep, out=kept_before[1:])
    return Links(kept_before[graph.edge_start], graph.edge_to[keep].astype(np.int64))


def ragged(start: Ints, nodes: Ints) -> Ints:
    """Positions ``start[i]:start[i + 1]`` of all ``nodes``, one after the other."""
    begin = start[nodes]
    count = start[nodes + 1] - begin
    return np.repeat(begin - np.cumsum(count) + count, count) + np.arange(int(count.sum()))


def reachable(forward: Links, closed: Mask | None = None, seeds: Ints | None = None) -> Mask:
    """Which nodes can be reached from node 0 (or from ``seeds``) without entering a ``closed`` one."""
    seen = np.zeros(len(forward.start) - 1, bool) if closed is None else closed.copy()
    frontier = np.zeros(1, np.int64) if seeds is None else seeds
    seen[frontier] = True
    while len(frontier):
        if len(frontier) <= NARROW:
            frontier = _narrow_step(forward, frontier, seen)
        else:
            found = forward.to[ragged(forward.start, frontier)]
            found = found[~seen[found]]
            seen[found] = True
            fresh = np.zeros(len(seen), bool) if len(found) > len(seen) // _DENSE else None
            if fresh is None:
                frontier = np.unique(found)
            else:
                fresh[found] = True
                frontier = np.flatnonzero(fresh)
    if closed is not None:
        seen &= ~closed
    return seen


def _narrow_step(forward: Links, frontier: Ints, seen: Mask) -> Ints:
    found: list[int] = []
    for node in frontier.tolist():
        targets = forward.to[forward.start[node] : forward.start[node + 1]]
        fresh = targets[~seen[targets]]
        if len(fresh):
            seen[fresh] = True
            found.extend(set(fresh.tolist()))
    return np.array(found, np.int64)


MODULE, DECLARED, THREAD, UNKNOWN = range(4)  # ranks of root candidates, most telling first

_RANK_OF_PREFIX = (
    ("sys.modules", MODULE),
    ("module ", MODULE),
    ("builtins", MODULE),
    ("registry ", MODULE),
    ("(GC roots)", MODULE),  # V8's: everything of Node's and Chrome's hangs below it
    ("thread ", THREAD),
    ("frame ", THREAD),
    ("stack ", THREAD),
    ("held by C", UNKNOWN),
    ("harness: itself", UNKNOWN),
    ("unknown", UNKNOWN),
)


def root_rank(name: str) -> int:
    """Rank of a root edge by its name: modules and registries, then what is declared, then threads, then the
    unknown.

    A module's attribute stays for the life of the process and has a name to go to; a stack's local goes with
    its frame.
    """
    return next((rank for prefix, rank in _RANK_OF_PREFIX if name.startswith(prefix)), DECLARED)


# What a step costs in the search for a readable path. A path over the type or the globals of an unrelated
# function is always short and never the answer, so such steps count as several plain ones.
_STEP, _INTERNAL_STEP, _DETOUR = 1, 3, 8
_FREE_NAMES = frozenset({"__dict__", "cell_contents", "__closure__", "__self__", "__func__"})
_DETOUR_NAMES = frozenset(
    {
        "__globals__",
        "__builtins__",
        "__class__",
        "__mro__",
        "__bases__",
        "__base__",
        "__subclasses__",
        "__objclass__",
        "f_globals",
        "f_builtins",
        "gi_frame",
        "type",
        "map",
        "constructor",
        "__proto__",
    }
)


@dataclass(frozen=True, eq=False)
class PathTree:
    """The retainer path chosen for each node: ``edge[node]`` is the edge it is entered by (an index into the
    graph's edges), ``source[node]`` where that starts; -1 where there is none. ``rank`` is that of the
    path's root, see `root_rank`; `UNKNOWN` for nodes that nothing known reaches.
    """

    edge: Ints
    source: Ints
    rank: npt.NDArray[np.int8]

    def steps(self, node: int) -> list[int]:
        """Edges from the root (or the topmost holder) to ``node``; empty where no path is known."""
        found: list[int] = []
        while (edge := int(self.edge[node])) != NOBODY:
            found.append(edge)
            node = int(self.source[node])
        return found[::-1]


def path_tree(graph: HeapGraph, keep: Mask, closed: Mask | None = None) -> PathTree:
    """A readable path from the root to every node, over the edges where ``keep`` is set.

    Nodes that a better-ranked root reaches get their path from it; among those the cheapest path wins, where
    a step over an unnamed or far-fetched edge costs more; among equals the first edge of the file. No path
    goes through a ``closed`` node (the harness).
    """
    n = graph.node_count
    cost = _edge_costs(graph)
    tree = PathTree(np.full(n, NOBODY, np.int64), np.full(n, NOBODY, np.int64), np.full(n, UNKNOWN, np.int8))
    settled = np.zeros(n, bool) if closed is None else closed.copy()
    settled[0] = True
    root_edges = np.arange(int(graph.edge_start[0]), int(graph.edge_start[1]))
    root_edges = root_edges[keep[root_edges]]
    ranks = np.array([root_rank(_root_name(graph, edge)) for edge in root_edges.tolist()], np.int64)
    for rank in range(UNKNOWN + 1):
        chosen = root_edges[ranks == rank]
        _search(graph, keep, cost, (chosen, np.zeros(len(chosen), np.int64)), tree, settled, rank)
    _search_from_orphans(graph, keep, cost, tree, settled)
    return tree


def _search_from_orphans(
    graph: HeapGraph, keep: Mask, cost: npt.NDArray[np.int8], tree: PathTree, settled: Mask
) -> None:
    """What no root candidate reaches gets a path from the topmost of its holders: C, or nobody we know,
    holds that.
    """
    source = np.repeat(np.arange(graph.node_count), np.diff(graph.edge_start))
    lost = keep & ~settled[source] & ~settled[graph.edge_to] & (source != graph.edge_to)
    held = np.zeros(graph.node_count, bool)
    held[graph.edge_to[lost]] = True
    orphans = np.flatnonzero(~settled & ~held)
    settled[orphans] = True
    edges = ragged(graph.edge_start, orphans)
    sources = np.repeat(orphans, graph.edge_start[orphans + 1] - graph.edge_start[orphans])
    kept = keep[edges]
    _search(graph, keep, cost, (edges[kept], sources[kept]), tree, settled, UNKNOWN)


def _root_name(graph: HeapGraph, edge: int) -> str:
    kind = graph.edge_kinds[int(graph.edge_kind[edge])]
    if kind in ("element", "hidden"):
        return graph.strings[int(graph.node_name[int(graph.edge_to[edge])])]
    return graph.strings[int(graph.edge_name[edge])]


def _edge_costs(graph: HeapGraph) -> npt.NDArray[np.int8]:
    by_kind = np.full(len(graph.edge_kinds), _STEP, np.int8)
    for kind in ("internal", "hidden", "shortcut"):
        if kind in graph.edge_kinds:
            by_kind[graph.edge_kinds.index(kind)] = _INTERNAL_STEP
    cost = by_kind[graph.edge_kind]
    positions = [graph.edge_kinds.index(kind) for kind in ("element", "hidden") if kind in graph.edge_kinds]
    named = ~np.isin(graph.edge_kind, positions)
    for names, price in ((_FREE_NAMES, _STEP), (_DETOUR_NAMES, _DETOUR)):
        wanted = [index for index, text in enumerate(graph.strings) if text in names]
        if wanted:
            cost[named & np.isin(graph.edge_name, wanted)] = price
    return cost


def _search(
    graph: HeapGraph,
    keep: Mask,
    cost: npt.NDArray[np.int8],
    seeds: tuple[Ints, Ints],
    tree: PathTree,
    settled: Mask,
    rank: int,
) -> None:
    """Dial's algorithm (buckets by cost) from ``seeds`` (edges, their sources) over nodes that are not
    settled yet.
    """
    buckets: dict[int, list[tuple[Ints, Ints]]] = {0: [seeds]}
    start, to = graph.edge_start, graph.edge_to
    distance, last = 0, 0
    while distance <= last:
        waiting = buckets.pop(distance, None)
        if waiting is not None:
            edges = np.concatenate([edge for edge, _ in waiting])
            sources = np.concatenate([source for _, source in waiting])
            nodes = _settle(to, edges, sources, tree, settled, rank)
            if len(nodes):
                last = max(last, distance + _expand(start, keep, cost, to, nodes, settled, buckets, distance))
        distance += 1


def _settle(to: npt.NDArray[np.int32], edges: Ints, sources: Ints, tree: PathTree, settled: Mask, rank: int) -> Ints:
    fresh = ~settled[to[edges]]
    edges, sources = edges[fresh], sources[fresh]
    if len(edges) > 1:
        order = np.argsort(edges, kind="stable")
        edges, sources = edges[order], sources[order]
        nodes, first = np.unique(to[edges], return_index=True)
        edges, sources = edges[first], sources[first]
    else:
        nodes = to[edges]
    tree.edge[nodes], tree.source[nodes], tree.rank[nodes] = edges, sources, rank
    settled[nodes] = True
    return nodes.astype(np.int64)


def _expand(
    start: Ints,
    keep: Mask,
    cost: npt.NDArray[np.int8],
    to: npt.NDArray[np.int32],
    nodes: Ints,
    settled: Mask,
    buckets: dict[int, list[tuple[Ints, Ints]]],
    distance: int,
) -> int:
    """Put the edges of ``nodes`` into the buckets of their cost; returns the highest cost used."""
    edges = ragged(start, nodes)
    sources = np.repeat(nodes, start[nodes + 1] - start[nodes])
    open_ = keep[edges] & ~settled[to[edges]]
    edges, sources = edges[open_], sources[open_]
    if not len(edges):
        return 0
    prices = cost[edges]
    highest = 0
    for price in (_STEP, _INTERNAL_STEP, _DETOUR):
        chosen = prices == price
        if chosen.any():
            buckets.setdefault(distance + price, []).append((edges[chosen], sources[chosen]))
            highest = price
    return highest
