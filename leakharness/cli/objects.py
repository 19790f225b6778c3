"""``snapshot object``, ``snapshot duplicates`` and ``snapshot detached``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from leakharness.cli.heap import Json, Snapshot, emit, emit_json, fit, path_lines, printable, wrapped

if TYPE_CHECKING:
    from leakharness.heap.one_object import Neighbour, OneObject

__all__ = ["register"]

NEIGHBOURS_SHOWN = 30


def register(snapshot: typer.Typer) -> None:
    """Add the commands to the group ``snapshot``."""
    snapshot.command("object", help="One object: its fields, who holds it, what it retains.")(object_command)
    snapshot.command("duplicates", help="Texts that many strings of a V8 file say, by wasted bytes.")(
        duplicates_command
    )
    snapshot.command("detached", help="DOM nodes that no document holds, and who does.")(detached_command)


def object_command(
    snapshot: Snapshot,
    number: Annotated[int, typer.Argument(metavar="ID", help="The object's id.", show_default=False)],
    json: Json = False,
) -> None:
    from dataclasses import asdict

    from leakharness.heap import v8
    from leakharness.heap.one_object import one_object

    found = one_object(v8.read(snapshot), number)
    if json:
        emit_json({"schema": "leakharness.object/1", "snapshot": str(snapshot), **asdict(found)})
    else:
        emit(_object_lines(found))


def _object_lines(found: OneObject) -> Iterator[str]:
    from leakharness.units import size

    yield fit(f"{printable(found.name) or '(unnamed)'} ({found.kind}) @{found.id}")
    yield f"{size(found.size)} itself, {size(found.retained)} retained"
    if found.dominator is not None:
        yield fit(f"freed with {printable(found.dominator.name) or '(unnamed)'} @{found.dominator.id}")
    for head, rows in (("fields", found.fields), ("held by", found.holders)):
        yield ""
        yield f"{head} ({len(rows)}):"
        for row in rows[:NEIGHBOURS_SHOWN]:
            yield fit(_neighbour_text(row))
        if len(rows) > NEIGHBOURS_SHOWN:
            yield f"  {len(rows) - NEIGHBOURS_SHOWN} more: --json has them all"


def _neighbour_text(row: Neighbour) -> str:
    name = printable(row.name) or f"({row.kind})"
    return f"  {row.edge_kind:<9}{printable(row.edge):<24}  {name} @{row.id}"


def duplicates_command(
    snapshot: Snapshot, top: Annotated[int, typer.Option(help="Texts shown.", min=1)] = 30, json: Json = False
) -> None:
    from dataclasses import asdict

    from leakharness.heap import v8
    from leakharness.heap.one_object import duplicate_strings
    from leakharness.units import size

    found = duplicate_strings(v8.read(snapshot, edges=False), top)
    if json:
        rows = [asdict(row) for row in found]
        emit_json({"schema": "leakharness.duplicates/1", "snapshot": str(snapshot), "rows": rows})
        return
    rows_text = [fit(f"{size(row.wasted):>11}{row.count:>11}  {printable(row.text)}") for row in found]
    emit(["     wasted      count  text", "", *rows_text] if found else ["No text is there more than once."])


def detached_command(
    snapshot: Snapshot, top: Annotated[int, typer.Option(help="Groups shown.", min=1)] = 10, json: Json = False
) -> None:
    from leakharness.heap import v8
    from leakharness.heap.retainers import explain
    from leakharness.heap.where import selected
    from leakharness.heap.wording import sentence

    graph = v8.read(snapshot)
    nodes = selected(graph, "detached").tolist()
    groups = explain(graph, nodes)
    if json:
        rows = [group.document() for group in groups[:top]]
        emit_json({"schema": "leakharness.detached/1", "snapshot": str(snapshot), "count": len(nodes), "groups": rows})
        return
    says = graph.detachedness is not None and bool(graph.detachedness.any())
    lines = [f"{len(nodes)} detached" if says else "This file does not say what is detached: Chrome's files do."]
    for group in groups[:top]:
        lines += ["", *wrapped(sentence(group)), *path_lines(group.path, "  ")]
    emit(lines)
