"""trio beside plain code: a guest run whose ticks are made one by one, so that it stands still between the runs.

``trio.run`` would end its loop with each run, and with it every task that a run has left in a nursery of the service:
the leak that is sought. A guest run (``trio.lowlevel.start_guest_run``) goes on. Its clock says that there is never
time to sleep, so trio asks for events without waiting and needs no thread of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from leakharness.scenario.never_set import NeverSet
from leakharness.worker.exception_text import text_of
from leakharness.worker.runs import CANCEL_GRACE_S, RunFailed, Runs
from leakharness.worker.unpatched import time

__all__ = ["TrioLoop", "TrioRuns"]

BUSY_TURNS = 100
"""Ticks after which a task that stands at the same place is said to wait, although other tasks are never at rest."""
IDLE_S = 0.0005
"""Pause between two ticks where every task waits: they would take the whole processor."""


class _NoTimeToSleep:
    """A ``trio.abc.Clock``: real time, and never a moment to sleep until a deadline."""

    def start_clock(self) -> None: ...

    def current_time(self) -> float:
        return time.perf_counter()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0


class TrioLoop:
    """One guest run of trio, for the life of this process. ``call_soon``, ``call_later``, ``stop`` and
    ``run_forever`` are what readings need of an event loop, as asyncio has them; a turn is a tick."""

    def __init__(self) -> None:
        import trio

        self.trio: Any = trio
        self._tick: Callable[[], object] | None = None
        self._fault = ""
        self._timers: list[tuple[float, Callable[[], object]]] = []
        self._running = False
        started: list[bool] = []
        trio.lowlevel.start_guest_run(
            _stay,
            started,
            trio.sleep_forever,
            run_sync_soon_threadsafe=self._schedule,
            done_callback=self._ended,
            host_uses_signal_set_wakeup_fd=True,  # the program's own handlers stay as they are
            clock=_NoTimeToSleep(),  # type: ignore[arg-type]
        )
        while not started:  # before trio 0.23 the first turns make the loop
            self.turn()

    def _schedule(self, tick: Callable[[], object]) -> None:
        self._tick = tick

    def _ended(self, outcome: Any) -> None:
        self._fault = f"trio's loop has ended: {getattr(outcome, 'error', outcome)!r}"

    def break_off(self, reason: str) -> None:
        """Say why nothing can run here any more."""
        self._fault = self._fault or reason

    def turn(self) -> None:
        """One tick: every task that can go on goes on. Raises RunFailed where the loop, or the set-up, has ended."""
        tick, self._tick = self._tick, None
        if self._fault or tick is None:
            raise RunFailed(self._fault or "trio's loop has nothing to go on with")
        tick()

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.call_later(0.0, callback)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        self._timers.append((time.monotonic() + seconds, callback))

    def stop(self) -> None:
        self._running = False

    def run_forever(self) -> None:
        """Turn until ``stop``, and at least once."""
        self._running = True
        while self._running:
            self.turn()
            now = time.monotonic()
            due = [callback for when, callback in self._timers if when <= now]
            self._timers = [timer for timer in self._timers if timer[0] > now]
            for callback in due:
                callback()
            if self._running and self.at_rest():
                time.sleep(IDLE_S)

    def at_rest(self) -> bool:
        """Whether every task waits."""
        return bool(self.trio.lowlevel.current_statistics().tasks_runnable == 0)

    def living_tasks(self) -> int:
        return int(self.trio.lowlevel.current_statistics().tasks_living)

    def create_future(self) -> NeverSet:
        return NeverSet()

    def set_up(self, started: Any) -> Callable[[], None]:
        """Run a coroutine to its end, or an async generator to its ``yield``. Returns the tear-down, in the same task,
        as trio's nurseries and cancel scopes demand."""
        over = self.trio.Event()
        ready: list[bool] = []
        ended: list[BaseException | None] = []
        self.trio.lowlevel.spawn_system_task(_serve, started, ready, over, ended, self)
        while not (ready or ended):
            self.turn()

        def tear_down() -> None:
            over.set()
            while not ended:
                self.turn()
            error, ended[0] = ended[0], None
            if error is not None:
                raise error

        if ended and ended[0] is not None:
            tear_down()
        return tear_down


