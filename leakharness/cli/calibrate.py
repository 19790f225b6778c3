"""``calibrate``."""

from __future__ import annotations

from typing import Annotated

import typer

from leakharness.cli.measuring import Json, MaxRuns, MaxSeconds, Python, Quiet, Scenario, ScopeBytes

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "calibrate",
        help="Plant leaks of falling size: the smallest that is found here, and false alarms. "
        "Exit 0 if all were found and nothing else, 3 if not.",
    )(calibrate_command)


def calibrate_command(
    scenario: Scenario,
    repeats: Annotated[int, typer.Option(help="Measurements of each planted leak.", min=1)] = 3,
    scope_bytes: ScopeBytes = None,
    max_runs: MaxRuns = None,
    max_seconds: MaxSeconds = None,
    python: Python = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Plant leaks into the default mode, and see which are found."""
    from leakharness.cli.terminal import Progress, emit_json
    from leakharness.measure.arm import Settings
    from leakharness.proof.calibrate import calibrate, table
    from leakharness.scenario.find import find

    options = {"scope_bytes": scope_bytes, "max_runs": max_runs, "max_seconds": max_seconds}
    with Progress(quiet=quiet or json) as progress:
        result = calibrate(find(scenario), Settings(options, python=python), repeats=repeats, listener=progress)
    if json:
        emit_json(result.document())
    else:
        typer.echo(table(result))
    raise typer.Exit(0 if result.good else 3)
