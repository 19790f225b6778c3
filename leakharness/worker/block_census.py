"""Which objects sit in the allocator's blocks, whether the collector lists them or not, and which of them nothing in
the heap refers to. Standard library only.

pymalloc's pools are read in a forked copy from /proc/self/mem (Objects/obmalloc.c): pools of 16 KiB, each with blocks
of one size, those that are free in a list. An object shows by its second word, or by one a little later where the
collector's words come first: the address of its type. What is larger than 512 bytes lies in chunks of malloc, of which
those are found that hold a text, number, or buffer (malloc/malloc.c: a chunk in use keeps its size in front, and the
next one a bit that says so).
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import struct
import sys
import types
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from leakharness.worker.capture.type_plans import type_name
from leakharness.worker.fork import CAN_FORK, CopyFailed, answer_of_copy
from leakharness.worker.protocol import BlockCount, BlocksAnswer

__all__ = ["census"]

COPY_SECONDS = 60.0
POOL_BYTES, POOL_HEAD_BYTES, ALIGNMENT_BYTES = 16 * 1024, 48, 16
"""Objects/obmalloc.c: POOL_SIZE with the radix tree, POOL_OVERHEAD, ALIGNMENT, on 64 bits since 3.10."""
SIZE_CLASSES = 32
LEAST_REGION_BYTES = 1 << 18
"""Arenas are of 256 KiB or 1 MiB."""
TYPE_WORDS = (1, 3, 5)
"""Where in a block an object's type stands: after the count; behind the collector's two words; behind two more for
attributes and weak references that the interpreter manages."""
LARGEST_COUNT = 1 << 33
"""No reference count is as large (immortal ones are below), and every pointer is larger."""
LARGE_TYPES = (str, bytes, bytearray, int)
HOLDERS = (tuple, dict)
"""Types whose instances refer to others without being listed by the collector."""
CHUNK_FLAGS, IN_USE, MAPPED = 7, 1, 2
"""Low bits of a chunk's size in malloc/malloc.c: all of them, PREV_INUSE, IS_MMAPPED."""
CODE_PARTS = ("co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_filename", "co_name")
Blocks = dict[int, tuple[int, int]]
"""Address of each object, or of a block without one: (bytes of the block, the address of the object's type, or 0)."""


def census() -> BlocksAnswer:
    """All blocks in use, by type and size, and how many of each nothing in the heap refers to."""
    why = _why_not()
    if why:
        return BlocksAnswer(failed=why)
    try:
        return answer_of_copy(BlocksAnswer, _answer, COPY_SECONDS)
    except CopyFailed as exc:
        return BlocksAnswer(failed=str(exc))


def _answer() -> BlocksAnswer:
    """In the copy."""
    regions = _regions()
    memory = list(_memory(regions))  # before anything else is made here that would be in it
    gc.disable()
    gc.unfreeze()
    kinds = _types()
    blocks = _blocks(memory, kinds)
    known = _known()
    counts = Counter((kind, size) for size, kind in blocks.values())
    lost = {at: kind for at, (_, kind) in blocks.items() if kind and at not in known}
    inside = _inside(at for at, kind in lost.items() if kinds[kind] in HOLDERS)
    alone = Counter((kind, size) for at, (size, kind) in blocks.items() if at in lost and at not in inside)
    within = Counter((kind, size) for at, (size, kind) in blocks.items() if at in lost and at in inside)
    return BlocksAnswer(
        tuple(
            BlockCount(type_name(kinds[kind]) if kind else "", size, count, alone[kind, size], within[kind, size])
            for (kind, size), count in counts.items()
        )
    )


def _inside(holders: Iterable[int]) -> set[int]:
    """The addresses of what these objects refer to: of tuples and dicts that the collector has never seen, or has left
    to themselves. Asked in one more copy, as a block that only looks like an object may be among them; none where that
    copy dies."""
    found = list(holders)

    def referents() -> tuple[int, ...]:
        items = [ctypes.cast(at, ctypes.py_object).value for at in found]
        keys = itertools.chain.from_iterable(item for item in items if type(item) is dict)  # strings are not told of
        return tuple(map(id, (*gc.get_referents(*items), *keys)))

    try:
        return set(answer_of_copy(tuple[int, ...], referents, COPY_SECONDS)) if found else set()
    except CopyFailed:
        return set()


def _why_not() -> str:
    if sys.platform != "linux" or not CAN_FORK:
        return "blocks are read in a forked copy from /proc/self/mem"
    if sys.implementation.name != "cpython" or "t" in getattr(sys, "abiflags", ""):
        return "the free-threaded build has another allocator (mimalloc), whose blocks are not read"
    if sys.getallocatedblocks() == 0:
        return "PYTHONMALLOC=malloc: the small-object allocator is switched off"
    return ""


def _regions() -> list[tuple[int, int]]:
    """(start, end) of every anonymous region and malloc's heap. The text that they are read from is gone afterwards:
    a line for each mapping, of any length, would else be among the blocks that nothing refers to."""
    with open("/proc/self/maps") as maps:
        lines = maps.read().splitlines()
    found = []
    for line in lines:
        fields = line.split()
        if fields[1] == "rw-p" and (len(fields) == 5 or fields[-1].startswith(("[heap]", "[anon"))):
            start, end = (int(word, 16) for word in fields[0].split("-"))
            found.append((start, end))
    return found


