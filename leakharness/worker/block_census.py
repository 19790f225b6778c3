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
import itertools
import struct
import sys
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from leakharness.worker.capture.type_plans import type_name
from leakharness.worker.fork import CAN_FORK, CopyFailed, answer_of_copy
from leakharness.worker.protocol import BlockCount, BlocksAnswer
from leakharness.worker.unpatched import gc, open

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
HALF = (1 << 32) - 1
"""The lower half of a word."""


def census(rehearsal: bool = False) -> BlocksAnswer:
    """All blocks in use, by type and size, and how many of each nothing in the heap refers to. ``rehearsal``: only make
    a copy and let it answer, so that whatever that needs is there before the first census."""
    why = _why_not()
    if why:
        return BlocksAnswer(failed=why)
    try:
        return answer_of_copy(BlocksAnswer, _nothing if rehearsal else _answer, COPY_SECONDS)
    except CopyFailed as exc:
        return BlocksAnswer(failed=str(exc))


def _nothing() -> BlocksAnswer:
    return BlocksAnswer((BlockCount("", 0, 0, 0),))


def _answer() -> BlocksAnswer:
    """In the copy."""
    regions = _regions()
    memory = list(_memory(regions))  # before anything else is made here that would be in it
    gc.disable()
    gc.unfreeze()
    known = _known()  # before anything is made of the blocks, which would have to be walked as well
    kinds = _types()
    blocks = _blocks(memory, kinds)
    counts = blocks.counts()
    lost = {size: set(objects).difference(known) for size, objects in blocks.objects.items()}
    inside = _inside(
        [at for size, found in lost.items() for at in found if kinds[blocks.objects[size][at]] in HOLDERS],
        set().union(*lost.values()),
    )
    alone = blocks.counts_of({size: found - inside for size, found in lost.items()})
    within = blocks.counts_of({size: found & inside for size, found in lost.items()})
    return BlocksAnswer(
        tuple(
            BlockCount(type_name(kinds[kind]) if kind else "", size, count, alone[kind, size], within[kind, size])
            for (kind, size), count in counts.items()
        )
    )


def _inside(holders: list[int], lost: set[int]) -> set[int]:
    """Those of ``lost`` that these objects refer to: tuples and dicts that the collector has never seen, or has left
    to themselves. Asked in one more copy, as a block that only looks like an object may be among them; none where that
    copy dies."""

    def referents() -> tuple[int, ...]:
        items = [ctypes.cast(at, ctypes.py_object).value for at in holders]
        keys = itertools.chain.from_iterable(item for item in items if type(item) is dict)  # strings are not told of
        return tuple(lost.intersection(map(id, itertools.chain(gc.get_referents(*items), keys))))

    try:
        return set(answer_of_copy(tuple[int, ...], referents, COPY_SECONDS)) if holders else set()
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


class _Blocks:
    """The blocks in use. ``objects``: by the bytes of their block, the address of each object and that of its type.
    ``bare``: how many blocks of so many bytes hold none."""

    def __init__(self) -> None:
        self.objects: dict[int, dict[int, int]] = {}
        self.bare: Counter[int] = Counter()

    def add(self, size: int, objects: dict[int, int], bare: int = 0) -> None:
        self.objects.setdefault(size, {}).update(objects)
        if bare:
            self.bare[size] += bare

    def counts(self) -> Counter[tuple[int, int]]:
        """How many there are, by the address of the type, or 0, and the bytes of the block."""
        counts = self.counts_of(self.objects)
        counts.update({(0, size): count for size, count in self.bare.items()})
        return counts

    def counts_of(self, addresses: Mapping[int, Iterable[int]]) -> Counter[tuple[int, int]]:
        """The same, of these objects, by the bytes of their block."""
        counts: Counter[tuple[int, int]] = Counter()
        for size, found in addresses.items():
            kinds = Counter(map(self.objects[size].__getitem__, found))
            counts.update({(kind, size): count for kind, count in kinds.items()})
        return counts


