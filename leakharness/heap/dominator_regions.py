"""Most of a cyclic heap's dominators by numpy: regions that can be entered at one node alone are found and merged.

A node whose predecessors lie in its own region and in one other belongs to that other region, and its immediate
dominator is the nearest common ancestor of those predecessors in the tree of it: the intervals of flow graphs
(T1 and T2 of M. Hecht and J. Ullman, "Flow Graph Reducibility", 1972), all of a round at once. An object with its
closures, scopes and back references is one region after two rounds. What has several ways in is left: a small graph
that has the same dominators, since a region may be replaced by its tree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakharness.heap.arrays import distinct

__all__ = ["Regions"]

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

_LEAST_SHARE = 20  # a round that merges less than this fraction of what is left is the last
_DEEP = 64  # a tree deeper than this is not climbed level by level: the search for what is left takes it
_NOBODY = -1


@dataclass(eq=False)
class Regions:
    """Nodes 0 to n, of which 0 is the root and all can be reached; edges in the order of their targets.

    ``parent`` is the immediate dominator of every node that is not the entry of its region; ``region`` that entry.
    """

    target: Numbers
    source: Numbers
    parent: Numbers
    region: Numbers
    depth: Numbers

    @classmethod
    def of(cls, n: int, target: Numbers, source: Numbers) -> Regions:
        found = cls(target, source, np.full(n, _NOBODY, np.int32), np.arange(n, dtype=np.int32), np.zeros(n, np.int32))
        left = n
        while True:
            merged = found._merge()
            if merged * _LEAST_SHARE < left:
                return found
            left -= merged

    def _merge(self) -> int:
        """One round; returns how many regions became part of another."""
        held_by = self.region[self.source]
        foreign = held_by != self.target  # what a region's own nodes point back to is dominated by its entry
        if not foreign.all():
            self.target, self.source, held_by = self.target[foreign], self.source[foreign], held_by[foreign]
        if not len(self.target):
            return 0
        first = np.flatnonzero(np.concatenate([[True], self.target[1:] != self.target[:-1]]))
        count = np.diff(np.append(first, len(self.target)))
        single = np.minimum.reduceat(held_by, first) == np.maximum.reduceat(held_by, first)
        single &= (count == 1) | (np.maximum.reduceat(self.depth[self.source], first) <= _DEEP)
        entries = self.target[first[single]]
        one = single & (count == 1)
        self.parent[self.target[first[one]]] = self.source[first[one]]
        several = single & (count > 1)
        if several.any():
            pointer, many = self.source[np.repeat(several, count)], count[several]
            self.parent[self.target[first[several]]] = _ancestors(
                pointer, np.cumsum(many) - many, self.parent, self.depth
            )
        rest = ~np.repeat(single, count)
        self.target, self.source = self.target[rest], self.source[rest]
        self._grow(entries)
        return len(entries)

    def _grow(self, entries: Numbers) -> None:
        """Take the regions of ``entries`` into those of their parents: chains of them by doubling."""
        over = np.arange(len(self.region), dtype=np.int32)
        lower = np.zeros(len(self.region), np.int32)
        above = self.parent[entries]
        over[entries], lower[entries] = self.region[above], self.depth[above] + 1
        active = entries
        while len(active):
            further = over[over[active]]
            active, further = active[further != over[active]], further[further != over[active]]
            more = lower[over[active]]
            lower[active] += more
            over[active] = further
        self.depth += lower[self.region]
        self.region = over[self.region]

    def left(self) -> tuple[Numbers, Numbers, Numbers]:
        """(nodes, sources, targets) of a graph with the same dominators for the entries that are left: they, the nodes
        from which edges lead to them, and all above those in their regions' trees; edges by number of node."""
        target, source = self._edges_left()
        needed = np.zeros(len(self.region), bool)
        needed[0] = True
        needed[target] = True
        parent = self.parent.data
        marked = needed.data
        for node in distinct(source).tolist():
            while not marked[node]:
                marked[node] = True
                node = parent[node]
        nodes = np.flatnonzero(needed).astype(np.int32)
        below = nodes[self.parent[nodes] >= 0]
        return nodes, np.concatenate([self.parent[below], source]), np.concatenate([below, target])

    def _edges_left(self) -> tuple[Numbers, Numbers]:
        """The edges between regions; of several from one region to one entry that from their common ancestor alone."""
        deep = self.depth[self.source] > _DEEP
        target, source = self.target[~deep], self.source[~deep]
        if len(target):
            number = np.cumsum(self.parent < 0) - 1  # of an entry
            held_by = number[self.region[source]]
            # sorted digit by digit where 16 bits are enough; the targets of each stay in their order
            order = np.argsort(held_by.astype(np.uint16 if int(number[-1]) < 1 << 16 else np.int32), kind="stable")
            target, source, held_by = target[order], source[order], held_by[order]
            new = (target[1:] != target[:-1]) | (held_by[1:] != held_by[:-1])
            first = np.flatnonzero(np.concatenate([[True], new]))
            target, source = target[first], _ancestors(source, first, self.parent, self.depth)
        return np.concatenate([self.target[deep], target]), np.concatenate([self.source[deep], source])


def _ancestors(pointer: Numbers, first: Ints, parent: Numbers, depth: Numbers) -> Numbers:
    """The nearest common ancestor of each stretch of ``pointer``, which begin at ``first``, each within one tree: all
    climb to the highest of them, and then together until they meet."""
    found = np.empty(len(first), np.int32)
    waiting = np.arange(len(first))
    while len(waiting):
        count = np.diff(first, append=len(pointer))
        level = depth[pointer]
        goal = np.repeat(np.minimum.reduceat(level, first), count)
        climbing = np.flatnonzero(level > goal)
        while len(climbing):
            pointer[climbing] = parent[pointer[climbing]]
            climbing = climbing[depth[pointer[climbing]] > goal[climbing]]
        lowest = np.minimum.reduceat(pointer, first)
        met = lowest == np.maximum.reduceat(pointer, first)
        found[waiting[met]] = lowest[met]
        waiting, pointer = waiting[~met], parent[pointer[np.repeat(~met, count)]]
        first = np.cumsum(count[~met]) - count[~met]
    return found
