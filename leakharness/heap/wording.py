"""The words of a path and of a retainer sentence: what holds what, as a reader of the program would say it.

What a path shows follows from how a heap names its parts (`leakharness.heap.graph`): a ``__dict__`` between
an object and its attribute, or a cell between a closure and its variable, is a step of the heap and not one
of the reader.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from leakharness.heap.graph import HeapGraph
from leakharness.heap.names import CONTAINERS, LINE_NUMBER, VALUE_TEXT, Names, clip
from leakharness.heap.paths import UNKNOWN, PathTree, root_rank
from leakharness.heap.v8_objects import SCOPE
from leakharness.units import size
from leakharness.worker.capture.columns import HIDDEN

__all__ = [
    "LRU_CACHE",
    "alike_root",
    "Entry",
    "ShownPath",
    "container_name",
    "holding_index",
    "path_entries",
    "sentence",
    "shown_path",
]

LRU_CACHE = "functools._lru_cache_wrapper"
NOBODY_KNOWN = "held by C or unknown"

_SHOWN_STEPS = 24  # entries of a path shown in full; of a longer one the middle is left out
_COMPARED = 200  # members of a group whose positions are compared, to show those that all share
_COMPARED_STEPS = 200_000  # steps of their paths in all: one path may be as long as the heap
_LONG_PATH = 100  # steps from which on what a path says again is left out
_LONGEST_REPEATED = 4  # steps of a piece that it says again

_THREAD_NUMBER = re.compile(r"^(thread \S*?-)\d+(?=[ :(]|$)")
_NOT_A_LOCAL = re.compile(r"^(f_|gi_|cr_|ag_|__|<)")
_PLUMBING = "hamt"  # the tree inside a context: hamt, hamt_bitmap_node, hamt_array_node, hamt_collision_node
_SUSPENDED = ("frame ", "coroutine ", "generator ", "async_generator ")


class Held(Protocol):
    """A way in which objects are held: by which edge, and how many of them."""

    @property
    def holding_edge(self) -> str: ...
    @property
    def count(self) -> int: ...


class HeldGroup(Held, Protocol):
    """What `sentence` needs of a group of objects that are held alike."""

    @property
    def target(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def retained_bytes(self) -> int: ...
    @property
    def registered_in(self) -> str | None: ...
    @property
    def also_held_by(self) -> Sequence[Held]: ...
    @property
    def heads(self) -> int: ...
    @property
    def links(self) -> Sequence[str]: ...


def sentence(group: HeldGroup) -> str:
    """One sentence: how many of what, how much, held by what, registered where, and whether something else
    holds too.
    """
    what, verb = f"{group.count} {group.target}", "is" if group.count == 1 else "are"
    if group.links:
        by = " and ".join(group.links)
        if group.heads == 1:
            what, verb = f"a chain of {group.count:,} {group.target} by {by}", "is"
        else:
            what = f"{group.count:,} {group.target} in {group.heads:,} chains by {by}"
    if group.holding_edge == NOBODY_KNOWN:
        how = "referred to by nothing that the heap shows: C code holds it, or a reference was lost"
    else:
        how = f"held by {group.holding_edge.removeprefix('held by ')}"
    text = f"{what} ({size(group.retained_bytes)} retained) {verb} {how}"
    if group.registered_in:
        text += f", registered in {group.registered_in}"
    partly = [way for way in group.also_held_by if way.count < group.count]
    wholly = [way for way in group.also_held_by if way.count >= group.count]
    if wholly:
        others = " and by ".join(way.holding_edge for way in wholly)
        text += f"; also by {others}: cutting the first frees nothing"
    for way in partly:
        text += f"; {way.count} of them also by {way.holding_edge}"
    return text


def alike_root(text: str) -> str:
    """A root's name without what differs between alike ones: line numbers, and the numbers of threads, "Thread-7"."""
    return _THREAD_NUMBER.sub(r"\1*", LINE_NUMBER.sub("", text))


@dataclass(frozen=True)
class Entry:
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