def _blocks(memory: list[tuple[int, bytes]], kinds: dict[int, type]) -> _Blocks:
    """Every block in use: of the small-object allocator, and of malloc where it holds one of the large types."""
    blocks = _Blocks()
    for start, data in memory:
        words = memoryview(data).cast("Q")
        end_of_pools = 0
        between = []
        pools = range(-start % POOL_BYTES, len(data) - POOL_BYTES + 1, POOL_BYTES)
        for offset in pools if len(data) >= LEAST_REGION_BYTES else ():
            found = _pool(start + offset, words[offset // 8 : (offset + POOL_BYTES) // 8], kinds)
            if found is not None:
                blocks.add(*found)
                between.append((end_of_pools, offset))
                end_of_pools = offset + POOL_BYTES
        for first, last in (*between, (end_of_pools, len(data))):
            if first < last:
                for size, at, kind in _large(start, data, first, last):
                    blocks.add(size, {at: kind})
    return blocks


def _pool(base: int, words: memoryview[int], kinds: dict[int, type]) -> tuple[int, dict[int, int], int] | None:
    """The blocks in use of the pool at ``base``: their bytes, the objects in them, how many hold none; None where there
    is no pool. Written so that a block costs little: there are a hundred thousand."""
    count, index = words[0] & HALF, words[4] >> 32
    if not 0 < count <= (POOL_BYTES - POOL_HEAD_BYTES) // ALIGNMENT_BYTES or index >= SIZE_CLASSES:
        return None
    size, next_new, last = (index + 1) * ALIGNMENT_BYTES, words[5] & HALF, words[5] >> 32
    if count > (POOL_BYTES - POOL_HEAD_BYTES) // size or last != POOL_BYTES - size:
        return None
    if not POOL_HEAD_BYTES <= next_new <= POOL_BYTES + size or (next_new - POOL_HEAD_BYTES) % size:
        return None
    slots = range(base + POOL_HEAD_BYTES, base + min(next_new, last + 1), size)
    free = set()
    at = words[1]
    while at in slots and at not in free:
        free.add(at)
        at = words[(at - base) // 8]
    if len(slots) - len(free) != count:
        return None
    objects: dict[int, int] = {}
    found: set[int] = free
    first, step = POOL_HEAD_BYTES // 8, size // 8
    last_slot = first + (len(slots) - 1) * step
    for word in TYPE_WORDS:
        if word >= step or len(found) == len(slots):
            break
        types = words[first + word : last_slot + word + 1 : step].tolist()
        if kinds.keys().isdisjoint(types):
            continue
        counts = words[first + word - 1 : last_slot + word : step].tolist()
        more = {
            at: kind
            for at, references, kind in zip(slots, counts, types, strict=True)
            if kind in kinds and 0 < references < LARGEST_COUNT and at not in found
        }
        found = found | more.keys()
        ahead = 8 * (word - 1)
        objects.update(zip([at + ahead for at in more] if ahead else more, more.values(), strict=True))
    return size, objects, count - len(objects)


def _large(start: int, data: bytes, first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Chunks of malloc in use between these offsets that hold an object of one of the large types: bytes, the address
    of the object, that of its type."""
    for kind in LARGE_TYPES:
        pattern = id(kind).to_bytes(8, "little").rstrip(b"\0")  # zeros are everywhere, and slow to search for
        at = data.find(pattern, first, last)
        while at >= 0:
            chunk = at - 24
            if at % 16 == 8 and chunk >= 0 and data.startswith(b"\0\0", at + len(pattern)):
                count, head = struct.unpack_from("<Q", data, at - 8)[0], struct.unpack_from("<Q", data, at - 16)[0]
                size = head & ~CHUNK_FLAGS
                end = chunk + size
                whole = size > SIZE_CLASSES * ALIGNMENT_BYTES and size % 16 == 0 and end <= len(data)
                mapped = head & MAPPED
                if whole and 0 < count < LARGEST_COUNT and (mapped or _in_use(data, end)):
                    yield size - 8, start + at - 8, id(kind)
            at = data.find(pattern, at + 8, last)


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
        known.update(new)
        known.update(map(id, filter(gc.is_tracked, found)))
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
