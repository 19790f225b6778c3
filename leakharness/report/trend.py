"""Stored results over time: growth a run, the smallest leak that would have been seen, duration; their budget. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from leakharness.errors import OptionError
from leakharness.model import COUNTERS
from leakharness.units import in_bytes, number, signed, signed_size, size

__all__ = [
    "GROWTH",
    "Budget",
    "Excess",
    "Point",
    "Trend",
    "budget_from",
    "figure_name",
    "figure_text",
    "points_of",
    "trend_of",
]

Document = Mapping[str, Any]
GROWTH, DETECTABLE, DURATION = "growth.", "detectable.", "duration_s"
PER_RUN = "_per_run"
DETECTABLES = ("tracked", "objects", "blocks", "native_bytes", "mapped_bytes")
FIGURES = (*(GROWTH + name for name in COUNTERS), *(DETECTABLE + name for name in DETECTABLES), DURATION)
"""What a budget may limit."""
EARLIER = 3
"""Measurements before the newest one that a rise is told by: the median of fewer follows any one of them."""


@dataclass(frozen=True)
class Point:
    """One arm of one stored result. ``label`` says when: a commit, or the time."""

    scenario: str
    mode: str
    at: str
    label: str
    subject: str
    verdict: str
    figures: Mapping[str, float | None]
    grows: frozenset[str]
    source: str

    def document(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "mode": self.mode,
            "at": self.at,
            "label": self.label,
            "subject": self.subject,
            "verdict": self.verdict,
            "figures": dict(self.figures),
            "grows": sorted(self.grows),
            "source": self.source,
        }


@dataclass(frozen=True)
class Budget:
    """What ``[tool.leakharness.trend-budget]`` allows: by figure the most that the newest measurement may have, and by
    how much of the median before it any figure may rise (0.5 is by half)."""

    limits: Mapping[str, float]
    rise: float | None = None

    def __bool__(self) -> bool:
        return bool(self.limits) or self.rise is not None


@dataclass(frozen=True)
class Excess:
    """One figure of the newest measurement that is over the budget."""

    scenario: str
    mode: str
    figure: str
    value: float | None
    allowed: float
    why: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Trend:
    """Arms in order of scenario and mode, each with its points, oldest first; and what is over the budget."""

    arms: Mapping[tuple[str, str], tuple[Point, ...]]
    over: tuple[Excess, ...]
    has_budget: bool
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        return "OVER" if self.over else "WITHIN" if self.has_budget else "NO_BUDGET"

    @property
    def exit_code(self) -> int:
        return 1 if self.over else 0

    def document(self) -> dict[str, Any]:
        return {
            "schema": "leakharness.trend/1",
            "outcome": self.outcome,
            "points": [point.document() for points in self.arms.values() for point in points],
            "over": [excess.document() for excess in self.over],
            "notes": list(self.notes),
        }


def points_of(document: Document, at: str, label: str, subject: str, source: str) -> list[Point]:
    """The arms of a certificate, or the one of a run. Arms that must FAIL are left out: they leak on purpose."""
    return [
        Point(
            arm["scenario"],
            arm["mode"],
            at or arm.get("started", ""),
            label or arm.get("started", ""),
            subject,
            arm["verdict"],
            figures := _figures(arm),
            frozenset(GROWTH + row["counter"] for row in arm["growth"] if row["grows"]) & figures.keys(),
            source,
        )
        for arm in document.get("arms", [document])
        if arm["must"] != "FAIL"
    ]


def _figures(arm: Document) -> dict[str, float | None]:
    figures: dict[str, float | None] = {GROWTH + row["counter"]: row["per_run"] for row in arm["growth"]}
    for name, value in (arm.get("detectable") or {}).items():
        figures[DETECTABLE + name.removesuffix(PER_RUN)] = value
    figures[DURATION] = arm["duration_s"]
    return {name: figures[name] for name in FIGURES if name in figures}


def budget_from(table: Any, where: str) -> Budget:
    """``[tool.leakharness.trend-budget]`` as it is written, ``growth.objects`` as a key or as a table.
    Raises OptionError for a figure that there is not, and for what is no number."""
    if not isinstance(table, Mapping):
        raise OptionError(f"{where}: trend-budget is a table, not {table!r}")
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= {f"{key}.{inner}": one for inner, one in value.items()} if isinstance(value, Mapping) else {key: value}
    for key, value in flat.items():
        if key != "rise" and key not in FIGURES:
            raise OptionError(
                f"{where}: trend-budget has no figure {key!r}: it takes rise, {DURATION}, {DETECTABLE}NAME with NAME "
                f"of {', '.join(DETECTABLES)}, and {GROWTH}COUNTER, as in {GROWTH}objects"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise OptionError(f"{where}: trend-budget {key} = {value!r}: a number from 0 on is needed")
    return Budget({key: float(value) for key, value in flat.items() if key != "rise"}, flat.get("rise"))


def trend_of(points: Sequence[Point], budget: Budget, notes: Sequence[str] = ()) -> Trend:
    """The points by arm, in the order of ``at``, and what of the newest ones is over the budget."""
    arms: dict[tuple[str, str], tuple[Point, ...]] = {}
    for point in sorted(points, key=lambda point: (point.scenario, point.mode, point.at)):
        arms[point.scenario, point.mode] = (*arms.get((point.scenario, point.mode), ()), point)
    said = list(notes)
    over: list[Excess] = []
    for (scenario, mode), line in arms.items():
        for figure, value, allowed, why in (*_beyond(line[-1], budget.limits), *_risen(line, budget.rise)):
            over.append(Excess(scenario, mode, figure, value, allowed, why))
        if budget.rise is not None and len(line) <= EARLIER:
            said.append(
                f"{scenario} / {mode}: a rise is told by {EARLIER} earlier measurements; there are {len(line) - 1}"
            )
    return Trend(arms, tuple(over), bool(budget), tuple(said))


def _beyond(newest: Point, limits: Mapping[str, float]) -> list[tuple[str, float | None, float, str]]:
    found: list[tuple[str, float | None, float, str]] = []
    for figure, limit in limits.items():
        value = newest.figures.get(figure)
        if value is None and not figure.startswith(GROWTH):
            found.append((figure, None, limit, "the newest measurement does not have it"))
        elif value is not None and value > limit:
            found.append((figure, value, limit, "over its limit"))
    return found


def _risen(line: Sequence[Point], rise: float | None) -> list[tuple[str, float | None, float, str]]:
    """What rose since the measurements before. A counter counts where it grows now and did not: what it shows
    otherwise is noise around nothing, of which no share can be taken."""
    *earlier, newest = line
    if rise is None or len(earlier) < EARLIER:
        return []
    found: list[tuple[str, float | None, float, str]] = []
    for figure, value in newest.figures.items():
        before = [known for point in earlier if (known := point.figures.get(figure)) is not None]
        if value is None or len(before) < EARLIER:
            continue
        usual = median(before)
        if figure.startswith(GROWTH):
            if figure in newest.grows and not any(figure in point.grows for point in earlier):
                found.append((figure, value, usual, "it grows, and did not before"))
        elif value > usual * (1 + rise):
            found.append((figure, value, usual * (1 + rise), f"median before {figure_text(figure, usual)}"))
    return found


def figure_name(figure: str) -> str:
    """A figure as a heading: ``rss a run``, ``sees objects``, ``seconds``."""
    if figure.startswith(GROWTH):
        return f"{figure.removeprefix(GROWTH)} a run"
    name = figure.removeprefix(DETECTABLE).replace("_", " ")
    return f"sees {name}" if figure.startswith(DETECTABLE) else "seconds"


def figure_text(figure: str, value: float | None) -> str:
    """A figure's value in its unit; ``-`` where there is none."""
    if value is None:
        return "-"
    if figure == DURATION:
        return f"{value:.1f} s"
    if figure.startswith(GROWTH):
        return (signed_size if in_bytes(figure) else signed)(value)
    return (size if in_bytes(figure) else number)(value)
