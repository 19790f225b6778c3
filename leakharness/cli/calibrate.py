"""``calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leakharness.cli.measuring import Given, Scenario, measuring, report_folder, stored

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
    from leakharness.cli.working_folder import in_project
    from leakharness.page_material import CALIBRATION
    from leakharness.proof.calibrate import calibrate, table
    from leakharness.report.document import to_json
    from leakharness.scenario.find import find
    from leakharness.store import new_folder, write_atomically

    def write() -> Path:
        with new_folder(reports.folder, f"{result.scenario}-calibration") as place:
            write_atomically(place / CALIBRATION, to_json(result.document(), indent=True))
        return place

    (found,), given = in_project([find(scenario)], given)
    reports = report_folder(given)
    with Progress(quiet=given.silent) as progress:
        result = calibrate(found, given.settings(), repeats=repeats, listener=progress)
    report, _ = stored(write, reports)
    if given.json:
        emit_json(result.document())
    else:
        say(table(result) + (f"\n\n  report          {report}" if report is not None else ""))
    raise typer.Exit(0 if result.good else 3)
