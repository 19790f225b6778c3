"""A quick look before the full measurement: runs whose exact counters stand still pass at once.

A handful of short stretches of runs after a short warm-up, with one reading after each, and nothing that costs more
where the heap is large. Whatever moves is measured in full: a quick look never calls a leak, and never excuses one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from leakharness.judge.policy import CHILDREN_FLOOR_BYTES, MALLOC_FLOOR_BYTES, MAPPED_FLOOR_BYTES
from leakharness.measure.batches import GRACE_S, Batches
from leakharness.model import Detectable, Reading
from leakharness.units import MIB, number
from leakharness.worker.protocol import BASELINE, FREEZE, READ, RUNS

__all__ = ["QuickPass", "quick_look"]

STILL_STRETCHES = 5
"""Stretches in a row in which nothing may rise: as many as the judge's segments."""
MOST_STRETCHES = 9
"""After so many the quick look is over: what still moves now and then is measured in full."""
RISES_IN_A_ROW = 3
"""So many stretches that each left something behind end it earlier: that is a leak, or a cache that fills."""
STRETCH_SECONDS = 0.05
"""Time of one stretch: a body of 5 ms gets 10 runs in it, and a hundred such bodies 35 seconds altogether."""
LONGEST_STRETCH = 60
"""Runs of one stretch where runs take next to no time: six of them, the warm-up included, cost a trivial test some
40 ms, and a leak that begins at its 260th run, or strikes once in a hundred, is seen."""
SHORTEST_STRETCH = 2
GENTLE_RUNS = 4
"""Runs before any stretch, so that a leak of what is scarce shows while there is still some left:"""
MOST_LEFT_BEHIND = {
    "fds": 64,
    "threads": 64,
    "children": 64,
    "objects": 20_000,
    "rss": 64 * MIB,
    "malloc_bytes": 64 * MIB,
}
"""more than this must not be left behind by a look. A process has 1,024 descriptors, as a rule."""
SLOW_RUN_SECONDS = 0.5
"""From here on a stretch is one run."""
FEW_RUNS = 50
"""Fewer still runs than this are said to be few."""
NOT_EXACT = {
    "malloc_bytes": MALLOC_FLOOR_BYTES,
    "mapped_bytes": MAPPED_FLOOR_BYTES,
    "children_rss": CHILDREN_FLOOR_BYTES,
}
"""Rises that the judge forgives these, in bytes, over the whole series; resident size never decides alone."""
NEVER_ALONE = ("rss",)
NOT_LOOKED_AT = {
    "entries": "a quick look counts those of new containers alone: the lengths of old ones cost a walk of the heap",
    "references": "a quick look counts none: that costs a walk of the heap",
}


@dataclass(frozen=True)
class QuickPass:
    """Nothing rose. ``detectable``: what would have; ``blind``: what was not looked at, and why."""

    reason: str
    detectable: Detectable
    blind: Mapping[str, str] = field(default_factory=lambda: NOT_LOOKED_AT)


def quick_look(batches: Batches) -> QuickPass | None:
    """Warm up shortly, then stretches until enough of them in a row left nothing behind. None: it is not clear."""
    measurement, worker = batches.measurement, batches.worker
    worker.request(FREEZE, False, doing="freezing the heap")
    run_seconds = _warm_up(batches)
    size = runs_a_stretch(run_seconds)
    slow = run_seconds >= SLOW_RUN_SECONDS
    answer = worker.request(BASELINE, GRACE_S, doing="taking the baseline")
    measurement.readings = [batches.reading("baseline", 0, answer)]
    if not slow:
        run_seconds = min(run_seconds, _stretch(batches, GENTLE_RUNS))
        size = runs_a_stretch(run_seconds)
        if _costs_too_much(measurement.readings, size / GENTLE_RUNS):
            return None
        run_seconds = min(run_seconds, _make(batches, size, "warm-up"))
        size = runs_a_stretch(run_seconds)  # the quickest of them: on a busy machine the others were interrupted
        measurement.readings.clear()
        answer = worker.request(READ, GRACE_S, doing="reading after the warm-up")
        measurement.readings.append(batches.reading("baseline", 0, answer))
    for _ in range(STILL_STRETCHES if slow else MOST_STRETCHES):
        _stretch(batches, size)
        if stands_still(measurement.readings):
            return _passed(measurement.readings[-STILL_STRETCHES - 1 :], run_seconds)
        if _rises_without_end(measurement.readings) or _costs_too_much(measurement.readings, 1):
            break
    if slow:
        # What moves gets no minutes either: a leak shows in each of a few runs.
        measurement.plan = replace(measurement.plan, warmup=SHORTEST_STRETCH, iters=1, iters_given=True)
        measurement.notes.append(
            f"slow: a run takes {run_seconds:.1f} s, so a batch is one run (iters= says otherwise)"
        )
    return None


