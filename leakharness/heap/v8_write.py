"""Writing a ``.heapsnapshot``: whole or not at all, readable by its owner alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import orjson

from leakharness.errors import SnapshotError
from leakharness.heap.graph import HeapGraph
from leakharness.heap.v8_sections import ALIASES_KEY, EDGE_FIELDS, NODE_FIELDS, OUR_KEY

__all__ = ["RESERVED", "node_kind_of", "stable_ids", "write"]

Ints = npt.NDArray[np.int64]

CHUNK_ROWS = 1 << 19  # rows written at a time
CHUNK_STRINGS = 1 << 16
RESERVED = frozenset({"snapshot", "nodes", "edges", "samples", "locations", "strings"})
INT32_MAX = 2**31 - 1

# current readers accept files without, but all of V8's have them
_EXTRA_NODE_FIELDS = ("trace_node_id", "detachedness")

_KIND_OF_TYPE = {
    "str": "string",
    "bytes": "string",
    "bytearray": "string",
    "int": "number",
    "float": "number",
    "complex": "number",
    "bool": "number",
    "code": "code",
    "function": "closure",
    "builtin_function_or_method": "closure",
    "method": "closure",
    "re.Pattern": "regexp",
}


def node_kind_of(type_name: str) -> str:
    """V8's node kind for a Python type name (without the ``builtins`` prefix), so that its readers show
    sensible things.

    Everything that is not a value or code is ``object``: those are listed by name, with their own size.
    """
    return _KIND_OF_TYPE.get(type_name, "object")


def write(graph: HeapGraph, path: Path | str) -> None:
    """Write ``graph`` as ``.heapsnapshot``, readable by its owner alone (0600), whole or not at all.

    Node ids become `stable_ids`; ``graph.meta`` (values that JSON can hold) goes to ``snapshot.leakharness``.
    Raises `SnapshotError` where the folder cannot be written, ValueError where ``meta`` uses a reserved key.
    """
    path = Path(path)
    if RESERVED & _keys(graph.meta):
        raise ValueError(f"snapshot metadata may not use the keys {sorted(RESERVED & _keys(graph.meta))}")
    try:
        # 0600
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:64]}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                _write_to(file, graph)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be written: {error.strerror or error}") from None


def _keys(value: Any) -> set[str]:
    """Every key in nested JSON values."""
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    if isinstance(value, (list, tuple)) and any(isinstance(item, (dict, list, tuple)) for item in value):
        return set().union(*map(_keys, value))
    return set()


def _write_to(file: IO[bytes], graph: HeapGraph) -> None:
    n, m, width = graph.node_count, graph.edge_count, len(NODE_FIELDS) + len(_EXTRA_NODE_FIELDS)
    meta = {
        "node_fields": [*NODE_FIELDS, *_EXTRA_NODE_FIELDS],
        "node_types": [list(graph.node_kinds), "string", *["number"] * 4],
        "edge_fields": list(EDGE_FIELDS),
        "edge_types": [list(graph.edge_kinds), "string_or_number", "node"],
        "trace_function_info_fields": ["function_id", "name", "script_name", "script_id", "line", "column"],
        "trace_node_fields": ["id", "function_info_index", "count", "size", "children"],
        "sample_fields": ["timestamp_us", "last_assigned_id"],
        "location_fields": ["object_index", "script_id", "line", "column"],
    }
    alias = _root_aliases(graph)
    keep = np.ones(m, bool)
    keep[alias] = False
    ours = dict(graph.meta)
    if len(alias):
        columns = (alias, graph.edge_kind[alias], graph.edge_name[alias], graph.edge_to[alias])
        ours[ALIASES_KEY] = np.stack([column.astype(np.int64) for column in columns], axis=1).tolist()
    counts = {"node_count": n, "edge_count": m - len(alias), "trace_function_count": 0}
    header = {"meta": meta, **counts, OUR_KEY: ours}
    file.write(b'{"snapshot":' + orjson.dumps(header, option=orjson.OPT_SERIALIZE_NUMPY) + b',\n"nodes":[')
    ids, degree = stable_ids(graph.node_id), np.diff(graph.edge_start)
    degree[0] -= len(alias)
    none = np.zeros(n, np.int64)
    _write_rows(file, (graph.node_kind, graph.node_name, ids, graph.self_size, degree, none, none))
    file.write(b'],\n"edges":[')
    edges = (graph.edge_kind, graph.edge_name, graph.edge_to)
    _write_rows(file, edges if not len(alias) else tuple(column[keep] for column in edges), scale=(1, 1, width))
    file.write(b'],\n"trace_function_infos":[],\n"trace_tree":[],\n"samples":[],\n"locations":[],\n"strings":[')
    for first in range(0, len(graph.strings), CHUNK_STRINGS):
        if first:
            file.write(b",\n")
        file.write(_dump_strings(graph.strings[first : first + CHUNK_STRINGS])[1:-1])
    file.write(b"]}\n")


def _root_aliases(graph: HeapGraph) -> Ints:
    """The root's edges to nodes that an earlier edge of it leads to (synthetic ones are not counted by DevTools)."""
    end = int(graph.edge_start[1])
    target = graph.edge_to[:end]
    again = np.ones(end, bool)
    again[np.unique(target, return_index=True)[1]] = False
    if "synthetic" in graph.node_kinds:
        again &= graph.node_kind[target] != graph.node_kinds.index("synthetic")
    return np.flatnonzero(again)


def _write_rows(file: IO[bytes], columns: tuple[npt.NDArray[Any], ...], scale: tuple[int, ...] | None = None) -> None:
    rows, factors = len(columns[0]), scale or (1,) * len(columns)
    for first in range(0, rows, CHUNK_ROWS):
        part = slice(first, min(first + CHUNK_ROWS, rows))
        table = np.empty((part.stop - part.start, len(columns)), np.int64)
        for index, (column, factor) in enumerate(zip(columns, factors, strict=True)):
            np.multiply(column[part], factor, out=table[:, index], casting="unsafe", dtype=np.int64)
        if first:
            file.write(b",\n")
        file.write(orjson.dumps(table.reshape(-1), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])


def _dump_strings(strings: list[str]) -> bytes:
    try:
        return orjson.dumps(strings)
    except TypeError:  # lone surrogates (os.fsdecode makes them): not text that JSON in UTF-8 can hold
        return orjson.dumps([s.encode("utf-8", "replace").decode("utf-8") for s in strings])


def stable_ids(node_id: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Unique ids below 2**32, the same for the same address in every snapshot (but for rare collisions).

    Ids that are so already, as in files from V8, stay. Others become odd numbers, folded by multiplicative
    hashing (Knuth, TAOCP 3, 6.4) of the address without its alignment bits; a collision moves on to the next
    free number, in the order of the nodes.
    """
    ids = np.asarray(node_id, np.uint64)
    if len(ids) and int(ids.max()) < 2**32 and len(np.unique(ids)) == len(ids):
        return ids
    slots = ((ids >> np.uint64(4)) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
    while True:
        _, first = np.unique(slots, return_index=True)
        if len(first) == len(slots):
            return np.asarray((slots << np.uint64(1)) | np.uint64(1), np.uint64)
        again = np.ones(len(slots), bool)
        again[first] = False
        slots[again] = (slots[again] + np.uint64(1)) & np.uint64(INT32_MAX)
