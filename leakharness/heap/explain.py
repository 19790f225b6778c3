"""Who holds the retained objects: all of them, grouped by what their retainer paths have in common, in plain
words.

What a path shows follows from how a heap names its parts (`leakharness.heap.graph`): a ``__dict__`` between
an object and its attribute, or a cell between a closure and its variable, is a step of the heap and not one
of the reader.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.heap.dominators import Dominators, strong_edges
from leakharness.heap.graph import HeapGraph
from leakharness.heap.paths import UNKNOWN, Links, PathTree, links, path_tree, reachable, root_rank
from leakharness.units import size

__all__ = [
    "DominatorRow",
    "PathFamily",
    "RetainerGroup",
    "Way",
    "dominator_chain",
    "dominator_rows",
    "entry_edges",
    "explain",
    "path_families",
    "sentence",
]

HARNESS_KEY = "harness_nodes"  # in HeapGraph.meta: indices of nodes of the harness, which no path may use
NOBODY_KNOWN = "held by C or unknown"

_SEPARATE_KEYS = 3  # up to so many keys of one dict stay apart; more are one registry, shown as [*]
# steps of a repeated piece of a path (a linked list, a chain of parents) that counts once
_LONGEST_PERIOD = 4
_SHOWN_STEPS = 24  # entries of a path shown in full; of a longer one the middle is left out
_FURTHER_WAYS = 2  # independent further ways looked for
_EXACT_GROUPS = 8  # groups whose retained size and further ways are worked out; more are not read
_EXACT_STEPS = 60_000_000  # nodes and edges walked for further ways and exact sizes in all, about two seconds
_COMPARED = 200  # members of a group whose positions are compared, to show those that all share

_CONTAINERS = frozenset(
    {
        "dict",
        "list",
        "tuple",
        "set",
        "frozenset",
        "mappingproxy",
        "collections.deque",
        "collections.OrderedDict",
        "collections.defaultdict",
        "numpy.ndarray",
        "weakref.WeakSet",
    }
)
_DESCRIBED = re.compile(r"^(function|module|type|frame|coroutine|generator|async_generator|code) (.+)$", re.DOTALL)
_LINE = re.compile(r":\d+(?=\)| |$)")
_NOT_A_LOCAL = re.compile(r"^(f_|gi_|cr_|ag_|__|<)")
_PLUMBING = "hamt"  # the tree inside a context: hamt, hamt_bitmap_node, hamt_array_node, hamt_collision_node
_SUSPENDED = ("frame ", "coroutine ", "generator ", "async_generator ")
_LABEL_WIDTH = 70
_FINGERPRINT_LABEL_WIDTH = 300  # V8 names strings by their text


@dataclass(frozen=True)
class Way:
    """A further, independent way in which objects of a group are held: how many of them, and the path."""

    count: int
    path: list[str]
    fingerprint: str
    holding_edge: str


@dataclass(frozen=True)
class RetainerGroup:
    """Retained objects whose retainer paths have the same fingerprint.

    ``retained_bytes`` is what would be freed if the group's objects went, counted once (a lower bound where
    ``exact`` is False: very many groups in a very large heap). ``holding_edge`` names what to cut;
    ``holding_edges`` are those edges, one a target, as indices into the graph's (-1 where unknown).
    ``also_held_by``: with the first way cut, these still hold; cutting the first alone frees nothing.
    """

    target: str
    count: int
    retained_bytes: int
    path: list[str]
    fingerprint: str
    holding_edge: str
    registered_in: str | None
    targets: tuple[int, ...] = field(repr=False)
    holding_edges: tuple[int, ...] = field(repr=False)
    also_held_by: tuple[Way, ...] = ()
    exact: bool = True

    def document(self) -> dict[str, Any]:
        """The group as it stands under ``retainers`` in JSON."""
        return {
            "target": self.target,
            "count": self.count,
            "retained_bytes": self.retained_bytes,
            "exact": self.exact,
            "path": self.path,
            "fingerprint": self.fingerprint,
            "holding_edge": self.holding_edge,
            "registered_in": self.registered_in,
            "also_held_by": [
                {
                    "count": way.count,
                    "path": way.path,
                    "fingerprint": way.fingerprint,
                    "holding_edge": way.holding_edge,
                }
                for way in self.also_held_by
            ],
            "sentence": sentence(self),
        }


def explain(graph: HeapGraph, targets: Sequence[int], labels: Sequence[str] | None = None) -> list[RetainerGroup]:
    """Every target with the way it is held, grouped by fingerprint; most retained bytes first.

    ``labels`` name the targets (one each; without them, their type does) and objects of different labels are
    never in one group. Weak edges hold nothing, and no path goes through the harness
    (``graph.meta["harness_nodes"]``).
    """
    nodes = [int(node) for node in targets]
    if not nodes:
        return []
    view = _View(graph)
    keep = strong_edges(graph)
    closed = _harness_mask(graph)
    tree = path_tree(graph, keep, closed)
    names = list(labels) if labels is not None else [view.short(node) for node in nodes]
    grouped = _Grouping(view, tree).groups(nodes, names)
    sizes = _Sizes(graph, keep)
    budget = max(1, min(_EXACT_GROUPS, _EXACT_STEPS // (graph.node_count + graph.edge_count)))
    found = [
        _explained(view, tree, keep, closed, sizes, name, members, exact=index < budget)
        for index, (name, members) in enumerate(grouped)
    ]
    return sorted(found, key=lambda group: (-group.retained_bytes, -group.count, group.fingerprint))


def entry_edges(graph: HeapGraph, targets: Sequence[int]) -> tuple[int, ...]:
    """For each target the first edge of its retainer path that leads to something of its own, which no other target's
    path goes through: with it cut, all that came with this target goes."""
    tree = path_tree(graph, strong_edges(graph), _harness_mask(graph))
    paths = [tree.steps(target) for target in targets]
    shared = Counter(int(graph.edge_to[edge]) for path in paths for edge in path)
    found = (next((edge for edge in path if shared[int(graph.edge_to[edge])] == 1), path[-1]) for path in paths if path)
    # A single target's whole path is its own: what holds the target is the entry.
    return tuple(found) if len(targets) > 1 else tuple(path[-1] for path in paths if path)


def sentence(group: RetainerGroup) -> str:
    """One sentence: how many of what, how much, held by what, registered where, and whether something else
    holds too.
    """
    verb = "is" if group.count == 1 else "are"
    text = f"{group.count} {group.target} ({size(group.retained_bytes)} retained) {verb} held by {group.holding_edge}"
    if group.registered_in:
        text += f", registered in {group.registered_in}"
    if group.also_held_by:
        others = " and by ".join(way.holding_edge for way in group.also_held_by)
        text += f"; also by {others}: cutting the first frees nothing"
    return text


def _harness_mask(graph: HeapGraph) -> npt.NDArray[np.bool_] | None:
    nodes = graph.meta.get(HARNESS_KEY)
    if not nodes:
        return None
    mask = np.zeros(graph.node_count, bool)
    mask[[int(node) for node in nodes]] = True
    mask[0] = False
    return mask


class _View:
    """Words for the nodes and edges of one graph."""

    def __init__(self, graph: HeapGraph) -> None:
        self.graph = graph

    def name(self, node: int) -> str:
        return self.graph.strings[int(self.graph.node_name[node])]

    def kind(self, edge: int) -> str:
        return self.graph.edge_kinds[int(self.graph.edge_kind[edge])]

    def edge_text(self, edge: int) -> str | None:
        """The edge's name, None where it has a position only."""
        return None if self.kind(edge) in ("element", "hidden") else self.graph.strings[int(self.graph.edge_name[edge])]

    def short(self, node: int) -> str:
        """``gateway.Transcript`` -> ``Transcript``; functions and modules by their own name."""
        return short_name(self.name(node) or self._nameless(node))

    def full(self, node: int) -> str:
        """The module-qualified type, without line numbers: it goes into fingerprints."""
        return _LINE.sub("", clip(described(self.name(node) or self._nameless(node)), _FINGERPRINT_LABEL_WIDTH))

    def label(self, node: int) -> str:
        """The whole name, as it is listed."""
        return clip(self.name(node) or self._nameless(node))

    def _nameless(self, node: int) -> str:
        return f"({self.graph.node_kinds[int(self.graph.node_kind[node])]})"