def runs_a_stretch(run_seconds: float) -> int:
    """How many runs a stretch has, where one takes ``run_seconds``."""
    if run_seconds >= SLOW_RUN_SECONDS:
        return 1
    fit = int(STRETCH_SECONDS / run_seconds) if run_seconds > 0 else LONGEST_STRETCH
    return max(SHORTEST_STRETCH, min(LONGEST_STRETCH, fit))


def stands_still(readings: Sequence[Reading]) -> bool:
    """Whether the last stretches left nothing behind: no exact counter rose in any of them, and address space not in
    each of them. Pure."""
    if len(readings) <= STILL_STRETCHES:
        return False
    last = readings[-STILL_STRETCHES - 1 :]
    if any(_rose(one, two) for one, two in itertools.pairwise(last)):
        return False
    if any(_value(last[-1], name) - _value(last[0], name) > floor for name, floor in NOT_EXACT.items()):
        return False
    return not all(_value(two, "mapped_bytes") > _value(one, "mapped_bytes") for one, two in itertools.pairwise(last))


def _rises_without_end(readings: Sequence[Reading]) -> bool:
    last = readings[-RISES_IN_A_ROW - 1 :]
    return len(last) > RISES_IN_A_ROW and all(_rose(one, two) for one, two in itertools.pairwise(last))


def _rose(before: Reading, after: Reading) -> bool:
    names = [name for name in after.counters if name not in NOT_EXACT and name not in NEVER_ALONE]
    return any(_value(after, name) > _value(before, name) for name in names)


def _value(reading: Reading, name: str) -> int:
    return reading.counters.get(name, 0) - reading.declared.get(name, 0)


def _costs_too_much(readings: Sequence[Reading], more: float) -> bool:
    """Whether ``more`` times what is left behind so far is more than a look may cost."""
    first, last = readings[0], readings[-1]
    return any(
        (last.counters.get(name, 0) - first.counters.get(name, 0)) * max(1.0, more) > most
        for name, most in MOST_LEFT_BEHIND.items()
    )


def _stretch(batches: Batches, size: int) -> float:
    """Runs, and a reading after them. Returns the seconds of one run."""
    measurement = batches.measurement
    seconds = _make(batches, size, "the quick look")
    answer = batches.worker.request(READ, GRACE_S, doing="reading in the quick look")
    measurement.readings.append(batches.reading(f"batch-{len(measurement.readings)}", measurement.runs + size, answer))
    return seconds


def _make(batches: Batches, count: int, what: str) -> float:
    """Seconds of one of ``count`` runs."""
    start = batches.clock()
    batches.worker.request(RUNS, count, doing=f"making the runs of {what}")
    if what == "warm-up":
        batches.measurement.warm_up_runs += count
    return (batches.clock() - start) / count


def _warm_up(batches: Batches) -> float:
    """The first runs, which build most of what is built once. Returns the seconds of one."""
    seconds = _make(batches, 1, "warm-up")
    return seconds if seconds >= SLOW_RUN_SECONDS else _make(batches, 2, "warm-up")


def _passed(last: Sequence[Reading], run_seconds: float) -> QuickPass:
    runs = last[-1].runs - last[0].runs
    few = f"; slow ({run_seconds * 1000:.0f} ms a run): {number(runs)} runs only" if runs < FEW_RUNS else ""
    reason = (
        f"quick look: no exact counter rose over {number(runs)} runs, so one object in {runs} runs would have "
        f"shown{few}"
    )
    exact = 1 / runs
    malloc = MALLOC_FLOOR_BYTES / runs if "malloc_bytes" in last[-1].counters else None
    return QuickPass(reason, Detectable(exact, exact, exact if "blocks" in last[-1].counters else None, malloc))
