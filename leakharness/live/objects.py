"""Finds the objects of a CPython heap in a copy of its memory: no symbols, no help from the process.

An object that the collector tracks has two words in front of it which link all such objects in both directions
(Include/internal/pycore_gc.h, PyGC_Head): where ``next->prev`` and ``prev->next`` lead back, and a type follows, there
is one. A type is an object whose type is a type; ``type`` is its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leakharness.errors import UsageError
from leakharness.live.layouts import Layout
from leakharness.live.memory import Memory

__all__ = ["HAVE_GC", "HEAP_TYPE", "Objects", "find_objects"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

LINK = np.uint64(0xFFFF_FFFF_FFFF_FFFC)
"""The low two bits of both links are flags (Include/internal/pycore_gc.h)."""
HAVE_GC, HEAP_TYPE, TYPE_SUBCLASS = 1 << 14, 1 << 9, 1 << 31
"""Include/object.h, Py_TPFLAGS_*."""
LARGEST_BASIC = 1 << 16
"""Bytes: no type has larger instances without items; what says so is no type."""
OB_TYPE = np.uint64(8)
GC_HEAD = np.uint64(16)
PIECE = 1 << 22
"""Words looked at together, so that the masks stay small beside the copy."""


class Objects:
    """Tracked objects by address (sorted) and the types that they have.

    ``torn`` counts objects left out because one of their two links does not lead back: they changed while they were
    read, or a collection was running, which keeps reference counts in the place of one link.
    """

    def __init__(self, memory: Memory, layout: Layout, address: Words, torn: int) -> None:
        self.memory, self.layout, self.torn = memory, layout, torn
        self.address = np.sort(address)
        types, self.type = np.unique(memory.read(self.address + OB_TYPE), return_inverse=True)
        self.types = types
        self.flags = memory.read(types + np.uint64(layout("PyTypeObject.tp_flags"))).astype(np.int64)
        self.basic = memory.read(types + np.uint64(layout("PyTypeObject.tp_basicsize"))).astype(np.int64)
        self.item = memory.read(types + np.uint64(layout("PyTypeObject.tp_itemsize"))).astype(np.int64)
        names = memory.read(types + np.uint64(layout("PyTypeObject.tp_name")))
        self.c_name = [memory.c_string(int(at)) for at in names]

    def number(self, addresses: Words) -> Ints:
        """Number of the object at each address; -1 for none."""
        at = np.searchsorted(self.address, addresses)
        at[at == len(self.address)] = 0
        return np.where(self.address[at] == addresses, at, -1)


def find_objects(memory: Memory, layout: Layout) -> Objects:
    """Every tracked object. Raises UsageError where the memory does not look like a CPython of that layout."""
    kind = _type_of_types(memory, layout)
    halves = [_linked(memory, number) for number in range(len(memory.regions))]
    heads, whole = np.concatenate([half[0] for half in halves]), np.concatenate([half[1] for half in halves])
    objects = heads + GC_HEAD
    types, inverse = np.unique(memory.read(objects + OB_TYPE), return_inverse=True)
    is_object = _are_types(memory, layout, types, kind)[inverse]
    torn = int(np.count_nonzero(is_object & ~whole))
    objects = objects[is_object & whole]
    if not len(objects):
        raise UsageError("no object was found: the memory does not fit the layout of this version of CPython")
    return Objects(memory, layout, objects, torn)


def _linked(memory: Memory, number: int) -> tuple[Words, npt.NDArray[np.bool_]]:
    """Addresses in one region where the first link leads there and back, and whether the second one does, too."""
    region = memory.regions[number]
    found: list[Words] = [np.zeros(0, np.uint64)]
    whole = [np.zeros(0, np.bool_)]
    low, high = memory.start[0], memory.end[-1]
    first, last = int(memory.first[number]), int(memory.first[number + 1])
    for begin in range(first, last if "w" in region.access else first, PIECE):
        words = memory.words[begin : min(begin + PIECE, last)]
        words = words[: len(words) // 2 * 2]
        after = words[0::2]
        place = np.flatnonzero((after > low) & (after < high))
        head = np.uint64(region.start + (begin - first) * 8) + place.astype(np.uint64) * np.uint64(16)
        back = (memory.read((after[place] & LINK) + np.uint64(8)) & LINK) == head
        head, before = head[back], words[1::2][place[back]] & LINK
        found.append(head)
        whole.append((memory.read(before) & LINK) == head)
    return np.concatenate(found), np.concatenate(whole)


def _type_of_types(memory: Memory, layout: Layout) -> int:
    """Address of ``type``: an object that is its own type and is called so."""
    name, flags = layout("PyTypeObject.tp_name"), layout("PyTypeObject.tp_flags")
    for number, region in enumerate(memory.regions):
        words = memory.words[int(memory.first[number]) : int(memory.first[number + 1])]
        here = np.uint64(region.start) + np.arange(len(words) - 1, dtype=np.uint64) * np.uint64(8)
        for address in here[words[1:] == here].tolist():
            if memory.word(address + flags) & TYPE_SUBCLASS and memory.c_string(memory.word(address + name)) == "type":
                return int(address)
    raise UsageError("no type object was found: this process does not run a CPython that can be read")


def _are_types(memory: Memory, layout: Layout, types: Words, kind: int) -> npt.NDArray[np.bool_]:
    """Which addresses are types with tracked instances and plausible sizes."""
    flags_at = np.uint64(layout("PyTypeObject.tp_flags"))
    meta = memory.read(types + OB_TYPE)
    is_type = (meta == np.uint64(kind)) | ((memory.read(meta + flags_at) & np.uint64(TYPE_SUBCLASS)) != 0)
    flags = memory.read(types + flags_at)
    basic = memory.read(types + np.uint64(layout("PyTypeObject.tp_basicsize")))
    plausible = (basic >= np.uint64(16)) & (basic < np.uint64(LARGEST_BASIC))
    return np.asarray(is_type & ((flags & np.uint64(HAVE_GC)) != 0) & plausible)
