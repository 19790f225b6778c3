"""Ending a check that hangs in the pytest process itself: the judging process rings, this one raises.

The clock is the judge's, so that the measured process has no thread and no timer more than the program has; SIGALRM
and its timer stay the program's. What never returns to the interpreter (C code that waits with signals held back)
cannot be ended like this: a forked copy can.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from leakharness.worker.unpatched import os, signal, time

__all__ = ["Alarm", "Hung", "ending_by_sigterm", "ringing_after"]

SIGNAL = getattr(signal, "SIGURG", None)
"""By default it is ignored (signal(7)): one that comes too late does nothing. Windows has none."""
AGAIN_S = 1.0
"""Seconds until it rings again: a body may have caught what was raised in it."""


class Hung(BaseException):
    """Raised in the body that hangs; no Exception, so that the body's own handlers let it pass."""


class Alarm:
    """A context manager: while it is open, the judge's ring raises Hung in the main thread. Everything is restored
    on leaving. Does nothing where signals cannot be had."""

    def __init__(self, *, wanted: bool = True) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self.armed = wanted and SIGNAL is not None and in_main_thread
        self.rang = False
        self.rang_after = 0.0
        """Seconds from the start of the check."""
        self._began = time.monotonic()
        self._before: Any = None

    def __enter__(self) -> Alarm:
        if self.armed:
            assert SIGNAL is not None
            self._before = signal.signal(SIGNAL, self._ring)
        return self

    def __exit__(self, *exc: object) -> None:
        was_armed, self.armed = self.armed, False
        if was_armed:
            assert SIGNAL is not None
            signal.signal(SIGNAL, self._before if self._before is not None else signal.SIG_DFL)

    def _ring(self, number: int, frame: Any) -> None:
        if self.armed:
            if not self.rang:
                self.rang, self.rang_after = True, time.monotonic() - self._began
            raise Hung


@contextlib.contextmanager
def ending_by_sigterm() -> Iterator[None]:
    """While this is open, SIGTERM ends the session as Ctrl-C does: with pytest's own summary of what failed so far.
    Nothing where the program, or another plugin, has a handler of its own."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt("SIGTERM")

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def ringing_after(seconds: float, pid: int) -> Iterator[None]:
    """In the judge's process: ring in process ``pid`` after ``seconds``, and again until this is left."""
    done = threading.Event()

    def wait() -> None:
        left = seconds
        while not done.wait(left):
            left = AGAIN_S
            with contextlib.suppress(OSError):
                os.kill(pid, SIGNAL)  # type: ignore[arg-type]  # asked for only where there is one

    clock = threading.Thread(target=wait, name="leakharness timeout", daemon=True)
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()
