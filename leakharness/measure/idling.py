"""Retention bounded by time: before growth is called a leak, or open, see whether what the runs left dies by itself."""

from __future__ import annotations

from leakharness.judge.policy import _FLOORS
from leakharness.judge.verdict import Assessment
from leakharness.measure.measurement import Measurement, WorkerClient
from leakharness.units import number
from leakharness.worker.protocol import IDLE, READ, RELEASE_TIMES, RUNS

__all__ = ["seconds_until_released"]

STEPS_S = (1.0, 2.0, 4.0)
"""How long the process idles where entries have a stamp: most caches that tests use live for a few seconds."""
LATE_S = 0.1
"""Waited beyond a timer's due time."""
STAMPED = 0.5
"""Stamped objects a run, from which on entries seem to have an end of life."""
RELEASED = 0.5
"""Share of the growth that must be gone after idling, for it to be bounded by time."""


def seconds_until_released(
    measurement: Measurement, worker: WorkerClient, found: Assessment, seconds: float, *, by_timers: bool = False
) -> float | None:
    """How long the process must idle until what the runs left is released; None where it is not, within ``seconds``.

    Idles only where something can release it: a timer that is due, or entries that carry a time. One more batch is
    made afterwards, since a cache drops what is too old when it is next used. ``by_timers``: only where timers are due
    in time, of which nothing is said else.
    """
    times = worker.request(RELEASE_TIMES, doing="looking for timers")
    if times.timers:
        steps: tuple[float, ...] = (times.last_due_s + LATE_S,)
        if times.last_due_s > seconds and not by_timers:
            measurement.notes.append(
                f"{times.timers:,} timers are pending, the last of them due in {number(times.last_due_s)} s: what they "
                "hold is released then, which was not waited for (--max-seconds)"
            )
    elif not by_timers and times.stamped >= STAMPED * measurement.runs:
        steps = STEPS_S
    else:
        return None
    state = "grows" if found.state == "grows" else "undecided"
    growing = [row.counter for row in found.growth if row.state == state and _FLOORS[row.counter] == 0]
    first, last, waited = measurement.readings[0].counters, measurement.readings[-1].counters, 0.0
    for step in steps:
        waited += step
        if not growing or waited > seconds:
            return None
        worker.request(IDLE, step, doing="idling")
        if not by_timers:  # which need none; and the series may go on, of which these were no part
            worker.request(RUNS, measurement.runs_a_call or measurement.iters, doing="making the runs after idling")
        answer = worker.request(READ, 0.0, False, False, doing="reading after idling")
        now = {**answer.counters, "tracked": answer.tracked_alive - measurement.readings[0].declared["tracked_alive"]}
        if all(last[name] - now.get(name, last[name]) >= RELEASED * (last[name] - first[name]) for name in growing):
            return step
    return None
