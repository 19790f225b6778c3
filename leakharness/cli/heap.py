"""``diff``, ``retainers``, ``dominators`` and ``snapshot info``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from leakharness.heap.diff import DiffRow, SnapshotDiff
    from leakharness.heap.dominator_rows import DominatorRow
    from leakharness.heap.graph import HeapGraph
    from leakharness.heap.retainers import RetainerGroup
    from leakharness.heap.trend import Trend
    from leakharness.heap.v8 import SnapshotInfo
    from leakharness.heap.v8_details import AllocationSite

__all__ = [
    "Json",
    "Snapshot",
    "dominator_lines",
    "emit",
    "emit_json",
    "fit",
    "nodes_of_type",
    "path_lines",
    "printable",
    "register",
    "wrapped",
]

WIDTH = 100
"""Columns that text output fits in."""
DEEPEST_INDENT = 16
"""Levels of a tree that are indented; deeper ones stay below each other, so that they still fit."""
NAMES_SUGGESTED = 5

Snapshot = Annotated[Path, typer.Argument(help="A .heapsnapshot of ours, Node or Chrome.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("diff", help="Families by growth between two snapshots, or the first and last of a lane.")(diff_command)
    app.command("retainers", help="Shortest retainer paths of a type's objects, by what they have in common.")(
        retainers_command
    )
    app.command("dominators", help="Largest retained sizes, as a tree of what would be freed together.")(
        dominators_command
    )
    snapshot = typer.Typer(help="Look at snapshot files.", no_args_is_help=True)
    snapshot.command("info", help="What a snapshot is: producer, process, time, counts, sizes.")(info_command)
    from leakharness.cli.objects import register as register_objects  # it takes what is shared from here

    register_objects(snapshot)
    app.add_typer(snapshot, name="snapshot")


def diff_command(
    snapshots: Annotated[
        list[Path] | None,
        typer.Argument(help="The earlier and the later snapshot; three and more are a trend.", show_default=False),
    ] = None,
    lane_dir: Annotated[
        Path | None, typer.Option(help="A folder of snapshots: the earliest against the latest of each process.")
    ] = None,
    pid: Annotated[int | None, typer.Option(help="Which PID of the lane [all, that with most files first].")] = None,
    thread: Annotated[int | None, typer.Option(help="Which worker thread of Node; 0 is the main one.")] = None,
    top: Annotated[int, typer.Option(help="Rows shown.")] = 30,
    min_kb: Annotated[
        int | None,
        typer.Option(
            help="KiB by which a family must have grown [64; as text, where none has, whatever grew].",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="name: by type and name. path: by who holds them [name; path for a lane]."),
    ] = None,
    rank: Annotated[str, typer.Option(help="shallow or retained: the growth by which rows are ordered.")] = "shallow",
    raw: Annotated[bool, typer.Option("--raw", help="V8's files by the names and sizes that they give.")] = False,
    every: Annotated[
        bool, typer.Option("--every", help="All snapshots of a lane: what rises in each interval, and what stayed.")
    ] = False,
    json: Json = False,
) -> None:
    from leakharness.errors import OptionError
    from leakharness.heap.diff import MIN_KB, diff, diff_lane

    files = snapshots or []
    if every and (lane_dir is None or files):
        raise OptionError("--every takes all snapshots of a lane: give --lane-dir, or name the snapshots")

    # a document keeps to the filter that the contract names
    least_kb = MIN_KB if json and min_kb is None else min_kb
    filters: dict[str, Any] = {"top": top, "min_kb": least_kb, "rank": rank, "raw": raw}
    if lane_dir is not None and not files:
        found = diff_lane(lane_dir, pid=pid, thread=thread, by=by, **filters)
    else:
        first, last = (files[0], files[-1]) if len(files) > 1 else (files[0] if files else None, None)
        found = [diff(first, last, lane_dir=lane_dir, pid=pid, thread=thread, by=by or "name", **filters)]
    trends = _trends(found, files, lane_dir if every else None, top, found[0].min_kb)
    if json:
        documents = [one.document() for one in found]
        for document, one in zip(documents, trends, strict=True):
            document.update({"trend": one.document()} if one is not None else {})
        emit_json({**documents[0], **({"others": documents[1:]} if len(documents) > 1 else {})})
        return
    lines: list[str] = []
    for compared, one in zip(found, trends, strict=True):
        lines += [*([""] if lines else []), *_diff_lines(compared), *(_trend_lines(one) if one is not None else ())]
    emit(lines)


def _trends(
    found: list[SnapshotDiff], files: list[Path], lane_dir: Path | None, top: int, min_kb: int
) -> list[Trend | None]:
    """What the snapshots between the first and the last say, for each comparison that has some."""
    from leakharness.heap.lane import lane_of
    from leakharness.heap.trend import trend

    series: list[Sequence[Path]] = [files]
    if lane_dir is not None:
        series = [lane_of(lane_dir, one.pair.pid, one.pair.thread)[0].snapshots for one in found]
    return [
        trend(paths, top=top, min_kb=min_kb) if len(paths) > 2 else None
        for paths, _ in zip([*series, *[()] * len(found)], found, strict=False)
    ]


def _trend_lines(found: Trend) -> Iterator[str]:
    from leakharness.units import signed_size, size, sparkline

    intervals = len(found.snapshots) - 1
    yield ""
    yield (
        f"rose in each of {intervals} intervals:" if found.rising else f"Nothing rose in each of {intervals} intervals."
    )
    for family in found.rising:
        lead = f"{signed_size(family.grown):>12}  {family.counts[-1] - family.counts[0]:>+9d}  "
        yield lead + fit(f"{sparkline(family.sizes)}  {printable(family.name)}", WIDTH - len(lead))
    if found.stayed is None:
        yield "objects cannot be followed: the ids of these files are addresses, which are used again"
        return
    yield ""
    yield (
        "allocated between the first two, alive in the last:"
        if found.stayed
        else "Nothing of the first interval stayed."
    )
    for row in found.stayed:
        yield f"{size(row.size):>12}  {row.count:>9d}  {fit(printable(row.name), 50)}  {row.kind}"
        yield from path_lines(row.path, "      ")
    for one in found.collections or ():
        counts = " ".join(f"{count:,}" for count in one.entries)
        yield fit(f"{one.name} gained entries in each interval: {counts}")
        yield from path_lines(one.path, "      ")


def retainers_command(
    snapshot: Snapshot,
    type_: Annotated[
        str | None, typer.Option("--type", help="Type of the objects, qualified or not.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Node kind of a V8 file: string, closure, code, ... [objects].", show_default=False),
    ] = None,
    id_: Annotated[int | None, typer.Option("--id", help="One object, by its id.", show_default=False)] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Objects by name, kind, size, retained, edges, detached: 'name ~ ^Ses and size >= 1KiB'."),
    ] = None,
    top: Annotated[int, typer.Option(help="Groups shown.", min=1)] = 10,
    json: Json = False,
) -> None:
    from leakharness.heap import v8
    from leakharness.heap.retainers import explain
    from leakharness.heap.v8_details import allocation_sites

    graph = v8.read(snapshot)
    nodes, what = _chosen(graph, snapshot, type_, kind, id_, where)
    groups = explain(graph, nodes)
    sites = [allocation_sites(snapshot, graph, group.targets) for group in groups[:top]]
    if json:
        emit_json(
            {
                "schema": "leakharness.retainers/1",
                "snapshot": str(snapshot),
                "type": what,
                "count": len(nodes),
                "groups": [
                    {**group.document(), "allocated": [{"count": s.count, "frames": list(s.frames)} for s in at]}
                    for group, at in zip(groups[:top], sites, strict=True)
                ],
            }
        )
        return
    emit(_retainer_lines(what, len(nodes), groups, sites))


def dominators_command(
    snapshot: Snapshot,
    top: Annotated[int, typer.Option(help="Rows shown at each level.", min=1)] = 10,
    levels: Annotated[int, typer.Option(help="Levels shown.", min=1)] = 4,
    ephemerons: Annotated[
        str, typer.Option(help="Who holds the value of a WeakMap's entry: key (as DevTools) or both (as memlab).")
    ] = "key",
    json: Json = False,
) -> None:
    from leakharness.errors import OptionError
    from leakharness.heap import v8
    from leakharness.heap.dominator_rows import dominator_rows
    from leakharness.heap.dominators import dominators, retained_sizes
    from leakharness.units import size

    graph = v8.read(snapshot)
    if ephemerons not in ("key", "both"):
        raise OptionError(f"--ephemerons must be key or both, not {ephemerons!r}")
    tree = dominators(graph, ephemerons=ephemerons)
    retained = retained_sizes(graph, tree)
    rows = dominator_rows(graph, tree, retained, top=top, levels=levels)
    total = int(retained[0])
    lost, lost_bytes = int((tree.depth < 0).sum()), int(graph.self_size[tree.depth < 0].sum())
    if json:
        emit_json(
            {
                "schema": "leakharness.dominators/1",
                "snapshot": str(snapshot),
                "reachable_bytes": total,
                "unreachable_bytes": lost_bytes,
                "unreachable_count": lost,
                "rows": [row.document() for row in rows],
            }
        )
        return
    island = f"; {size(lost_bytes)} in {lost} objects is not: no strong path from the root leads there" if lost else ""
    head = [f"{size(total)} reachable{island}", "   retained    shallow      count  dominator tree", ""]
    emit([*head, *(line for row in rows for line in dominator_lines(row, 0))])


def info_command(snapshot: Snapshot, json: Json = False) -> None:
    from leakharness.heap import v8

    found = v8.info(snapshot)
    emit_json(_info_document(found)) if json else emit(_info_lines(found))


def _chosen(
    graph: HeapGraph, snapshot: Path, type_: str | None, kind: str | None, id_: int | None, where: str | None
) -> tuple[list[int], str]:
    """The objects that the options name, and what to call them."""
    from leakharness.errors import OptionError, UsageError
    from leakharness.heap.where import selected

    if (type_ is not None) + (id_ is not None) + (where is not None) != 1:
        raise OptionError("say which objects: one of --type NAME, --id N and --where CONDITIONS")
    if type_ is not None:
        return nodes_of_type(graph, type_, snapshot, kind), type_
    conditions = where if where is not None else f"id = {id_}"
    found: list[int] = selected(graph, conditions).tolist()
    if not found:
        raise UsageError(f"{snapshot}: no object with {conditions} in it")
    return found, f"object{'s' if len(found) > 1 else ''} with {conditions}"


def nodes_of_type(graph: HeapGraph, wanted: str, snapshot: Path, kind: str | None) -> list[int]:
    """Nodes whose name is ``wanted``, or ends with it after a dot where no name is exactly that; of V8's files only
    objects, or those of ``kind``: strings, functions and code have names of their own there."""
    import numpy as np

    from leakharness.errors import UsageError

    if kind is not None and kind not in graph.node_kinds:
        raise UsageError(f"--kind {kind!r} is none of this file's kinds: {', '.join(graph.node_kinds)}")
    for ending in ("", "."):
        numbers = [
            n for n, text in enumerate(graph.strings) if (text.endswith(ending + wanted) if ending else text == wanted)
        ]
        nodes = np.flatnonzero(np.isin(graph.node_name, numbers))
        if len(nodes):
            break
    else:
        raise UsageError(f"{snapshot}: no object of type {wanted!r} in it{_similar(graph, wanted)}")
    if kind is None and not graph.of_v8:
        return nodes.tolist()
    kinds = ("object", "native") if kind is None else (kind,)
    numbers = [number for number, name in enumerate(graph.node_kinds) if name in kinds]
    chosen = nodes[np.isin(graph.node_kind[nodes], numbers)]
    if not len(chosen):
        counts = np.bincount(graph.node_kind[nodes], minlength=len(graph.node_kinds))
        there = ", ".join(
            f"{counts[k]} {graph.node_kinds[k]} (--kind {graph.node_kinds[k]!r})" for k in np.flatnonzero(counts)
        )
        raise UsageError(f"{snapshot}: no {kind or 'object'} is named {wanted!r}, but {there}")
    found: list[int] = chosen.tolist()
    return found


def _similar(graph: HeapGraph, wanted: str) -> str:
    import difflib

    import numpy as np

    names = {graph.strings[number] for number in np.unique(graph.node_name).tolist()}
    short = {name.rsplit(".", 1)[-1]: name for name in names if 0 < len(name) <= 80}
    close = difflib.get_close_matches(wanted.rsplit(".", 1)[-1], short, n=NAMES_SUGGESTED, cutoff=0.7)
    return "; like it: " + ", ".join(short[name] for name in close) if close else ""


def fit(text: str, width: int = WIDTH) -> str:
    """At most ``width`` columns; what is too long loses its middle, since a path's ends say most."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]


