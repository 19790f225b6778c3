"""What V8's nodes and edges are to a reader of JavaScript: which arrays are the stores of which objects, which edges
write one reference twice, and which keys are entries and not attributes.

V8 writes an object's elements twice, as ``element`` edges of the object and as entries of its ``(object elements)``,
and likewise its properties; the entries of a Map or a Set only as those of its ``table``. The rules here follow
https://chromium.googlesource.com/v8/v8/+/main/src/profiler/heap-snapshot-generator.cc (``ExtractPropertyReferences``,
``ExtractElementReferences``, ``ExtractJSCollectionReferences``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from leakharness.heap.arrays import distinct
from leakharness.heap.graph import HeapGraph

__all__ = [
    "EPHEMERON",
    "NAMED_BY_TEXT",
    "PARTS_OF_CODE",
    "PLACE",
    "SCOPE",
    "VALUE",
    "Objects",
    "edge_names",
    "ephemeron_copies",
    "inner_nodes",
    "objects_of",
    "size_owners",
]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int32]

PLACE, VALUE = -1, -3  # in place of an edge's name: an entry at some place, the value of a WeakMap's entry
_STORE_EDGES = ("elements", "properties", "table")
_STORE_KINDS = ("array", "hidden")
_SCOPE_EDGES = ("context", "previous")
SCOPE = "system / Context"
_CELL = "system / PropertyCell"
_MOST_PARTS = 32  # parts of a string that are put together to name a key
_NAMES_OF_V8 = ("system / ", "(code", "(bytecode")
_COLLECTIONS = frozenset({"Array", "Map", "Set", "WeakMap", "WeakSet"})
NAMED_BY_TEXT = ("string", "concatenated string", "sliced string", "number", "symbol", "bigint", "regexp")
PARTS_OF_CODE = ("closure", "code", "object shape")
"""Kinds that V8 names by the function or file that they are of: one family a kind, as in DevTools."""
MANY_KEYS = 32
"""Properties from which on a plain Object is a dictionary: literals and options have fewer, and an object used as a
cache or a registry soon has hundreds."""

EPHEMERON = re.compile(
    r"\d+ / part of key \(.*? @\d+\) -> value \(.*? @\d+\) pair in WeakMap \(table @(?P<table>\d+)\)", re.DOTALL
)
"""Name of the two edges that V8 writes for one entry of a WeakMap: from the key to the value, and from the table."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The graph of a V8 file as a reader of JavaScript sees it."""

    graph: HeapGraph

    @cached_property
    def numbered(self) -> Mask:
        """Strings that are whole numbers: an ``internal`` edge of such a name is an entry at that place."""
        return np.array([text.isascii() and text.isdigit() for text in self.graph.strings], bool)

    @cached_property
    def ephemerons(self) -> Mask:
        """Strings that name an entry of a WeakMap."""
        return np.array([" pair in WeakMap" in text and bool(EPHEMERON.fullmatch(text)) for text in self.graph.strings])

    @cached_property
    def read_as(self) -> npt.NDArray[np.int64]:
        """For each string what an ``internal`` edge of that name is told as: its own number, `PLACE` or `VALUE`."""
        read_as = np.arange(len(self.graph.strings))
        read_as[self.numbered] = PLACE
        read_as[self.ephemerons] = VALUE
        return read_as

    @cached_property
    def internal(self) -> Mask:
        kinds = self.graph.edge_kinds
        found: Mask = self.graph.edge_kind == (kinds.index("internal") if "internal" in kinds else len(kinds))
        return found

    def _named(self, *names: str) -> Mask:
        numbers = [number for number, text in enumerate(self.graph.strings) if text in names]
        return self.internal & np.isin(self.graph.edge_name, numbers)

    def _of_kind(self, *kinds: str) -> list[int]:
        return [number for number, kind in enumerate(self.graph.node_kinds) if kind in kinds]

    @cached_property
    def into_stores(self) -> Mask:
        """Edges from an object to its own store of elements, properties or entries."""
        store = np.isin(self.graph.node_kind, self._of_kind(*_STORE_KINDS))
        found: Mask = self._named(*_STORE_EDGES) & store[self.graph.edge_to]
        return found

    @cached_property
    def tables(self) -> Mask:
        """Nodes that are the stores of a Map or a Set, where each entry has its place behind that of its key."""
        tables = np.zeros(self.graph.node_count, bool)
        tables[self.graph.edge_to[self._named("table") & self.into_stores]] = True
        return tables

    def key_of(self, edge: int) -> str | None:
        """The text of the key of a Map's entry; None where the edge is no value of one, or the key is no string."""
        graph = self.graph
        source = graph.edge_source(edge)
        if not self.tables[source] or not self.internal[edge] or edge == int(graph.edge_start[source]):
            return None
        place, before = graph.edge_text(edge), graph.edge_text(edge - 1)
        key = int(graph.edge_to[edge - 1])
        if not (place.isdigit() and before == str(int(place) - 1)) or key == int(graph.edge_to[edge]):
            return None
        return self._text(key)

    def _text(self, node: int) -> str | None:
        """What a string says, put together from its parts; None where it is no string or has too many of them."""
        graph, found, waiting = self.graph, "", [node]
        for _ in range(_MOST_PARTS):
            if not waiting:
                return found
            node = waiting.pop()
            kind = graph.node_kinds[int(graph.node_kind[node])]
            if kind == "string":
                found += graph.type_name(node)
                continue
            if kind != "concatenated string":
                return None
            edges = range(int(graph.edge_start[node]), int(graph.edge_start[node + 1]))
            parts = {graph.edge_text(edge): int(graph.edge_to[edge]) for edge in edges}
            waiting += [parts[name] for name in ("second", "first") if name in parts]
        return None

    @cached_property
    def into_scopes(self) -> Mask:
        """Edges from a closure to its scope, and from there to the one around it."""
        numbers = [number for number, text in enumerate(self.graph.strings) if text == SCOPE]
        found: Mask = self._named(*_SCOPE_EDGES) & np.isin(self.graph.node_name, numbers)[self.graph.edge_to]
        return found

    @cached_property
    def dictionaries(self) -> Mask:
        """Nodes whose properties are entries: plain objects with `MANY_KEYS` of them."""
        graph = self.graph
        if "property" not in graph.edge_kinds:
            return np.zeros(graph.node_count, bool)
        properties = np.zeros(graph.edge_count + 1, np.int32)
        np.cumsum(graph.edge_kind == graph.edge_kinds.index("property"), out=properties[1:])
        numbers = [number for number, text in enumerate(graph.strings) if text == "Object"]
        many = np.diff(properties[graph.edge_start]) >= MANY_KEYS
        found: Mask = many & np.isin(graph.node_name, numbers) & self.plain
        return found

    @cached_property
    def plain(self) -> Mask:
        """Nodes that are objects of the program, and not code, strings or V8's own."""
        found: Mask = np.isin(self.graph.node_kind, self._of_kind("object"))
        return found

    @cached_property
    def collections(self) -> Mask:
        """Nodes that hold entries: arrays, maps, sets and dictionaries."""
        numbers = [number for number, text in enumerate(self.graph.strings) if text in _COLLECTIONS]
        found: Mask = (np.isin(self.graph.node_name, numbers) & self.plain) | self.dictionaries
        return found

    @cached_property
    def parts(self) -> Mask:
        """Nodes that are parts of an object and not objects: its stores and scopes."""
        parts = np.zeros(self.graph.node_count, bool)
        parts[self.graph.edge_to[self.into_stores | self.into_scopes]] = True
        return parts

    @cached_property
    def named_by_text(self) -> Mask:
        """Nodes that V8 names by what they say, strings, numbers and the like, or, code, by the function or file
        whose it is. Their kind is their family."""
        own = np.array([text.startswith(_NAMES_OF_V8) for text in self.graph.strings], bool)
        code = np.isin(self.graph.node_kind, self._of_kind("code")) & ~own[self.graph.node_name]
        found: Mask = code | np.isin(self.graph.node_kind, self._of_kind(*NAMED_BY_TEXT))
        return found

    @cached_property
    def leaves(self) -> Mask:
        """Nodes that are told by their kind where they are what is asked for: what V8 names by text or by function."""
        found: Mask = self.named_by_text | np.isin(self.graph.node_kind, self._of_kind(*PARTS_OF_CODE))
        return found

    @cached_property
    def called(self) -> Ints:
        """What each node is called, as a number: that of its name, or one for all that have no name of their own."""
        return np.where(self.named_by_text, -1 - self.graph.node_kind.astype(np.int64), self.graph.node_name)

    @cached_property
    def repeated(self) -> Mask:
        """Edges that say once more what another says: an entry of a store whose only holder has an edge to the same
        object itself, and the content of a global's cell."""
        graph = self.graph
        repeated = np.zeros(graph.edge_count, bool)
        into = np.flatnonzero(self.into_stores)
        stores = graph.edge_to[into].astype(np.int64)
        owners = np.searchsorted(graph.edge_start, into, side="right") - 1
        holders = np.bincount(graph.edge_to, minlength=graph.node_count)[stores]
        single = holders == 1
        direct = _DirectEdges(graph, np.unique(owners))
        # What others hold too is a way of its own through them; through its owner it is none.
        # (A table is the only way to its entries.)
        shared = into[~single & ~self._named("table")[into]]
        repeated[shared[direct.has_some(np.searchsorted(graph.edge_start, shared, side="right") - 1)]] = True
        stores, owners = stores[single], owners[single]
        edges, of_owner = _edges_of(graph, stores, owners)
        repeated[edges[direct.has(of_owner, graph.edge_to[edges])]] = True
        # A global is a cell in the properties of the global object; compiled code holds the cell too.
        cell = np.isin(graph.node_name, [number for number, text in enumerate(graph.strings) if text == _CELL])
        held = cell[graph.edge_to[edges]]
        inner, of_global = _edges_of(graph, graph.edge_to[edges[held]].astype(np.int64), of_owner[held])
        value = self._named("value")[inner]
        inner, of_global = inner[value], of_global[value]
        repeated[inner[direct.has(of_global, graph.edge_to[inner])]] = True
        return repeated


