"""A timer that nobody cancels keeps its run until it fires.

Why it leaks. ``loop.call_later(delay, callback, *args)`` puts a handle into the loop's heap, and the handle
holds the callback and its arguments. An idle timeout of an hour, armed by every run, holds every run of the
last hour, also those that were aborted in their first second. Under load that is a leak that is given back
too late; with timers that re-arm themselves it is one for ever.

The fix: whoever arms a timer cancels it in ``finally``. ``TimerHandle.cancel`` drops callback and arguments
at once, although the empty handle may stay in the heap until its time or until enough of them are cancelled.
"""

from __future__ import annotations

import asyncio

from leakharness import Run, Scenario

scenario = Scenario("call-later-handle", summary="a timer that is not cancelled keeps the aborted run's arguments")

IDLE_S = 3600.0


class Lease:
    """What the timer is there to give back."""

    def __init__(self, size: int) -> None:
        self.buffer = bytes(size)
        self.expired = False

    def expire(self) -> None:
        self.expired = True


async def work() -> None:
    """The run waits, and is aborted meanwhile."""
    await asyncio.get_running_loop().create_future()


@scenario.mode("closure-extracted", must="PASS", default=True, abort="cancel")
async def closure_extracted(run: Run) -> None:
    """The shape of the fix: the timer ends with the run."""
    lease = run.track(Lease(run.scope_bytes))
    timer = asyncio.get_running_loop().call_later(IDLE_S, lease.expire)
    try:
        await work()
    finally:
        timer.cancel()


@scenario.mode("closure-inline", must="FAIL", abort="cancel")
async def closure_inline(run: Run) -> None:
    """The shape before the fix: the timer is cancelled only when the run ends well."""
    lease = run.track(Lease(run.scope_bytes))
    timer = asyncio.get_running_loop().call_later(IDLE_S, lease.expire)
    await work()
    timer.cancel()
