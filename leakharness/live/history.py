"""What a process had when it was looked at before, so that the next look tells what has grown.

A small JSON file a process in the lane folder, for the owner's eyes only: types, counts and sizes, no values.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakharness.errors import UsageError
from leakharness.live.look import Family, Look
from leakharness.scratch import process_start

__all__ = ["Growth", "Seen", "growth", "lane_of", "recall", "remember", "started"]

SCHEMA = "leakharness.live-seen/1"
LANES = Path(".tmp") / "leakharness" / "live"
FILE = "last-look.json"
LARGEST_FILE = 16 << 20
"""Bytes: a larger one was not written here."""


@dataclass(frozen=True)
class Seen:
    """An earlier look: when (Unix seconds), and objects and bytes by type."""

    time: float
    families: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Growth:
    """A type that has more objects, or bytes, than at the look before."""

    type: str
    count_delta: int
    bytes_delta: int
    seconds: float

    def document(self) -> dict[str, Any]:
        """The row of ``growth`` in the JSON of ``live look``."""
        return {
            "type": self.type,
            "count_delta": self.count_delta,
            "bytes_delta": self.bytes_delta,
            "seconds": round(self.seconds, 1),
        }


def growth(families: Sequence[Family], before: Seen | None, now: float) -> list[Growth]:
    """What has grown since ``before``, most bytes first. Empty without a look before."""
    if before is None:
        return []
    found = []
    for family in families:
        count, size = before.families.get(family.type, (0, 0))
        row = Growth(
            family.type, family.count + family.untracked - count, family.shallow_bytes - size, now - before.time
        )
        if row.count_delta > 0 or row.bytes_delta > 0:
            found.append(row)
    return sorted(found, key=lambda row: (-row.bytes_delta, -row.count_delta, row.type))


def started(pid: int) -> int:
    """When the process was started, in clock ticks since boot (proc(5), /proc/PID/stat, field 22)."""
    found = process_start(pid)
    if found is None:
        raise UsageError(f"process {pid} has ended")
    return found


def lane_of(pid: int, folder: Path | None = None) -> Path:
    """The lane folder of a process, made with mode 0700. Raises UsageError where it cannot be made."""
    lane = folder if folder is not None else LANES / f"{pid}-{started(pid)}"
    try:
        lane.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"--lane-dir {lane}: {error.strerror or error}") from None
    return lane


def recall(lane: Path, pid: int) -> Seen | None:
    """The look before of this very process. None for no look, another process, or a file that is not whole."""
    path = lane / FILE
    try:
        if path.stat().st_size > LARGEST_FILE:
            return None
        stored = json.loads(path.read_text("utf-8"))
        if stored["schema"] != SCHEMA or (stored["pid"], stored["started"]) != (pid, started(pid)):
            return None
        rows = {str(name): (int(count), int(size)) for name, (count, size) in stored["families"].items()}
        return Seen(float(stored["time"]), rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def remember(lane: Path, found: Look) -> None:
    """Keep what a look found. Raises UsageError where it cannot be written."""
    rows = {family.type: (family.count + family.untracked, family.shallow_bytes) for family in found.families}
    document = {
        "schema": SCHEMA,
        "pid": found.pid,
        "started": started(found.pid),
        "time": time.time(),
        "families": rows,
    }
    part = lane / f".{FILE}.{os.getpid()}"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(document, file)
        os.replace(part, lane / FILE)
    except OSError as error:
        raise UsageError(f"--lane-dir {lane}: {error.strerror or error}") from None