class _DirectEdges:
    """Which objects have a property or an element that is a given one."""

    def __init__(self, graph: HeapGraph, owners: Ints) -> None:
        self.n = np.int64(graph.node_count)
        edges, sources = _edges_of(graph, owners, owners)
        kinds = [number for number, kind in enumerate(graph.edge_kinds) if kind in ("element", "property")]
        plain = np.isin(graph.edge_kind[edges], kinds)
        self.pairs = np.unique(sources[plain] * self.n + graph.edge_to[edges[plain]])

    def has_some(self, owners: Ints) -> Mask:
        found: Mask = np.isin(owners, np.unique(self.pairs // self.n))
        return found

    def has(self, owners: Ints, targets: npt.NDArray[np.int32]) -> Mask:
        wanted = owners * self.n + targets
        if not len(self.pairs):
            return np.zeros(len(wanted), bool)
        place = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        found: Mask = self.pairs[place] == wanted
        return found


def _edges_of(graph: HeapGraph, nodes: Ints, marks: Ints) -> tuple[Ints, Ints]:
    """The edges that go out from ``nodes``, and for each the mark of its node."""
    begin = graph.edge_start[nodes]
    count = graph.edge_start[nodes + 1] - begin
    edges = np.repeat(begin - np.cumsum(count) + count, count) + np.arange(int(count.sum()))
    return edges, np.repeat(marks, count)


_SEEN: WeakKeyDictionary[HeapGraph, Objects] = WeakKeyDictionary()


def objects_of(graph: HeapGraph) -> Objects | None:
    """The view of a graph that V8 made; None for ours and for those of other producers."""
    if not graph.of_v8:
        return None
    found = _SEEN.get(graph)
    if found is None:
        found = _SEEN[graph] = Objects(graph)
    return found


def edge_names(graph: HeapGraph, edges: Ints | npt.NDArray[np.int32]) -> Ints:
    """What each edge's name is told as: the number of a string, or `PLACE` or `VALUE`."""
    positions = [number for number, kind in enumerate(graph.edge_kinds) if kind in ("element", "hidden")]
    kind, name = graph.edge_kind[edges], graph.edge_name[edges].astype(np.int64)
    by_place = np.isin(kind, positions)
    found = objects_of(graph)
    if found is not None:
        internal = kind == graph.edge_kinds.index("internal") if "internal" in graph.edge_kinds else np.zeros(1, bool)
        name = np.where(internal, found.read_as[np.where(internal, name, 0)], name)
    return np.where(by_place, PLACE, name)


def ephemeron_copies(graph: HeapGraph) -> Ints:
    """Edges from a WeakMap's table to its values, where the key has one too."""
    found = objects_of(graph)
    if found is None or not found.ephemerons.any():
        return np.empty(0, np.int64)
    edges = np.flatnonzero(found.internal & found.ephemerons[graph.edge_name * found.internal])
    names, inverse = np.unique(graph.edge_name[edges], return_inverse=True)
    matches = [EPHEMERON.fullmatch(graph.strings[name]) for name in names.tolist()]
    tables = np.array([int(match["table"]) if match else -1 for match in matches], np.int64)
    sources = np.searchsorted(graph.edge_start, edges, side="right") - 1
    copies: Ints = edges[graph.node_id[sources].astype(np.int64) == tables[inverse.reshape(-1)]]
    return copies


def inner_nodes(graph: HeapGraph) -> Mask:
    """Nodes that may count for the object that holds them: V8's ``array`` and ``hidden`` ones."""
    inner: Mask = np.array([kind in _STORE_KINDS for kind in graph.node_kinds], bool)[graph.node_kind]
    external = [number for number, text in enumerate(graph.strings) if text == "system / ExternalStringData"]
    if external:
        inner |= np.isin(graph.node_name, external)
    return inner


def size_owners(graph: HeapGraph) -> Numbers:
    """For each node the one that its own size counts for: itself, or for V8's ``array`` and ``hidden`` nodes the only
    object that holds them, at any depth.

    The rule of DevTools (``calculateShallowSizes`` of its ``HeapSnapshot.ts``): "Session +4 MiB", not "(object
    elements)". A node with several owners, and one whose owner is a synthetic root, keeps its size.
    """
    n = graph.node_count
    inner = inner_nodes(graph)
    owner = np.where(inner, np.int32(_UNSEEN), np.arange(n, dtype=np.int32))
    weak = graph.edge_kinds.index("weak") if "weak" in graph.edge_kinds else len(graph.edge_kinds)
    edges = np.flatnonzero(inner[graph.edge_to] & (graph.edge_kind != weak))
    targets = graph.edge_to[edges]
    sources = np.repeat(np.arange(n, dtype=np.int32), np.diff(graph.edge_start))[edges]
    other = sources != targets
    _spread(owner, sources[other], targets[other])
    synthetic = np.isin(graph.node_kind, [k for k, kind in enumerate(graph.node_kinds) if kind == "synthetic"])
    kept = (owner < 0) | synthetic[np.maximum(owner, 0)]
    return np.where(kept, np.arange(n, dtype=np.int32), owner)


_UNSEEN, _SEVERAL = -1, -2


def _spread(owner: Numbers, sources: Numbers, targets: Numbers) -> None:
    """Carry owners along the edges into inner nodes until none changes: unseen, one, several. The edges are in the
    order of their sources."""
    active = owner[sources] != _UNSEEN
    at, new = targets[active], owner[sources[active]]
    while len(at):
        before = owner[at]
        owner[at] = new  # of several the last that is written stays
        several = (owner[at] != new) | ((before != _UNSEEN) & (before != new))
        owner[at[several]] = _SEVERAL
        changed = distinct(at[owner[at] != before])
        first, last = np.searchsorted(sources, changed), np.searchsorted(sources, changed, side="right")
        count = last - first
        edges = np.repeat(first - np.cumsum(count) + count, count) + np.arange(int(count.sum()))
        at, new = targets[edges], owner[sources[edges]]
