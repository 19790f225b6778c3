"""``trend``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leakharness.cli.measuring import Json

if TYPE_CHECKING:
    from leakharness.report.trend import Point, Trend

__all__ = ["register", "trend_block"]

WIDE = 100
"""Columns of the table where there is no terminal to ask."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "trend",
        help="Stored certificates over time, and whether they keep to the budget in pyproject.toml. Exit 0 within it, "
        "or there is none; 1 over it, 2 usage.",
    )(trend_command)


def trend_command(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of reports, or their JSON files [reports].", show_default=False),
    ] = None,
    from_git: Annotated[
        bool, typer.Option("--from-git", help="As they were at each commit that changed them, instead of as they are.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write a page with a plot of each figure.", metavar="FILE", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Growth a run, the smallest leak that would have been seen, and duration, of every arm that must PASS."""
    from leakharness.cli.terminal import emit_json, say
    from leakharness.printable import encodable
    from leakharness.proof import stored
    from leakharness.report.trend import budget_from, trend_of
    from leakharness.report.trend_page import trend_page
    from leakharness.resolve import pyproject_options
    from leakharness.store import write_atomically

    cwd = Path.cwd()
    budget = budget_from(pyproject_options(cwd).get("trend_budget", {}), "pyproject.toml: [tool.leakharness]")
    paths = folders or [Path("reports")]
    points, notes = stored.from_git(paths, cwd) if from_git else stored.from_folders(paths)
    trend = trend_of(points, budget, notes)
    if out is not None:
        write_atomically(out, encodable(trend_page(trend)).encode())
    if json:
        emit_json(trend.document())
    else:
        say(trend_block(trend), verdict=True)
    raise typer.Exit(trend.exit_code)


def trend_block(trend: Trend, *, width: int = 0) -> str:
    """The outcome, what is over the budget, and a table with a row for each measurement."""
    import io
    import shutil

    from rich import box
    from rich.console import Console

    from leakharness.printable import one_line
    from leakharness.report.text import wrapped
    from leakharness.report.trend import figure_name, figure_text

    width = width or shutil.get_terminal_size((WIDE, 24)).columns
    count = sum(map(len, trend.arms.values()))
    lines = [f"{trend.outcome}  {count} measurements of {len(trend.arms)} arms"]
    for one in trend.over:
        value, allowed = figure_text(one.figure, one.value), figure_text(one.figure, one.allowed)
        text = f"{one.scenario} / {one.mode}: {figure_name(one.figure)} is {value}, allowed {allowed} ({one.why})"
        lines += wrapped(one_line(text), "  ", width)
    for note in trend.notes:
        lines += wrapped(one_line(f"note: {note}"), "  ", width)
    screen = io.StringIO()
    console = Console(file=screen, width=width, color_system=None, force_terminal=False)
    for (scenario, mode), points in trend.arms.items():
        console.print()
        console.print(_table(f"{one_line(scenario)} / {one_line(mode)}", points, box.SIMPLE_HEAD))
    text = "\n".join(lines) + "\n" + screen.getvalue()
    return "\n".join(line.rstrip() for line in text.splitlines())


def _table(title: str, points: tuple[Point, ...], style: object) -> object:
    """One arm: a row for each measurement, and how its figures ran as bars."""
    from rich.table import Table
    from rich.text import Text

    from leakharness.printable import one_line
    from leakharness.report.trend import GROWTH, figure_text
    from leakharness.units import sparkline

    table = Table(title=Text(title), title_justify="left", box=style, pad_edge=False)  # type: ignore[arg-type]
    for name in ("when", "verdict", "grows a run", "sees objects", "sees bytes", "seconds", "what"):
        last = name == "what"
        table.add_column(
            name, overflow="ellipsis" if last else "fold", ratio=1 if last else None, no_wrap=name == "when"
        )
    seen = ("detectable.objects", "detectable.native_bytes", "duration_s")
    for point in points:
        grows = ", ".join(
            f"{name.removeprefix(GROWTH)} {figure_text(name, point.figures[name])}" for name in sorted(point.grows)
        )
        cells = [point.label, point.verdict, grows or "-", *(figure_text(n, point.figures.get(n)) for n in seen)]
        table.add_row(*(Text(one_line(cell)) for cell in (*cells, point.subject or point.source)))
    if len(points) > 1:
        bars = [sparkline([point.figures.get(name) or 0.0 for point in points]) for name in seen]
        table.add_row("", "", "", *bars, "")
    return table
