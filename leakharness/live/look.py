"""One look at a running process: what its heap holds, and who holds the objects of a type."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.errors import UsageError
from leakharness.heap.dominator_rows import DominatorRow, dominator_rows
from leakharness.heap.dominators import dominators, retained_sizes, strong_edges
from leakharness.heap.graph import EDGE_KINDS, NODE_KINDS, HeapGraph
from leakharness.heap.paths import AT_ONCE, links, reachable
from leakharness.heap.retainers import RetainerGroup, explain
from leakharness.live.containers_again import read_containers_again
from leakharness.live.core_file import find_core
from leakharness.live.debug_offsets import checked
from leakharness.live.dicts import Strings
from leakharness.live.frames import Codes
from leakharness.live.layouts import Layout, layout_of
from leakharness.live.memory import Memory
from leakharness.live.names import Names
from leakharness.live.ndarrays import collect_arrays
from leakharness.live.objects import Objects, find_objects
from leakharness.live.pause import paused
from leakharness.live.process import Target, find_target
from leakharness.live.references import References
from leakharness.live.roots import Roots
from leakharness.live.sizes import shallow_sizes
from leakharness.live.special import collect_special

__all__ = ["SCHEMA", "Family", "Look", "look", "look_at_core"]

Ints = npt.NDArray[np.int64]

SCHEMA = "leakharness.live/1"
ATTEMPTS, PAUSE_S = 4, 0.3
"""How often the memory is read again, and the seconds between: a full collection of a million objects takes 0.25 s."""
MOST_TORN = 0.1
"""Share of torn objects that is believed: a busy heap has about one in 70,000, one that is being collected most."""
MISFIT_ATTEMPTS = 3
"""How often a process is read that modules seem to lead to little of: it may have emptied a large registry between the
copy of what was in it and that of the registry."""
FEWEST_REACHED = 0.5
"""Share of the objects that modules must lead to. A still process has 95 % and more; with less than half, the layout
does not fit this build, and no name in the answer could be trusted."""


NODE_KIND_OF = {
    "function": "closure",
    "code": "code",
    "str": "string",
    "bytes": "string",
    "int": "number",
    "float": "number",
}
"""What is not an "object" in Chrome DevTools, as in captures."""


@dataclass(frozen=True)
class Family:
    """Objects of one type: how many the collector tracks, how many it does not, and their shallow size in bytes."""

    type: str
    count: int
    untracked: int
    shallow_bytes: int


@dataclass(frozen=True, eq=False)
class Look:
    """What was found in a process. ``reached`` counts the objects that modules lead to; the rest is held by C, by
    running frames, or by nobody known."""

    pid: int
    python: str
    graph: HeapGraph = field(repr=False)
    objects: int
    reached: int
    torn: int
    stopped_ms: float
    seconds: float
    families: list[Family]
    modules: frozenset[str] = field(repr=False, default=frozenset())
    interpreters: int = 1

    @property
    def fits(self) -> bool:
        """Whether modules lead to as many objects as they do where the layout is the build's."""
        return self.reached >= FEWEST_REACHED * self.objects

    def nodes_of(self, wanted: str) -> list[int]:
        """Nodes of the type ``wanted``, or of those whose name ends with it after a dot. Raises UsageError for none."""
        for exact in (True, False):
            types = [f.type for f in self.families if f.type == wanted or (not exact and f.type.endswith("." + wanted))]
            numbers = [number for number, text in enumerate(self.graph.strings) if text in types]
            nodes: list[int] = np.flatnonzero(np.isin(self.graph.node_name, numbers)).tolist()
            if nodes:
                return nodes
        raise UsageError(f"process {self.pid}: no tracked object of type {wanted!r}; without --type, all are listed")

    def program_families(self) -> list[Family]:
        """Types of modules that are neither built in nor of the standard library, most objects first."""
        own = [f for f in self.families if self._is_of_program(f.type) and f.count]
        return sorted(own, key=lambda family: -family.count)

    def _is_of_program(self, name: str) -> bool:
        module = name.rpartition(".")[0]
        while module and module not in self.modules:
            module = module.rpartition(".")[0]
        return bool(module) and module.partition(".")[0] not in sys.stdlib_module_names

    def program_nodes(self, most: int) -> list[int]:
        """Nodes of the ``most`` frequent types that are neither built in nor from the standard library."""
        chosen = {family.type for family in self.program_families()[:most]}
        numbers = [number for number, text in enumerate(self.graph.strings) if text in chosen]
        nodes: list[int] = np.flatnonzero(np.isin(self.graph.node_name, numbers)).tolist()
        return nodes

    def dominators(self, top: int, levels: int) -> list[DominatorRow]:
        """The largest retained sizes, as a tree."""
        tree = dominators(self.graph)
        return dominator_rows(self.graph, tree, retained_sizes(self.graph, tree), top=top, levels=levels)

    def retainers(self, nodes: list[int]) -> list[RetainerGroup]:
        """Who holds these nodes, grouped as the evidence of a run is."""
        return explain(self.graph, nodes)

    def document(self, groups: Sequence[RetainerGroup]) -> dict[str, Any]:
        """The JSON of ``live look``, without what it compares with an earlier look."""
        return {
            "schema": SCHEMA,
            "pid": self.pid,
            "python": self.python,
            "objects": self.objects,
            "reached": self.reached,
            "torn": self.torn,
            "interpreters": self.interpreters,
            "stopped_ms": self.stopped_ms,
            "seconds": self.seconds,
            "families": [
                {
                    "type": family.type,
                    "count": family.count,
                    "untracked": family.untracked,
                    "shallow_bytes": family.shallow_bytes,
                }
                for family in self.families
            ],
            "retainers": [group.document() for group in groups],
        }


