"""Cancelling ``await socket.poll()`` of pyzmq 25.1.0 leaves the inner poll in the socket's queue.

Why it leaks. An asyncio poll of a ZeroMQ socket is a chain of three futures: the one that the caller awaits,
the poller's, and a watcher that waits in the socket's queue until something can be received. Each inner
future holds the next outer one through the closure of its done callback. Cancelling the caller's future must
therefore travel inwards, or the watcher stays queued until the next message, which on a quiet socket never
comes; and it keeps the poller, both futures and their callbacks for every poll that was ever cancelled (a
heartbeat that polls with ``asyncio.wait_for`` cancels one a second). In 25.1.0 the step from the caller's
future to the poller's was missing.

The fix (pyzmq 25.1.1, zeromq/pyzmq #1889): a done callback on the outer future cancels the inner one.

Real code::

    leakharness prove pyzmq-poll-cancel --before pyzmq==25.1.0 --after pyzmq==25.1.1
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from leakharness import Run, Scenario

scenario = Scenario(
    "pyzmq-poll-cancel",
    summary="a cancelled poll leaves its inner future in the socket's queue",
    mimics="zmq._future:_AsyncSocket.poll",
)

READABLE = 1


class QuietSocket:
    """A socket that never becomes readable: futures queue up on it until they are done."""

    def __init__(self) -> None:
        self.recv_futures: deque[asyncio.Future[None]] = deque()

    def add_recv_event(self, watcher: asyncio.Future[None]) -> None:
        self.recv_futures.append(watcher)
        watcher.add_done_callback(self.recv_futures.remove)


class Poller:
    """Waits for any of its sockets. Cancelling what ``poll`` returns takes the watcher out of the queue."""

    def __init__(self) -> None:
        self.sockets: list[QuietSocket] = []

    def register(self, socket: QuietSocket, flags: int) -> None:
        self.sockets.append(socket)

    def poll(self, timeout: float | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        watcher: asyncio.Future[None] = loop.create_future()
        for socket in self.sockets:
            socket.add_recv_event(watcher)

        def on_poll_ready(_: Any) -> None:
            if not future.done() and not watcher.cancelled():
                future.set_result([(socket, READABLE) for socket in self.sockets])

        def cancel_watcher(_: Any) -> None:
            if not watcher.done():
                watcher.cancel()

        watcher.add_done_callback(on_poll_ready)
        future.add_done_callback(cancel_watcher)
        return future


QUIET = QuietSocket()


@scenario.setup
async def serve(run: Run) -> AsyncIterator[None]:
    """For ``production``: one real socket that nobody sends to, as long as the process lives."""
    global real_socket
    if run.mode != "production":
        yield
        return
    import zmq
    import zmq.asyncio

    context = zmq.asyncio.Context()
    real_socket = context.socket(zmq.PULL)
    real_socket.bind("inproc://leakharness-quiet")
    yield
    real_socket.close(0)
    context.destroy(0)


real_socket: Any = None


def poll(run: Run, self: QuietSocket, timeout: float | None, flags: int) -> asyncio.Future[int]:
    """``_AsyncSocket.poll`` of 25.1.0: nobody tells the inner poll that the outer one was cancelled."""
    p = Poller()
    p.register(self, flags)
    f = p.poll(timeout)
    future = run.track(asyncio.get_running_loop().create_future(), "poll")

    def unwrap_result(f: Any) -> None:
        if future.done():
            return
        if f.cancelled():
            try:
                future.cancel()
            except RuntimeError:
                pass
            return
        if f.exception():
            future.set_exception(f.exception())
        else:
            evts = dict(f.result())
            future.set_result(evts.get(self, 0))

    if f.done():
        unwrap_result(f)
    else:
        f.add_done_callback(unwrap_result)
    return future


def poll_cancelling(run: Run, self: QuietSocket, timeout: float | None, flags: int) -> asyncio.Future[int]:
    """``_AsyncSocket.poll`` of 25.1.1: the outer poll, once done, cancels the inner one."""
    p = Poller()
    p.register(self, flags)
    poll_future: Any = p.poll(timeout)
    future = run.track(asyncio.get_running_loop().create_future(), "poll")

    def unwrap_result(f: Any) -> None:
        if future.done():
            return
        if poll_future.cancelled():
            try:
                future.cancel()
            except RuntimeError:
                pass
            return
        if poll_future.exception():
            future.set_exception(poll_future.exception())
        else:
            evts = dict(poll_future.result())
            future.set_result(evts.get(self, 0))

    if poll_future.done():
        unwrap_result(poll_future)
    else:
        poll_future.add_done_callback(unwrap_result)

    def cancel_poll(future: asyncio.Future[Any]) -> None:
        if not poll_future.done():
            poll_future.cancel()

    future.add_done_callback(cancel_poll)
    return future


@scenario.mode("closure-extracted", must="PASS", default=True, abort="cancel")
async def closure_extracted(run: Run) -> None:
    """The shape of the fix."""
    await poll_cancelling(run, QUIET, None, READABLE)


@scenario.mode("closure-inline", must="FAIL", abort="cancel")
async def closure_inline(run: Run) -> None:
    """The shape before the fix."""
    await poll(run, QUIET, None, READABLE)


@scenario.mode("production", must="PASS", abort="cancel", needs={"zmq": "pip install 'leakharness[pyzmq]'"})
async def production(run: Run) -> None:
    """The installed pyzmq: one poll of a quiet socket, cancelled while it waits."""
    await run.track(real_socket.poll(), "poll")
