"""Calibration: leaks of falling size are planted into a scenario's default mode, and the judge is asked about each.

What ``detectable`` derives from a run's noise, this proves by doing, together with the rate of false alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from leakharness.measure.arm import Listener, Settings, run_found
from leakharness.measure.jobs import side_by_side
from leakharness.model import RunResult
from leakharness.report.text import WIDTH, wrapped
from leakharness.scenario.find import ScenarioRef
from leakharness.units import signed

__all__ = ["PLANTS", "Calibration", "Row", "calibrate"]

NONE = "nothing"
PLANTS: Mapping[str, tuple[str, int, int]] = {
    "one object in 1 run": ("object", 1, 0),
    "one object in 5 runs": ("object", 5, 0),
    "one object in 20 runs": ("object", 20, 0),
    "one object in 100 runs": ("object", 100, 0),
    "4096 native bytes a run": ("native", 1, 4096),
    "1024 native bytes a run": ("native", 1, 1024),
    "256 native bytes a run": ("native", 1, 256),
    "64 native bytes a run": ("native", 1, 64),
    "16 native bytes a run": ("native", 1, 16),
    "one descriptor in 20 runs": ("fd", 20, 0),
}
"""What is planted: (kind, one in so many runs, bytes)."""


@dataclass(frozen=True)
class Row:
    """One planted leak: how often it was planted, found, and could not be judged; and what was seen of it."""

    planted: str
    repeats: int
    found: int
    not_judged: int
    runs: int
    seen: str

    @property
    def judged(self) -> int:
        return self.repeats - self.not_judged

    @property
    def rate(self) -> float | None:
        """Found of those that were judged; None where none was."""
        return self.found / self.judged if self.judged else None

    def document(self) -> dict[str, Any]:
        return {
            "planted": self.planted,
            "repeats": self.repeats,
            "found": self.found,
            "not_judged": self.not_judged,
            "runs": self.runs,
            "seen": self.seen,
        }


@dataclass(frozen=True)
class Calibration:
    """The table. ``rows[0]`` is the one with nothing planted: what it finds are false alarms. ``reason``: why the
    first that was not judged was not, if any."""

    scenario: str
    rows: tuple[Row, ...]
    reason: str | None = None

    @property
    def false_alarm_rate(self) -> float | None:
        return self.rows[0].rate

    @property
    def good(self) -> bool:
        """No false alarm, nothing that could not be judged, and every planted leak found every time."""
        return (
            self.rows[0].found == 0
            and not any(row.not_judged for row in self.rows)
            and all(row.found == row.repeats for row in self.rows[1:])
        )

    def document(self) -> dict[str, Any]:
        return {
            "schema": "leakharness.calibrate/1",
            "scenario": self.scenario,
            "false_alarm_rate": self.false_alarm_rate,
            "reason": self.reason,
            "rows": [row.document() for row in self.rows],
        }


def calibrate(
    found: ScenarioRef,
    settings: Settings,
    *,
    repeats: int = 3,
    listener: Listener | None = None,
    measure: Callable[..., RunResult] = run_found,
) -> Calibration:
    """Plant each leak ``repeats`` times, and nothing three times as often. Raises UsageError as ``run`` does."""
    settings = replace(settings, defaults={"snapshots": "never", **settings.defaults})
    jobs: list[tuple[str, Mapping[str, Any] | None]] = [(NONE, None)] * (3 * repeats)
    for name, (kind, every, size) in PLANTS.items():
        jobs += [(name, {"kind": kind, "every": every, "size": size})] * repeats
    results = side_by_side(
        [partial(measure, found, None, replace(settings, plant=plant), listener) for _, plant in jobs]
    )
    by_name: dict[str, list[RunResult]] = {}
    for (name, _), result in zip(jobs, results, strict=True):
        by_name.setdefault(name, []).append(result)
    scenario = results[0].scenario
    reason = next((result.reason for result in results if result.verdict == "NOT_JUDGED"), None)
    return Calibration(scenario, tuple(_row(name, group) for name, group in by_name.items()), reason)


def table(calibration: Calibration) -> str:
    """The table as text, 80 columns."""
    lines = [
        f"calibration of {calibration.scenario}",
        "",
        f"  {'planted':<28}{'found':>8}{'runs':>8}  seen as",
    ]
    for row in calibration.rows:
        found = f"{row.found}/{row.repeats}" + (f" ({row.not_judged}?)" if row.not_judged else "")
        lines.append(f"  {row.planted:<28}{found:>8}{row.runs:>8}  {row.seen}"[:WIDTH])
    rate, clean = calibration.false_alarm_rate, calibration.rows[0]
    alarms = f"{rate:.0%} of {clean.judged}" if rate is not None else f"unknown: none was judged of {clean.repeats}"
    lines += ["", f"  false alarms: {alarms} measurements with nothing planted"]
    if calibration.reason is not None:
        lines += wrapped(f"not judged: {calibration.reason}", "  ", WIDTH)
    return "\n".join(lines)


def _row(name: str, results: Sequence[RunResult]) -> Row:
    found = [result for result in results if result.verdict == "FAIL"]
    seen = ", ".join(f"{g.counter} {signed(g.per_run)}" for g in found[0].growth if g.grows) if found else "-"
    return Row(
        name,
        len(results),
        len(found),
        sum(result.verdict == "NOT_JUDGED" for result in results),
        max(result.runs for result in results),
        seen,
    )
