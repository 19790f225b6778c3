"""Raw capture (``worker/capture/file.py``) -> :class:`HeapGraph`: ids become node numbers, references get
their names.

The capture says what refers to what (in the order of the collector) and, apart from that, what C-level reads
found under which name. A name is given to a reference only where source and target agree, so no name rests on
the order in which a type visits its members; what stays unnamed says the type of its target (``<dict>``).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.errors import SnapshotError
from leakharness.heap.graph import EDGE_KINDS, NODE_KINDS, HeapGraph
from leakharness.worker.capture.columns import ADDED, TEXT
from leakharness.worker.capture.file import MAGIC, is_harness_module, short_path
from leakharness.worker.capture.type_plans import CONTEXT, ELEMENT, FAMILIES, INTERNAL, PROPERTY, WEAK

__all__ = ["HELD_BY_C", "Capture", "load_capture"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HELD_BY_C = "held by C or unknown"
_SEARCH_FUNCTION = "function search_function (encodings/"
_ERROR_HANDLER = "xmlcharrefreplace"
NOT_IMPORTED = "module not in sys.modules"
HELD_BY_HARNESS = "harness: itself"
DECLARED = "harness: declared function"
_KIND_NAMES = {
    CONTEXT: "context",
    ELEMENT: "element",
    PROPERTY: "property",
    INTERNAL: "internal",
    WEAK: "weak",
}
assert all(EDGE_KINDS[number] == name for number, name in _KIND_NAMES.items())
_HEADER = struct.Struct("<8sQ")
_KIND_MASK = ADDED - 1
_EMPTY_DICT_BYTES = 80
"""An empty dict with the collector's header, on 64 bits."""
_CYCLES = 2_000
"""Unreachable cycles that get one root edge each; beyond that every node of the rest gets its own."""
_SEQUENCES = ("list", "tuple")
_ONE_NAME = {
    "cell": "cell_contents",
    "weakref": "__callback__",
    "dict": "<key>",
}
_ONE_NAME_OF_TYPE = {
    "mappingproxy": "mapping",
    "dict_keys": "mapping",
    "dict_values": "mapping",
    "dict_items": "mapping",
}
# Containers stay "object": Chrome DevTools adds the size of an "array" to its owner's.
_NODE_KIND = {
    "function": "closure",
    "code": "code",
}
_NODE_KIND_OF_TYPE = {
    "str": "string",
    "bytes": "string",
    "int": "number",
    "float": "number",
    "bool": "number",
}


@dataclass(frozen=True, eq=False)
class Capture:
    """A heap of ours, and which of its nodes are the retained tracked objects, with their labels."""

    graph: HeapGraph
    targets: list[int]
    labels: list[str]
    meta: dict[str, Any] = field(default_factory=dict)


def load_capture(path: str | Path) -> Capture:
    """Read a raw capture. Raises SnapshotError where it is missing, truncated or not one of ours."""
    where = Path(path)
    try:
        raw = where.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{where}: cannot read the capture: {error.strerror or error}") from None
    try:
        return _Ingest(_sections(raw)).capture()
    except _Broken as error:
        raise SnapshotError(f"{where}: not a usable capture: {error}; take it again") from None
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise SnapshotError(f"{where}: corrupt capture ({type(error).__name__}: {error}); take it again") from None


class _Broken(Exception):
    pass


def _sections(raw: bytes) -> dict[str, list[memoryview]]:
    if raw[: len(MAGIC)] != MAGIC:
        raise _Broken("it does not start like one")
    view, at, found = memoryview(raw), len(MAGIC), {}  # type: ignore[var-annotated]
    while at < len(raw):
        if at + _HEADER.size > len(raw):
            raise _Broken("it is truncated")
        key, length = _HEADER.unpack_from(raw, at)
        at += _HEADER.size
        if length > len(raw) - at:
            raise _Broken("it is truncated")
        found.setdefault(key.rstrip(b"\0").decode("ascii"), []).append(view[at : at + length])
        at += length
    if "meta" not in found:
        raise _Broken("it is truncated")
    return found


