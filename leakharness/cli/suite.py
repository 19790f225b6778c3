"""``hotspots update`` and ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
MANIFEST = "reports/hotspots.json"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    hotspots = typer.Typer(help="Test files that bloat a shared worker.", no_args_is_help=True)
    hotspots.command("update", help="Merge traces of pytest --leak-trace=FILE into a manifest.")(update_command)
    hotspots.callback()(lambda: None)  # a group with one command stays a group
    app.add_typer(hotspots, name="hotspots")
    app.command(
        "report",
        help="`report RUN...` renders stored results; `report investigate --lane-dir DIR` a lane.",
    )(report_command)


def update_command(
    trace: Annotated[list[Path], typer.Option(help="A trace file; repeat for runs and shards.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The manifest.")] = Path(MANIFEST),
    min_delta_kb: Annotated[
        int | None, typer.Option(help="KiB a file must leave behind [32768].", min=0, show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Files in the manifest [64].", min=1, show_default=False)] = None,
    tests: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder of test files that should have a trace [those of the traced files].", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the manifest, and say what is in it and which files have no trace."""
    from leakharness.cli.terminal import emit_json, say
    from leakharness.printable import one_line
    from leakharness.report.document import to_json
    from leakharness.store import write_atomically
    from leakharness.suite.hotspots import LIMIT, MIN_DELTA_KB, merge, suite_files
    from leakharness.suite.trace import read_trace
    from leakharness.units import KIB, size

    traces = [(path.name, read_trace(path)) for path in trace]
    folders = tests or sorted({row["file"].rpartition("/")[0] or "." for _, rows in traces for row in rows})
    manifest = merge(
        traces,
        min_delta_kb=MIN_DELTA_KB if min_delta_kb is None else min_delta_kb,
        limit=limit or LIMIT,
        test_files=suite_files(Path.cwd(), folders),
    )
    write_atomically(out, to_json(manifest.document(), indent=True))
    if json:
        emit_json(manifest.document())
        return
    least = size(manifest.min_delta_kb * KIB)
    say(f"{out}: {len(manifest.files)} of {manifest.traced} traced files left {least} or more")
    for hotspot in manifest.files:
        by_import = f"({size(hotspot.import_kb * KIB)} by import)"
        say(f"  {size(hotspot.delta_kb * KIB):>10}  {by_import}  {one_line(hotspot.file)}")
    for name in manifest.untraced:
        say(f"  no recorded trace: {one_line(name)}")
    say(f"isolate them with: pytest --leak-isolate {out}")


def report_command(
    runs: Annotated[
        list[str],
        typer.Argument(help="run.json or certificate.json files, their folders, or `investigate`.", show_default=False),
    ],
    format_: Annotated[
        str, typer.Option("--format", help="markdown, html, junit, sarif or github.", show_default=True)
    ] = "markdown",
    out: Annotated[Path | None, typer.Option(help="Write to a file [stdout].", show_default=False)] = None,
    lane_dir: Annotated[
        Path | None, typer.Option(help="investigate: a lane's folder of snapshots.", show_default=False)
    ] = None,
    pid: Annotated[
        int | None, typer.Option(help="investigate: which PID [that with most snapshots].", show_default=False)
    ] = None,
    trace: Annotated[
        list[Path] | None, typer.Option(help="investigate: traces of that run.", show_default=False)
    ] = None,
    command: Annotated[
        str | None, typer.Option(help="investigate: the command that reproduces it [as recorded].", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option(help="investigate: families shown.", min=1)] = 12,
    min_kb: Annotated[int, typer.Option(help="investigate: KiB by which a family must have grown.", min=0)] = 64,
    json: Json = False,
) -> None:
    """Render stored results, or investigate a lane."""
    from leakharness.errors import OptionError

    if runs == ["investigate"]:
        if lane_dir is None:
            raise OptionError("report investigate needs --lane-dir DIR, a folder that pytest --leak-snapshots wrote")
        if format_ not in ("markdown", "html"):
            raise OptionError(f"--format {format_!r}: an investigation is rendered as markdown or html")
        _investigate(lane_dir, pid, trace or [], command, top, min_kb, out, format_, as_json=json)
        return
    if lane_dir is not None or trace or command or pid is not None:
        raise OptionError("--lane-dir, --pid, --trace and --command belong to `report investigate`")
    _render(runs, format_, out, as_json=json)


def _investigate(
    lane_dir: Path,
    pid: int | None,
    traces: list[Path],
    command: str | None,
    top: int,
    min_kb: int,
    out: Path | None,
    format_: str,
    *,
    as_json: bool,
) -> None:
    from leakharness.cli.terminal import emit_json
    from leakharness.printable import for_terminal
    from leakharness.report.formats import render_documents
    from leakharness.suite.investigate import investigate, report_markdown

    found = investigate(lane_dir, pid=pid, traces=traces, command=command, top=top, min_kb=min_kb)
    html = format_ == "html"
    text = (
        ""
        if as_json and out is None
        else render_documents([found.document()], "html")
        if html
        else report_markdown(found)
    )
    if out is not None:
        _write(out, text)
    if as_json:
        emit_json(found.document())
    elif out is None:
        typer.echo(text if html else for_terminal(text), nl=False)


def _render(runs: list[str], format_: str, out: Path | None, *, as_json: bool) -> None:
    from leakharness.cli.terminal import emit_json
    from leakharness.report.formats import read_documents, read_results, render_documents

    paths = [Path(name) for name in runs]
    if as_json:
        emit_json({"schema": "leakharness.results/1", "results": read_results(paths)})
        return
    documents = read_documents(paths)
    material = None
    if format_ in ("html", "github"):
        from leakharness.page_material import gathered

        material = gathered(documents, paths[0].absolute().parent, heaps=format_ == "html")
    text = render_documents(documents, format_, material)
    if out is not None:
        _write(out, text)
    else:
        typer.echo(text, nl=False)


def _write(out: Path, text: str) -> None:
    from leakharness.printable import encodable
    from leakharness.store import write_atomically

    write_atomically(out, encodable(text).encode())
    typer.echo(str(out), err=True)