def look(pid: int, *, pause: bool = False) -> Look:
    """Read the heap of process ``pid``; with ``pause`` while all its threads are held.

    Raises UsageError, with the reason and the cure, where that cannot be done.
    """
    begin = time.perf_counter()
    for attempt in range(1, MISFIT_ATTEMPTS + 1):
        target = find_target(pid)
        objects, stopped = _objects(target, layout_of(target.version), pause=pause)
        found = _look(objects, pid, target.version, (_directory(pid), stopped, begin))
        if found.fits or attempt == MISFIT_ATTEMPTS:
            break
    return _that_fits(found, f"process {pid}")


def look_at_core(path: Path) -> Look:
    """Read the heap of a core dump. Raises UsageError where it cannot be read."""
    begin = time.perf_counter()
    core = find_core(path)
    with core.opened() as source:
        memory = Memory(source)
    objects = find_objects(memory, checked(memory, layout_of(core.version), str(path)))
    return _that_fits(_look(objects, core.pid, core.version, ("", 0.0, begin)), str(path))


def _look(objects: Objects, pid: int, version: tuple[int, int], surroundings: tuple[str, float, float]) -> Look:
    directory, stopped, begin = surroundings
    tracked, torn = objects.tracked, objects.torn
    graph, families, modules, interpreters = _read_all(objects, directory)
    python = ".".join(map(str, version))
    graph.meta.update(pid=pid, python=python, time=time.time(), producer="leakharness")
    reached = int(np.count_nonzero(reachable(links(graph, strong_edges(graph)))[1 : tracked + 1]))
    return Look(
        pid=pid,
        python=python,
        graph=graph,
        objects=tracked,
        reached=reached,
        torn=torn,
        stopped_ms=round(stopped * 1000, 1),
        seconds=round(time.perf_counter() - begin, 3),
        families=families,
        modules=modules,
        interpreters=interpreters,
    )


def _read_all(objects: Objects, directory: str) -> tuple[HeapGraph, list[Family], frozenset[str], int]:
    """(graph, types, names of the modules, number of interpreters). What was read for them goes at the end."""
    strings = Strings(objects.memory, objects.layout)
    codes = Codes(objects.memory, objects.layout, strings)
    references = References(objects, strings)
    names = Names(objects, references, strings, codes, directory)
    roots = Roots(objects, references, names, codes)
    references.read_code(codes.addresses())
    references.collect()
    collect_special(references, codes)
    collect_arrays(references)
    references.follow(collect_arrays)
    sizes = shallow_sizes(objects, references)
    families = _families(objects, names, sizes)
    graph = _graph(objects, references, names, roots.found, sizes)
    return graph, families, frozenset(names.modules()), roots.interpreters


def _objects(target: Target, layout: Layout, *, pause: bool) -> tuple[Objects, float]:
    """The objects of the process, read again where a collection was running, and for how many seconds it was held."""
    for _ in range(ATTEMPTS):
        memory, stopped = _held(target) if pause else (_read(target), 0.0)
        objects = find_objects(memory, checked(memory, layout, f"process {target.pid}"))
        if objects.torn <= MOST_TORN * len(objects):
            if not pause:
                with suppress(UsageError), target.opened() as source:  # it may have ended since
                    read_containers_again(objects, source)
            return objects, stopped
        time.sleep(PAUSE_S)
        target = find_target(target.pid)
    raise UsageError(
        f"process {target.pid}: {objects.torn} of its objects changed while they were read, {ATTEMPTS} times in a row; "
        "look again when it is less busy, or with --pause"
    )


