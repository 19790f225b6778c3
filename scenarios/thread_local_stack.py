"""A stack in a thread-local grows by what a failing run does not pop.

Why it leaks. What is stored in a ``threading.local`` lives as long as the thread, and the threads of a pool
live as long as the service. Tracing libraries, database sessions and template engines keep a stack of open
scopes there: push on entry, pop on exit. A run that ends by an exception between the two leaves its scope on
the stack of whichever thread served it; the next run on that thread pushes on top of it.

The fix: push and pop in one context manager whose pop is in ``finally``; or a context variable with its
token, which is bound to the run and not to the thread that happens to serve it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from leakharness import Run, Scenario

scenario = Scenario("thread-local-stack", summary="a failing run leaves its scope on the pool thread's stack")


class Span:
    """One traced operation, with what was attached to it."""

    def __init__(self, size: int) -> None:
        self.attributes = bytes(size)


class Spans(threading.local):
    """Open spans of this thread, innermost last."""

    def __init__(self) -> None:
        self.stack: list[Span] = []


class HandlerFailed(Exception):
    """The handler ends by an error."""


SPANS = Spans()


@contextmanager
def entered(span: Span) -> Iterator[None]:
    """``span`` is open for the time of the block, however it ends."""
    SPANS.stack.append(span)
    try:
        yield
    finally:
        SPANS.stack.pop()


def fail() -> None:
    raise HandlerFailed


@scenario.setup
def serve() -> Iterator[None]:
    """A pool of one thread that serves every run."""
    global pool
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield


pool: ThreadPoolExecutor


@scenario.mode("closure-extracted", must="PASS", default=True, abort="raise")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: what was pushed is popped in ``finally``."""

    def handle() -> None:
        with entered(run.track(Span(run.scope_bytes))):
            fail()

    pool.submit(handle).result()


@scenario.mode("closure-inline", must="FAIL", abort="raise")
def closure_inline(run: Run) -> None:
    """The shape before the fix: the pop is the last line."""

    def handle() -> None:
        SPANS.stack.append(run.track(Span(run.scope_bytes)))
        fail()
        SPANS.stack.pop()

    pool.submit(handle).result()
