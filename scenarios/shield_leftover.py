"""``asyncio.shield`` outlives the caller that gave up, and with it the request it works for.

Why it leaks. ``await asyncio.wait_for(asyncio.shield(work), timeout)`` bounds the caller's patience without
killing the work: when the deadline expires, or the caller is cancelled, only the outer future ends. The inner
task goes on. If what it waits for never answers (a wedged provider, a lock whose owner died, a queue nobody
fills), it waits for ever: the provider's future holds the task by its wake-up callback, the task holds its
coroutine, the coroutine its arguments and locals. Nothing warns: the task is pending, not lost.

The fix: whoever shields decides who ends the work. Here the caller cancels it when it gives up; work that
must outlive its caller needs a deadline of its own, and arguments that hold no more than it needs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from leakharness import Run, Scenario

scenario = Scenario("shield-leftover", summary="a shielded task on a wedged provider outlives its caller")

PATIENCE_S = 30.0


class Upload:
    """What the work is done for."""

    def __init__(self, size: int) -> None:
        self.data = bytes(size)


async def store(upload: Upload, provider: asyncio.Future[Any]) -> int:
    """Hand the upload to the provider, which never answers."""
    await provider
    return len(upload.data)


@scenario.mode("closure-extracted", must="PASS", default=True, abort="cancel")
async def closure_extracted(run: Run) -> int:
    """The shape of the fix: when the caller gives up, the work ends too."""
    upload = run.track(Upload(run.scope_bytes))
    work = asyncio.ensure_future(store(upload, run.wedged()))
    try:
        return await asyncio.wait_for(asyncio.shield(work), PATIENCE_S)
    finally:
        work.cancel()


@scenario.mode("closure-inline", must="FAIL", abort="cancel")
async def closure_inline(run: Run) -> int:
    """The shape before the fix: the caller ends, the shielded work waits on."""
    upload = run.track(Upload(run.scope_bytes))
    work = asyncio.ensure_future(store(upload, run.wedged()))
    return await asyncio.wait_for(asyncio.shield(work), PATIENCE_S)
