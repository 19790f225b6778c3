"""Snapshots that belong together: those of one process and thread, in order of time."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from leakharness.errors import SnapshotError
from leakharness.heap.snapshot_names import parse_name

__all__ = ["Lane", "Pair", "lane_of", "lane_pair"]


@dataclass(frozen=True)
class Pair:
    """Two snapshots of one process, the earliest and the latest of ``snapshots``."""

    before: Path
    after: Path
    pid: int | None = None
    snapshots: int = 2
    thread: int = 0


@dataclass(frozen=True)
class Lane:
    """The snapshots of one process and thread, earliest first."""

    pid: int
    thread: int
    snapshots: tuple[Path, ...]

    @property
    def pair(self) -> Pair:
        return Pair(self.snapshots[0], self.snapshots[-1], self.pid, len(self.snapshots), self.thread)


def lane_of(folder: Path | str, pid: int | None = None, thread: int | None = None) -> list[Lane]:
    """The snapshots in a folder by process and thread, earliest first; those with the most snapshots first.

    Names: see `leakharness.heap.v8.parse_name`; other files are left alone. Raises `SnapshotError` where there are
    none.
    """
    folder = Path(folder)
    found: dict[tuple[int, int], list[tuple[str, int, Path]]] = defaultdict(list)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SnapshotError(f"{folder}: cannot be read as a lane: {error.strerror or error}") from None
    for name in names:
        parsed = parse_name(name)
        if parsed is not None and pid in (None, parsed.pid) and thread in (None, parsed.thread):
            found[parsed.pid, parsed.thread].append((parsed.time, parsed.sequence, folder / name))
    if not found:
        whose = f" of PID {pid}" if pid is not None else ""
        whose += f" and thread {thread}" if thread is not None else ""
        example = "Heap.DATE.TIME.PID.THREAD.SEQ.heapsnapshot"
        raise SnapshotError(f"{folder}: no heap snapshots{whose} in it (names: {example})")
    lanes = [Lane(*key, tuple(path for *_, path in sorted(files))) for key, files in found.items()]
    return sorted(lanes, key=lambda lane: (-len(lane.snapshots), lane.pid, lane.thread))


def lane_pair(folder: Path | str, pid: int | None = None, thread: int | None = None) -> Pair:
    """Earliest and latest snapshot of one process and thread in a lane: of those asked for, or of those with the most
    snapshots (the lowest numbers on a tie). Raises `SnapshotError` where none has two.
    """
    lane = lane_of(folder, pid, thread)[0]
    if len(lane.snapshots) < 2:
        raise SnapshotError(f"{folder}: at least two snapshots of one PID are needed; take another one later")
    return lane.pair
