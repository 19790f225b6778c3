"""The memory of another process as one array of words, and addresses as positions in it."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from leakharness.errors import UsageError
from leakharness.live.process import Region, Target
from leakharness.units import size

__all__ = ["Memory"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

LARGEST_REGION = 1 << 36
"""Bytes: a larger mapping is reserved address space (sanitizers, JITs), not memory that is used."""
SPECIAL = ("[vvar]", "[vsyscall]", "[vdso]", "[vvar_vclock]")
WORD = 8


class Memory:
    """A copy of the writable memory of a process, and of what its Python maps read-only.

    Reads only, by ``/proc/PID/mem``; what vanishes meanwhile reads as zeros.
    """

    def __init__(self, target: Target) -> None:
        self.regions = [region for region in target.regions if _wanted(region)]
        sizes = [(region.end - region.start) // WORD for region in self.regions]
        _refuse_too_much(sum(sizes) * WORD)
        self.words: Words = np.zeros(sum(sizes), np.uint64)
        self.start = np.array([region.start for region in self.regions], np.uint64)
        self.end = np.array([region.end for region in self.regions], np.uint64)
        self.first = np.cumsum([0, *sizes], dtype=np.int64)
        self.bytes = memoryview(self.words).cast("B")  # type: ignore[arg-type]
        try:
            descriptor = os.open(f"/proc/{target.pid}/mem", os.O_RDONLY)
        except OSError as error:
            raise UsageError(f"process {target.pid} cannot be read: {error.strerror}; it may have ended") from None
        try:
            for number in range(len(self.regions)):
                self._copy(descriptor, number)
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int, number: int) -> None:
        region = self.regions[number]
        at, stop = int(self.first[number]) * WORD, int(self.first[number + 1]) * WORD
        address = region.start
        while at < stop:
            try:
                count = os.preadv(descriptor, [self.bytes[at:stop]], address)
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
        """One word."""
        return int(self.read(np.array([address & (2**64 - 1)], np.uint64))[0])

    def data(self, address: int, count: int) -> bytes:
        """``count`` bytes at ``address``; empty where they were not copied."""
        at = int(self.index(np.array([address & (2**64 - 8)], np.uint64))[0])
        if at < 0 or count < 0:
            return b""
        begin = at * WORD + address % WORD
        return bytes(self.bytes[begin : begin + count])

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
    pages, page = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    free = pages * page
    with open("/proc/meminfo", encoding="ascii") as lines:
        free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), free)
    if count > free:
        raise UsageError(f"the process has {size(count)} to copy and {size(free)} are free: look from a larger host")
