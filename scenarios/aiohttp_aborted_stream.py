"""A client that goes away in the middle of a stream stays subscribed.

Why it leaks. A handler that streams events has a queue for each client and enters it into a list, so that whoever has
news can put it there. When the client closes its connection the server cancels the handler, or its next write raises.
A handler that takes the queue out again in its last line only never gets to that line: the list keeps the queue, and
the queue all that is put into it from then on, for every client that ever left early. On a developer's machine
streams end by themselves; in production clients leave: a closed tab, a proxy's timeout, a phone in a tunnel.

The fix: ``try``/``finally`` (or a context manager) around the stream.

The scenario starts a real server on 127.0.0.1 in the measured process, and every run is a request over a real socket
that is aborted once the first event has come. It is a model for a scenario of your own service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from leakharness import Run, Scenario

if TYPE_CHECKING:
    from aiohttp import web

scenario = Scenario("aiohttp-aborted-stream", summary="a client that leaves in mid-stream stays subscribed")
AIOHTTP = {"aiohttp": "pip install aiohttp"}


class Subscription:
    """The events that one client has not got yet."""

    def __init__(self, size: int) -> None:
        self.events: asyncio.Queue[bytes] = asyncio.Queue()
        self.buffer = bytes(size)


SUBSCRIBERS: list[Subscription] = []
RUNS: list[Run] = []
PORT: list[int] = []
GONE: list[asyncio.Event] = []


async def stream(request: web.Request, subscription: Subscription) -> None:
    """Send the first event, and wait for more."""
    from aiohttp import web

    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"event: hello\n\n")
    await response.write(await subscription.events.get())


async def events_extracted(request: web.Request) -> None:
    """The handler after the fix: the subscription ends with the request, whatever ends it."""
    subscription = RUNS[0].track(Subscription(RUNS[0].scope_bytes))
    SUBSCRIBERS.append(subscription)
    try:
        await stream(request, subscription)
    finally:
        SUBSCRIBERS.remove(subscription)
        GONE[0].set()


async def events_inline(request: web.Request) -> None:
    """The handler before the fix: its last line is not reached when the client goes away."""
    subscription = RUNS[0].track(Subscription(RUNS[0].scope_bytes))
    SUBSCRIBERS.append(subscription)
    try:
        await stream(request, subscription)
        SUBSCRIBERS.remove(subscription)
    finally:
        GONE[0].set()


@scenario.setup
async def serve(run: Run) -> AsyncIterator[None]:
    """A real server, on a port that the system chooses."""
    from aiohttp import web

    RUNS.append(run)
    app = web.Application()
    app.router.add_get("/extracted", events_extracted)  # type: ignore[arg-type]
    app.router.add_get("/inline", events_inline)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    PORT.append(runner.addresses[0][1])
    yield
    await runner.cleanup()


async def leave_in_mid_stream(path: str) -> None:
    """One client: it reads the first event, and is gone. Returns when the handler has ended."""
    GONE[:] = [asyncio.Event()]
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT[0])
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"hello\n\n")
    writer.transport.abort()
    await GONE[0].wait()


@scenario.mode("closure-extracted", must="PASS", default=True, abort="none", needs=AIOHTTP)
async def closure_extracted(run: Run) -> None:
    """A request of the handler as it is after the fix, aborted in mid-stream."""
    await leave_in_mid_stream("/extracted")


@scenario.mode("closure-inline", must="FAIL", abort="none", needs=AIOHTTP)
async def closure_inline(run: Run) -> None:
    """The same request of the handler before the fix."""
    await leave_in_mid_stream("/inline")
