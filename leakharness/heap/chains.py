"""Targets by the ends of their retainer paths: which edge to cut, and which of them hang on one another.

Nothing here walks a whole path for each target: a linked list of n objects has paths of n / 2 steps on average.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakharness.heap.arrays import numbered, packed
from leakharness.heap.names import Names
from leakharness.heap.paths import PathTree, sums_upwards
from leakharness.heap.v8_objects import VALUE, edge_names
from leakharness.heap.wording import holding_index, path_entries

__all__ = ["Chained", "alike_paths", "chained", "edges_to_cut", "entries_of_their_own"]

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]

_LOOKED_AT = 16  # steps from the end of a path among which the edge to cut lies
_LONGEST_LINK = 8  # steps (attribute, dict, list, entry, ...) from one object of a chain to the next
_COMPARED = 12  # steps from the end of a path that are compared at once for many nodes
_LINKS_SHOWN = 3
_NAMED_LINKS = 8  # ways from one to the next that are told by name; more are keys
_KEY = re.compile(r"\['.*?'\]", re.DOTALL)
# Names of edges that `path_entries` and `holding_index` treat in a way of their own; all others read alike.
_TELLING_NAMES = ("__dict__", "cell_contents", "__traceback__", "tb_frame", "f_", "gi_", "cr_", "ag_", "__", "<")


@dataclass(frozen=True, eq=False)
class Chained:
    """For each target (by its place among them) the place of the one that heads its chain, its own where no other
    target is near above it; and the edges, as words, that lead from one to the next, the most common first."""

    head: Numbers
    link_of: Numbers
    """Number of the way in which it hangs on the one before; -1 for a head."""
    words: tuple[str, ...]

    def links(self, places: Sequence[int] | Ints) -> tuple[str, ...]:
        """How those of the targets at ``places`` that are no heads hang on the ones before them."""
        numbers = self.link_of[np.asarray(places, np.int64)]
        counts = np.bincount(numbers[numbers >= 0], minlength=len(self.words))
        by_word: dict[str, int] = {}
        for number in np.flatnonzero(counts).tolist():
            by_word[self.words[number]] = by_word.get(self.words[number], 0) + int(counts[number])
        return tuple(sorted(by_word, key=lambda word: (-by_word[word], word))[:_LINKS_SHOWN])


def chained(names: Names, tree: PathTree, nodes: Numbers, families: Ints) -> Chained:
    """Which of ``nodes`` hang on another of the same family (``families`` has a number for each): their retainer path
    comes from it by a few steps, as in a linked list, a tree, a chain of parents."""
    place_of = np.full(names.graph.node_count, -1, np.int32)
    before, steps = np.full(len(nodes), -1, np.int32), np.zeros(len(nodes), np.int32)
    # A container is no link: what is in a list of lists, or in an array that hangs on another, is no chain of them.
    searching = np.flatnonzero(~names.between[nodes]).astype(np.int32)
    place_of[nodes[searching]] = searching
    above = tree.source[nodes[searching]]
    for step in range(1, _LONGEST_LINK + 1):
        inside = above > 0
        searching, above = searching[inside], above[inside]
        place = place_of[above]
        found = (place >= 0) & (families[place] == families[searching]) & (nodes[searching] != above)
        before[searching[found]], steps[searching[found]] = place[found], step
        going = ~found & names.between[above]
        searching, above = searching[going], tree.source[above[going]]
    head = np.where(before >= 0, before, np.arange(len(nodes), dtype=np.int32))
    moving = np.flatnonzero(before >= 0)
    while len(moving):
        further = head[head[moving]]
        moving, further = moving[further != head[moving]], further[further != head[moving]]
        head[moving] = further
    link_of, words = _links(names, tree, nodes, steps)
    return Chained(head, link_of, words)


def _links(names: Names, tree: PathTree, nodes: Numbers, steps: Numbers) -> tuple[Numbers, tuple[str, ...]]:
    """The way of each node that has ``steps`` to the one before, as a number, and what the numbers say."""
    link_of = np.full(len(nodes), -1, np.int32)
    words: list[str] = []
    for length in np.unique(steps[steps > 0]).tolist():
        places = np.flatnonzero(steps == length)
        suffix = _suffixes(names, tree, nodes[places], length, by_name=True)
        if many := int(suffix.max()) >= _NAMED_LINKS:  # entries of dicts, each under a key of its own
            suffix = _suffixes(names, tree, nodes[places], length)
        first, number = numbered(suffix)
        link_of[places] = number + len(words)
        for place in places[first].tolist():
            edges = _last_steps(tree, int(nodes[place]), length)
            entries = path_entries(names, edges, full=False, shared=set())[1:]
            text = "".join(entry.access for entry in entries).lstrip(".") or "reference"
            words.append(_KEY.sub("[*]", text) if many else text)
    return link_of, tuple(words)


def edges_to_cut(names: Names, tree: PathTree, nodes: Sequence[int]) -> array[int]:
    """For each node the edge whose cutting frees it: that of what holds it (`holding_index`), -1 where nothing known
    does."""
    wanted = np.asarray(nodes, np.int32)
    suffix = _suffixes(names, tree, wanted, _LOOKED_AT)
    first, number = numbered(suffix)
    up = np.array([_steps_to_cut(names, tree, int(wanted[place])) for place in first.tolist()], np.int64)
    climb = up[number]
    here = wanted.copy()
    for step in range(int(climb.max(initial=0))):
        moving = climb > step
        here[moving] = tree.source[here[moving]]
    return packed(np.where(climb >= 0, tree.edge[here], -1))


def _steps_to_cut(names: Names, tree: PathTree, node: int) -> int:
    """How many steps before the end of a node's path the edge to cut is; -1 where there is none."""
    steps = _last_steps(tree, node, _LOOKED_AT)
    entries = path_entries(names, steps, full=False, shared=set())
    edge = entries[holding_index(entries)].edge if entries else None
    return -1 if edge is None else len(steps) - 1 - steps.index(edge)