def _diff_lines(found: SnapshotDiff) -> Iterator[str]:
    from leakharness.units import KIB, signed_size, size

    pair, (before, after), growth = found.pair, found.nodes, found.growth
    least = size(found.min_kb * KIB)
    yield f"before: {pair.before}"
    yield f"after:  {pair.after}"
    if pair.pid is not None:
        thread = f", worker thread {pair.thread}" if pair.thread else ""
        yield f"pid:    {pair.pid}{thread} ({pair.snapshots} snapshots found)"
    yield f"nodes:  {before} -> {after} ({after - before:+d})"
    if found.turnover is not None:
        new, gone, survived = found.turnover
        yield f"by id:  {new} new, {gone} gone, {survived} survived"
    yield f"filter: top={found.top} min={least}"
    yield f"growth: {signed_size(growth.grown - growth.shrunk)}: {size(growth.grown)} more, {size(growth.shrunk)} less"
    yield ""
    if not found.rows:
        yield f"Nothing grew by {least} or more." if found.min_kb else "Nothing grew."
    for row in found.rows:
        yield from _diff_row(row)
    if growth.left_out:
        yield ""
        what = "row" if growth.rows_left_out == 1 else "rows"
        kinds = ", ".join(f"{size(of)} {kind}" for kind, of in growth.left_by_class if of and kind != "ambiguous")
        kinds = f" ({kinds})" if kinds else ""
        yield f"left out: {size(growth.left_out)} in {growth.rows_left_out:,} smaller {what}{kinds}"
    if found.rows:
        yield ""
        yield f"these rows explain {growth.explained:.0%} of what grew"
    if found.rows or growth.left_out:
        yield f"class:  {found.kind} ({found.evidence})"
    if found.rows and found.kind == "ambiguous" and found.evidence == "by name":
        yield "        a name is triage: --by path, retainers or dominators settle it"


