"""What grows beside the leaks that are known: measured on, with readings of a copy that is rid of them.

After each further batch a forked copy of the measured process loses the known leaks, with all that hangs on them, and
is counted. What that leaves is judged by the rules of any other measurement. The resources that a copy does not have
(threads, children, resident size …) are read in the process itself, memory less the bytes that the cut gave back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from leakharness.errors import LeakHarnessError, NotJudged
from leakharness.measure.batches import GRACE_S, Batches
from leakharness.measure.judging import Judging
from leakharness.measure.measurement import Measurement, SilentObserver, WorkerClient
from leakharness.model import BesideKnown, Reading
from leakharness.worker.protocol import READ, READ_CUT_BACK, READ_WITHOUT, Holder, ReadingAnswer

__all__ = ["beside_known"]

COUNTED_IN_COPY = ("objects", "entries", "references", "blocks", "malloc_bytes", "tasks", "fds")
"""What a forked copy has as the process has it, so that there the known leaks' share of it is gone."""


@dataclass
class _WithoutKnown(Batches):
    """Batches whose readings are those of a copy without what is left out: the known leaks, or what some containers
    have gained."""

    holders: Sequence[Holder] = field(default=())
    types: Sequence[str] = ()
    containers: Sequence[int] = ()

    def baseline(self) -> None:
        """Twice, because the first time whatever it needs is imported."""
        for _ in range(2):
            answer = self.worker.request(READ, GRACE_S, True, False, doing="measuring on beside the known leaks")
            self.measurement.readings = [self.reading("baseline", 0, answer, self._references())]

    def reading(
        self, label: str, runs: int, answer: ReadingAnswer, references: Mapping[str, int] | None = None
    ) -> Reading:
        doing = "counting in a copy without what is left out"
        if self.containers:
            copy = self.worker.request(READ_CUT_BACK, list(self.containers), doing=doing)
        else:
            copy = self.worker.request(READ_WITHOUT, list(self.holders), list(self.types), doing=doing)
        if copy.error is not None:
            raise NotJudged(f"what is left out could not be cut out of a copy: {copy.error}")
        counters = {**answer.counters, **{n: v for n, v in copy.counters.items() if n in COUNTED_IN_COPY}}
        declared = dict(answer.declared)
        for name, freed in (("mapped_bytes", copy.small_bytes), ("rss", copy.small_bytes + copy.malloc_bytes)):
            declared[name] = declared.get(name, 0) + freed
        answer = answer._replace(counters=counters, declared=declared, tracked_alive=copy.alive, tracked={})
        return super().reading(label, runs, answer, references)


def beside_known(
    worker: WorkerClient,
    measurement: Measurement,
    holders: Sequence[Holder] = (),
    types: Sequence[str] = (),
    containers: Sequence[int] = (),
) -> BesideKnown:
    """Measure on in ``worker``, with the references of ``holders`` cut before each count, and judge what is left.
    ``containers``: instead, addresses of those that are cut back to what they were.

    ``types``: where nothing is tracked, the classes whose objects are taken out, all of them alike: what they are held
    by is known, and what grows is judged by readings that are all without them.
    """
    plan = measurement.plan
    iters = min(plan.iters, measurement.iters)  # growth that was followed had ever larger batches
    plan = replace(plan, max_runs=max(plan.max_runs - measurement.runs, iters * plan.batches))
    rest = Measurement(
        measurement.request, plan, facts=measurement.facts, iters=iters, warm_up_runs=measurement.warm_up_runs
    )
    batches = _WithoutKnown(rest, worker, SilentObserver(), monotonic, holders, types, containers)
    try:
        batches.baseline()
        outcome = Judging(batches, None, monotonic).outcome()
    except LeakHarnessError as exc:
        return BesideKnown("NOT_JUDGED", str(exc))
    return BesideKnown(outcome.verdict, outcome.reason)