def described(name: str) -> str:
    """``function f (x.py:3)`` -> ``f (x.py:3)``, ``module m`` -> ``m``, ``type m.T`` -> ``m.T``; others as is."""
    match = _DESCRIBED.match(name)
    return match[2] if match and match[1] in ("function", "module", "type") else name


def short_name(name: str) -> str:
    """A name for display: without module, without ``<locals>``, at most `_LABEL_WIDTH` characters."""
    if _DESCRIBED.match(name):
        return clip(described(name))
    if " " in name or "(" in name:
        return clip(name)
    return clip(name.rsplit(".", 1)[-1] or name)


def clip(text: str, width: int = _LABEL_WIDTH) -> str:
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= width else text[: width - 1] + "…"


@dataclass(frozen=True)
class _Entry:
    """One arrow's worth of a path: who holds, by what access, and the last heap edge of it (None for the
    root's).
    """

    holder: str
    access: str
    edge: int | None
    node: int

    @property
    def text(self) -> str:
        return self.holder + self.access


def _entries(view: _View, steps: Sequence[int], *, full: bool, shared: set[int] | None = None) -> list[_Entry]:
    """The steps of a path (edges) as entries. ``full``: qualified names and no positions, for a fingerprint.

    ``shared`` holds the places in ``steps`` whose position is shown; None shows every one.
    """
    graph = view.graph
    if not steps:
        return []
    label = view.full if full else view.short
    starts_at_root = int(graph.edge_start[1]) > steps[0] >= int(graph.edge_start[0])
    entries: list[_Entry] = []
    if starts_at_root:
        first = view.edge_text(steps[0])
        text = first if first is not None else label(int(graph.edge_to[steps[0]]))
        entries.append(_Entry(_LINE.sub("", text) if full else text, "", steps[0], 0))
        node, rest = int(graph.edge_to[steps[0]]), range(1, len(steps))
    else:
        entries.append(_Entry(NOBODY_KNOWN, "", None, 0))
        node, rest = _source(graph, steps[0]), range(len(steps))
    holder, access, owner, through_dict = label(node), "", node, False
    for place in rest:
        edge = steps[place]
        target = int(graph.edge_to[edge])
        name, held_in = view.edge_text(edge), view.name(node)
        if name == "__dict__" and view.name(target) in _CONTAINERS:
            through_dict = True
        elif not view.name(target).startswith(_PLUMBING):
            if not (name == "cell_contents" and held_in == "cell"):
                show = not full and (shared is None or place in shared)
                access += _access(view, edge, held_in, through_dict=through_dict, show_position=show)
            through_dict = False
            kind = view.name(target)
            if kind in _CONTAINERS:
                if view.name(owner).startswith("module ") and "(" not in access:
                    access += f" ({kind.rsplit('.', 1)[-1]})"
            elif kind != "cell":
                entries.append(_Entry(holder, access, edge, owner))
                holder, access, owner = label(target), "", target
        node = target
    if access or node != owner:  # the target itself is a container, a cell or a __dict__
        entries.append(_Entry(holder, access or ".__dict__", steps[-1], owner))
    return entries


