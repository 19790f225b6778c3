"""Geometry of the page's plots: what a template needs to draw them as inline SVG, as numbers of ours. Pure.

A plotting library for browsers would be larger than the page (uPlot some 50 KiB, Plotly some MiB, in each page, which
may load nothing), and draws nothing where scripts do not run: in a mail, on paper, in a preview of an artifact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leakharness.model import COUNTERS
from leakharness.units import in_bytes, number, signed, signed_size, size

__all__ = ["Scale", "counter_rows", "detection", "icicle", "pace_of", "scales", "sparkline"]

Document = Mapping[str, Any]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 260.0, 96.0, 4.0, 4.0, 14.0, 14.0
"""Of one plot, in units of the SVG: the whole, and the margins around its lines."""
WARM_UP_SHARE = 0.16
"""Of the width, for the warm-up, which has no readings: its runs are not to scale."""
NAMES = {"tracked_retained": "tracked", "rss_bytes": "rss"}
"""Keys of a stored series that differ from the counter's name."""
FLOORS = {
    "tracked": "tracked_per_run",
    "objects": "objects_per_run",
    "blocks": "blocks_per_run",
    "malloc_bytes": "native_bytes_per_run",
    "mapped_bytes": "mapped_bytes_per_run",
}
"""Under which key a result says how much a run it would have called a leak."""
ROW_HEIGHT = 22
"""Of one level of an icicle, in CSS pixels."""
SPARK = (120.0, 28.0, 3.0, 25.0)
"""Of a sparkline: width, height, and where its highest and its lowest value are drawn."""
HUES = (212, 28, 160, 280, 340, 96, 190, 48)
NARROWEST = 0.15
"""Percent of the width below which a cell of an icicle is left out."""

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """The axes that one counter has in all arms: runs, and rise since the baseline."""

    runs: float
    least: float
    most: float
    warm_up: bool
    moves: bool

    @property
    def begin(self) -> float:
        """Where the baseline is, on the x axis."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (WARM_UP_SHARE if self.warm_up else 0.0)

    def place(self, runs: float, value: float) -> tuple[float, float]:
        """The point of the SVG for ``value`` after ``runs``."""
        height = HEIGHT - TOP - BOTTOM
        part = (self.most - value) / (self.most - self.least) if self.most > self.least else 1.0
        return self.begin + (WIDTH - RIGHT - self.begin) * runs / self.runs, TOP + height * part


def scales(arms: Sequence[Document]) -> dict[str, Scale]:
    """The common axes of each counter over all arms, in the order in which counters are trusted."""
    found: dict[str, Scale] = {}
    warm_up = any(arm.get("warmup_runs") for arm in arms)
    for arm in arms:
        for row in arm["growth"]:
            points, net, floor = _lines(arm, row)
            old = found.get(row["counter"], Scale(1.0, 0.0, 0.0, warm_up, False))
            values = [value for _, value in (*points, *net)]
            moves = old.moves or row["grows"] or any(values)
            runs = max([old.runs, *(at for at, _ in points)])
            drawn = [*values, *(value for _, value in floor)] if moves else values
            found[row["counter"]] = Scale(runs, min([old.least, *values]), max([old.most, *drawn]), warm_up, moves)
    order = {name: at for at, name in enumerate(COUNTERS)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def counter_rows(arms: Sequence[tuple[str, Document]]) -> Iterator[dict[str, Any]]:
    """One row for each counter that moves in any arm: its name, what it counts, and a plot for each ``(title, arm)``
    that has it, all on the same axes; ``at`` is the arm's place in ``arms``."""
    for counter, scale in scales([arm for _, arm in arms]).items():
        if scale.moves:
            plots = [
                {"arm": title, "at": at, **_plot(arm, row, scale)}
                for at, (title, arm) in enumerate(arms)
                for row in arm["growth"]
                if row["counter"] == counter
            ]
            yield {"counter": counter, "what": COUNTERS.get(counter, counter), "plots": plots}


def _plot(arm: Document, growth: Document, scale: Scale) -> dict[str, Any]:
    """One counter of one arm: points for the SVG, and the figures beside it."""
    counter = growth["counter"]
    points, net, floor = _lines(arm, growth)
    last = points[-1][1] if points else 0.0
    show = size if in_bytes(counter) else number
    per_run = arm.get("detectable", {}).get(FLOORS.get(counter, ""))
    return {
        **growth,
        "line": _svg(scale, points),
        "net": _svg(scale, net),
        "floor": _svg(scale, floor),
        "floor_text": "" if per_run is None else show(per_run),
        "zero": f"{scale.place(0, 0)[1]:.1f}",
        "begin": f"{scale.begin:.1f}",
        "pace": pace_of(counter, growth["per_run"]),
        "declared_text": pace_of(counter, _declared(growth)) if _declared(growth) else "",
        "rise": show(last),
        "top": show(scale.most) if scale.most > scale.least else "",
        "runs": number(scale.runs),
        "warm_up": arm.get("warmup_runs", 0),
        "state": "grows" if growth["grows"] else "undecided" if growth["rule"].startswith("undecided") else "steady",
        "what": COUNTERS.get(counter, counter),
    }


