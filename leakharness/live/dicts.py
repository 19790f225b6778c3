"""Dicts and instance attributes in a copy of memory (Include/internal/pycore_dict.h, Objects/dictobject.c)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leakharness.live.arrays import ragged
from leakharness.live.layouts import Layout
from leakharness.live.memory import Memory

__all__ = ["GENERAL", "KEY_WIDTH", "Entries", "Strings", "entries_of", "key_columns", "value_base"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

MOST_ENTRIES = 1 << 28
"""Entries of one dict beyond which the words that say so are torn."""
GENERAL, SPLIT = 0, 2
"""Include/internal/pycore_dict.h, DictKeysKind; 1 is a table of string keys alone."""
KEY_WIDTH = 100
"""Longer string keys are data rather than names (as in a capture)."""


class Entries:
    """Entries of many dicts: the number of the dict in the order asked for, key and value as addresses."""

    def __init__(self, which: Ints, key: Words, value: Words) -> None:
        self.which, self.key, self.value = which, key, value


def key_columns(memory: Memory, layout: Layout, keys: Words) -> tuple[Words, Ints, Ints]:
    """(address of the first entry, entries, kind) of each keys object."""
    count = memory.read(keys + np.uint64(layout("PyDictKeysObject.dk_nentries"))).astype(np.int64)
    count = np.where((count < 0) | (count > MOST_ENTRIES), 0, count)
    indices = keys + np.uint64(layout("PyDictKeysObject.dk_indices"))
    if layout.version < (3, 11):
        size = memory.read(keys + np.uint64(layout("PyDictKeysObject.dk_size"))).astype(np.int64)
        size = np.where((size < 0) | (size > MOST_ENTRIES), 0, size)
        width = np.where(size <= 0xFF, 1, np.where(size <= 0xFFFF, 2, 4))
        return indices + (size * width).astype(np.uint64), np.minimum(count, size), np.zeros(len(keys), np.int64)
    head = memory.read(keys + np.uint64(layout("PyDictKeysObject.dk_log2_size"))).astype(np.int64)
    log2_bytes, kind = (head >> 8) & 0xFF, (head >> 16) & 0xFF
    size = np.int64(1) << np.minimum(head & 0xFF, 40)
    log2_bytes = np.minimum(log2_bytes, 40)
    return indices + (np.int64(1) << log2_bytes).astype(np.uint64), np.minimum(count, size), kind


def value_base(layout: Layout) -> int:
    """Offset of the first value in a values object; before 3.11 it is a plain array."""
    return layout.get("PyDictValues.values") or 0


def entries_of(memory: Memory, layout: Layout, dicts: Words) -> Entries:
    """All entries of ``dicts`` (addresses). A general table has (hash, key, value), others (key, value)."""
    keys = memory.read(dicts + np.uint64(layout("PyDictObject.ma_keys")))
    values = memory.read(dicts + np.uint64(layout("PyDictObject.ma_values")))
    first, count, kind = key_columns(memory, layout, keys)
    used = memory.read(dicts + np.uint64(layout("PyDictObject.ma_used"))).astype(np.int64)
    count = np.where((used <= 0) | (keys == 0), 0, count)
    room = memory.index(first + np.maximum(count * 16 - 8, 0).astype(np.uint64)) >= 0
    which, position = ragged(np.where(room, count, 0))
    general = kind[which] == GENERAL
    step = np.where(general, 24, 16).astype(np.uint64)
    at = first[which] + position.astype(np.uint64) * step + np.where(general, 8, 0).astype(np.uint64)
    key, value = memory.read(at), memory.read(at + np.uint64(8))
    split = values[which] != 0
    place = values[which] + np.uint64(value_base(layout)) + position.astype(np.uint64) * np.uint64(8)
    value = np.where(split, memory.read(place), value)
    alive = value != 0
    return Entries(which[alive], key[alive], value[alive])


class Strings:
    """Texts of str objects (Include/cpython/unicodeobject.h), read one by one and remembered."""

    def __init__(self, memory: Memory, layout: Layout) -> None:
        self._memory, self._layout = memory, layout
        self._known: dict[int, str | None] = {}
        self._kinds: dict[int, bool] = {}

    def __call__(self, address: int, width: int = KEY_WIDTH) -> str | None:
        """The text at ``address``, None for what is no compact string or is longer than ``width``."""
        if address not in self._known:
            self._known[address] = self._read(address)
        text = self._known[address]
        return None if text is None or len(text) > width else text

    def _read(self, address: int) -> str | None:
        memory, layout = self._memory, self._layout
        kind = memory.word(address + 8)
        if kind not in self._kinds:
            self._kinds[kind] = memory.c_string(memory.word(kind + layout("PyTypeObject.tp_name"))) == "str"
        if not self._kinds[kind]:
            return None
        length = memory.word(address + layout("PyASCIIObject.length"))
        state = memory.word(address + layout("PyASCIIObject.state"))
        width, compact, ascii_ = (state >> 2) & 7, (state >> 5) & 1, (state >> 6) & 1
        if not compact or length > 4096 or width not in (1, 2, 4):
            return None
        start = layout("sizeof.PyASCIIObject" if ascii_ else "sizeof.PyCompactUnicodeObject")
        encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width]
        return memory.data(address + start, length * width).decode(encoding, "replace")
