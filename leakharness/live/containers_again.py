"""Large containers, read once more and each at once.

A registry that leaks is what grows while the memory is copied: its head may be of before it moved to a larger table,
and what is copied of its old table of afterwards, when something else was there. All that hangs on it would seem to be
held by nobody.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from leakharness.live.dicts import GENERAL, key_columns, value_base
from leakharness.live.memory import Source
from leakharness.live.objects import Objects

__all__ = ["read_containers_again"]

Words = npt.NDArray[np.uint64]

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


def read_containers_again(objects: Objects, source: Source) -> None:
    """Put each large list, dict and set into the copy as it is now, with its table, where the copy has room for that;
    the others stay as they are."""
    layout = objects.layout
    is_set = np.array([name in SETS for name in objects.c_name], np.bool_)
    for kinds, size, again in (
        ((objects.flags & LIST_SUBCLASS) != 0, 16, _list_again),
        ((objects.flags & DICT_SUBCLASS) != 0, layout("PyDictObject.ma_used"), _dict_again),
        (is_set, layout("PySetObject.mask"), _set_again),
    ):
        for address in _large(objects, kinds, size):
            again(objects, source, address)


def _large(objects: Objects, kinds: npt.NDArray[np.bool_], size: int) -> list[int]:
    """Addresses of the containers of these types with many entries, most first."""
    address = objects.address[: objects.tracked][kinds[objects.kind[: objects.tracked]]]
    count = objects.memory.read(address + np.uint64(size)).astype(np.int64)
    large = np.flatnonzero((count >= LEAST_ENTRIES) & (count < LARGEST))
    found: list[int] = address[large[np.argsort(-count[large], kind="stable")]][:MOST_CONTAINERS].tolist()
    return found


def _list_again(objects: Objects, source: Source, address: int) -> None:
    def table(word: Callable[[int], int]) -> bool:
        return objects.memory.copy_again(source, word(objects.layout("PyListObject.ob_item")), 8 * word(16))

    _with_head(objects, source, address, table)


def _set_again(objects: Objects, source: Source, address: int) -> None:
    def table(word: Callable[[int], int]) -> bool:
        slots = word(objects.layout("PySetObject.mask")) + 1
        return objects.memory.copy_again(source, word(objects.layout("PySetObject.table")), 16 * slots)

    _with_head(objects, source, address, table)


def _dict_again(objects: Objects, source: Source, address: int) -> None:
    memory, layout = objects.memory, objects.layout

    def table(word: Callable[[int], int]) -> bool:
        keys, values = word(layout("PyDictObject.ma_keys")), word(layout("PyDictObject.ma_values"))
        if not memory.copy_again(source, keys, HEAD_BYTES):
            return False
        first, count, kind = key_columns(memory, layout, np.array([keys], np.uint64))
        entries = int(count[0])
        size = int(first[0]) - keys + entries * (24 if int(kind[0]) == GENERAL else 16)
        there = not values or memory.copy_again(source, values, value_base(layout) + 8 * entries)
        return there and memory.copy_again(source, keys, size)

    _with_head(objects, source, address, table)


def _with_head(objects: Objects, source: Source, address: int, table: Callable[[Callable[[int], int]], bool]) -> None:
    """The table where the container says now that it is, and then the head that said so."""
    head = bytearray(HEAD_BYTES)
    try:
        if source.read_into(memoryview(head), address) != HEAD_BYTES:
            return
    except OSError:
        return
    words = memoryview(head).cast("Q")
    if table(lambda offset: words[offset // 8]):
        objects.memory.put(address, head)