def _access(view: _View, edge: int, held_in: str, *, through_dict: bool, show_position: bool) -> str:
    name, kind = view.edge_text(edge), view.kind(edge)
    if name is None:
        return f"[{int(view.graph.edge_name[edge])}]" if show_position else "[*]"
    name = clip(name)
    if held_in.startswith(_SUSPENDED) and (kind == "context" or not _NOT_A_LOCAL.match(name)):
        return f" local '{name}'"
    if kind == "context":
        return f" {_context_word(held_in)} '{name}'"
    if held_in in _CONTAINERS and not through_dict and kind == "property":
        return f"[{name}]" if name.startswith("<") else f"['{name}']"
    return f".{name}"


def _context_word(held_in: str) -> str:
    if held_in.startswith("system / "):  # V8's scopes
        return "context"
    return "context variable" if held_in.startswith(("hamt", "Context", "_contextvars")) else "closure cell"


def _source(graph: HeapGraph, edge: int) -> int:
    return int(np.searchsorted(graph.edge_start, edge, side="right")) - 1


_POSITION, _ANY_KEY = -1, -2  # in place of an edge's name


class _Chains:
    """Paths without addresses or positions as numbers: equal paths get equal numbers, repeated pieces count
    once.
    """

    def __init__(self, view: _View, tree: PathTree, *, generic_keys: bool = False) -> None:
        self.view, self.tree = view, tree
        self.numbers: dict[tuple[int, tuple[object, ...]], int] = {}
        self.seen: dict[tuple[int, int, int, int], int] = {}
        self.above: list[int] = [0]
        self.step: list[tuple[object, ...]] = [()]
        self.of_node: dict[int, int] = {0: 0}
        self.generic_keys = generic_keys
        # A memoryview gives plain integers, several times as fast as an array gives its own.
        self.entered, self.source = tree.edge.data, tree.source.data
        self.edge_kind, self.edge_name = view.graph.edge_kind.data, view.graph.edge_name.data
        self.node_name, self.nameless = view.graph.node_name.data, view.graph.node_kind.data
        kinds = view.graph.edge_kinds
        self.positions = {kinds.index(kind) for kind in ("element", "hidden") if kind in kinds}
        self.property = kinds.index("property") if "property" in kinds else None

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

    def _longer(self, chain: int, node: int) -> int:
        """The number of ``chain`` and the step that enters ``node``. Thousands of nodes are entered alike, so what
        numbers can tell is not put into words again."""
        edge, called = self.entered[node], self.node_name[node]
        kind = self.edge_kind[edge]
        name = _POSITION if kind in self.positions else self.edge_name[edge]
        if self.generic_keys and kind == self.property and self._is_key(self.source[node]):
            name = _ANY_KEY
        key = (chain, kind, name, called if self.view.graph.strings[called] else ~self.nameless[node])
        number = self.seen.get(key)
        if number is None:
            number = self.seen[key] = self._add(chain, self._step(edge, node, name))
        return number

    def _step(self, edge: int, node: int, name: int) -> tuple[object, ...]:
        graph = self.view.graph
        text = "*" if name == _ANY_KEY else self.view.edge_text(edge)
        root = edge < int(graph.edge_start[1])
        return (int(graph.edge_kind[edge]), _LINE.sub("", text) if root and text else text, self.view.full(node))

    def _is_key(self, holder: int) -> bool:
        """Whether an edge of ``holder`` is an entry of a plain dict, not an attribute in a ``__dict__``."""
        if self.view.name(holder) not in _CONTAINERS:
            return False
        entered = self.entered[holder]
        return entered < 0 or self.view.edge_text(entered) != "__dict__"

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