def _read(target: Target, *, spare: bool = False) -> Memory:
    with target.opened() as source:
        return Memory(source, spare=spare)


def _held(target: Target) -> tuple[Memory, float]:
    """A copy of a process that stands still meanwhile, and for how many seconds it does.

    A first copy, while it runs, is for the pages: getting them from the kernel takes several times as long as copying.
    """
    before = _read(target, spare=True)
    begin = time.perf_counter()
    with paused(target.pid), find_target(target.pid).opened() as source:
        memory = Memory(source, before)
    return memory, time.perf_counter() - begin


def _that_fits(found: Look, what: str) -> Look:
    if not found.fits:
        raise UsageError(
            f"{what}: its modules lead to {found.reached} of {found.objects} objects only: the layout of CPython "
            f"{found.python} does not fit this build. A debug build cannot be read"
        )
    return found


def _directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _families(objects: Objects, names: Names, sizes: Ints) -> list[Family]:
    """Types by shallow size; what the collector does not track is counted apart."""
    kinds = len(objects.types)
    tracked = np.bincount(objects.kind[: objects.tracked], minlength=kinds).tolist()
    all_ = np.bincount(objects.kind, minlength=kinds).tolist()
    weights = np.zeros(kinds)
    for begin in range(0, len(sizes), AT_ONCE):
        some = slice(begin, begin + AT_ONCE)
        weights += np.bincount(objects.kind[some], weights=sizes[some], minlength=kinds)
    by_name: dict[str, list[int]] = {}
    for kind in range(kinds):
        row = by_name.setdefault(names.name_of(kind), [0, 0, 0])
        row[0] += tracked[kind]
        row[1] += all_[kind] - tracked[kind]
        row[2] += int(weights[kind])
    found = [Family(name, *row) for name, row in by_name.items()]
    return sorted(found, key=lambda family: (-family.shallow_bytes, -family.count, family.type))


def _graph(
    objects: Objects, references: References, names: Names, roots: list[tuple[str, int]], sizes: Ints
) -> HeapGraph:
    """The graph of all that was read. The copy of the memory is given back on the way: from there on it would only
    double what is needed."""
    root_name = [references.name(text) for text, _ in roots]
    node_kind = np.empty(len(objects) + 1, np.uint8)
    node_kind[0], node_kind[1:] = NODE_KINDS.index("synthetic"), _kinds(objects, references)
    node_name = np.empty(len(objects) + 1, np.int32)
    node_name[0], node_name[1:] = references.name("(root)"), names.of_nodes()
    objects.memory.release()
    start = np.zeros(len(objects) + 2, np.int64)
    start[1] = len(roots)
    np.cumsum(references.counts(), out=start[2:])
    start[2:] += len(roots)
    edge_to, edge_name = np.empty(start[-1], np.int32), np.empty(start[-1], np.int32)
    edge_kind = np.empty(start[-1], np.uint8)
    edge_to[: len(roots)] = np.array([node for _, node in roots], np.int32) + 1
    edge_name[: len(roots)], edge_kind[: len(roots)] = root_name, EDGE_KINDS.index("property")
    free = start[1:-1].copy()
    for source, target, name, kind in references.take():
        first = (
            np.flatnonzero(np.concatenate([[True], source[1:] != source[:-1]]))
            if len(source)
            else np.zeros(0, np.int64)
        )
        lengths = np.diff(first, append=len(source))
        place = free[source] + np.arange(len(source)) - np.repeat(first, lengths)
        edge_to[place], edge_name[place], edge_kind[place] = target + 1, name, kind
        free[source[first]] += lengths
    return HeapGraph(
        node_kind=node_kind,
        node_name=node_name,
        node_id=np.concatenate([np.zeros(1, np.uint64), objects.address]),
        self_size=np.concatenate([[0], sizes]),
        edge_start=start,
        edge_kind=edge_kind,
        edge_name=edge_name,
        edge_to=edge_to,
        strings=list(references.names),
    )


def _kinds(objects: Objects, references: References) -> npt.NDArray[np.uint8]:
    """Kinds of nodes, as those of a capture."""
    kinds = [
        next((kind for base, kind in NODE_KIND_OF.items() if base in bases), "object") for bases in references.bases()
    ]
    return objects.by_kind(np.array([NODE_KINDS.index(kind) for kind in kinds], np.uint8))
