"""A trend as one self-contained page: a plot for each figure of each arm, readable without JavaScript. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leakharness.printable import printable
from leakharness.report.templating import templates
from leakharness.report.trend import GROWTH, Point, Trend, figure_name, figure_text

__all__ = ["trend_page"]

SEES = "sees "
WIDTH, HEIGHT, MARGIN, LOW = 320, 110, 8, 18
"""Of one plot, in units of the SVG: the whole, the margin, and the room for the labels below."""


def trend_page(trend: Trend) -> str:
    """The page. Every text is escaped by jinja2; coordinates are numbers of ours."""
    over = {(one.scenario, one.mode, one.figure) for one in trend.over}
    arms = [
        {
            "scenario": scenario,
            "mode": mode,
            "plots": [
                {**_plot(points, figure), "over": (scenario, mode, figure) in over} for figure in _figures_of(points)
            ],
            "points": points,
        }
        for (scenario, mode), points in trend.arms.items()
    ]
    shown = [
        {
            **one.document(),
            "name": figure_name(one.figure),
            "shown": figure_text(one.figure, one.value),
            "limit": figure_text(one.figure, one.allowed),
        }
        for one in trend.over
    ]
    template = templates().get_template("trend.html.j2")
    known = {"outcome": trend.outcome, "arms": arms, "over": shown, "notes": trend.notes}
    return printable(template.render(**known, text=figure_text, growth=GROWTH))


def _figures_of(points: Sequence[Point]) -> list[str]:
    """The figures to draw: growth of counters that grew at some time or are in bytes or objects, and all others."""
    names = list(dict.fromkeys(name for point in points for name in point.figures))
    grew = {name for point in points for name in point.grows}
    moved = {name for name in names if any(point.figures.get(name) for point in points)}
    return [name for name in names if not name.startswith(GROWTH) or name in grew | moved]


def _plot(points: Sequence[Point], figure: str) -> dict[str, Any]:
    """One figure over the points: a line with a mark for each, from zero or the least below it to the most."""
    values = [(place, value) for place, point in enumerate(points) if (value := point.figures.get(figure)) is not None]
    least, most = (
        min(0.0, *(value for _, value in values), 0.0),
        max(0.0, *(value for _, value in values), 0.0),
    )
    span = (most - least) or 1.0
    last = max(1, len(points) - 1)

    def x(place: int) -> float:
        return round(MARGIN + (WIDTH - 2 * MARGIN) * place / last, 1)

    def y(value: float) -> float:
        return round(MARGIN + (HEIGHT - MARGIN - LOW) * (most - value) / span, 1)

    return {
        "title": f"smallest leak seen, {name[len(SEES) :]}" if (name := figure_name(figure)).startswith(SEES) else name,
        "line": " ".join(f"{x(place)},{y(value)}" for place, value in values),
        "zero": y(0.0),
        "marks": [
            {
                "x": x(place),
                "y": y(value),
                "grows": figure in points[place].grows,
                "title": f"{points[place].label} {points[place].subject}: {figure_text(figure, value)}",
            }
            for place, value in values
        ],
        "newest": figure_text(figure, points[-1].figures.get(figure)),
        "most": figure_text(figure, most),
        "first": points[0].label,
        "last": points[-1].label,
        "width": WIDTH,
        "height": HEIGHT,
    }
