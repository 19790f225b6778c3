"""An event loop of one's own whose cancelled timers stay in its set of pending tasks: kafka-python 3.0.1.

Why it leaks. An event loop must hold the tasks that it will run, so kafka-python's puts each into a set when
it is scheduled, and takes it out when it has run. A request arms a timer for its timeout and cancels it when
the reply comes, which is nearly always. Cancelling took the timer out of the heap and left the task in the
set: one task for every request that was answered in time, with the coroutine that never started and what it
closes over.

The fix (kafka-python 3.0.2, dpkp/kafka-python #3077): cancelling retires the task, out of heap and set, and
closes its coroutine.

Real code::

    leakharness prove kafka-cancelled-timer --before kafka-python==3.0.1 --after kafka-python==3.0.2 \\
        --target kafka.net.selector:NetworkSelector
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Coroutine
from typing import Any

from leakharness import Run, Scenario

scenario = Scenario(
    "kafka-cancelled-timer",
    summary="a cancelled timer's task stays in the pending set of the client's own event loop",
)

REQUEST_TIMEOUT_S = 30.0


class Request:
    """What the timeout would be for."""

    def __init__(self, size: int) -> None:
        self.buffer = bytes(size)


class Task:
    """A coroutine function that waits for its time."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.function = function
        self.scheduled_at = 0.0

    def __lt__(self, other: Task) -> bool:
        return self.scheduled_at < other.scheduled_at


class Selector:
    """As much of an event loop as timers need."""

    def __init__(self) -> None:
        self.scheduled: list[Task] = []
        self.pending: set[Task] = set()

    def call_later(self, delay: float, function: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        task = Task(function)
        task.scheduled_at = time.monotonic() + delay
        heapq.heappush(self.scheduled, task)
        self.pending.add(task)
        return task

    def unschedule(self, task: Task) -> None:
        self.scheduled.remove(task)
        heapq.heapify(self.scheduled)

    def unschedule_and_retire(self, task: Task) -> None:
        self.unschedule(task)
        self.pending.discard(task)


SELECTOR = Selector()


@scenario.setup
def serve(run: Run) -> None:
    """For ``production``: the installed client's event loop."""
    global real_selector
    if run.mode == "production":
        real_selector = run.target()()


real_selector: Any = None


@scenario.mode("closure-extracted", must="PASS", default=True, abort="none")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: a cancelled timer leaves heap and set."""
    request = run.track(Request(run.scope_bytes))

    async def on_timeout() -> None:
        del request.buffer

    task = SELECTOR.call_later(REQUEST_TIMEOUT_S, on_timeout)
    SELECTOR.unschedule_and_retire(task)


@scenario.mode("closure-inline", must="FAIL", abort="none")
def closure_inline(run: Run) -> None:
    """The shape before the fix: a cancelled timer leaves the heap only."""
    request = run.track(Request(run.scope_bytes))

    async def on_timeout() -> None:
        del request.buffer

    task = SELECTOR.call_later(REQUEST_TIMEOUT_S, on_timeout)
    SELECTOR.unschedule(task)


@scenario.mode(
    "production",
    must="PASS",
    abort="none",
    needs={"kafka": "pip install kafka-python"},
    needs_target=True,
)
def production(run: Run) -> None:
    """The installed kafka-python: a request whose reply comes in time."""
    request = run.track(Request(run.scope_bytes))

    async def on_timeout() -> None:
        del request.buffer

    task = real_selector.call_later(REQUEST_TIMEOUT_S, on_timeout)
    real_selector.unschedule(task)
    real_selector.poll(timeout_ms=0)
