"""The text of a ``.heapsnapshot``: where its parts lie, what its header declares, and its strings."""

from __future__ import annotations

import contextlib
import gzip
import mmap
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import orjson

from leakharness.errors import SnapshotError
from leakharness.heap.graph import EDGE_KINDS, NODE_KINDS

__all__ = [
    "ALIASES_KEY",
    "EDGE_FIELDS",
    "NODE_FIELDS",
    "OUR_KEY",
    "Layout",
    "drop_pages",
    "layout_of",
    "mapped",
    "named_errors",
    "sections_of",
    "strings_of",
]

UNDECLARED_KINDS = 8  # types beyond those known here that are read all the same; a larger number is no type
GZIP = b"\x1f\x8b"
MOST_UNPACKED = 200  # times its size: a snapshot packs to a tenth; what unpacks to more than this is no snapshot
FEWEST_UNPACKED = 64 << 20  # bytes to which any file may unpack
SEARCHED_BYTES = 16 << 20  # searched at a time, and then given back
OUR_KEY = "leakharness"
ALIASES_KEY = "root_aliases"  # [place among the root's edges, edge kind, name, target node] of each

NODE_FIELDS = ("type", "name", "id", "self_size", "edge_count")
EDGE_FIELDS = ("type", "name_or_index", "to_node")
_FLAT = frozenset({"nodes", "edges", "samples", "locations", "trace_function_infos"})
_NEEDED_BEFORE = frozenset({"snapshot", "nodes", "edges"})

_KEY = re.compile(rb'[\s,]*"((?:[^"\\]|\\.)*)"\s*:\s*')
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_SCALAR = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s,}\]]+')
_LONE_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*)"  # an even number of backslashes: the next one escapes
    rb"(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


@dataclass(frozen=True)
class Layout:
    """Where the columns are in this file: field names of a row, kind names, declared counts."""

    node_fields: tuple[str, ...]
    edge_fields: tuple[str, ...]
    node_kinds: tuple[str, ...]
    edge_kinds: tuple[str, ...]
    nodes: int
    edges: int
    ours: dict[str, Any]


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise SnapshotError(f"{path}: is a directory, not a heap snapshot; name one .heapsnapshot file")
        if not stat.S_ISREG(status.st_mode):
            raise SnapshotError(f"{path}: is not a regular file; name one .heapsnapshot file")
        if status.st_size == 0:
            raise SnapshotError(f"{path}: is empty; take the snapshot again")
        with open(path, "rb") as file, contextlib.ExitStack() as stack:
            packed = file.read(2) == GZIP
            plain = stack.enter_context(_unpacked(path, file, status.st_size)) if packed else file
            yield stack.enter_context(mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a path with a NUL in it
        raise SnapshotError(f"{str(path)!r}: cannot be read: {error}") from None


@contextlib.contextmanager
def _unpacked(path: Path, packed: BinaryIO, packed_bytes: int) -> Iterator[IO[bytes]]:
    """What a gzipped file holds, in a temporary file that goes with the process."""
    limit = max(FEWEST_UNPACKED, MOST_UNPACKED * packed_bytes)
    packed.seek(0)
    with tempfile.TemporaryFile(prefix="leakharness-") as plain:
        try:
            with gzip.GzipFile(fileobj=packed) as stream:
                while block := stream.read(SEARCHED_BYTES):
                    plain.write(block)
                    if plain.tell() > limit:
                        raise SnapshotError(f"{path}: unpacks to more than {limit} bytes, so it is no heap snapshot")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SnapshotError(f"{path}: is a broken gzip file ({error}); pack the snapshot again") from None
        plain.flush()
        if plain.tell() == 0:
            raise SnapshotError(f"{path}: is empty; take the snapshot again")
        yield plain


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Put the file's name before what the parsing functions say."""
    try:
        yield
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}; take the snapshot again or check the file") from None
    except MemoryError:
        raise SnapshotError(f"{path}: does not fit in this machine's memory; read it on a larger one") from None


def sections_of(text: mmap.mmap) -> dict[str, tuple[int, int]]:
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
        drop_pages(text, start, min(start + SEARCHED_BYTES, len(text)))
        if end >= 0:
            return end + 1
    raise SnapshotError(f"is truncated: the array at byte {at} has no end")


def _tail_end(text: mmap.mmap) -> int:
    """End of the last array where the file ends with ``]}``, else -1.

    Strings come last in V8's files, and so a walk over all of them is saved; `strings_of` makes up for a wrong guess.
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


def layout_of(text: mmap.mmap, sections: dict[str, tuple[int, int]]) -> Layout:
    start, end = sections["snapshot"]
    try:
        header = orjson.loads(text[start:end])
        meta = header["meta"]
        node_fields, edge_fields = _names(meta["node_fields"]), _names(meta["edge_fields"])
        node_kinds = _names(meta["node_types"][node_fields.index("type")])
        # V8 before 6.8 (Node 8, Chrome of 2015) writes symbols without declaring them
        node_kinds = _with_undeclared(node_kinds, NODE_KINDS)
        edge_kinds = _with_undeclared(_names(meta["edge_types"][edge_fields.index("type")]), EDGE_KINDS)
        nodes, edges = _count(header["node_count"]), _count(header["edge_count"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise SnapshotError(f"is not a V8 heap snapshot (its header cannot be used: {error!r})") from None
    missing = [f for f in NODE_FIELDS if f not in node_fields] + [f for f in EDGE_FIELDS if f not in edge_fields]
    if missing:
        raise SnapshotError(f"lacks the fields {', '.join(missing)}")
    if len(node_kinds) > 255 or len(edge_kinds) > 255:
        raise SnapshotError("declares more than 255 node or edge types")
    ours = header.get(OUR_KEY)
    return Layout(
        node_fields, edge_fields, node_kinds, edge_kinds, nodes, edges, ours if isinstance(ours, dict) else {}
    )


def _with_undeclared(declared: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds that a file of V8 may use: those that it declares, those that V8 has beyond them, and a few that may
    come; what is declared otherwise is another producer's and stays as it is."""
    shared = min(len(declared), len(known))
    if declared[:shared] != known[:shared]:
        return declared
    kinds = declared if len(declared) > shared else known
    return kinds + tuple(f"(type {number})" for number in range(len(kinds), len(kinds) + UNDECLARED_KINDS))


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise TypeError("a list of names was expected")
    return tuple(value)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("a count was expected")
    return value


def strings_of(text: mmap.mmap, sections: dict[str, tuple[int, int]]) -> list[str]:
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
    drop_pages(text, start, end)
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


def drop_pages(text: mmap.mmap, start: int, end: int) -> None:
    """Give back what was read: the kernel can fetch it again, and it does not count as our memory."""
    if hasattr(mmap, "MADV_DONTNEED"):
        aligned = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        if end - aligned >= mmap.PAGESIZE:
            with contextlib.suppress(OSError, ValueError):
                text.madvise(mmap.MADV_DONTNEED, aligned, end - aligned)
