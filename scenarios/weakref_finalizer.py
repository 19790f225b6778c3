"""A finalizer whose callback reaches the object that it waits for: the object never dies.

Why it leaks. ``weakref.finalize(obj, callback, *args)`` calls back when ``obj`` is gone, and until then holds
callback and arguments strongly, in a registry of its module. A bound method of ``obj``, or a closure that
mentions it, is a strong reference to ``obj``: the finalizer waits for a death that it prevents. A plain
``weakref.ref(obj, callback)`` that is stored somewhere does the same. It is easy to miss because everything
else about the object is clean: no cycle, no registry of one's own, and ``atexit`` calls the finalizer after
all, so that tests of it pass.

The fix: give the finalizer what it needs and no more: a function at module level (or a static method) and the
bare handle.
"""

from __future__ import annotations

import weakref

from leakharness import Run, Scenario

scenario = Scenario("weakref-finalizer", summary="a finalizer's closure holds the object whose death it waits for")

OPEN_HANDLES: set[int] = set()


class Session:
    """Owns a handle that must be closed when the session is gone."""

    def __init__(self, handle: int, size: int) -> None:
        self.handle = handle
        self.buffer = bytes(size)
        OPEN_HANDLES.add(handle)


@scenario.mode("closure-extracted", must="PASS", default=True, abort="none")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: the finalizer holds the handle, not the session."""
    session = run.track(Session(run.index, run.scope_bytes))
    weakref.finalize(session, OPEN_HANDLES.discard, session.handle)


@scenario.mode("closure-inline", must="FAIL", abort="none")
def closure_inline(run: Run) -> None:
    """The shape before the fix: the callback closes over the session."""
    session = run.track(Session(run.index, run.scope_bytes))

    def close() -> None:
        OPEN_HANDLES.discard(session.handle)

    weakref.finalize(session, close)
