"""Nodes grouped by their retainer paths: paths without addresses or positions as numbers, so that equal paths are
found by comparing integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakharness.heap.arrays import numbered, packed
from leakharness.heap.chains import Chained, alike_paths, chained
from leakharness.heap.definitions import DEFINITION_OWNER, DEFINITIONS, definition_kind, parts_of_definitions
from leakharness.heap.graph import HeapGraph
from leakharness.heap.names import Names
from leakharness.heap.paths import PathTree
from leakharness.heap.v8_objects import PLACE, Objects, edge_names, objects_of
from leakharness.heap.wording import alike_root, shown_path

__all__ = ["OTHER_WAYS", "PathFamily", "PathGroup", "PathGroups", "path_families"]

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]

OTHER_WAYS = "(in other ways)"
_TOLD_GROUPS = 1_000  # groups of a family that are put into words (.3 ms each); the rest is in still other ways
_SEPARATE_KEYS = 3  # up to so many keys of one dict stay apart; more are one registry, shown as [*]
# steps of a repeated piece of a path (a linked list, a chain of parents) that counts once
_LONGEST_PERIOD = 4


_MANY = 1_000  # nodes from which on it pays to compare their paths by arrays before one by one
_ANY_KEY = -2  # in place of an edge's name, beside PLACE and VALUE


class _Chains:
    """Paths without addresses or positions as numbers: equal paths get equal numbers, repeated pieces count
    once.
    """

    def __init__(self, names: Names, tree: PathTree, *, generic_keys: bool = False) -> None:
        self.names, self.tree = names, tree
        self.numbers: dict[tuple[int, tuple[object, ...]], int] = {}
        self.seen: dict[tuple[int, int, int, int], int] = {}
        self.above: list[int] = [0]
        self.step: list[tuple[object, ...]] = [()]
        self.of_node: dict[int, int] = {0: 0}
        self.generic_keys = generic_keys
        # A memoryview gives plain integers, several times as fast as an array gives its own.
        self.entered, self.source = tree.edge.data, tree.source.data
        self.edge_kind, self.edge_name = names.graph.edge_kind.data, names.graph.edge_name.data
        self.node_name, self.nameless = names.graph.node_name.data, names.graph.node_kind.data
        kinds = names.graph.edge_kinds
        self.positions = {kinds.index(kind) for kind in ("element", "hidden") if kind in kinds}
        self.property = kinds.index("property") if "property" in kinds else None
        objects = objects_of(names.graph)
        self.read_as = objects.read_as.data if objects is not None else None
        self.called = (names.graph.node_name if objects is None else objects.called).data
        self.internal = kinds.index("internal") if "internal" in kinds else None

    def chain(self, node: int) -> int:
        """The number of the node's path; iterative, because a path may be as long as the heap."""
        waiting: list[int] = []
        while node not in self.of_node:
            waiting.append(node)
            if self.entered[node] < 0:
                self.of_node[node] = self._add(0, ("lost", self.node_name[node]))
                waiting.pop()
                break
            node = self.source[node]
        for one in reversed(waiting):
            self.of_node[one] = self._longer(self.of_node[self.source[one]], one)
        return self.of_node[waiting[0] if waiting else node]

    def leaf(self, node: int) -> int:
        """The number of a node's path where the node itself is told by its kind: one of the closures, or of the
        strings, that something holds, under whatever name."""
        if self.entered[node] < 0:
            return self.chain(node)
        edge = self.entered[node]
        key = (self.chain(self.source[node]), self.edge_kind[edge], _ANY_KEY, -1 - self.nameless[node])
        number = self.seen.get(key)
        if number is None:
            step = (int(self.edge_kind[edge]), "*", f"({self.names.graph.node_kinds[self.nameless[node]]})")
            number = self.seen[key] = self._add(key[0], step)
        return number

    def _longer(self, chain: int, node: int) -> int:
        """The number of ``chain`` and the step that enters ``node``. Thousands of nodes are entered alike, so what
        numbers can tell is not put into words again."""
        edge, called = self.entered[node], self.called[node]
        kind = self.edge_kind[edge]
        name = PLACE if kind in self.positions else self.edge_name[edge]
        if kind == self.internal and self.read_as is not None:
            name = self.read_as[name]
        if self.generic_keys and kind == self.property and self._is_key(self.source[node]):
            name = _ANY_KEY
        key = (
            chain,
            kind,
            name,
            called if called < 0 or self.names.graph.strings[called] else -1 - self.nameless[node],
        )
        number = self.seen.get(key)
        if number is None:
            number = self.seen[key] = self._add(chain, self._step(edge, node, name))
        return number

    def _step(self, edge: int, node: int, name: int) -> tuple[object, ...]:
        graph = self.names.graph
        text = "*" if name == _ANY_KEY else self.names.edge_text(edge)
        root = edge < int(graph.edge_start[1])
        return (int(graph.edge_kind[edge]), alike_root(text) if root and text else text, self.names.full(node))

    def _is_key(self, holder: int) -> bool:
        """Whether an edge of ``holder`` is an entry of a plain dict, not an attribute in a ``__dict__``."""
        if not self.names.is_container(holder):
            return False
        entered = self.entered[holder]
        return entered < 0 or self.names.edge_text(entered) != "__dict__"

    def _add(self, chain: int, step: tuple[object, ...]) -> int:
        for period in range(1, _LONGEST_PERIOD + 1):
            if (earlier := self._repeats(chain, step, period)) is not None:
                return earlier
        key = (chain, step)
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.above)
            self.above.append(chain)
            self.step.append(step)
        return number

    def _repeats(self, chain: int, step: tuple[object, ...], period: int) -> int | None:
        """The chain that ``chain + step`` says again, if its last ``period`` steps are the ones before
        them.
        """
        recent = [step]
        for _ in range(period - 1):
            recent.append(self.step[chain])
            chain = self.above[chain]
        earlier = chain
        for one in recent:
            if earlier == 0 or self.step[earlier] != one:
                return None
            earlier = self.above[earlier]
        return chain


