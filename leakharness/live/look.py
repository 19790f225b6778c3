"""One look at a running process: what its heap holds, and who holds the objects of a type."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.errors import UsageError
from leakharness.heap.dominators import strong_edges
from leakharness.heap.graph import EDGE_KINDS, NODE_KINDS, HeapGraph
from leakharness.heap.paths import UNKNOWN, path_tree
from leakharness.heap.retainers import RetainerGroup, explain
from leakharness.live.dicts import Strings, entries_of
from leakharness.live.layouts import Layout, layout_of
from leakharness.live.memory import Memory
from leakharness.live.objects import HEAP_TYPE, Objects, find_objects
from leakharness.live.process import Target, find_target
from leakharness.live.references import Edges, References

__all__ = ["Family", "Look", "look"]

Ints = npt.NDArray[np.int64]

SCHEMA = "leakharness.live/1"
ATTEMPTS, PAUSE_S = 4, 0.3
"""How often the memory is read again, and the seconds between: a full collection of a million objects takes 0.25 s."""
MOST_TORN = 0.1
"""Share of torn objects that is believed: a busy heap has about one in 70,000, one that is being collected most."""
FEWEST_REACHED = 0.5
"""Share of the objects that modules must lead to. A still process has 95 % and more; with less than half, the layout
does not fit this build, and no name in the answer could be trusted."""


@dataclass(frozen=True)
class Family:
    """Objects of one type: how many, and their shallow size in bytes (without buffers outside of the object)."""

    type: str
    count: int
    shallow_bytes: int


@dataclass(frozen=True, eq=False)
class Look:
    """What was found in a process. ``reached`` counts the objects that modules lead to; the rest is held by C, by
    running frames, or by nobody known."""

    pid: int
    python: str
    graph: HeapGraph = field(repr=False)
    reached: int
    torn: int
    seconds: float
    families: list[Family]

    @property
    def objects(self) -> int:
        return self.graph.node_count - 1

    def nodes_of(self, wanted: str) -> list[int]:
        """Nodes of the type ``wanted``, or of those whose name ends with it after a dot. Raises UsageError for none."""
        for exact in (True, False):
            types = [f.type for f in self.families if f.type == wanted or (not exact and f.type.endswith("." + wanted))]
            numbers = [number for number, text in enumerate(self.graph.strings) if text in types]
            nodes: list[int] = np.flatnonzero(np.isin(self.graph.node_name, numbers)).tolist()
            if nodes:
                return nodes
        raise UsageError(f"process {self.pid}: no tracked object of type {wanted!r}; without --type, all are listed")

    def program_nodes(self, most: int) -> list[int]:
        """Nodes of the ``most`` frequent types that are neither built in nor from the standard library."""
        own = [f for f in self.families if "." in f.type and f.type.split(".")[0] not in sys.stdlib_module_names]
        chosen = {family.type for family in sorted(own, key=lambda family: -family.count)[:most]}
        numbers = [number for number, text in enumerate(self.graph.strings) if text in chosen]
        nodes: list[int] = np.flatnonzero(np.isin(self.graph.node_name, numbers)).tolist()
        return nodes

    def retainers(self, nodes: list[int]) -> list[RetainerGroup]:
        """Who holds these nodes, grouped as the evidence of a run is."""
        return explain(self.graph, nodes)

    def document(self, groups: list[RetainerGroup]) -> dict[str, Any]:
        """The JSON of ``live look``."""
        return {
            "schema": SCHEMA,
            "pid": self.pid,
            "python": self.python,
            "objects": self.objects,
            "reached": self.reached,
            "torn": self.torn,
            "stopped_ms": 0,
            "seconds": self.seconds,
            "families": [
                {"type": family.type, "count": family.count, "shallow_bytes": family.shallow_bytes}
                for family in self.families
            ],
            "retainers": [group.document() for group in groups],
            "growth": [],
        }


def look(pid: int) -> Look:
    """Read the heap of process ``pid``. Raises UsageError, with the reason and the cure, where that cannot be done."""
    begin = time.perf_counter()
    target = find_target(pid)
    layout = layout_of(target.version)
    objects = _objects(target, layout)
    memory = objects.memory
    strings = Strings(memory, layout)
    references = References(objects, strings)
    edges = references.collect()
    words = _Names(objects, references, strings, _directory(pid))
    graph = _graph(objects, references, edges, words)
    graph.meta.update(pid=pid, python=".".join(map(str, target.version)), time=time.time(), producer="leakharness")
    reached = int(np.count_nonzero(path_tree(graph, strong_edges(graph)).rank[1:] < UNKNOWN))
    _refuse_misfit(graph, reached, pid)
    families = _families(objects, words)
    return Look(
        pid, graph.meta["python"], graph, reached, objects.torn, round(time.perf_counter() - begin, 3), families
    )


def _objects(target: Target, layout: Layout) -> Objects:
    """The objects of the process, read again where a collection was running."""
    for _ in range(ATTEMPTS):
        objects = find_objects(Memory(target), layout)
        if objects.torn <= MOST_TORN * len(objects.address):
            return objects
        time.sleep(PAUSE_S)
    raise UsageError(
        f"process {target.pid}: {objects.torn} of its objects changed while they were read, {ATTEMPTS} times in a row; "
        "look again when it is less busy"
    )


def _refuse_misfit(graph: HeapGraph, reached: int, pid: int) -> None:
    if reached < FEWEST_REACHED * (graph.node_count - 1):
        raise UsageError(
            f"process {pid}: its modules lead to {reached} of {graph.node_count - 1} objects only, so the layout of "
            f"CPython {graph.meta['python']} does not fit this build; a debug build cannot be read"
        )


def _directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _families(objects: Objects, words: _Names) -> list[Family]:
    item = np.abs(objects.item[objects.type])
    count = objects.memory.read(objects.address + np.uint64(16)).astype(np.int64)
    items = np.where((item > 0) & (count > 0) & (count < 1 << 28), item * count, 0)
    sizes = np.bincount(objects.type, weights=16 + objects.basic[objects.type] + items, minlength=len(objects.types))
    counts = np.bincount(objects.type, minlength=len(objects.types))
    by_name: dict[str, list[int]] = {}
    for name, number, size in zip(words.of_type, counts.tolist(), sizes.tolist(), strict=True):
        row = by_name.setdefault(name, [0, 0])
        row[0] += number
        row[1] += int(size)
    found = [Family(name, number, size) for name, (number, size) in by_name.items()]
    return sorted(found, key=lambda family: (-family.shallow_bytes, -family.count, family.type))


class _Names:
    """Names of nodes, as a capture has them: types by module and qualified name, functions with file and line."""

    def __init__(self, objects: Objects, references: References, strings: Strings, directory: str) -> None:
        self._objects, self._strings, self._directory = objects, strings, directory
        self._memory, self._layout = objects.memory, objects.layout
        self.of_type = [self.type_name(int(kind)) for kind in objects.types]
        self.of_node = [self.of_type[kind] for kind in objects.type.tolist()]
        for node in references.of_family("type").tolist():
            self.of_node[node] = f"type {self.type_name(int(objects.address[node]))}"
        for node in references.of_family("module").tolist():
            space = self._memory.word(int(objects.address[node]) + self._layout("PyModuleObject.md_dict"))
            self.of_node[node] = f"module {self.text_in(space, '__name__') or '?'}"
        places: dict[int, str] = {}
        for node in references.of_family("function").tolist():
            address = int(objects.address[node])
            code = self._memory.word(address + self._layout("PyFunctionObject.func_code"))
            qualname = self._strings(self._memory.word(address + self._layout("PyFunctionObject.func_qualname")), 300)
            if code not in places:
                places[code] = self._place(code)
            self.of_node[node] = f"function {(qualname or '?').rpartition('<locals>.')[2]} ({places[code]})"

    def text_in(self, space: int, key: str) -> str | None:
        """The text under ``key`` in a dict of the process."""
        value = self.value_in(space, key)
        return self._strings(value) if value else None

    def value_in(self, space: int, key: str) -> int:
        """The address under ``key`` in a dict of the process, 0 where there is none."""
        if not space:
            return 0
        entries = entries_of(self._memory, self._layout, np.array([space], np.uint64))
        pairs = zip(entries.key.tolist(), entries.value.tolist(), strict=True)
        return next((value for name, value in pairs if self._strings(name) == key), 0)

    def type_name(self, kind: int) -> str:
        """``module.qualname`` without ``builtins``, as in a capture."""
        memory, layout = self._memory, self._layout
        c_name = memory.c_string(memory.word(kind + layout("PyTypeObject.tp_name")))
        if not memory.word(kind + layout("PyTypeObject.tp_flags")) & HEAP_TYPE:
            return c_name
        qualname = self._strings(memory.word(kind + layout("PyHeapTypeObject.ht_qualname")), 300) or c_name
        module = self.text_in(memory.word(kind + layout("PyTypeObject.tp_dict")), "__module__")
        return qualname if module in (None, "builtins") else f"{module}.{qualname}"

    def _place(self, code: int) -> str:
        memory, layout = self._memory, self._layout
        file = self._strings(memory.word(code + layout("PyCodeObject.co_filename")), 1000) or "?"
        at = layout("PyCodeObject.co_firstlineno")
        line = (memory.word((code + at) & ~7) >> (32 if at % 8 else 0)) & 0xFFFFFFFF
        for lead in (self._directory + "/", *(part for part in ("/site-packages/", "/dist-packages/"))):
            if lead != "/" and lead in file:
                file = file.partition(lead)[2]
                break
        return f"{file}:{line}"


def _roots(objects: Objects, references: References, words: _Names) -> list[tuple[str, int]]:
    """What ``sys.modules`` holds, then modules that it does not."""
    modules = references.of_family("module")
    named: list[tuple[str, int]] = []
    system = next((node for node in modules.tolist() if words.of_node[node] == "module sys"), None)
    if system is not None:
        space = objects.memory.word(int(objects.address[system]) + objects.layout("PyModuleObject.md_dict"))
        table = words.value_in(space, "modules")
        entries = entries_of(objects.memory, objects.layout, np.array([table], np.uint64))
        nodes = objects.number(entries.value).tolist()
        for key, node in zip(entries.key.tolist(), nodes, strict=True):
            text = words._strings(key)
            if node >= 0 and text is not None:
                named.append(("builtins" if text == "builtins" else f"sys.modules[{text!r}]", node))
    known = {node for _, node in named}
    return named + [("module not in sys.modules", node) for node in modules.tolist() if node not in known]


def _graph(objects: Objects, references: References, edges: Edges, words: _Names) -> HeapGraph:
    roots = _roots(objects, references, words)
    root_name = [references.name(text) for text, _ in roots]
    node_name = np.array([references.name(text) for text in words.of_node], np.int64)
    root = references.name("(root)")
    order = np.argsort(edges.source, kind="stable")
    counts = np.concatenate([[len(roots)], np.bincount(edges.source, minlength=len(objects.address))])
    start = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=start[1:])
    kinds = np.full(len(counts), NODE_KINDS.index("object"), np.uint8)
    kinds[1 + references.of_family("function")] = NODE_KINDS.index("closure")
    kinds[0] = NODE_KINDS.index("synthetic")
    into = np.array([node for _, node in roots], np.int64) + 1
    first = np.full(len(roots), EDGE_KINDS.index("property"), np.int64)
    return HeapGraph(
        node_kind=kinds,
        node_name=np.concatenate([[root], node_name]).astype(np.int32),
        node_id=np.concatenate([np.zeros(1, np.uint64), objects.address]),
        self_size=np.concatenate([[0], 16 + objects.basic[objects.type]]).astype(np.int64),
        edge_start=start,
        edge_kind=np.concatenate([first, edges.kind[order]]).astype(np.uint8),
        edge_name=np.concatenate([np.array(root_name, np.int64), edges.name[order]]).astype(np.int32),
        edge_to=np.concatenate([into, edges.target[order] + 1]).astype(np.int32),
        strings=list(references.names),
    )
