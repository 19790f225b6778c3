"""The sequential loop of a measurement, with a worker that only reads from a script: no process, no memory."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import grown_by

from leakharness.errors import NotJudged, UsageError
from leakharness.measure.census import families, suspects
from leakharness.measure.loop import measure
from leakharness.measure.measurement import Evidence, Measurement, Request
from leakharness.model import Plan, Reading, RunResult
from leakharness.worker.codec import checked
from leakharness.worker.protocol import LoadSpec, Question

Series = Callable[[int], Mapping[str, int]]
STILL = {"objects": 1000, "blocks": 5000, "malloc_bytes": 10_000, "mapped_bytes": 0, "rss": 10_000_000, "fds": 3}
PLAN = Plan(snapshots="never")


@dataclass
class FakeWorker:
    """Answers as a worker whose counters are a function of the runs made. Asked for anything else, it raises."""

    counters: Series
    seconds_a_run: float = 0.0001
    tracked: Callable[[int], int] = lambda runs: 0
    declared: Series = lambda runs: {"objects": 0}
    collected: Callable[[int], int] = lambda runs: 0
    cleared: Callable[[int], Any] = lambda runs: {"containers": []}
    declared_cleared: Callable[[int], Any] = lambda least: {"containers": []}
    confirmed: Callable[[int], Mapping[str, int]] | None = None
    dies_in: tuple[str, int] | None = None
    fault: str | None = None
    references: Callable[[int], Mapping[str, Any]] = lambda runs: {}
    runs: int = 0
    now: float = 0.0
    asked: list[str] = field(default_factory=list)
    baseline_runs: int = 0

    pid = 4711

    def request(self, question: Question[Any], *arguments: Any, doing: str = "") -> Any:
        op = question.op
        self.asked.append(op)
        if self.dies_in is not None and self.dies_in[0] == op and self.runs >= self.dies_in[1]:
            raise NotJudged(f"the measured process was killed while {doing}")
        return checked(question.answer, getattr(self, f"answer_{op}")(*arguments))

    def clock(self) -> float:
        return self.now

    def answer_load(self, spec: LoadSpec) -> dict[str, Any]:
        mode = {"name": "fixed", "must": "PASS"}
        return {
            "pid": self.pid,
            "python": "3.11.7",
            "implementation": "cpython",
            "executable": "python",
            "missing_counters": {},
            "mode": "fixed",
            "scenario": {"name": "scripted", "options": {}, "default": "fixed", "modes": [mode]},
        }

    def answer_start(self, scope_bytes: int) -> dict[str, Any]:
        return {}

    def answer_runs(self, count: int) -> dict[str, Any]:
        self.runs += count
        self.now += count * self.seconds_a_run
        return {}

    def answer_freeze(self, collect: bool = True) -> dict[str, Any]:
        return {"bounded": {}}

    def answer_baseline(self, grace: float) -> dict[str, Any]:
        self.baseline_runs = self.runs
        return self.answer_read(grace, False, False)

    def answer_read(self, grace: float, deep: bool = False, census: bool = False) -> dict[str, Any]:
        source = self.confirmed if deep and self.confirmed is not None else self.counters
        alive = self.tracked(self.runs)
        return {
            "counters": dict(source(self.runs)),
            "tracked_alive": alive,
            "tracked": {
                "Session": {
                    "born": self.runs - self.baseline_runs,
                    "retained": alive - self.tracked(self.baseline_runs),
                }
            },
            "declared": dict(self.declared(self.runs)),
            "collected": self.collected(self.runs) - self.collected(self.baseline_runs),
            "census": {"app.Session": [self.runs, 56 * self.runs]},
        }

    def answer_references(self) -> dict[str, Any]:
        self.now += 0.01
        return dict(self.references(self.runs - self.baseline_runs if self.baseline_runs else 0))

    def answer_census(self) -> dict[str, Any]:
        return {"census": {"app.Session": [self.runs, 56 * self.runs]}}

    def answer_growth_after_clearing(self, before: Mapping[str, int]) -> dict[str, Any]:
        return self.cleared(self.runs)

    def answer_growth_after_clearing_declared(self, least: int) -> dict[str, Any]:
        return self.declared_cleared(least)

    def answer_release_times(self) -> dict[str, Any]:
        return {"timers": 0, "last_due_s": 0.0, "stamped": 0}

    def answer_idle(self, seconds: float) -> dict[str, Any]:
        self.now += seconds
        return {}

    def answer_self_test(self) -> dict[str, Any]:
        return {"fault": self.fault}

    def answer_finish(self) -> dict[str, Any]:
        return {}


@dataclass
class Listener:
    """Remembers what it is told."""

    phases: list[str] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    suspected_after: list[int] = field(default_factory=list)

    def phase(self, name: str, done: int, total: int | None) -> None:
        self.phases.append(name)

    def reading(self, worker: Any, reading: Reading) -> None:
        self.readings.append(reading)

    def suspected(self, worker: Any, measurement: Measurement) -> None:
        self.suspected_after.append(measurement.runs)


def still(runs: int) -> Mapping[str, int]:
    return STILL


def growing(**per_run: float) -> Series:
    """Counters that grow by so much in a run, from the first on."""
    return lambda runs: {name: value + int(per_run.get(name, 0) * runs) for name, value in STILL.items()}


def result_of(worker: FakeWorker, plan: Plan = PLAN, listener: Listener | None = None, **more: Any) -> RunResult:
    return measure(Request("scripted.py"), plan, worker, listener or Listener(), clock=worker.clock, **more)


def test_a_still_series_passes_after_what_was_asked_for() -> None:
    """Five batches of fifty, and no more."""
    worker, listener = FakeWorker(still), Listener()
    result = result_of(worker, listener=listener)
    assert (result.verdict, result.runs, result.must) == ("PASS", 250, "PASS")
    assert result.reason == "0/250 tracked objects retained; no counter grows over 250 runs"
    assert listener.phases == [f"batch-{i}" for i in range(1, 6)]
    assert [reading.label for reading in listener.readings] == ["baseline", *listener.phases]
    assert listener.suspected_after == []
    assert worker.asked[-2:] == ["self_test", "finish"]


def test_an_even_leak_fails_after_five_batches_and_is_confirmed() -> None:
    """The figure is exact; families say what came to stay; the leak is looked at once more before the word is said."""
    worker, listener = FakeWorker(growing(objects=2, blocks=5)), Listener()
    result = result_of(worker, listener=listener)
    assert (result.verdict, result.runs) == ("FAIL", 250)
    assert grown_by(result) == {"objects": 2.0, "blocks": 5.0}
    assert result.reason == "objects +2 a run; blocks +5 a run"
    assert [(f.type, f.count_per_run) for f in result.families] == [("app.Session", 1.0)]
    assert listener.suspected_after == [250]


def test_a_tracked_leak_counts_from_the_baseline() -> None:
    """What the warm-up retained is not part of the figure."""
    result = result_of(FakeWorker(still, tracked=lambda runs: runs))
    assert grown_by(result) == {"tracked": 1.0}
    assert (result.born, result.retained) == (250, 250)
    assert [reading.counters["tracked"] for reading in result.series] == [0, 50, 100, 150, 200, 250]


def test_a_constant_of_tracked_objects_is_no_leak() -> None:
    """Eight objects in a cache that is full: retained, not growing."""
    assert result_of(FakeWorker(still, tracked=lambda runs: min(8, runs))).verdict == "PASS"


def test_growth_that_the_confirming_reading_does_not_see_is_no_leak() -> None:
    """What was only late is gone after a full collection and a long grace; the loop goes on and passes."""
    late = FakeWorker(lambda runs: {**STILL, "objects": 1000 + (runs if runs < 1200 else 0)}, confirmed=still)
    result = result_of(late)
    assert result.verdict == "PASS"


def test_a_slow_leak_gets_more_batches() -> None:
    """One object in a hundred runs: not clear after five batches, called after ten objects."""
    result = result_of(FakeWorker(growing(objects=0.01)))
    assert (result.verdict, grown_by(result)) == ("FAIL", {"objects": pytest.approx(0.01, rel=0.06)})
    assert 900 <= result.runs <= 1100


def test_a_step_gets_more_batches_and_passes() -> None:
    """The reason says that it settled."""
    result = result_of(FakeWorker(lambda runs: {**STILL, "objects": 1000 + (40 if runs > 850 else 0)}))
    assert result.verdict == "PASS"
    assert "settled after" in result.reason
    assert any("rose by 40 and stopped" in line for line in result.forgiven)


def uneven(runs: int) -> Mapping[str, int]:
    return {**STILL, "objects": 1000 + sum((41, 44, 38, 47, 35)[i % 5] for i in range(runs // 50))}


def test_an_uneven_rise_is_followed_for_thirty_batches() -> None:
    """It may be a cache that fills at random: only then it is a leak."""
    result = result_of(FakeWorker(uneven))
    assert (result.verdict, result.runs) == ("FAIL", 1500)


def fading(runs: int) -> Mapping[str, int]:
    return {**STILL, "objects": 1000 + int(100_000 * (1 - 0.9998**runs))}


def test_a_cache_that_outlasts_the_budget_is_not_judged_and_says_how_many_runs_it_takes() -> None:
    """Neither PASS nor FAIL; the options that give it more are named."""
    result = result_of(FakeWorker(fading), Plan(max_runs=3000))
    assert result.verdict == "NOT_JUDGED"
    assert "it would take about" in result.reason
    assert "--max-runs" in result.reason
    assert result.runs == 3000


@pytest.mark.parametrize(("limit", "runs"), [({"max_runs": 1000}, 1000), ({"max_seconds": 1.0}, 50)])
def test_the_budget_ends_what_is_not_clear(limit: dict[str, Any], runs: int) -> None:
    """By runs or by seconds, whichever ends first."""
    slow = 0.004 if "max_seconds" in limit else 0.0001
    result = result_of(FakeWorker(fading, seconds_a_run=slow), Plan(**limit))
    assert result.verdict == "NOT_JUDGED"
    assert runs <= result.runs <= 2 * max(runs, 200)


def test_noise_at_the_end_of_the_budget_is_no_leak() -> None:
    """A rise within the series' own swings is steady once no more runs can be made."""
    swing = (0, 70, 10, 90, 30, 60, 20, 80, 50, 65)
    result = result_of(FakeWorker(lambda runs: {**STILL, "objects": 1000 + swing[runs // 50 % 10]}), Plan(max_runs=600))
    assert result.verdict == "PASS"


def emptied(objects: int) -> dict[str, int]:
    """By how many objects the copy's count falls once the containers are empty."""
    return {"alive": 0, "objects_fell": objects, "blocks_fell": 0}


def filling(worker_bound: int) -> FakeWorker:
    """A bounded container of one object a run; emptied, nothing is left."""

    def cleared(runs: int) -> Any:
        size = min(runs, worker_bound)
        row = {"name": f"deque(maxlen={worker_bound})", "size": size, "bound": worker_bound, "grew": 250}
        return {"containers": [row] if size < worker_bound else [], "counts": emptied(size)}

    return FakeWorker(lambda runs: {**STILL, "objects": 1000 + min(runs, worker_bound)}, cleared=cleared)


def test_a_bounded_container_is_filled_and_measured_anew() -> None:
    """The growth is the container's: the runs that fill it are warm-up, and the note says so."""
    worker = filling(3000)
    result = result_of(worker)
    assert result.verdict == "PASS", result.reason
    assert any("deque(maxlen=3000)" in note and "filled by" in note for note in result.notes)
    assert worker.baseline_runs >= 3000


def test_a_bound_beyond_the_budget_is_not_judged() -> None:
    """And it is said when it would be full."""
    result = result_of(filling(200_000))
    assert result.verdict == "NOT_JUDGED"
    assert "deque(maxlen=200000)" in result.reason
    assert "it is full after about 2" in result.reason


def test_a_leak_beside_a_bounded_container_is_a_leak() -> None:
    """Emptied, more than a trifle is left: the container explains only part of the growth."""
    worker = filling(3000)
    worker.counters = growing(objects=2)
    worker.cleared = lambda runs: {**filling(3000).cleared(runs), "counts": emptied(runs)}
    assert result_of(worker).verdict == "FAIL"


def sawing(first: int, cut: int, leak: float = 0.0) -> Series:
    """A cache of one object a run that is cut back by ``cut`` when it has ``first``; beside it, a leak."""

    def counters(runs: int) -> Mapping[str, int]:
        held = runs if runs < first else first - cut + (runs - first) % cut
        return {**STILL, "objects": 1000 + held + int(leak * runs)}

    return counters


SPEEDS = (0.00005, 0.0007, 0.002)


@pytest.mark.parametrize("seconds_a_run", SPEEDS)
@pytest.mark.parametrize("iters", [10, 40, 50, 100])
@pytest.mark.parametrize(("first", "cut"), [(750, 250), (500, 500), (1000, 1000), (1900, 1), (1500, 300)])
def test_a_cache_that_is_cut_back_passes_whatever_the_speed_and_the_batch_size(
    first: int, cut: int, iters: int, seconds_a_run: float
) -> None:
    """How far even growth is followed is a matter of runs, not of the machine's load, nor of --iters."""
    worker = FakeWorker(sawing(first, cut), seconds_a_run=seconds_a_run)
    result = result_of(worker, Plan(iters=iters, iters_given=True))
    assert result.verdict == "PASS", result.reason


@pytest.mark.parametrize("seconds_a_run", SPEEDS)
def test_even_growth_is_called_once_it_has_outgrown_the_usual_caches(seconds_a_run: float) -> None:
    """2,048 runs and a fifth, however long they take; the figure stays exact, and nothing was cut short."""
    worker = FakeWorker(growing(objects=2), seconds_a_run=seconds_a_run)
    result = result_of(worker)
    assert (result.verdict, grown_by(result)) == ("FAIL", {"objects": 2.0})
    assert 2048 <= worker.runs <= 2048 + 1000
    assert not any(note.startswith("followed for") for note in result.notes)


@pytest.mark.parametrize(
    ("per_run", "plan", "why"),
    [
        ({"objects": 1}, Plan(max_runs=300), "no more: --max-runs, --max-seconds"),
        ({"objects": 1}, Plan(max_seconds=1.0), "no more: --max-runs, --max-seconds"),
        ({"objects": 1000}, PLAN, "000 objects behind; a cache"),
        ({"objects": 1, "malloc_bytes": 2**20}, PLAN, "until they had left"),
    ],
)
def test_growth_that_could_not_be_followed_so_far_says_why(per_run: dict[str, int], plan: Plan, why: str) -> None:
    """By the budget, or by what it leaves behind: a mebibyte a run is not followed for 2,048 runs."""
    worker = FakeWorker(growing(**per_run), seconds_a_run=0.004)
    result = result_of(worker, plan)
    assert result.verdict == "FAIL"
    assert worker.runs < 1000
    assert any(note.startswith("followed for") and why in note for note in result.notes), result.notes


class Releasing(FakeWorker):
    """One object a run that lives for a time; beside it, a leak."""

    def __init__(self, lives: float, times: dict[str, Any], leak: float = 0.0) -> None:
        super().__init__(still, seconds_a_run=0.0001)
        self.lives, self.times, self.leak, self.born = lives, times, leak, list[float]()
        self.counters = lambda runs: {**STILL, "objects": 1000 + self.alive() + int(self.leak * runs)}

    def alive(self) -> int:
        return sum(self.now - born <= self.lives for born in self.born)

    def answer_runs(self, count: int) -> dict[str, Any]:
        super().answer_runs(count)
        self.born += [self.now] * count
        return {}

    def answer_release_times(self) -> dict[str, Any]:
        return self.times


def timers(due: float) -> dict[str, Any]:
    return {"timers": 500, "last_due_s": due, "stamped": 0}


STAMPED = {"timers": 0, "last_due_s": 0.0, "stamped": 100_000}


@pytest.mark.parametrize(("lives", "times"), [(1.5, timers(1.5)), (0.9, STAMPED), (1.9, STAMPED)])
def test_what_dies_by_itself_in_a_while_is_no_leak_and_a_leak_beside_it_is_found(
    lives: float, times: dict[str, Any]
) -> None:
    """The process idles where a timer is due, or where entries carry a time; then every reading waits for it."""
    result = result_of(Releasing(lives, times))
    assert result.verdict == "PASS", result.reason
    assert any("what runs leave behind is released within" in note for note in result.notes)
    assert grown_by(result_of(Releasing(lives, times, leak=1.0))) == {"objects": 1.0}


class Slowing(Releasing):
    """Ever fewer of the runs leave something behind: it is open whether that ends."""

    def answer_runs(self, count: int) -> dict[str, Any]:
        FakeWorker.answer_runs(self, count)
        self.born += [self.now] * round(count * math.exp(-self.runs / 6_000))
        return {}


@pytest.mark.parametrize("times", [timers(1.5), STAMPED])
def test_what_is_open_at_the_end_of_the_budget_may_die_by_itself_too(times: dict[str, Any]) -> None:
    """Where timers are due, that is asked while there is time left to wait in every batch."""
    result = result_of(Slowing(1.5, times))
    assert result.verdict == "PASS", result.reason
    assert any("what runs leave behind is released within" in note for note in result.notes)
    assert result_of(Slowing(1.5, {**STAMPED, "stamped": 0})).verdict == "NOT_JUDGED"
    assert grown_by(result_of(Slowing(1.5, times, leak=1.0))) == {"objects": 1.0}


def test_asking_timers_on_the_way_makes_no_run_that_is_not_counted() -> None:
    """What is not released goes on as it was: each reading has the runs that were made."""
    worker = Slowing(1e9, timers(1.5))
    result = result_of(worker)
    assert "release_times" in worker.asked
    assert result.warmup_runs + result.series[-1].runs in (worker.runs, worker.runs - result.series[1].runs)


def test_what_is_released_too_late_for_the_budget_is_said() -> None:
    """Near: not judged, with the time that it would take; far: a leak, beside which the timers are named."""
    near = result_of(Releasing(4.9, timers(4.9)))
    assert near.verdict == "NOT_JUDGED"
    assert "what runs leave behind is released within 5 s" in near.reason
    assert "--max-seconds" in near.reason
    far = result_of(Releasing(300.0, timers(300.0)))
    assert far.verdict == "FAIL"
    assert any("500 timers are pending, the last of them due in 300 s" in note for note in far.notes)


def test_a_clear_leak_waits_for_nothing() -> None:
    """No timer, no stamp: no idling."""
    worker = FakeWorker(growing(objects=1))
    assert result_of(worker).verdict == "FAIL"
    assert "idle" not in worker.asked


def test_a_descriptor_leak_ends_the_warm_up_early_and_makes_small_batches() -> None:
    """Eight a run would reach the usual limit of 1,024 before the baseline."""
    worker = FakeWorker(growing(fds=8))
    result = result_of(worker)
    assert (result.verdict, grown_by(result)) == ("FAIL", {"fds": 8.0})
    assert worker.runs * 8 < 1000
    assert any("open descriptors behind: 8 runs a batch instead of 50" in note for note in result.notes)


def test_a_warm_up_that_leaves_very_much_behind_ends_early() -> None:
    """The machine is not ours to fill: fewer runs of warm-up, and fewer a batch, unless their number was asked for."""
    worker = FakeWorker(growing(objects=4000))
    result = result_of(worker)
    assert (result.verdict, grown_by(result)["objects"]) == ("FAIL", 4000.0)
    assert worker.runs < 100
    asked_for = result_of(FakeWorker(growing(objects=4000)), Plan(iters=50, iters_given=True))
    assert asked_for.runs == 250


def test_slow_runs_make_small_batches_and_a_pass_still_rests_on_time() -> None:
    """A run of 30 ms: batches of about 0.3 s, and a PASS after 1.5 s of them."""
    result = result_of(FakeWorker(still, seconds_a_run=0.03))
    assert result.verdict == "PASS"
    assert 50 <= result.runs < 250
    assert any("30 ms" in note for note in result.notes)


def test_the_warm_up_ends_at_rest_and_not_before_the_usual_caches_are_full() -> None:
    """600 runs and a rehearsal; what is still filling gets up to 2,000."""
    assert 600 <= result_of(FakeWorker(still)).warmup_runs <= 700
    quick = FakeWorker(lambda runs: {**STILL, "objects": 1000 + int(10_000 * (1 - 0.999**runs))})
    assert result_of(quick).warmup_runs >= 2000


def test_a_warm_up_that_was_asked_for_is_made_as_asked() -> None:
    """--warmup 7 is seven runs, without a rehearsal."""
    assert result_of(FakeWorker(still), Plan(warmup=7)).warmup_runs == 7


def test_the_control_is_asked_only_where_inexact_counters_decide() -> None:
    """Its rise, three times over, is the floor of bytes; exact counters do not need it."""
    asked: list[int] = []

    def control(runs: int) -> Mapping[str, float]:
        asked.append(runs)
        return {"malloc_bytes": 20_000.0}

    assert result_of(FakeWorker(growing(objects=1)), control=control).verdict == "FAIL"
    assert asked == []
    assert result_of(FakeWorker(growing(malloc_bytes=100)), control=control).verdict == "PASS"
    assert asked[:1] == [250]
    assert result_of(FakeWorker(growing(malloc_bytes=1000)), control=control).verdict == "FAIL"


def test_a_worker_that_dies_is_not_judged() -> None:
    """Whatever was measured before."""
    result = result_of(FakeWorker(growing(objects=1), dies_in=("runs", 2600)))
    assert result.verdict == "NOT_JUDGED"
    assert "was killed while making the runs of " in result.reason


def test_a_tracker_that_fails_its_self_test_voids_the_verdict() -> None:
    """A PASS of a blind tracker is worth nothing, and so is a FAIL."""
    for counters in (still, growing(objects=1)):
        result = result_of(FakeWorker(counters, fault="it counted 3 of 3 dropped canaries as alive"))
        assert result.verdict == "NOT_JUDGED"
        assert "self-test" in result.reason


def test_a_wrong_declaration_passes_through() -> None:
    """Exit 2 is not a verdict."""

    class Broken(FakeWorker):
        def answer_load(self, spec: dict[str, Any]) -> dict[str, Any]:
            raise UsageError("no scenario 'x'")

    with pytest.raises(UsageError):
        result_of(Broken(still))


def test_evidence_is_asked_for_a_leak_alone_and_is_part_of_the_result() -> None:
    """The explainer changes the result, and is not called for a PASS."""
    asked: list[int] = []

    def explain(worker: Any, measurement: Measurement) -> Evidence:
        asked.append(measurement.runs)
        return Evidence(growth_class="runtime-objects")

    assert result_of(FakeWorker(still), explain=explain).growth_class is None
    assert asked == []
    assert result_of(FakeWorker(growing(objects=1)), explain=explain).growth_class == "runtime-objects"
    assert asked == [250]


def test_what_only_the_collector_frees_is_noted() -> None:
    """By run, and only where it is more than a stray object."""
    result = result_of(FakeWorker(still, collected=lambda runs: 5 * runs))
    assert result.verdict == "PASS"
    assert "freed only by the cyclic collector: 5 objects a run" in result.notes[-1]
    assert not result_of(FakeWorker(still, collected=lambda runs: runs // 10)).notes


def test_declared_growth_is_taken_off() -> None:
    """One held object a run is no growth; two are one."""
    held: Series = lambda runs: {"objects": runs}  # noqa: E731
    assert result_of(FakeWorker(growing(objects=1), declared=held)).verdict == "PASS"
    assert grown_by(result_of(FakeWorker(growing(objects=2), declared=held))) == {"objects": 1.0}


def test_the_plan_may_come_from_the_scenario_s_options() -> None:
    """Options are resolved once the declaration is known."""
    result = measure(
        Request("scripted.py"),
        lambda options: Plan(batches=6, iters=10),
        (worker := FakeWorker(still)),
        Listener(),
        clock=worker.clock,
    )
    assert (result.verdict, result.runs) == ("PASS", 60)


@pytest.mark.parametrize(("batches", "max_runs", "verdict"), [(1, 10_000, "PASS"), (2, 100, "NOT_JUDGED")])
def test_too_few_batches_show_nothing(batches: int, max_runs: int, verdict: str) -> None:
    """Asked for fewer than the judge needs, it makes more; where it may not, it says so."""
    result = result_of(FakeWorker(still), Plan(batches=batches, max_runs=max_runs, snapshots="never"))
    assert result.verdict == verdict
    assert (result.detectable.objects_per_run is None) == (verdict == "NOT_JUDGED")
    if verdict == "NOT_JUDGED":
        assert result.reason.startswith("2 batches are too few to judge by: 5 are needed")


def test_families_are_the_rise_between_two_looks() -> None:
    """By count a run, the fastest first; what shrinks is left out."""
    census = [
        (50, {"a.A": [10, 100], "b.B": [5, 50], "c.C": [9, 9]}),
        (250, {"a.A": [210, 2100], "b.B": [405, 4050], "c.C": [1, 1]}),
    ]
    assert [(f.type, f.count_per_run, f.shallow_bytes_per_run) for f in families(census)] == [
        ("b.B", 2.0, 20.0),
        ("a.A", 1.0, 10.0),
    ]
    assert families(census[:1]) == ()


def test_a_rare_type_of_the_program_is_no_suspect_before_a_frequent_one() -> None:
    """Its own types come first, but not those that came by the way."""
    census = [(50, {}), (250, {"app.Rare": [1, 50], "app.Session": [100, 50], "weakref.WeakMethod": [400, 50]})]
    assert suspects(census) == ["app.Session", "weakref.WeakMethod", "app.Rare"]


def test_references_that_stand_still_are_counted_twice_and_others_after_every_batch() -> None:
    """At the baseline and after the last planned batch; what has changed is then followed, and a leak of one reference
    a run is a FAIL with nothing else growing."""
    clean = FakeWorker(still)
    assert measure(Request("scripted.py"), PLAN, clean, Listener(), clock=clean.clock).verdict == "PASS"
    assert clean.asked.count("references") == 2
    lost = FakeWorker(
        still, references=lambda runs: {"raised": runs, "rows": [{"address": 4096, "type": "app.Config", "more": runs}]}
    )
    result = measure(Request("scripted.py"), PLAN, lost, Listener(), clock=lost.clock)
    assert (result.verdict, result.reason) == ("FAIL", "references +1 a run")
    assert result.runs == 450


def test_references_of_what_grows_are_counted_now_and_then() -> None:
    """They are explained by the objects, and counting them takes longer than a batch."""
    leaky = FakeWorker(
        growing(objects=1),
        seconds_a_run=0.001,
        references=lambda runs: {"raised": runs, "rows": [{"address": 4096, "type": "app.Config", "more": runs}]},
    )
    result = measure(Request("scripted.py"), PLAN, leaky, Listener(), clock=leaky.clock)
    assert result.verdict == "FAIL"
    assert leaky.asked.count("references") == 7  # 19 where they are followed batch by batch


def test_references_that_cannot_be_counted_are_not_judged() -> None:
    """The copy failed: said, and no word in the verdict."""
    worker = FakeWorker(still, references=lambda runs: {"failed": "the copy did not answer within 60 s"})
    result = measure(Request("scripted.py"), PLAN, worker, Listener(), clock=worker.clock)
    assert result.verdict == "PASS"
    assert result.blind == {"references": "the copy did not answer within 60 s"}


def test_slow_runs_have_their_references_counted_after_every_batch() -> None:
    """Where that costs little beside the runs, a leak needs no more batches than were planned."""
    lost = FakeWorker(still, seconds_a_run=0.02, references=lambda runs: {"raised": runs})
    result = measure(Request("scripted.py"), Plan(iters=50, iters_given=True), lost, Listener(), clock=lost.clock)
    assert result.verdict == "FAIL"
    assert all("references" in reading.counters for reading in result.series)


HOUR = Plan(snapshots="never", soak="1h")


def test_a_soak_lasts_as_long_as_was_asked_for_in_a_series_of_bounded_length() -> None:
    """An hour of runs of .1 ms: a PASS that says so, from at most 80 batches, a line a minute, no longer than asked."""
    worker, told = FakeWorker(still), list[str]()
    result = result_of(worker, plan=HOUR, tell=told.append)
    assert result.verdict == "PASS"
    assert len(result.series) <= 81
    distances = {b.runs - a.runs for a, b in itertools.pairwise(result.series)}
    assert len(distances) == 1  # equal ones: what was dropped was every second reading
    assert result.soaked_s == pytest.approx(3600, rel=0.03)
    assert result.runs == pytest.approx(36_000_000, rel=0.03)
    assert result.reach.startswith(f"{result.runs:,} runs in ")
    assert 55 <= len(told) <= 60
    assert told[30].endswith("since the baseline: tracked 0, objects 0, blocks 0, fds 0, rss 0 B")
    assert " of 1 h, " in told[30]


def test_a_leak_ends_a_soak_as_soon_as_it_is_called() -> None:
    """Nobody waits an hour for what is known after the runs that any leak takes."""
    worker = FakeWorker(growing(objects=2))
    result = result_of(worker, plan=HOUR)
    assert (result.verdict, result.runs) == ("FAIL", result_of(FakeWorker(growing(objects=2))).runs)
    assert worker.now < 60


def test_a_soak_sees_a_leak_that_begins_late() -> None:
    """One object a run from the millionth run on: PASS without a soak, FAIL with one."""

    def late(runs: int) -> Mapping[str, int]:
        return {**STILL, "objects": 1000 + max(0, runs - 1_000_000)}

    assert result_of(FakeWorker(late)).verdict == "PASS"
    result = result_of(FakeWorker(late), plan=HOUR)
    assert (result.verdict, grown_by(result)["objects"]) == ("FAIL", pytest.approx(1.0, rel=0.05))


def test_what_a_soak_could_not_decide_names_it() -> None:
    """Too noisy for the sensitivity asked for: the option to change is --soak, not the budget of runs."""
    noise = random.Random(7)

    def noisy(runs: int) -> Mapping[str, int]:
        return {**STILL, "objects": 1000 + noise.randrange(100_000)}

    result = result_of(FakeWorker(noisy), plan=Plan(snapshots="never", soak="5s"))
    assert result.verdict == "NOT_JUDGED"
    assert "--soak" in result.reason
    assert "--max-runs" not in result.reason


def test_a_long_batch_is_asked_for_in_pieces() -> None:
    """A run that takes two seconds: a line is never later than one piece after its minute."""
    times = list[float]()
    worker = FakeWorker(still, seconds_a_run=2.0)
    result = result_of(worker, plan=Plan(snapshots="never", soak="1h"), tell=lambda _: times.append(worker.now))
    assert result.verdict == "PASS"
    assert max(b - a for a, b in itertools.pairwise(times)) <= 66
