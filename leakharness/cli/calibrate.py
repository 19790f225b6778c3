"""``calibrate``."""

from __future__ import annotations

from typing import Annotated

import typer

from leakharness.cli.measuring import Given, Scenario, measuring

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "calibrate",
        help="Plant leaks of falling size: the smallest that is found here, and false alarms. "
        "Exit 0 if all were found and nothing else, 3 if not.",
    )(calibrate_command)


@measuring("calibrate")
def calibrate_command(
    *,
    scenario: Scenario,
    repeats: Annotated[int, typer.Option(help="Measurements of each planted leak.", min=1)] = 3,
    given: Given,
) -> None:
    """Plant leaks into the default mode, and see which are found."""
    from leakharness.cli.terminal import Progress, emit_json, say
    from leakharness.proof.calibrate import calibrate, table
    from leakharness.scenario.find import find

    with Progress(quiet=given.silent) as progress:
        result = calibrate(find(scenario), given.settings(), repeats=repeats, listener=progress)
    if given.json:
        emit_json(result.document())
    else:
        say(table(result))
    raise typer.Exit(0 if result.good else 3)
