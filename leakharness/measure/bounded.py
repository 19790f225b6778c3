"""Containers that show a bound: fill them before judging, and tell whether they explain the growth."""

from __future__ import annotations

from leakharness.measure.measurement import Measurement, WorkerClient
from leakharness.worker.protocol import (
    BOUNDED_STORES,
    GROWTH_AFTER_CLEARING,
    GROWTH_AFTER_CLEARING_DECLARED,
    ClearedAnswer,
    Container,
)

LEFT_IN_CLEARED = 0.05
"""Share of the growth that may be left once the bounded containers are emptied in a copy, for them to explain it."""
LEAST_FILLED = 0.01
"""Entries that a store of the program must have got for each run to be filled: one in a hundred."""
REFILL_MARGIN = 1.1
"""Runs made to fill a bounded container, as a multiple of what its growth so far asks for."""


def _runs_to_fill(measurement: Measurement, worker: WorkerClient) -> tuple[int, str] | None:
    """Whether the growth is that of bounded containers that are not full yet: (runs until they are, sentence).

    Decided by doing: a forked copy empties them and counts what is left.
    """
    answer = worker.request(GROWTH_AFTER_CLEARING, measurement.bounded, doing="testing the bounded containers")
    if not _explains(measurement, answer):
        return None
    slowest = max(answer.containers, key=lambda row: (row.bound - row.size) / row.grew)
    return _until_full(
        measurement, slowest, slowest.grew / (measurement.runs_since_freeze + measurement.runs), "which is bounded and"
    )


def _runs_to_fill_declared(measurement: Measurement, worker: WorkerClient) -> tuple[int, str] | None:
    """The same for containers of the program, in an object that says how large they may become: one that got
    an entry in every other run at least. That they stop there is not proven, but shown by the runs."""
    runs = measurement.runs + measurement.warm_up_runs
    doing = "testing the containers with a bound"
    answer = worker.request(GROWTH_AFTER_CLEARING_DECLARED, runs // 2, doing=doing)
    if not _explains(measurement, answer):
        return None
    slowest = max(answer.containers, key=lambda row: (row.bound - row.size) / row.size)
    return _until_full(measurement, slowest, slowest.size / runs, "which names a bound and")


def runs_to_fill_stores(measurement: Measurement, worker: WorkerClient) -> tuple[int, str] | None:
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
    return _until_full(measurement, slowest, slowest.size / made, "which the scenario says is bounded, and which")


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


def _explains(measurement: Measurement, answer: ClearedAnswer) -> bool:
    """Whether, with the containers emptied in a copy, nothing is left of the growth."""
    if not answer.containers or answer.counts is None:
        return False
    first, last = measurement.readings[0], measurement.readings[-1]
    fell = {
        "objects": answer.counts.objects_fell,
        "blocks": answer.counts.blocks_fell,
        "entries": answer.counts.entries_fell,
    }
    cleared = {name: last.counters[name] - by for name, by in fell.items() if by is not None and name in last.counters}
    growing = (
        {g.counter for g in measurement.assessment.growth if g.grows} if measurement.assessment is not None else set()
    )
    in_containers = growing & cleared.keys()
    if not in_containers or answer.counts.alive > first.declared["tracked_alive"]:
        return False
    for name in in_containers:
        before = first.counters[name] - first.declared.get(name, 0)
        grown = last.counters[name] - last.declared.get(name, 0) - before
        left = cleared[name] - last.declared.get(name, 0) - before
        if left > LEFT_IN_CLEARED * max(grown, 0):
            return False
    return True


def _until_full(measurement: Measurement, container: Container, a_run: float, which: str) -> tuple[int, str]:
    """Runs until the container is full, and the sentence that says so."""
    needed = int(REFILL_MARGIN * (container.bound - container.size) / a_run) + 1
    sentence = (
        f"the growth is held by {container.name}, {which} has {container.size:,} of "
        f"{container.bound:,} entries after {measurement.runs + measurement.warm_up_runs:,} runs"
    )
    return needed, sentence
