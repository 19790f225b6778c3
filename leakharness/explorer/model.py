"""What the explorer shows of a heap: types, instances, holders, what they hold, dominators. Pure; knows no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from leakharness.heap.dominators import Dominators, dominators, retained_sizes
from leakharness.heap.families import credited_sizes, family_names
from leakharness.heap.graph import HeapGraph
from leakharness.heap.names import Names
from leakharness.heap.paths import Links

__all__ = ["Entry", "Heap", "TypeRow"]

MOST = 200
"""Entries below one line: more are told by their number."""


@dataclass(frozen=True)
class TypeRow:
    """All objects of one name. ``count_delta`` and ``size_delta`` are against the other file, where there is one."""

    name: str
    count: int
    size: int
    count_delta: int = 0
    size_delta: int = 0
    number: int = -1
    """Of the group among the graph's; -1 where only the other file has it."""


@dataclass(frozen=True)
class Entry:
    """One object below another: the edge by which, and its own size. ``more`` stands for so many that are not told."""

    node: int
    edge: str
    more: int = 0


class Heap:
    """One snapshot, and another one to compare it with."""

    def __init__(self, graph: HeapGraph, earlier: HeapGraph | None = None) -> None:
        self.graph = graph
        self.earlier = earlier
        self.names = Names(graph)

    def types(self, search: str = "") -> list[TypeRow]:
        """Every name with what has it, largest first; by growth where there is an earlier file. ``search`` is a part
        of the name, in any case."""
        old = _Kinds(self.earlier).sums() if self.earlier is not None else {}
        new = self._kinds.sums()
        rows = []
        for name in new.keys() | old.keys():
            if search.lower() not in name.lower():
                continue
            count, size, number = new.get(name, (0, 0, -1))
            was_count, was_size, _ = old.get(name, (count, size, -1) if self.earlier is None else (0, 0, -1))
            rows.append(TypeRow(name, count, size, count - was_count, size - was_size, number))
        rows.sort(key=lambda row: (-row.size_delta, -row.size, row.name))
        return rows

    def instances(self, row: TypeRow) -> list[Entry]:
        """The objects of a name, largest first: by retained size once that is known."""
        found = np.flatnonzero(self._kinds.of_node == row.number)
        weights = self.retained if self.has_dominators else self._kinds.sizes
        order = found[np.argsort(-weights[found], kind="stable")]
        return self._cut(((int(node), "") for node in order[:MOST]), len(order))

    def holders(self, node: int) -> list[Entry]:
        """Who refers to an object, and by what name."""
        edges = self._incoming.to[int(self._incoming.start[node]) : int(self._incoming.start[node + 1])]
        pairs = ((self.graph.edge_source(int(edge)), self.graph.edge_text(int(edge))) for edge in edges[:MOST])
        return self._cut(pairs, len(edges))

    def dominated(self, node: int) -> list[Entry]:
        """What would be freed with an object, largest first."""
        begin, end = int(self._children.start[node]), int(self._children.start[node + 1])
        kids = self._children.to[begin:end]
        kids = kids[(kids != node) & (self.tree.parent[kids] == node)]
        order = kids[np.argsort(-self.retained[kids], kind="stable")]
        return self._cut(((int(kid), "") for kid in order[:MOST]), len(order))

    def size(self, node: int) -> int:
        """Shallow, in bytes, with the stores that are the object's own."""
        return int(self._kinds.sizes[node])

    @property
    def has_dominators(self) -> bool:
        """Whether retained sizes are known already: they take seconds for a million objects."""
        return "retained" in self.__dict__

    @cached_property
    def _kinds(self) -> _Kinds:
        return _Kinds(self.graph)

    @cached_property
    def tree(self) -> Dominators:
        return dominators(self.graph)

    @cached_property
    def retained(self) -> npt.NDArray[np.int64]:
        return retained_sizes(self.graph, self.tree)

    @cached_property
    def _children(self) -> Links:
        n = self.graph.node_count
        return Links.of(n, np.where(self.tree.parent >= 0, self.tree.parent, 0), np.arange(n))

    @cached_property
    def _incoming(self) -> Links:
        """The edges into each node."""
        return Links.of(self.graph.node_count, self.graph.edge_to.astype(np.int64), np.arange(self.graph.edge_count))

    @staticmethod
    def _cut(pairs: Iterator[tuple[int, str]], count: int) -> list[Entry]:
        found = [Entry(node, edge) for node, edge in pairs]
        return [*found, Entry(-1, "", count - len(found))] if count > len(found) else found


class _Kinds:
    """The objects of a graph by what they are called, with the sizes that count for them: as `diff` has both."""

    def __init__(self, graph: HeapGraph) -> None:
        self.of_node, self.names = family_names(graph)
        self.sizes = credited_sizes(graph)

    def sums(self) -> dict[str, tuple[int, int, int]]:
        """By name: how many, their bytes, the group's number."""
        count = np.bincount(self.of_node)
        size = np.bincount(self.of_node, weights=self.sizes)
        return {
            self.names[group] or "(nameless)": (int(count[group]), int(size[group]), group)
            for group in np.flatnonzero(count).tolist()
        }
