"""Counting a forked copy in which some containers are as long again as they were at the baseline.

For what a test framework notes for each run: the copy shows what would be there if it had noted nothing.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leakharness.worker.cut_edge import CUT_ROUNDS, become_quiet, small_bytes_in_use
from leakharness.worker.fork import CAN_FORK, CopyFailed, answer_of_copy
from leakharness.worker.grown_entries import containers_at
from leakharness.worker.protocol import GrownContainer, WithoutKnown
from leakharness.worker.unpatched import gc

__all__ = ["CUTTABLE", "read_cut_back"]

COPY_SECONDS = 30.0
CUTTABLE: Mapping[type, Callable[[Any], Any]] = {
    list: lambda items: list.pop(items),
    collections.deque: lambda items: collections.deque.pop(items),
    dict: lambda table: dict.popitem(table),
}
"""Containers that know which entry is the newest, and how to take it out. No subclass: its own code may do more."""


def read_cut_back(
    grown: Sequence[GrownContainer], count: Callable[[], dict[str, int]], alive: Callable[[], int]
) -> WithoutKnown:
    """Every counter in a forked copy without the entries that these containers have gained since the baseline."""
    if not CAN_FORK:
        return WithoutKnown({}, 0, error="this platform cannot fork, and the measured process is never changed")

    def cut() -> WithoutKnown:
        become_quiet()
        try:
            return _counted(grown, count, alive)
        except BaseException as error:
            return WithoutKnown({}, 0, error=f"{type(error).__name__}: {error}")

    try:
        return answer_of_copy(WithoutKnown, cut, COPY_SECONDS)
    except CopyFailed as error:
        return WithoutKnown({}, 0, error=str(error))


def _counted(
    grown: Sequence[GrownContainer], count: Callable[[], dict[str, int]], alive: Callable[[], int]
) -> WithoutKnown:
    gc.disable()
    gc.unfreeze()
    _cut([], [])
    for _ in range(CUT_ROUNDS):
        gc.collect()
    small, malloc = small_bytes_in_use(), count().get("malloc_bytes", 0)
    _cut(grown, [row.address for row in grown])
    for _ in range(CUT_ROUNDS):
        gc.collect()
    counters = count()
    return WithoutKnown(counters, alive(), small - small_bytes_in_use(), malloc - counters.get("malloc_bytes", 0))


def _cut(grown: Sequence[GrownContainer], addresses: Sequence[int]) -> None:
    found = containers_at(addresses)
    for row in grown:
        container = found.get(row.address)
        take_out = CUTTABLE.get(type(container))
        if take_out is None:
            raise LookupError(f"a container of type {row.type} cannot be cut back")
        for _ in range(row.now - row.before):
            take_out(container)
