"""The words for one node and one edge of a heap: what its type, its attributes and its entries are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from leakharness.heap.graph import HeapGraph
from leakharness.heap.v8_objects import PLACE, objects_of

__all__ = ["CONTAINERS", "LINE_NUMBER", "VALUE_TEXT", "Names", "clip"]

CONTAINERS = frozenset(
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
_PLACED = re.compile(r" \([^()]+:\d+\)$")
LINE_NUMBER = re.compile(r":\d+(?=\)| |$)")
VALUE_TEXT = "value in WeakMap"
_LABEL_WIDTH = 70
_FINGERPRINT_LABEL_WIDTH = 300  # V8 names strings by their text


class Names:
    """Words for the nodes and edges of one graph."""

    def __init__(self, graph: HeapGraph) -> None:
        self.graph = graph
        self.objects = objects_of(graph)

    def name(self, node: int) -> str:
        if self.objects is not None and self.objects.named_by_text[node]:
            return self._nameless(node)
        return self.graph.strings[int(self.graph.node_name[node])]

    def kind(self, edge: int) -> str:
        return self.graph.edge_kinds[int(self.graph.edge_kind[edge])]

    def edge_text(self, edge: int) -> str | None:
        """The edge's name, None where it has a position only."""
        kind, name = self.kind(edge), int(self.graph.edge_name[edge])
        if kind in ("element", "hidden"):
            return None
        if kind == "internal" and self.objects is not None:
            read_as = int(self.objects.read_as[name])
            if read_as < 0:
                return None if read_as == PLACE else VALUE_TEXT
        return self.graph.strings[name]

    def place(self, edge: int) -> str:
        """Where an entry is: its position, or the key of a Map in V8's files."""
        key = self.objects.key_of(edge) if self.objects is not None else None
        return self.graph.edge_text(edge) if key is None else f"'{clip_start(key)}'"

    def is_container(self, node: int) -> bool:
        """Whether what the node holds are its entries."""
        if self.objects is not None:
            return bool(self.objects.collections[node])
        return self.name(node) in CONTAINERS

    def is_leaf(self, node: int) -> bool:
        """Whether V8 names the node by its text or its function."""
        return self.objects is not None and bool(self.objects.leaves[node])

    @cached_property
    def between(self) -> npt.NDArray[np.bool_]:
        """Nodes that a path tells as steps from one object to the next: containers, cells, stores, scopes."""
        if self.objects is not None:
            return self.objects.collections | self.objects.parts
        told = [number for number, text in enumerate(self.graph.strings) if text in CONTAINERS or text == "cell"]
        return np.isin(self.graph.node_name, told)

    def is_inner(self, edge: int) -> bool:
        """Whether an edge of V8 leads to a part of the object itself: its store of entries, its scope."""
        return self.objects is not None and bool(self.objects.into_stores[edge] or self.objects.into_scopes[edge])

    def named_with_type(self, node: int) -> bool:
        """Whether a container that ``node`` has as an attribute is told with its type."""
        return self.objects is not None or self.name(node).startswith("module ")

    def _bound(self, node: int) -> str:
        """The function of a bound method; empty where that is not known."""
        begin, end = int(self.graph.edge_start[node]), int(self.graph.edge_start[node + 1])
        called = (self.name(int(self.graph.edge_to[e])) for e in range(begin, end) if self.edge_text(e) == "__func__")
        return described(next(called, "")).partition(" (")[0]

    def short(self, node: int) -> str:
        """``gateway.Transcript`` -> ``Transcript``; functions and modules by their own name."""
        name = self.name(node) or self._nameless(node)
        function = self._bound(node) if name == "method" else ""
        return clip(f"method {function}") if function else short_name(name)

    def shorts(self, nodes: Sequence[int]) -> list[str]:
        """`short` of each node; what differs by the node alone (methods, the nameless) is asked for one by one."""
        known: dict[int, str] = {}
        found = []
        for node, number in zip(nodes, self.graph.node_name[nodes].tolist(), strict=True):
            text = known.get(number)
            if text is None:
                text = self.short(node)
                if self.objects is None and self.graph.strings[number] not in ("", "method"):
                    known[number] = text
            found.append(text)
        return found

    def full(self, node: int) -> str:
        """The module-qualified type, without line numbers: it goes into fingerprints."""
        return LINE_NUMBER.sub("", clip(described(self.name(node) or self._nameless(node)), _FINGERPRINT_LABEL_WIDTH))

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
    """A name for display: without module, without ``<locals>``, at most `_LABEL_WIDTH` characters; more where it
    names a place in a file."""
    if _DESCRIBED.match(name):
        text = described(name)
        # A place in a file is worth nothing without its end: the file's name and the line.
        return clip(text, _FINGERPRINT_LABEL_WIDTH if _PLACED.search(text) else _LABEL_WIDTH)
    if " " in name or "(" in name:
        return clip(name)
    return clip(name.rsplit(".", 1)[-1] or name)


def clip_start(text: str, width: int = _LABEL_WIDTH) -> str:
    """As `clip`, but of a path or an address, whose end says most."""
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= width else "…" + text[1 - width :]


def clip(text: str, width: int = _LABEL_WIDTH) -> str:
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= width else text[: width - 1] + "…"
