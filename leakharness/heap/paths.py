"""Paths from the root: what is reachable, and the retainer path of a node that a person can read.

Breadth first by numpy. A wide frontier goes through arrays, a narrow one (a linked list makes one node a
level) through a plain loop, so neither shape is slow. Nodes and edges are numbers of 32 bits, and a wide frontier
is walked in pieces, so that what is made on the way stays small beside the graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from leakharness.heap.arrays import distinct
from leakharness.heap.collected_modules import collected_modules
from leakharness.heap.graph import HeapGraph
from leakharness.heap.names import CONTAINERS
from leakharness.heap.path_prices import DETOUR, IMPORTED, INTERNAL_STEP, NAMES_WITH_PRICE, PASSING_ROOTS, STEP
from leakharness.heap.v8_objects import Objects, objects_of

__all__ = [
    "AT_ONCE",
    "UNKNOWN",
    "Links",
    "PathTree",
    "depths",
    "links",
    "path_tree",
    "pieces",
    "ragged",
    "reachable",
    "root_rank",
    "sums_upwards",
]

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
"""Nodes and edges by number: a file with 2**31 of them would have a hundred gigabytes."""
Mask = npt.NDArray[np.bool_]

NARROW = 24  # nodes in a frontier up to which a plain loop beats half a dozen numpy calls
_FEW_EDGES = 256  # edges of a node up to which the same holds
_DENSE = 50  # from this fraction of all nodes on, marking them is quicker than sorting them
_CYCLES = 1000  # nodes of cycles that nothing holds from which a path is looked for
AT_ONCE = 1 << 17  # nodes, or edges, that are looked at together
NOBODY = -1


@dataclass(frozen=True, eq=False)
class Links:
    """Who points to whom: the targets of node ``i`` are ``to[start[i]:start[i + 1]]``."""

    start: Numbers
    to: Numbers

    @classmethod
    def of(cls, n: int, by: Ints | Numbers, other: Ints | Numbers) -> Links:
        """Group ``other`` by ``by`` (both one entry an edge, numbers of n nodes); a group is in the order of
        ``other``."""
        pairs = by.astype(np.int64)
        pairs <<= 32
        pairs |= other
        return cls.of_pairs(n, pairs)

    @classmethod
    def of_pairs(cls, n: int, pairs: Ints) -> Links:
        """From edges, one number each: ``by << 32 | other``. ``pairs`` is sorted in place, which takes neither a
        second array nor, as an indirect sort does, a random access an edge."""
        pairs.sort()
        start = np.zeros(n + 1, np.int32)
        for begin in range(0, len(pairs), AT_ONCE):
            by = pairs[begin : begin + AT_ONCE] >> 32
            first = int(by[0])
            counts = np.bincount(by - first)
            start[first + 1 : first + 1 + len(counts)] += counts.astype(np.int32)
        np.cumsum(start, out=start)
        return cls(start, pairs.astype(np.int32))  # the low half

    def reversed(self) -> Links:
        n = len(self.start) - 1
        pairs = self.to.astype(np.int64)
        pairs <<= 32
        for begin, end, first, last in pieces(self.start):
            pairs[first:last] |= np.repeat(np.arange(begin, end), np.diff(self.start[begin : end + 1]))
        return Links.of_pairs(n, pairs)


def pieces(start: Ints | Numbers) -> Iterator[tuple[int, int, int, int]]:
    """(first node, end, first edge, end) of stretches of nodes whose edges begin at ``start``."""
    n = len(start) - 1
    for begin in range(0, n, AT_ONCE):
        end = min(n, begin + AT_ONCE)
        yield begin, end, int(start[begin]), int(start[end])


def links(graph: HeapGraph, keep: Mask) -> Links:
    """The graph's edges where ``keep`` is set, by source."""
    if keep.all():
        return Links(graph.edge_start.astype(np.int32, copy=False), graph.edge_to)
    start = np.zeros(graph.node_count + 1, np.int32)
    for begin, end, first, last in pieces(graph.edge_start):
        before = np.zeros(last - first + 1, np.int32)
        np.cumsum(keep[first:last], out=before[1:])
        start[begin + 1 : end + 1] = start[begin] + before[graph.edge_start[begin + 1 : end + 1] - first]
    return Links(start, graph.edge_to[keep])


