"""Large containers, read once more and each at once.

A registry that leaks is what grows while the memory is copied: its head may be of before it moved to a larger table,
and what is copied of its old table of afterwards, when something else was there. All that hangs on it would seem to be
held by nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from leakharness.live.dicts import GENERAL, value_base
from leakharness.live.layouts import Layout
from leakharness.live.memory import Source
from leakharness.live.objects import Objects

__all__ = ["read_containers_again"]

LIST_SUBCLASS, DICT_SUBCLASS = 1 << 25, 1 << 29
"""Include/object.h, Py_TPFLAGS_*."""
SETS = ("set", "frozenset")
LEAST_ENTRIES = 256
"""Entries of a container that is worth it: each is two or three calls of the kernel."""
MOST_CONTAINERS = 20_000
"""The largest ones; more would take longer than the copy."""
HEAD_BYTES = 48
"""Of a list, dict or set, and of a dict's table of keys: they say where the rest is, and how large."""
LARGEST = 1 << 30
"""Bytes of one table: what says more is torn."""

Read = Callable[[int, int], bytes]
"""So many bytes from an address on; fewer, or none, where they cannot be read."""


class _Stretch(NamedTuple):
    address: int
    bytes: int


def read_containers_again(objects: Objects, source: Source) -> None:
    """Put each large list, dict and set into the copy as it is now, with its table, where more of what it refers to
    then is in the copy, and has room there. The others stay: what was emptied since was full when it was copied."""
    layout = objects.layout
    is_set = np.array([name in SETS for name in objects.c_name], np.bool_)
    for kinds, size, table in (
        ((objects.flags & LIST_SUBCLASS) != 0, 16, _list_table),
        ((objects.flags & DICT_SUBCLASS) != 0, layout("PyDictObject.ma_used"), _dict_table),
        (is_set, layout("PySetObject.mask"), _set_table),
    ):
        for address in _large(objects, kinds, size):
            _again(objects, source, address, table)


def _large(objects: Objects, kinds: npt.NDArray[np.bool_], size: int) -> list[int]:
    """Addresses of the containers of these types with many entries, most first."""
    address = objects.address[: objects.tracked][kinds[objects.kind[: objects.tracked]]]
    count = objects.memory.read(address + np.uint64(size)).astype(np.int64)
    large = np.flatnonzero((count >= LEAST_ENTRIES) & (count < LARGEST))
    found: list[int] = address[large[np.argsort(-count[large], kind="stable")]][:MOST_CONTAINERS].tolist()
    return found


def _again(
    objects: Objects, source: Source, address: int, table: Callable[[Layout, memoryview, Read], list[_Stretch]]
) -> None:
    def now(place: int, count: int) -> bytes:
        buffer = bytearray(max(0, min(count, LARGEST)))
        try:
            return bytes(buffer[: source.read_into(memoryview(buffer), place)]) if buffer else b""
        except OSError:
            return b""

    def read(read: Read) -> tuple[bytes, dict[int, bytes]]:
        head = read(address, HEAD_BYTES)
        stretches = table(objects.layout, memoryview(head).cast("Q"), read) if len(head) == HEAD_BYTES else []
        return head, {place: read(place, min(count, LARGEST)) for place, count in stretches if place and count > 0}

    _, copied = read(objects.memory.data)
    head, fresh = read(now)
    if all(objects.memory.has(place, len(data)) for place, data in fresh.items()) and _known(objects, fresh) > _known(
        objects, copied
    ):
        for place, data in ((address, head), *fresh.items()):
            objects.memory.put(place, data)


def _known(objects: Objects, parts: dict[int, bytes]) -> int:
    """How many objects that the collector tracks stand in these tables."""
    words = [np.frombuffer(data, np.uint64, len(data) // 8) for data in parts.values()]
    return sum(int(np.count_nonzero(objects.number(part) >= 0)) for part in words)


def _list_table(layout: Layout, head: memoryview, read: Read) -> list[_Stretch]:
    return [_Stretch(head[layout("PyListObject.ob_item") // 8], 8 * head[2])]


def _set_table(layout: Layout, head: memoryview, read: Read) -> list[_Stretch]:
    return [_Stretch(head[layout("PySetObject.table") // 8], 16 * (head[layout("PySetObject.mask") // 8] + 1))]


def _dict_table(layout: Layout, head: memoryview, read: Read) -> list[_Stretch]:
    keys, values = head[layout("PyDictObject.ma_keys") // 8], head[layout("PyDictObject.ma_values") // 8]
    start = read(keys, HEAD_BYTES)
    if len(start) < HEAD_BYTES:
        return []
    words = memoryview(start).cast("Q")
    entries = words[layout("PyDictKeysObject.dk_nentries") // 8]
    if layout.version < (3, 11):
        slots, general = words[layout("PyDictKeysObject.dk_size") // 8], True
        indices = slots * (1 if slots <= 0xFF else 2 if slots <= 0xFFFF else 4)
    else:
        sizes = words[layout("PyDictKeysObject.dk_log2_size") // 8]
        indices, general = 1 << min((sizes >> 8) & 0xFF, 40), (sizes >> 16) & 0xFF == GENERAL
    size = layout("PyDictKeysObject.dk_indices") + indices + entries * (24 if general else 16)
    return [_Stretch(keys, size), _Stretch(values, value_base(layout) + 8 * entries)]
