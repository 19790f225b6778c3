"""An agent gateway's aborted run, in the lexical shape in which such runs leak.

The gateway wraps the provider's future so that the run can be abandoned. When the provider hangs past the abort,
its future stays pending for ever, and so does every callback that is still registered on it. Before the fix the
wrapper was written inline, inside the runner: its settle callback closes over the whole run (transcript, tool
buffers, subscriptions). The fix moves it to module scope, where a callback can only close over its own arguments,
and takes the callback back when the run is abandoned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from leakharness import Run, Scenario

scenario = Scenario(
    "embedded-run",
    summary="a callback on a wedged provider's future closes over the aborted run's transcript",
    mimics="gateway.attempt:run_embedded_attempt",
)


class Transcript:
    """What a run has said so far: a payload of ``--scope-bytes``, and lines that are added to it.

    The payload is reserved, not written: a thousand retained runs are then gigabytes of address space and of
    retained size, but not of the machine's memory.
    """

    def __init__(self, size: int) -> None:
        self.payload = bytes(size)
        self.lines: list[str] = []


class AbortSignal:
    """Tells listeners that the run was abandoned, as a caller's abort controller would."""

    def __init__(self) -> None:
        self.aborted = False
        self.listeners: list[Callable[[], None]] = []

    def abort(self) -> None:
        self.aborted = True
        for listener in self.listeners:
            listener()


def make_scope(run: Run) -> tuple[Transcript, list[bytes], list[Callable[[str], None]]]:
    """A run's payload: the transcript, tool buffers of a quarter of it, and subscriptions that write to it."""
    transcript = run.track(Transcript(run.scope_bytes))
    buffers = [bytes(run.scope_bytes // 4)]
    subscriptions: list[Callable[[str], None]] = [transcript.lines.append]
    return transcript, buffers, subscriptions


async def abortable(provider: asyncio.Future[Any], signal: AbortSignal) -> Any:
    """Await ``provider`` until it settles or ``signal`` aborts. At module scope: closes over its arguments only."""
    waiter = asyncio.get_running_loop().create_future()

    def on_settled(_: Any = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    provider.add_done_callback(on_settled)
    signal.listeners.append(on_settled)
    try:
        await waiter
    finally:
        provider.remove_done_callback(on_settled)
        signal.listeners.remove(on_settled)
    return None if signal.aborted else provider.result()


@scenario.mode("closure-extracted", must="PASS", default=True, abort="cancel")
async def closure_extracted(run: Run) -> None:
    """The shape of the fix: the wrapper is a helper at module scope."""
    transcript, buffers, subscriptions = make_scope(run)
    signal = AbortSignal()
    provider = run.wedged()
    for publish in subscriptions:
        publish("run started")
    await abortable(provider, signal)
    for publish in subscriptions:
        publish(f"{len(transcript.lines)} {len(buffers)}")


@scenario.mode("closure-inline", must="FAIL", abort="cancel")
async def closure_inline(run: Run) -> None:
    """The shape before the fix: the settle callback is written inside the runner and closes over the run."""
    transcript, buffers, subscriptions = make_scope(run)
    signal = AbortSignal()
    provider = run.wedged()
    waiter = asyncio.get_running_loop().create_future()

    def on_settled(_: Any = None) -> None:
        for publish in subscriptions:
            publish(f"{len(transcript.lines)} {len(buffers)}")
        if not waiter.done():
            waiter.set_result(None)

    for publish in subscriptions:
        publish("run started")
    provider.add_done_callback(on_settled)
    signal.listeners.append(on_settled)
    await waiter


@scenario.mode("production", must="PASS", abort="cancel", needs_target=True)
async def production(run: Run) -> None:
    """The real helper: ``--target module:attribute`` names an async ``abortable(provider, signal)``."""
    transcript, buffers, subscriptions = make_scope(run)
    signal = AbortSignal()
    provider = run.wedged()
    for publish in subscriptions:
        publish("run started")
    await run.target()(provider, signal)
    for publish in subscriptions:
        publish(f"{len(transcript.lines)} {len(buffers)}")
