"""One self-contained HTML page of stored results: no network, readable without JavaScript. Pure.

Every text of a result is escaped by jinja2; plots are inline SVG, whose coordinates are numbers of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from leakharness.model import COUNTERS
from leakharness.report.text import check_command
from leakharness.units import number, signed, size

__all__ = ["page"]

Document = Mapping[str, Any]
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 260, 90, 4, 6, 14
"""Of one plot, in units of the SVG: the whole, and the margins around its lines."""
NAMES = {"tracked_retained": "tracked", "rss_bytes": "rss"}
"""Keys of a stored series that differ from the counter's name."""
ABSENT: Mapping[str, Any] = {
    "detectable": {},
    "forgiven": (),
    "notes": (),
    "opinions": (),
    "growing_containers": (),
    "stays": (),
    "blind": {},
    "pid": 0,
    "python": "?",
}
"""What a stored result may leave out."""
MOST_FAMILIES = 200
MOST_RETAINERS = 100
"""What one arm may list, so that a page stays small enough to open."""


def page(documents: Sequence[Document]) -> str:
    """The page of these documents: results of run, certificates and proofs."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("leakharness.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, signed=signed, size=size)
    template = environment.get_template("page.html.j2")
    return template.render(sections=[_section(document) for document in documents])


def _section(document: Document) -> dict[str, Any]:
    """One document as the template takes it: its verdict, and its arms with what each stands for."""
    if "certificate" in document:
        verdict, arms = document["certificate"], [("", arm) for arm in document["arms"]]
    elif "controls" in document:
        verdict = document["verdict"]
        arms = [(side, arm) for side in ("before", "after") for arm in document[side]["arms"]]
        arms += [("control", arm) for arm in document["controls"]]
    else:
        verdict, arms = document["verdict"], [("", document)]
    scenario = document["scenario"]
    scales = _scales([arm for _, arm in arms])
    return {
        "verdict": verdict,
        "scenario": scenario,
        "reason": document.get("reason", ""),
        "notes": document.get("notes", ()) if "certificate" in document else (),
        "sides": {side: document[side] for side in ("before", "after")} if "controls" in document else {},
        "paths": document.get("paths", {}),
        "reproduce": document.get("reproduce") or check_command(arms[0][1]["reproduce"] if arms else "", scenario),
        "digest": document.get("digest", ""),
        "arms": [_arm(role, arm, scales) for role, arm in arms],
    }


def _arm(role: str, arm: Document, scales: Mapping[str, tuple[float, float, float]]) -> dict[str, Any]:
    plots = [_plot(arm, row, scales[row["counter"]]) for row in arm["growth"] if row["counter"] in scales]
    return {
        **ABSENT,
        **arm,
        "role": role,
        "as_demanded": arm["verdict"] == arm["must"] if arm.get("must") else arm["verdict"] == "PASS",
        "plots": plots,
        "families": arm["families"][:MOST_FAMILIES],
        "retainers": arm["retainers"][:MOST_RETAINERS],
        "more_retainers": max(0, len(arm["retainers"]) - MOST_RETAINERS),
        "counters": COUNTERS,
    }


def _values(arm: Document, counter: str) -> list[tuple[float, float]]:
    """(runs, rise since the baseline) of one counter; readings without it are left out."""
    key = next((stored for stored, name in NAMES.items() if name == counter), counter)
    points = [(float(row["runs"]), float(row[key])) for row in arm["series"] if row.get(key) is not None]
    return [(runs, value - points[0][1]) for runs, value in points if math.isfinite(value)]


def _net(points: Sequence[tuple[float, float]], declared: float) -> list[tuple[float, float]]:
    """``points`` without ``declared`` a run. What is declared excuses a rise and makes none a fall: the line does not
    go below the baseline where the counter itself does not."""
    return [(runs, max(value - declared * runs, min(value, 0.0))) for runs, value in points]


def _scales(arms: Sequence[Document]) -> dict[str, tuple[float, float, float]]:
    """For each counter the most runs, and the least and the most of its rise over all arms: their common axes."""
    scales: dict[str, tuple[float, float, float]] = {}
    for arm in arms:
        for row in arm["growth"]:
            declared = float(row.get("declared") or 0.0)
            points = _values(arm, row["counter"])
            for runs, value in [*points, *_net(points, declared)]:
                most_runs, least, most = scales.get(row["counter"], (1.0, 0.0, 0.0))
                scales[row["counter"]] = (max(most_runs, runs), min(least, value), max(most, value))
    return scales


def _plot(arm: Document, growth: Document, scale: tuple[float, float, float]) -> dict[str, Any]:
    """One counter of one arm: points for the SVG, and the figures beside it."""
    most_runs, least, most = scale
    flat = most == least
    span = 1.0 if flat else most - least

    def place(runs: float, value: float) -> str:
        x = LEFT + (WIDTH - 2 * LEFT) * runs / most_runs
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1.0 if flat else (most - value) / span)
        return f"{x:.1f},{y:.1f}"

    values = _values(arm, growth["counter"])
    declared = float(growth.get("declared") or 0.0)
    in_bytes = growth["counter"].endswith("_bytes") or growth["counter"] == "rss"
    last = values[-1][1] if values else 0.0
    return {
        **growth,
        "line": " ".join(place(*point) for point in values),
        "net": " ".join(place(*point) for point in _net(values, declared)) if declared else "",
        "zero": place(0, 0).split(",")[1],
        "what": COUNTERS.get(growth["counter"], growth["counter"]),
        "pace": ("+" if growth["per_run"] > 0 else "") + size(growth["per_run"])
        if in_bytes
        else signed(growth["per_run"]),
        "rise": size(last) if in_bytes else number(last),
        "top": "" if flat else size(most) if in_bytes else number(most),
        "runs": number(most_runs),
    }
