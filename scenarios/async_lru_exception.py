"""A cache of coroutines that keeps the failed ones: async-lru 2.0.4.

Why it leaks. ``alru_cache`` stores a future for each key, so that callers who come meanwhile wait for the
same call. When the call fails, the future keeps the exception, the exception its traceback, the traceback the
frames of the call, and they keep its arguments and locals. A failed entry is thrown away only when the same
key is asked for again; keys that are never asked for again (ids, URLs with a token) stay. With
``maxsize=None`` for ever, else until enough others have pushed them out.

The fix (async-lru 2.0.5): the callback that sees the failure takes the key out of the cache.

Real code::

    leakharness prove async-lru-exception --before async-lru==2.0.4 --after async-lru==2.0.5 \\
        --target async_lru:alru_cache
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from leakharness import Run, Scenario

scenario = Scenario(
    "async-lru-exception",
    summary="a coroutine cache keeps the futures of failed calls, and their frames",
)


class Upstream(Exception):
    """The call failed."""


class Query:
    """What the failing call has in its locals."""

    def __init__(self, size: int) -> None:
        self.body = bytes(size)


CACHE: dict[int, asyncio.Future[int]] = {}
Done = Callable[["asyncio.Future[int]", int, "asyncio.Task[int]"], None]


async def fail(query: Query) -> int:
    """The call to be cached: the upstream refuses."""
    raise Upstream(f"refused {len(query.body)} bytes")


def keep_result(future: asyncio.Future[int], key: int, task: asyncio.Task[int]) -> None:
    """Pass on how the task ended."""
    error = task.exception()
    if error is not None:
        future.set_exception(error)
        return
    future.set_result(task.result())


def keep_result_or_forget(future: asyncio.Future[int], key: int, task: asyncio.Task[int]) -> None:
    """Pass on how the task ended, and keep no failure."""
    error = task.exception()
    if error is not None:
        CACHE.pop(key, None)
        future.set_exception(error)
        return
    future.set_result(task.result())


async def cached(key: int, call: Coroutine[Any, Any, int], done: Done) -> int:
    """The cached call: a future for the key, and the task that settles it."""
    loop = asyncio.get_running_loop()
    future = CACHE[key] = loop.create_future()
    task = loop.create_task(call)
    task.add_done_callback(lambda task: done(future, key, task))
    return await asyncio.shield(future)


@scenario.setup
def serve(run: Run) -> None:
    """For ``production``: the installed decorator around the failing call."""
    global fetch
    if run.mode == "production":

        async def call(key: int) -> int:
            return await fail(run.track(Query(run.scope_bytes)))

        fetch = run.target()(maxsize=None)(call)


fetch: Callable[[int], Coroutine[Any, Any, int]]


@scenario.mode("closure-extracted", must="PASS", default=True, abort="raise")
async def closure_extracted(run: Run) -> None:
    """The shape of the fix: a failed entry leaves the cache."""
    await cached(run.index, fail(run.track(Query(run.scope_bytes))), keep_result_or_forget)


@scenario.mode("closure-inline", must="FAIL", abort="raise")
async def closure_inline(run: Run) -> None:
    """The shape before the fix: a failed entry stays."""
    await cached(run.index, fail(run.track(Query(run.scope_bytes))), keep_result)


@scenario.mode(
    "production",
    must="PASS",
    abort="raise",
    needs={"async_lru": "pip install async-lru"},
    needs_target=True,
)
async def production(run: Run) -> None:
    """The installed async-lru: one key whose call fails."""
    await fetch(run.index)
