"""Child processes of the measured process, those included that detach from their parent (a daemon's double fork): how
many there are, and how much memory they hold. Linux (proc(5), prctl(2))."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

from leakharness.worker.unpatched import gc, open, os

__all__ = ["Children", "adopt_orphans", "descendants", "leave_out", "leave_out_no_more"]

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): processes that lose their parent become children of this one, not of init."""
FORKED_ONLY = 0x40
"""Flag in /proc/PID/stat of a process that has been forked and has executed nothing since (sched.h, PF_FORKNOEXEC)."""
DEPTH = 8
"""Generations that are followed."""
HELPERS = array("q")
"""Processes of the harness that live beside the measured one, as the judge of a pytest process does: what they are and
what they hold is nothing of the program's."""


def leave_out(pid: int) -> None:
    """The child ``pid`` is the harness's: no :class:`Children` of this process counts it, or what it has started."""
    HELPERS.append(pid)


def leave_out_no_more(pid: int) -> None:
    """That child is gone: its number may become another's."""
    if pid in HELPERS:
        HELPERS.remove(pid)


class Status(NamedTuple):
    """What /proc/PID/stat says."""

    command: bytes
    state: bytes
    session: int
    executed: bool


class Children:
    """The children of this process. ``own`` are pids of the harness's, which do not count."""

    def __init__(self, own: Container[int], page_bytes: int) -> None:
        self._own = own
        self._page_bytes = page_bytes
        self._known = array("q")
        own_status = _status(os.getpid())
        self._command = own_status.command if own_status is not None else b""

    def count(self) -> int:
        """Children that are there, or that have ended and are waited for by nobody.

        Not one that this process has only adopted: once it has ended, init would have waited for it.
        """
        return sum(1 for pid in _children_of("self") if not self._is_own(pid) and self._counts(pid))

    def resident_bytes(self) -> int:
        """Resident bytes of the children and of theirs, without pages that they share with others."""
        return self._page_bytes * sum(_resident_pages(pid) for pid in descendants("self", self._is_own, DEPTH))

    def note_waited_for(self) -> None:
        """To be called before the heap is frozen: which ended children the program's own objects stand for."""
        if any(_is_ended(pid) for pid in _children_of("self")):
            self._known = array("q", self._waited_for())

    def _is_own(self, pid: int) -> bool:
        return pid in self._own or pid in HELPERS

    def _counts(self, pid: int) -> bool:
        status = _status(pid)
        if status is None:
            return False
        if status.state != b"Z":
            return True
        if status.session not in (os.getsid(0), pid):  # of a session whose leader is gone: a daemon
            os.waitpid(pid, os.WNOHANG)
            return False
        if not status.executed:
            return status.command == self._command  # else it was forked by another program
        return pid in self._known or pid in self._waited_for()

    def _waited_for(self) -> set[int]:
        """Pids of ``subprocess.Popen`` and ``multiprocessing`` objects, which the program can still wait for."""
        kinds = [
            kind
            for name in ("subprocess", "multiprocessing.popen_spawn_posix", "multiprocessing.popen_forkserver")
            if isinstance(kind := getattr(sys.modules.get(name), "Popen", None), type)  # and no mock of it
        ]
        found = (obj for obj in gc.get_objects() if type(obj) in kinds)
        return {pid for obj in found if type(pid := obj.__dict__.get("pid")) is int}


def descendants(
    process: int | str, is_own: Callable[[int], bool] = lambda pid: False, depth: int = sys.maxsize
) -> Iterator[int]:
    """What ``process`` has started, directly or not, down to so many generations, without those that ``is_own`` and
    theirs. None where the platform does not tell; raises FileNotFoundError as :func:`_children_of`."""
    for pid in _children_of(process):
        if not is_own(pid):
            yield pid
            if depth > 1:
                yield from descendants(pid, is_own, depth - 1)


def adopt_orphans() -> None:
    """From now on what a child leaves behind stays a descendant of this process, and ends with it."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def _children_of(process: int | str) -> list[int]:
    """Raises FileNotFoundError for this process where the kernel has no such lists (CONFIG_PROC_CHILDREN)."""
    pids: list[int] = []
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except OSError:
        return pids
    for tid in threads:
        try:
            with open(f"/proc/{process}/task/{tid}/children", "rb") as file:
                pids.extend(map(int, file.read().split()))
        except FileNotFoundError:
            if process == "self" and str(os.getpid()) == tid:  # else the thread just ended
                raise
    return pids


def _status(pid: int) -> Status | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b")")
    except OSError:
        return None
    fields = tail.split()
    return Status(head.partition(b"(")[2], fields[0], int(fields[3]), not int(fields[6]) & FORKED_ONLY)


def _is_ended(pid: int) -> bool:
    status = _status(pid)
    return status is not None and status.state == b"Z"


def _resident_pages(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            fields = file.read().split()
    except OSError:
        return 0
    return int(fields[1]) - int(fields[2])
