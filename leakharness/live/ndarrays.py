"""Arrays of numpy in a copy of memory: what those of objects hold, whose memory they show, and their bytes.

Layouts from numpy/core/include/numpy/ndarraytypes.h (PyArrayObject_fields, PyArray_Descr), the same in 1.22 to 2.x as
far as they are used.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leakharness.live.memory import Memory
from leakharness.live.references import ELEMENT, POSITIONS, PROPERTY, References

__all__ = ["ARRAY", "collect_arrays", "sizes_of_arrays"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

ARRAY = "numpy.ndarray"
DATA, DIMENSIONS_COUNT, DIMENSIONS, STRIDES, BASE, DESCRIPTION, FLAGS = (
    np.uint64(offset) for offset in (16, 24, 32, 40, 48, 56, 64)
)
KIND, OF_OBJECTS = np.uint64(24), ord("O")
"""Offset of ``kind`` in PyArray_Descr, and its value for references to objects."""
OWNS_DATA = 4
MOST_DIMENSIONS = 64
LARGEST = 1 << 40
"""Bytes of one array beyond which the words that say so are torn."""


def collect_arrays(references: References) -> None:
    """Add the items of arrays of objects, by position as if they were flat, and the base of views."""
    members = references.of_family(ARRAY)
    if not len(members):
        return
    memory = references.objects.memory
    address = references.objects.address[members]
    references.add(members, memory.read(address + BASE), references.name("base"), PROPERTY)
    kind = memory.read(memory.read(address + DESCRIPTION) + KIND) & np.uint64(0xFF)
    left = len(memory.words)  # items of views that show the same memory are found again and again
    for node in members[kind == OF_OBJECTS].tolist():
        places = _places(memory, int(references.objects.address[node]), left)
        left -= len(places)
        value = memory.read(places)
        references.add(np.full(len(places), node), value, POSITIONS, ELEMENT)


def _places(memory: Memory, array: int, most: int) -> Words:
    """Addresses of the items of one array, none where there are more than ``most``."""
    count = memory.half(array + int(DIMENSIONS_COUNT))
    found = np.array([memory.word(array + int(DATA))], np.uint64)
    for place in range(count if count <= MOST_DIMENSIONS else 0):
        length = memory.word(memory.word(array + int(DIMENSIONS)) + 8 * place)
        stride = memory.word(memory.word(array + int(STRIDES)) + 8 * place)
        if length * len(found) > most:
            return np.zeros(0, np.uint64)
        steps = np.arange(length, dtype=np.uint64) * np.uint64(stride)  # of 64 bits: a negative stride wraps around
        found = (found[:, None] + steps[None, :]).reshape(-1)
    return found


def sizes_of_arrays(memory: Memory, address: Words) -> Ints:
    """Bytes that belong to each array beside its struct: lengths and strides, and its items where it owns them."""
    count = memory.read(address + DIMENSIONS_COUNT).astype(np.int64) & 0xFFFF_FFFF
    count = np.where(count <= MOST_DIMENSIONS, count, 0)
    owns = (memory.read(address + FLAGS) & np.uint64(OWNS_DATA)) != 0
    length, stride = memory.read(address + DIMENSIONS), memory.read(address + STRIDES)
    last = (np.maximum(count - 1, 0) * 8).astype(np.uint64)
    extents = []
    for at in (np.zeros(len(address), np.uint64), last):  # the first is the outermost in C, the last in Fortran
        items, step = memory.read(length + at).astype(np.int64), np.abs(memory.read(stride + at).astype(np.int64))
        plausible = (items >= 0) & (items < LARGEST) & (step >= 0) & (step < LARGEST)
        plausible &= (items.astype(np.float64) * step) < LARGEST
        extents.append(np.where(plausible, items * step, 0))
    items = np.where(count > 0, np.maximum(*extents), 8)
    return np.asarray(16 * count + np.where(owns, items, 0))