def path_entries(names: Names, steps: Sequence[int], *, full: bool, shared: set[int] | None = None) -> list[Entry]:
    """The steps of a path (edges) as entries. ``full``: qualified names and no positions, for a fingerprint.

    ``shared`` holds the places in ``steps`` whose position is shown; None shows every one.
    """
    graph = names.graph
    if not steps:
        return []
    label = names.full if full else names.short
    starts_at_root = int(graph.edge_start[1]) > steps[0] >= int(graph.edge_start[0])
    entries: list[Entry] = []
    if starts_at_root:
        first = names.edge_text(steps[0])
        if first is None or names.kind(steps[0]) == "shortcut":
            first = label(int(graph.edge_to[steps[0]]))
        text = first
        entries.append(Entry(alike_root(text) if full else text, "", steps[0], 0))
        node, rest = int(graph.edge_to[steps[0]]), range(1, len(steps))
    else:
        entries.append(Entry(NOBODY_KNOWN, "", None, 0))
        node, rest = _source(graph, steps[0]), range(len(steps))
    holder, access, owner, through_dict = label(node), "", node, False
    for place in rest:
        edge = steps[place]
        target = int(graph.edge_to[edge])
        name, container = names.edge_text(edge), names.is_container(target)
        if name == "__dict__" and container:
            through_dict = True
        elif not names.is_inner(edge) and not names.name(target).startswith(_PLUMBING):
            if not (name == "cell_contents" and names.name(node) == "cell"):
                show = not full and (shared is None or place in shared)
                access += _access(names, edge, node, through_dict=through_dict, show_position=show)
            through_dict = False
            if container:
                if place < len(steps) - 1 and names.named_with_type(owner) and "(" not in access:
                    access += f" ({names.name(target).rsplit('.', 1)[-1]})"
            elif names.name(target) != "cell":
                entries.append(Entry(holder, access, edge, owner))
                holder, access, owner = label(target), "", target
        node = target
    if access or node != owner:  # the target itself is a container, a cell or a __dict__
        inner = f".{names.edge_text(steps[-1])}" if names.is_inner(steps[-1]) else ".__dict__"
        entries.append(Entry(holder, access or inner, steps[-1], owner))
    return entries


def _access(names: Names, edge: int, source: int, *, through_dict: bool, show_position: bool) -> str:
    name, kind, held_in = names.edge_text(edge), names.kind(edge), names.name(source)
    if name is None and held_in == SCOPE:
        return f" {_context_word(held_in)} 'unnamed'"
    if name is None:
        return f"[{names.place(edge)}]" if show_position else "[*]"
    if name == HIDDEN:
        return name
    name = clip(name)
    if held_in.startswith(_SUSPENDED) and (kind == "context" or not _NOT_A_LOCAL.match(name)):
        return f" local '{name}'"
    if kind == "context":
        return f" {_context_word(held_in)} '{name}'"
    if kind == "property" and not through_dict and names.is_container(source):
        return f"[{name}]" if name.startswith("<") else f"['{name}']"
    return f" {name}" if name == VALUE_TEXT else f".{name}"


def _context_word(held_in: str) -> str:
    if held_in.startswith("system / "):  # V8's scopes
        return "context"
    return "context variable" if held_in.startswith(("hamt", "Context", "_contextvars")) else "closure cell"


def _source(graph: HeapGraph, edge: int) -> int:
    return int(np.searchsorted(graph.edge_start, edge, side="right")) - 1


@dataclass(frozen=True)
class ShownPath:
    path: list[str]
    fingerprint: str
    holding: str
    registered_in: str | None
    owner: str
    """The whole name of what holds the target, with only containers between them: "type app.Session"."""