def ragged(start: Ints | Numbers, nodes: Ints | Numbers) -> Numbers:
    """Positions ``start[i]:start[i + 1]`` of all ``nodes``, one after the other."""
    begin = start[nodes]
    count = start[nodes + 1] - begin
    ends = np.cumsum(count, dtype=np.int64)
    found = np.repeat((begin - ends + count).astype(np.int32), count)
    found += np.arange(len(found), dtype=np.int32)
    return found


def reachable(forward: Links, closed: Mask | None = None, seeds: Ints | Numbers | None = None) -> Mask:
    """Which nodes can be reached from node 0 (or from ``seeds``) without entering a ``closed`` one."""
    seen = np.zeros(len(forward.start) - 1, bool) if closed is None else closed.copy()
    frontier = np.zeros(1, np.int32) if seeds is None else seeds.astype(np.int32)
    seen[frontier] = True
    while len(frontier):
        if len(frontier) <= NARROW:
            frontier = np.array(_narrow_levels(forward, frontier.tolist(), seen), np.int32)
        if len(frontier):
            frontier = _wide_level(forward, frontier, seen)
    if closed is not None:
        seen &= ~closed
    return seen


def _wide_level(forward: Links, frontier: Numbers, seen: Mask) -> Numbers:
    """What is one step further, is not seen yet, and is from now on."""
    further = [np.zeros(0, np.int32)]
    for begin in range(0, len(frontier), AT_ONCE):
        found = forward.to[ragged(forward.start, frontier[begin : begin + AT_ONCE])]
        found = _sorted_nodes(found[~seen[found]], len(seen))
        seen[found] = True
        further.append(found)
    return np.concatenate(further)


def _sorted_nodes(nodes: Numbers, n: int) -> Numbers:
    """The distinct ones of these nodes, sorted."""
    if len(nodes) <= n // _DENSE:
        return distinct(nodes)
    marked = np.zeros(n, bool)
    marked[nodes] = True
    return np.flatnonzero(marked).astype(np.int32)


def _narrow_levels(forward: Links, frontier: list[int], seen: Mask) -> list[int]:
    """Level after level by a plain loop, until one is wide (which is given back) or none is left."""
    start, to, marked = forward.start.data, forward.to.data, seen.data
    while frontier and len(frontier) <= NARROW:
        found: list[int] = []
        for node in frontier:
            begin, end = start[node], start[node + 1]
            if end - begin > _FEW_EDGES:
                targets = forward.to[begin:end]
                fresh = np.unique(targets[~seen[targets]])
                seen[fresh] = True
                found.extend(fresh.tolist())
                continue
            for at in range(begin, end):
                target = to[at]
                if not marked[target]:
                    marked[target] = True
                    found.append(target)
        frontier = found
    return frontier


def depths(parent: Ints | Numbers) -> Numbers:
    """How many steps each node is below the top of its tree; ``parent`` is -1 for a top, which has depth 0.

    By pointer jumping: as many rounds as the depth has binary digits, each over what has not arrived yet.
    """
    depth = (parent >= 0).astype(np.int32)
    active = np.flatnonzero(parent >= 0).astype(np.int32)
    jump = parent.astype(np.int32)
    tops = np.flatnonzero(parent < 0).astype(np.int32)
    jump[tops] = tops
    while len(active):
        left = []
        for begin in range(0, len(active), AT_ONCE):
            some = active[begin : begin + AT_ONCE]
            over = jump[some]
            going = depth[over] > 0
            some, over = some[going], over[going]
            further, above = depth[over], jump[over]
            depth[some] += further
            jump[some] = above
            left.append(some)
        active = np.concatenate(left)
    return depth


def sums_upwards(values: Ints, parent: Ints | Numbers, depth: Ints | Numbers) -> Ints:
    """For each node the sum of ``values`` over it and all below it in the tree that ``parent`` and ``depth`` say.
    Nodes of negative depth are in no tree and keep their own value."""
    total = values.astype(np.int64)
    deepest = int(depth.max(initial=0))
    levels = depth + 1 if deepest >= _SHORT else (depth + 1).astype(np.uint16)  # of 16 bits: sorted digit by digit
    order = np.argsort(levels, kind="stable").astype(np.int32)
    bounds = np.cumsum(np.bincount(levels, minlength=deepest + 2))
    if len(bounds) > _DEEP * max(1.0, np.log2(max(1, len(order)))):
        sums, above = total.data, parent.data
        for node in reversed(order[bounds[1] :].tolist()):
            sums[above[node]] += sums[node]
        return total
    for level in range(len(bounds) - 1, 1, -1):
        nodes = order[bounds[level - 1] : bounds[level]]
        np.add.at(total, parent[nodes], total[nodes])
    return total


