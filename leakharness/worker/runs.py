"""Making runs end as their mode declares: cancelled, past a deadline, by an exception, or by themselves.

No harness frame, task or timer outlives a run: the event loop is driven from plain code, one run at a time, and
an exception is looked at and let go without being changed (the program may keep it, and then that is the leak).
"""

from __future__ import annotations

import opcode
from collections.abc import Callable
from typing import Any

from leakharness.scenario.declare import Mode, Run
from leakharness.worker.exception_text import formatted, text_of
from leakharness.worker.tracker import Untrackable
from leakharness.worker.unpatched import os, signal, time

__all__ = ["RunFailed", "Runs"]

CANCEL_GRACE_S = 5.0
"""How long a cancelled run may go on cleaning up, in seconds, before it counts as not ended."""
TRACEBACK_LINES = 40
"""Lines of a traceback that are kept for the report."""
TEXT_KEPT = 300
"""Characters of an exception's own text that are repeated."""
ENDINGS_KEPT = 4
"""Exceptions that ended runs, told apart by type and place, of which the text is kept."""
MISTAKES = (NameError, ImportError, SyntaxError)
"""In the scenario's own file and not by a ``raise``, these say that the fixture is broken, not that it was aborted."""
FIRST_LARGE_INT = 257
"""CPython has the smaller ones as cached objects (Include/internal/pycore_runtime_structs.h, _PY_NSMALLPOSINTS)."""
RAISE = opcode.opmap["RAISE_VARARGS"]
"""What a ``raise`` statement is compiled to, in every version."""


