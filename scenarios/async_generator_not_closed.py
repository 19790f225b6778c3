"""An async generator that is left in the middle waits for a finalizer that its own registration prevents.

Why it leaks. A driver keeps its open cursors in a table, to close them at shutdown, and a cursor takes itself
out in its ``finally``. The consumer of ``async for row in cursor`` is cancelled in the body of the loop: the
generator is suspended at its ``yield`` and does not see the cancellation; ``async for`` never closes what it
iterates over. The ``finally`` would run when the generator is collected, but the table holds it, and it
leaves the table only in its ``finally``.

The same without a table: a generator that is part of a reference cycle, or is left behind when the loop
stops, runs its ``finally`` late, in another context, or never (PEP 525, PEP 789).

The fix: ``async with contextlib.aclosing(cursor)`` around the loop, so that leaving the block closes the
generator.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from leakharness import Run, Scenario

scenario = Scenario(
    "async-generator-not-closed",
    summary="a cancelled consumer leaves its async generator suspended and registered",
)

OPEN_CURSORS: dict[int, AsyncGenerator[bytes, None]] = {}


class Page:
    """The rows that the cursor has fetched."""

    def __init__(self, size: int) -> None:
        self.rows = bytes(size)


async def fetch(number: int, page: Page) -> AsyncGenerator[bytes, None]:
    """The rows of one query. Takes itself out of the table when it is closed."""
    try:
        while True:
            yield page.rows[:80]
    finally:
        del OPEN_CURSORS[number]


def open_cursor(number: int, page: Page) -> AsyncGenerator[bytes, None]:
    """Start a query and remember it, to close it at shutdown."""
    cursor = OPEN_CURSORS[number] = fetch(number, page)
    return cursor


async def send_to_client(row: bytes) -> None:
    """The client has stopped reading."""
    await asyncio.get_running_loop().create_future()


@scenario.mode("closure-extracted", must="PASS", default=True, abort="cancel")
async def closure_extracted(run: Run) -> None:
    """The shape of the fix: leaving the block closes the cursor."""
    async with aclosing(open_cursor(run.index, run.track(Page(run.scope_bytes)))) as cursor:
        async for row in cursor:
            await send_to_client(row)


@scenario.mode("closure-inline", must="FAIL", abort="cancel")
async def closure_inline(run: Run) -> None:
    """The shape before the fix: the cancelled loop leaves the cursor where it is."""
    async for row in open_cursor(run.index, run.track(Page(run.scope_bytes))):
        await send_to_client(row)