_SHORT = (1 << 16) - 2
# levels per doubling of the heap from which one numpy call a level costs more than a loop over all nodes
_DEEP = 2000


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


@dataclass(frozen=True, eq=False)
class PathTree:
    """The retainer path chosen for each node: ``edge[node]`` is the edge it is entered by (an index into the
    graph's edges), ``source[node]`` where that starts; -1 where there is none. ``rank`` is that of the
    path's root, see `root_rank`; `UNKNOWN` for nodes that nothing known reaches.
    """

    edge: Numbers
    source: Numbers
    rank: npt.NDArray[np.int8]

    def steps(self, node: int) -> list[int]:
        """Edges from the root (or the topmost holder) to ``node``; empty where no path is known."""
        found: list[int] = []
        entered, source = self.edge.data, self.source.data
        while (edge := entered[node]) != NOBODY:
            found.append(edge)
            node = source[node]
        return found[::-1]

    @cached_property
    def depth(self) -> Numbers:
        """Steps of each node's path."""
        return depths(self.source)


def path_tree(graph: HeapGraph, keep: Mask, closed: Mask | None = None) -> PathTree:
    """A readable path from the root to every node, over the edges where ``keep`` is set.

    Nodes that a better-ranked root reaches get their path from it; among those the cheapest path wins, where
    a step over an unnamed or far-fetched edge costs more, and a module of tests says less than one of the program
    (`collected_modules`); among equals the first edge of the file. No path goes through a ``closed`` node (the
    harness). What V8's passing roots (`PASSING_ROOTS`) hold has its path from them where nothing else leads to it.
    """
    n = graph.node_count
    tree = PathTree(np.full(n, NOBODY, np.int32), np.full(n, NOBODY, np.int32), np.full(n, UNKNOWN, np.int8))
    settled = np.zeros(n, bool) if closed is None else closed.copy()
    settled[0] = True
    passing, passing_sources = _edges_of_passing_roots(graph, keep)
    lasting = keep.copy() if len(passing) else keep
    lasting[passing] = False
    search = _Search(graph, lasting, tree, settled)
    root_edges = np.arange(int(graph.edge_start[0]), int(graph.edge_start[1]), dtype=np.int32)
    root_edges = root_edges[keep[root_edges]]
    ranks = np.array([root_rank(_root_name(graph, edge)) for edge in root_edges.tolist()], np.int64)
    if graph.of_v8:  # of equal rank: what a step costs decides between the global object and V8's own roots
        ranks[:] = MODULE
    importing = collected_modules(graph)
    for rank in range(UNKNOWN + 1):
        chosen = root_edges[ranks == rank]
        search.run(chosen, np.zeros(len(chosen), np.int32), rank, late=importing[graph.edge_to[chosen]])
    search.run(passing, passing_sources, THREAD)
    orphans = _orphans(graph, keep, settled)
    settled[orphans] = True
    search.run(*_edges_of(graph, orphans, keep), UNKNOWN)
    for node in _in_cycles(graph, keep, settled):
        settled[node] = True
        search.run(*_edges_of(graph, np.array([node], np.int32), keep), UNKNOWN)
    return tree


def _edges_of(graph: HeapGraph, nodes: Numbers, keep: Mask) -> tuple[Numbers, Numbers]:
    """The edges of ``nodes`` where ``keep`` is set, and the source of each."""
    edges = ragged(graph.edge_start, nodes)
    sources = np.repeat(nodes, graph.edge_start[nodes + 1] - graph.edge_start[nodes])
    kept = keep[edges]
    return edges[kept], sources[kept]


def _edges_of_passing_roots(graph: HeapGraph, keep: Mask) -> tuple[Numbers, Numbers]:
    """The edges out of V8's passing roots, and their sources; none for other files."""
    names = [number for number, text in enumerate(graph.strings) if text in PASSING_ROOTS] if graph.of_v8 else []
    synthetic = [number for number, kind in enumerate(graph.node_kinds) if kind == "synthetic"]
    roots = np.flatnonzero(np.isin(graph.node_name, names) & np.isin(graph.node_kind, synthetic))
    return _edges_of(graph, roots.astype(np.int32), keep)


