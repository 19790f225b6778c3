"""Joining a job of a thread pool adds a callback that cannot be taken back.

Why it leaks. ``concurrent.futures.Future`` has ``add_done_callback`` and no way to remove one.
``asyncio.wrap_future`` (and ``loop.run_in_executor``, which uses it) adds such a callback for every caller,
and the callback closes over the caller's asyncio future. A job that many callers join and give up on (an
index that is built for minutes, a model that loads, a connection attempt that hangs) collects one callback
per caller, with the future and whatever hangs on it, until it is done.

The fix: wrap the job once, and let callers wait on the asyncio side, where callbacks can be removed:
``await asyncio.shield(wrapped)`` takes its callback back when the caller is cancelled.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor

from leakharness import Run, Scenario

scenario = Scenario("executor-future", summary="callers that join a pool's job and give up stay among its callbacks")


class Service:
    """A job in a thread that takes longer than anyone's patience, and its one asyncio future."""

    job: Future[bool]
    wrapped: asyncio.Future[bool]


@scenario.setup
async def serve() -> AsyncIterator[None]:
    """Start the job; end it when the runs are over."""
    done = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        Service.job = pool.submit(done.wait)
        Service.wrapped = asyncio.wrap_future(Service.job)
        yield
        done.set()
        await Service.wrapped


@scenario.mode("closure-extracted", must="PASS", default=True, abort="cancel")
async def closure_extracted(run: Run) -> bool:
    """The shape of the fix: the job was wrapped once; the caller waits on the asyncio side."""
    return await run.track(asyncio.shield(Service.wrapped), "joined")


@scenario.mode("closure-inline", must="FAIL", abort="cancel")
async def closure_inline(run: Run) -> bool:
    """The shape before the fix: each caller wraps the job anew."""
    return await run.track(asyncio.wrap_future(Service.job), "joined")