@dataclass(frozen=True)
class PathGroup:
    """Nodes of one label that are held alike. ``heads`` are those that hang on no other of them (`chained`), and
    ``links`` how the others hang on them."""

    name: str
    members: Sequence[int]
    heads: Sequence[int]
    links: tuple[str, ...] = ()


class PathGroups:
    """Nodes of one graph by their paths, one family of nodes after the other."""

    def __init__(self, names: Names, tree: PathTree) -> None:
        self.names, self.tree = names, tree
        self.exact, self.generic = _Chains(names, tree), _Chains(names, tree, generic_keys=True)

    def groups(self, nodes: Sequence[int], names: Sequence[str]) -> list[PathGroup]:
        """Nodes by label and fingerprint, the largest group first. What hangs on another of the same label and type is
        in its group."""
        label_numbers: dict[str, int] = {}
        labels = np.fromiter((label_numbers.setdefault(name, len(label_numbers)) for name in names), np.int64)
        wanted = np.asarray(nodes, np.int32)
        families = labels * len(self.names.graph.strings) + self.names.graph.node_name[wanted]
        chains = chained(self.names, self.tree, wanted, families)
        heads = np.flatnonzero(chains.head == np.arange(len(wanted)))
        objects = self.names.objects
        leaves = objects.leaves.data if objects is not None else None
        variants: dict[tuple[str, int], dict[int, list[Ints]]] = defaultdict(lambda: defaultdict(list))
        for places in self._alike(heads, wanted, labels):
            place = int(places[0])
            node = int(wanted[place])
            whole = self.generic.leaf(node) if leaves is not None and leaves[node] else self.generic.chain(node)
            variants[names[place], whole][self.exact.chain(node)].append(places)
        groups: list[tuple[str, Ints]] = []
        for (name, _), parts in variants.items():
            joined = [np.sort(np.concatenate(members)) for members in parts.values()]
            if len(parts) <= _SEPARATE_KEYS:
                groups.extend((name, members) for members in joined)
            else:
                groups.append((name, np.concatenate(joined)))
        if len(heads) == len(wanted):
            found = [PathGroup(name, members := packed(wanted[of]), members) for name, of in groups]
        else:
            found = self._with_chains(groups, wanted, chains)
        return sorted(found, key=lambda group: -len(group.members))

    def _alike(self, heads: Ints, wanted: Numbers, labels: Ints) -> Iterator[Ints]:
        """The heads by what their paths have in common, so that one of each says it for all: those of one label that
        are entered alike from the same node, or, where many are, by the same steps from it on. By first place."""
        if len(heads) < _MANY:
            yield from heads.reshape(-1, 1)
            return
        if self.names.objects is not None:
            number = _entered_alike(self.names.graph, self.names.objects, self.tree, wanted[heads])
        else:
            number = alike_paths(self.names, self.tree, wanted[heads]).astype(np.int64)
        number = number * (int(labels.max()) + 1) + labels[heads]
        order = np.argsort(number, kind="stable")
        parts = np.split(heads[order], np.flatnonzero(np.diff(number[order])) + 1)
        yield from sorted(parts, key=lambda places: int(places[0]))

    def _with_chains(self, groups: list[tuple[str, Ints]], wanted: Numbers, chains: Chained) -> list[PathGroup]:
        group_of = np.empty(len(wanted), np.int64)
        for number, (_, heads) in enumerate(groups):
            group_of[heads] = number
        order = np.argsort(group_of[chains.head], kind="stable")
        bounds = np.searchsorted(group_of[chains.head][order], np.arange(len(groups) + 1)).tolist()
        found = []
        for (name, heads), begin, end in zip(groups, bounds, bounds[1:], strict=False):
            members = order[begin:end]
            links = chains.links(members) if len(members) > len(heads) else ()
            found.append(PathGroup(name, packed(wanted[members]), packed(wanted[heads]), links))
        return found