def _repeat(values: Ints, lengths: Ints, total: int) -> Ints:
    """``np.repeat`` for lengths that come from a file: they must add up before anything is made of them."""
    if len(values) != len(lengths) or np.any((lengths < 0) | (lengths > total)) or int(lengths.sum()) != total:
        raise _Broken("its columns do not add up")
    return np.repeat(values, lengths)


class _Strings:
    """Interned strings of the graph."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))

    def many(self, texts: list[str]) -> Ints:
        return np.fromiter(map(self, texts), np.int64, len(texts))


@dataclass
class _Edges:
    """Edges by source node, target node, name (string number or position) and kind."""

    source: Ints
    target: Ints
    name: Ints
    kind: Ints

    def take(self, which: Bools | Ints) -> _Edges:
        return _Edges(self.source[which], self.target[which], self.name[which], self.kind[which])


def _joined(parts: list[_Edges]) -> _Edges:
    return _Edges(
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.name for part in parts]),
        np.concatenate([part.kind for part in parts]),
    )


class _Ingest:
    def __init__(self, sections: dict[str, list[memoryview]]) -> None:
        self._sections = sections
        self.meta: dict[str, Any] = dict(self._json("meta"))
        self.strings = _Strings()
        self.strings("")
        self._load_nodes()
        self._load_tables()

    # -- reading columns

    def _words(self, key: str) -> Ints:
        parts = self._sections.get(key, [])
        if any(len(part) % 8 for part in parts):
            raise _Broken(f"column {key!r} is cut")
        return np.concatenate([np.frombuffer(part, np.int64) for part in parts]) if parts else np.zeros(0, np.int64)

    def _json(self, key: str) -> Any:
        return json.loads(bytes(self._sections[key][0]).decode("utf-8", "surrogatepass"))

    def _text_table(self, name: str) -> tuple[Ints, list[str]]:
        ids = self._words(name + "id")
        text = bytes(self._sections[name + "text"][0]).decode("utf-8", "surrogatepass")
        texts = text.split("\n") if len(ids) else []
        if len(texts) != len(ids):
            raise _Broken(f"table {name!r} does not add up")
        return ids, [item.encode("utf-8", "replace").decode() for item in texts]

    def _rows(self, key: str, width: int) -> Ints:
        return self._words(key).reshape(-1, width)

    # -- nodes

    def _load_nodes(self) -> None:
        inner, blocks = self._words("node"), self._rows("block", 5)
        block_of = _repeat(np.arange(len(blocks)), blocks[:, 1], len(inner))
        size = blocks[:, 2][block_of]
        size[np.flatnonzero(size < 0)] = self._words("size")
        size += blocks[:, 3][block_of]
        self._referring = np.flatnonzero(blocks[:, 4][block_of] == 1)
        texts, first_text = np.unique(self._words("str"), return_index=True)
        leaves, first = np.unique(self._words("leaf"), return_index=True)
        kind_of_text = np.full(len(texts), self.meta["text_type"], np.int64)
        self.ids = np.concatenate([inner, texts, leaves])
        self.type_id = np.concatenate([blocks[:, 0][block_of], kind_of_text, self._words("leaftype")[first]])
        self.size = np.concatenate([size, self._words("strsize")[first_text], self._words("leafsize")[first]])
        self.count = len(self.ids)
        self._order = np.argsort(self.ids, kind="stable")
        self._sorted = self.ids[self._order]
        if self.count and np.any(self._sorted[1:] == self._sorted[:-1]):
            raise _Broken("a node occurs twice")

    def _load_tables(self) -> None:
        rows = self._json("types")
        self.type_names = {int(address): str(name) for address, name, _ in rows}
        families = {int(address): int(family) for address, _, family in rows}
        kinds, inverse = np.unique(self.type_id, return_inverse=True)
        self.family = np.array([families[kind] for kind in kinds.tolist()], np.int64)[inverse]
        self._kinds, self._kind_of = kinds, inverse
        names = [self.type_names[kind] for kind in kinds.tolist()]
        self.type_string = self.strings.many(names)[inverse] if names else np.zeros(0, np.int64)
        self._name_numbers = self.strings.many([str(name) for name in self._json("names")])
        text_ids, texts = self._text_table("text")
        self._text_of: dict[int, str] = dict(zip(text_ids.tolist(), texts, strict=True))
        ids, texts = self._sorted_table("key")
        self._key_ids, self._key_numbers = ids, self.strings.many(texts)

    def _sorted_table(self, name: str) -> tuple[Ints, list[str]]:
        ids, texts = self._text_table(name)
        order = np.argsort(ids, kind="stable")
        return ids[order], [texts[i] for i in order.tolist()]

    def nodes_of(self, ids: Ints) -> Ints:
        """Node numbers of ``ids``; -1 for what is no node."""
        if not self.count:
            return np.full(len(ids), -1, np.int64)
        at = np.searchsorted(self._sorted, ids)
        at[at == self.count] = 0
        return np.where(self._sorted[at] == ids, self._order[at], -1)

    def is_family(self, *names: str) -> Bools:
        return np.isin(self.family, [FAMILIES.index(name) for name in names])

    # -- edges

    def _raw_edges(self) -> _Edges:
        words = self._words("raw")
        ends = np.flatnonzero(words == self.meta["marker"])
        if len(ends) != len(self._referring):
            raise _Broken("references and nodes do not add up")
        degree = np.diff(ends, prepend=-1) - 1
        source = np.repeat(self._referring, degree)
        inner = np.ones(len(words), np.bool_)
        inner[ends] = False
        target = self.nodes_of(words[inner])
        known = target >= 0
        source, target = source[known], target[known]
        none = np.full(len(source), -1, np.int64)
        return _Edges(source, target, none, none.copy())

    def _hints(self) -> _Edges:
        """Every (source, target, name) that was read; the kind carries the flags ADDED and TEXT."""
        parts = [
            self._keyed_hints(),
            self._column_hints(),
            self._loose_hints(),
            self._item_hints(),
            self._thread_local_hints(),
        ]
        hints = _joined(parts)
        if len(hints.source) and (hints.source.min() < 0 or hints.source.max() >= self.count):
            raise _Broken("a name belongs to no node")
        return hints

    def _keyed_hints(self) -> _Edges:
        rows = self._rows("keyrow", 3)
        keys = self._words("keykey")
        source = _repeat(self._words("keysrc"), self._words("keylen"), len(keys))
        target = self.nodes_of(self._words("keydst"))
        kind = _repeat(rows[:, 2], rows[:, 1], len(keys))
        return _Edges(source, target, self._key_names(keys), kind)

    def _key_names(self, keys: Ints) -> Ints:
        """Names of dict keys: the text of a string, else ``<type>``."""
        names = np.full(len(keys), self.strings("<key>"), np.int64)
        if len(self._key_ids):
            at = np.searchsorted(self._key_ids, keys)
            at[at == len(self._key_ids)] = 0
            known = self._key_ids[at] == keys
            names[known] = self._key_numbers[at[known]]
        else:
            known = np.zeros(len(keys), np.bool_)
        node = self.nodes_of(keys[~known])
        types = np.array([self.strings(f"<{self._short(kind)}>") for kind in self._kinds.tolist()], np.int64)
        if len(types):
            names[~known] = np.where(node >= 0, types[self._kind_of[node]], self.strings("<key>"))
        return names

    def _short(self, kind: int) -> str:
        return self.type_names[kind].rpartition(".")[2]

    def _column_hints(self) -> _Edges:
        rows = self._rows("colrow", 4)
        lengths = rows[:, 1]
        self._column_ids = self._words("coldst")
        total = len(self._column_ids)
        source = _repeat(rows[:, 0] - (np.cumsum(lengths) - lengths), lengths, total) + np.arange(total)
        target = self.nodes_of(self._column_ids)
        name = _repeat(self._name_numbers[rows[:, 2]], lengths, total)
        return _Edges(source, target, name, _repeat(rows[:, 3], lengths, total))

    def _loose_hints(self) -> _Edges:
        target = self.nodes_of(self._words("edgedst"))
        name = self._name_numbers[self._words("edgename")]
        return _Edges(self._words("edgesrc"), target, name, self._words("edgekind"))

    def _item_hints(self) -> _Edges:
        """Items of arrays of objects, by position."""
        rows = self._rows("itemrow", 2)
        target = self.nodes_of(self._words("itemdst"))
        source = _repeat(rows[:, 0], rows[:, 1], len(target))
        position = np.arange(len(target)) - np.repeat(np.cumsum(rows[:, 1]) - rows[:, 1], rows[:, 1])
        return _Edges(source, target, position, np.full(len(target), ELEMENT | ADDED))

    def _thread_local_hints(self) -> _Edges:
        rows = self.nodes_of(self._words("threadlo")).reshape(-1, 2)
        rows = rows[(rows >= 0).all(axis=1)]
        fill = np.ones(len(rows), np.int64)
        return _Edges(rows[:, 0], rows[:, 1], fill * self.strings("<thread-local>"), fill * (PROPERTY | ADDED))

    def _named(self, raw: _Edges, hints: _Edges) -> _Edges:
        """``raw`` with the names of ``hints`` where source and target agree, and the hints that are to be
        added."""
        raw_key = raw.source * self.count + raw.target
        hint_key = hints.source * self.count + hints.target
        raw_order = np.argsort(raw_key, kind="stable")
        raw_sorted = raw_key[raw_order]
        order = np.argsort(hint_key, kind="stable")
        key = hint_key[order]
        fresh = np.ones(len(key), np.bool_)
        fresh[1:] = key[1:] != key[:-1]
        starts = np.flatnonzero(fresh)
        rank = np.arange(len(key)) - np.repeat(starts, np.diff(starts, append=len(key)))
        at = np.searchsorted(raw_sorted, key) + rank
        inside = at < len(raw_sorted)
        match = np.zeros(len(key), np.bool_)
        match[inside] = raw_sorted[at[inside]] == key[inside]
        to, by = raw_order[at[match]], order[match]
        raw.name[to] = hints.name[by]
        raw.kind[to] = hints.kind[by] & _KIND_MASK
        rest = hints.take(order[~match])
        rest = rest.take((rest.kind & ADDED) != 0)
        rest.kind = rest.kind & _KIND_MASK
        return _joined([raw, rest])

    def _name_the_rest(self, edges: _Edges) -> None:
        is_type = (edges.kind < 0) & (self.ids[edges.target] == self.type_id[edges.source])
        edges.name[is_type], edges.kind[is_type] = self.strings("__class__"), INTERNAL
        family = self.family[edges.source]
        self._positions(edges, family)
        for name, text in _ONE_NAME.items():
            which = (edges.kind < 0) & (family == FAMILIES.index(name))
            edges.name[which], edges.kind[which] = self.strings(text), PROPERTY
        for kind, text in _ONE_NAME_OF_TYPE.items():
            which = (edges.kind < 0) & (self.type_string[edges.source] == self.strings(kind))
            edges.name[which], edges.kind[which] = self.strings(text), PROPERTY
        rest = np.flatnonzero(edges.kind < 0)
        texts = np.array([self.strings(f"<{self._short(kind)}>") for kind in self._kinds.tolist()], np.int64)
        if len(rest):
            edges.name[rest] = texts[self._kind_of[edges.target[rest]]]
            edges.kind[rest] = INTERNAL

    def _positions(self, edges: _Edges, family: Ints) -> None:
        sequences = np.isin(family, [FAMILIES.index(name) for name in (*_SEQUENCES, "deque", "set")])
        which = np.flatnonzero((edges.kind < 0) & sequences)
        if not len(which):
            return
        source = edges.source[which]
        fresh = np.ones(len(which), np.bool_)
        fresh[1:] = source[1:] != source[:-1]
        starts = np.flatnonzero(fresh)
        counts = np.diff(starts, append=len(which))
        position = np.arange(len(which)) - np.repeat(starts, counts)
        if self.meta["reversed"]:
            backwards = np.isin(family[which], [FAMILIES.index(name) for name in _SEQUENCES])
            position = np.where(backwards, np.repeat(counts, counts) - 1 - position, position)
        edges.name[which], edges.kind[which] = position, ELEMENT

    def _key_edges(self, hints: _Edges) -> _Edges:
        """A dict whose keys are all strings does not report them; the graph has them all the same."""
        keys = self._words("keykey")
        source = _repeat(self._words("keysrc"), self._words("keylen"), len(keys))
        which = self.family[source] == FAMILIES.index("dict")
        node = self.nodes_of(keys)
        which &= (node >= 0) & (self.type_string[node] == self.strings("str"))
        fill = np.ones(int(which.sum()), np.int64)
        return _Edges(source[which], node[which], fill * self.strings("<key>"), fill * (PROPERTY | ADDED))

    # -- names of nodes

    def _text(self, address: int) -> str:
        return self._text_of.get(address, "?")

    def _node_strings(self, hints: _Edges) -> Ints:
        found: Ints = self.type_string.copy()
        texts = self._texts_by_name()
        codes = self._code_places(texts)
        for node, place in codes.items():
            found[node] = self.strings(f"code {place}")
        self._name_functions(found, hints, texts.get("__qualname__", {}), codes)
        for node, name in texts.get("__name__", {}).items():
            found[node] = self.strings(f"module {name}")
        for node in np.flatnonzero(self.is_family("type")).tolist():
            found[node] = self.strings(f"type {self.type_names.get(int(self.ids[node]), '?')}")
        lines = zip(
            self._words("linesrc").tolist(),
            self.nodes_of(self._words("linecode")).tolist(),
            self._words("lineno").tolist(),
            strict=True,
        )
        for node, code, line in lines:
            kind = self.type_names[int(self.type_id[node])]
            place = codes.get(code, "? (?:0)").rpartition(":")[0]
            found[node] = self.strings(f"{kind} {place}:{line})")
        return found

    def _texts_by_name(self) -> dict[str, dict[int, str]]:
        """Text columns: name of the column -> node -> text."""
        rows = self._rows("colrow", 4)
        names = self._json("names")
        ends = np.cumsum(rows[:, 1])
        found: dict[str, dict[int, str]] = {}
        for (first, length, name, kind), end in zip(rows.tolist(), ends.tolist(), strict=True):
            if kind & TEXT:
                ids = self._column_ids[end - length : end].tolist()
                column = found.setdefault(names[name], {})
                column.update((first + i, self._text(address)) for i, address in enumerate(ids))
        return found

    def _code_places(self, texts: dict[str, dict[int, str]]) -> dict[int, str]:
        """Node of a code object -> ``name (file:line)``; also remembers which code is the harness's own."""
        files, names = texts.get("co_filename", {}), texts.get("co_qualname") or texts.get("co_name", {})
        lines = self._words("codeline").tolist()
        nodes = [first + i for first, length in self._rows("code", 2).tolist() for i in range(length)]
        cwd, library, package = (str(self.meta[key]) for key in ("cwd", "library", "package"))
        short = {path: short_path(path, cwd, library) for path in set(files.values())}
        own = {
            path for path in short if path.startswith(package + "/") and not path.startswith(package + "/scenarios/")
        }
        self._harness_code = {node for node in nodes if files.get(node) in own}
        return {
            node: f"{_unnested(names[node])} ({short[files[node]]}:{line})"
            for node, line in zip(nodes, lines, strict=True)
        }

    def _name_functions(self, found: Ints, hints: _Edges, names: dict[int, str], codes: dict[int, str]) -> None:
        which = (hints.name == self.strings("__code__")) & (hints.target >= 0)
        which &= self.family[hints.source] == FAMILIES.index("function")
        for node, code in zip(hints.source[which].tolist(), hints.target[which].tolist(), strict=True):
            place = codes.get(code, "? (?:0)").partition(" (")[2]
            found[node] = self.strings(f"function {_unnested(names.get(node, '?'))} ({place}")

    # -- the harness, the roots and the rest

    def _harness(self, hints: _Edges) -> Bools:
        own = np.zeros(self.count + 1, np.bool_)  # one more, for the -1 of what is no node
        for key in ("harness", "exclude"):
            own[self.nodes_of(self._words(key))] = True
        own_types = [address for address, name in self.type_names.items() if is_harness_module(name)]
        own[self.nodes_of(np.array(own_types, np.int64))] = True
        own[:-1] |= np.isin(self.type_id, own_types)
        own[-1] = False
        is_function = self.family[hints.source] == FAMILIES.index("function")
        globals_ = hints.take(is_function & (hints.name == self.strings("__globals__")) & (hints.target >= 0))
        own[globals_.source[own[globals_.target]]] = True
        own[list(self._harness_code)] = True
        running = self.nodes_of(self._words("linecode"))
        own[self._words("linesrc")[np.isin(running, list(self._harness_code))]] = True
        bound = hints.take(
            np.isin(hints.name, [self.strings("__self__"), self.strings("__func__")]) & (hints.target >= 0)
        )
        bound = bound.take(self.type_string[bound.source] == self.strings("method"))
        own[bound.source[own[bound.target]]] = True
        finalizers = self.nodes_of(self._words("finalize")).reshape(-1, 5)
        own[finalizers[own[finalizers[:, 2]]]] = True
        return own[:-1]

    def _shrink_finalizer_table(self, edges: _Edges, harness: Bools) -> None:
        """``weakref.finalize`` has one dict for all: of its size, the share of the harness's entries is not the
        program's."""
        finalizers = np.unique(self.nodes_of(self._words("finalize")[::5]))
        finalizers = finalizers[finalizers >= 0]
        in_dict = self.family[edges.source] == FAMILIES.index("dict")
        entries = edges.source[in_dict & np.isin(edges.target, finalizers)]
        own = edges.source[in_dict & np.isin(edges.target, finalizers[harness[finalizers]])]
        for table in np.unique(own).tolist():
            share = np.count_nonzero(own == table) / np.count_nonzero(entries == table)
            empty = min(_EMPTY_DICT_BYTES, int(self.size[table]))
            self.size[table] = empty + int((int(self.size[table]) - empty) * (1 - share))

    def capture(self) -> Capture:
        raw = self._raw_edges()
        hints = self._hints()
        known = hints.take((hints.target >= 0) & ((hints.kind & TEXT) == 0))
        edges = self._named(raw, _joined([known, self._key_edges(known)]))
        order = np.argsort(edges.source, kind="stable")
        edges = edges.take(order)
        self._name_the_rest(edges)
        self.node_strings = self._node_strings(known)
        harness = self._harness(known)
        self._shrink_finalizer_table(edges, harness)
        targets = self.nodes_of(self._words("targetid"))
        flow = _Flow(self.count, edges, harness)
        roots = self._roots(flow, edges, harness, targets)
        return self._build(edges, self.node_strings, flow.kept(harness), roots, targets)

    def _roots(self, flow: _Flow, edges: _Edges, harness: Bools, targets: Ints) -> list[tuple[str, int]]:
        labels = [str(label) for label in self._json("roots")]
        nodes = self.nodes_of(self._words("rootid"))
        if len(labels) != len(nodes):
            raise _Broken("roots do not add up")
        roots = [
            (label, node) for label, node in zip(labels, nodes.tolist(), strict=True) if node >= 0 and not harness[node]
        ]
        flow.reach(np.array([node for _, node in roots], np.int64))
        modules = np.flatnonzero(self.is_family("module") & ~harness & ~flow.reached)
        roots += [(NOT_IMPORTED, node) for node in modules.tolist()]
        flow.reach(modules)
        registries = self._codec_registries(edges, flow.reached | harness)
        roots += registries
        flow.reach(np.array([node for _, node in registries], np.int64))
        shadow = flow.only_through(harness)
        declared = self._declared(edges, shadow, flow.reached)
        roots += [(DECLARED, node) for node in declared.tolist()]
        flow.reach(declared)
        plain = ~self.is_family("other")
        # First what lies outside the harness, a cycle that waits for the collector, say: if that holds a target,
        # the reference that the harness has to it is not the answer.
        roots += [(HELD_BY_C, node) for node in flow.orphans(plain, ~shadow)]
        hidden = targets[(targets >= 0)]
        hidden = hidden[shadow[hidden] & ~flow.reached[hidden]]
        roots += [(HELD_BY_HARNESS, node) for node in hidden.tolist()]
        flow.reach(hidden)
        flow.drop(shadow & ~flow.reached)
        return roots + [(HELD_BY_C, node) for node in flow.orphans(plain, np.ones_like(shadow))]

    def _codec_registries(self, edges: _Edges, known: Bools) -> list[tuple[str, int]]:
        """The interpreter's list of search functions, dict of error handlers and dict of codecs that were found
        (Python/codecs.c), told by what is always in them. They hang on nothing that Python can reach."""
        search = [n for text, n in self.strings.numbers.items() if text.startswith(_SEARCH_FUNCTION)]
        held = np.zeros(self.count, np.bool_)
        held[edges.target[edges.kind != WEAK]] = True
        found: list[tuple[str, int]] = []
        for label, family, holds in (
            ("search functions", "list", np.isin(self.node_strings[edges.target], search)),
            ("error handlers", "dict", edges.name == self.strings(_ERROR_HANDLER)),
            ("found codecs", "dict", self.type_string[edges.target] == self.strings("codecs.CodecInfo")),
        ):
            nodes = np.unique(edges.source[holds])
            nodes = nodes[(self.family[nodes] == FAMILIES.index(family)) & ~held[nodes] & ~known[nodes]]
            found += [(f"registry codecs: {label}", node) for node in nodes.tolist()]
        return found

    def _declared(self, edges: _Edges, shadow: Bools, reached: Bools) -> Ints:
        """Functions of the program that the harness was given, where nothing else leads to their module."""
        which = shadow[edges.source] & ~reached[edges.target] & (edges.kind == INTERNAL)
        which &= edges.name == self.strings("__globals__")
        files = self._texts_by_name().get("co_filename", {})
        made_up = [node for node, file in files.items() if file.startswith("<")]  # by namedtuple or dataclass
        compiled = edges.source[(edges.name == self.strings("__code__")) & np.isin(edges.target, made_up)]
        return np.setdiff1d(edges.source[which], compiled)

    def _build(self, edges: _Edges, names: Ints, kept: Bools, roots: list[tuple[str, int]], targets: Ints) -> Capture:
        number = np.full(self.count + 1, -1, np.int64)
        number[:-1][kept] = np.arange(1, int(kept.sum()) + 1)
        root_nodes = np.array([node for _, node in roots], np.int64)
        edges = edges.take(kept[edges.source] & kept[edges.target])
        counts = np.bincount(number[edges.source], minlength=int(kept.sum()) + 1)
        counts[0] = len(roots)
        start = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=start[1:])
        root_names = self.strings.many([label for label, _ in roots])
        kinds = {name: index for index, name in enumerate(NODE_KINDS)}
        by_family = np.array([kinds[_NODE_KIND.get(name, "object")] for name in FAMILIES], np.int64)
        node_kind = by_family[self.family]
        for name, kind in _NODE_KIND_OF_TYPE.items():
            node_kind[self.type_string == self.strings(name)] = kinds[kind]
        alive = targets >= 0
        target_nodes = number[targets]
        labels = [str(label) for label in self._json("labels")]
        picked = [
            (int(node), label) for node, label, ok in zip(target_nodes, labels, alive, strict=True) if ok and node > 0
        ]
        root_name = self.strings("(root)")
        meta = {key: self.meta.get(key) for key in ("pid", "python", "time", "threads", "seconds", "cwd")}
        meta |= {"producer": "leakharness", "node_count": len(counts), "targets": len(picked)}
        node_name = np.concatenate([[root_name], names[kept]])
        edge_kind = np.concatenate([np.full(len(roots), PROPERTY), edges.kind])
        edge_name = np.concatenate([root_names, edges.name])
        strings = self._used_strings(node_name, edge_name, edge_kind != ELEMENT)
        graph = HeapGraph(
            node_kind=np.concatenate([[kinds["synthetic"]], node_kind[kept]]).astype(np.uint8),
            node_name=node_name.astype(np.int32),
            node_id=np.concatenate([[0], self.ids[kept]]).astype(np.uint64),
            self_size=np.concatenate([[0], self.size[kept]]).astype(np.int64),
            edge_start=start,
            edge_kind=edge_kind.astype(np.uint8),
            edge_name=edge_name.astype(np.int32),
            edge_to=np.concatenate([number[root_nodes], number[edges.target]]).astype(np.int32),
            strings=strings,
            meta=meta,
        )
        return Capture(graph, [node for node, _ in picked], [label for _, label in picked], meta)

    def _used_strings(self, node_name: Ints, edge_name: Ints, by_name: Bools) -> list[str]:
        """The strings that the graph needs; renumbers the two columns in place."""
        used = np.zeros(len(self.strings.numbers), np.bool_)
        used[0] = True
        used[node_name] = True
        used[edge_name[by_name]] = True
        number = np.cumsum(used) - 1
        node_name[:] = number[node_name]
        edge_name[by_name] = number[edge_name[by_name]]
        return [text for text, wanted in zip(self.strings.numbers, used.tolist(), strict=True) if wanted]