def _memory(regions: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """(address, bytes) of these regions, as they are now."""
    with open("/proc/self/mem", "rb", 0) as memory:
        for start, end in regions:
            memory.seek(start)
            try:
                yield start, memory.read(end - start)
            except OSError:  # a guard page
                continue


def _types() -> dict[int, type]:
    """Every type by its address."""
    found: list[type] = [object]
    seen: dict[int, type] = {id(object): object}
    for kind in found:
        children: list[type] = type.__subclasses__(kind)
        new = [child for child in children if id(child) not in seen]
        found += new
        seen.update(zip(map(id, new), new, strict=True))
    return seen


def _blocks(memory: list[tuple[int, bytes]], kinds: dict[int, type]) -> Blocks:
    """Every block in use: of the small-object allocator, and of malloc where it holds one of the large types."""
    blocks: Blocks = {}
    for start, data in memory:
        pools = []
        first = -start % POOL_BYTES
        for offset in range(first, len(data) - POOL_BYTES + 1, POOL_BYTES) if len(data) >= LEAST_REGION_BYTES else ():
            found = _pool(start + offset, data[offset : offset + POOL_BYTES], kinds)
            if found is not None:
                blocks.update(found)
                pools.append(offset)
        blocks.update(_large(start, data, set(pools), first))
    return blocks


def _pool(base: int, data: bytes, kinds: dict[int, type]) -> Blocks | None:
    """The blocks in use of the pool at ``base``; None where there is none."""
    (count,) = struct.unpack_from("<I", data)
    _, index, next_new, last = struct.unpack_from("<IIII", data, 32)
    size = (index + 1) * ALIGNMENT_BYTES
    if not (index < SIZE_CLASSES and 0 < count <= (POOL_BYTES - POOL_HEAD_BYTES) // size and last == POOL_BYTES - size):
        return None
    if not POOL_HEAD_BYTES <= next_new <= POOL_BYTES + size or (next_new - POOL_HEAD_BYTES) % size:
        return None
    free = set()
    (at,) = struct.unpack_from("<Q", data, 8)
    while base <= at < base + POOL_BYTES and at not in free:
        free.add(at)
        (at,) = struct.unpack_from("<Q", data, at - base)
    used = [at for at in range(POOL_HEAD_BYTES, min(next_new, last + 1), size) if base + at not in free]
    if len(used) != count:
        return None
    words = struct.unpack(f"<{POOL_BYTES // 8}Q", data)
    found: Blocks = {}
    for at in used:
        ahead, kind = _object(words, at // 8, size // 8, kinds)
        found[base + at + 8 * ahead] = (size, kind)
    return found


def _object(words: tuple[int, ...], at: int, size: int, kinds: dict[int, type]) -> tuple[int, int]:
    """Of the object in the block at word ``at``: the words in front of it, and the address of its type, or 0."""
    for word in TYPE_WORDS:
        if word < size and words[at + word] in kinds and 0 < words[at + word - 1] < LARGEST_COUNT:
            return word - 1, words[at + word]
    return 0, 0


def _large(start: int, data: bytes, pools: set[int], first: int) -> Blocks:
    """Chunks of malloc in use that hold an object of one of the large types."""
    found: Blocks = {}
    for kind in LARGE_TYPES:
        pattern = id(kind).to_bytes(8, "little").rstrip(b"\0")  # zeros are everywhere, and slow to search for
        at = data.find(pattern)
        while at >= 0:
            chunk = at - 24
            if (
                at % 16 == 8
                and chunk >= 0
                and data.startswith(b"\0\0", at + len(pattern))
                and (at - first) // POOL_BYTES * POOL_BYTES + first not in pools
            ):
                count, head = struct.unpack_from("<Q", data, at - 8)[0], struct.unpack_from("<Q", data, at - 16)[0]
                size = head & ~CHUNK_FLAGS
                end = chunk + size
                whole = size > SIZE_CLASSES * ALIGNMENT_BYTES and size % 16 == 0 and end <= len(data)
                mapped = head & MAPPED
                if whole and 0 < count < LARGEST_COUNT and (mapped or _in_use(data, end)):
                    found[start + at - 8] = (size - 8, id(kind))
            at = data.find(pattern, at + 8)
    return found


def _in_use(data: bytes, end: int) -> bool:
    """Whether the chunk that ends there is in use: the next one says so."""
    return end + 16 <= len(data) and bool(data[end + 8] & IN_USE)


def _known() -> set[int]:
    """The addresses of all that something in the heap refers to, what the collector is not told of included."""
    level: list[Any] = gc.get_objects()
    known: set[int] = set()
    dicts, codes = [], []
    while level:
        dicts += [item for item in level if type(item) is dict]
        codes += [item for item in level if type(item) is types.CodeType]
        found = gc.get_referents(*level)
        untracked = list(itertools.filterfalse(gc.is_tracked, found))  # the others are listed
        new = dict(zip(map(id, untracked), untracked, strict=True))
        level = [new[at] for at in new.keys() - known]
        known.update(map(id, found))
    known.update(map(id, itertools.chain.from_iterable(dicts)))
    while codes:
        code = codes.pop()
        parts: list[Any] = [getattr(code, name, None) for name in CODE_PARTS]
        known.update(map(id, parts))
        for part in parts:
            if type(part) is tuple:
                codes += [item for item in part if type(item) is types.CodeType and id(item) not in known]
                known.update(map(id, part))
    return known
