"""The numbers of a ``.heapsnapshot`` as the columns of a `HeapGraph`: parsed piece by piece, each checked against
what the header declares before anything of its size is allocated."""

from __future__ import annotations

import mmap
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.errors import SnapshotError
from leakharness.heap.compiled import compiled
from leakharness.heap.graph import UNKNOWN_PLACE, HeapGraph
from leakharness.heap.v8_sections import ALIASES_KEY, EDGE_FIELDS, NODE_FIELDS, Layout, drop_pages

__all__ = ["columns_of"]

Ints = npt.NDArray[np.int64]

# text parsed at a time; its numbers take at most four times as much, whatever the file's size
CHUNK_BYTES = 2 << 20
_AHEAD = 2  # pieces that are parsed while the one before them is used
INT32_MAX = 2**31 - 1
FURTHER_FIELDS: dict[str, type[np.uint8 | np.int32]] = {"detachedness": np.uint8, "trace_node_id": np.int32}
_POSITION_KINDS = ("element", "hidden")  # edges whose name_or_index is a number and not a string


def columns_of(
    text: mmap.mmap,
    sections: dict[str, tuple[int, int]],
    layout: Layout,
    strings: list[str],
    *,
    with_edges: bool,
) -> HeapGraph:
    n, width = layout.nodes, len(layout.node_fields)
    if n == 0:
        raise SnapshotError("has no nodes")
    _check_room("nodes", sections["nodes"], n, width)
    kind, name = np.empty(n, np.uint8), np.empty(n, np.int32)
    node_id, size = np.empty(n, np.uint64), np.empty(n, np.int64)
    start = np.zeros(n + 1, np.int64)
    column = {field: layout.node_fields.index(field) for field in NODE_FIELDS}
    further = {field: layout.node_fields.index(field) for field in FURTHER_FIELDS if field in layout.node_fields}
    more: dict[str, Any] = {field: np.zeros(n, FURTHER_FIELDS[field]) for field in further}
    for first, rows in _rows(text, sections["nodes"], "nodes", n, width):
        part = slice(first, first + len(rows))
        kind[part] = _below(rows[:, column["type"]], len(layout.node_kinds), "node type")
        name[part] = _below(rows[:, column["name"]], len(strings), "node name")
        node_id[part] = rows[:, column["id"]]
        size[part] = rows[:, column["self_size"]]
        for field, place in further.items():
            more[field][part] = np.minimum(rows[:, place], np.iinfo(FURTHER_FIELDS[field]).max)
        start[first + 1 : first + 1 + len(rows)] = _below(rows[:, column["edge_count"]], layout.edges + 1, "edge count")
    np.cumsum(start, out=start)
    if int(start[-1]) != layout.edges:
        raise SnapshotError(f"is corrupt: its nodes have {int(start[-1])} edges, its header says {layout.edges}")
    if with_edges:
        edge_kind, edge_name, edge_to = _edges(text, sections["edges"], layout, len(strings))
        aliases = _aliases(layout, len(strings), int(start[1]))
        if len(aliases):
            places = aliases[:, 0] - np.arange(len(aliases))
            edge_kind = np.insert(edge_kind, places, aliases[:, 1].astype(np.uint8))
            edge_name = np.insert(edge_name, places, aliases[:, 2].astype(np.int32))
            edge_to = np.insert(edge_to, places, aliases[:, 3].astype(np.int32))
            start[1:] += len(aliases)
    else:
        start = np.zeros(n + 1, np.int64)
        edge_kind, edge_name, edge_to = np.empty(0, np.uint8), np.empty(0, np.int32), np.empty(0, np.int32)
    layout.ours.pop(ALIASES_KEY, None)
    return HeapGraph(
        kind,
        name,
        node_id,
        size,
        start,
        edge_kind,
        edge_name,
        edge_to,
        strings,
        layout.node_kinds,
        layout.edge_kinds,
        layout.ours,
        detachedness=more.get("detachedness"),
        trace_node=more.get("trace_node_id"),
    )


