"""Reading and writing V8's ``.heapsnapshot``, the one snapshot format here.

The file is one JSON object. Its numbers are flat arrays whose row layout the file itself declares
(``snapshot.meta.node_fields`` and so on), so a reader takes the layout from there and never from the
version. Format: https://chromium.googlesource.com/v8/v8/+/main/src/profiler/heap-snapshot-generator.cc and
https://chromium.googlesource.com/devtools/devtools-frontend/+/main/front_end/entrypoints/heap_snapshot_worker/

Four facts about the other readers shape what is written:

- Chrome DevTools looks for ``"snapshot"``, ``"nodes"``, ``"edges"``, ``"samples"``, ``"locations"``,
  ``"strings"`` in this order; memlab looks for ``"nodes":`` and its like anywhere in the text. Our own
  metadata therefore lies inside ``snapshot``, beside ``meta``, under the key ``leakharness``, and may not
  use those words as keys.
- Both keep node ids in 32 bits and compare two snapshots by them. Addresses do not fit, so `stable_ids`
  folds each address to an odd 32-bit number that is the same in every snapshot of a process.
- DevTools counts a node once for every edge that the root has to it, and gives up when it has counted more than there
  are. A further name of a root's target (a module under two names, say) therefore lies in the metadata, under
  ``root_aliases``, and `read` puts it back.
- DevTools adds the size of ``array`` and ``hidden`` nodes to their only owner. Python's containers are thus
  ``object``, which it shows by name and with their own size.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import orjson

from leakharness.errors import SnapshotError
from leakharness.heap.compiled import compiled
from leakharness.heap.graph import HeapGraph

__all__ = [
    "SnapshotInfo",
    "SnapshotName",
    "info",
    "node_kind_of",
    "parse_name",
    "read",
    "stable_ids",
    "write",
]

Ints = npt.NDArray[np.int64]

# text parsed at a time; its numbers take at most four times as much, whatever the file's size
CHUNK_BYTES = 2 << 20
SEARCHED_BYTES = 16 << 20  # searched at a time, and then given back
CHUNK_ROWS = 1 << 19  # rows written at a time
CHUNK_STRINGS = 1 << 16
INT32_MAX = 2**31 - 1
OUR_KEY = "leakharness"
ALIASES_KEY = "root_aliases"  # [place among the root's edges, edge kind, name, target node] of each
RESERVED = frozenset({"snapshot", "nodes", "edges", "samples", "locations", "strings"})

_NODE_FIELDS = ("type", "name", "id", "self_size", "edge_count")
_EDGE_FIELDS = ("type", "name_or_index", "to_node")
# current readers accept files without, but all of V8's have them
_EXTRA_NODE_FIELDS = ("trace_node_id", "detachedness")
_FLAT = frozenset({"nodes", "edges", "samples", "locations", "trace_function_infos"})
_NEEDED_BEFORE = frozenset({"snapshot", "nodes", "edges"})
_POSITION_KINDS = ("element", "hidden")  # edges whose name_or_index is a number and not a string

_KEY = re.compile(rb'[\s,]*"((?:[^"\\]|\\.)*)"\s*:\s*')
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_SCALAR = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s,}\]]+')
_LONE_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*)"  # an even number of backslashes: the next one escapes
    rb"(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_NODE_NAME = re.compile(r"Heap\.(?P<time>\d{8}\.\d{6})\.(?P<pid>\d+)\.0\.(?P<sequence>\d+)\.heapsnapshot")
_OUR_NAME = re.compile(r"(?:baseline|[\w.]+?-(?P<sequence>\d+))-(?P<pid>\d+)-(?P<time>\d[\w.:+]*)\.heapsnapshot")


@dataclass(frozen=True)
class SnapshotName:
    """What a snapshot's file name says: whose it is and when. ``time`` sorts as text; ``sequence`` breaks
    ties.
    """

    pid: int
    time: str
    sequence: int


def parse_name(path: Path | str) -> SnapshotName | None:
    """PID, time and sequence from ``Heap.DATE.TIME.PID.0.SEQ`` (Node's), ``baseline-PID-TIME`` or
    ``batch-N-PID-TIME``.

    None for any other name. A baseline has sequence 0.
    """
    name = Path(path).name
    match = _NODE_NAME.fullmatch(name) or _OUR_NAME.fullmatch(name)
    if match is None:
        return None
    return SnapshotName(int(match["pid"]), match["time"], int(match["sequence"] or 0))


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


@dataclass(frozen=True)
class _Layout:
    """Where the columns are in this file: field names of a row, kind names, declared counts."""

    node_fields: tuple[str, ...]
    edge_fields: tuple[str, ...]
    node_kinds: tuple[str, ...]
    edge_kinds: tuple[str, ...]
    nodes: int
    edges: int
    ours: dict[str, Any]


def read(path: Path | str, *, edges: bool = True) -> HeapGraph:
    """The graph in a ``.heapsnapshot`` of ours, of Node or of Chrome; without its edges if ``edges`` is
    False.

    The file is mapped and parsed piece by piece, so memory stays near the file's size. ``meta`` is what we
    stored (empty for files of other producers). Raises `SnapshotError` where the file is missing, truncated,
    corrupt or of another format; counts are checked against the data before anything of their size is
    allocated.
    """
    path = Path(path)
    with _mapped(path) as text, _named_errors(path):
        sections = _sections(text)
        layout = _layout(text, sections)
        strings = _strings(text, sections)
        return _graph(text, sections, layout, strings, with_edges=edges)


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise SnapshotError(f"{path}: is a directory, not a heap snapshot; name one .heapsnapshot file")
        if not stat.S_ISREG(status.st_mode):
            raise SnapshotError(f"{path}: is not a regular file; name one .heapsnapshot file")
        if status.st_size == 0:
            raise SnapshotError(f"{path}: is empty; take the snapshot again")
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            yield text
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a path with a NUL in it
        raise SnapshotError(f"{str(path)!r}: cannot be read: {error}") from None


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Put the file's name before what the parsing functions say."""
    try:
        yield
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}; take the snapshot again or check the file") from None
    except MemoryError:
        raise SnapshotError(f"{path}: does not fit in this machine's memory; read it on a larger one") from None


