"""A listener that is added for one run and removed only when the run ends well.

Why it leaks. A bus, a signal, a configuration store live as long as the process; their listeners are held in
a list. A run adds a listener that closes over the run, and takes it back in its last line. A run that is
aborted never reaches the last line: the listener stays, is called for every later event, and keeps what it
closes over. Besides memory it costs time: each event is handed to every run that was ever aborted.

The fix: taking back belongs into ``finally``, or into a context manager that adds and removes in one place.
The listener itself is a bound method or a function that gets what it needs, not a closure over the whole run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from leakharness import Run, Scenario

scenario = Scenario("listener-list", summary="an aborted run leaves its listener on a bus that lives on")

Listener = Callable[[str], None]


class Bus:
    """Lives as long as the service."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        self.listeners.append(listener)
        try:
            yield
        finally:
            self.listeners.remove(listener)


class Conversation:
    """What a run has heard so far."""

    def __init__(self, size: int) -> None:
        self.payload = bytes(size)
        self.heard: list[str] = []


BUS = Bus()


async def answer() -> None:
    """The run waits for an answer, and is aborted meanwhile."""
    await asyncio.get_running_loop().create_future()


@scenario.mode("closure-extracted", must="PASS", default=True, abort="cancel")
async def closure_extracted(run: Run) -> None:
    """The shape of the fix: the listener is there for the time of the ``with`` block."""
    conversation = run.track(Conversation(run.scope_bytes))
    with BUS.listening(conversation.heard.append):
        await answer()


@scenario.mode("closure-inline", must="FAIL", abort="cancel")
async def closure_inline(run: Run) -> None:
    """The shape before the fix: the last line is never reached."""
    conversation = run.track(Conversation(run.scope_bytes))

    def on_event(text: str) -> None:
        conversation.heard.append(text)

    BUS.listeners.append(on_event)
    await answer()
    BUS.listeners.remove(on_event)
