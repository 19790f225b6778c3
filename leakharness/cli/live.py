"""``live look``: a running process from outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from leakharness.heap.retainers import RetainerGroup
    from leakharness.live.look import Look

__all__ = ["register"]

TYPES_EXPLAINED = 3
"""Types of the program that are explained where ``--type`` names none."""


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    live = typer.Typer(help="Look at a running process: nothing runs in it, it is not stopped.", no_args_is_help=True)
    live.command("look", help="Types by size, and who holds the objects of a type, in a running process.")(look_command)
    live.callback()(lambda: None)  # a group with one command stays a group
    app.add_typer(live, name="live")


def look_command(
    pid: Annotated[int, typer.Argument(help="Process id of a CPython 3.10 to 3.15.", show_default=False, min=1)],
    type_: Annotated[
        str, typer.Option("--type", help="Type to explain, qualified or not [the program's most frequent].")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Write a .heapsnapshot for diff, retainers, DevTools.")] = None,
    top: Annotated[int, typer.Option(help="Types and groups shown.", min=1)] = 20,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")] = False,
) -> None:
    from leakharness.cli.terminal import emit_json, say
    from leakharness.live.look import look

    found = look(pid)
    groups = found.retainers(found.nodes_of(type_) if type_ else found.program_nodes(TYPES_EXPLAINED))
    if out is not None:
        from leakharness.heap import v8

        v8.write(found.graph, out)
    if json:
        emit_json(found.document(groups[:top]))
        return
    say("\n".join(_lines(found, groups, top)))
    if out is not None:
        print(f"leakharness: snapshot in {out}", file=sys.stderr)


def _lines(found: Look, groups: list[RetainerGroup], top: int) -> Iterator[str]:
    from leakharness.heap.wording import sentence
    from leakharness.units import size

    share = found.reached / max(1, found.objects)
    yield f"process {found.pid}, CPython {found.python}: {found.objects} tracked objects, read in {found.seconds:.1f} s"
    yield f"{share:.1%} are reached from modules, threads and the interpreter; the rest is held by C or unknown; {found.torn} torn"
    yield ""
    yield "     count  untracked     shallow  type"
    for family in found.families[:top]:
        yield f"{family.count:>10}{family.untracked:>11}{size(family.shallow_bytes):>12}  {family.type}"
    for group in groups[:top]:
        yield ""
        yield sentence(group)
        yield from ("  " * (level + 1) + ("└─ " if level else "") + step for level, step in enumerate(group.path))