def shown_path(names: Names, tree: PathTree, members: Sequence[int]) -> ShownPath:
    """The path of the member with the shortest one, with the positions that all members share."""
    depths = tree.depth[np.asarray(members)]
    sample = members[int(np.argmin(depths))]
    steps = tree.steps(sample)
    few = members[: max(2, min(_COMPARED, _COMPARED_STEPS // (int(depths.max()) + 1)))]
    compared = [tree.steps(node) for node in few]
    shared, keys = _shared_positions(names, steps, compared), _varying_keys(names, steps, compared)
    kept = _without_repetitions(names, steps)
    left_out = len(steps) - len(kept)
    if left_out:
        shared = {place for place, of in enumerate(kept) if of in shared}
    shown = [steps[of] for of in kept]
    entries = path_entries(names, shown, full=False, shared=shared)
    prints = path_entries(names, shown, full=True)
    if not entries:
        lost = Entry(NOBODY_KNOWN, "", None, 0)
        entries, prints = [lost], [lost]
    if len({steps_of[0] for steps_of in compared if steps_of}) > 1:
        entries[0] = replace(entries[0], holder=_THREAD_NUMBER.sub(r"\1*", entries[0].holder))
    path = [*_folded([_general(entry.text, keys) for entry in entries]), names.short(sample)]
    texts = [*(_general(entry.text, keys) for entry in prints), names.full(sample)]
    last = names.edge_text(steps[-1]) if steps else None
    if len(members) > 1 and last is not None and last in keys and names.is_leaf(sample):
        path, texts = (
            _without_the_last_name(path, last, names, sample),
            _without_the_last_name(texts, last, names, sample),
        )
    fingerprint = " -> ".join(texts)
    half = _SHOWN_STEPS // 2
    if len(path) > _SHOWN_STEPS or left_out:
        head, tail = (path[:half], path[-half:]) if len(path) > _SHOWN_STEPS else (path[:-1], path[-1:])
        path = [*head, f"… {len(path) - len(head) - len(tail) + left_out} more …", *tail]
    holding, registered = _in_words(entries, keys)
    return ShownPath(path, fingerprint, holding, registered, names.name(entries[-1].node) if entries[-1].node else "")


def _folded(path: list[str]) -> list[str]:
    """Equal steps in a row as one: "Node.next ×18"."""
    rows = [(text, len(list(same))) for text, same in itertools.groupby(path)]
    return [text if times == 1 else f"{text} ×{times}" for text, times in rows]


def _without_the_last_name(path: list[str], name: str, names: Names, node: int) -> list[str]:
    """A path to closures, strings and the like of many names, with the kind in place of one member's own."""
    if len(path) < 2:
        return path
    kind = f"({names.graph.node_kinds[int(names.graph.node_kind[node])]})"
    holder = path[-2]
    return [*path[:-2], holder if holder.endswith("[*]") else holder.removesuffix(f".{clip(name)}") + "[*]", kind]


def _without_repetitions(names: Names, steps: list[int]) -> list[int]:
    """Places of the steps that do not say again, for the third time, what the steps just before them say: of a long
    list, its first two links and what follows it. A path of ordinary length is left whole."""
    if len(steps) <= _LONG_PATH:
        return list(range(len(steps)))
    graph = names.graph
    edges = np.asarray(steps, np.int64)
    positions = [graph.edge_kinds.index(kind) for kind in ("element", "hidden") if kind in graph.edge_kinds]
    text = np.where(np.isin(graph.edge_kind[edges], positions), -1, graph.edge_name[edges])
    alike = np.stack([graph.edge_kind[edges], text, graph.node_name[graph.edge_to[edges]]])
    keep = np.ones(len(steps), bool)
    for period in range(1, _LONGEST_REPEATED + 1):
        again = np.zeros(len(steps), bool)
        again[period:] = np.all(alike[:, period:] == alike[:, :-period], axis=0)
        ends = np.flatnonzero(~again)
        lengths = np.diff(np.append(ends, len(steps)))
        place = np.arange(len(steps)) - np.repeat(ends, lengths)
        whole = np.repeat((lengths - 1) // period * period, lengths)  # what is cut off a last round stays
        keep &= ~(again & (place > period) & (place <= whole))
    return np.flatnonzero(keep).tolist()


def container_name(names: Names, tree: PathTree, node: int) -> tuple[str, str]:
    """What a container is called by its path, and how it is imported, ``module:attribute``, where it can be:
    "LISTENERS (list) of app", "Provider.meters (set), in app.PROVIDER"."""
    shown = shown_path(names, tree, [node])
    kind = names.short(node)
    reference = _reference(shown.path[:-1])
    if shown.holding.startswith("lru_cache"):
        return (f"lru_cache of {shown.registered_in}" if shown.registered_in else shown.holding), ""
    module, _, attribute = reference.partition(":")
    if attribute and "." not in attribute:
        return f"{attribute} ({kind}) of {module}", reference
    name = shown.holding if shown.holding.endswith(f"({kind})") else f"{shown.holding} ({kind})"
    return (f"{name}, in {shown.registered_in}" if shown.registered_in else name), reference


def _reference(path: Sequence[str]) -> str:
    module = re.fullmatch(r"sys\.modules\['([\w.]+)'\]", path[0]) if path else None
    if module is None or len(path) < 2 or not path[1].startswith(f"{module[1]}."):
        return ""
    steps = [re.sub(r" \(\w+\)$", "", step) for step in path[1:]]
    attributes = [steps[0][len(module[1]) + 1 :], *(step.rpartition(".")[2] for step in steps[1:])]
    plain = all(attribute.isidentifier() for attribute in attributes)
    return f"{module[1]}:{'.'.join(attributes)}" if plain else ""


def _shared_positions(names: Names, steps: list[int], compared: list[list[int]]) -> set[int]:
    graph = names.graph
    if any(len(other) != len(steps) for other in compared):
        return set()
    alike = range(len(steps))
    return {k for k in alike if len({int(graph.edge_name[other[k]]) for other in compared}) == 1}


def _varying_keys(names: Names, steps: list[int], compared: list[list[int]]) -> set[str]:
    """Dict keys of the shown path that are not those of all members."""
    graph = names.graph
    varying: set[str] = set()
    for other in compared:
        for mine, theirs in zip(steps, other, strict=False):
            if len(other) != len(steps) and not _alike(graph, mine, theirs):
                break  # from here on its steps are others
            name = names.edge_text(mine)
            if name is not None and names.edge_text(theirs) != name:
                varying.add(clip(name))
    return varying


def _alike(graph: HeapGraph, one: int, other: int) -> bool:
    """Whether two edges are of one kind and lead to the same kind of thing."""
    if graph.edge_kind[one] != graph.edge_kind[other]:
        return False
    nodes = int(graph.edge_to[one]), int(graph.edge_to[other])
    return bool(graph.node_kind[nodes[0]] == graph.node_kind[nodes[1]])


def _general(text: str, keys: set[str]) -> str:
    for key in keys:
        text = text.replace(f"['{key}']", "[*]").replace(f"[{key}]", "[*]")
    return text


_HOLDERS = ("closure cell", "local '", "context '", "context variable", ".__traceback__", ".tb_frame")
_LOOKED_BACK = 4  # entries before the target among which a closure or a frame is what holds


def holding_index(entries: Sequence[Entry]) -> int:
    """Which entry holds: the closure or frame nearest the target, if near; else what holds the target
    itself.
    """
    last = len(entries) - 1
    for index in range(last, max(-1, last - _LOOKED_BACK), -1):
        if any(word in entries[index].access for word in _HOLDERS):
            return index
    return last


def _in_words(entries: Sequence[Entry], keys: set[str]) -> tuple[str, str | None]:
    index = holding_index(entries)
    entry = entries[index]
    holding = _general(entry.text, keys)
    cell = re.search(r"(closure cell|local|context variable|context) '([^']*)'(.*)$", entry.access, re.DOTALL)
    if cell:
        rest = re.sub(r"(\[[^\]]*\])+$", "", cell[3]).strip(" .")
        rest = rest if not rest or rest.startswith("(") else f"({rest})"
        holding = f"{cell[1]} '{cell[2]}' of {entry.holder} {rest}".rstrip()
    elif index == len(entries) - 1 and index > 0:
        holding = re.sub(r"(\[[^\]]*\])+$", "", holding) or holding
    if holding.startswith(f"{LRU_CACHE.rpartition('.')[2]}.<"):
        holding = "lru_cache"
    place = index - 1
    if entry.holder == "KeyedRef" and index > 1:
        holding = f"the key of a weak dictionary's entry, which lives as long as its value, a {entries[place].holder}"
        place -= 1
    while place > 1 and entries[place].holder == "traceback":  # a traceback's links say less than who has it
        place -= 1
    if place == 1 and entries[1].holder in CONTAINERS and root_rank(entries[0].text) != UNKNOWN:
        return holding, entries[0].text  # the container itself has no name but the root's
    registered = _general(entries[place].text, keys) if place > 0 else None
    return holding, re.sub(r"(\[[^\]]*\])+$", "", registered) if registered else None