def _entered_alike(graph: HeapGraph, objects: Objects, tree: PathTree, nodes: Numbers) -> Ints:
    """A number for each node of a file of V8, equal for those that one node holds by edges of one name, up to
    positions, and that are told alike: 900,000 objects in an array have one path."""
    edges = tree.edge[nodes]
    number = np.zeros(len(nodes), np.int64)
    for column in (
        tree.source[nodes],
        graph.edge_kind[edges],
        edge_names(graph, edges),
        objects.called[nodes],
        graph.node_kind[nodes],
        objects.leaves[nodes],
    ):
        low = column.astype(np.int64) - int(column.min())
        number = numbered(number * (int(low.max()) + 1) + low)[1].astype(np.int64)
    alone = edges < 0
    number[alone] = len(nodes) + np.arange(int(alone.sum()))
    return number


@dataclass(frozen=True)
class PathFamily:
    """Nodes with one retainer fingerprint, and their path as shown."""

    fingerprint: str
    path: list[str]
    members: tuple[int, ...]
    owner: str = ""
    """The whole name of what holds them, with only containers between: "type app.Session"."""


def path_families(graph: HeapGraph, tree: PathTree, families: Iterable[Sequence[int]]) -> Iterator[list[PathFamily]]:
    """The nodes of each family grouped by retainer fingerprint, most first. Sizes of sets are not asked for."""
    names = Names(graph)
    grouping = PathGroups(names, tree)
    for family in families:
        nodes, found = family, []
        if not graph.of_v8:
            wanted = np.asarray(family, np.int64)
            parts = parts_of_definitions(names, tree, wanted)
            if parts.any():
                nodes = wanted[~parts].tolist()
                first = int(wanted[parts][0])
                kind = definition_kind(names.name(first))
                path = [DEFINITIONS, f"({kind})" if kind else names.short(first)]
                found.append(PathFamily(" -> ".join(path), path, tuple(wanted[parts].tolist()), DEFINITION_OWNER))
        groups = grouping.groups(nodes, [""] * len(nodes))
        for group in groups[:_TOLD_GROUPS]:
            one = shown_path(names, tree, group.heads)
            found.append(PathFamily(one.fingerprint, one.path, tuple(group.members), one.owner))
        if rest := [node for group in groups[_TOLD_GROUPS:] for node in group.members]:
            found.append(PathFamily(OTHER_WAYS, [], tuple(rest)))
        yield found