def _edges(
    text: mmap.mmap, span: tuple[int, int], layout: Layout, strings: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    m, width = layout.edges, len(layout.edge_fields)
    _check_room("edges", span, m, width)
    kind, name, to = np.empty(m, np.uint8), np.empty(m, np.int32), np.empty(m, np.int32)
    column = {field: layout.edge_fields.index(field) for field in EDGE_FIELDS}
    by_position = np.array([edge_kind in _POSITION_KINDS for edge_kind in layout.edge_kinds])
    node_width = len(layout.node_fields)
    # half as wide where that is enough: a division of them takes a third of the time
    offset: type[np.int32 | np.int64] = np.int32 if layout.nodes * node_width <= INT32_MAX else np.int64
    for first, rows in _rows(text, span, "edges", m, width, to_limit=True):
        part = slice(first, first + len(rows))
        kinds = _below(rows[:, column["type"]], len(layout.edge_kinds), "edge type")
        kind[part] = kinds
        names = np.ascontiguousarray(rows[:, column["name_or_index"]])
        most = int(names.max())
        if most >= strings and np.any((names >= strings) & ~by_position[kind[part]]):
            raise SnapshotError("is corrupt: an edge's name is not among its strings")
        name[part] = names if most <= UNKNOWN_PLACE else np.minimum(names, UNKNOWN_PLACE)
        target: Ints = _below(rows[:, column["to_node"]], layout.nodes * node_width, "edge target").astype(offset)
        to[part] = target // node_width
        if np.any(to[part].astype(offset) * node_width != target):
            raise SnapshotError("is corrupt: an edge points between two nodes")
    return kind, name, to


def _aliases(layout: Layout, strings: int, root_edges: int) -> Ints:
    """Further edges of the root that the metadata has, one a row."""
    found = layout.ours.get(ALIASES_KEY, [])
    try:
        table = np.array(found, np.int64).reshape(-1, 4)
    except (ValueError, TypeError, OverflowError):
        raise SnapshotError(f"is corrupt: its {ALIASES_KEY} cannot be used") from None
    limits = (root_edges + len(table), len(layout.edge_kinds), strings, layout.nodes)
    if len(table) and (np.any(table < 0) or np.any(table >= limits) or np.any(np.diff(table[:, 0]) <= 0)):
        raise SnapshotError(f"is corrupt: its {ALIASES_KEY} are out of range")
    return table


def _check_room(what: str, span: tuple[int, int], rows: int, width: int) -> None:
    """A number takes a digit and a comma: refuse counts that the text cannot hold before allocating for
    them.
    """
    if rows > INT32_MAX or rows * width * 2 > span[1] - span[0]:
        raise SnapshotError(f"is truncated or corrupt: its header counts {rows} {what}, which the file has no room for")


def _below(values: Ints, limit: int, what: str) -> Ints:
    if len(values) and int(values.max()) >= limit:
        raise SnapshotError(f"is corrupt: {what} {int(values.max())} is out of range (below {limit} was expected)")
    return values


def _rows(
    text: mmap.mmap, span: tuple[int, int], what: str, rows: int, width: int, *, to_limit: bool = False
) -> Iterator[tuple[int, Ints]]:
    """Pieces of a flat array as (index of the first row, rows by width). ``to_limit``: a number of 64 bits without a
    sign (Julia's index of an unknown element) is read as the largest with one."""
    done, carry = 0, np.empty(0, np.int64)
    for values in _numbers(_pieces(text, span[0] + 1, span[1] - 1), to_limit=to_limit):
        if len(values) and int(values.min()) < 0:
            raise SnapshotError(f"is corrupt: a negative or too large number among its {what}")
        if len(carry):
            values = np.concatenate([carry, values])
        count = len(values) // width
        if done + count > rows:
            raise SnapshotError(f"is corrupt: more {what} than the {rows} its header counts")
        if count:
            yield done, values[: count * width].reshape(count, width)
        carry = values[count * width :]
        done += count
    if done != rows or len(carry):
        raise SnapshotError(f"is truncated or corrupt: {done} of {rows} {what} are there")


def _pieces(text: mmap.mmap, start: int, end: int) -> Iterator[bytes]:
    """The text between two offsets in pieces that end at a comma (left out)."""
    at = start
    while at < end:
        stop = min(at + CHUNK_BYTES, end)
        if stop < end:
            comma = text.rfind(b",", at, stop)
            if comma < 0:
                raise SnapshotError(f"is corrupt at byte {at}: numbers were expected")
            stop = comma
        yield text[at:stop]
        drop_pages(text, at, stop)
        at = stop + 1


def _scan_numbers(text: Any, out: Any, to_limit: bool) -> int:
    """Digits between commas and spaces to ``out``; their number, or -1 for any other text. ``to_limit``: what is larger
    than an int64 is read as the largest. For `compiled`."""
    found = 0
    value = 0
    state = 0  # 0 before a number, 1 in one, 2 after it, before its comma
    for byte in text:
        if 48 <= byte <= 57:
            if state == 2:
                return -1
            if value > 922337203685477579:  # the next digit could pass the largest int64
                if not to_limit:
                    return -1
                value = 9223372036854775807
            else:
                value = value * 10 + (byte - 48)
            state = 1
        elif byte == 44:
            if state == 0:
                return -1
            out[found] = value
            found += 1
            value = 0
            state = 0
        elif byte == 32 or byte == 10 or byte == 13 or byte == 9:
            if state == 1:
                state = 2
        else:
            return -1
    if state == 0:
        return -1
    out[found] = value
    return found + 1


def _numbers(pieces: Iterator[bytes], *, to_limit: bool) -> Iterator[Ints]:
    """The numbers of each piece. Machine code parses the next ones meanwhile: it does not need the interpreter's lock,
    which numpy's parser keeps."""
    scan = compiled(_scan_numbers)
    if scan is None:
        for piece in pieces:
            yield _parse_numbers(piece, to_limit=to_limit) if piece.strip() else np.empty(0, np.int64)
        return
    parse = _compiled_parser(scan, to_limit=to_limit)
    with ThreadPoolExecutor(_AHEAD) as pool:
        waiting: deque[Future[Ints]] = deque()
        for piece in pieces:
            waiting.append(pool.submit(parse, piece))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _compiled_parser(scan: Callable[..., int], *, to_limit: bool) -> Callable[[bytes], Ints]:
    def parse(piece: bytes) -> Ints:
        if not piece.strip():
            return np.empty(0, np.int64)
        out = np.empty(len(piece) // 2 + 1, np.int64)
        found = scan(np.frombuffer(piece, np.uint8), out, to_limit)
        if found < 0:
            raise SnapshotError("is corrupt: something other than whole numbers among its numbers")
        return out[:found]

    return parse


def _parse_numbers(piece: bytes, *, to_limit: bool = False) -> Ints:
    try:
        with warnings.catch_warnings():
            # older numpy only warns of text that is no number
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(piece, np.int64, sep=",")
    except (ValueError, DeprecationWarning):
        values = None
    wrong = values is None or len(values) != piece.count(b",") + 1
    if wrong or values is None or (not to_limit and int(values.max()) == np.iinfo(np.int64).max):
        raise SnapshotError("is corrupt: something other than whole numbers among its numbers")
    return values
