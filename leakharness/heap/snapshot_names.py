"""What the name of a snapshot's file says: whose it is and when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SnapshotName", "parse_name"]

_NODE_NAME = re.compile(r"Heap\.(?P<time>\d{8}\.\d{6})\.(?P<pid>\d+)\.0\.(?P<sequence>\d+)\.heapsnapshot")
_OUR_NAME = re.compile(r"(?:baseline|[\w.]+?-(?P<sequence>\d+))-(?P<pid>\d+)-(?P<time>\d[\w.:+]*)\.heapsnapshot")


@dataclass(frozen=True)
class SnapshotName:
    """What a snapshot's file name says: whose it is and when. ``time`` sorts as text; ``sequence`` breaks
    ties.
    """

    pid: int
    time: str
    sequence: int


def parse_name(path: Path | str) -> SnapshotName | None:
    """PID, time and sequence from ``Heap.DATE.TIME.PID.0.SEQ`` (Node's), ``baseline-PID-TIME`` or
    ``batch-N-PID-TIME``.

    None for any other name. A baseline has sequence 0.
    """
    name = Path(path).name
    match = _NODE_NAME.fullmatch(name) or _OUR_NAME.fullmatch(name)
    if match is None:
        return None
    return SnapshotName(int(match["pid"]), match["time"], int(match["sequence"] or 0))
