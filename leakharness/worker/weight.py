"""What one object weighs by itself: its own blocks of memory, without what it refers to. Exact, and reads only.

An object's own memory is its head, its table or buffer (of a list, dict, set, bytearray …), and where it has
attributes, what CPython keeps them in: nothing, a table of values, or a dict. No code of the program runs, and
``__dict__`` is not asked for: on 3.11 and 3.12 that alone would make a dict.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType
from typing import Any, NamedTuple

from leakharness.worker.capture.type_plans import HAVE_GC
from leakharness.worker.entries import length
from leakharness.worker.unpatched import gc

__all__ = ["BLOCK_LIMIT_BYTES", "Weight", "malloc_chunk", "own_dict", "weigh"]

BLOCK_LIMIT_BYTES = 512
"""Requests above this are passed on to malloc (Objects/obmalloc.c, SMALL_REQUEST_THRESHOLD). They count as allocator
blocks all the same (``raw_allocated_blocks`` there)."""
ALIGNMENT_BYTES = 16
"""Blocks come in multiples of this (Objects/obmalloc.c, ALIGNMENT)."""
GC_HEAD_BYTES = 16
"""In front of every object that the collector can list (Include/internal/pycore_gc.h, PyGC_Head)."""
PRE_HEADER_BYTES = 16
"""In front of every object with managed attributes, 3.11 and later (Include/internal/pycore_object.h)."""
CHUNK_BYTES, CHUNK_HEAD_BYTES, CHUNK_LEAST_BYTES = 16, 8, 32
"""Alignment, overhead and least size of glibc's chunks (malloc/malloc.c, MALLOC_ALIGNMENT, SIZE_SZ, MINSIZE)."""
MMAP_BYTES, PAGE_BYTES = 128 * 1024, 4096
"""From this size on glibc maps a chunk by itself, in whole pages (mallopt(3), M_MMAP_THRESHOLD)."""
MANAGED_DICT = 1 << 4 if sys.version_info >= (3, 11) else 0
INLINE_VALUES = 1 << 2 if sys.version_info >= (3, 13) else 0
"""Type flags (Include/object.h); bits that mean something else, or nothing, in older versions are left out."""
VALUES_BYTES = 64
"""A table of attribute values; how large exactly does not matter, as it is one small block."""


class Weight(NamedTuple):
    """What one or more objects weigh by themselves."""

    objects: int
    """Those that the collector lists."""
    blocks: int
    small_bytes: int
    """In blocks of the small-object allocator."""
    malloc_bytes: int
    """In chunks of malloc, which serves what is larger."""
    entries: int
    """Of the object as a container, and of the dict of its attributes, where the collector lists them."""


def weigh(obj: Any) -> Weight:
    """The weight of ``obj`` alone."""
    kind = type(obj)
    flags = type.__dict__["__flags__"].__get__(kind)
    (size, sized_by), basic = _c_size(obj, kind), kind.__basicsize__
    ahead = (GC_HEAD_BYTES if flags & HAVE_GC else 0) + (PRE_HEADER_BYTES if flags & MANAGED_DICT else 0)
    objects = int(gc.is_tracked(obj))
    entries = length(obj) if objects else 0
    # object.__sizeof__ counts the values that are part of the object; that of another base, which 3.14 lets have them
    # too, counts a buffer beside it (Objects/typeobject.c, object___sizeof___impl).
    if kind.__itemsize__ or kind is str or (flags & INLINE_VALUES and sized_by is object):
        parts = [ahead + size]
    else:
        parts = [ahead + basic, size - basic]
    if kind.__dictoffset__:
        attributes = own_dict(obj)
        if attributes is not None:
            objects += gc.is_tracked(attributes)
            entries += len(attributes) if gc.is_tracked(attributes) else 0
            table = dict.__sizeof__(attributes) - dict.__basicsize__
            within = flags & INLINE_VALUES and table < size - basic  # the dict looks into the object's own values
            parts += [GC_HEAD_BYTES + dict.__basicsize__, 0 if within else table]
        elif flags & MANAGED_DICT and not INLINE_VALUES and _made_by_object(kind):  # from 3.13 on within it, or none
            parts.append(VALUES_BYTES)
    small = [part for part in parts if 0 < part <= BLOCK_LIMIT_BYTES]
    large = [part for part in parts if part > BLOCK_LIMIT_BYTES]
    small_bytes = sum(-(-part // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for part in small)
    return Weight(objects, len(small) + len(large), small_bytes, sum(map(malloc_chunk, large)), entries)


def malloc_chunk(size: int) -> int:
    """Bytes that glibc counts as in use for a request of ``size``."""
    if size >= MMAP_BYTES:
        return -(-(size + 2 * CHUNK_HEAD_BYTES) // PAGE_BYTES) * PAGE_BYTES
    return max(CHUNK_LEAST_BYTES, -(-(size + CHUNK_HEAD_BYTES) // CHUNK_BYTES) * CHUNK_BYTES)


def _c_size(obj: Any, kind: type) -> tuple[int, type]:
    """``__sizeof__`` by the first base that has it in C, so that no code of the program runs; and that base."""
    for base in type.__dict__["__mro__"].__get__(kind):
        method = type.__dict__["__dict__"].__get__(base).get("__sizeof__")
        if type(method) is _METHOD:
            return int(method(obj)), base
    return kind.__basicsize__, object


def own_dict(obj: Any) -> dict[str, Any] | None:
    """The dict that holds the attributes of ``obj``, or None where it has none (yet)."""
    kind = type(obj)
    candidates = [found for found in gc.get_referents(obj) if type(found) is dict]
    for found in candidates:
        for key in list(found):
            if type(key) is not str or _on_class(kind, key):
                continue
            try:
                if object.__getattribute__(obj, key) is found[key]:
                    return found
            except AttributeError:
                break
    if candidates and not candidates[0] and not MANAGED_DICT:
        return candidates[0]
    return None


def _made_by_object(kind: type) -> bool:
    """Whether ``object.__new__`` makes the instances: it alone gives them a table of values from the start. One that is
    written in Python calls that of a base."""
    for base in type.__dict__["__mro__"].__get__(kind):
        if type(type.__dict__["__dict__"].__get__(base).get("__new__")) is BuiltinFunctionType:
            return base is object
    return False


def _on_class(kind: type, name: str) -> bool:
    return any(name in type.__dict__["__dict__"].__get__(base) for base in type.__dict__["__mro__"].__get__(kind))


_METHOD = type(list.__dict__["__sizeof__"])
