"""What was there at the baseline goes, and as much comes to stay: no sum of anything moves.

Each clean twin lets the same go, and keeps nothing, or puts what is new in its place.
"""

from __future__ import annotations

import collections
from typing import Any

from leakharness import Run, Scenario

OLD = 20_000
"""What is there before the first run; more than any run takes away."""


class Job:
    """Has no container of its own."""

    __slots__ = ("__weakref__",)


JOBS = collections.deque(Job() for _ in range(OLD))
DONE: list[Job] = []
exchange = Scenario("exchange", summary="a queue drains, and as many new objects come to stay in a list")


@exchange.mode("leaky", must="FAIL", abort="none")
def exchange_leaky(run: Run) -> None:
    if run.index % 2:
        DONE.append(Job())
    else:
        JOBS.popleft()


@exchange.mode("clean", must="PASS", default=True, abort="none")
def exchange_clean(run: Run) -> None:
    if run.index % 2:
        JOBS.append(Job())
    JOBS.popleft()


LINES = [f"{i:0100}" for i in range(OLD)]
SEEN: dict[int, Any] = {}
text = Scenario("text", summary="lines of text go, and as many come to stay in a dict")


@text.mode("leaky", must="FAIL", abort="none")
def text_leaky(run: Run) -> None:
    LINES.pop()
    SEEN[run.index] = f"{run.index:0100}"


@text.mode("clean", must="PASS", default=True, abort="none")
def text_clean(run: Run) -> None:
    LINES.pop()
    SEEN[run.index % 100] = f"{run.index:0100}"


SHARDS: list[dict[int, Job]] = [{} for _ in range(7)]
shards = Scenario("shards", summary="a cache in seven parts of which one is emptied in its turn")


def _cached(run: Run) -> None:
    shard = SHARDS[run.index // 50 % 7]
    if run.index % 50 == 0:
        shard.clear()
    shard[run.index] = Job()


@shards.mode("leaky", must="FAIL", abort="none")
def shards_leaky(run: Run) -> None:
    _cached(run)
    DONE.append(Job())


@shards.mode("clean", must="PASS", default=True, abort="none")
def shards_clean(run: Run) -> None:
    _cached(run)


CHAIN: list[Any] = []
for _ in range(OLD):
    CHAIN = [CHAIN]
BESIDE: list[Any] = []
chain = Scenario("chain", summary="a chain gets shorter by a link a run, beside a chain that gets longer")


@chain.mode("leaky", must="FAIL", abort="none")
def chain_leaky(run: Run) -> None:
    global CHAIN, BESIDE
    CHAIN = CHAIN[0]
    BESIDE = [BESIDE, Job()]


@chain.mode("clean", must="PASS", default=True, abort="none")
def chain_clean(run: Run) -> None:
    global CHAIN
    CHAIN = CHAIN[0]
