"""Resources of this process that no other counter is near: memory files, shared memory, files left in the temporary
folder, watches, unread bytes, locks, timers, sub-interpreters. Linux gives them in /proc (proc(5)).

Each is an exact count that costs some microseconds; what cannot be read here is named, with the reason.
"""

from __future__ import annotations

import array
import importlib
import stat
import sys
from collections.abc import Iterator
from typing import Any

from leakharness.worker.counter_readers import CounterReaders
from leakharness.worker.interpreters import others_reader
from leakharness.worker.shared_segments import BLOCK_BYTES, SharedSegments
from leakharness.worker.unpatched import open, os

__all__ = ["NOT_COUNTED", "OsResources"]

NOT_COUNTED = {
    "files elsewhere": "only those in the temporary folder and in /dev/shm are counted",
    "GPU memory": "it is not looked at",
    "System V semaphores and message queues": "they do not say who made them",
    "shared memory that C code or a child made and closed": "not counted while another measurement runs here",
}
"""What is counted nowhere, whatever the platform."""
MOST_TEMP_ENTRIES = 20_000
"""Entries of the temporary folder that are walked: more than that are a leak at any rate."""
OWN_MEMORY_FILE = "/memfd:leakharness (deleted)"
NO_TYPE = 0
"""File type of anonymous inodes: eventfd, epoll, inotify, timerfd, signalfd, pidfd."""


class OsResources(CounterReaders):
    """Readers of those resources, by counter; ``missing`` says why others are not there."""

    def __init__(self, temp_folder: str | None) -> None:
        """``temp_folder`` is this process's own; None where it shares one with others."""
        super().__init__()
        self.missing |= NOT_COUNTED
        self._pid = os.getpid()
        self._segments: SharedSegments | None = None
        self.add("interpreters", others_reader())
        self._temp_folder = temp_folder
        if temp_folder is None:
            self.missing["temp_files"] = "the temporary folder is shared with other processes"
        else:
            self.add("temp_files", self._temp_files)
        names = ("unlinked_bytes", "unread_bytes", "watches", "shm_bytes", "locks", "timers")
        if sys.platform != "linux":
            self.missing |= dict.fromkeys(names, "only read from Linux's /proc")
            return
        self._ioctl, self._unread = _ioctl()
        self._own_pipes = frozenset(self._pipes())
        self._segments = SharedSegments()
        self.add("unlinked_bytes", lambda: self._descriptors()[0])
        self.add("unread_bytes", lambda: self._descriptors()[1])
        self.add("watches", lambda: self._descriptors()[2])
        self.add("shm_bytes", self._segments.bytes_left)
        self.add("locks", self._locks)
        self.add("timers", self._timers)

    def close(self) -> None:
        if self._segments is not None:
            self._segments.close()

    def read(self) -> dict[str, int]:
        """Every resource that can be read here."""
        values = {name: reader() for name, reader in self.readers.items() if name not in OF_DESCRIPTORS}
        if OF_DESCRIPTORS[0] in self.readers:
            values.update(zip(OF_DESCRIPTORS, self._descriptors(), strict=True))
        return values

    def _descriptors(self) -> tuple[int, int, int]:
        """One look at each descriptor: bytes of files without a name, unread bytes, watches of inotify and epoll."""
        unlinked = unread = watches = 0
        seen: set[tuple[int, int]] = set()
        for descriptor, status in _open_files():
            kind = stat.S_IFMT(status.st_mode)
            if kind == NO_TYPE:
                watches += _watches(descriptor)
                continue
            key = (status.st_dev, status.st_ino)
            if key in seen:  # the same file, or the other end of the same pipe
                continue
            seen.add(key)
            if kind == stat.S_IFREG:
                if status.st_nlink == 0 and not _is_own(descriptor):
                    unlinked += status.st_blocks * BLOCK_BYTES
            elif kind in (stat.S_IFIFO, stat.S_IFSOCK) and status.st_ino not in self._own_pipes:
                unread += self._waiting_in(descriptor)
        return unlinked, unread, watches

    def _waiting_in(self, descriptor: int) -> int:
        """Bytes that can be read there; 0 for a socket that listens."""
        count = array.array("i", [0])
        try:
            self._ioctl(descriptor, self._unread, count)
        except OSError:
            return 0
        return count[0]

    def _pipes(self) -> Iterator[int]:
        """Pipes that were there before the scenario was loaded: they are the harness's, or of who started it."""
        for _, status in _open_files():
            if stat.S_IFMT(status.st_mode) in (stat.S_IFIFO, stat.S_IFSOCK):
                yield status.st_ino

    def _locks(self) -> int:
        """Locks of files (locks(5)), the pid in the fifth column; a process that waits for one has "->" before it."""
        pid = str(self._pid).encode()
        with open("/proc/locks", "rb") as file:
            return sum(1 for row in map(bytes.split, file) if pid in row[4:6] and row[1] != b"->")

    def _timers(self) -> int:
        with open("/proc/self/timers", "rb") as file:
            return file.read().count(b"notify:")

    def _temp_files(self) -> int:
        """Entries below the temporary folder."""
        assert self._temp_folder is not None
        count = 0
        for _, folders, files in os.walk(self._temp_folder):
            count += len(folders) + len(files)
            if count > MOST_TEMP_ENTRIES:
                break
        return count


OF_DESCRIPTORS = ("unlinked_bytes", "unread_bytes", "watches")
"""What one look at the descriptors gives, in its order."""


def _open_files() -> Iterator[tuple[int, os.stat_result]]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield int(name), os.fstat(int(name))
        except OSError:  # the one that read the folder
            continue


def _is_own(descriptor: int) -> bool:
    """Whether it is a memory file of the harness."""
    return os.readlink(f"/proc/self/fd/{descriptor}") == OWN_MEMORY_FILE


def _watches(descriptor: int) -> int:
    """Lines of fdinfo that stand for something watched (proc_pid_fdinfo(5))."""
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
            text = file.read()
    except OSError:
        return 0
    return text.count(b"\ninotify wd:") + text.count(b"\ntfd:") + text.count(b"\nfanotify ino:")


def _ioctl() -> tuple[Any, int]:
    """``fcntl.ioctl`` and the request for the bytes that can be read (ioctl_tty(2), FIONREAD)."""
    fcntl, termios = importlib.import_module("fcntl"), importlib.import_module("termios")
    return fcntl.ioctl, termios.FIONREAD