class _Flow:
    """What is reachable from where, along strong references, never through the harness."""

    def __init__(self, count: int, edges: _Edges, harness: Bools) -> None:
        strong = edges.take(edges.kind != WEAK)
        self._start = np.zeros(count + 1, np.int64)
        np.cumsum(np.bincount(strong.source, minlength=count), out=self._start[1:])
        self._source, self._target = strong.source, strong.target
        self._harness = harness
        self._slot = np.zeros(count, np.int64)
        self._dropped = np.zeros(count, np.bool_)
        self.reached = np.zeros(count, np.bool_)

    def reach(self, nodes: Ints) -> None:
        """Mark ``nodes`` and all that they lead to."""
        self._spread(nodes, self.reached, self._harness | self._dropped)

    def only_through(self, harness: Bools) -> Bools:
        """What the harness leads to and nothing else has reached so far."""
        found = self.reached.copy()
        self._spread(np.flatnonzero(harness), found, np.zeros(len(found), np.bool_))
        return np.asarray(found & ~self.reached & ~harness)

    def drop(self, nodes: Bools) -> None:
        self._dropped |= nodes

    def kept(self, harness: Bools) -> Bools:
        return ~(harness | self._dropped)

    def orphans(self, plain: Bools, among: Bools) -> list[int]:
        """Nodes that, as roots, make the rest ``among`` all nodes reachable: those that nothing refers to, then
        one of each cycle, rather not a ``plain`` one."""
        gone = self._harness | self._dropped | ~among
        lonely = ~self.reached & ~gone
        held = np.zeros(len(lonely), np.bool_)
        held[self._target[lonely[self._source]]] = True
        first = np.flatnonzero(lonely & ~held)
        found: list[int] = first.tolist()
        self.reach(first)
        rest = np.flatnonzero(~self.reached & ~gone)
        rest = rest[np.argsort(plain[rest], kind="stable")]
        for node in rest.tolist():
            if not self.reached[node]:
                found.append(node)
                if len(found) - len(first) <= _CYCLES:
                    self.reach(np.array([node]))
        self.reach(rest)
        return found

    def _spread(self, nodes: Ints, marks: Bools, barred: Bools) -> None:
        front = self._once(nodes[~marks[nodes] & ~barred[nodes]])
        while len(front):
            marks[front] = True
            starts, lengths = self._start[front], self._start[front + 1] - self._start[front]
            total = int(lengths.sum())
            at = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(total)
            found = self._target[at]
            front = self._once(found[~marks[found] & ~barred[found]])

    def _once(self, nodes: Ints) -> Ints:
        """``nodes`` without repetitions: the last writer of a node's slot keeps it."""
        turn = np.arange(len(nodes))
        self._slot[nodes] = turn
        return np.compress(self._slot[nodes] == turn, nodes)


def _unnested(qualname: str) -> str:
    """``outer.<locals>.inner`` is known by ``inner``."""
    return qualname.rpartition("<locals>.")[2]
