"""Growth that is followed is read ever more rarely, and by no fewer readings than tell it from what falls back."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from conftest import grown_by
from test_runner_loop import STILL, FakeWorker, growing, result_of

from leakharness.judge.verdict import assess
from leakharness.measure.following import every_second
from leakharness.model import Plan, Reading


def series(*objects: int) -> list[Reading]:
    return [Reading(f"batch-{n}", 10 * n, {**STILL, "objects": value}, {}) for n, value in enumerate(objects)]


@pytest.mark.parametrize("iters", [5, 10, 20, 50])
def test_a_small_batch_costs_no_more_readings_than_a_large_one(iters: int) -> None:
    """A reading costs as much as many runs: small batches would make each leak a measurement of seconds."""
    worker = FakeWorker(growing(objects=2))
    result = result_of(worker, Plan(iters=iters, iters_given=True, warmup=40))
    assert (result.verdict, grown_by(result)) == ("FAIL", {"objects": 2.0})
    assert 2560 <= worker.runs <= 2560 + 512
    assert worker.asked.count("read") <= 45
    runs = [reading.runs for reading in result.series]
    assert {b - a for a, b in itertools.pairwise(runs)} == {runs[1]}, "equal batches"


def test_a_larger_batch_is_made_of_calls_as_large_as_before() -> None:
    """What each call leaves behind stays in proportion to the runs: the figure is the same as with batches of ten."""
    calls: list[int] = []

    class Counting(FakeWorker):
        def answer_runs(self, count: int) -> dict[str, Any]:
            calls.append(count)
            return super().answer_runs(count)

    worker = Counting(lambda runs: {**STILL, "objects": 7 * runs + 3 * calls.count(10)})
    result = result_of(worker, Plan(iters=10, iters_given=True, warmup=0))
    assert set(calls) == {10}
    assert (result.verdict, grown_by(result)) == ("FAIL", {"objects": 7.3})


def test_half_of_the_readings_of_even_growth_are_enough() -> None:
    readings = series(*range(0, 110, 10))
    half = every_second(readings, assess(readings))
    assert half == readings[::2]
    assert assess(half).state == "grows"


@pytest.mark.parametrize("count", [10, 12], ids=["four batches of it", "no whole half"])
def test_fewer_than_the_judge_needs_are_not_halved(count: int) -> None:
    readings = series(*range(0, 10 * count, 10))
    assert every_second(readings, assess(readings)) is None


def test_readings_that_show_a_fall_stay() -> None:
    """A store that is emptied about once in two batches would look like slow growth."""
    objects = [100 * n - (30 if n % 2 else 0) for n in range(21)]
    objects = [value - (80 if n == 7 else 0) for n, value in enumerate(objects)]
    readings = series(*objects)
    assert every_second(readings, assess(readings)) is None


def test_growth_of_bytes_alone_is_read_as_before() -> None:
    """Its steps are uneven: each reading says something."""

    def counters(runs: int) -> Mapping[str, int]:
        return {**STILL, "malloc_bytes": 10_000 + 3000 * runs}

    readings = [Reading(f"batch-{n}", 10 * n, counters(10 * n), {}) for n in range(11)]
    found = assess(readings)
    assert found.state == "grows"
    assert every_second(readings, found) is None
