"""Tracked objects that stay in bounded containers: found by emptying each in a forked copy, and counting what dies."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

from leakharness.worker.fork import CAN_FORK, CopyFailed, answer_of_copy
from leakharness.worker.protocol import Retention, RetentionIn
from leakharness.worker.tracker import Tracker
from leakharness.worker.unpatched import gc

__all__ = ["retention"]

MOST_EMPTIED = 20
"""Bounded containers that are emptied, the largest first."""
COPY_SECONDS = 20.0
"""How long the copy may take; it is killed then, and nothing is said."""
FEWEST = 2
"""Entries from which on a container is looked at."""

Bounded = tuple[Any, int, int, str]
"""A container, its entries, its bound, its name."""


def retention(
    tracker: Tracker, find_bounded: Callable[[], Sequence[Bounded]], malloc_bytes: Callable[[], int] | None
) -> Retention:
    """How many tracked objects are alive, by label, and in which bounded containers they stay. ``malloc_bytes`` tells
    how much of malloc is in use, where that can be told."""
    alive = tracker.alive_by_label()
    if not CAN_FORK:
        return Retention(alive)

    def emptied() -> Retention:
        gc.unfreeze()
        rows = []
        found = sorted((row for row in find_bounded() if row[1] >= FEWEST), key=lambda row: -row[1])[:MOST_EMPTIED]
        for container, size, bound, name in found:
            before, bytes_before = tracker.alive_by_label(), malloc_bytes() if malloc_bytes is not None else 0
            container.clear() if isinstance(container, collections.deque) else container.cache_clear()
            gc.collect()
            now = tracker.alive_by_label()
            freed = (bytes_before - malloc_bytes()) if malloc_bytes is not None else 0
            died = {label: count - now.get(label, 0) for label, count in before.items() if count > now.get(label, 0)}
            if died:
                rows.append(RetentionIn(name, size, bound, died, max(0, freed)))
            if not tracker.alive:
                break
        return Retention(alive, tuple(rows))

    try:
        return answer_of_copy(Retention, emptied, COPY_SECONDS)
    except CopyFailed:
        return Retention(alive)
