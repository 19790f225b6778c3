"""How far growth is followed before it is called a leak: a cache of the program that is not full yet looks the same.

Decided by runs and by what they leave behind, never by the clock: the verdict must not depend on how busy the machine
is. Seconds only bound it (``--max-seconds``), and then the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from leakharness.judge import verdict as judge
from leakharness.judge.policy import FIRST_RUNS, SEGMENTS, USUAL_BLOCK_BYTES
from leakharness.measure.measurement import Measurement
from leakharness.model import Reading
from leakharness.units import size

__all__ = ["cut_short", "every_second", "followed_far_enough", "weighs_enough"]

FOLLOWED_ENTRIES = 2_048
"""As many as a cache may hold that shows no bound, and gets one a run: few hold more; see for instance SQLAlchemy's
(750), sqlite3's, dateutil's and re's (512)."""
FOLLOWED_RUNS = 2_560
"""Runs from the process's first on that growth is followed: so many, and a fifth of that, since the last of five
stretches must show whether it goes on."""
FOLLOWED_BYTES = 64 * 2**20
"""What the runs may leave behind meanwhile: a cache that holds more weighs as much as a leak, and the machine is not
ours to fill."""
FOLLOWED_OBJECTS = 200_000
"""The same in objects: a hundred for each entry of a cache of 2,000."""
BYTES = ("rss", "malloc_bytes", "mapped_bytes", "unlinked_bytes", "shm_bytes")
EXACT = ("tracked", "objects", "entries", "blocks")
FEW = (
    *("fds", "threads", "children", "tasks", "references", "given_away"),
    *("interpreters", "watches", "locks", "timers"),
)
"""What no cache holds by the thousand (a cache in C holds each object once): growth of these is not followed."""


def followed_far_enough(measurement: Measurement, found: judge.Assessment) -> bool:
    """Whether what grows has outgrown the usual bounds of caches, or is nothing that a cache holds."""
    growing = {row.counter for row in found.growth if row.grows}
    if not growing or growing.intersection(FEW):  # none grows: a hard limit was exceeded
        return True
    return _outgrown(measurement, found) or weighs_enough(measurement)


def every_second(readings: Sequence[Reading], found: judge.Assessment) -> list[Reading] | None:
    """Half of the readings of growth that is followed, at twice the distance; None where they would be fewer than the
    judge needs, or would hide that what grows has fallen meanwhile. Pure.

    A reading costs as much as many runs, and of growth by the same in every batch a hundred say no more than ten.
    """
    batches = len(readings) - 1
    if batches < 2 * SEGMENTS or batches % 2:
        return None
    half = list(readings[::2])
    exact = [row.counter for row in found.growth if row.grows and row.counter not in BYTES]
    if not exact or any(judge.swing_of(half, name) < judge.swing_of(readings, name) for name in exact):
        return None
    return half


def cut_short(measurement: Measurement, found: judge.Assessment) -> str | None:
    """Where growth could not be followed so far: the sentence that says why, and what it may be instead of a leak."""
    growing = {row.counter for row in found.growth if row.grows}
    runs = _runs_made(measurement)
    if _outgrown(measurement, found) or not growing or growing.intersection(FEW):
        return None
    heavy = weighs_enough(measurement)
    objects = _left_behind(measurement, "objects")  # less than is there: the count begins anew with a freeze
    left = f"{objects:,} objects" if objects >= FOLLOWED_OBJECTS else size(_left_behind(measurement, *BYTES))
    why = f"until they had left {left} behind" if heavy else "no more: --max-runs, --max-seconds"
    return f"followed for {runs:,} runs, {why}; a cache that shows no bound and holds more entries looks the same"


def _outgrown(measurement: Measurement, found: judge.Assessment) -> bool:
    """Whether growth was seen after as many runs as fill the usual caches. A store that shows only as a table that
    doubles was seen to grow when the last step came, not since."""
    if found.last_step is None:
        # In so many runs a cache is full that gets an entry in each; of one whose keys come at random, entries count.
        full = not found.uneven or _entries_left(measurement, found) >= FOLLOWED_ENTRIES
        return full and _runs_made(measurement) >= FOLLOWED_RUNS
    return found.last_step >= FOLLOWED_ENTRIES


def _entries_left(measurement: Measurement, found: judge.Assessment) -> float:
    """How many entries the store that grows may have got, since the first runs built what they need: by the counter
    that rises least, since an entry may be a list of its own, of many. Where only bytes grow, one for each of the usual
    size."""
    rising = {row.counter for row in found.growth if row.state != "steady"}
    growing = {row.counter for row in found.growth if row.grows}
    if growing.intersection(EXACT):
        return min(_risen(measurement, name) for name in rising.intersection(EXACT))
    return max((_risen(measurement, name) / USUAL_BLOCK_BYTES for name in growing.intersection(BYTES)), default=0.0)


def _risen(measurement: Measurement, counter: str) -> int:
    """What a counter rose by in the warm-up, after the first runs, and since the baseline: it may begin anew there."""
    settled = [reading for reading in measurement.warm_up if reading.runs >= FIRST_RUNS]
    rows = [
        [row.counters[counter] for row in part if counter in row.counters] for part in (settled, measurement.readings)
    ]
    return sum(values[-1] - values[0] for values in rows if values)


def _runs_made(measurement: Measurement) -> int:
    return measurement.warm_up_runs + measurement.runs


def weighs_enough(measurement: Measurement) -> bool:
    """Whether the runs have left as much behind as a leak would."""
    heavy = _left_behind(measurement, *BYTES) >= FOLLOWED_BYTES
    return heavy or _left_behind(measurement, "objects") >= FOLLOWED_OBJECTS


def _left_behind(measurement: Measurement, *counters: str) -> int:
    """The most that any of these counters rose by since the first reading of the process."""
    first: Reading = (measurement.warm_up or measurement.readings)[0]
    last = measurement.readings[-1]
    both = [name for name in counters if name in last.counters and name in first.counters]
    return max((last.counters[name] - first.counters[name] for name in both), default=0)
