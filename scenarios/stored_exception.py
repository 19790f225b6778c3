"""One exception object, raised again and again, collects the frames of everyone who ever met it.

Why it leaks. A connection that broke keeps the error and raises it on every later use, so that callers learn
why. Raising an exception object that was raised before does not start a new traceback: the new entries are
put in front of the old ones. Each entry holds its frame, each frame its locals, and the locals of a request
are the request. The stored exception lives as long as the connection, and with it every request that was ever
refused.

The same happens to a future whose ``set_exception`` is followed by many ``result()`` calls, to a cached
import error, and to a module-level sentinel exception that is raised instead of a fresh one.

The fix: keep what is needed to make the error, and raise a new object each time (``raise copy from None``);
or take the traceback off before each raise (``raise stored.with_traceback(None)``), where callers do not
share threads.
"""

from __future__ import annotations

from leakharness import Run, Scenario

scenario = Scenario("stored-exception", summary="a stored exception that is raised again keeps every caller's frame")


class Request:
    """What a caller holds in its locals."""

    def __init__(self, size: int) -> None:
        self.body = bytes(size)


class PeerClosed(ConnectionError):
    """The peer went away."""


class Connection:
    """Broken for good: it says so on every use."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.error = PeerClosed(reason)

    def send_or_raise_stored(self, body: bytes) -> None:
        raise self.error

    def send_or_raise_new(self, body: bytes) -> None:
        raise PeerClosed(self.reason)


CONNECTION = Connection("closed by peer")


@scenario.mode("closure-extracted", must="PASS", default=True, abort="raise")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: a new exception for each caller."""
    request = run.track(Request(run.scope_bytes))
    CONNECTION.send_or_raise_new(request.body)


@scenario.mode("closure-inline", must="FAIL", abort="raise")
def closure_inline(run: Run) -> None:
    """The shape before the fix: the one stored exception is raised, and grows by this frame."""
    request = run.track(Request(run.scope_bytes))
    CONNECTION.send_or_raise_stored(request.body)
