"""Fire-and-forget tasks kept in a set, from which nobody takes them out.

Why it leaks. The event loop holds tasks only weakly, so a task that nobody references may vanish in the
middle of its work. The usual cure is a module-level set that keeps a strong reference. But a finished task is
as strongly held as a running one: it keeps its result (or its exception, with frames and locals), its context
with every context variable's value, and its finished coroutine. A service that answers a request and records
it in the background keeps one such task for every request.

The fix: ``task.add_done_callback(tasks.discard)``, in the same line of thought as the ``add``. On Python 3.11
a ``TaskGroup`` that lives as long as the service does the same by itself.
"""

from __future__ import annotations

import asyncio

from leakharness import Run, Scenario

scenario = Scenario("task-set", summary="finished fire-and-forget tasks stay in the set that kept them alive")


class Receipt:
    """What the background task returns: what was sent, and where to."""

    def __init__(self, size: int) -> None:
        self.copy = bytes(size)


BACKGROUND: set[asyncio.Task[Receipt]] = set()


async def deliver(receipt: Receipt) -> Receipt:
    """The work in the background."""
    await asyncio.sleep(0)
    return receipt


async def next_request() -> None:
    """The handler waits for its client, until it is cancelled."""
    await asyncio.get_running_loop().create_future()


@scenario.mode("closure-extracted", must="PASS", default=True, abort="cancel")
async def closure_extracted(run: Run) -> None:
    """The shape of the fix: a task leaves the set when it is done."""
    task = asyncio.create_task(deliver(run.track(Receipt(run.scope_bytes))))
    BACKGROUND.add(task)
    task.add_done_callback(BACKGROUND.discard)
    await next_request()


@scenario.mode("closure-inline", must="FAIL", abort="cancel")
async def closure_inline(run: Run) -> None:
    """The shape before the fix: kept alive while it runs, and for ever after."""
    task = asyncio.create_task(deliver(run.track(Receipt(run.scope_bytes))))
    BACKGROUND.add(task)
    await next_request()
