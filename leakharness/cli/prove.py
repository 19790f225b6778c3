"""``prove`` and ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leakharness.cli.measuring import Given, Json, Python, Quiet, Scenario, measuring, report_folder, stored

if TYPE_CHECKING:
    from leakharness.model import Retainer, RunResult
    from leakharness.proof.prove import Proof
    from leakharness.proof.seal import Verification

__all__ = ["proof_block", "register", "verification_block"]

SEAL_IS = "a checksum against accidents, not a signature: who can write the file can seal it anew"
DETAIL_LINES = 12
"""Lines of a traceback that are shown where a side could not be measured; all of it is in the report."""

Subject = Annotated[
    list[str],
    typer.Option(
        metavar="REV|REQUIREMENT",
        help="A git revision of this project, . for its files as they are now, or a requirement (package==1.2.3); may "
        "be repeated.",
        show_default=False,
    ),
]
RealMode = Annotated[str, typer.Option(help="The mode that runs the real code.")]
OnPath = Annotated[
    bool, typer.Option("--on-path", help="Import a revision from its tree, in --python, instead of installing it.")
]
Wheels = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Install from this folder only, never from an index.", show_default=False),
]
EnvDir = Annotated[
    Path | None, typer.Option(help="Where environments are kept [the user's cache].", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(
        "prove",
        help="The real code before a change and after it. Exit 0 PROVEN, 1 NOT_FIXED, 2 usage, 3 NOT_JUDGED, "
        "4 NOT_REPRODUCED.",
    )(prove_command)
    app.command(
        "verify",
        help="Does a certificate or a proof still hold for the tree at hand? Exit 0 HOLDS, 1 STALE, 2 usage, "
        "4 TAMPERED; a verdict that is not good keeps its own code.",
    )(verify_command)


@measuring("prove")
def prove_command(
    *,
    scenario: Scenario,
    before: Subject,
    after: Subject,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="REQUIREMENT", help="Installed on both sides.", show_default=False),
    ] = None,
    mode: RealMode = "production",
    on_path: OnPath = False,
    wheels: Wheels = None,
    env_dir: EnvDir = None,
    given: Given,
) -> None:
    """Measure the real code before a change and after it."""
    from leakharness.cli.pages import page_wanted, write_page
    from leakharness.cli.terminal import Progress, emit_json, say
    from leakharness.cli.working_folder import in_project
    from leakharness.printable import for_terminal
    from leakharness.proof.prove import prove
    from leakharness.proof.seal import seal_proof, write_sealed
    from leakharness.proof.sides import Question
    from leakharness.scenario.find import find
    from leakharness.store import new_folder

    def write() -> Path:
        with new_folder(reports.folder, f"{proof.scenario}-proof") as place:
            sealed = seal_proof(proof, found, question)
            write_sealed(sealed, place / "proof.json")
            return write_page(sealed, place) if wanted else place / "proof.json"

    env_dir = env_dir and env_dir.absolute()
    wheels = wheels and wheels.absolute()
    (found,), given = in_project([find(scenario)], given)
    question = Question(
        before,
        after,
        with_ or (),
        mode,
        given.settings(),
        on_path,
        wheels,
        env_dir,
    )
    reports, wanted = report_folder(given), page_wanted(given)
    with Progress(quiet=given.silent) as progress:
        proof = prove(
            found, question, progress, lambda text: None if given.silent else typer.echo(for_terminal(text), err=True)
        )
    report, _ = stored(write, reports)
    if given.json:
        emit_json(proof.document())
    else:
        say(proof_block(proof, report=report), verdict=True)
    raise typer.Exit(proof.exit_code)


def verify_command(
    certificate: Annotated[
        Path,
        typer.Argument(
            help="A report folder of check or prove, or the JSON file in it. Its seal is a checksum, not a signature.",
            show_default=False,
        ),
    ],
    rerun: Annotated[
        bool,
        typer.Option(
            "--rerun",
            help="Measure again as well, with what this folder has; nothing else that the document names is run.",
        ),
    ] = False,
    python: Python = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare a sealed document with the tree at hand."""
    from leakharness.cli.terminal import Progress, emit_json, say
    from leakharness.measure.worker_process import interpreter
    from leakharness.proof.seal import verify

    where = None if python is None else interpreter(python)
    with Progress(quiet=quiet or json) as progress:
        result = verify(certificate, python=where, rerun=rerun, listener=progress)
    if json:
        emit_json(result.document())
    else:
        say(verification_block(result), verdict=True)
    raise typer.Exit(result.exit_code)


def verification_block(result: Verification, *, width: int = 80) -> str:
    """What became of the document, and why."""
    from leakharness.proof.prove import Proof
    from leakharness.report.text import certificate_block, labelled

    lines = [f"{result.status}  {result.verdict}"]
    for name, texts in (("because", result.reasons), ("note", result.notes)):
        for text in texts:
            lines += labelled(name, text, width)
    lines += labelled("the seal", SEAL_IS, width)
    if result.again is not None:
        again = result.again
        lines += ["", "measured again:"]
        lines.append(proof_block(again) if isinstance(again, Proof) else certificate_block(again))
    return "\n".join(line.rstrip() for line in lines)


def proof_block(proof: Proof, *, report: str | None = None, width: int = 80) -> str:
    """The verdict, a row for each side and control, and which ways of being held vanished, remain and are new."""
    from leakharness.printable import one_line
    from leakharness.report.text import labelled, wrapped

    head = f"{proof.verdict}  {one_line(proof.scenario)} / {one_line(proof.mode)}"
    tail = f"{proof.duration_s:.1f} s"
    lines = [head + tail.rjust(max(2 + len(tail), width - len(head))), *wrapped(proof.reason, "  ", width), ""]
    lines.append(f"  {'arm':<20}{'must':<6}{'gave':<12}{'retained':>10}  grows per run")
    for name, arms in (("before", proof.before), ("after", proof.after)):
        lines += [_row(name, arm, width) for arm in arms]
        lines += wrapped(f"{proof.sides[name].subject}", "    ", width)
    lines += [_row(arm.mode, arm, width) for arm in proof.controls]
    said = [arm for arm in (*proof.before, *proof.after, *proof.controls) if arm.verdict == "NOT_JUDGED" and arm.detail]
    if said:
        lines += ["", f"  what {said[0].mode} said"]
        lines += ["    " + line[: width - 4] for line in said[0].detail.splitlines()[-DETAIL_LINES:]]
    for title, paths in (
        ("vanished: what held them before, and does not after", proof.paths.vanished),
        ("remains: what held them before, and still does", proof.paths.remaining),
        ("new: what holds them only after", proof.paths.new),
    ):
        if paths:
            lines += ["", f"  {title}", *(line for path in paths for line in _path_lines(path, width))]
    lines.append("")
    if report is not None:
        lines += labelled("report", report, width)
    lines += labelled("reproduce", proof.reproduce, width)
    return "\n".join(line.rstrip() for line in lines)


def _row(name: str, arm: RunResult, width: int) -> str:
    from leakharness.report.text import cut
    from leakharness.units import signed

    grows = ", ".join(f"{g.counter} {signed(g.per_run)}" for g in arm.growth if g.grows) or "-"
    return cut(f"  {name:<20}{arm.must or '-':<6}{arm.verdict:<12}{arm.retained:>5}/{arm.born:<4}  {grows}", width)


def _path_lines(path: Retainer, width: int) -> list[str]:
    from leakharness.report.text import path_lines, wrapped

    return [*wrapped(path.sentence or f"{path.count} {path.target}", "    ", width), *path_lines(path.path, width)]
