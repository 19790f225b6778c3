"""From the baseline to a verdict: batches until the judge is sure, or the budget ends.

A small state machine. Each state does one thing and names the next one, or gives the outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from leakharness.judge import verdict as judge
from leakharness.judge.policy import SEGMENTS
from leakharness.measure.batches import Batches, is_310
from leakharness.measure.bounded import all_in_bounded, runs_to_fill, runs_to_fill_declared, runs_to_fill_stores
from leakharness.measure.following import FOLLOWED_BYTES, cut_short, every_second, followed_far_enough, weighs_enough
from leakharness.measure.idling import seconds_until_released
from leakharness.measure.measurement import Measurement
from leakharness.measure.resident import ResidentSize
from leakharness.measure.retention import FEWEST_TOLD, tracked_alive
from leakharness.measure.soak import soak_seconds, thin_out
from leakharness.measure.warm_up import (
    OPCODE_CACHES,
    WARM_UP_RUNS_310,
)
from leakharness.model import Reading, Verdict
from leakharness.sensitivity import Sensitivity
from leakharness.units import number, size
from leakharness.worker.protocol import (
    CENSUS,
)

__all__ = ["Judging", "Outcome"]

FILLED_BYTES = 1 << 30
"""What filling a bounded container may weigh: the machine is not ours to fill."""
MOST_PARTLY_FILLED = 1
"""Times that containers are filled which hold but a part of the growth: what grows on after that is no filling."""
ASK_TIMERS = 0.2
"""Share of the budget after which, of a series that is open, timers are asked for that may release what moves."""
LOOKS = 20
"""The judge looks at a long series after every twentieth part more of it: a look costs time, and a chance to err."""
PASS_SECONDS = 1.5
"""A PASS of runs too slow for ``iters`` x ``batches`` of them needs at least this much measured time."""


class State(Enum):
    """What is to be done next."""

    BATCH = "make a batch and read the counters"
    ASSESS = "ask the judge about the readings"
    SUSPECTED = "something grows: take a census, and read again with a long grace"
    CONFIRMED = "it grows in the confirming reading too: fill the bounded container that explains it, if one does"
    NOT_GROWING = "nothing grows: enough for a PASS, or more batches"


@dataclass(frozen=True)
class Outcome:
    """A verdict and its reason, one sentence."""

    verdict: Verdict
    reason: str


class Judging:
    """Judges one measurement, batch by batch. ``noise`` is what the control arm rose by, where it was asked."""

    def __init__(
        self, batches: Batches, control: Callable[[int], Mapping[str, float]] | None, clock: Callable[[], float]
    ) -> None:
        self.noise: Mapping[str, float] = {}
        self._batches = batches
        self._measurement = batches.measurement
        self._control = control
        self._clock = clock
        self._number = 0
        self._number_of_fillings = 0
        self._spent = 0
        self._began = self._elapsed = 0.0
        self._out_of_budget = self._asked_timers = False
        self._found: judge.Assessment
        plan = batches.measurement.plan
        self._soak = soak_seconds(plan)
        self._most_runs = plan.max_runs if self._soak is None else math.inf
        self._most_seconds = plan.max_seconds if self._soak is None else self._soak
        self._asked_by = "--max-runs, --max-seconds" if self._soak is None else "--soak"
        self._explained_by_mappings: judge.ResidentGrowth | None = None
        self._resident = ResidentSize(batches.worker.pid, batches.measurement.plan.max_runs)
        self._steps: Mapping[State, Callable[[], State | Outcome]] = {
            State.BATCH: self._batch,
            State.ASSESS: self._assess,
            State.SUSPECTED: self._suspected,
            State.CONFIRMED: self._confirmed,
            State.NOT_GROWING: self._not_growing,
        }

    def outcome(self) -> Outcome:
        """Make batches until there is a verdict. Raises NotJudged where the measured process fails."""
        self._began = self._now()
        step: State | Outcome = State.BATCH
        while isinstance(step, State):
            step = self._steps[step]()
        return step

    def _now(self) -> float:
        """Seconds, without those of counting references: a budget of time is one of runs and readings. A soak's is
        time."""
        return self._clock() - (self._measurement.counting_seconds if self._soak is None else 0.0)

    def _batch(self) -> State:
        self._number += 1
        self._batches.batch(self._number)
        self._spent += self._measurement.iters
        if self._soak is not None:
            thin_out(self._measurement)
        asked, rarer = self._measurement.plan.batches, max(1, (len(self._measurement.readings) - 1) // LOOKS)
        if self._number < asked or (self._number % rarer and not self._budget_ends()):
            return State.BATCH
        return State.ASSESS

    def _budget_ends(self) -> bool:
        measurement = self._measurement
        self._elapsed = self._now() - self._began
        # The batches of a soak are long at its end: one that would lie behind it for the most part is not begun.
        ahead = 0.0 if self._soak is None else measurement.iters * _run_seconds(measurement) / 2
        return self._spent + measurement.iters > self._most_runs or self._elapsed + ahead >= self._most_seconds

    def _assess(self) -> State | Outcome:
        measurement = self._measurement
        self._out_of_budget = self._budget_ends()
        self._found = self._judged()
        if _may_be_opcode_caches(measurement, self._found):
            if self._out_of_budget:
                return Outcome(
                    "NOT_JUDGED", f"not clear after {measurement.runs} runs: {self._found.why}; {OPCODE_CACHES}"
                )
            return State.BATCH
        if self._found.state == "grows" and not self.noise and not _decided_by_exact(self._found) and self._control:
            self.noise = self._control(measurement.runs)
            self._found = self._judged()
        if self._found.state != "grows":
            return State.NOT_GROWING
        if self._out_of_budget or followed_far_enough(measurement, self._found):
            return State.SUSPECTED
        self._follow_in_larger_batches()
        return State.BATCH

    def _follow_in_larger_batches(self) -> None:
        """Read half as often from here on, where half of the readings so far say the same as all of them."""
        measurement = self._measurement
        half = every_second(measurement.readings, self._found)
        if half is None or self._soak is not None or self._spent + 2 * measurement.iters > self._most_runs:
            return
        if self._assessment_of(half).state == "grows":
            measurement.readings[:] = half
            measurement.runs_a_call = measurement.runs_a_call or measurement.iters
            measurement.iters *= 2

    def _suspected(self) -> State:
        measurement, batches = self._measurement, self._batches
        measurement.census[1:] = [(measurement.runs, batches.worker.request(CENSUS, doing="counting families").census)]
        batches.observer.suspected(batches.worker, measurement)
        batches.confirm()
        self._found = self._judged()
        if self._found.state == "grows":
            return State.CONFIRMED
        # The confirming reading froze the heap anew: from here on a census starts at nothing.
        measurement.census = [(measurement.runs, {})]
        return State.NOT_GROWING

    def _confirmed(self) -> State | Outcome:
        measurement, worker = self._measurement, self._batches.worker
        filling, proven = runs_to_fill_stores(measurement, worker) or runs_to_fill(measurement, worker), True
        if filling is None:
            filling, proven = runs_to_fill_declared(measurement, worker), False
        if filling is None or not (filling.whole or self._number_of_fillings < MOST_PARTLY_FILLED):
            return self._leak()
        runs, sentence = filling.runs, filling.sentence
        weight = runs * _bytes_a_run(measurement)
        if (
            self._spent + runs > self._most_runs
            or runs * _run_seconds(measurement) > self._most_seconds - self._elapsed
        ):
            if not (proven and filling.whole):
                return self._leak()
            measurement.assessment = self._found
            full = f"{sentence}: it is full after about {runs:,} more runs"
            if filling.exact and weight < FOLLOWED_BYTES:
                measurement.assessment = judge.explained(self._found, sentence)
                return Outcome("PASS", f"{full}, and nothing grows beside it over {measurement.runs} runs")
            return Outcome("NOT_JUDGED", f"{full} (--max-runs)")
        if weight > FILLED_BYTES:
            if not filling.whole:
                return self._leak()
            measurement.assessment = self._found
            return Outcome("NOT_JUDGED", f"{sentence}: full, it would weigh about {size(weight)} more")
        measurement.notes.append(f"{sentence}: filled by {runs} more runs of warm-up, then measured anew")
        self._spent += runs
        self._number_of_fillings += 1
        self._batches.warm_up_and_baseline(runs)
        self._number = 0
        return State.BATCH

    def _leak(self) -> State | Outcome:
        """Call it a leak, unless what the runs left dies by itself while the process idles."""
        step = self._released_by_idling()
        if step is not None:
            return step
        cut = cut_short(self._measurement, self._found)
        if cut is not None:
            self._measurement.notes.append(cut)
        return Outcome("FAIL", self._found.why)

    def _released_by_timers(self) -> State | Outcome | None:
        """The same of what is open after a part of the budget, so that there is time left to wait in every batch."""
        spent = max(self._spent / self._most_runs, self._elapsed / self._most_seconds if self._most_seconds else 1.0)
        if self._found.state != "undecided" or self._soak is not None or self._asked_timers or spent < ASK_TIMERS:
            return None
        self._asked_timers = True
        return self._released_by_idling(by_timers=True)

    def _released_by_idling(self, *, by_timers: bool = False) -> State | Outcome | None:
        """Measure anew, each reading after a pause, where what moves dies while the process idles; None where not."""
        measurement, plan = self._measurement, self._measurement.plan
        left = self._most_seconds - self._elapsed
        released = None
        if not measurement.idle_seconds and left > 0:
            worker = self._batches.worker
            released = seconds_until_released(measurement, worker, self._found, left, by_timers=by_timers)
        if released is None:
            return None
        needed = released * (plan.batches + 2)
        within = f"what runs leave behind is released within {number(released)} s"
        if needed > self._seconds_left():
            why = f"{within}, and to wait for that in every batch takes {number(needed)} s more (--max-seconds)"
            return Outcome("NOT_JUDGED", why)
        measurement.notes.append(f"{within}: measured anew, each reading after so long a pause")
        measurement.idle_seconds = released
        self._spent = 0
        self._batches.warm_up_and_baseline()
        self._number = 0
        return State.BATCH

    def _seconds_left(self) -> float:
        return self._most_seconds - (self._now() - self._began)

    def _not_growing(self) -> State | Outcome:
        measurement, found = self._measurement, self._found
        if len(measurement.readings) <= SEGMENTS:
            if not self._out_of_budget:
                return State.BATCH
            why = f"{len(measurement.readings) - 1} batches are too few to judge by: {SEGMENTS} are needed"
            return Outcome("NOT_JUDGED", f"{why} ({self._asked_by}, or a smaller --iters)")
        if found.state == "steady" and (self._out_of_budget or (self._soak is None and _enough(measurement))):
            asked = Sensitivity.of(measurement.plan.sensitivity)
            missed = judge.unseen(
                measurement.readings,
                *asked,
                final=self._out_of_budget,
                control=self.noise,
                resident=self._explained_by_mappings,
                warm_up=measurement.warm_up,
            )
            if not missed:
                return Outcome("PASS", _pass_reason(measurement, self._number))
            if self._out_of_budget:
                return Outcome("NOT_JUDGED", _too_noisy(measurement, missed, self.noise, self._asked_by))
        if not self._out_of_budget:
            return self._released_by_timers() or State.BATCH
        held = all_in_bounded(measurement, self._batches.worker) if found.state == "undecided" else None
        if held is not None:
            measurement.assessment = judge.explained(found, held)
            return Outcome("PASS", f"{held}, and nothing grows beside it over {measurement.runs} runs")
        step = self._released_by_idling() if found.state == "undecided" and self._soak is None else None
        if step is not None:
            return step
        needed = f"; it would take about {found.runs_needed:,} more runs" if found.runs_needed else ""
        why = f"not clear after {measurement.runs} runs: {found.why}{needed} ({self._asked_by})"
        return Outcome("NOT_JUDGED", why)

    def _judged(self) -> judge.Assessment:
        measurement = self._measurement
        found = self._assessment_of(measurement.readings)
        followed = self._out_of_budget or weighs_enough(measurement)
        resident = self._explained_by_mappings = self._resident.explained(found, self._spent, followed=followed)
        measurement.assessment = found if resident is None else self._assessment_of(measurement.readings, resident)
        return measurement.assessment

    def _assessment_of(
        self, readings: Sequence[Reading], resident: judge.ResidentGrowth | None = None
    ) -> judge.Assessment:
        measurement, plan = self._measurement, self._measurement.plan
        return judge.assess(
            readings,
            warm_up=measurement.warm_up,
            teeth=measurement.teeth,
            control=self.noise,
            max_tracked_retention=plan.max_tracked_retention,
            max_rss_growth_bytes=None if plan.max_rss_growth_mb is None else plan.max_rss_growth_mb * 2**20,
            final=self._out_of_budget,
            resident=resident,
        )


def _may_be_opcode_caches(measurement: Measurement, found: judge.Assessment) -> bool:
    """Whether what grows may be the caches that 3.10 makes at a function's 1,024th call, after a warm-up that was
    too short for them: less than a block a run, and nothing else."""
    if (
        found.state != "grows"
        or not is_310(measurement)
        or measurement.warm_up_runs + measurement.runs
        >= WARM_UP_RUNS_310 + measurement.plan.iters * measurement.plan.batches
    ):
        return False
    growing = {g.counter: g.per_run for g in found.growth if g.grows}
    return growing.keys() <= {"blocks", "malloc_bytes", "mapped_bytes", "rss"} and growing.get("blocks", 1.0) < 1.0


def _decided_by_exact(found: judge.Assessment) -> bool:
    return any(g.grows and g.counter not in ("malloc_bytes", "mapped_bytes", "rss") for g in found.growth)


def _enough(measurement: Measurement) -> bool:
    """Whether a PASS rests on enough runs: what was asked for, or enough time where runs are slow."""
    asked = measurement.plan.iters * measurement.plan.batches
    return (
        measurement.runs >= asked or measurement.readings[-1].seconds - measurement.readings[0].seconds >= PASS_SECONDS
    )


def _bytes_a_run(measurement: Measurement) -> float:
    """What a run leaves behind, by the counter of bytes that rises most."""
    first, last = measurement.readings[0], measurement.readings[-1]
    both = [name for name in ("malloc_bytes", "rss") if name in first.counters and name in last.counters]
    risen = max((last.counters[name] - first.counters[name] for name in both), default=0)
    return max(0, risen) / max(1, measurement.runs)


def _run_seconds(measurement: Measurement) -> float:
    return (measurement.readings[-1].seconds - measurement.readings[0].seconds) / max(1, measurement.runs)


def _too_noisy(measurement: Measurement, missed: Sequence[str], noise: Mapping[str, float], asked_by: str) -> str:
    """Why there is no PASS though nothing grows."""
    could = judge.detectable(measurement.readings, noise)
    figures = {
        "tracked": could.tracked_per_run,
        "objects": could.objects_per_run,
        "blocks": could.blocks_per_run,
        "malloc_bytes": could.native_bytes_per_run,
    }
    sensitivity = Sensitivity.of(measurement.plan.sensitivity)

    def smallest(name: str) -> str:
        if name == "rss":
            return f"rss {size(_bytes_a_run(measurement))} a run, by which it rose"
        figure, asked = figures[name], sensitivity.native_bytes if name == "malloc_bytes" else sensitivity.objects
        if figure is None:
            return f"{name} none"
        within = ", and it rose in every stretch, within its own swings" if figure <= asked else ""
        return f"{name} {number(figure)} a run{within}"

    return (
        f"nothing grows over {measurement.runs} runs, but the smallest leak that would have been seen is "
        f"{', '.join(map(smallest, missed))}: too noisy for --sensitivity {sensitivity} ({asked_by})"
    )


def _pass_reason(measurement: Measurement, batches: int) -> str:
    born = sum(row["born"] for row in measurement.tracked.values())
    retained = sum(row["retained"] for row in measurement.tracked.values())
    alive = tracked_alive(measurement)
    tracked = f"{retained}/{born} tracked objects retained; " if born else ""
    if alive >= FEWEST_TOLD and born:
        tracked = f"{alive:,} tracked objects are alive, {retained:,} more than at the baseline; "
    extended = batches > measurement.plan.batches and measurement.plan.soak is None
    why = f"settled after {batches} batches" if extended else "no counter grows"
    return f"{tracked}{why} over {measurement.runs} runs"
