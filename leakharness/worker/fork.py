"""Forked copies of the measured process: started without leaving a trace in it, asked one thing, gone by a deadline."""

from __future__ import annotations

import contextlib
import select
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from leakharness.worker.codec import BadLine, decode, encode
from leakharness.worker.interpreters import hinders_forks
from leakharness.worker.protocol import A
from leakharness.worker.unpatched import os, signal, time

__all__ = ["CAN_FORK", "CopyFailed", "answer_of_copy", "ask_copy", "can_fork", "reap", "start_copy"]

CAN_FORK = hasattr(os, "fork")
IGNORE = ("ignore", None, DeprecationWarning, None, 0)
"""A row of ``warnings.filters``: (action, message, category, module, line)."""
CHUNK_BYTES = 1 << 16
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.0005, 0.05
"""Between two looks at whether a copy has ended: it is about to."""
END_SECONDS = 10.0
"""How long a copy that has answered, or has been killed, may take to be gone: the kernel frees its memory."""


class CopyFailed(Exception):
    """The copy gave no answer. ``how`` it came to that; ``late``: it was killed at its deadline."""

    def __init__(self, how: str, *, late: bool = False) -> None:
        super().__init__(f"the copy {how}")
        self.how = how
        self.late = late


def can_fork() -> bool:
    """Whether a copy of this process can be made, as it is now."""
    return CAN_FORK and not hinders_forks()


def start_copy(work: Callable[..., bool], *arguments: Any) -> int:
    """Fork, and call ``work(*arguments)`` in the copy, which then ends: with status 0 where that gives true. Returns
    the copy's pid, which the caller must :func:`reap`. Raises OSError where it cannot fork."""
    if hinders_forks():
        raise OSError("a process with sub-interpreters cannot fork before Python 3.13: the copy would hang")
    pid = _quiet_fork()
    if pid == 0:
        _live(work, *arguments)
    return pid


def _live(work: Callable[..., bool], *arguments: Any) -> NoReturn:
    """The copy's whole life. Nothing of the process behind it runs: no exit handler, no buffer is flushed."""
    status = 1
    try:
        status = 0 if work(*arguments) else 1
    finally:
        os._exit(status)


def ask_copy(work: Callable[[], bytes], seconds: float) -> bytes:
    """One line of ``work()``, called in a forked copy.

    Raises CopyFailed where the copy dies, or has not answered after ``seconds`` (it is killed then), and OSError
    where it cannot fork. The copy is gone afterwards, whatever the program does with SIGCHLD.
    """
    deadline = time.monotonic() + seconds
    receive, send = os.pipe()
    text: bytes | None = None
    try:
        try:
            pid = start_copy(_answer, work, receive, send)
        finally:
            os.close(send)
        try:
            text = _read_line(receive, deadline)
        finally:
            status = reap(pid, 0.0 if text is None else END_SECONDS)
    finally:
        os.close(receive)
    if text is None:
        raise CopyFailed(f"did not answer within {seconds:g} s", late=True)
    if not text.endswith(b"\n"):
        raise CopyFailed(_how(status))
    return text


def answer_of_copy(kind: type[A], work: Callable[[], A], seconds: float) -> A:
    """What ``work()`` gives in a forked copy, as one line of the codec.

    Raises CopyFailed for whatever comes instead: no copy, no answer within ``seconds``, a line that is no ``kind``."""
    try:
        # No function within this one: its cell would be in the copy, held by a running frame that shows it to nobody.
        return decode(kind, ask_copy(partial(_in_a_line, work), seconds))
    except OSError as exc:
        raise CopyFailed(f"could not be made: {exc}") from None
    except BadLine as exc:
        raise CopyFailed(f"gave no answer that can be read: {exc}") from None


def _in_a_line(work: Callable[[], Any]) -> bytes:
    return encode(work())


def reap(pid: int, seconds: float) -> int | None:
    """Wait for the child ``pid``, and kill it after ``seconds``. Its wait status; None where nobody can know it:
    SIGCHLD is ignored (wait(2), ECHILD), or the program waits for every child itself."""
    ended, status = _ended(pid, seconds)
    if not ended:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = _ended(pid, END_SECONDS)
    return status


def _ended(pid: int, seconds: float) -> tuple[bool, int | None]:
    """Whether the child has ended within ``seconds``, and its wait status."""
    end = time.monotonic() + seconds
    pause = FIRST_PAUSE_S
    while True:
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return True, None
        if done:
            return True, status
        left = end - time.monotonic()
        if left <= 0:
            return False, None
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _answer(work: Callable[[], bytes], receive: int, send: int) -> bool:
    os.close(receive)
    text = work()
    while text:
        text = text[os.write(send, text) :]
    return True


def _read_line(receive: int, deadline: float) -> bytes | None:
    """What comes up to the end of a line, or until the other end is closed; None if that takes too long."""
    ready = select.poll()  # select() knows only descriptors below 1,024
    ready.register(receive, select.POLLIN)
    parts: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not ready.poll(1000 * left):
            return None
        part = os.read(receive, CHUNK_BYTES)
        parts.append(part)
        if not part or part.endswith(b"\n"):
            return b"".join(parts)


def _how(status: int | None) -> str:
    if status is None:
        return "ended without an answer"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        return f"crashed by {signal.Signals(-code).name}"
    except ValueError:
        return f"crashed by signal {-code}"


def _quiet_fork() -> int:
    """``os.fork()`` without the warning of 3.12+ about threads: the child only reads memory and leaves by
    ``os._exit``, so a lock that another thread held is never waited for.

    The row is put into the list of filters and taken out again, because ``catch_warnings`` leaves its copy of the
    list behind, for the C code to hold; a census would see it. Nobody is told that the filters changed: every registry
    of warnings that were given would be emptied by that, and what the program leaks there with it.
    """
    if sys.version_info < (3, 12):
        return os.fork()
    rows: Any = warnings.filters  # a list, which typeshed no longer promises
    rows.insert(0, IGNORE)
    try:
        return os.fork()
    finally:
        rows.remove(IGNORE)
