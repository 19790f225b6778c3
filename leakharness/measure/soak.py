"""Measuring for a given time (``--soak``): batches that grow, a series of bounded length, a line a minute.

The series is what takes memory here, and what the judge walks through at each look. Once it has so many batches, every
second reading is dropped and the batches to come are twice as large: it keeps equal distances, and covers all runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leakharness.measure.measurement import Measurement, WorkerClient
from leakharness.model import Plan
from leakharness.units import duration, seconds_of, signed, signed_size
from leakharness.worker.protocol import RUNS, A, Question

__all__ = ["PacedWorker", "soak_seconds", "thin_out"]

MOST_BATCHES = 80
"""Batches from which on every second reading is dropped: the forty that are left are as many as the judge asks of a
series that swings (``judge.policy.LASTING_BATCHES``)."""
LINE_SECONDS = 60.0
"""Between two lines that say how far the soak is."""
PIECE_SECONDS = 5.0
"""A batch is asked for in pieces of about so long, for lines to be in time."""
TOLD = ("tracked", "objects", "blocks", "entries", "fds", "threads", "rss")
"""Counters of which a line says what they rose by."""


def soak_seconds(plan: Plan) -> float | None:
    """How long to measure, in seconds; None where that was not asked for."""
    return None if plan.soak is None else seconds_of(plan.soak)


def thin_out(measurement: Measurement) -> None:
    """Drop every second reading of a series that has become too long, and double what a batch is from here on."""
    if len(measurement.readings) > MOST_BATCHES:
        del measurement.readings[1::2]
        measurement.iters *= 2


@dataclass
class PacedWorker:
    """A worker that makes its runs in pieces, and ``tell``s once a minute how far the soak is."""

    worker: WorkerClient
    measurement: Measurement
    seconds: float
    tell: Callable[[str], None]
    clock: Callable[[], float]
    run_seconds: float = 0.0
    """Of one run, by the last piece."""

    def __post_init__(self) -> None:
        self._began = self._told = self.clock()

    @property
    def pid(self) -> int:
        return self.worker.pid

    def request(self, question: Question[A], *arguments: Any, doing: str = "") -> A:
        """As the worker answers. Raises NotJudged as it does."""
        if question.op != RUNS.op:
            return self.worker.request(question, *arguments, doing=doing)
        left, made = int(arguments[0]), 0
        while True:
            piece = max(1, int(PIECE_SECONDS / self.run_seconds)) if self.run_seconds else left
            piece = min(left, piece)
            began = self.clock()
            answer = self.worker.request(question, piece, doing=doing)
            now = self.clock()
            self.run_seconds = (now - began) / max(1, piece)
            left, made = left - piece, made + piece
            if now - self._told >= LINE_SECONDS:
                self._told = now
                self.tell(self._line(now - self._began, made))
            if left <= 0:
                return answer

    def _line(self, elapsed: float, made: int) -> str:
        """How far it is, and what has grown since the baseline, by the last reading; ``made``: runs since that."""
        measurement = self.measurement
        line = f"{duration(elapsed)} of {duration(self.seconds)}, {measurement.runs + made:,} runs"
        if not measurement.readings:
            return f"{line}, warming up"
        first, last = measurement.readings[0].counters, measurement.readings[-1].counters
        risen = {name: last[name] - first[name] for name in TOLD if name in first and name in last}
        words = [f"{name} {signed_size(by) if name == 'rss' else signed(by)}" for name, by in risen.items()]
        return f"{line}; since the baseline: {', '.join(words)}"
