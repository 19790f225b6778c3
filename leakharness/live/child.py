"""A service that is started as a child of the tool: where tracing is restricted to children, it may be read."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence

from leakharness.errors import UsageError

__all__ = ["Service", "service"]

FORWARDED = (signal.SIGTERM, signal.SIGHUP)
"""What the tool is sent is meant for the service."""
END_SECONDS = 30.0
"""How long the service may take to end once it was told to, before it is told more firmly: it finishes what it is asked
meanwhile. As long as Kubernetes gives it."""


class Service:
    """A service that runs as long as it likes, until it is told to end: then it has a deadline."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._deadline: threading.Timer | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def was_told_to_end(self) -> bool:
        return self._deadline is not None

    def wait(self) -> int:
        """Its exit code, once it has ended. Ctrl-C meanwhile is the service's, which has its deadline then."""
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return self._process.wait()

    def forward(self, number: int, frame: object = None) -> None:
        """Pass a signal on. SIGTERM tells it to end."""
        self._process.send_signal(number)
        if number == signal.SIGTERM:
            self._insist_later(signal.SIGKILL)

    def interrupt(self, number: int, frame: object) -> None:
        """Ctrl-C, or SIGINT that was sent to the tool alone: the service gets it once. Raises KeyboardInterrupt."""
        if not _in_foreground():
            self._process.send_signal(number)
        self._insist_later(signal.SIGTERM)
        raise KeyboardInterrupt

    def close(self) -> None:
        """End it, where it has not ended."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(END_SECONDS)
        if self._deadline is not None:
            self._deadline.cancel()

    def _insist_later(self, number: int) -> None:
        """Send ``number`` in END_SECONDS, unless something is to be sent anyway; after SIGTERM, SIGKILL."""
        if self._deadline is None:
            self._deadline = threading.Timer(END_SECONDS, self._insist, [number])
            self._deadline.daemon = True
            self._deadline.start()

    def _insist(self, number: int) -> None:
        self._process.send_signal(number)
        if number != signal.SIGKILL:
            self._deadline = None
            self._insist_later(signal.SIGKILL)


@contextlib.contextmanager
def service(command: Sequence[str]) -> Iterator[Service]:
    """Start ``command``; end it with the block. Raises UsageError where it cannot be started."""
    try:
        child = Service(subprocess.Popen(list(command)))
    except OSError as error:
        raise UsageError(f"{command[0]}: cannot be started: {error.strerror or error}") from None
    before = {number: signal.getsignal(number) for number in (*FORWARDED, signal.SIGINT)}
    for number in FORWARDED:
        signal.signal(number, child.forward)
    if before[signal.SIGINT] is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, child.interrupt)
    try:
        yield child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        child.close()


def _in_foreground() -> bool:
    """Whether a terminal sends Ctrl-C to the service too: it does to all processes of the foreground."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