def _diff_row(row: DiffRow) -> Iterator[str]:
    from leakharness.units import signed_size

    lead = f"{signed_size(row.size_delta):>12}  {row.count_delta:>+9d}  {row.type:<10.16}  "
    if row.retained_delta is not None:
        lead = f"{signed_size(row.retained_delta):>12} retained" + lead
    tail = f"  {row.classification.kind:<15}"
    room = WIDTH - len(lead) - len(tail)
    yield (lead + f"{fit(printable(row.name) or '(empty)', room):<{room}}" + tail).rstrip()
    if row.gone:
        yield f"      {row.born} came, {row.gone} went"
    if row.path:
        yield from path_lines(row.path, "      ")


def printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _retainer_lines(
    wanted: str, count: int, groups: list[RetainerGroup], sites: list[list[AllocationSite]]
) -> Iterator[str]:
    from leakharness.heap.wording import sentence

    yield f"{count} {wanted} in {len(groups)} group{'s' if len(groups) != 1 else ''}"
    for group, allocated in zip(groups, sites, strict=False):
        yield ""
        yield from wrapped(sentence(group))
        yield from path_lines(group.path, "  ")
        for way in group.also_held_by:
            yield f"  and {way.count} of them also by"
            yield from path_lines(way.path, "    ")
        for site in allocated:
            yield from wrapped(f"  {site.count} of them allocated by {' <- '.join(site.frames)}")
    if len(groups) > len(sites):
        yield ""
        yield f"{len(groups) - len(sites)} more groups: --top {len(groups)} shows them"


def wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, break_on_hyphens=False) or [""]


def path_lines(path: list[str] | tuple[str, ...], indent: str) -> Iterator[str]:
    for level, text in enumerate(path):
        lead = indent + ("  " * (min(level, DEEPEST_INDENT) - 1) + "└─ " if level else "")
        yield fit(lead + printable(text))


def dominator_lines(row: DominatorRow, level: int) -> Iterator[str]:
    from leakharness.units import size

    figures = f"{size(row.retained_bytes):>11}{size(row.shallow_bytes):>11}{row.count:>11}  "
    indent = "  " * min(level, DEEPEST_INDENT)
    more = f" (below the largest of {row.count})" if row.count > 1 and row.children else ""
    yield figures + fit(indent + row.name + more, WIDTH - len(figures))
    for child in row.children:
        yield from dominator_lines(child, level + 1)


def _bins(values: Sequence[int], most: int = 40) -> list[int]:
    """At most ``most`` sums of neighbours."""
    width = -(-len(values) // most)
    return [sum(values[at : at + width]) for at in range(0, len(values), max(1, width))]


def _info_lines(found: SnapshotInfo) -> Iterator[str]:
    from leakharness.units import size, sparkline

    facts = {
        "file": f"{found.path} ({size(found.file_bytes)})",
        "producer": found.producer + (f", Python {found.python}" if found.python else ""),
        "pid": found.pid,
        "thread": found.thread or None,
        "time": _time_text(found.time),
        "nodes": found.node_count,
        "edges": found.edge_count,
        "strings": found.string_count,
        "shallow": size(found.shallow_bytes),
    }
    for name, value in facts.items():
        if value is not None:
            yield fit(f"{name + ':':<10}{value}")
    if found.detached is not None:
        yield f"detached: {found.detached[0]} ({size(found.detached[1])})"
    if found.traced:
        yield f"traced:   {found.traced} objects: retainers says where they were allocated"
    if found.time_line is not None:
        line = found.time_line
        yield f"alive by time of allocation, {line.seconds[-1]:.1f} s: {sparkline(_bins(line.alive_bytes))}"
    yield ""
    for kind, (count, shallow) in found.by_kind.items():
        yield f"  {kind:<20}{count:>12}{size(shallow):>12}"


def _time_text(time: float | str | None) -> str | None:
    """Seconds since 1970 as people read them, in UTC; what cannot be such a time as it is."""
    from datetime import datetime, timezone

    if not isinstance(time, (int, float)):
        return time
    try:
        return datetime.fromtimestamp(time, timezone.utc).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return str(time)


def _info_document(found: SnapshotInfo) -> dict[str, Any]:
    from dataclasses import asdict

    kinds = {kind: {"count": count, "bytes": shallow} for kind, (count, shallow) in found.by_kind.items()}
    return {"schema": "leakharness.snapshot/1", **asdict(found), "by_kind": kinds}


def emit_json(document: dict[str, Any]) -> None:
    import orjson

    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.buffer.flush()


def emit(lines: Iterator[str] | list[str]) -> None:
    """Print lines; the first one bold on a terminal that wants it. What cannot be shown becomes ``?``."""
    from leakharness.printable import for_terminal

    encoding = sys.stdout.encoding or "utf-8"
    bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for index, line in enumerate(lines):
        text = for_terminal(line).encode(encoding, "replace").decode(encoding)
        print(f"\x1b[1m{text}\x1b[0m" if bold and index == 0 else text)
