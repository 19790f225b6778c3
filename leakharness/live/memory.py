"""The memory of another process as one array of words, and addresses as positions in it."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Protocol

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


class Source(Protocol):
    """Where memory is read from: a process, or a core file."""

    @property
    def regions(self) -> tuple[Region, ...]: ...

    def read_into(self, buffer: memoryview, address: int) -> int:
        """Fill ``buffer`` from ``address`` on; how many bytes there were. Raises OSError where none can be read."""
        ...


class Memory:
    """A copy of the writable memory of a process, and of what its Python maps read-only.

    What vanishes meanwhile reads as zeros.
    """

    def __init__(self, source: Source) -> None:
        self.regions = [region for region in source.regions if _wanted(region)]
        sizes = [(region.end - region.start) // WORD for region in self.regions]
        _refuse_too_much(sum(sizes) * WORD)
        self.words: Words = np.zeros(sum(sizes), np.uint64)
        self.start = np.array([region.start for region in self.regions], np.uint64)
        self.end = np.array([region.end for region in self.regions], np.uint64)
        self.first = np.cumsum([0, *sizes], dtype=np.int64)
        self.bytes = self.words.data.cast("B")
        # The same once more for single words: a look-up by numpy costs 30 times as much as one by bisect.
        self._word_at = self.bytes.cast("Q")
        self._spans = [
            (region.start, region.end, int(at)) for region, at in zip(self.regions, self.first, strict=False)
        ]
        self._starts = [region.start for region in self.regions]
        for number in range(len(self.regions)):
            self._copy(source, number)

    def _copy(self, source: Source, number: int) -> None:
        region = self.regions[number]
        at, stop = int(self.first[number]) * WORD, int(self.first[number + 1]) * WORD
        address = region.start
        while at < stop:
            try:
                count = source.read_into(self.bytes[at:stop], address)
            except OSError:  # unmapped since, or a page that cannot be read
                return
            if count <= 0:
                return
            at, address = at + count, address + count

    def index(self, addresses: Words) -> Ints:
        """Position of the word at each address; -1 where none was copied."""
        region = np.searchsorted(self.start, addresses, side="right") - 1
        inside = (region >= 0) & (addresses < self.end[region])
        place = self.first[region] + ((addresses - self.start[region]) >> np.uint64(3)).astype(np.int64)
        return np.where(inside, place, -1)

    def read(self, addresses: Words) -> Words:
        """The word at each address; 0 where none was copied."""
        at = self.index(addresses)
        return np.where(at >= 0, self.words[at], np.uint64(0))

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
            if "w" in region.access:
                words = self.words[int(self.first[number]) : int(self.first[number + 1])]
                here = np.flatnonzero(words == np.uint64(value)).astype(np.uint64)
                found.append(np.uint64(region.start) + here * np.uint64(WORD))
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
