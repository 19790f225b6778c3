"""``bisect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from leakharness.cli.measuring import Given, Scenario, measuring, report_folder
from leakharness.cli.prove import EnvDir, OnPath, RealMode, Subject, Wheels

if TYPE_CHECKING:
    from leakharness.documents import BisectDocument

__all__ = ["bisection_block", "register"]

MOST_LINES_OF_A_REASON = 4
"""Why a revision was passed over; all of it is in the report."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "bisect",
        help="The commit or the published version that brought a leak, or mended it. Exit 0 found, 2 usage, 3 not "
        "found.",
    )(bisect_command)


@measuring("bisect")
def bisect_command(
    *,
    scenario: Scenario,
    good: Subject,
    bad: Subject,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="REQUIREMENT", help="Installed beside every revision.", show_default=False),
    ] = None,
    mode: RealMode = "production",
    on_path: OnPath = False,
    wheels: Wheels = None,
    env_dir: EnvDir = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Measure anew what an earlier call of the same command has kept.")
    ] = False,
    given: Given,
) -> None:
    """Halve the history between a revision that leaks and one that does not. Long because its options are its lines."""
    from leakharness.cli.terminal import Progress, emit_json, say
    from leakharness.cli.working_folder import in_project
    from leakharness.printable import for_terminal
    from leakharness.proof.bisect import bisect
    from leakharness.proof.sides import Question
    from leakharness.scenario.declarations import reference_to
    from leakharness.scenario.find import find
    from leakharness.store import keep_latest

    env_dir = env_dir and env_dir.absolute()
    wheels = wheels and wheels.absolute()
    (found,), given = in_project([find(scenario)], given)
    question = Question(
        before=bad,
        after=good,
        both=with_ or (),
        mode=mode,
        settings=given.settings(),
        on_path=on_path,
        wheels=wheels,
        env_dir=env_dir,
    )
    reports = report_folder(given)
    with Progress(quiet=True) as progress:  # each step says its verdict itself
        bisection = bisect(
            found,
            question,
            reports.folder,
            reference_to(found),
            restart=restart,
            listener=progress,
            say=lambda text: None if given.silent else typer.echo(for_terminal(text), err=True),
        )
    if reports.keep is not None:
        keep_latest(bisection.folder, reports.keep)
    document = bisection.document()
    if given.json:
        emit_json(document)
    else:
        say(bisection_block(document), verdict=True)
    raise typer.Exit(bisection.exit_code)


def bisection_block(document: BisectDocument, *, width: int = 80) -> str:
    """The revision with its subject, the path that appeared or vanished, and a row for each step."""
    from leakharness.printable import one_line
    from leakharness.report.text import labelled, path_lines, wrapped

    head = f"{document['outcome']}  {one_line(document['scenario'])} / {one_line(document['mode'])}"
    tail = f"{len(document['steps'])} of {document['revisions']} measured, {document['duration_s']:.1f} s"
    lines = [head + tail.rjust(max(2 + len(tail), width - len(head)))]
    subject, change = one_line(document["subject"]), document["change"]
    if document["revision"] is not None:
        lines += wrapped(f"{document['revision']} {change} the leak: {subject}", "  ", width)
    else:
        lines += wrapped(document["reason"], "  ", width)
        lines += [line for name in document["suspects"] for line in wrapped(f"it may be {name}", "    ", width)]
    lines += _step_lines(document, width)
    if document["revision"] is not None and document["paths"]:
        title = "vanished with it" if change == "mended" else "appeared with it"
        lines += ["", f"  {title}: what holds the retained objects"]
        for row in document["paths"]:
            lines += wrapped(row.get("sentence") or f"{row['count']} {row['target']}", "    ", width)
            lines += path_lines(row["path"], width)
    lines.append("")
    if document["prove"]:
        lines += labelled("prove it", document["prove"], width)
    lines += labelled("report", document["folder"], width)
    lines += labelled("reproduce", document["reproduce"], width)
    return "\n".join(line.rstrip() for line in lines)


def _step_lines(document: BisectDocument, width: int) -> list[str]:
    from leakharness.printable import one_line
    from leakharness.proof.revisions import SHORT
    from leakharness.report.text import cut, wrapped

    lines = ["", "  measured, in this order"]
    for step in document["steps"]:
        lines.append(cut(f"    {step['verdict']:<12}{step['revision'][:SHORT]:<12}{one_line(step['subject'])}", width))
        if step["verdict"] == "NOT_JUDGED":
            lines += wrapped(one_line(step["reason"]), " " * 16, width)[:MOST_LINES_OF_A_REASON]
    if document["control"] is not None:
        lines.append(f"    {document['control']['verdict']:<12}a planted leak, where it passes")
    return lines