class RunFailed(Exception):
    """A run did not end as declared. Carries text only: a reason in one sentence and a traceback."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class _DeadlineExpired(TimeoutError):
    """Raised inside a plain function whose mode declares ``abort="timeout"``."""


class Runs:
    """Makes runs of one mode. ``after_run`` is called when a run has ended (the planted leak hooks in there)."""

    def __init__(self, mode: Mode, run: Run, loop: Any, after_run: Callable[[], None] | None = None) -> None:
        self._mode = mode
        self._run = run
        self._loop = loop
        self._after_run = after_run
        self._last_waiter = 0
        self._started = 0.0
        self._cancelled_at = 0.0
        self._stuck = False
        self._armed = False
        self._endings: dict[str, str] = {}
        self._spare: int | None = int("1000")  # the block that the run's index takes once it is a large int
        if mode.abort == "timeout" and not mode.is_async and not hasattr(signal, "setitimer"):
            raise RunFailed(
                f"{mode.where}: abort='timeout' for a plain function needs SIGALRM, which this platform lacks; "
                "make the mode async"
            )

    def make(self, count: int) -> None:
        """Make ``count`` runs. Raises RunFailed for the first that does not end as declared."""
        one = self._async_run if self._mode.is_async else self._plain_run
        pid = os.getpid()
        for _ in range(count):
            one()
            if os.getpid() != pid:
                os._exit(0)  # a child that the run has forked and let go on: it makes no runs of its own
            if self._after_run is not None:
                self._after_run()
            self._run.index += 1
            if self._spare is not None and self._run.index >= FIRST_LARGE_INT:
                self._spare = None

    def endings(self) -> str:
        """Which exceptions ended the runs, in words; empty where none did."""
        kinds = list(self._endings.values())
        more = ", …" if len(kinds) == ENDINGS_KEPT else ""
        return ("runs" if kinds[1:] else "every run") + f" ended by {', by '.join(kinds)}{more}" if kinds else ""

    # -- plain functions

    def _plain_run(self) -> None:
        failure = None
        try:
            if self._mode.abort == "timeout":
                self._until_the_deadline()
            else:
                self._mode.function(self._run)
        except _DeadlineExpired as exc:
            failure = None if self._mode.abort == "timeout" else self._unexpected(exc)
        except BaseException as exc:
            failure = self._judge_exception(exc)
        else:
            if self._mode.abort != "none":
                failure = self._returned()
        if failure is not None:
            raise failure

    def _until_the_deadline(self) -> None:
        """One run under an alarm, which may come at any moment, also before and after the function itself."""
        previous = signal.signal(signal.SIGALRM, self._expire)
        try:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self._mode.abort_after)
            self._mode.function(self._run)
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, previous)

    def _expire(self, number: int, frame: Any) -> None:
        if self._armed:
            self._armed = False
            raise _DeadlineExpired("the deadline of the run expired")

    # -- async functions

    def _async_run(self) -> None:
        loop, mode = self._loop, self._mode
        coroutine = mode.function(self._run)
        if mode.abort == "timeout":
            import asyncio

            coroutine = asyncio.wait_for(coroutine, mode.abort_after)
        task = loop.create_task(coroutine)
        del coroutine
        task.add_done_callback(self._stop)
        if mode.abort == "cancel":
            self._started = time.monotonic()
            self._last_waiter, self._cancelled_at, self._stuck = 0, 0.0, False
            loop.call_soon(self._watch, task)
        try:
            loop.run_forever()
        except BaseException as exc:  # SystemExit and KeyboardInterrupt leave the loop as they are
            failure: RunFailed | None = self._unexpected(exc)
        else:
            failure = self._judge_task(task)
        if failure is not None:
            raise failure

    def _stop(self, _: Any) -> None:
        self._loop.stop()

    def _watch(self, task: Any) -> None:
        """Cancel ``task`` once it waits: it has the same awaited future in two turns of the loop.

        Asks again every turn instead of setting a timer: a timer handle would outlive the run in the loop's heap.
        """
        if task.done():
            return
        now = time.monotonic()
        if self._cancelled_at:
            if now - self._cancelled_at > CANCEL_GRACE_S:
                self._stuck = True
                self._loop.stop()
                return
        else:
            waiter = id(getattr(task, "_fut_waiter", None) or 0)
            waits = waiter == self._last_waiter and getattr(task, "_fut_waiter", None) is not None
            self._last_waiter = waiter
            if waits and now - self._started >= self._mode.abort_after:
                self._cancelled_at = now
                task.cancel()
        self._loop.call_soon(self._watch, task)

    def _judge_task(self, task: Any) -> RunFailed | None:
        style = self._mode.abort
        if self._stuck:
            return self._fail(f"was still going {CANCEL_GRACE_S:g} s after it was cancelled")
        if not task.done():
            return self._fail("stopped the event loop before it ended")
        if task.cancelled():
            return None if style == "cancel" else self._fail(f"was cancelled, but its mode declares abort={style!r}")
        exc = task.exception()
        try:
            if exc is None:
                return None if style == "none" else self._returned()
            if style == "timeout" and isinstance(exc, _timeout_error()):
                return None
            return self._judge_exception(exc)
        finally:
            del exc

    # -- what came of it

    def _judge_exception(self, exc: BaseException) -> RunFailed | None:
        if isinstance(exc, Untrackable):
            return self._fail(str(exc))
        if self._mode.abort == "raise" and isinstance(exc, Exception):
            return self._ended_by(exc)
        return self._unexpected(exc)

    def _ended_by(self, exc: Exception) -> RunFailed | None:
        """Note which exception was the declared end of a run, and refuse one that nobody meant. Strings are kept,
        and only for what was not seen before: no run leaves anything behind here."""
        last = exc.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        if last is None:
            return None
        code, line = last.tb_frame.f_code, last.tb_lineno
        at = last.tb_lasti
        del last
        key = f"{type(exc).__name__} {code.co_filename}:{line}"
        if key in self._endings:
            return None
        if len(self._endings) < ENDINGS_KEPT:
            self._endings[key] = f"{_in_words(exc)} ({code.co_filename}:{line})"
        if self._is_a_mistake(exc, code.co_filename) and code.co_code[at] != RAISE:
            failure = self._unexpected(exc)
            failure.reason += f" at {code.co_filename}:{line}; if that abort is meant, write it as a raise statement"
            return failure
        return None

    def _is_a_mistake(self, exc: Exception, file: str) -> bool:
        """Whether this exception, which no ``raise`` made, is one of the fixture itself: a name or module that is
        not there, something that a Run does not have, or a call of the mode's function that did not reach it."""
        if file == RunFailed.__init__.__code__.co_filename:
            return isinstance(exc, TypeError)
        if isinstance(exc, AttributeError):
            return isinstance(getattr(exc, "obj", None), Run)
        return isinstance(exc, MISTAKES) and file == self._mode.where.rpartition(":")[0]

    def _unexpected(self, exc: BaseException) -> RunFailed:
        text = formatted(exc).splitlines()[-TRACEBACK_LINES:]
        return self._fail(f"raised {_in_words(exc)} (declared: abort={self._mode.abort!r})", "\n".join(text))

    def _returned(self) -> RunFailed:
        if self._cancelled_at and self._mode.abort == "cancel":
            return self._fail("returned although it was cancelled (it swallows CancelledError)")
        return self._fail(f"returned by itself, but its mode declares abort={self._mode.abort!r}")

    def _fail(self, what: str, detail: str = "") -> RunFailed:
        return RunFailed(f"run {self._run.index} of mode {self._mode.name!r} {what}", detail)


def _in_words(exc: BaseException) -> str:
    """Type and text, in one line."""
    try:
        text = " ".join(text_of(exc).split())[:TEXT_KEPT]
    except Exception:  # an exception's own __str__ may fail
        text = ""
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _timeout_error() -> tuple[type[BaseException], ...]:
    import asyncio

    return (TimeoutError, asyncio.TimeoutError)
