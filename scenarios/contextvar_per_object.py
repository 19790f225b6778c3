"""A context variable made per object stays in the thread's context for ever.

Why it leaks. ``ContextVar.set`` writes into the current context, which holds both the variable and its value
strongly. Code that is no task (a worker thread, a synchronous request handler) runs in the thread's own
context, which lives as long as the thread. A variable made in a constructor or a closure can never be reset
by anyone else: when its object dies, the context still holds the variable, and through it the last value. The
documentation of ``contextvars`` says so: make variables at module level, never in closures.

The fix: one variable at module level, set for the time it is needed, and reset by its token in ``finally``.
"""

from __future__ import annotations

from contextvars import ContextVar

from leakharness import Run, Scenario

scenario = Scenario("contextvar-per-object", summary="a ContextVar made per object stays in the thread's context")


class Session:
    """What the variable gives the code below access to."""

    def __init__(self, size: int) -> None:
        self.rows = bytes(size)


CURRENT: ContextVar[Session] = ContextVar("current_session")


class RequestFailed(Exception):
    """The request ends by an error, as some do."""


def handle(current: ContextVar[Session]) -> None:
    """The code below: it finds its session in the context."""
    raise RequestFailed(len(current.get().rows))


@scenario.mode("closure-extracted", must="PASS", default=True, abort="raise")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: the module's variable, reset when the request ends."""
    token = CURRENT.set(run.track(Session(run.scope_bytes)))
    try:
        handle(CURRENT)
    finally:
        CURRENT.reset(token)


@scenario.mode("closure-inline", must="FAIL", abort="raise")
def closure_inline(run: Run) -> None:
    """The shape before the fix: a variable of this request's own, set in the thread's context."""
    current: ContextVar[Session] = ContextVar("current_session")
    current.set(run.track(Session(run.scope_bytes)))
    handle(current)