def _orphans(graph: HeapGraph, keep: Mask, settled: Mask) -> Numbers:
    """What no root candidate reaches, the topmost of each: C, or nobody we know, holds that."""
    lost = np.flatnonzero(~settled).astype(np.int32)
    held = np.zeros(graph.node_count, bool)
    for begin in range(0, len(lost), AT_ONCE):
        edges, sources = _edges_of(graph, lost[begin : begin + AT_ONCE], keep)
        targets = graph.edge_to[edges]
        held[targets[targets != sources]] = True
    return lost[~held[lost]]


def _in_cycles(graph: HeapGraph, keep: Mask, settled: Mask) -> list[int]:
    """Of what is left once all is settled that hangs on the topmost: one of each cycle that nothing holds, rather an
    object than a container of it. Of very many, some."""
    left = np.flatnonzero(~settled).astype(np.int32)
    plain = [number for number, text in enumerate(graph.strings) if text in CONTAINERS or text == "cell"]
    left = left[np.argsort(np.isin(graph.node_name[left], plain), kind="stable")]
    edges, sources = _edges_of(graph, left, keep)
    forward = Links.of(graph.node_count, sources, graph.edge_to[edges])
    # What a later one leads to and no earlier one does, the other way round is led to by no other at all.
    first = _tops(forward, left[: _CYCLES * _CYCLES].tolist(), settled)
    return _tops(forward, first[::-1], settled)


def _tops(forward: Links, nodes: list[int], settled: Mask) -> list[int]:
    """Those of ``nodes`` that no earlier one of them leads to."""
    seen = settled.copy()
    found: list[int] = []
    for node in nodes:
        if seen[node] or len(found) == _CYCLES:
            continue
        found.append(node)
        seen[node] = True
        frontier = [node]
        while frontier:
            frontier = _narrow_levels(forward, frontier, seen)
            if frontier:
                frontier = _wide_level(forward, np.array(frontier, np.int32), seen).tolist()
    return found


def _root_name(graph: HeapGraph, edge: int) -> str:
    kind = graph.edge_kinds[int(graph.edge_kind[edge])]
    if kind in ("element", "hidden", "shortcut"):
        return graph.strings[int(graph.node_name[int(graph.edge_to[edge])])]
    return graph.strings[int(graph.edge_name[edge])]


def _edge_costs(graph: HeapGraph) -> npt.NDArray[np.int8]:
    by_kind = np.full(len(graph.edge_kinds), STEP, np.int8)
    named = np.ones(len(graph.edge_kinds), bool)
    for number, kind in enumerate(graph.edge_kinds):
        if kind in ("internal", "hidden", "shortcut"):
            by_kind[number] = INTERNAL_STEP
        named[number] = kind not in ("element", "hidden")
    by_name = np.zeros(max(1, len(graph.strings)), np.int8)
    for number, text in enumerate(graph.strings):
        if text in NAMES_WITH_PRICE:
            by_name[number] = NAMES_WITH_PRICE[text]
    cost = np.empty(graph.edge_count, np.int8)
    for begin in range(0, len(cost), AT_ONCE):
        kinds = graph.edge_kind[begin : begin + AT_ONCE]
        told = named[kinds]
        price = by_name[np.where(told, graph.edge_name[begin : begin + AT_ONCE], 0)]
        cost[begin : begin + AT_ONCE] = np.where(told & (price > 0), price, by_kind[kinds])
    found = objects_of(graph)
    if found is not None:
        _costs_in_v8(graph, found, cost)
    return cost


def _costs_in_v8(graph: HeapGraph, objects: Objects, cost: npt.NDArray[np.int8]) -> None:
    """What is V8's own (shapes, code, feedback, cells) is a detour; a store and a scope are steps like any other."""
    own = [number for number, kind in enumerate(graph.node_kinds) if kind in ("hidden", "code", "object shape")]
    detour = np.isin(graph.node_kind, own)
    detour[int(graph.edge_start[0])] = False
    cost[detour[graph.edge_to]] = DETOUR
    cost[objects.into_stores | objects.into_scopes] = STEP
    stores = np.unique(graph.edge_to[objects.into_stores]).astype(np.int64)
    entries = ragged(graph.edge_start, stores)
    entries = entries[cost[entries] == INTERNAL_STEP]
    cost[entries] = STEP


