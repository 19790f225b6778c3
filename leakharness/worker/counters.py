"""Reading the counters of this process. A counter that the platform lacks is absent, never zero.

Linux is read from /proc (proc(5)) and glibc's mallinfo2 (mallinfo(3)); macOS and Windows give what their C
libraries offer without a compiler. What could not be read, and why, is in :attr:`Counters.missing`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from typing import Any

from leakharness.worker.children import Children
from leakharness.worker.counter_readers import CounterReaders
from leakharness.worker.entries import Entries
from leakharness.worker.fork import reap
from leakharness.worker.os_resources import OsResources
from leakharness.worker.unpatched import gc, os

__all__ = ["Counters"]

MOST_OWN_CHILDREN = 16
"""Snapshot children at a time. Their pids live in an array: a set of ints would be blocks of our own that come and
go with them."""
OWN_CHILD_SECONDS = 120.0
"""How long the oldest of them may take to end where a new one needs its place; it is killed then."""
TASK_ATTEMPTS = 1000
"""As asyncio's own ``all_tasks`` has it."""
SELF_TEST_BYTES = 1 << 20
"""Size of the block by which the malloc counter is tested at the start: large enough to show, cheap to make."""


class Counters(CounterReaders):
    """The counters of one process, each a function without arguments that returns an int."""

    def __init__(self, temp_folder: str | None = None) -> None:
        """``temp_folder``: the temporary folder of this process alone, if it has one."""
        super().__init__()
        self._page_bytes = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
        self._statm: int | None = None
        self.loop: Any = None
        self.entries = Entries()
        if self.entries.missing:
            self.missing["entries"] = self.entries.missing
        self._own_children = array("q", [0]) * MOST_OWN_CHILDREN
        self._children = Children(self._own_children, self._page_bytes)
        self.add("blocks", self._blocks_reader())
        malloc = _malloc_readers()
        self._malloc_held: Callable[[], int] | None = None
        if isinstance(malloc, str):
            self.missing["malloc_bytes"] = malloc
        else:
            in_use, self._malloc_held = malloc
            self.add("malloc_bytes", in_use)
        if sys.platform == "linux":
            self._linux()
        elif sys.platform == "darwin":
            self.add("rss", _macos_rss_reader())
            self.add("fds", _listing_reader("/dev/fd"))
        elif sys.platform == "win32":
            self._windows()
        self._resources = OsResources(temp_folder)
        self.missing |= self._resources.missing

    def read(self) -> dict[str, int]:
        """Every counter that this platform has, by name."""
        values = {name: reader() for name, reader in self.readers.items()}
        values.update(self._resources.read())
        values["tasks"] = count_tasks(self.loop)
        return values

    def read_small(self) -> tuple[int, ...]:
        """The counters that may still fall by themselves after a run: what settling waits for."""
        names = ("fds", "threads", "children")
        return tuple(self.readers[name]() for name in names if name in self.readers)

    def ignore_child(self, pid: int) -> None:
        """``pid`` is a child of the harness itself (a snapshot being written), not of the program.

        Waits for the oldest where there are too many of them.
        """
        self.reap()
        children = self._own_children
        if 0 not in children:
            reap(children[0], OWN_CHILD_SECONDS)
            children[0] = 0
        children[children.index(0)] = pid

    def reap(self) -> None:
        """Collect the harness's own children that have ended."""
        for slot, pid in enumerate(self._own_children):
            if pid == 0:
                continue
            try:
                done, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                done = pid
            if done:
                self._own_children[slot] = 0

    def note_freeze(self) -> None:
        """To be called before the heap is frozen."""
        if "children" in self.readers:
            self._children.note_waited_for()

    def close(self) -> None:
        self._resources.close()
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def _blocks_reader(self) -> Callable[[], int] | str:
        reader = getattr(sys, "getallocatedblocks", None)
        if reader is None:
            return "this interpreter does not count allocator blocks"
        if reader() == 0:
            return "PYTHONMALLOC=malloc: the small-object allocator, which counts blocks, is switched off"
        return reader  # type: ignore[no-any-return]

    def _linux(self) -> None:
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            self.missing["rss"] = self.missing["mapped_bytes"] = str(exc)
        else:
            statm, page = self._statm, self._page_bytes
            self.add("rss", lambda: int(os.pread(statm, 128, 0).split()[1]) * page)
            held = self._malloc_held or (lambda: 0)
            self.add("mapped_bytes", lambda: int(os.pread(statm, 128, 0).split()[0]) * page - held())
        self.add("fds", _listing_reader("/proc/self/fd"))
        self.add("threads", lambda: len(os.listdir("/proc/self/task")))
        self.add("children", self._children.count)
        if "children" in self.readers:
            self.add("children_rss", self._children.resident_bytes)

    def _windows(self) -> None:
        self.add("rss", _windows_rss_reader())
        self.add("fds", _windows_handle_reader())


def count_tasks(loop: Any) -> int:
    """Tasks that are not done: asyncio's, of every event loop in any thread where they are all listed, else those of
    ``loop``; and trio's, by its statistics.

    Up to 3.11 there is one set (``_all_tasks``), then two, and from 3.14 on each thread has a list of its own.
    """
    tasks = sys.modules.get("asyncio.tasks")
    living = getattr(loop, "living_tasks", None)
    if living is not None:  # trio's: of asyncio there may be tasks beside them
        return living() + (count_tasks(None) if tasks is not None else 0)  # type: ignore[no-any-return]
    if tasks is None:
        return 0
    found = [getattr(tasks, name, None) for name in ("_all_tasks", "_scheduled_tasks", "_eager_tasks")]
    if sys.version_info >= (3, 14) or not any(group is not None for group in found):
        return len(tasks.all_tasks(loop)) if loop is not None else 0
    for _ in range(TASK_ATTEMPTS):
        try:
            return sum(not task.done() for group in found if group is not None for task in list(group))
        except RuntimeError:  # another thread has begun a task meanwhile
            continue
    return 0


