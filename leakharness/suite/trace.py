"""The memory trace of a test run, read back: lanes, files, peaks. Pure, and without pytest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leakharness.documents import TraceRow, parsed, read_lines, validated
from leakharness.errors import UsageError
from leakharness.units import mebibytes, signed_mebibytes

__all__ = ["COMMAND_FILE", "LANE_VARIABLE", "Lane", "file_rows", "lane_rows", "lanes_of", "read_trace", "summary_line"]

COMMAND_FILE = "command.txt"
"""In the folder of the lanes: how these snapshots came about."""

SCHEMA = "leakharness.trace/1"
LANE_VARIABLE = "LEAKHARNESS_LANE"
"""Environment variable that names the lane of a process that is no xdist worker (an isolated file's)."""
TOP_IN_LINE = 5
TOP_IN_TABLE = 10


@dataclass
class Lane:
    """One worker: what its files left behind, in bytes."""

    name: str
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    """``{file: {"run": bytes, "collect": bytes, "tests": n, "objects": n, "blocks": n}}``."""
    peak: int = 0
    peak_at: str = ""
    pids: set[int] = field(default_factory=set)

    @property
    def total(self) -> int:
        return sum(row["run"] + row["collect"] for row in self.files.values())

    @property
    def run_files(self) -> int:
        return sum(1 for row in self.files.values() if row["tests"])

    def growers(self) -> list[tuple[str, int]]:
        """(file, bytes it left), largest first."""
        rows = [(name, row["run"] + row["collect"]) for name, row in self.files.items()]
        return sorted(rows, key=lambda row: (-row[1], row[0]))


def lanes_of(rows: Iterable[Mapping[str, Any]]) -> list[Lane]:
    """The rows of a trace, lane by lane, in the order of their names."""
    lanes: dict[str, Lane] = {}
    for row in rows:
        lane = lanes.setdefault(row["lane"], Lane(row["lane"]))
        entry = lane.files.setdefault(row["file"], dict.fromkeys(("run", "collect", "tests", "objects", "blocks"), 0))
        entry[row["phase"]] += row["delta_rss_bytes"]
        entry["tests"] += row["tests"]
        for counter in ("objects", "blocks"):
            entry[counter] += row["after"].get(counter, 0) - row["before"].get(counter, 0)
        lane.pids.add(row["pid"])
        if row["peak_rss_bytes"] > lane.peak:
            lane.peak, lane.peak_at = row["peak_rss_bytes"], row["file"]
    return sorted(lanes.values(), key=lambda lane: (len(lane.name), lane.name))


def summary_line(lane: Lane) -> str:
    """``[leakharness][mem] summary LANE files=N peak=… totalDelta=… peakAt=FILE top=FILE:+DELTA, …``"""
    top = ", ".join(f"{name}:{signed_mebibytes(delta)}" for name, delta in lane.growers()[:TOP_IN_LINE] if delta > 0)
    return (
        f"[leakharness][mem] summary {lane.name} files={lane.run_files} peak={mebibytes(lane.peak)} "
        f"totalDelta={signed_mebibytes(lane.total)} peakAt={lane.peak_at or '-'} top={top or '-'}"
    )


def lane_rows(lanes: Iterable[Lane]) -> list[dict[str, Any]]:
    """The lanes as a page shows them: sizes in bytes."""
    return [
        {"lane": lane.name, "files": lane.run_files, "peak": lane.peak, "total": lane.total, "at": lane.peak_at}
        for lane in lanes
    ]


def file_rows(lanes: Iterable[Lane]) -> list[dict[str, Any]]:
    """Each file in each lane, what left most behind first: bytes, of which so many by import, objects and blocks."""
    rows = [
        {
            "file": name,
            "lane": lane.name,
            "left": row["run"] + row["collect"],
            "by_import": row["collect"],
            "objects": row["objects"],
            "blocks": row["blocks"],
        }
        for lane in lanes
        for name, row in lane.files.items()
    ]
    return sorted(rows, key=lambda row: (-row["left"], row["lane"], row["file"]))


def top_table(lanes: Iterable[Lane]) -> list[str]:
    """The files that left most behind, over all lanes."""
    rows = [
        (row["run"] + row["collect"], lane.name, name, row)
        for lane in lanes
        for name, row in lane.files.items()
        if row["run"] + row["collect"] > 0
    ]
    rows.sort(key=lambda row: (-row[0], row[1], row[2]))
    lines = [f"{'left':>11} {'by import':>11} {'objects':>9} {'blocks':>9}  {'lane':<6} file"]
    for total, lane, name, row in rows[:TOP_IN_TABLE]:
        sizes = f"{signed_mebibytes(total):>11} {signed_mebibytes(row['collect']):>11}"
        lines.append(f"{sizes} {row['objects']:>+9,} {row['blocks']:>+9,}  {lane:<6} {name}")
    return lines


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The rows of a trace file. Raises UsageError for one that cannot be read or is none."""
    rows: list[dict[str, Any]] = []
    for number, line in read_lines(path, "a trace"):
        if not line.strip():
            continue
        try:
            row: Any = parsed(line, "it is no JSON")
            rows.append(validated(TraceRow, row, "it is not as one"))  # type: ignore[arg-type]
        except UsageError as exc:
            raise UsageError(
                f"{path}:{number}: not a line of a trace ({SCHEMA}): {exc}; make one with pytest --leak-trace=FILE"
            ) from None
    return rows