def _sections(text: mmap.mmap) -> dict[str, tuple[int, int]]:
    """Byte range of the value of each top-level key."""
    start = _skip_space(text, 0)
    if text[start : start + 1] != b"{":
        raise SnapshotError("is not a V8 heap snapshot (not a JSON object)")
    found: dict[str, tuple[int, int]] = {}
    _read_keys(text, start + 1, found)
    for name in ("snapshot", "nodes", "edges", "strings"):
        if name not in found:
            raise SnapshotError(f"is not a V8 heap snapshot (no {name!r} in it)")
    return found


def _read_keys(text: mmap.mmap, at: int, found: dict[str, tuple[int, int]]) -> None:
    """Add the keys from ``at`` on to ``found``; nothing but white space may follow the end of their object."""
    while (key := _KEY.match(text, at)) is not None:
        name = key[1].decode("utf-8", "replace")
        end = _value_end(text, key.end(), name, found)
        found[name] = (key.end(), end)
        at = end
    rest = _skip_space(text, at)
    if text[rest : rest + 1] != b"}":
        raise SnapshotError(f"is truncated or corrupt after byte {at}")
    end = _skip_space(text, rest + 1)
    if end < len(text):
        raise SnapshotError(f"has something else behind its end (byte {end})")


def _skip_space(text: mmap.mmap, at: int) -> int:
    size = len(text)
    while at < size and text[at] in b" \t\r\n":
        at += 1
    return at


def _value_end(text: mmap.mmap, at: int, name: str, found: dict[str, tuple[int, int]]) -> int:
    """Where the value of ``name`` that starts at ``at`` ends."""
    first = text[at : at + 1]
    if first == b"[" and name in _FLAT:
        return _flat_end(text, at)
    if first == b"[" and name == "strings" and set(found) >= _NEEDED_BEFORE and (end := _tail_end(text)) > at:
        return end
    if first in (b"[", b"{"):
        return _bracket_end(text, at)
    scalar = _SCALAR.match(text, at)
    if scalar is None:
        raise SnapshotError(f"is truncated or corrupt at byte {at}")
    return scalar.end()


def _flat_end(text: mmap.mmap, at: int) -> int:
    """End of an array of numbers alone. Searched piece by piece: a page touched counts as our memory."""
    for start in range(at, len(text), SEARCHED_BYTES):
        end = text.find(b"]", start, start + SEARCHED_BYTES)
        _drop_pages(text, start, min(start + SEARCHED_BYTES, len(text)))
        if end >= 0:
            return end + 1
    raise SnapshotError(f"is truncated: the array at byte {at} has no end")


def _tail_end(text: mmap.mmap) -> int:
    """End of the last array where the file ends with ``]}``, else -1.

    Strings come last in V8's files, and so a walk over all of them is saved; `_strings` makes up for a wrong guess.
    """
    ending = text[max(0, len(text) - 64) :].rstrip()
    closed = ending.endswith(b"}") and ending[:-1].rstrip().endswith(b"]")
    return text.rfind(b"]") + 1 if closed else -1


