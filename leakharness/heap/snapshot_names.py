"""What the name of a snapshot's file says: whose it is and when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SnapshotName", "parse_name"]

_ENDING = r"\.heap(?:snapshot(?:\.gz)?|capture)"
_NODE_NAME = re.compile(r"Heap\.(?P<time>\d{8}\.\d{6})\.(?P<pid>\d+)\.(?P<thread>\d+)\.(?P<sequence>\d+)" + _ENDING)
_OUR_NAME = re.compile(r"(?:baseline|[\w.]+?-(?P<sequence>\d+))-(?P<pid>\d+)-(?P<time>\d[\w.:+]*)" + _ENDING)


@dataclass(frozen=True)
class SnapshotName:
    """What a snapshot's file name says: whose it is and when. ``time`` sorts as text; ``sequence`` breaks
    ties.
    """

    pid: int
    time: str
    sequence: int
    thread: int = 0
    """Node's number of a worker thread, which has a heap of its own; 0 for the main thread."""


def parse_name(path: Path | str) -> SnapshotName | None:
    """PID, thread, time and sequence from ``Heap.DATE.TIME.PID.THREAD.SEQ`` (Node's), ``baseline-PID-TIME`` or
    ``batch-N-PID-TIME``, gzipped or not.

    ``.heapcapture`` is what ``leakharness.watch`` writes. None for any other name. A baseline has sequence 0.
    """
    name = Path(path).name
    match = _NODE_NAME.fullmatch(name)
    if match is not None:
        return SnapshotName(int(match["pid"]), match["time"], int(match["sequence"]), int(match["thread"]))
    match = _OUR_NAME.fullmatch(name)
    if match is None:
        return None
    return SnapshotName(int(match["pid"]), match["time"], int(match["sequence"] or 0))