class _Grouping:
    """Nodes of one graph by their paths, one family of nodes after the other."""

    def __init__(self, view: _View, tree: PathTree) -> None:
        self.exact, self.generic = _Chains(view, tree), _Chains(view, tree, generic_keys=True)

    def groups(self, nodes: Sequence[int], names: Sequence[str]) -> list[tuple[str, list[int]]]:
        """Nodes by label and fingerprint, the largest group first."""
        variants: dict[tuple[str, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for node, name in zip(nodes, names, strict=True):
            variants[name, self.generic.chain(node)][self.exact.chain(node)].append(node)
        groups: list[tuple[str, list[int]]] = []
        for (name, _), parts in variants.items():
            if len(parts) <= _SEPARATE_KEYS:
                groups.extend((name, members) for members in parts.values())
            else:
                groups.append((name, [node for members in parts.values() for node in members]))
        return sorted(groups, key=lambda group: -len(group[1]))


@dataclass(frozen=True)
class PathFamily:
    """Nodes with one retainer fingerprint, and their path as shown."""

    fingerprint: str
    path: list[str]
    members: tuple[int, ...]


def path_families(graph: HeapGraph, tree: PathTree, families: Iterable[Sequence[int]]) -> Iterator[list[PathFamily]]:
    """The nodes of each family grouped by retainer fingerprint, most first. Sizes of sets are not asked for."""
    view = _View(graph)
    grouping = _Grouping(view, tree)
    for nodes in families:
        groups = [members for _, members in grouping.groups(nodes, [""] * len(nodes))]
        shown = [(_shown_path(view, tree, members), members) for members in groups]
        yield [PathFamily(one.fingerprint, one.path, tuple(members)) for one, members in shown]


class _Sizes:
    """Retained sizes of sets: what is alive, less what stays alive without them."""

    def __init__(self, graph: HeapGraph, keep: npt.NDArray[np.bool_]) -> None:
        self.size = graph.self_size
        self.forward: Links = links(graph, keep)
        self.alive = reachable(self.forward)

    def retained(self, nodes: Iterable[int]) -> int:
        members = np.unique(np.fromiter(nodes, np.int64))
        alive = self.alive
        lost = members[~alive[members]]
        if len(lost):
            alive = alive | reachable(self.forward, seeds=lost)
        closed = np.zeros(len(alive), bool)
        closed[members] = True
        return int(self.size[alive & ~reachable(self.forward, closed)].sum())

    def shallow(self, nodes: Iterable[int]) -> int:
        return int(self.size[np.unique(np.fromiter(nodes, np.int64))].sum())


def _explained(
    view: _View,
    tree: PathTree,
    keep: npt.NDArray[np.bool_],
    closed: npt.NDArray[np.bool_] | None,
    sizes: _Sizes,
    name: str,
    members: list[int],
    *,
    exact: bool,
) -> RetainerGroup:
    shown = _shown_path(view, tree, members)
    cuts = [_cut(view, tree, node) for node in members]
    also = _further_ways(view, keep, closed, members, cuts) if exact else ()
    return RetainerGroup(
        target=name,
        count=len(members),
        retained_bytes=sizes.retained(members) if exact else sizes.shallow(members),
        path=shown.path,
        fingerprint=shown.fingerprint,
        holding_edge=shown.holding,
        registered_in=shown.registered_in,
        targets=tuple(members),
        holding_edges=tuple(cuts),
        also_held_by=also,
        exact=exact,
    )


@dataclass(frozen=True)
class _Shown:
    path: list[str]
    fingerprint: str
    holding: str
    registered_in: str | None


def _shown_path(view: _View, tree: PathTree, members: list[int]) -> _Shown:
    """The path of the member with the shortest one, with the positions that all members share."""
    compared = [tree.steps(node) for node in members[:_COMPARED]]
    steps = min(compared, key=len)
    sample = members[compared.index(steps)]
    shared = _shared_positions(view, steps, compared)
    entries = _entries(view, steps, full=False, shared=shared)
    keys = _varying_keys(view, steps, compared)
    prints = _entries(view, steps, full=True)
    if not entries:
        lost = _Entry(NOBODY_KNOWN, "", None, 0)
        entries, prints = [lost], [lost]
    path = [_general(entry.text, keys) for entry in entries] + [view.short(sample)]
    fingerprint = " -> ".join([*(_general(entry.text, keys) for entry in prints), view.full(sample)])
    if len(path) > _SHOWN_STEPS:
        half = _SHOWN_STEPS // 2
        path = [*path[:half], f"… {len(path) - 2 * half} more …", *path[-half:]]
    holding, registered = _in_words(entries, keys)
    return _Shown(path, fingerprint, holding, registered)


def _shared_positions(view: _View, steps: list[int], compared: list[list[int]]) -> set[int]:
    graph = view.graph
    if any(len(other) != len(steps) for other in compared):
        return set()
    alike = range(len(steps))
    return {k for k in alike if len({int(graph.edge_name[other[k]]) for other in compared}) == 1}


def _varying_keys(view: _View, steps: list[int], compared: list[list[int]]) -> set[str]:
    """Dict keys of the shown path that are not those of all members."""
    if any(len(other) != len(steps) for other in compared):
        return set()
    varying: set[str] = set()
    for k, edge in enumerate(steps):
        name = view.edge_text(edge)
        if name is not None and any(view.edge_text(other[k]) != name for other in compared):
            varying.add(clip(name))
    return varying


def _general(text: str, keys: set[str]) -> str:
    for key in keys:
        text = text.replace(f"['{key}']", "[*]").replace(f"[{key}]", "[*]")
    return text


_HOLDERS = ("closure cell", "local '", "context '", "context variable", ".__traceback__", ".tb_frame")
_LOOKED_BACK = 4  # entries before the target among which a closure or a frame is what holds


def _holding_index(entries: Sequence[_Entry]) -> int:
    """Which entry holds: the closure or frame nearest the target, if near; else what holds the target
    itself.
    """
    last = len(entries) - 1
    for index in range(last, max(-1, last - _LOOKED_BACK), -1):
        if any(word in entries[index].access for word in _HOLDERS):
            return index
    return last


def _in_words(entries: Sequence[_Entry], keys: set[str]) -> tuple[str, str | None]:
    index = _holding_index(entries)
    entry = entries[index]
    holding = _general(entry.text, keys)
    cell = re.search(r"(closure cell|local|context variable|context) '([^']*)'(.*)$", entry.access, re.DOTALL)
    if cell:
        holding = f"{cell[1]} '{cell[2]}' of {entry.holder}" + (f" ({cell[3].strip('.')})" if cell[3] else "")
    elif index == len(entries) - 1 and index > 0:
        holding = re.sub(r"(\[[^\]]*\])+$", "", holding) or holding
    place = index - 1
    while place > 1 and entries[place].holder == "traceback":  # a traceback's links say less than who has it
        place -= 1
    if place == 1 and entries[1].holder in _CONTAINERS and root_rank(entries[0].text) != UNKNOWN:
        return holding, entries[0].text  # the container itself has no name but the root's
    registered = _general(entries[place].text, keys) if place > 0 else None
    return holding, re.sub(r"(\[[^\]]*\])+$", "", registered) if registered else None


def _cut(view: _View, tree: PathTree, node: int) -> int:
    """The edge to cut for one target: the last one of what holds it."""
    entries = _entries(view, tree.steps(node), full=False)
    edge = entries[_holding_index(entries)].edge if entries else None
    return -1 if edge is None else edge


def _further_ways(
    view: _View,
    keep: npt.NDArray[np.bool_],
    closed: npt.NDArray[np.bool_] | None,
    members: list[int],
    cuts: list[int],
) -> tuple[Way, ...]:
    """Ways that still hold members once the first is cut, one after the other, the most common first."""
    graph = view.graph
    left = keep.copy()
    ways: list[Way] = []
    for _ in range(_FURTHER_WAYS):
        _cut_alike(graph, left, [edge for edge in cuts if edge >= 0])
        alive = reachable(links(graph, left), closed)
        held = [node for node in members if alive[node]]
        if not held:
            break
        tree = path_tree(graph, left, closed)
        _, most = _Grouping(view, tree).groups(held, [""] * len(held))[0]
        shown = _shown_path(view, tree, most)
        if any(way.fingerprint == shown.fingerprint for way in ways):
            break
        ways.append(Way(len(most), shown.path, shown.fingerprint, shown.holding))
        cuts = [_cut(view, tree, node) for node in held]
    return tuple(ways)


def _cut_alike(graph: HeapGraph, keep: npt.NDArray[np.bool_], edges: list[int]) -> None:
    """Take away ``edges`` and those that only differ in their position: same source, same target, same
    kind.
    """
    if not edges:
        return
    source = np.searchsorted(graph.edge_start, edges, side="right") - 1
    keep[edges] = False
    for edge, node in set(zip(edges, source.tolist(), strict=True)):
        begin, end = int(graph.edge_start[node]), int(graph.edge_start[node + 1])
        alike = (graph.edge_to[begin:end] == graph.edge_to[edge]) & (
            graph.edge_kind[begin:end] == graph.edge_kind[edge]
        )
        if graph.edge_kinds[int(graph.edge_kind[edge])] not in ("element", "hidden"):
            alike &= graph.edge_name[begin:end] == graph.edge_name[edge]
        keep[begin:end] &= ~alike


@dataclass(frozen=True)
class DominatorRow:
    """``count`` objects of one type below one dominator: what they are, their own and their retained size,
    and what is below the largest of them.
    """

    name: str
    count: int
    shallow_bytes: int
    retained_bytes: int
    node: int
    children: tuple[DominatorRow, ...] = ()


def dominator_rows(
    graph: HeapGraph,
    tree: Dominators,
    retained: npt.NDArray[np.int64],
    *,
    top: int = 10,
    levels: int = 4,
    least: float = 0.01,
) -> list[DominatorRow]:
    """The largest retained sizes below the root, by type of what one dominator holds, ``levels`` deep.

    At most ``top`` rows a level, none below the fraction ``least`` of the whole heap.
    """
    children = Links.of(graph.node_count, np.where(tree.parent >= 0, tree.parent, 0), np.arange(graph.node_count))
    floor = least * float(retained[0])
    view = _View(graph)

    def below(node: int, depth: int) -> list[DominatorRow]:
        if depth == 0:
            return []
        begin, end = int(children.start[node]), int(children.start[node + 1])
        kids = children.to[begin:end]
        kids = kids[(kids != node) & (tree.parent[kids] == node)]
        by_type: Counter[int] = Counter()
        total = np.bincount(graph.node_name[kids], weights=retained[kids]) if len(kids) else np.empty(0)
        for name in np.flatnonzero(total >= max(floor, 1.0)).tolist():
            by_type[name] = int(total[name])
        rows: list[DominatorRow] = []
        for name, retained_bytes in by_type.most_common(top):
            same = kids[graph.node_name[kids] == name]
            largest = int(same[np.argmax(retained[same])])
            rows.append(
                DominatorRow(
                    name=view.label(largest),
                    count=len(same),
                    shallow_bytes=int(graph.self_size[same].sum()),
                    retained_bytes=retained_bytes,
                    node=largest,
                    children=tuple(below(largest, depth - 1)),
                )
            )
        return rows

    return below(0, levels)


def dominator_chain(graph: HeapGraph, tree: Dominators, node: int) -> list[int]:
    """The nodes that dominate ``node``, from the root down to it; empty where it is unreachable."""
    if tree.depth[node] < 0:
        return []
    chain = [node]
    while chain[-1] != 0:
        chain.append(int(tree.parent[chain[-1]]))
    return chain[::-1]