def _lines(arm: Document, growth: Document) -> tuple[Points, Points, Points]:
    """(what was read, the same without what is declared, what would have been called a leak): rises by runs."""
    counter = growth["counter"]
    key = next((stored for stored, name in NAMES.items() if name == counter), counter)
    read = [(float(row["runs"]), float(row[key])) for row in arm["series"] if row.get(key) is not None]
    points = [(runs, value - read[0][1]) for runs, value in read if math.isfinite(value)]
    declared = _declared(growth)
    # What is declared excuses a rise and makes none a fall.
    net = [(runs, max(value - declared * runs, min(value, 0.0))) for runs, value in points] if declared else []
    per_run = arm.get("detectable", {}).get(FLOORS.get(counter, ""))
    last = points[-1][0] if points else 0.0
    floor = [(0.0, 0.0), (last, per_run * last)] if per_run is not None and last else []
    return points, net, floor


def _declared(growth: Document) -> float:
    return float(growth.get("declared") or 0.0)


def pace_of(counter: str, per_run: float) -> str:
    """What a counter gains a run, in its unit."""
    return (signed_size if in_bytes(counter) else signed)(per_run)


def _svg(scale: Scale, points: Points) -> str:
    return " ".join("{:.1f},{:.1f}".format(*scale.place(*point)) for point in points)


def detection(calibration: Document) -> dict[str, Any]:
    """Bars of a calibration: for each planted leak the share that was found, and for nothing planted the false
    alarms."""
    rows = []
    for number_, row in enumerate(calibration["rows"]):
        judged = row["repeats"] - row["not_judged"]
        share = row["found"] / judged if judged > 0 else 0.0
        rows.append({**row, "judged": judged, "share": round(100 * min(1.0, max(0.0, share)), 1), "clean": not number_})
    return {"rows": rows, "reason": calibration.get("reason")}


def sparkline(sizes: Sequence[float]) -> dict[str, Any] | None:
    """A line of a few values, as wide as a cell of a table; None for fewer than two, and for none that is
    known."""
    if len(sizes) < 2 or not any(sizes):
        return None
    width, height, least, most = SPARK
    low, high = min(sizes), max(sizes)
    step = (width - 2 * least) / (len(sizes) - 1)
    heights = [most - (most - least) * (value - low) / (high - low) if high > low else most for value in sizes]
    line = " ".join(f"{least + at * step:.1f},{y:.1f}" for at, y in enumerate(heights))
    return {"line": line, "said": " → ".join(size(value) for value in sizes), "width": width, "height": height}


def icicle(heap: Document) -> dict[str, Any]:
    """Cells of a dominator tree: each level a row, each cell as wide as its share of all reachable bytes. Positions in
    percent of the width and in CSS pixels, so that text keeps its size."""
    cells: list[dict[str, Any]] = []
    total = max(1, heap["reachable_bytes"])

    def put(rows: Sequence[Document], left: float, level: int, hue: int | None, way: str) -> None:
        for at, row in enumerate(rows):
            width = 100.0 * row["retained_bytes"] / total
            if left + width > 100.0001 or width < NARROWEST:
                continue
            own = HUES[at % len(HUES)] if hue is None else hue
            cells.append(
                {
                    **{key: row[key] for key in ("type", "count", "shallow_bytes", "retained_bytes")},
                    "x": round(left, 4),
                    "width": round(width, 4),
                    "y": level * ROW_HEIGHT,
                    "level": level,
                    "hue": own,
                    "way": way,
                    "share": f"{width:.1f} %",
                }
            )
            put(row["children"], left, level + 1, own, f"{way} → {row['type']}" if way else row["type"])
            left += width

    put(heap["rows"], 0.0, 1, None, "")
    begin = max((cell["x"] + cell["width"] for cell in cells if cell["level"] == 1), default=0.0)
    rest = {
        "x": begin,
        "width": round(100.0 - begin, 4),
        "size": total - sum(c["retained_bytes"] for c in heap["rows"]),
    }
    deepest = max((cell["level"] for cell in cells), default=0)
    return {"cells": cells, "height": (deepest + 1) * ROW_HEIGHT, "row": ROW_HEIGHT - 1, "total": total, "rest": rest}
