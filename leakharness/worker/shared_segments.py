"""Bytes of named shared memory that this process has left, on Linux, where it lies in one folder for all processes.

The folder says whose a segment is only as far as the user goes. What this process opened, truncated or mapped is known
by the interpreter's audit events (PEP 578), what it holds by /proc; anything else that is new may be of C code and of
children here, or of another measurement that runs at the same time. So each measurement leaves a mark in the folder.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection
from typing import Any

from leakharness.worker.unpatched import open, os, time

__all__ = ["SharedSegments", "remove_mark"]

FOLDER = "/dev/shm"
MARK = "leakharness-measuring-"
BLOCK_BYTES = 512
"""Unit of ``st_blocks`` (stat(2))."""


class SharedSegments:
    """What :meth:`bytes_left` counts began with this object."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._old = frozenset(_names())
        self._others([name for name in self._old if name.startswith(MARK)])
        self._beside_others = 0.0
        """The last time that another measurement was seen: who made an older segment is not known. One number, since a
        list of the other's segments would grow as they do."""
        _Opened.listen()
        with contextlib.suppress(OSError):
            os.close(os.open(f"{FOLDER}/{MARK}{self._pid}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def close(self) -> None:
        """Remove the mark; not in a forked copy, which has none of its own."""
        if os.getpid() == self._pid:
            _Opened.listens, _Opened.text = False, ""
            remove_mark()

    def bytes_left(self) -> int:
        """Bytes of POSIX segments that are new, and of System V's that this process has made."""
        return self._posix() + _system_v(self._pid)

    def _posix(self) -> int:
        total, ours, marks = 0, "", []
        opened = frozenset(_Opened.text.split("\0"))
        unknown: list[tuple[str, os.stat_result]] = []
        for name in _names():
            if name.startswith(MARK):
                marks.append(name)
                continue
            if name in self._old:
                continue
            try:
                status = os.stat(f"{FOLDER}/{name}")
            except OSError:  # gone meanwhile
                continue
            if status.st_uid != os.geteuid():
                continue
            if name in opened or f"/{status.st_ino}" in opened:
                total, ours = total + status.st_blocks * BLOCK_BYTES, f"{ours}{name}\0"
            else:
                unknown.append((name, status))
        if unknown:
            if self._others(marks):
                self._beside_others = time.time()
            held = _held_here()
            total += BLOCK_BYTES * sum(
                status.st_blocks for name, status in unknown if status.st_ctime > self._beside_others or name in held
            )
        _Opened.text = ours
        return total

    def _others(self, marks: Collection[str]) -> bool:
        """Whether another process that lives has left its mark; marks without an owner are removed."""
        found = False
        for mark in marks:
            pid = mark.removeprefix(MARK)
            if not pid.isdecimal() or int(pid) == self._pid:
                continue
            if os.path.exists(f"/proc/{pid}"):
                found = True
            else:
                with contextlib.suppress(OSError):
                    os.unlink(f"{FOLDER}/{mark}")
        return found


def remove_mark(pid: int | None = None) -> None:
    """Remove the mark of a process that was measured, of this one where none is named, if it has one."""
    with contextlib.suppress(OSError):
        os.unlink(f"{FOLDER}/{MARK}{os.getpid() if pid is None else pid}")


class _Opened:
    """Names and inodes (after a slash) of what this process opened there, each with a NUL behind it: what is left of
    them at the last reading, and what came since. One text, since the entries of containers are counted."""

    text = ""
    device = -1
    listens = False
    hooked = False

    @classmethod
    def listen(cls) -> None:
        """From here on, until ``listens`` is taken back: a hook cannot be taken out again."""
        with contextlib.suppress(OSError):
            cls.device = os.stat(FOLDER).st_dev
            cls.listens = True
            if not cls.hooked:
                cls.hooked = True
                sys.addaudithook(_note)


def _note(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: what it raises would end in the program."""
    if not _Opened.listens:
        return
    if event == "open":
        path = args[0]
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if isinstance(path, str) and path.startswith(f"{FOLDER}/"):
            _Opened.text += f"{path.split('/')[3]}\0"
    elif event in ("mmap.__new__", "os.truncate"):
        descriptor = args[0]
        if isinstance(descriptor, int) and descriptor >= 0:
            with contextlib.suppress(OSError):
                status = os.fstat(descriptor)
                if status.st_dev == _Opened.device:
                    _Opened.text += f"/{status.st_ino}\0"


def _names() -> list[str]:
    try:
        return os.listdir(FOLDER)
    except OSError:
        return []


def _held_here() -> frozenset[str]:
    """Names of the segments that this process has mapped or open."""
    found: set[str] = set()
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        found.update(line.rstrip("\n").partition(f" {FOLDER}/")[2] for line in file if f" {FOLDER}/" in line)
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if target.startswith(f"{FOLDER}/"):
                found.add(target.split("/")[3])
    return frozenset(found)


def _system_v(pid: int) -> int:
    with open("/proc/sysvipc/shm", "rb") as file:
        columns = file.readline().split()
        size, creator = columns.index(b"size"), columns.index(b"cpid")
        return sum(int(row[size]) for row in map(bytes.split, file) if int(row[creator]) == pid)
