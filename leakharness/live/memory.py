"""The memory of another process as one array of words, and addresses as positions in it."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from leakharness.errors import UsageError
from leakharness.live.layouts import Layout
from leakharness.live.process import Region
from leakharness.units import size

__all__ = ["Memory", "Source", "free_memory"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

LARGEST_REGION = 1 << 36
"""Bytes: a larger mapping is reserved address space (sanitizers, JITs), not memory that is used."""
CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""(limit, used) of the control group that this process is in, version 2 and 1."""
SPECIAL = ("[vvar]", "[vsyscall]", "[vdso]", "[vvar_vclock]")
WORD = 8
PIECE = 1 << 16
"""Addresses looked up together: what is made meanwhile fits into the processor's cache."""
SPARE, TAIL = 1 << 18, 1 << 24
"""Words: of address space only, as they are not written until they are needed."""
AT_ONCE, READERS = 4 << 20, 4
"""Bytes copied by one call, and threads that copy."""
NEAR = 1 << 16
"""Bytes without memory between two stretches that are searched as one: less than another round costs."""
OUTSIDE = np.iinfo(np.int64).min


class Source(Protocol):
    """Where memory is read from: a process, or a core file."""

    @property
    def regions(self) -> tuple[Region, ...]: ...

    def used(self, region: Region) -> Sequence[tuple[int, int]]:
        """Stretches of a region (start and end as addresses) that have memory; what lies between reads as zeros."""
        ...

    def read_into(self, buffer: memoryview, address: int) -> int:
        """Fill ``buffer`` from ``address`` on, by several threads at a time; how many bytes there were. Raises OSError
        where none can be read."""
        ...


class _Room(NamedTuple):
    """Words from position ``at`` on that are kept for these addresses: a mapping grows at both ends."""

    start: int
    end: int
    at: int


