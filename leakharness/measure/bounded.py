"""Containers that show a bound: fill them before judging, and tell whether they explain the growth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from leakharness.judge.policy import HOLDS_BYTES
from leakharness.judge.verdict import Assessment
from leakharness.measure.measurement import Measurement, WorkerClient
from leakharness.sensitivity import Sensitivity
from leakharness.worker.protocol import (
    BOUNDED_STORES,
    GROWTH_AFTER_CLEARING,
    GROWTH_AFTER_CLEARING_DECLARED,
    ClearedAnswer,
    Container,
    CopyCounts,
)

LEFT_IN_CLEARED = 0.05
"""Share of the growth that may be left once the bounded containers are emptied in a copy, for them to explain it."""
WORTH_FILLING = 0.2
"""Share of the growth that they must explain, for them to be filled so that the rest is measured alone."""
LEAST_FILLED = 0.01
"""Entries that a store of the program must have got for each run to be filled: one in a hundred."""
EXACT = 0.1
"""Share of the growth that may lie beside what the container has gained, for it to be that alone,"""
STRAY_ENTRIES = 2
"""and how many entries may have come between the freeze and the baseline otherwise than in the runs,"""
ROUGHLY = 0.3
"""and by which it may be less: some of what an entry takes was there before."""
BYTES = ("malloc_bytes", "mapped_bytes")
"""Counters of which the copy tells nothing: an entry weighs some hundred bytes. (Resident size decides nothing.)"""
MOST_NAMED = 3
"""Kinds of containers that a sentence names."""
REFILL_MARGIN = 1.1
"""Runs made to fill a bounded container, as a multiple of what its growth so far asks for."""


@dataclass(frozen=True)
class Filling:
    """How a container that holds growth is filled. ``whole``: whether it explains all of the growth. ``exact``: whether
    the growth is what it has gained since the baseline, by its own bound, and nothing beside it."""

    runs: int
    sentence: str
    whole: bool
    exact: bool = False


def runs_to_fill(measurement: Measurement, worker: WorkerClient) -> Filling | None:
    """How bounded containers that are not full yet, and hold the growth or a good part of it, are filled.

    Decided by doing: a forked copy empties them and counts what is left.
    """
    answer = worker.request(GROWTH_AFTER_CLEARING, measurement.bounded, doing="testing the bounded containers")
    explained = _explained(measurement, answer)
    if explained < WORTH_FILLING:
        return None
    slowest = max(answer.containers, key=lambda row: (row.bound - row.size) / row.grew)
    a_run = _entries_a_run(measurement, slowest)
    filling = _until_full(measurement, slowest, a_run, "which is bounded and has", explained)
    return replace(filling, exact=filling.whole and _is_all_that_grew(measurement, answer))


def all_in_bounded(measurement: Measurement, worker: WorkerClient) -> str | None:
    """The sentence about the bounded containers that have got all that moves, where that is not clear to grow."""
    answer = worker.request(GROWTH_AFTER_CLEARING, measurement.bounded, doing="testing the bounded containers")
    if not answer.containers or not _is_all_that_grew(measurement, answer):
        return None
    held = _together(answer.containers)
    which = "which is bounded and has" if len(answer.containers) == 1 else "which are bounded and together have"
    return _until_full(measurement, held, _entries_a_run(measurement, held), which, 1.0).sentence


def runs_to_fill_declared(measurement: Measurement, worker: WorkerClient) -> Filling | None:
    """The same for containers of the program, in an object that says how large they may become: one that got
    an entry in every other run at least. That they stop there is not proven, but shown by the runs."""
    runs = measurement.runs + measurement.warm_up_runs
    doing = "testing the containers with a bound"
    answer = worker.request(GROWTH_AFTER_CLEARING_DECLARED, runs // 2, doing=doing)
    explained = _explained(measurement, answer)
    if explained < WORTH_FILLING:
        return None
    slowest = max(answer.containers, key=lambda row: (row.bound - row.size) / row.size)
    return _until_full(measurement, slowest, slowest.size / runs, "which names a bound and has", explained)


def runs_to_fill_stores(measurement: Measurement, worker: WorkerClient) -> Filling | None:
    """The same for stores of which the scenario says at how many entries they stop. Whether that is so shows when they
    are full."""
    rows = _stores(measurement, worker)
    made = measurement.runs + measurement.warm_up_runs
    filling = [row for row in rows if 0 < row.size < row.bound]
    if not filling or any(row.size > row.bound for row in rows):
        return None
    slowest = max(filling, key=lambda row: (row.bound - row.size) / row.size)
    if slowest.size < LEAST_FILLED * made:
        return None
    return _until_full(
        measurement, slowest, slowest.size / made, "which the scenario says is bounded, and which has", 1.0
    )


def over_bound(measurement: Measurement, worker: WorkerClient) -> str | None:
    """The sentence about a store that has more entries than the scenario says it ever has."""
    for row in _stores(measurement, worker):
        if row.size > row.bound:
            return (
                f"{row.name} has {row.size:,} entries, more than the {row.bound:,} at which the scenario says it stops"
            )
    return None


def _stores(measurement: Measurement, worker: WorkerClient) -> tuple[Container, ...]:
    bounds = measurement.facts.scenario.bounded if measurement.facts is not None else {}
    return worker.request(BOUNDED_STORES, dict(bounds), doing="measuring the bounded stores").rows if bounds else ()


def _explained(measurement: Measurement, answer: ClearedAnswer) -> float:
    """The share of the growth that goes when the containers are emptied in a copy, of the counter that loses least."""
    if not answer.containers or answer.counts is None:
        return 0.0
    first, last = measurement.readings[0], measurement.readings[-1]
    growing = (
        {g.counter for g in measurement.assessment.growth if g.grows} if measurement.assessment is not None else set()
    )
    if answer.counts.alive > first.declared["tracked_alive"]:
        return 0.0
    shares = []
    for name, by in _fell(answer.counts).items():
        if by is None or name not in growing or name not in last.counters:
            continue
        grown = _grown(measurement, name)
        shares.append(by / grown if grown > 0 else 0.0)
    return min(shares, default=0.0)


def _fell(counts: CopyCounts) -> dict[str, int | None]:
    """What each counter fell by when the containers were emptied; None where the copy could not tell."""
    return {"objects": counts.objects_fell, "blocks": counts.blocks_fell, "entries": counts.entries_fell}


def _grown(measurement: Measurement, name: str) -> int:
    """What a counter rose by since the baseline, without what the scenario declared."""
    first, last = measurement.readings[0], measurement.readings[-1]
    return last.counters[name] - last.declared.get(name, 0) - (first.counters[name] - first.declared.get(name, 0))


def _entries_a_run(measurement: Measurement, container: Container) -> float:
    return container.grew / (measurement.runs_since_freeze + measurement.runs)


def _is_all_that_grew(measurement: Measurement, answer: ClearedAnswer) -> bool:
    """Whether the growth since the baseline is what these containers got since then, by what their entries weigh: so
    that no leak of the sensitivity that was asked for is hidden beside them."""
    found, counts = measurement.assessment, answer.counts
    if found is None or counts is None or _come_for_ever(answer, found):
        return False
    held, asked = _together(answer.containers), Sensitivity.of(measurement.plan.sensitivity)
    a_run = _entries_a_run(measurement, held)
    if a_run > asked.objects / 2:  # what fills so fast is filled, or is larger than anybody can tell from a leak
        return False
    came = a_run * measurement.runs
    share = came / held.size
    fell = _fell(counts)
    for name in (row.counter for row in found.growth if row.state != "steady"):
        grown = _grown(measurement, name)
        if name == "rss" or (
            name in BYTES and grown <= min(came * HOLDS_BYTES, asked.native_bytes * measurement.runs / 2)
        ):
            continue
        if name == "tracked":
            if counts.alive > measurement.readings[0].declared["tracked_alive"]:
                return False
            continue
        by = fell.get(name)
        if by is None or by * share > (1 + ROUGHLY) * grown:
            return False
        stray = EXACT * grown + STRAY_ENTRIES * by / held.size
        if grown - by * share > min(stray, asked.objects * measurement.runs / 2):
            return False
    return True


def _come_for_ever(answer: ClearedAnswer, found: Assessment) -> bool:
    """Whether there may be ever more of several containers, each bounded: one that is new is an object more."""
    if len(answer.containers) == 1 or not any(row.is_new for row in answer.containers):
        return False
    return not any(row.counter == "objects" and row.state == "steady" for row in found.growth)


def _together(rows: Sequence[Container]) -> Container:
    """Containers as if they were one, named by kind: "20 x deque(maxlen=5), lru_cache(maxsize=9) of f"."""
    names = Counter(row.name for row in rows).most_common()
    said = [f"{count} x {name}" if count > 1 else name for name, count in names[:MOST_NAMED]]
    more = sum(count for _, count in names[MOST_NAMED:])
    name = ", ".join([*said, f"{more} more"] if more else said)
    return Container(name, sum(r.size for r in rows), sum(r.bound for r in rows), sum(r.grew for r in rows))


def _until_full(measurement: Measurement, container: Container, a_run: float, which: str, explained: float) -> Filling:
    """Runs until the container is full, and the sentence that says so."""
    needed = int(REFILL_MARGIN * (container.bound - container.size) / a_run) + 1
    whole = explained >= 1 - LEFT_IN_CLEARED
    sentence = (
        f"{'' if whole else f'{explained:.0%} of '}the growth is held by {container.name}, {which} "
        f"{container.size:,} of {container.bound:,} entries after {measurement.runs + measurement.warm_up_runs:,} runs"
    )
    return Filling(needed, sentence, whole)
