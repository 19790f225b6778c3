"""The objects of a snapshot as families: their sizes, how many they are, and what they are called.

In V8's files an object's stores count for the object (`size_owners`), and what V8 names by its own text (strings,
numbers, regular expressions) or by its function (closures, code) is one family a kind, as DevTools shows both. Ours
have neither.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leakharness.heap.definitions import definition_kind
from leakharness.heap.dominators import Dominators
from leakharness.heap.graph import HeapGraph
from leakharness.heap.v8_objects import NAMED_BY_TEXT, PARTS_OF_CODE, size_owners

__all__ = ["Families", "credited_sizes", "family_names", "retained_of_families"]

Ints = npt.NDArray[np.int64]


def credited_sizes(graph: HeapGraph) -> Ints:
    """Shallow sizes with each store's bytes at the object whose it is."""
    if not graph.of_v8 or not graph.edge_count:
        return graph.self_size
    return np.bincount(size_owners(graph), weights=graph.self_size, minlength=graph.node_count).astype(np.int64)


def family_names(graph: HeapGraph) -> tuple[npt.NDArray[np.int32], list[str]]:
    """What each node is called, as numbers of the strings given back: equal texts have one number."""
    strings = graph.strings
    if not graph.of_v8:
        return _definitions_by_kind(_same_text_once(graph.node_name, strings), strings)
    kinds = [number for number, kind in enumerate(graph.node_kinds) if kind in NAMED_BY_TEXT + PARTS_OF_CODE]
    own = np.full(len(graph.node_kinds), -1, np.int32)
    own[kinds] = len(strings) + np.arange(len(kinds))
    of_kind = own[graph.node_kind]
    names = np.where(of_kind >= 0, of_kind, graph.node_name)
    strings = [*strings, *(f"({graph.node_kinds[kind]})" for kind in kinds)]
    return _same_text_once(names, strings, last=len(kinds)), strings


