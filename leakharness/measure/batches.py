"""The steps of a measurement that talk to the worker: warm-up, baseline, batches, the confirming reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from leakharness.judge.verdict import swing_of
from leakharness.measure.measurement import Measurement, Observer, WorkerClient
from leakharness.measure.warm_up import (
    COUNTED_RUNS,
    LINEAR_MEMORY_BYTES,
    LINEAR_SECONDS,
    WARM_UP_MEMORY_BYTES,
    WARM_UP_OBJECTS,
    WARM_UP_RUNS,
    WARM_UP_RUNS_310,
    WARM_UP_RUNS_LIMIT,
    WARM_UP_SECONDS,
    WARM_UP_SECONDS_LIMIT,
    WARM_UP_SIZES,
    _at_rest,
    _linear,
    _sizes,
)
from leakharness.model import COUNTERS, Reading
from leakharness.worker.protocol import (
    BASELINE,
    FREEZE,
    IDLE,
    READ,
    REFERENCES,
    RUNS,
    ReadingAnswer,
)

__all__ = ["Batches", "is_310"]

SCARCE = ("fds", "threads", "children")
WARM_UP_SCARCE = 64
"""What a warm-up, and a batch, may leave behind of what a process or a user has few of: 1,024 descriptors, as a
rule. A leak of eight a run would else end in "too many open files", which is no verdict, before the baseline."""
OBJECTS_A_BATCH = 20_000
"""A batch that would leave more objects behind than this is made smaller: so clear a leak needs no more."""
REHEARSAL_RUNS = 5
"""Runs of each of the two rehearsals between the freeze and the baseline: what the first frozen reading itself
allocates must be there before it is compared with the second."""
SLOW_BATCH_SECONDS = 0.3
"""A batch that would take longer is made smaller, unless its size was asked for."""
FEWEST_RUNS_A_BATCH = 5
REFERENCES_AFTER = frozenset(4**power for power in range(12))
"""Multiples of the planned batches after which references are counted in any case."""
REFERENCES_STEADY_BATCHES = 4
"""Batches between two counts of references that go up and down: what a saw of five batches swings by is seen."""
BATCH_OVER_REFERENCES = 10
"""Times the seconds of counting references that a batch must take for them to be counted after it in any case."""
GRACE_S = 0.03
"""Seconds that a reading waits for threads, descriptors and tasks that are on their way out."""
CONFIRM_GRACE_S = 0.5
"""The same for the reading that confirms a leak."""


@dataclass
class Batches:
    """The steps of a measurement that talk to the worker."""

    measurement: Measurement
    worker: WorkerClient
    observer: Observer
    clock: Callable[[], float]

    def warm_up_and_baseline(self, extra: int = 0) -> None:
        """Make runs until the counters stand still, within a budget (or as many as asked for); then the baseline."""
        measurement, plan = self.measurement, self.measurement.plan
        measurement.warm_up.clear()
        run_seconds = self._fixed_warm_up(plan.warmup + extra) if plan.warmup is not None else self._warm_up(extra)
        measurement.iters = plan.iters if plan.iters_given else self._runs_a_batch(run_seconds)
        measurement.runs_a_call = 0
        measurement.bounded = self.worker.request(FREEZE, doing="collecting before the baseline").bounded
        frozen_after = measurement.warm_up_runs
        if plan.warmup is None or plan.warmup >= 4 * REHEARSAL_RUNS:
            for _ in range(2):
                self._runs(REHEARSAL_RUNS, "warm-up")
                self._read(0.0)
        if plan.warmup is None:
            measurement.teeth = self._teeth()
        if measurement.idle_seconds:
            measurement.warm_up.clear()  # it was read without idling: its pace is another one
        self._idle()
        measurement.runs_since_freeze = measurement.warm_up_runs - frozen_after
        counted = self._references()
        answer = self.worker.request(BASELINE, GRACE_S, doing="taking the baseline")
        measurement.readings = [self.reading("baseline", 0, answer, counted)]
        self.observer.reading(self.worker, measurement.readings[0])

    def batch(self, number: int) -> None:
        measurement = self.measurement
        first = number == 1
        label = f"batch-{number}"
        self.observer.phase(label, number, measurement.plan.batches)
        for _ in range(measurement.iters // measurement.runs_a_call if measurement.runs_a_call else 1):
            self._runs(measurement.runs_a_call or measurement.iters, label)
        self._idle()
        answer = self.worker.request(READ, GRACE_S, False, first, doing=f"reading after {label}")
        if first:
            measurement.census = [(measurement.iters, answer.census)]
        counted = self._references() if self._references_due(number) else {}
        measurement.readings.append(self.reading(label, measurement.runs + measurement.iters, answer, counted))
        if number <= measurement.plan.batches or number & (number - 1) == 0:  # of a long measurement, ever fewer
            self.observer.reading(self.worker, measurement.readings[-1])

    def _idle(self) -> None:
        if self.measurement.idle_seconds:
            self.worker.request(IDLE, self.measurement.idle_seconds, doing="idling before a reading")

    def _teeth(self) -> dict[str, float]:
        """How far each counter falls within one batch: readings of it, ever farther apart.

        A store that is emptied about once a batch, a little later in each, looks like slow growth from batch to batch.
        """
        size, made, part = self.measurement.iters, 0, 1
        looks = []
        while made < size:
            part = min(part, size - made)
            self._runs(part, "warm-up")
            made += part
            looks.append(self.reading("warm-up", self.measurement.warm_up_runs, self._read(0.0)))
            part *= 2
        return {name: swing_of(looks, name) for name in looks[-1].counters}

    def confirm(self) -> None:
        """Read again, this time with the frozen heap collected and a long grace: what was only late is gone now."""
        measurement = self.measurement
        answer = self.worker.request(READ, CONFIRM_GRACE_S, True, False, doing="confirming the leak")
        last = measurement.readings[-1]
        measurement.readings[-1] = self.reading(last.label, last.runs, answer, self._references())

    def _references_due(self, number: int) -> bool:
        """After the last planned batch, ever more rarely after that, and before it where it costs little beside the
        runs. What stands still from end to end need not be seen on the way; what does not is followed batch by batch,
        and now and then where the judge found it steady, or explained by objects that grow."""
        measurement = self.measurement
        planned = measurement.plan.batches
        if number > planned and measurement.references.rows:
            rarer = number % REFERENCES_STEADY_BATCHES == 0
            return rarer or not self._references_steady()
        if number % planned == 0 and number // planned in REFERENCES_AFTER:
            return True
        return self.clock() - measurement.readings[-1].seconds >= BATCH_OVER_REFERENCES * measurement.reference_seconds

    def _references_steady(self) -> bool:
        """Whether the judge found nothing in the counts of references so far."""
        found = self.measurement.assessment
        counted = ("references", "given_away")
        return found is not None and all(row.state == "steady" for row in found.growth if row.counter in counted)

    def _references(self) -> dict[str, int]:
        """The counters of references; none where they cannot be counted."""
        began = self.clock()
        answer = self.measurement.references = self.worker.request(REFERENCES, doing="counting references")
        self.measurement.reference_seconds = self.clock() - began
        self.measurement.counting_seconds += self.measurement.reference_seconds
        return {} if answer.failed else {"references": answer.raised, "given_away": answer.given}

    def reading(
        self, label: str, runs: int, answer: ReadingAnswer, references: Mapping[str, int] | None = None
    ) -> Reading:
        measurement = self.measurement
        measurement.tracked = answer.by_label()
        alive = answer.tracked_alive
        if label == "baseline":
            base = alive
        else:
            base = measurement.readings[0].declared["tracked_alive"] if measurement.readings else 0
        counters = {"tracked": alive - base, **answer.counters, **(references or {})}
        declared = {**answer.declared, "tracked_alive": base}
        return Reading(label, runs, counters, declared, answer.collected, self.clock())

    def _fixed_warm_up(self, runs: int) -> float:
        if runs <= 0:
            return 0.0
        start = self.clock()
        self._runs(runs, "warm-up")
        return (self.clock() - start) / runs

    def _warm_up(self, extra: int) -> float:
        """Warm up until the counters stand still. Returns the seconds of one run, at the end of it."""
        measurement = self.measurement
        began = self.clock()
        made, run_seconds = 0, 0.0
        enough = (WARM_UP_RUNS_310 if is_310(measurement) else WARM_UP_RUNS) - measurement.plan.iters
        at_least = extra
        for size in _sizes():
            start = self.clock()
            self._runs(size, "warm-up")
            run_seconds = (self.clock() - start) / size
            made += size
            measurement.warm_up.append(self.reading("warm-up", made, self._read(0.0)))
            if made == WARM_UP_SIZES[0] + WARM_UP_SIZES[1]:
                self.worker.request(FREEZE, doing="warming up")
            elapsed = self.clock() - began
            if made < at_least:
                continue
            if self._memory_left_behind() > WARM_UP_MEMORY_BYTES or self._left_behind("objects") > WARM_UP_OBJECTS:
                break
            if any(self._left_behind(name) >= WARM_UP_SCARCE for name in SCARCE):
                break
            if made < enough and elapsed < (WARM_UP_SECONDS if made >= COUNTED_RUNS else WARM_UP_SECONDS_LIMIT):
                continue
            if _at_rest(measurement.warm_up) or (_linear(measurement.warm_up) and self._outlasted(made, elapsed)):
                break
            if made >= WARM_UP_RUNS_LIMIT or elapsed >= WARM_UP_SECONDS_LIMIT:
                break
        return run_seconds

    def _runs_a_batch(self, run_seconds: float) -> int:
        """Fewer runs a batch where a run is slow, or leaves very much behind; the note says so."""
        measurement, iters = self.measurement, self.measurement.plan.iters
        fit, why = iters, ""
        if run_seconds * iters > SLOW_BATCH_SECONDS:
            fit, why = int(SLOW_BATCH_SECONDS / run_seconds), f"a run takes {run_seconds * 1000:.0f} ms"
        for name, most in (("objects", OBJECTS_A_BATCH), *((name, WARM_UP_SCARCE) for name in SCARCE)):
            left = self._left_a_run(name)
            if left * fit > most:
                fit, why = int(most / left), f"a run leaves {left:,.0f} {COUNTERS[name]} behind"
        fit = min(iters, max(FEWEST_RUNS_A_BATCH, fit))
        if fit < iters:
            measurement.notes.append(f"{why}: {fit} runs a batch instead of {iters} (--iters keeps its size)")
        return fit

    def _left_a_run(self, name: str) -> float:
        """How much of a counter a run left behind, at the end of the warm-up."""
        if len(self.measurement.warm_up) < 2:
            return 0.0
        before, last = self.measurement.warm_up[-2:]
        return (last.counters.get(name, 0) - before.counters.get(name, 0)) / max(1, last.runs - before.runs)

    def _outlasted(self, made: int, elapsed: float) -> bool:
        """Whether even growth has outlasted the usual bounds of caches, or costs too much to be followed there."""
        costs = elapsed >= LINEAR_SECONDS or self._memory_left_behind() > LINEAR_MEMORY_BYTES
        return costs or made >= WARM_UP_RUNS_LIMIT

    def _memory_left_behind(self) -> int:
        first, last = self.measurement.warm_up[0].counters, self.measurement.warm_up[-1].counters
        return max((last[name] - first[name] for name in ("rss", "malloc_bytes") if name in last), default=0)

    def _left_behind(self, name: str) -> int:
        return self.measurement.warm_up[-1].counters.get(name, 0) - self.measurement.warm_up[0].counters.get(name, 0)

    def _runs(self, count: int, doing: str) -> None:
        self.worker.request(RUNS, count, doing=f"making the runs of {doing}")
        if doing == "warm-up":
            self.measurement.warm_up_runs += count

    def _read(self, grace: float) -> ReadingAnswer:
        return self.worker.request(READ, grace, False, False, doing="reading during warm-up")


def is_310(measurement: Measurement) -> bool:
    return measurement.facts is not None and measurement.facts.python.startswith("3.10.")
