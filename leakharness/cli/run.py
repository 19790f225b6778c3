"""``list``, ``run`` and ``check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leakharness.cli.measuring import Given, Json, Python, Scenario, measuring, report_folder, stored

if TYPE_CHECKING:
    from leakharness.model import Certificate

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""

    app.command("list", help="Scenarios, their modes, what each mode must give, and where they live.")(list_command)
    app.command("run", help="Measure one mode in a fresh process. Exit 0 PASS, 1 FAIL, 2 usage, 3 NOT_JUDGED.")(
        run_command
    )
    app.command(
        "check",
        help="Measure every arm. Exit 0 CERTIFIED, 1 LEAK, 2 usage, 3 NOT_JUDGED, 4 INVALID.",
    )(check_command)


def list_command(json: Json = False, python: Python = None) -> None:
    """Print every scenario that can be named from here."""
    from leakharness.cli.terminal import emit_json, say
    from leakharness.errors import ScenarioError
    from leakharness.measure.describe import describe, document_of
    from leakharness.measure.worker_process import interpreter
    from leakharness.printable import one_line
    from leakharness.scenario.find import all_scenarios, declared_twice

    unread: list[ScenarioError] = []
    found = all_scenarios(unread=unread)
    files = describe(list(dict.fromkeys(f.path for f in found)), interpreter(python)) if found else {}
    rows: list[dict[str, Any]] = [{"name": None, "problem": str(exc)} for exc in unread]
    for place in found:
        answer = files[str(place.path.resolve())]
        row: dict[str, Any] = {"name": place.name, "path": str(place.path), "line": place.line, "origin": place.origin}
        if answer.failure is not None:
            row["problem"] = answer.failure.reason
        else:
            row.update(next((document_of(s) for s in answer.scenarios if s.name == place.name), {}))
            twins = [other for other in found if other.name == place.name]
            if len(twins) > 1:
                row["problem"] = declared_twice(twins)
        rows.append(row)
    if json:
        emit_json({"schema": "leakharness.list/1", "scenarios": rows})
        return
    for row in rows:
        if row["name"] is None:
            say(f"(a file that cannot be read)\n    {one_line(row['problem'])}\n")
            continue
        say(f"{one_line(row['name'])}  {one_line(row.get('summary') or '')}".rstrip())
        for mode in row.get("modes", ()):
            star = "*" if mode["default"] else " "
            must = f"must {mode['must']}" if mode["must"] else "-"
            say(f"  {star} {one_line(mode['name']):<22} {must:<10} abort={mode['abort']}")
        if "problem" in row:
            say("    " + ("" if "modes" in row else "cannot be read here: ") + one_line(row["problem"]))
        else:
            say(f"    {'synthetic-leak':<22} must FAIL  (from the harness)")
        say(f"    {row['origin']}: {one_line(str(row['path']))}:{row['line']}\n")


@measuring("run")
def run_command(
    *,
    scenario: Scenario,
    mode: Annotated[
        str | None, typer.Option("--mode", help="Which mode [the default one].", show_default=False)
    ] = None,
    given: Given,
) -> None:
    """Measure one mode."""
    from dataclasses import replace

    from leakharness.cli.pages import page_wanted, write_page
    from leakharness.cli.terminal import Progress, emit_json, say, text_width
    from leakharness.cli.working_folder import in_project
    from leakharness.measure.arm import run_found
    from leakharness.report.text import run_block
    from leakharness.scenario.find import find
    from leakharness.store import write_report

    def write() -> Path:
        place = write_report(result, reports.folder)
        return write_page(result.document(), place) if wanted else place

    (found,), given = in_project([find(scenario)], given)
    reports, wanted = report_folder(given), page_wanted(given)
    with Progress(quiet=given.silent) as progress:
        result = run_found(found, mode, given.settings(), progress)
    report, lack = stored(write, reports)
    result = replace(result, notes=result.notes + lack)
    if given.json:
        emit_json(result.document())
    else:
        say(run_block(result, report=report, width=text_width()), verdict=True)
    raise typer.Exit(result.exit_code)


@measuring("check")
def check_command(
    *,
    scenarios: Annotated[list[str] | None, typer.Argument(help="Scenarios, as for run.", show_default=False)] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every scenario that can be named from here.")] = False,
    given: Given,
) -> None:
    """Measure every arm of each scenario, and certify."""
    from dataclasses import replace
    from functools import partial

    from leakharness.cli.pages import page_wanted, write_page
    from leakharness.cli.terminal import Progress, emit_json, say, text_width
    from leakharness.cli.working_folder import in_project
    from leakharness.errors import OptionError
    from leakharness.printable import one_line
    from leakharness.proof.certify import check_found, left_out
    from leakharness.proof.seal import seal_certificate
    from leakharness.report.text import certificate_block
    from leakharness.scenario.find import all_scenarios, find
    from leakharness.store import write_certificate

    if all_ == bool(scenarios):
        raise OptionError("check needs scenarios or --all, and not both: see `leakharness list`")
    found, given = in_project(all_scenarios() if all_ else [find(name) for name in scenarios or ()], given)
    settings = given.settings()
    reports, wanted = report_folder(given), page_wanted(given)

    def write(certificate: Certificate, document: dict[str, Any]) -> Path:
        place = write_certificate(certificate, document, reports.folder)
        return write_page(document, place) if wanted else place

    certificates = []
    lacking = left_out(found, settings) if all_ else {}
    for place, why in lacking.items():
        typer.echo(one_line(f"{place.name} left out: {why}"), err=True)
    for place in [place for place in found if place not in lacking]:
        with Progress(quiet=given.silent) as progress:
            certificate = check_found(place, settings, progress)
        sealed = seal_certificate(certificate, place, settings)
        report, lack = stored(partial(write, certificate, sealed), reports)
        certificate = replace(certificate, notes=certificate.notes + lack)
        certificates.append(certificate)
        if not given.json:
            say(certificate_block(certificate, report=report, width=text_width()), verdict=True)
    if given.json:
        documents = [certificate.document() for certificate in certificates]
        emit_json(
            documents[0] if len(documents) == 1 else {"schema": "leakharness.checks/1", "certificates": documents}
        )
    raise typer.Exit(_worst([certificate.exit_code for certificate in certificates]))


def _worst(codes: list[int]) -> int:
    """The exit code of several certificates: INVALID before LEAK before NOT_JUDGED before CERTIFIED. None at all is
    NOT_JUDGED."""
    for code in (4, 1, 3):
        if code in codes:
            return code
    return 0 if codes else 3
