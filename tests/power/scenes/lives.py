"""What a run leaves behind lives for a while: no leak. Each has a leaky twin, which keeps one object a run for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from leakharness import Run, Scenario

TTL_S = 0.8
KEPT: list[Any] = []
CACHE: dict[int, tuple[float, Any]] = {}


class Session:
    """What is kept for a while."""

    def expire(self) -> None:
        """Called by a timer."""


def _cached() -> None:
    """A cache that drops what is too old when it is next used."""
    now = time.monotonic()
    while CACHE and next(iter(CACHE.values()))[0] < now - TTL_S:
        del CACHE[next(iter(CACHE))]
    session = Session()
    CACHE[id(session)] = (now, session)


ttl = Scenario("ttl-cache", summary="a cache whose entries live for a while")


@ttl.mode("clean", must="PASS", default=True, abort="none")
def ttl_clean(run: Run) -> None:
    _cached()


@ttl.mode("leaky", must="FAIL", abort="none")
def ttl_leaky(run: Run) -> None:
    _cached()
    KEPT.append(Session())


timers = Scenario("timers", summary="a timer a run, due in a while")


@timers.mode("clean", must="PASS", default=True, abort="none")
async def timers_clean(run: Run) -> None:
    asyncio.get_running_loop().call_later(TTL_S, run.track(Session()).expire)


@timers.mode("leaky", must="FAIL", abort="none")
async def timers_leaky(run: Run) -> None:
    asyncio.get_running_loop().call_later(TTL_S, Session().expire)
    KEPT.append(run.track(Session()))
