"""``leakharness shape`` and ``leakharness new``: the lexical shape of a fixture and of what it copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from leakharness.shape import ShapeReport
    from leakharness.shape.compare import Row

COLUMN = 46
"""Width of each side, characters: two of them, a mark and the gaps make 98."""
MEANING = {
    "hides": "can HIDE the leak",
    "fakes": "can FAKE a leak",
    "harmless": "harmless",
}


def register(app: typer.Typer) -> None:
    """Add the commands ``shape`` and ``new``."""
    app.command("shape")(shape)
    app.command("new")(new)


def shape(
    scenario: Annotated[str, typer.Argument(help="A name, a file, or file::name.")],
    mode: Annotated[
        str | None,
        typer.Option(help="The mode that holds the copy [closure-inline, else the first that must FAIL]."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="MODULE:QUALNAME[@REV]", help="What it copies [the scenario's mimics]."),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The interpreter whose packages are searched [this one]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Does the fixture still have the lexical shape of what it mimics? Exit 0 SAME, 1 DRIFTED.

    Both are read from source; nothing is imported. Other names are no difference.
    """
    from leakharness.cli.terminal import say
    from leakharness.shape import check_shape

    report = check_shape(scenario, mode=mode, target=target, python=python)
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        say("\n".join(shape_lines(report)))
    raise typer.Exit(0 if report.comparison.verdict == "SAME" else 1)


def new(
    name: Annotated[str, typer.Argument(help="The scenario's name; the file is scenarios/NAME.py.")],
    source: Annotated[
        str,
        typer.Option("--from", metavar="MODULE:FUNCTION[@REV]", help="The function where the leak lives."),
    ] = "",
    snapshot: Annotated[
        Path | None,
        typer.Option("--from-snapshot", metavar="FILE", help="A snapshot that shows what is kept, instead."),
    ] = None,
    type_: Annotated[str, typer.Option("--type", help="With --from-snapshot: the type that is kept.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The interpreter whose packages are searched [this one]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Write a scenario file with the lexical shape of a function, or of what holds the objects of a snapshot; ready to
    run. What only you know is marked.
    """
    from leakharness.errors import OptionError
    from leakharness.scenario.unfinished import marked_lines
    from leakharness.shape import find_function
    from leakharness.shape.scaffold import keeps_nothing, write_scaffold

    if bool(source) == (snapshot is not None) or (snapshot is not None and not type_):
        raise OptionError("new: give --from MODULE:FUNCTION, or --from-snapshot FILE with --type TYPE")
    if snapshot is not None:
        _new_from_snapshot(name, snapshot, type_, force=force, as_json=as_json)
        return
    suspect = find_function(source, python)
    file = write_scaffold(suspect, name, Path.cwd() / "scenarios", force=force)
    text = file.read_text(encoding="utf-8")
    marks = marked_lines(text)
    if as_json:
        document = {
            "schema": "leakharness.new/1",
            "scenario": name,
            "file": str(file),
            "target": source,
            "target_file": suspect.module.path,
            "target_line": suspect.shape.line,
            "fill_in_lines": marks,
        }
        typer.echo(json.dumps(document))
        return
    shown = file.relative_to(Path.cwd())
    typer.echo(f"{shown}: the shape of {source} ({suspect.where})")
    typer.echo(f"{len(marks)} places to fill in, marked FILL IN: lines {', '.join(map(str, marks))}")
    if keeps_nothing(suspect, name):
        typer.echo("no closure of it keeps anything: closure-inline passes until you fill in what does")
    typer.echo(f"next: leakharness run {name} --mode closure-inline; leakharness shape {name}")


def _new_from_snapshot(name: str, snapshot: Path, type_: str, *, force: bool, as_json: bool) -> None:
    from leakharness.cli.heap import nodes_of_type
    from leakharness.heap import v8
    from leakharness.heap.holders import holding_of
    from leakharness.heap.retainers import explain
    from leakharness.heap.wording import sentence
    from leakharness.scenario.unfinished import marked_lines
    from leakharness.shape.scaffold import write_text
    from leakharness.shape.scaffold.from_holding import scaffold_holding

    graph = v8.read(snapshot)
    nodes = nodes_of_type(graph, type_, snapshot, None)
    instances = [node for node in nodes if not graph.type_name(node).startswith("type ")]
    group = max(explain(graph, instances or nodes), key=lambda group: group.count)
    holding = holding_of(graph, group, sentence(group))
    text = scaffold_holding(holding, name, snapshot.name)
    file = write_text(text, name, Path.cwd() / "scenarios", force=force)
    marks = marked_lines(file.read_text("utf-8"))
    if as_json:
        typer.echo(
            json.dumps({"schema": "leakharness.new/1", "scenario": name, "file": str(file), "fill_in_lines": marks})
        )
        return
    typer.echo(f"{file.relative_to(Path.cwd())}: {holding.sentence}")
    typer.echo(f"{len(marks)} places to fill in, marked FILL IN: lines {', '.join(map(str, marks))}")
    typer.echo(f"next: leakharness run {name} --mode closure-inline")


def shape_lines(report: ShapeReport) -> list[str]:
    """The report as text, at most 100 columns wide."""
    comparison, fixture, suspect = report.comparison, report.fixture, report.suspect
    lines = [
        f"original  {suspect.target}  ({suspect.where})",
        f"fixture   {fixture.declared.name} --mode {fixture.mode}  ({fixture.declared.file}:{fixture.line})",
        "",
        f"  {'original':<{COLUMN}}    fixture",
        *(line for row in comparison.rows for line in _row_lines(row)),
        "",
    ]
    if comparison.names:
        pairs = ", ".join(f"{theirs} = {ours}" for theirs, ours in comparison.names)
        lines += [*_wrapped(f"renamed (original = fixture): {pairs}", "    "), ""]
    for difference in comparison.differences:
        places = [f"original line {difference.suspect_line}"] if difference.suspect_line else []
        places += [f"fixture line {difference.fixture_line}"] if difference.fixture_line else []
        text = f"{MEANING[difference.effect]}: {difference.where}: {difference.what}"
        lines += _wrapped(f"{text}: {difference.why} ({', '.join(places)})", "    ")
    return [*lines, *_conclusion(report)]


def _conclusion(report: ShapeReport) -> list[str]:
    comparison = report.comparison
    if comparison.verdict == "SAME":
        return ["SAME: the fixture keeps what the original keeps, and in the same order"]
    count = sum(difference.effect != "harmless" for difference in comparison.differences)
    noun = "difference that matters" if count == 1 else "differences that matter"
    what = "can hide the leak" if comparison.can_hide else "can fake a leak"
    lines = [f"DRIFTED: {count} {noun}; the fixture {what}"]
    if report.suspect.target.rev is None:
        lines += _wrapped(
            "if the original was changed since, by the fix itself: compare with the revision that leaked, "
            f"--target {report.suspect.target}@REV",
            "    ",
        )
    return lines


def _row_lines(row: Row) -> list[str]:
    """One row, each side wrapped into its column; ``!`` marks what differs."""
    import textwrap

    indent = "  " * row.depth
    sides = [
        textwrap.wrap(text, COLUMN, initial_indent=indent, subsequent_indent=indent + "    ") or [""]
        for text in (row.suspect, row.fixture)
    ]
    height = max(map(len, sides))
    left, right = ([*side, *[""] * (height - len(side))] for side in sides)
    mark = " " if row.same else "!"
    return [f"{mark} {a:<{COLUMN}}    {b}".rstrip() for a, b in zip(left, right, strict=True)]


def _wrapped(text: str, indent: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
