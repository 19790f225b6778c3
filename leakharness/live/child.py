"""A service that is started as a child of the tool: where tracing is restricted to children, it may be read."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Sequence

from leakharness.errors import UsageError

__all__ = ["service"]

FORWARDED = (signal.SIGTERM, signal.SIGHUP)
"""What the tool is sent is meant for the service; Ctrl-C reaches both by the terminal."""
END_SECONDS = 10.0
"""How long the service may take to end before it is killed."""


@contextlib.contextmanager
def service(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``command``; end it with the block. Raises UsageError where it cannot be started."""
    try:
        child = subprocess.Popen(list(command))
    except OSError as error:
        raise UsageError(f"{command[0]}: cannot be started: {error.strerror or error}") from None
    before = {number: signal.getsignal(number) for number in FORWARDED}
    for number in FORWARDED:
        signal.signal(number, lambda received, _: child.send_signal(received))
    try:
        yield child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(END_SECONDS)
