"""Finds the objects of a CPython heap in a copy of its memory: no symbols, no help from the process.

An object that the collector tracks has two words in front of it which link all such objects in both directions
(Include/internal/pycore_gc.h, PyGC_Head): where ``next->prev`` and ``prev->next`` lead back, and a type follows, there
is one. A type is an object whose type is a type; ``type`` is its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from leakharness.errors import UsageError
from leakharness.heap.arrays import distinct
from leakharness.live.layouts import Layout
from leakharness.live.memory import Memory

__all__ = ["HAVE_GC", "HEAP_TYPE", "Objects", "find_objects"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int32]
Kinds = npt.NDArray[np.int32]
Value = TypeVar("Value", bound=np.generic)

LINK = np.uint64(0xFFFF_FFFF_FFFF_FFFC)
"""The low two bits of both links are flags (Include/internal/pycore_gc.h)."""
HAVE_GC, HEAP_TYPE, READY, TYPE_SUBCLASS = 1 << 14, 1 << 9, 1 << 12, 1 << 31
"""Include/object.h, Py_TPFLAGS_*."""
LARGEST_BASIC = 1 << 16
"""Bytes: no type has larger instances without items; what says so is no type."""
OB_TYPE = np.uint64(8)
GC_HEAD = np.uint64(16)
PIECE = 1 << 19
"""Words looked at together, so that the masks stay small beside the copy."""
LOOKED_UP = 1 << 16
"""Addresses looked up together, for the same reason."""


class Objects:
    """Objects by number: first those that the collector tracks, by address; then untracked ones, as they are added.

    ``kind`` is the type of each, an index into ``types`` (addresses) and its columns. ``torn`` counts objects left
    out because one of their two links does not lead back: they changed while they were read, or a collection was
    running, which keeps reference counts in the place of one link.
    """

    def __init__(self, memory: Memory, layout: Layout, meta: int, address: Words, torn: int) -> None:
        self.memory, self.layout, self.torn, self._meta = memory, layout, torn, meta
        self.address: Words = address
        self.tracked = len(self.address)
        self.types: Words = np.zeros(0, np.uint64)
        self.kind: Kinds = np.zeros(0, np.int32)
        self.flags: Ints = np.zeros(0, np.int64)
        self.basic: Ints = np.zeros(0, np.int64)
        self.item: Ints = np.zeros(0, np.int64)
        self.c_name: list[str] = []
        self._layers = [0, self.tracked]
        """Where each stretch of sorted addresses begins, and the end: one for the tracked, one each time some came."""
        self._read_types(self.address)

    def __len__(self) -> int:
        return len(self.address)

    def number(self, addresses: Words, since: int = 0) -> Numbers:
        """Number of the object at each address; -1 for none, and for those below ``since``."""
        found = np.full(len(addresses), -1, np.int32)
        for begin in range(0, len(found), LOOKED_UP):
            some, asked = found[begin : begin + LOOKED_UP], addresses[begin : begin + LOOKED_UP]
            open_: Ints | slice = slice(None)
            for first, last in zip(self._layers, self._layers[1:], strict=False):
                if first < since or first == last:
                    continue
                layer, wanted = self.address[first:last], asked[open_]
                at = np.minimum(np.searchsorted(layer, wanted), len(layer) - 1)
                here = layer[at] == wanted
                some[open_] = np.where(here, at + first, -1)
                open_ = np.flatnonzero(some < 0)
        return found

    def by_kind(self, column: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """The value of each object, from one value a type."""
        found = np.empty(len(self.kind), column.dtype)
        for begin in range(0, len(found), LOOKED_UP):  # an index of 32 bits is made one of 64 first
            found[begin : begin + LOOKED_UP] = column[self.kind[begin : begin + LOOKED_UP]]
        return found

    def add(self, candidates: Words) -> Ints:
        """Take in what is an object at these addresses and is not known yet; the numbers of the new ones."""
        new = distinct(candidates)
        new = new[(self.number(new) < 0) & (new % np.uint64(8) == 0)]
        of = self.memory.read(new + OB_TYPE)
        kinds = distinct(of)
        if len(new):
            new = new[_are_types(self.memory, self.layout, kinds, self._meta)[np.searchsorted(kinds, of)]]
        first = len(self.address)
        if len(new):
            self.address = np.concatenate([self.address, new])
            self._layers.append(len(self.address))
            self._read_types(new)
        return np.arange(first, len(self.address))

    def _read_types(self, address: Words) -> None:
        """Types of further objects, after those known."""
        memory, layout = self.memory, self.layout
        found = memory.read(address + OB_TYPE)
        unknown = np.setdiff1d(distinct(found), self.types, assume_unique=True)
        self.types = np.concatenate([self.types, unknown])
        if len(address):
            order = np.argsort(self.types, kind="stable").astype(np.int32)
            self.kind = np.concatenate([self.kind, order[np.searchsorted(self.types[order], found)]])

        def column(field: str) -> Ints:
            return memory.read(unknown + np.uint64(layout(f"PyTypeObject.{field}"))).astype(np.int64)

        self.flags = np.concatenate([self.flags, column("tp_flags")])
        self.basic = np.concatenate([self.basic, column("tp_basicsize")])
        self.item = np.concatenate([self.item, column("tp_itemsize")])
        self.c_name += [memory.c_string(at) for at in column("tp_name").tolist()]


def find_objects(memory: Memory, layout: Layout) -> Objects:
    """Every tracked object. Raises UsageError where the memory does not look like a CPython of that layout."""
    meta = _type_of_types(memory, layout)
    known: dict[int, bool] = {}
    found, torn = [np.zeros(0, np.uint64)], 0
    for number in range(len(memory.regions)):
        for heads, whole in _linked(memory, number):
            objects = heads + GC_HEAD
            of = memory.read(objects + OB_TYPE)
            kinds = distinct(of)
            new = np.array([kind for kind in kinds.tolist() if kind not in known], np.uint64)
            tracked = (memory.read(new + np.uint64(layout("PyTypeObject.tp_flags"))) & np.uint64(HAVE_GC)) != 0
            known.update(zip(new.tolist(), (_are_types(memory, layout, new, meta) & tracked).tolist(), strict=True))
            good = np.array([known[kind] for kind in kinds.tolist()], np.bool_)
            is_object = good[np.searchsorted(kinds, of)] if len(of) else np.zeros(0, np.bool_)
            torn += int(np.count_nonzero(is_object & ~whole))
            found.append(objects[is_object & whole])
    objects = np.sort(np.concatenate(found))
    if not len(objects):
        raise UsageError("no object was found: the memory does not fit the layout of this version of CPython")
    return Objects(memory, layout, meta, objects, torn)


def _linked(memory: Memory, number: int) -> Iterator[tuple[Words, Bools]]:
    """Addresses in one region where the first link leads there and back, and whether the second one does, too.
    By address, piece by piece."""
    low, high = memory.start[0], memory.end[-1]
    for address, words in memory.pieces(number, PIECE) if "w" in memory.regions[number].access else ():
        after = words[: len(words) // 2 * 2 : 2]
        place = np.flatnonzero(after - low < high - low)
        head = np.uint64(address) + place.astype(np.uint64) * np.uint64(16)
        back = (memory.read((after[place] & LINK) + np.uint64(8)) & LINK) == head
        head, before = head[back], words[1::2][place[back]] & LINK
        yield head, (memory.read(before) & LINK) == head


def _type_of_types(memory: Memory, layout: Layout) -> int:
    """Address of ``type``: an object that is its own type and is called so. It lies where Python's own code is."""
    name, flags = layout("PyTypeObject.tp_name"), layout("PyTypeObject.tp_flags")
    numbers = sorted(range(len(memory.regions)), key=lambda number: "python" not in memory.regions[number].name)
    for number in numbers:
        for start, words in memory.pieces(number, PIECE):
            here = np.uint64(start) + np.arange(len(words) - 1, dtype=np.uint64) * np.uint64(8)
            for address in here[words[1:] == here].tolist():
                is_type = memory.word(address + flags) & TYPE_SUBCLASS
                if is_type and memory.c_string(memory.word(address + name)) == "type":
                    return int(address)
    raise UsageError("no type object was found: this process does not run a CPython that can be read")


def _are_types(memory: Memory, layout: Layout, types: Words, meta: int) -> Bools:
    """Which addresses are types with plausible sizes."""
    flags_at = np.uint64(layout("PyTypeObject.tp_flags"))
    kind = memory.read(types + OB_TYPE)
    is_type = (kind == np.uint64(meta)) | ((memory.read(kind + flags_at) & np.uint64(TYPE_SUBCLASS)) != 0)
    basic = memory.read(types + np.uint64(layout("PyTypeObject.tp_basicsize")))
    plausible = (basic >= np.uint64(16)) & (basic < np.uint64(LARGEST_BASIC))
    plausible &= (memory.read(types + flags_at) & np.uint64(READY)) != 0
    return np.asarray(is_type & plausible)