class _Search:
    """Dial's algorithm (buckets by cost) over nodes that are not settled yet: many nodes of a bucket by numpy, a few
    by a plain loop."""

    def __init__(self, graph: HeapGraph, keep: Mask, tree: PathTree, settled: Mask) -> None:
        self.start, self.to, self.keep, self.tree, self.settled = graph.edge_start, graph.edge_to, keep, tree, settled
        self.cost = _edge_costs(graph)
        self.many: dict[int, list[tuple[Numbers, Numbers]]] = {}
        self.few: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def run(self, edges: Numbers, sources: Numbers, rank: int, late: Mask | None = None) -> None:
        """Settle all that ``edges`` (from ``sources``) lead to; from those that are ``late`` as if it were further."""
        self.many, distance = {0: [(edges, sources)]}, 0
        if late is not None and late.any():
            self.many = {0: [(edges[~late], sources[~late])], IMPORTED: [(edges[late], sources[late])]}
        while self.many or self.few:
            waiting = self.many.pop(distance, [])
            if waiting or len(self.few.get(distance, ())) > NARROW:
                if distance in self.few:
                    waiting.append(_columns(self.few.pop(distance)))
                nodes = self._settle(waiting, rank)
                for begin in range(0, len(nodes), AT_ONCE):
                    self._expand(nodes[begin : begin + AT_ONCE], distance)
                distance += 1
            else:
                distance = self._plain(distance, rank)

    def _settle(self, waiting: list[tuple[Numbers, Numbers]], rank: int) -> Numbers:
        """Enter each node that is not settled by the first of the ``waiting`` edges that lead to it; the nodes."""
        tree = self.tree
        for place, (edges, sources) in enumerate(waiting):
            fresh = ~self.settled[self.to[edges]]
            waiting[place] = edges[fresh], sources[fresh]
        edges = np.concatenate([edges for edges, _ in waiting])
        sources = np.concatenate([sources for _, sources in waiting])
        waiting.clear()
        if np.any(edges[1:] < edges[:-1]):
            order = np.argsort(edges)
            edges, sources = edges[order], sources[order]
        nodes = self.to[edges]
        tree.edge[nodes[::-1]] = edges[::-1]  # of several the last that is written stays: the first of the file
        first = tree.edge[nodes] == edges
        nodes = nodes[first]
        tree.source[nodes], tree.rank[nodes] = sources[first], rank
        self.settled[nodes] = True
        return _sorted_nodes(nodes, len(self.settled))

    def _expand(self, nodes: Numbers, distance: int) -> None:
        """Put the edges of ``nodes`` into the buckets of their cost."""
        edges, sources = ragged(self.start, nodes), np.repeat(nodes, self.start[nodes + 1] - self.start[nodes])
        open_ = self.keep[edges]
        open_ &= ~self.settled[self.to[edges]]
        edges, sources = edges[open_], sources[open_]
        prices = self.cost[edges]
        for price in (STEP, INTERNAL_STEP, DETOUR):
            chosen = prices == price
            count = int(np.count_nonzero(chosen))
            if count > NARROW:
                self.many.setdefault(distance + price, []).append((edges[chosen], sources[chosen]))
            elif count:
                self.few[distance + price].extend(zip(edges[chosen].tolist(), sources[chosen].tolist(), strict=True))

    def _plain(self, distance: int, rank: int) -> int:
        """Bucket after bucket by a plain loop, until one is large; returns the distance that comes next."""
        start, to, keep, cost = self.start.data, self.to.data, self.keep.data, self.cost.data
        entered, above, ranks = self.tree.edge.data, self.tree.source.data, self.tree.rank.data
        settled, few, many = self.settled.data, self.few, self.many
        while few and distance not in many and len(few.get(distance, ())) <= NARROW:
            for edge, source in sorted(few.pop(distance, ())):
                node = to[edge]
                if settled[node]:
                    continue
                settled[node] = True
                entered[node], above[node], ranks[node] = edge, source, rank
                if start[node + 1] - start[node] > _FEW_EDGES:
                    self._expand(np.array([node], np.int32), distance)
                    continue
                for further in range(start[node], start[node + 1]):
                    if keep[further] and not settled[to[further]]:
                        few[distance + cost[further]].append((further, node))
            distance += 1
        return distance if few or not many else min(many)


def _columns(pairs: list[tuple[int, int]]) -> tuple[Numbers, Numbers]:
    edges, sources = np.array(pairs, np.int32).T
    return edges, sources
