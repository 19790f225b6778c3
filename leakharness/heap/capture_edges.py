"""References of a raw capture with their names.

The capture says what refers to what (in the order of the collector) and, apart from that, what C-level reads
found under which name. A name is given to a reference only where source and target agree, so no name rests on
the order in which a type visits its members; what stays unnamed says the type of its target (``<dict>``).
"""

from __future__ import annotations

import numpy as np

from leakharness.heap.capture_tables import Bools, Broken, Edges, Ints, Tables, joined, repeated
from leakharness.worker.capture.columns import ADDED, HIDDEN, IN_CODE
from leakharness.worker.capture.type_plans import ELEMENT, FAMILIES, INTERNAL, PROPERTY

__all__ = ["key_edges", "name_the_rest", "named", "raw_edges", "read_names"]

_KIND_MASK = ADDED - 1
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


def raw_edges(tables: Tables) -> Edges:
    words = tables.words("raw")
    ends = np.flatnonzero(words == tables.meta["marker"])
    if len(ends) != len(tables.referring):
        raise Broken("references and nodes do not add up")
    degree = np.diff(ends, prepend=-1) - 1
    source = np.repeat(tables.referring, degree)
    inner = np.ones(len(words), np.bool_)
    inner[ends] = False
    target = tables.nodes_of(words[inner])
    known = target >= 0
    source, target = source[known], target[known]
    none = np.full(len(source), -1, np.int64)
    return Edges(source, target, none, none.copy())


def read_names(tables: Tables) -> Edges:
    """Every (source, target, name) that was read; the kind carries the flags ADDED and TEXT."""
    parts = [
        keyed_hints(tables),
        column_hints(tables),
        loose_hints(tables),
        item_hints(tables),
        thread_local_hints(tables),
    ]
    hints = joined(parts)
    if len(hints.source) and (hints.source.min() < 0 or hints.source.max() >= tables.count):
        raise Broken("a name belongs to no node")
    return hints


def keyed_hints(tables: Tables) -> Edges:
    rows = tables.rows("keyrow", 3)
    keys = tables.words("keykey")
    source = repeated(tables.words("keysrc"), tables.words("keylen"), len(keys))
    target = tables.nodes_of(tables.words("keydst"))
    kind = repeated(rows[:, 2], rows[:, 1], len(keys))
    return Edges(source, target, key_names(tables, keys, (kind & IN_CODE) != 0), kind & ~IN_CODE)


def key_names(tables: Tables, keys: Ints, in_code: Bools) -> Ints:
    """Names of dict keys: the text of a string, or for what was not written ``[*]`` for a string, else ``<type>``.

    ``in_code``: the key is a name only if it stands in loaded code.
    """
    names = np.full(len(keys), tables.strings("<key>"), np.int64)
    known = np.zeros(len(keys), np.bool_)
    if len(tables.key_ids):
        at = np.searchsorted(tables.key_ids, keys)
        at[at == len(tables.key_ids)] = 0
        known = (tables.key_ids[at] == keys) & (~in_code | np.isin(keys, tables.words("keycode")))
        names[known] = tables.key_numbers[at[known]]
    node = tables.nodes_of(keys[~known])
    texts = [HIDDEN if name == "str" else f"<{tables.short(kind)}>" for kind, name in tables.named_kinds()]
    types = np.array([tables.strings(text) for text in texts], np.int64)
    if len(types):
        names[~known] = np.where(node >= 0, types[tables.kind_of[node]], tables.strings("<key>"))
    return names


def column_hints(tables: Tables) -> Edges:
    rows = tables.rows("colrow", 4)
    lengths = rows[:, 1]
    total = len(tables.column_ids)
    source = repeated(rows[:, 0] - (np.cumsum(lengths) - lengths), lengths, total) + np.arange(total)
    target = tables.nodes_of(tables.column_ids)
    name = repeated(tables.name_numbers[rows[:, 2]], lengths, total)
    return Edges(source, target, name, repeated(rows[:, 3], lengths, total))


def loose_hints(tables: Tables) -> Edges:
    target = tables.nodes_of(tables.words("edgedst"))
    name = tables.name_numbers[tables.words("edgename")]
    return Edges(tables.words("edgesrc"), target, name, tables.words("edgekind"))


def item_hints(tables: Tables) -> Edges:
    """Items of arrays of objects, by position."""
    rows = tables.rows("itemrow", 2)
    target = tables.nodes_of(tables.words("itemdst"))
    source = repeated(rows[:, 0], rows[:, 1], len(target))
    position = np.arange(len(target)) - np.repeat(np.cumsum(rows[:, 1]) - rows[:, 1], rows[:, 1])
    return Edges(source, target, position, np.full(len(target), ELEMENT | ADDED))


def thread_local_hints(tables: Tables) -> Edges:
    rows = tables.nodes_of(tables.words("threadlo")).reshape(-1, 2)
    rows = rows[(rows >= 0).all(axis=1)]
    fill = np.ones(len(rows), np.int64)
    return Edges(rows[:, 0], rows[:, 1], fill * tables.strings("<thread-local>"), fill * (PROPERTY | ADDED))


def named(tables: Tables, raw: Edges, hints: Edges) -> Edges:
    """``raw`` with the names of ``hints`` where source and target agree, and the hints that are to be
    added."""
    raw_key = raw.source * tables.count + raw.target
    hint_key = hints.source * tables.count + hints.target
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
    return joined([raw, rest])


def name_the_rest(tables: Tables, edges: Edges) -> None:
    is_type = (edges.kind < 0) & (tables.ids[edges.target] == tables.type_id[edges.source])
    edges.name[is_type], edges.kind[is_type] = tables.strings("__class__"), INTERNAL
    family = tables.family[edges.source]
    positions(tables, edges, family)
    for name, text in _ONE_NAME.items():
        which = (edges.kind < 0) & (family == FAMILIES.index(name))
        edges.name[which], edges.kind[which] = tables.strings(text), PROPERTY
    for kind, text in _ONE_NAME_OF_TYPE.items():
        which = (edges.kind < 0) & (tables.type_string[edges.source] == tables.strings(kind))
        edges.name[which], edges.kind[which] = tables.strings(text), PROPERTY
    rest = np.flatnonzero(edges.kind < 0)
    texts = np.array([tables.strings(f"<{tables.short(kind)}>") for kind in tables.kinds.tolist()], np.int64)
    if len(rest):
        edges.name[rest] = texts[tables.kind_of[edges.target[rest]]]
        edges.kind[rest] = INTERNAL


def positions(tables: Tables, edges: Edges, family: Ints) -> None:
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
    if tables.meta["reversed"]:
        backwards = np.isin(family[which], [FAMILIES.index(name) for name in _SEQUENCES])
        position = np.where(backwards, np.repeat(counts, counts) - 1 - position, position)
    edges.name[which], edges.kind[which] = position, ELEMENT


def key_edges(tables: Tables, hints: Edges) -> Edges:
    """A dict whose keys are all strings does not report them; the graph has them all the same."""
    keys = tables.words("keykey")
    source = repeated(tables.words("keysrc"), tables.words("keylen"), len(keys))
    which = tables.family[source] == FAMILIES.index("dict")
    node = tables.nodes_of(keys)
    which &= (node >= 0) & (tables.type_string[node] == tables.strings("str"))
    fill = np.ones(int(which.sum()), np.int64)
    return Edges(source[which], node[which], fill * tables.strings("<key>"), fill * (PROPERTY | ADDED))
