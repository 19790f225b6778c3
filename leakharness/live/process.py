"""A running process as /proc shows it: which Python it is, what memory it has, and why it may not be read."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from leakharness.errors import UsageError

__all__ = [
    "YAMA",
    "Region",
    "Target",
    "executable",
    "find_target",
    "regions_of",
    "resident_bytes",
    "status_of",
    "version_of",
]

_LIBRARY = re.compile(r"(?:lib)?python3\.(\d+)(t?)(?:d?)(?:\.so[.\d]*)?$")
PAGE, ENTRY = mmap.PAGESIZE, 8
"""Bytes of a page, and of its entry in /proc/PID/pagemap."""
HAS_PAGE = bytes(1 if byte & 0xC0 else 0 for byte in range(256))
PAGES_AT_ONCE = 1 << 18
YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")


@dataclass(frozen=True)
class Region:
    """One mapping of /proc/PID/maps: addresses in bytes, ``end`` exclusive."""

    start: int
    end: int
    access: str
    name: str


@dataclass(frozen=True)
class Target:
    """A CPython process that may be read."""

    pid: int
    version: tuple[int, int]
    regions: tuple[Region, ...]

    @contextmanager
    def opened(self) -> Iterator[_Opened]:
        """Its memory, to be read. Raises UsageError where it has ended."""
        with ExitStack() as closing:
            try:
                descriptor = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY)
            except OSError as error:
                reason = error.strerror or str(error)
                raise UsageError(f"process {self.pid} cannot be read: {reason}; it may have ended") from None
            closing.callback(os.close, descriptor)
            pages = None
            with suppress(OSError):
                pages = os.open(f"/proc/{self.pid}/pagemap", os.O_RDONLY)
                closing.callback(os.close, pages)
            yield _Opened(self.pid, descriptor, pages, self.regions)


class _Span(ctypes.Structure):
    """``struct iovec`` (readv(2))."""

    _fields_ = (("address", ctypes.c_void_p), ("length", ctypes.c_size_t))


@cache
def _direct_read() -> Callable[..., int] | None:
    """process_vm_readv(2), None where the C library has none."""
    try:
        found = ctypes.CDLL(None, use_errno=True).process_vm_readv
    except AttributeError:
        return None
    spans, count = ctypes.POINTER(_Span), ctypes.c_ulong
    found.argtypes = [ctypes.c_int, spans, count, spans, count, count]
    found.restype = ctypes.c_ssize_t
    return found


@dataclass(frozen=True)
class _Opened:
    pid: int
    descriptor: int
    pages: int | None
    regions: tuple[Region, ...]

    def used(self, region: Region) -> list[tuple[int, int]]:
        return _used(self.pages, region)

    def read_into(self, buffer: memoryview, address: int) -> int:
        # /proc/PID/mem goes through a page of the kernel's own, which costs a third more. What this call does not give
        # (it is forbidden, or a page is gone) that one is asked for.
        direct = _direct_read()
        if direct is not None:
            here = _Span(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), len(buffer))
            count = direct(self.pid, here, 1, _Span(address, len(buffer)), 1, 0)
            if count > 0:
                return count
        return os.preadv(self.descriptor, [buffer], address)


def _used(pages: int | None, region: Region) -> list[tuple[int, int]]:
    """Stretches of a region that have pages, by /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).

    Of memory without a file, what has no page was never written: reading it would only make the kernel map zeros into
    the process. A file has its contents all the same.
    """
    whole = [(region.start, region.end)]
    if pages is None or region.name.startswith("/"):
        return whole
    found: list[tuple[int, int]] = []
    for begin in range(region.start, region.end, PAGES_AT_ONCE * PAGE):
        count = (min(region.end, begin + PAGES_AT_ONCE * PAGE) - begin) // PAGE
        try:
            raw = os.pread(pages, count * ENTRY, begin // PAGE * ENTRY)
        except OSError:
            return whole
        if len(raw) != count * ENTRY:
            return whole
        # Its highest byte is enough: bits 63 and 62 of an entry say that the page is there, or swapped out.
        has = raw[ENTRY - 1 :: ENTRY].translate(HAS_PAGE)
        found += [(begin + m.start() * PAGE, begin + m.end() * PAGE) for m in re.finditer(b"\1+", has)]
    return found


def find_target(pid: int) -> Target:
    """The process ``pid``. Raises UsageError, in one line with the cure, where it cannot be read."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        raise UsageError("a running process can be looked at on Linux on x86-64 only: take a snapshot inside of it")
    regions = regions_of(pid)
    return Target(pid, version_of([*(region.name for region in regions), executable(pid)], f"process {pid}"), regions)


def version_of(names: Sequence[str], what: str) -> tuple[int, int]:
    """Version of the CPython among the mapped files. Raises UsageError for none and for a free-threaded one."""
    found = next((m for m in (_LIBRARY.search(os.path.basename(name)) for name in names) if m), None)
    if found is None:
        raise UsageError(
            f"{what} ({names[-1] if names else '?'}) is not a CPython 3: no libpython3 and no python3 in it"
        )
    if found[2]:
        raise UsageError(f"{what} is a free-threaded build: its heap cannot be read from outside yet")
    return (3, int(found[1]))


def regions_of(pid: int) -> tuple[Region, ...]:
    """Mappings of a process. Raises UsageError, with the cure, where they may not be read."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text("utf-8", "replace").splitlines()
        with open(f"/proc/{pid}/mem", "rb", 0):
            pass
    except FileNotFoundError:
        raise UsageError(f"no process {pid}: it has ended, or it is in another PID namespace") from None
    except ProcessLookupError:
        raise UsageError(f"process {pid} has ended") from None
    except PermissionError:
        raise UsageError(_denied(pid)) from None
    found = []
    for line in lines:
        span, access, _, _, _, *name = line.split(None, 5)
        start, _, end = span.partition("-")
        found.append(Region(int(start, 16), int(end, 16), access, name[0] if name else ""))
    if not found:
        raise UsageError(f"process {pid} has no memory of its own: it has ended, or is a thread of the kernel")
    return tuple(found)


def status_of(pid: int) -> dict[str, str]:
    """/proc/PID/status by field; empty where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where it has ended or has none."""
    return int((status_of(pid).get("VmRSS") or "0").split()[0]) * 1024


def executable(pid: int) -> str:
    """Path of the program that the process runs, ``?`` where it may not be read."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return "?"


def _denied(pid: int) -> str:
    """Why the kernel refuses (ptrace(2), "Ptrace access mode checking"), with what helps."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return f"process {pid} has ended"
    if owner not in (os.geteuid(),) and os.geteuid() != 0:
        return f"process {pid} belongs to user {owner}, or is not dumpable: run as that user or as root"
    scope = YAMA.read_text().strip() if YAMA.exists() else "0"
    if scope not in ("", "0"):
        return f"process {pid} may not be read (kernel.yama.ptrace_scope is {scope}): run as root, or with SYS_PTRACE"
    return f"process {pid} may not be read: give this container SYS_PTRACE (docker run --cap-add SYS_PTRACE)"