def count_objects() -> int:
    """Objects that the collector knows, the frozen ones included."""
    return len(gc.get_objects()) + gc.get_freeze_count()


def _listing_reader(folder: str) -> Callable[[], int]:
    """Entries of a folder of descriptors, without the one that reads it."""
    return lambda: len(os.listdir(folder)) - 1


def _malloc_readers() -> tuple[Callable[[], int], Callable[[], int]] | str:
    """Bytes in use by malloc, glibc's ``uordblks + hblkhd`` (small blocks and those mapped one by one), and bytes
    of address space that it holds for them (``arena + hblkhd``).

    Tested on a block of known size: with another allocator preloaded glibc still answers, with figures that
    stand still, and a counter that cannot move would vouch for anything.
    """
    if sys.platform != "linux":
        return "bytes in use by malloc are only read from glibc"
    try:
        import ctypes
    except ImportError:
        return "ctypes is missing from this interpreter"

    class MallInfo2(ctypes.Structure):
        _fields_ = tuple(
            (name, ctypes.c_size_t)
            for name in (
                [
                    "arena",
                    "ordblks",
                    "smblks",
                    "hblks",
                    "hblkhd",
                    "usmblks",
                    "fsmblks",
                    "uordblks",
                    "fordblks",
                    "keepcost",
                ]
            )
        )

    libc = ctypes.CDLL(None)
    try:
        mallinfo2 = libc.mallinfo2
        libc.malloc.restype = ctypes.c_void_p
    except AttributeError:
        return "the C library has no mallinfo2 (glibc 2.33 or newer has)"
    mallinfo2.restype = MallInfo2
    mallinfo2.argtypes = ()

    def in_use() -> int:
        info = mallinfo2()
        return int(info.uordblks + info.hblkhd)

    before = in_use()
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(SELF_TEST_BYTES)))
    grew = in_use() - before
    libc.free(block)
    if grew < SELF_TEST_BYTES:
        return "another allocator than glibc's is loaded; native leaks show in mapped_bytes and rss only"

    def held() -> int:
        info = mallinfo2()
        return int(info.arena + info.hblkhd)

    return in_use, held


def _macos_rss_reader() -> Callable[[], int] | str:
    """Resident bytes by ``proc_pid_rusage`` (libproc.h, ``rusage_info_v0.ri_resident_size``)."""
    import ctypes

    class RusageInfoV0(ctypes.Structure):
        _fields_ = (
            ("uuid", ctypes.c_uint8 * 16),
            *(
                (name, ctypes.c_uint64)
                for name in (
                    [
                        "user",
                        "system",
                        "pkg_idle_wkups",
                        "interrupt_wkups",
                        "pageins",
                        "wired_size",
                        "resident_size",
                        "phys_footprint",
                        "start",
                        "exit",
                    ]
                )
            ),
        )

    try:
        proc_pid_rusage = ctypes.CDLL("/usr/lib/libproc.dylib").proc_pid_rusage
    except (OSError, AttributeError) as exc:
        return f"libproc has no proc_pid_rusage: {exc}"

    def resident() -> int:
        info = RusageInfoV0()
        if proc_pid_rusage(os.getpid(), 0, ctypes.byref(info)) != 0:
            raise OSError("proc_pid_rusage failed")
        return int(info.resident_size)

    return resident


def _windows_rss_reader() -> Callable[[], int] | str:
    """Working set by ``K32GetProcessMemoryInfo`` (psapi.h, ``PROCESS_MEMORY_COUNTERS.WorkingSetSize``)."""
    import ctypes

    class ProcessMemoryCounters(ctypes.Structure):
        _fields_ = (
            ("cb", ctypes.c_uint32),
            ("page_faults", ctypes.c_uint32),
            *(
                (name, ctypes.c_size_t)
                for name in [
                    "peak_ws",
                    "ws",
                    "peak_paged",
                    "paged",
                    "peak_nonpaged",
                    "nonpaged",
                    "pagefile",
                    "peak_pagefile",
                ]
            ),
        )

    kernel32 = ctypes.CDLL("kernel32")
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p

    def resident() -> int:
        info = ProcessMemoryCounters(cb=ctypes.sizeof(ProcessMemoryCounters))
        process = ctypes.c_void_p(kernel32.GetCurrentProcess())
        if not kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(info), info.cb):
            raise OSError("K32GetProcessMemoryInfo failed")
        return int(info.ws)

    return resident


def _windows_handle_reader() -> Callable[[], int] | str:
    """Open handles by ``GetProcessHandleCount`` (processthreadsapi.h)."""
    import ctypes

    kernel32 = ctypes.CDLL("kernel32")
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p

    def handles() -> int:
        count = ctypes.c_uint32()
        process = ctypes.c_void_p(kernel32.GetCurrentProcess())
        if not kernel32.GetProcessHandleCount(process, ctypes.byref(count)):
            raise OSError("GetProcessHandleCount failed")
        return int(count.value)

    return handles
