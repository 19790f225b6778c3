"""What a quick look passes, and what it leaves to the full measurement. Pure, but for a scripted worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import pytest
from test_runner_loop import STILL, FakeWorker

from leakharness.measure.batches import Batches
from leakharness.measure.loop import measure
from leakharness.measure.measurement import Measurement, Request
from leakharness.measure.quick_look import QuickPass, quick_look, runs_a_stretch, stands_still
from leakharness.model import Plan, Reading

WARM_UP = 1 + 2 + 4 + 60
SILENT = SimpleNamespace(phase=lambda *_: None, reading=lambda *_: None, suspected=lambda *_: None)


def looked_at(counters: Callable[[int], Mapping[str, int]], seconds: float = 0.0001) -> tuple[QuickPass | None, int]:
    """The answer, and the runs that were made."""
    worker = FakeWorker(counters, seconds_a_run=seconds)
    m = Measurement(Request("case.py", "scripted", "fixed"), Plan())
    return quick_look(Batches(m, worker, SILENT, worker.clock)), worker.runs


def rising(at: Callable[[int], int], counter: str = "objects") -> Callable[[int], Mapping[str, int]]:
    return lambda runs: {**STILL, counter: STILL[counter] + at(runs)}


@pytest.mark.parametrize(
    ("seconds", "runs"), [(0.00001, 60), (0.001, 50), (0.005, 10), (0.04, 2), (0.4, 2), (0.5, 1), (5.0, 1)]
)
def test_a_stretch_lasts_a_twentieth_of_a_second(seconds: float, runs: int) -> None:
    """At most 60 runs, at least two, and one where a run takes half a second."""
    assert runs_a_stretch(seconds) == runs


def test_what_stands_still_passes() -> None:
    """After a warm-up and five stretches; the reason says what would have shown."""
    passed, runs = looked_at(rising(lambda runs: 0))
    assert runs == WARM_UP + 5 * 60
    assert passed is not None
    assert "one object in 300 runs would have shown" in passed.reason
    assert passed.detectable.native_bytes_per_run == pytest.approx(2048 / 300)


@pytest.mark.parametrize("counter", ["objects", "blocks", "fds"])
@pytest.mark.parametrize("every", [1, 50, 100, 290])
def test_what_rises_now_and_then_does_not_pass(counter: str, every: int) -> None:
    """Also once in 290 runs: never five stretches of sixty without it."""
    passed, _ = looked_at(rising(lambda runs: runs // every, counter))
    assert passed is None


def test_what_settles_late_passes_after_more_stretches() -> None:
    """A table that is built in the second stretch: five still ones must follow."""
    passed, runs = looked_at(rising(lambda runs: int(runs > WARM_UP + 70)))
    assert passed is not None
    assert runs == WARM_UP + 7 * 60


def test_a_leak_is_left_after_three_stretches() -> None:
    """Nothing is called a leak here."""
    passed, runs = looked_at(rising(lambda runs: runs))
    assert passed is None
    assert runs == WARM_UP + 3 * 60


@pytest.mark.parametrize(("counter", "each"), [("fds", 8), ("rss", 2**21), ("objects", 1000)])
def test_what_is_scarce_is_not_used_up(counter: str, each: int) -> None:
    """Seven runs tell that a stretch of sixty would leave too much behind."""
    passed, runs = looked_at(rising(lambda runs: runs * each, counter))
    assert passed is None
    assert runs == 7


@pytest.mark.parametrize(("bytes_each", "passes"), [(6, True), (7, False)])
def test_bytes_of_malloc_have_the_judges_floor(bytes_each: int, passes: bool) -> None:
    """2 KiB over the five stretches."""
    passed, _ = looked_at(rising(lambda runs: runs * bytes_each, "malloc_bytes"))
    assert (passed is not None) is passes


@pytest.mark.parametrize(("kib", "passes"), [(255, True), (257, False)])
def test_address_space_has_the_judges_floor(kib: int, passes: bool) -> None:
    """256 KiB over the five stretches."""
    rows = [Reading("", runs, {**STILL, "mapped_bytes": 1024 * kib * (runs == 300)}) for runs in range(0, 360, 60)]
    assert stands_still(rows) is passes


def test_address_space_that_rises_in_each_stretch_is_measured_in_full() -> None:
    passed, _ = looked_at(rising(lambda runs: 1024 * runs // 2, "mapped_bytes"))
    assert passed is None


def test_a_slow_body_gets_a_few_runs_and_that_is_said() -> None:
    """Five runs after one of warm-up; a leak of it is judged by single runs."""
    passed, runs = looked_at(rising(lambda runs: 0), seconds=5.0)
    assert passed is not None
    assert runs == 1 + 5
    assert "slow (5000 ms a run): 5 runs only" in passed.reason
    worker = FakeWorker(rising(lambda runs: runs), seconds_a_run=5.0)
    plan = Plan(snapshots="never", timeout=300)
    result = measure(Request("case.py"), plan, worker, SILENT, clock=worker.clock, quick=True)
    assert result.verdict == "FAIL", result.reason
    assert worker.runs <= 20
    assert any("slow" in note for note in result.notes)


def test_the_result_of_a_quick_look_has_its_own_sensitivity() -> None:
    """And its readings, so that a reader can see them."""
    worker = FakeWorker(rising(lambda runs: 0))
    result = measure(Request("case.py"), Plan(snapshots="never"), worker, SILENT, clock=worker.clock, quick=True)
    assert (result.verdict, result.runs) == ("PASS", 300)
    assert result.detectable.objects_per_run == pytest.approx(1 / 300)
    assert worker.asked[-2:] == ["self_test", "finish"]
    assert worker.asked.count("freeze") == 1