class Memory:
    """A copy of the writable memory of a process, and of what its Python maps read-only.

    What vanishes meanwhile reads as zeros. ``words`` has one word more than was copied, which is zero: what is asked
    for and was not copied is read there.
    """

    def __init__(self, source: Source, into: Memory | None = None, *, spare: bool = False) -> None:
        """Copy from ``source``: into the pages of an earlier copy, which is of no use then, where it has room for it;
        into new ones else. ``spare``: leave room so that this can be done with a copy that is a little larger."""
        self.regions = [region for region in source.regions if _wanted(region)]
        sizes = [(region.end - region.start) // WORD for region in self.regions]
        used = [source.used(region) for region in self.regions]
        if into is None:
            _refuse_too_much(sum(end - start for spans in used for start, end in spans))
        there = [] if into is None else list(zip(into.regions, into.first.tolist(), strict=False))
        first = None if into is None else into._rooms_for(self.regions, used)
        # What nobody may write is in those pages already.
        kept = {place for place in there if "w" not in place[0].access} if first is not None else set()
        if into is None or first is None:
            spares = [max(size // 8, SPARE) if spare else 0 for size in sizes]
            ends = np.cumsum([0, *(size + 2 * more for size, more in zip(sizes, spares, strict=True))]).tolist()
            self.words: Words = _zeros(ends[-1] + (TAIL if spare else 0) + 1, sparse=spare)
            self._rooms = [
                _Room(region.start - more * WORD, region.end + more * WORD, at)
                for region, more, at in zip(self.regions, spares, ends, strict=False)
            ]
            self._tail = ends[-1]
            first = [at + more for at, more in zip(ends, spares, strict=False)]
            limits = [room.end for room in self._rooms]
        else:
            self.words, self._rooms, self._tail = into.words, into._rooms, into._tail
            limits = [region.end for region in self.regions]
        self._places = {
            region.start: (at, limit) for region, at, limit in zip(self.regions, first, limits, strict=True)
        }
        self.start = np.array([region.start for region in self.regions], np.uint64)
        self.end = np.array([region.end for region in self.regions], np.uint64)
        self.first: Ints = np.array(first, np.int64)
        self._bounds, self._shift = _bounds_of(self.start, self.end, self.first)
        self.bytes = self.words.data.cast("B")
        # The same once more for single words: a look-up by numpy costs 30 times as much as one by bisect.
        self._word_at = self.bytes.cast("Q")
        self._spans = [
            (region.start, region.end, int(at)) for region, at in zip(self.regions, self.first, strict=False)
        ]
        self._starts = [region.start for region in self.regions]
        self._used = used
        pieces = [
            (first * WORD + begin - region.start, begin, min(end, begin + AT_ONCE))
            for region, first, spans in zip(self.regions, self.first.tolist(), used, strict=False)
            if (region, first) not in kept
            for start, end in spans
            for begin in range(start, end, AT_ONCE)
        ]
        # The kernel copies page by page, at a fraction of the memory's speed: several at a time come nearer to it.
        with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as readers:
            list(readers.map(lambda piece: self._copy(source, *piece), pieces))

    def _rooms_for(self, regions: Sequence[Region], used: Sequence[Sequence[tuple[int, int]]]) -> list[int] | None:
        """Where each region goes in the pages of this copy, which are made zero where they will not be written; None
        where there is no room."""
        found, tail = [], self._tail
        for region in regions:
            # Where it was before: in the room of a neighbour it would be in pages that were not written yet.
            at, limit = self._places.get(region.start, (0, 0))
            if region.end <= limit:
                found.append(at)
                continue
            room = next((room for room in self._rooms if room.start <= region.start and region.end <= room.end), None)
            if room is not None:
                found.append(room.at + (region.start - room.start) // WORD)
                continue
            found.append(tail)
            tail += (region.end - region.start) // WORD
            if tail >= len(self.words):
                return None
        kept = {
            (span, at + (span[0] - region.start) // WORD)
            for region, at, spans in zip(regions, found, used, strict=True)
            for span in spans
        }
        for region, first, spans in zip(self.regions, self.first.tolist(), self._used, strict=True):
            for start, end in spans:
                at = first + (start - region.start) // WORD
                if ((start, end), at) not in kept:
                    self.words[at : at + (end - start) // WORD] = 0
        self._tail = tail
        return found

    def release(self) -> None:
        """Give the copy back: everything reads as zero from now on."""
        self.regions, self._used, self.words = [], [], np.zeros(1, np.uint64)
        self.start = self.end = self._bounds = np.zeros(0, np.uint64)
        self.first, self._shift = np.zeros(1, np.int64), np.full(1, OUTSIDE)
        self.bytes = self.words.data.cast("B")
        self._word_at, self._spans, self._starts = self.bytes.cast("Q"), [], []

    def _copy(self, source: Source, at: int, address: int, end: int) -> None:
        while address < end:
            try:
                count = source.read_into(self.bytes[at : at + end - address], address)
            except OSError:  # unmapped since, or a page that cannot be read
                return
            if count <= 0:
                return
            at, address = at + count, address + count

    def has(self, address: int, count: int) -> bool:
        """Whether there is room for so many bytes from ``address`` on: they are in one mapping that was copied."""
        return self._byte(address, count) >= 0

    def put(self, address: int, data: bytes) -> None:
        """Have these bytes there, where there is room for them."""
        at = self._byte(address, len(data))
        if at >= 0:
            self.bytes[at : at + len(data)] = data

    def _byte(self, address: int, count: int) -> int:
        """Position of the byte at ``address`` where as many follow in one mapping; else -1."""
        at = self._place(address)
        if at < 0 or address + count > self._spans[bisect_right(self._starts, address) - 1][1]:
            return -1
        return at * WORD + address % WORD

    def index(self, addresses: Words) -> Ints:
        """Position of the word at each address; -1 where none was copied."""
        found = np.empty(len(addresses), np.int64)
        for begin in range(0, len(found), PIECE):
            some = addresses[begin : begin + PIECE]
            # Behind an odd number of bounds an address is inside of a region.
            shift = self._shift[np.searchsorted(self._bounds, some, side="right")]
            found[begin : begin + PIECE] = np.where(shift == OUTSIDE, -1, (some.view(np.int64) >> 3) + shift)
        return found

    def read(self, addresses: Words) -> Words:
        """The word at each address; 0 where none was copied."""
        found = np.empty(len(addresses), np.uint64)
        for begin in range(0, len(found), PIECE):
            np.take(self.words, self.index(addresses[begin : begin + PIECE]), out=found[begin : begin + PIECE])
        return found

    def pieces(self, number: int, most: int) -> Iterator[tuple[int, Words]]:
        """(address, words) of what has memory in one region, at most ``most`` words (an even number) at a time."""
        region, first = self.regions[number], int(self.first[number])
        merged: list[list[int]] = []
        for start, end in self._used[number]:
            if merged and start - merged[-1][1] <= NEAR:
                merged[-1][1] = end
            else:
                merged.append([start, end])
        for start, end in merged:
            for address in range(start, end, most * WORD):
                at = first + (address - region.start) // WORD
                yield address, self.words[at : at + (min(end, address + most * WORD) - address) // WORD]

    def word(self, address: int) -> int:
        """One word; 0 where it was not copied."""
        at = self._place(address)
        return 0 if at < 0 else self._word_at[at]

    def half(self, address: int) -> int:
        """Four bytes, without a sign."""
        return (self.word(address & ~7) >> (32 if address % 8 else 0)) & 0xFFFF_FFFF

    def signed_half(self, address: int) -> int:
        """Four bytes, with a sign."""
        value = self.half(address)
        return value - (1 << 32) if value >> 31 else value

    def places_of(self, value: int) -> Words:
        """Addresses of the writable words that are ``value``."""
        found = [np.zeros(0, np.uint64)]
        for number, region in enumerate(self.regions):
            for address, words in self.pieces(number, PIECE) if "w" in region.access else ():
                here = np.flatnonzero(words == np.uint64(value)).astype(np.uint64)
                found.append(np.uint64(address) + here * np.uint64(WORD))
        return np.concatenate(found)

    def _place(self, address: int) -> int:
        number = bisect_right(self._starts, address) - 1
        if number < 0:
            return -1
        start, end, first = self._spans[number]
        return first + ((address - start) >> 3) if address < end else -1

    def integer(self, address: int, layout: Layout) -> int:
        """The value of a small or middle-sized int object (Include/cpython/longintrepr.h): digits of 30 bits."""
        size = self.word(address + 16)
        digits = size if layout.version < (3, 12) else size >> 3
        return sum(self.half(address + 24 + 4 * place) << (30 * place) for place in range(min(digits, 4)))

    def data(self, address: int, count: int) -> bytes:
        """``count`` bytes at ``address``; fewer where the mapping ends, none where they were not copied."""
        at = self._place(address)
        if at < 0 or count < 0:
            return b""
        begin = at * WORD + address % WORD
        end = self._spans[bisect_right(self._starts, address) - 1][1]
        return bytes(self.bytes[begin : begin + min(count, end - address)])

    def c_string(self, address: int) -> str:
        """A zero-terminated text of at most 200 bytes."""
        return self.data(address, 200).partition(b"\0")[0].decode("utf-8", "replace")


def _zeros(count: int, *, sparse: bool) -> Words:
    """So many words. numpy asks for huge pages, of which a copy with room between its parts would need two a part."""
    if not sparse:
        return np.zeros(count, np.uint64)
    pages = mmap.mmap(-1, count * WORD)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel that has none
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.uint64)


def _bounds_of(start: Words, end: Words, first: Ints) -> tuple[Words, Ints]:
    """All starts and ends in their order, and behind how many of them which number makes an address divided by eight
    the position of its word."""
    bounds = np.stack([start, end], axis=1).reshape(-1)
    shift = np.full(len(bounds) + 1, OUTSIDE, np.int64)
    shift[1::2] = first - (start >> np.uint64(3)).astype(np.int64)
    return bounds, shift


def _wanted(region: Region) -> bool:
    if region.access[0] != "r" or region.name in SPECIAL or region.end - region.start > LARGEST_REGION:
        return False
    # Names of types that C declares stand in read-only pages of the module that declares them.
    readonly = (
        "x" not in region.access and region.name.startswith("/") and (".so" in region.name or "python" in region.name)
    )
    return "w" in region.access or readonly


def _refuse_too_much(count: int) -> None:
    """Say it, rather than be killed for it."""
    free = free_memory()
    if free is not None and count > free:
        raise UsageError(f"the process has {size(count)} to copy and {size(free)} are free: look from a larger host")


def free_memory() -> int | None:
    """Bytes that this process may still use: of the host, or of its control group where that has less."""
    found = []
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        pass
    for limit, used in CGROUP_FILES:
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # "max": no limit
            continue
    return min(found) if found else None