async def _stay(started: list[bool], sleep_forever: Callable[[], Any]) -> None:
    started.append(True)
    await sleep_forever()


async def _serve(started: Any, ready: list[bool], over: Any, ended: list[BaseException | None], loop: TrioLoop) -> None:
    try:
        if inspect.iscoroutine(started):
            await started
        else:
            await _from_set_up_to_tear_down(started, ready, over)
    except BaseException as exc:
        loop.break_off(f"the set-up of the scenario ended by {type(exc).__name__}: {text_of(exc)}")
        ended.append(exc)
    else:
        ended.append(None)
    ready.append(True)


async def _from_set_up_to_tear_down(generator: Any, ready: list[bool], over: Any) -> None:
    async for _ in generator:
        break
    ready.append(True)
    try:
        await over.wait()
    except BaseException as exc:  # a task in a nursery of the set-up has failed: the nursery is told
        await generator.athrow(exc)
    async for _ in generator:
        break


class TrioRuns(Runs):
    """Runs of an async mode under trio, each a task of its own: cancelled by a cancel scope, or past a deadline."""

    def _async_run(self) -> None:
        loop: TrioLoop = self._loop
        trio = loop.trio
        scope = trio.CancelScope()
        ended: list[BaseException | None] = []
        task = trio.lowlevel.spawn_system_task(self._one, scope, ended, name=self._mode.function)
        self._cancelled_at, self._stuck = 0.0, False
        began = time.monotonic()
        place, turns, may_cancel = None, 0, self._mode.abort == "cancel"
        while not (ended or self._stuck):
            loop.turn()
            now = time.monotonic()
            last, place = place, _waits_at(task)
            turns = turns + 1 if place is last else 0
            at_rest = turns > 0 and loop.at_rest()
            if self._cancelled_at:
                self._stuck = now - self._cancelled_at > CANCEL_GRACE_S
            elif may_cancel and (at_rest or turns >= BUSY_TURNS) and now - began >= self._mode.abort_after:
                self._cancelled_at = now
                scope.cancel()
                continue
            if at_rest and not ended:
                time.sleep(IDLE_S)
        del task, place, last
        failure = self._judge_end(ended, scope)
        if failure is not None:
            raise failure

    async def _one(self, scope: Any, ended: list[BaseException | None]) -> None:
        try:
            with scope if self._mode.abort == "cancel" else self._deadline():
                await self._mode.function(self._run)
        except BaseException as exc:
            ended.append(exc)
        else:
            ended.append(None)

    def _deadline(self) -> Any:
        trio = self._loop.trio
        return trio.fail_after(self._mode.abort_after) if self._mode.abort == "timeout" else trio.CancelScope()

    def _judge_end(self, ended: list[BaseException | None], scope: Any) -> RunFailed | None:
        style = self._mode.abort
        if not ended:
            return self._fail(f"was still going {CANCEL_GRACE_S:g} s after it was cancelled")
        exc = ended.pop()  # it holds the frame that holds the list
        try:
            if exc is None:
                ends_so = style == "none" or (style == "cancel" and scope.cancelled_caught)
                return None if ends_so else self._returned()
            if style == "timeout" and isinstance(exc, self._loop.trio.TooSlowError):
                return None
            return self._judge_exception(exc)
        finally:
            del exc


def _waits_at(task: Any) -> Any:
    """The innermost of what ``task`` awaits; None for one that has ended."""
    place: Any = task.coro
    while place is not None:
        inner = getattr(place, "cr_await", None) or getattr(place, "gi_yieldfrom", None)
        if inner is None:
            return place
        place = inner
    return None
