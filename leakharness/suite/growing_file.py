"""Which test file made a family grow: the one whose tests ran while it grew, whoever shows what holds it as a global.

A trace says how many snapshots a process had taken when a file's tests began and when they ended, so no clock is
compared. Growth between two snapshots is a file's where no other can have made it; where several can, snapshots in
between are read.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["FileRun", "GrowingFile", "file_runs", "growing_file"]

MOST_FURTHER = 6
"""Snapshots that are read for one family beside those at hand: halving a stretch so often leaves a 64th of it."""
DECIDING_SHARE = 0.6
"""Of a family's growth that one file must have made to be named for it."""
LEFT_SHARE = 0.5
"""Of what grew in a stretch that a file must have left behind (blocks, or bytes of malloc) to have made it: what it
freed is counted against it."""
SMALL_BLOCK = 512
"""Bytes up to which an object is one of CPython's blocks (``SMALL_REQUEST_THRESHOLD``); a larger one is malloc's."""

Reading = tuple[int, int]
"""Shallow bytes and objects of a family in one snapshot."""


@dataclass(frozen=True)
class FileRun:
    """The tests of one file: how many snapshots there were when they began and when they ended, and what they left;
    None for a counter that the trace does not have."""

    file: str
    first: int
    last: int
    blocks: int | None = None
    malloc_bytes: int | None = None

    def within(self, begin: int, end: int) -> bool:
        """Whether some of it was between those two snapshots."""
        return self.first < end and self.last >= begin

    def left(self, size: int, count: int) -> bool:
        """Whether it can have left so many bytes and objects: that much, were all that it left of the largest size, and
        so many, were all that is malloc's of the smallest."""
        if self.blocks is None or self.malloc_bytes is None:
            return True
        largest = self.blocks * SMALL_BLOCK + self.malloc_bytes
        most = self.blocks + self.malloc_bytes / SMALL_BLOCK
        return largest >= LEFT_SHARE * size and most >= LEFT_SHARE * count


@dataclass(frozen=True)
class GrowingFile:
    """The file that made a family grow, or those of which one did; neither where it grew while no tests ran."""

    file: str | None = None
    suspects: tuple[str, ...] = ()


def file_runs(rows: Iterable[Mapping[str, Any]], pid: int | None) -> list[FileRun]:
    """The runs of one process, from a trace's rows that say how many snapshots there were."""
    found = []
    for row in rows:
        if row["phase"] == "run" and row["pid"] == pid and len(row.get("snapshots", ())) == 2:
            left = {
                name: row["after"][name] - row["before"][name]
                for name in ("blocks", "malloc_bytes")
                if name in row["after"] and name in row["before"]
            }
            found.append(FileRun(row["file"], *row["snapshots"], **left))
    return found


def growing_file(
    grown: int,
    at_hand: Iterable[int],
    all_numbers: Sequence[int],
    runs: Sequence[FileRun],
    reading: Callable[[int], Reading],
) -> GrowingFile:
    """The file that made objects of a type grow by ``grown`` bytes. ``reading`` reads all that there are of the type in
    a snapshot, by its number, one of ``all_numbers``: those may have grown elsewhere too, by another file.
    """
    known = sorted(set(at_hand))
    for _ in range(MOST_FURTHER):
        doubtful = [
            (_risen(begin, end, reading)[0], len(between), between[len(between) // 2])
            for begin, end in itertools.pairwise(known)
            if (between := [number for number in all_numbers if begin < number < end])
            and _risen(begin, end, reading)[0] > 0
            and len({run.file for run in runs if run.within(begin, end)}) > 1
        ]
        if not doubtful:
            break
        known = sorted([*known, max(doubtful)[2]])
    made, suspects, while_run = Counter[str](), set[str](), 0
    for begin, end in itertools.pairwise(known):
        size, count = _risen(begin, end, reading)
        able = {run.file for run in runs if run.within(begin, end) and run.left(size, count)} if size > 0 else ()
        suspects.update(able)
        while_run += size if able else 0
        if len(able) == 1:
            made.update(dict.fromkeys(able, size))
    named = [file for file, size in made.items() if size >= DECIDING_SHARE * grown]
    if len(named) == 1:
        return GrowingFile(named[0])
    return GrowingFile(None, tuple(sorted(suspects)) if while_run >= DECIDING_SHARE * grown else ())


def _risen(begin: int, end: int, reading: Callable[[int], Reading]) -> Reading:
    before, after = reading(begin), reading(end)
    return after[0] - before[0], after[1] - before[1]
