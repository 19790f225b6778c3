"""Stores of which the scenario says at how many entries they stop: one that does, one that does not."""

from __future__ import annotations

import collections
import functools
import random
import time
from typing import Any

from leakharness import Run, Scenario

MOST = 3_000
STOPS: dict[int, Any] = {}
GOES_ON: dict[int, Any] = {}


class Session:
    pass


store = Scenario("store", bounded={"scenarios.bounded:STOPS": MOST})
beyond = Scenario("beyond", bounded={"scenarios.bounded:GOES_ON": MOST})
nowhere = Scenario("nowhere", bounded={"scenarios.bounded:GONE": MOST})


@store.mode("clean", must="PASS", default=True, abort="none")
def stops(run: Run) -> None:
    STOPS[run.index] = Session()
    if len(STOPS) > MOST:
        del STOPS[next(iter(STOPS))]


@beyond.mode("leaky", must="FAIL", default=True, abort="none")
def goes_on(run: Run) -> None:
    GOES_ON[run.index] = Session()


@nowhere.mode("clean", must="PASS", default=True, abort="none")
def names_what_is_not_there(run: Run) -> None:
    GOES_ON[run.index] = Session()


cache = Scenario("cache", summary="a bounded cache is keyed by closures that hold sessions")


@functools.lru_cache(maxsize=200)
def attachments(answer: Any) -> frozenset[str]:
    return frozenset()


@cache.mode("clean", must="PASS", default=True, abort="none")
def cached(run: Run) -> None:
    session = run.track(Session())
    attachments((run.index, session))


@functools.lru_cache(maxsize=4_000)
def signed(moment: int) -> list[object]:
    return [moment, [moment]]


by_clock = Scenario("by-clock")
left_behind: list[object] = []


@by_clock.mode("bounded", must="PASS", default=True, abort="none")
def by_clock_bounded(run: Run) -> None:
    """A cache that gets an entry every so often by the clock, and is never full within any budget."""
    time.sleep(0.004)
    signed(int(time.monotonic() * 50))


@by_clock.mode("leaky", must="FAIL", abort="none")
def by_clock_leaky(run: Run) -> None:
    by_clock_bounded(run)
    left_behind.append([])


windows = Scenario("windows", summary="bounded windows, of keys that come ever more rarely")
WINDOWS = {host: collections.deque[bytes](maxlen=12) for host in range(24)}
BY_USER: dict[int, Any] = {}


def rare(most: int) -> int:
    return min(most, int(random.lognormvariate(1.6, 0.9)))


@windows.mode("bounded", must="PASS", default=True, abort="none")
def of_few_hosts(run: Run) -> None:
    """Some are full at once, and some get an entry in a hundred runs."""
    WINDOWS[rare(23)].append(bytes(100))


@windows.mode("leaky", must="FAIL", abort="none")
def beside_a_leak(run: Run) -> None:
    of_few_hosts(run)
    left_behind.append([])


@windows.mode("ever-more", must="FAIL", abort="none")
def of_ever_more_users(run: Run) -> None:
    """Each window is bounded, their number is not."""
    if random.random() < 0.2:
        BY_USER[run.index] = collections.deque([(i,) for i in range(8)], maxlen=12)