def _last_steps(tree: PathTree, node: int, most: int) -> list[int]:
    found: list[int] = []
    while len(found) < most and (edge := int(tree.edge[node])) >= 0:
        found.append(edge)
        node = int(tree.source[node])
    return found[::-1]


def _suffixes(names: Names, tree: PathTree, nodes: Numbers, most: int, *, by_name: bool = False) -> Numbers:
    """A number for the last steps of each node's path, equal for those that read alike up to positions and, without
    ``by_name``, keys."""
    return _walked(names, tree, nodes, most, by_name=by_name)[0]


def alike_paths(names: Names, tree: PathTree, nodes: Numbers) -> Numbers:
    """A number for each node, equal for those whose paths have the same steps, up to positions. Of paths longer than
    `_COMPARED` steps only the ones that end alike below the same node are found."""
    suffix, here = _walked(names, tree, nodes, _COMPARED, by_name=True)
    return numbered(suffix * np.int64(names.graph.node_count) + here)[1]


def _walked(names: Names, tree: PathTree, nodes: Numbers, most: int, *, by_name: bool) -> tuple[Numbers, Numbers]:
    """`_suffixes`, and the node that these steps begin at."""
    suffix, here = np.zeros(len(nodes), np.int32), nodes.copy()
    group = np.arange(len(nodes), dtype=np.int32)
    for _ in range(most):
        # what is the same so far and is at the same node goes on together
        first, inverse = numbered(suffix * np.int64(names.graph.node_count) + here)
        suffix, here, group = suffix[first], here[first], inverse[group]
        edges = tree.edge[here]
        going = edges >= 0
        if not going.any():
            break
        kinds = np.zeros(len(here), np.int32)
        kinds[going] = _kinds_of_steps(names, edges[going], here[going], by_name=by_name) + 1
        suffix = numbered(suffix * np.int64(int(kinds.max()) + 1) + kinds)[1]
        here = np.where(going, tree.source[here], here)
    return suffix[group], here[group]


def _kinds_of_steps(names: Names, edges: Numbers, nodes: Numbers, *, by_name: bool) -> Numbers:
    """A number for each step (an edge and where it leads), equal for those that a path treats alike."""
    graph = names.graph
    kind = graph.edge_kind[edges].astype(np.int64)
    text = edge_names(graph, edges) - VALUE  # neither is below it
    if not by_name:
        first, inverse = numbered(text)
        used = text[first].tolist()
        telling = [_telling(graph.strings[number + VALUE]) if number + VALUE >= 0 else number for number in used]
        text = np.array(telling, np.int64)[inverse]
    called = graph.node_name[nodes].astype(np.int64) if names.objects is None else names.objects.called[nodes]
    at_root = edges < int(graph.edge_start[1])
    number, most = at_root.astype(np.int64), 2
    for column in (kind, text, called - int(called.min())):
        width = int(column.max()) + 1
        if most * width >= 1 << 62:
            number = numbered(number)[1].astype(np.int64)
            most = int(number.max()) + 1
        number *= width
        number += column
        most *= width
    return numbered(number)[1]


def _telling(name: str) -> int:
    numbers = (place for place, text in enumerate(_TELLING_NAMES, -VALUE) if name.startswith(text))
    return next(numbers, len(_TELLING_NAMES) - VALUE)


def entries_of_their_own(tree: PathTree, nodes: Sequence[int]) -> list[int]:
    """For each node the first edge of its path that leads to something no other of ``nodes`` is reached through; the
    last edge where all of the path is shared. Nodes that are entered by nothing are left out."""
    wanted = np.asarray(nodes, np.int64)
    inside = tree.edge >= 0
    counts = np.bincount(wanted, minlength=len(tree.edge))
    below = sums_upwards(counts, np.where(inside, tree.source, 0), np.where(inside, tree.depth, 0))
    here = wanted[tree.edge[wanted] >= 0]
    if len(wanted) > 1:
        own = np.where(inside & (below == 1), tree.source, -1)  # from what is its own to what is above
        climbing = np.arange(len(here))
        while len(climbing):
            above = own[here[climbing]]
            going = (above >= 0) & (tree.edge[np.maximum(above, 0)] >= 0) & (below[np.maximum(above, 0)] == 1)
            climbing, above = climbing[going], above[going]
            here[climbing] = above
    edges: list[int] = tree.edge[here].tolist()
    return edges
