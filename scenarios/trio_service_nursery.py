"""A task started in the nursery of the service outlives the request that started it.

Why it leaks. trio has no fire-and-forget: a task belongs to a nursery, and a nursery ends when its tasks do. A service
that wants to answer first and work later therefore keeps one nursery open for its whole life and starts tasks in it.
Such a task is outside of the request's cancel scope. When the client goes away, the request is cancelled and the
task is not: if what it waits for never comes (a provider that is wedged, an event that nobody sets), it waits for
ever, and the nursery holds it with its coroutine, its arguments and all of its locals. Nothing warns, as the nursery is
meant to have tasks in it.

The fix: work of a request belongs into a nursery of the request, so that one cancel scope ends both. Work that must
outlive its request needs a deadline of its own (``trio.fail_after``) and arguments that hold no more than it needs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from leakharness import Run, Scenario

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import trio

scenario = Scenario(
    "trio-service-nursery",
    summary="a task in the service's nursery outlives the request that started it",
    backend="trio",
)


class Upload:
    """What the work is done for."""

    def __init__(self, size: int) -> None:
        self.data = bytes(size)


SERVICE: list[trio.Nursery] = []


@scenario.setup
async def serve() -> AsyncIterator[None]:
    """The nursery that is open as long as the service runs."""
    import trio

    async with trio.open_nursery() as nursery:
        SERVICE.append(nursery)
        yield
        nursery.cancel_scope.cancel()


async def store(upload: Upload, provider: Awaitable[None]) -> int:
    """Hand the upload to the provider, which never answers."""
    await provider
    return len(upload.data)


@scenario.mode("closure-extracted", must="PASS", default=True, abort="cancel")
async def closure_extracted(run: Run) -> None:
    """The shape of the fix: the task is in a nursery of the request, and is cancelled with it."""
    import trio

    upload = run.track(Upload(run.scope_bytes))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store, upload, run.wedged())


@scenario.mode("closure-inline", must="FAIL", abort="cancel")
async def closure_inline(run: Run) -> None:
    """The shape before the fix: the request is cancelled, the task in the service's nursery waits on."""
    upload = run.track(Upload(run.scope_bytes))
    provider = run.wedged()
    SERVICE[0].start_soon(store, upload, provider)
    await provider
