"""Immediate dominators and retained sizes.

A node dominates another if every path from the root to the other goes through it; what a node dominates is
what would be freed with it. Semi-NCA: L. Georgiadis, "Linear-Time Algorithms for Dominators and Related
Problems", Princeton 2005. One source serves plain arrays and numba. Without numba most of a heap need not
pass through it: nodes without outgoing edges are peeled off in rounds (no path leads through them), what of the
cyclic core has one way in is merged (`Regions`), the small rest is left to Semi-NCA, and the peeled nodes get the
nearest common ancestor of their predecessors afterwards, by numpy.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.heap.arrays import distinct
from leakharness.heap.compiled import compiled
from leakharness.heap.dominator_regions import Regions
from leakharness.heap.graph import HeapGraph
from leakharness.heap.paths import AT_ONCE, Links, depths, links, pieces, ragged, reachable, sums_upwards
from leakharness.heap.v8_objects import ephemeron_copies

__all__ = ["Dominators", "dominators", "retained_sizes", "strong_edges"]

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
UNREACHABLE = -1


@dataclass(frozen=True, eq=False)
class Dominators:
    """The dominator tree. ``parent[node]`` is the immediate dominator (the root's own parent is the root, -1
    where no strong path leads); ``depth[node]`` its distance from the root in the tree, -1 likewise.
    """

    parent: Numbers
    depth: Numbers


def strong_edges(graph: HeapGraph, *, ephemerons: str = "key") -> npt.NDArray[np.bool_]:
    """Edges that keep their target alive: all but weak ones, and V8's shortcuts where they do not start at the root.

    The value of a WeakMap's entry is held by its key and the table together. ``ephemerons="key"``: the key alone holds
    it, as in Chrome DevTools; ``"both"``: either does, as in memlab (see `leakharness.heap.v8`).
    """
    keep = np.ones(graph.edge_count, bool)
    if "weak" in graph.edge_kinds:
        keep &= graph.edge_kind != graph.edge_kinds.index("weak")
    if "shortcut" in graph.edge_kinds:
        shortcut = graph.edge_kind == graph.edge_kinds.index("shortcut")
        shortcut[: int(graph.edge_start[1])] = False
        keep &= ~shortcut
    if ephemerons == "key":
        keep[ephemeron_copies(graph)] = False
    return keep


def dominators(graph: HeapGraph, *, ephemerons: str = "key") -> Dominators:
    """The dominator tree of the nodes that `strong_edges` reach from node 0."""
    forward = links(graph, strong_edges(graph, ephemerons=ephemerons))
    search = compiled(_semi_nca)
    if search is not None:
        parent = _core(forward, search)
    else:
        live = reachable(forward)
        backward, outgoing = _telling(forward, live)
        del forward  # as large as the graph, and not needed any more
        parent = _peeled(backward, outgoing, live)
    return Dominators(parent, _depths(parent))


def retained_sizes(graph: HeapGraph, tree: Dominators) -> Ints:
    """Bytes that each node keeps alive: its own size and that of all it dominates; 0 where it is
    unreachable.
    """
    return sums_upwards(np.where(tree.depth >= 0, graph.self_size, 0), tree.parent, tree.depth)


def _depths(parent: Numbers) -> Numbers:
    """Depth of each node below the root, which is its own parent."""
    above = parent.copy()
    above[0] = UNREACHABLE
    found = depths(above)
    found[parent < 0] = UNREACHABLE
    return found


def _core(forward: Links, search: Any) -> Numbers:
    """Semi-NCA over a whole graph; ``search`` is `_semi_nca`, compiled or plain."""
    n = len(forward.start) - 1
    backward = forward.reversed()
    given = [backward.to, backward.start, forward.to, forward.start]
    del forward, backward  # each column goes once it is copied
    arrays: list[Any]
    if search is _semi_nca:
        # As quick as lists for a plain loop, in a quarter of the memory: nodes and edges number below 2**31.
        arrays = [_plain_array(given.pop()) for _ in range(4)]
        arrays += [array("i", [UNREACHABLE]) * n for _ in range(6)]
        arrays += [array("i", [0]) * (n + 1), arrays[0][:-1]]
    else:
        arrays = [np.ascontiguousarray(given.pop(), np.int32) for _ in range(4)]
        arrays += [np.full(n, UNREACHABLE, np.int32) for _ in range(6)]
        arrays += [np.zeros(n + 1, np.int32), arrays[0][:-1].copy()]
    found = search(*arrays)
    vertex = np.asarray(arrays[4])[:found]
    above = np.asarray(arrays[5])[:found]
    parent = np.full(n, UNREACHABLE, np.int32)
    parent[vertex] = vertex[above]
    return parent


def _plain_array(column: Numbers) -> array[int]:
    found = array("i")
    found.frombytes(np.ascontiguousarray(column, np.int32).data.cast("B"))
    return found


def _semi_nca(  # type: ignore[no-untyped-def]
    start, to, back_start, back_to, vertex, idom, number, semi, label, ancestor, stack, cursor
):
    """Semi-NCA from node 0. Fills ``vertex`` (nodes in depth-first order) and ``idom`` (by that number).

    Flat loops over arrays of integers alone, for `compiled`. Returns how many nodes were reached.
    Long because numba compiles one function, and a call in its inner loops would cost more than the step itself.
    """
    number[0] = 0
    vertex[0] = 0
    idom[0] = 0
    found = 1
    stack[0] = 0
    height = 1
    while height > 0:  # depth-first numbering; idom holds the parent in the search tree for now
        node = stack[height - 1]
        at = cursor[node]
        if at == start[node + 1]:
            height -= 1
            continue
        cursor[node] = at + 1
        child = to[at]
        if number[child] < 0:
            number[child] = found
            vertex[found] = child
            idom[found] = number[node]
            found += 1
            stack[height] = child
            height += 1
    for i in range(found):
        semi[i] = i
        label[i] = i
        ancestor[i] = idom[i]
    for i in range(found - 1, 0, -1):  # semidominators; nodes numbered above i are linked
        node = vertex[i]
        best = idom[i]
        for at in range(back_start[node], back_start[node + 1]):
            v = number[back_to[at]]
            if v < 0:
                continue
            candidate = v
            if v > i:
                height = 0
                x = v
                while ancestor[x] > i:
                    stack[height] = x
                    height += 1
                    x = ancestor[x]
                while height > 0:  # path compression, from the top down
                    height -= 1
                    y = stack[height]
                    up = ancestor[y]
                    if semi[label[up]] < semi[label[y]]:
                        label[y] = label[up]
                    ancestor[y] = ancestor[x]
                candidate = semi[label[v]]
            if candidate < best:
                best = candidate
        semi[i] = best
    # the dominator is the nearest ancestor numbered no higher than the semidominator
    for i in range(1, found):
        above = idom[i]
        while above > semi[i]:
            above = idom[above]
        idom[i] = above
    return found


def _telling(forward: Links, live: Mask) -> tuple[Links, Numbers]:
    """The predecessors of each node, and how many edges go out from it, by the edges that say something about
    dominators: none from the dead, into the root, to itself, or beside an edge of the root."""
    n = len(forward.start) - 1
    below_root = np.zeros(n, bool)
    below_root[forward.to[: forward.start[1]]] = True
    outgoing = np.zeros(n, np.int32)
    pairs, count = np.empty(len(forward.to), np.int64), 0
    for begin, end, first, last in pieces(forward.start):
        source, to = np.repeat(np.arange(begin, end), np.diff(forward.start[begin : end + 1])), forward.to[first:last]
        tells = live[source] & (to != 0) & (source != to) & ((source == 0) | ~below_root[to])
        source, further = source[tells], count + int(np.count_nonzero(tells))
        outgoing[begin:end] = np.bincount(source - begin, minlength=end - begin)
        np.left_shift(to[tells], 32, out=pairs[count:further], dtype=np.int64)
        pairs[count:further] |= source
        count = further
    return Links.of_pairs(n, pairs[:count]), outgoing


def _peeled(backward: Links, outgoing: Numbers, live: Mask) -> Numbers:
    layers, core = _peel(backward, outgoing, live)
    parent = _core_parents(backward, core)
    if layers:
        depth = _depths(parent)
        for layer in reversed(layers):
            for begin in range(0, len(layer), AT_ONCE):
                _attach(layer[begin : begin + AT_ONCE], backward, parent, depth)
    return parent


def _peel(backward: Links, outgoing: Numbers, live: Mask) -> tuple[list[Numbers], Mask]:
    """Rounds of nodes that have no outgoing edge left, and what remains. ``outgoing`` is counted down."""
    n = len(live)
    core = live.copy()
    outgoing[0] = np.iinfo(np.int32).max  # the root stays
    layer = np.flatnonzero(core & (outgoing == 0)).astype(np.int32)
    least = max(8, n // _SMALLEST_ROUND)
    layers: list[Numbers] = []
    while len(layer):
        core[layer] = False
        layers.append(layer)
        further = [np.zeros(0, np.int32)]
        for begin in range(0, len(layer), AT_ONCE):
            held_by = np.sort(backward.to[ragged(backward.start, layer[begin : begin + AT_ONCE])])
            firsts = np.flatnonzero(np.concatenate([[True], held_by[1:] != held_by[:-1]])[: len(held_by)])
            lost = held_by[firsts]
            outgoing[lost] -= np.diff(firsts, append=len(held_by)).astype(np.int32)
            further.append(lost[(outgoing[lost] == 0) & core[lost]])
        layer = np.sort(np.concatenate(further))
        if len(layer) < least and len(layers) > 1:
            break
    return layers, core


_SMALLEST_ROUND = 200_000  # a round of fewer than this fraction of the nodes costs more than it saves


def _core_parents(backward: Links, core: Mask) -> Numbers:
    nodes = np.flatnonzero(core).astype(np.int32)
    regions = Regions.of(len(nodes), *_within(backward, nodes))
    few, sources, targets = regions.left()
    place = np.zeros(len(nodes), np.int32)
    place[few] = np.arange(len(few), dtype=np.int32)
    found = _core(Links.of(len(few), place[sources], place[targets]), _semi_nca)
    above = regions.parent
    above[few] = few[found]
    parent = np.full(len(core), UNREACHABLE, np.int32)
    parent[nodes] = nodes[above]
    return parent


def _within(backward: Links, nodes: Numbers) -> tuple[Numbers, Numbers]:
    """Targets and sources of the edges between ``nodes`` alone, which are numbered by their places; in the order of the
    targets."""
    position = np.full(len(backward.start) - 1, UNREACHABLE, np.int32)
    position[nodes] = np.arange(len(nodes), dtype=np.int32)
    degree = backward.start[nodes + 1] - backward.start[nodes]
    targets, sources = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for begin in range(0, len(nodes), AT_ONCE):
        some = nodes[begin : begin + AT_ONCE]
        source = position[backward.to[ragged(backward.start, some)]]
        inside = source >= 0
        targets.append(np.repeat(position[some], degree[begin : begin + AT_ONCE])[inside])
        sources.append(source[inside])
    return np.concatenate(targets), np.concatenate(sources)


def _attach(layer: Numbers, backward: Links, parent: Numbers, depth: Numbers) -> None:
    """Hang nodes of a peeled layer into the tree: below the nearest common ancestor of the predecessors of each
    node.
    """
    degree = backward.start[layer + 1] - backward.start[layer]
    single = layer[degree == 1]
    parent[single] = backward.to[backward.start[single]]
    several = layer[degree > 1]
    if len(several):
        owner = np.repeat(several, degree[degree > 1])
        pointer = backward.to[ragged(backward.start, several)]
        nodes, ancestors = _common_ancestors(owner, pointer, parent, depth)
        parent[nodes] = ancestors
    depth[layer] = depth[parent[layer]] + 1


def _common_ancestors(owner: Numbers, pointer: Numbers, parent: Numbers, depth: Numbers) -> tuple[Numbers, Numbers]:
    """For each owner the nearest common ancestor of its pointers: all climb together until one is left."""
    done: list[tuple[Numbers, Numbers]] = []
    while True:
        pairs = owner.astype(np.int64)
        pairs <<= 32
        pairs |= pointer
        pairs = distinct(pairs)
        owner, pointer = (pairs >> 32).astype(np.int32), pairs.astype(np.int32)
        first = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]]))
        count = np.diff(np.append(first, len(owner)))
        single = count == 1
        done.append((owner[first[single]], pointer[first[single]]))
        if single.all():
            return np.concatenate([nodes for nodes, _ in done]), np.concatenate([tops for _, tops in done])
        keep = ~np.repeat(single, count)
        owner, pointer, count = owner[keep], pointer[keep], count[~single]
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        level = depth[pointer]
        lowest, highest = np.minimum.reduceat(level, first), np.maximum.reduceat(level, first)
        goal = np.repeat(np.where(lowest == highest, lowest - 1, lowest), count)
        climbing = np.flatnonzero(level > goal)
        while len(climbing):
            pointer[climbing] = parent[pointer[climbing]]
            climbing = climbing[depth[pointer[climbing]] > goal[climbing]]
