"""What a PASS says of tracked objects that stay all the same: no more of them a run, and yet they are there."""

from __future__ import annotations

from leakharness.measure.measurement import Measurement, WorkerClient
from leakharness.units import size
from leakharness.worker.protocol import RETENTION, Retention, RetentionIn

__all__ = ["FEWEST_TOLD", "retention_sentences", "tracked_alive", "what_stays"]

FEWEST_TOLD = 10
"""Tracked objects alive at a PASS from which on it says where they stay: fewer are those of the last runs."""
WORTH_TELLING_BYTES = 1 << 20
"""Bytes of malloc that go with them from which on they are told."""


def what_stays(measurement: Measurement, worker: WorkerClient) -> tuple[str, ...]:
    """One sentence for each bounded container in which tracked objects stay, and one for those that stay elsewhere."""
    if tracked_alive(measurement) < FEWEST_TOLD:
        return ()
    return retention_sentences(worker.request(RETENTION, doing="asking where tracked objects stay"))


def tracked_alive(measurement: Measurement) -> int:
    """Tracked objects alive at the last reading, those of the warm-up included."""
    if not measurement.readings:
        return 0
    last = measurement.readings[-1]
    return last.counters.get("tracked", 0) + last.declared.get("tracked_alive", 0)


def retention_sentences(found: Retention) -> tuple[str, ...]:
    """The sentences. Pure."""
    left = dict(found.alive)
    lines = []
    for row in found.rows:
        lines.append(_sentence(row))
        for label, count in row.tracked.items():
            left[label] = left.get(label, 0) - count
    rest = ", ".join(f"{count:,} {label}" for label, count in left.items() if count >= FEWEST_TOLD)
    if rest:
        lines.append(f"{rest} stay elsewhere, no more of them a run: what the warm-up left, or what is replaced")
    return tuple(lines)


def _sentence(row: RetentionIn) -> str:
    what = ", ".join(f"{count:,} {label}" for label, count in row.tracked.items())
    weight = f" ({size(row.malloc_bytes)})" if row.malloc_bytes >= WORTH_TELLING_BYTES else ""
    full = "bounded" if row.size >= row.bound else f"bounded, {row.size:,} of {row.bound:,} entries so far"
    return f"{what}{weight} stay in {row.name}: {full}"
