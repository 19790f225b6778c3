"""Shallow sizes of objects in a copy of memory, as ``sys.getsizeof`` has them: with header, items and buffers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leakharness.live.dicts import GENERAL, key_columns
from leakharness.live.ndarrays import ARRAY, sizes_of_arrays
from leakharness.live.objects import HAVE_GC, Objects
from leakharness.live.references import INLINE_VALUES, MANAGED_DICT, References

__all__ = ["shallow_sizes"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

GC_HEAD, PRE_HEADER = 16, 16
MOST_ITEMS = 1 << 34
"""Items or bytes of one object beyond which the word that says so is torn."""
DEQUE_BLOCK = 528
"""Bytes: 64 items and two links (Modules/_collectionsmodule.c)."""
ARRAY_ALLOCATED, ARRAY_DESCRIPTION = 32, 40
"""Modules/arraymodule.c, arrayobject: ``allocated`` and ``ob_descr``, whose second field is the size of an item."""
SMALL_SET = 8
"""Entries that lie in the set itself (Include/cpython/setobject.h, PySet_MINSIZE)."""


def shallow_sizes(objects: Objects, references: References) -> Ints:
    """Bytes of each object: its struct, what it has in line, and the buffers that belong to it alone."""
    memory = objects.memory
    structs = objects.basic + np.where(objects.flags & HAVE_GC, GC_HEAD, 0)
    if objects.layout.version >= (3, 11):
        structs += np.where(objects.flags & MANAGED_DICT, PRE_HEADER, 0)
    found = objects.by_kind(structs)
    for bases, kind, members in references.all_groups():
        address = objects.address[members]
        count = _plausible(memory.read(address + np.uint64(16)))
        if "list" in bases:
            found[members] += 8 * _plausible(memory.read(address + np.uint64(objects.layout("PyListObject.allocated"))))
        elif "dict" in bases:
            found[members] += _tables(objects, address)
        elif "set" in bases or "frozenset" in bases:
            slots = _plausible(memory.read(address + np.uint64(objects.layout("PySetObject.mask")))) + 1
            found[members] += np.where(slots > SMALL_SET, 16 * slots, 0)
        elif "str" in bases:
            found[members] = _text_sizes(objects, address)
        elif "int" in bases:
            digits = count if objects.layout.version < (3, 12) else count >> 3
            found[members] += 4 * np.maximum(digits, 1)
        elif "collections.deque" in bases:
            found[members] += DEQUE_BLOCK * (1 + count // 64)
        elif "bytearray" in bases:
            found[members] += _plausible(memory.read(address + np.uint64(24)))
        elif "array.array" in bases:
            each = memory.read(memory.read(address + np.uint64(ARRAY_DESCRIPTION))) >> np.uint64(32)
            found[members] += np.minimum(each.astype(np.int64), 8) * _plausible(
                memory.read(address + np.uint64(ARRAY_ALLOCATED))
            )
        elif ARRAY in bases:
            found[members] += sizes_of_arrays(memory, address)
        elif objects.item[kind] > 0 and "type" not in bases:
            found[members] += objects.item[kind] * count
        if int(objects.flags[kind]) & INLINE_VALUES and objects.layout.version >= (3, 13):
            found[members] += 8 * (memory.read(address + np.uint64(int(objects.basic[kind]))) & np.uint64(0xFF)).astype(
                np.int64
            )
    return found


def _plausible(words: Words) -> Ints:
    signed = np.abs(words.astype(np.int64))  # the sign of an int before 3.12 is that of its size
    return np.where(signed < MOST_ITEMS, signed, 0)


def _tables(objects: Objects, dicts: Words) -> Ints:
    """Tables of keys that no other dict shares: header, indices, and entries for two thirds of the slots. Where the
    keys are shared, the values."""
    memory, layout = objects.memory, objects.layout
    keys = memory.read(dicts + np.uint64(layout("PyDictObject.ma_keys")))
    values = memory.read(dicts + np.uint64(layout("PyDictObject.ma_values")))
    first, _, kind = key_columns(memory, layout, keys)
    counted = keys + np.uint64(layout("PyDictKeysObject.dk_nentries"))
    usable = _plausible(memory.read(counted - np.uint64(8))) + _plausible(memory.read(counted))
    if layout.version < (3, 11):
        slots = _plausible(memory.read(keys + np.uint64(layout("PyDictKeysObject.dk_size"))))
    else:
        head = memory.read(keys + np.uint64(layout("PyDictKeysObject.dk_log2_size"))).astype(np.int64)
        slots = np.int64(1) << np.minimum(head & 0xFF, 40)
    room = (first - keys).astype(np.int64) + np.where(kind == GENERAL, 24, 16) * (slots * 2 // 3)
    alone = (memory.read(keys) == 1) & (first > keys) & (room < MOST_ITEMS)  # dk_refcnt comes first
    return np.where(values == 0, np.where(alone, room, 0), 8 * usable)


def _text_sizes(objects: Objects, address: Words) -> Ints:
    """Include/cpython/unicodeobject.h: the struct by form, and one more character than the text has."""
    memory, layout = objects.memory, objects.layout
    length = _plausible(memory.read(address + np.uint64(layout("PyASCIIObject.length"))))
    state = memory.read(address + np.uint64(layout("PyASCIIObject.state"))).astype(np.int64)
    width, ascii_ = (state >> 2) & 7, ((state >> 6) & 1) == 1
    struct = np.where(ascii_, layout("sizeof.PyASCIIObject"), layout("sizeof.PyCompactUnicodeObject"))
    return np.asarray(struct + width * (length + 1))