def _bracket_end(text: mmap.mmap, at: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(text, at):
        byte = text[token.start()]
        if byte in b"[{":
            depth += 1
        elif byte in b"]}":
            depth -= 1
            if depth == 0:
                return token.end()
    raise SnapshotError(f"is truncated: the value at byte {at} has no end")


def _layout(text: mmap.mmap, sections: dict[str, tuple[int, int]]) -> _Layout:
    start, end = sections["snapshot"]
    try:
        header = orjson.loads(text[start:end])
        meta = header["meta"]
        node_fields, edge_fields = _names(meta["node_fields"]), _names(meta["edge_fields"])
        node_kinds = _names(meta["node_types"][node_fields.index("type")])
        edge_kinds = _names(meta["edge_types"][edge_fields.index("type")])
        nodes, edges = _count(header["node_count"]), _count(header["edge_count"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise SnapshotError(f"is not a V8 heap snapshot (its header cannot be used: {error!r})") from None
    missing = [f for f in _NODE_FIELDS if f not in node_fields] + [f for f in _EDGE_FIELDS if f not in edge_fields]
    if missing:
        raise SnapshotError(f"lacks the fields {', '.join(missing)}")
    if len(node_kinds) > 255 or len(edge_kinds) > 255:
        raise SnapshotError("declares more than 255 node or edge types")
    ours = header.get(OUR_KEY)
    return _Layout(
        node_fields, edge_fields, node_kinds, edge_kinds, nodes, edges, ours if isinstance(ours, dict) else {}
    )


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise TypeError("a list of names was expected")
    return tuple(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError("a count was expected")
    return value


def _strings(text: mmap.mmap, sections: dict[str, tuple[int, int]]) -> list[str]:
    start, end = sections["strings"]
    try:
        strings = _load_strings(text, start, end)
    except SnapshotError:
        walked = _bracket_end(text, start) if text[start : start + 1] == b"[" else end
        following = _skip_space(text, walked)
        if walked == end or text[following : following + 1] != b",":
            raise
        _read_keys(text, walked, dict(sections))  # there are more keys behind them
        strings = _load_strings(text, start, walked)
    _drop_pages(text, start, end)
    if not isinstance(strings, list) or not set(map(type, strings)) <= {str}:
        raise SnapshotError("is corrupt: its strings are not a list of strings")
    return strings


def _load_strings(text: mmap.mmap, start: int, end: int) -> Any:
    with memoryview(text) as view, view[start:end] as part:
        try:
            return orjson.loads(part)
        except orjson.JSONDecodeError as error:
            problem = str(error)
    raw = text[start:end]
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SnapshotError(f"is corrupt: its strings are not UTF-8 (byte {error.start} of them)") from None
    # V8 cuts long strings, at times between the halves of a pair: JSON by its grammar, but not Unicode.
    mended = _LONE_SURROGATE.sub(lambda m: m[1] + (m[2] or rb"\ufffd"), raw)
    try:
        return orjson.loads(mended)
    except orjson.JSONDecodeError:
        raise SnapshotError(f"is corrupt: its strings are not JSON ({problem})") from None


def _graph(
    text: mmap.mmap,
    sections: dict[str, tuple[int, int]],
    layout: _Layout,
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
    column = {field: layout.node_fields.index(field) for field in _NODE_FIELDS}
    for first, rows in _rows(text, sections["nodes"], "nodes", n, width):
        part = slice(first, first + len(rows))
        kind[part] = _below(rows[:, column["type"]], len(layout.node_kinds), "node type")
        name[part] = _below(rows[:, column["name"]], len(strings), "node name")
        node_id[part] = rows[:, column["id"]]
        size[part] = rows[:, column["self_size"]]
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
    )


def _edges(
    text: mmap.mmap, span: tuple[int, int], layout: _Layout, strings: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    m, width = layout.edges, len(layout.edge_fields)
    _check_room("edges", span, m, width)
    kind, name, to = np.empty(m, np.uint8), np.empty(m, np.int32), np.empty(m, np.int32)
    column = {field: layout.edge_fields.index(field) for field in _EDGE_FIELDS}
    by_position = np.array([edge_kind in _POSITION_KINDS for edge_kind in layout.edge_kinds])
    node_width = len(layout.node_fields)
    for first, rows in _rows(text, span, "edges", m, width):
        part = slice(first, first + len(rows))
        kinds = _below(rows[:, column["type"]], len(layout.edge_kinds), "edge type")
        names = rows[:, column["name_or_index"]]
        if np.any((names >= strings) & ~by_position[kinds]):
            raise SnapshotError("is corrupt: an edge's name is not among its strings")
        target = _below(rows[:, column["to_node"]], layout.nodes * node_width, "edge target")
        if np.any(target % node_width):
            raise SnapshotError("is corrupt: an edge points between two nodes")
        kind[part], name[part], to[part] = kinds, np.minimum(names, INT32_MAX), target // node_width
    return kind, name, to


def _aliases(layout: _Layout, strings: int, root_edges: int) -> Ints:
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


def _rows(text: mmap.mmap, span: tuple[int, int], what: str, rows: int, width: int) -> Iterator[tuple[int, Ints]]:
    """Pieces of a flat array as (index of the first row, rows by width)."""
    parse = _number_parser()
    done, carry = 0, np.empty(0, np.int64)
    for piece in _pieces(text, span[0] + 1, span[1] - 1):
        values = parse(piece)
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
        _drop_pages(text, at, stop)
        at = stop + 1


def _drop_pages(text: mmap.mmap, start: int, end: int) -> None:
    """Give back what was read: the kernel can fetch it again, and it does not count as our memory."""
    if hasattr(mmap, "MADV_DONTNEED"):
        aligned = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        if end - aligned >= mmap.PAGESIZE:
            with contextlib.suppress(OSError, ValueError):
                text.madvise(mmap.MADV_DONTNEED, aligned, end - aligned)


def _scan_numbers(text: Any, out: Any) -> int:
    """Digits between commas and spaces to ``out``; their number, or -1 for any other text. For `compiled`."""
    found = 0
    value = 0
    state = 0  # 0 before a number, 1 in one, 2 after it, before its comma
    for byte in text:
        if 48 <= byte <= 57:
            if state == 2:
                return -1
            if value > 922337203685477579:  # the next digit could pass the largest int64
                return -1
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


def _number_parser() -> Callable[[bytes], Ints]:
    scan = compiled(_scan_numbers)
    if scan is None:
        return _parse_numbers

    def parse(piece: bytes) -> Ints:
        if not piece.strip():
            return np.empty(0, np.int64)
        out = np.empty(piece.count(b",") + 1, np.int64)
        found = scan(np.frombuffer(piece, np.uint8), out)
        if found < 0:
            raise SnapshotError("is corrupt: something other than whole numbers among its numbers")
        return out[:found]

    return parse


def _parse_numbers(piece: bytes) -> Ints:
    if not piece.strip():
        return np.empty(0, np.int64)
    try:
        with warnings.catch_warnings():
            # older numpy only warns of text that is no number
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(piece, np.int64, sep=",")
    except (ValueError, DeprecationWarning):
        values = None
    if values is None or len(values) != piece.count(b",") + 1 or int(values.max()) == np.iinfo(np.int64).max:
        raise SnapshotError("is corrupt: something other than whole numbers among its numbers")
    return values


@dataclass(frozen=True)
class SnapshotInfo:
    """What a snapshot file is. Sizes in bytes; ``by_kind`` maps a node kind to (count, shallow bytes),
    largest first.
    """

    path: str
    producer: str
    pid: int | None
    time: float | str | None
    """Seconds since 1970 where the snapshot says so itself; else what its name says, as it is written there."""
    python: str | None
    node_count: int
    edge_count: int
    string_count: int
    shallow_bytes: int
    file_bytes: int
    by_kind: dict[str, tuple[int, int]]


def info(path: Path | str) -> SnapshotInfo:
    """Producer, process, time, counts and sizes of a snapshot. Raises `SnapshotError` as `read` does."""
    path = Path(path)
    with _mapped(path) as text, _named_errors(path):
        sections = _sections(text)
        layout = _layout(text, sections)
        graph = _graph(text, sections, layout, _strings(text, sections), with_edges=False)
    counts = np.bincount(graph.node_kind, minlength=len(graph.node_kinds))
    sizes = np.bincount(graph.node_kind, weights=graph.self_size, minlength=len(graph.node_kinds))
    order = np.argsort(-sizes, kind="stable")
    named, ours = parse_name(path), layout.ours
    pid, time, python = ours.get("pid"), ours.get("time"), ours.get("python")
    return SnapshotInfo(
        path=str(path),
        producer=str(ours.get("producer", OUR_KEY)) if ours else "V8",
        pid=pid if isinstance(pid, int) else (named.pid if named else None),
        time=time if isinstance(time, (int, float, str)) else (named.time if named else None),
        python=str(python) if python is not None else None,
        node_count=layout.nodes,
        edge_count=layout.edges,
        string_count=len(graph.strings),
        shallow_bytes=int(graph.self_size.sum()),
        file_bytes=os.stat(path).st_size,
        by_kind={graph.node_kinds[k]: (int(counts[k]), int(sizes[k])) for k in order.tolist() if counts[k]},
    )


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
    n, m, width = graph.node_count, graph.edge_count, len(_NODE_FIELDS) + len(_EXTRA_NODE_FIELDS)
    meta = {
        "node_fields": [*_NODE_FIELDS, *_EXTRA_NODE_FIELDS],
        "node_types": [list(graph.node_kinds), "string", *["number"] * 4],
        "edge_fields": list(_EDGE_FIELDS),
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
