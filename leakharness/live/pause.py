"""All threads of a process held for the time of a copy (ptrace(2): PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH).

Nothing is written to the process and none of its registers is touched: if the tool dies meanwhile, the kernel lets the
threads go.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time
from collections.abc import Iterator

from leakharness.errors import UsageError
from leakharness.live.process import status_of

__all__ = ["paused"]

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
"""include/uapi/linux/ptrace.h"""
WALL = 0x4000_0000
"""waitpid(2), __WALL: threads of another process are waited for, too."""
STOP_SECONDS = 5.0
"""How long a thread may take to stop: one in uninterruptible sleep (a hanging file system) does not."""
ROUNDS = 20
"""How often new threads are looked for: a stopped process starts none, so two are enough where nothing hangs."""


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """Hold every thread of ``pid``. Raises UsageError, in one line, where the kernel does not allow it."""
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.restype = ctypes.c_long
    library.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    held: list[int] = []
    try:
        _hold_all(library, pid, held)
        yield
    finally:
        for thread in held:
            library.ptrace(DETACH, thread, None, None)


def _hold_all(library: ctypes.CDLL, pid: int, held: list[int]) -> None:
    for _ in range(ROUNDS):
        new = [thread for thread in _threads(pid) if thread not in held]
        if not new:
            return
        for thread in new:
            if library.ptrace(SEIZE, thread, None, None) < 0:
                code = ctypes.get_errno()
                if code == errno.ESRCH:  # ended meanwhile
                    continue
                raise UsageError(_refusal(pid, code))
            held.append(thread)
            library.ptrace(INTERRUPT, thread, None, None)
        for thread in new:
            if thread in held:
                _wait_for_stop(pid, thread)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        raise UsageError(f"process {pid} has ended") from None


def _wait_for_stop(pid: int, thread: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            found, _ = os.waitpid(thread, WALL | os.WNOHANG)
        except ChildProcessError:
            return  # it has ended
        if found:
            return
        time.sleep(0.0002)
    raise UsageError(f"process {pid}: thread {thread} did not stop within {STOP_SECONDS:g} s; look without --pause")


def _refusal(pid: int, code: int) -> str:
    tracer = status_of(pid).get("TracerPid", "0")
    if tracer != "0":
        return f"process {pid} is traced by process {tracer} already (a debugger): look without --pause"
    return (
        f"process {pid} may not be held ({os.strerror(code)}): run as root or with SYS_PTRACE, or look without --pause"
    )
