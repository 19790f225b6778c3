"""The analysis of a heap has a budget of its own: it explains a verdict, and must neither hold it up nor change it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from leakharness.errors import LeakHarnessError

__all__ = ["ANALYSIS_SECONDS", "EXPLAIN_SECONDS", "within"]

ANALYSIS_SECONDS = 60.0
"""How long it may take to work out who holds what: a heap of ten million objects takes half of it."""
EXPLAIN_SECONDS = 180.0
"""How long the measured process is kept for questions once the verdict is known, whatever is left of its own time."""

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T], doing: str) -> T:
    """``work()``, for so long. Raises LeakHarnessError where it takes longer, and whatever it raises itself.

    It is done in a thread that nothing waits for, because what numpy does cannot be broken off.
    """
    answers: list[T] = []
    faults: list[BaseException] = []

    def call() -> None:
        try:
            answers.append(work())
        except BaseException as exc:
            faults.append(exc)

    thread = threading.Thread(target=call, name=f"leakharness {doing}", daemon=True)
    thread.start()
    thread.join(seconds)
    if faults:
        raise faults[0]
    if not answers:
        raise LeakHarnessError(f"{doing} was given up after {seconds:g} s")
    return answers[0]