def _definitions_by_kind(names: npt.NDArray[np.int32], strings: list[str]) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Python's classes, functions, modules and code under one name a kind: each has a name of its own, and a thousand
    small rows say less than one. What was defined while the program ran (``<locals>``) keeps its name."""
    words = [definition_kind(text) for text in strings]
    kinds = sorted({word for word in words if word})
    if not kinds:
        return names, strings
    number = {word: len(strings) + place for place, word in enumerate(kinds)}
    folded = np.array([number.get(word, place) for place, word in enumerate(words)], np.int32)
    return folded[names], [*strings, *(f"({word})" for word in kinds)]


def _same_text_once(names: npt.NDArray[np.int32], strings: list[str], last: int = 0) -> npt.NDArray[np.int32]:
    """Names with equal strings under one number, but for the ``last`` strings; V8's tables have each once, foreign ones
    may not."""
    used = np.flatnonzero(np.bincount(names, minlength=len(strings))[: len(strings) - last])
    texts = [strings[number] for number in used.tolist()]
    if len(set(texts)) == len(texts):
        return names
    first: dict[str, int] = {}
    canonical = np.arange(len(strings), dtype=np.int32)
    canonical[used] = [first.setdefault(text, number) for text, number in zip(texts, used.tolist(), strict=True)]
    return canonical[names]


class Families:
    """Bytes, count and first node of each (kind, name) in one snapshot, as columns. ``raw``: names and sizes as they
    are in the file."""

    def __init__(self, graph: HeapGraph, *, raw: bool = False) -> None:
        names, self.strings = (
            (_same_text_once(graph.node_name, graph.strings), graph.strings) if raw else family_names(graph)
        )
        sizes = graph.self_size if raw else credited_sizes(graph)
        used, self.of_node, self.first = _grouped(graph.node_kind, names, len(self.strings))
        width = np.int64(len(self.strings))
        self.kind, self.name = used // width, used % width
        self.count = np.bincount(self.of_node, minlength=len(used))
        self.size = np.bincount(self.of_node, weights=sizes, minlength=len(used)).astype(np.int64)  # exact below 2**53
        self.kinds = graph.node_kinds

    def key(self, row: int) -> tuple[str, str]:
        return self.kinds[int(self.kind[row])], self.strings[int(self.name[row])]

    def less(self, earlier: Families) -> tuple[Ints, Ints, int]:
        """Bytes and objects of each row more than it had in an earlier snapshot, and the bytes of the rows that are
        there no more."""
        place = {earlier.strings[name]: name for name in np.unique(earlier.name).tolist()}
        used, inverse = np.unique(self.name, return_inverse=True)
        name = np.array([place.get(self.strings[number], -1) for number in used.tolist()], np.int64)[
            inverse.reshape(-1)
        ]
        kinds = {kind: number for number, kind in enumerate(earlier.kinds)}
        kind = np.array([kinds.get(text, -1) for text in self.kinds], np.int64)[self.kind]
        width = len(earlier.strings)
        before = earlier.kind * width + earlier.name  # in ascending order
        wanted = kind * width + name
        at = np.minimum(np.searchsorted(before, wanted), max(0, len(before) - 1))
        known = (kind >= 0) & (name >= 0) & (before[at] == wanted)
        stays = np.zeros(len(before), bool)
        stays[at[known]] = True
        sizes, counts = self.size.copy(), self.count.astype(np.int64)
        sizes[known] -= earlier.size[at[known]]
        counts[known] -= earlier.count[at[known]]
        return sizes, counts, int(earlier.size[~stays].sum())

    def all_keys(self) -> list[tuple[str, str]]:
        return [
            (self.kinds[kind], self.strings[name])
            for kind, name in zip(self.kind.tolist(), self.name.tolist(), strict=True)
        ]


def _grouped(
    kinds: npt.NDArray[np.uint8], names: npt.NDArray[np.int32], strings: int
) -> tuple[Ints, npt.NDArray[np.int32], Ints]:
    """The pairs of kind and name that occur, as numbers in ascending order; which of them each node has; and the first
    node of each. By counting, as the pairs are few beside the nodes."""
    there = np.flatnonzero(np.bincount(names, minlength=strings))
    place = np.zeros(strings, np.int32)
    place[there] = np.arange(len(there), dtype=np.int32)
    keys = place[names]
    keys += kinds.astype(np.int32) * np.int32(len(there))  # kinds are few, and names no more than nodes
    found = np.flatnonzero(np.bincount(keys))
    number = np.zeros(int(found[-1]) + 1, np.int32)
    number[found] = np.arange(len(found), dtype=np.int32)
    of_node = number[keys]
    first = np.zeros(len(found), np.int64)
    first[of_node[::-1]] = np.arange(len(names) - 1, -1, -1)  # of several the last that is written stays
    return found // len(there) * strings + there[found % len(there)], of_node, first


def retained_of_families(families: Families, tree: Dominators, retained: Ints) -> Ints:
    """Bytes that each family retains: those of its objects that no other of them dominates, as DevTools adds them."""
    enter, leave = _intervals(tree)
    reached = np.flatnonzero(tree.depth >= 0)
    order = reached[np.lexsort((enter[reached], families.of_node[reached]))]
    family = families.of_node[order]
    # Intervals of a tree are nested or apart: one is inside an earlier one of its family if it ends before the
    # largest end so far. Offsets keep the families apart.
    offset = family.astype(np.int64) * (len(enter) + 1)
    furthest = np.maximum.accumulate(leave[order] + offset)
    before = np.concatenate([[-1], furthest[:-1]])
    outermost = enter[order] + offset >= before
    total = np.bincount(family[outermost], weights=retained[order[outermost]], minlength=len(families.size))
    return total.astype(np.int64)


def _intervals(tree: Dominators) -> tuple[Ints, Ints]:
    """Where each node's subtree begins and ends in an order in which a node comes before all below it."""
    n = len(tree.parent)
    nodes = np.flatnonzero(tree.depth >= 0)
    order = nodes[np.argsort(tree.depth[nodes], kind="stable")].tolist()
    sizes, parents = [1] * n, tree.parent.tolist()
    for node in reversed(order):
        if node:
            sizes[parents[node]] += sizes[node]
    enter, free = [0] * n, [1] * n
    for node in order:
        if node:
            above = parents[node]
            enter[node] = enter[above] + free[above]
            free[above] += sizes[node]
    begin = np.array(enter, np.int64)
    return begin, begin + np.array(sizes, np.int64)
