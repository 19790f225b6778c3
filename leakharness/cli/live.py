"""``live``: look at a running process from outside, once or again and again, or at its core dump."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from leakharness.heap.retainers import RetainerGroup
    from leakharness.live.history import Growth
    from leakharness.live.look import Look
    from leakharness.live.watching import Limits, Tick

__all__ = ["register"]

TYPES_EXPLAINED = 3
"""Types of the program that are explained where ``--type`` names none: the fastest growing, else the most frequent."""
DOMINATORS_SHOWN, DOMINATOR_LEVELS = 5, 3
MIB = 1 << 20

Pid = Annotated[int, typer.Argument(help="Process id of a CPython 3.10 to 3.15.", show_default=False, min=1)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
LaneDir = Annotated[Path | None, typer.Option(help="Folder of what is kept [.tmp/leakharness/live/PID-START].")]
Every = Annotated[str, typer.Option(help="Time between looks: 30s, 5m, 1h.")]
Keep = Annotated[int, typer.Option(help="Snapshots kept; the first and the last always are.", min=2)]
MaxMb = Annotated[int, typer.Option(help="MiB of snapshots kept.", min=1)]
Count = Annotated[int | None, typer.Option(help="Looks in all [until the process ends].", min=1)]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    live = typer.Typer(help="Look at a running process: nothing runs in it, it is not stopped.", no_args_is_help=True)
    live.command("look", help="Types by size, growth, and who holds the objects of a type, in a running process.")(
        look_command
    )
    live.command("watch", help="The same again and again: a table, and a lane of snapshots.")(watch_command)
    live.command(
        "run",
        help="Start a service as a child, so that it may be read, and watch it.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(run_command)
    live.command("doctor", help="What works on a process, and why not, each with its cure.")(doctor_command)
    app.add_typer(live, name="live")


def look_command(
    pid: Annotated[int | None, typer.Argument(help="Process id of a CPython 3.10 to 3.15.", show_default=False)] = None,
    core: Annotated[Path | None, typer.Option(help="A core dump (gcore's) instead of a process.")] = None,
    type_: Annotated[
        str, typer.Option("--type", help="Type to explain, qualified or not [what grows, else the most frequent].")
    ] = "",
    pause: Annotated[bool, typer.Option("--pause", help="Hold all its threads for the copy: consistent.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write a .heapsnapshot for diff, retainers, DevTools.")] = None,
    lane_dir: LaneDir = None,
    top: Annotated[int, typer.Option(help="Types and groups shown.", min=1)] = 20,
    json: Json = False,
) -> None:
    import time

    from leakharness.cli.terminal import emit_json, say
    from leakharness.errors import UsageError
    from leakharness.live.history import growth, lane_of, recall, remember
    from leakharness.live.look import look, look_at_core

    if (pid is None) == (core is None) or (core is not None and pause):
        raise UsageError("live look: give a PID, with --pause if wanted, or --core FILE")
    grown: list[Growth] = []
    if core is not None:
        found = look_at_core(core)
    else:
        assert pid is not None
        found = look(pid, pause=pause)
        lane = lane_of(pid, lane_dir)
        grown = growth(found.families, recall(lane, pid), time.time())
        remember(lane, found)
    groups = found.retainers(_explained(found, type_, grown))
    if out is not None:
        from leakharness.heap import v8

        v8.write(found.graph, out)
    if json:
        emit_json({**found.document(groups[:top]), "growth": [row.document() for row in grown[:top]]})
    else:
        say("\n".join(_lines(found, groups, grown, top)))
    if out is not None:
        print(f"leakharness: snapshot in {out}", file=sys.stderr)


def _explained(found: Look, type_: str, grown: list[Growth]) -> list[int]:
    """Nodes of the wanted type; of the program's types that grow fastest; of its most frequent ones."""
    if type_:
        return found.nodes_of(type_)
    own = {family.type for family in found.program_families()}
    fastest = [
        row.type for row in sorted(grown, key=lambda row: -row.count_delta) if row.type in own and row.count_delta > 0
    ]
    return [node for name in fastest[:TYPES_EXPLAINED] for node in found.nodes_of(name)] or found.program_nodes(
        TYPES_EXPLAINED
    )


def _lines(found: Look, groups: list[RetainerGroup], grown: list[Growth], top: int) -> Iterator[str]:
    from leakharness.cli.heap import dominator_lines
    from leakharness.heap.wording import sentence
    from leakharness.units import signed_size, size

    share = found.reached / max(1, found.objects)
    yield f"process {found.pid}, CPython {found.python}: {found.objects} tracked objects, read in {found.seconds:.1f} s"
    reached = "are reached from modules, threads and the interpreter; the rest is held by C or unknown"
    yield f"{share:.1%} {reached}; {found.torn} torn"
    if found.interpreters > 1:
        yield f"{found.interpreters} interpreters: what another than the main one holds is told as `of interpreter N`"
    if found.stopped_ms:
        yield f"all its threads were held for {found.stopped_ms:.1f} ms"
    yield ""
    yield "     count  untracked     shallow  type"
    for family in found.families[:top]:
        yield f"{family.count:>10}{family.untracked:>11}{size(family.shallow_bytes):>12}  {family.type}"
    if grown:
        yield ""
        yield f"grown in the {grown[0].seconds:.0f} s since the look before:"
        for row in grown[:top]:
            yield f"{row.count_delta:>+10}{'':>11}{signed_size(row.bytes_delta):>12}  {row.type}"
    yield ""
    yield "   retained    shallow      count  dominator tree"
    for dominator in found.dominators(DOMINATORS_SHOWN, DOMINATOR_LEVELS):
        yield from dominator_lines(dominator, 0)
    for group in groups[:top]:
        yield ""
        yield sentence(group)
        yield from ("  " * (level + 1) + ("└─ " if level else "") + step for level, step in enumerate(group.path))


def watch_command(
    pid: Pid,
    every: Every = "30s",
    lane_dir: LaneDir = None,
    count: Count = None,
    keep: Keep = 20,
    max_mb: MaxMb = 2048,
) -> None:
    from leakharness.live.history import lane_of

    lane = lane_of(pid, lane_dir)
    _watch(pid, lane, _limits(every, count, keep, max_mb), f"leakharness live watch {pid} --every {every}")


def run_command(
    context: typer.Context,
    every: Every = "30s",
    lane_dir: LaneDir = None,
    count: Count = None,
    keep: Keep = 20,
    max_mb: MaxMb = 2048,
) -> None:
    from leakharness.errors import UsageError
    from leakharness.live.child import END_SECONDS, service
    from leakharness.live.history import lane_of

    if not context.args:
        raise UsageError("live run: give a command after --: leakharness live run -- python app.py")
    limits = _limits(every, count, keep, max_mb)
    with service(context.args) as child:
        lane = lane_of(child.pid, lane_dir)
        try:
            _watch(child.pid, lane, limits, f"leakharness live run --every {every} -- {' '.join(context.args)}")
        except UsageError as error:
            if not child.has_ended():
                raise
            print(f"leakharness: {error}: no look was taken", file=sys.stderr)
        if not child.has_ended():
            told, latest = child.was_told_to_end(), 2 * END_SECONDS
            until = f"it is killed after {latest:g} s at the latest" if told else "Ctrl-C or SIGTERM ends it"
            print(f"leakharness: waiting for process {child.pid} to end; {until}", file=sys.stderr)
        code = child.wait()
    raise SystemExit(code if code >= 0 else 128 - code)


def _limits(every: str, count: int | None, keep: int, max_mb: int) -> Limits:
    from leakharness.errors import UsageError
    from leakharness.live.watching import Limits
    from leakharness.units import seconds_of

    seconds = seconds_of(every)
    if seconds is None:
        raise UsageError(f"--every {every}: not a time; write 30s, 5m or 1h")
    return Limits(seconds, count, keep, max_mb * MIB)


def _watch(pid: int, lane: Path, limits: Limits, command: str) -> None:
    """A line a look on stdout; at the end, by Ctrl-C too, what the lane says."""
    from leakharness.cli.terminal import say
    from leakharness.errors import LeakHarnessError
    from leakharness.live.watching import watch
    from leakharness.suite.investigate import investigate, report_markdown

    seen = 0
    print(f"leakharness: process {pid} every {limits.every:g} s, snapshots in {lane}; Ctrl-C ends", file=sys.stderr)
    try:
        for tick in watch(pid, lane, limits):
            seen = tick.number
            say("\n".join(_tick_lines(tick)))
    except KeyboardInterrupt:
        pass
    if seen >= 2:
        try:
            say(report_markdown(investigate(lane, pid=pid, command=command)))
        except LeakHarnessError as error:
            print(f"leakharness: {error}", file=sys.stderr)


def _tick_lines(tick: Tick) -> Iterator[str]:
    import time

    from leakharness.units import mebibytes

    stamp = time.strftime("%H:%M:%S", time.localtime(tick.time))
    grown = ", ".join(f"{row.type} {row.count_delta:+d}" for row in tick.grown) or (
        "-" if tick.number > 1 else "first look"
    )
    yield f"{stamp}  rss {mebibytes(tick.rss_bytes):>10}  objects {tick.objects:>9}  {grown}"
    if tick.holder:
        yield f"          {tick.holder}"


def doctor_command(pid: Pid, json: Json = False) -> None:
    from leakharness.cli.terminal import emit_json, say
    from leakharness.live.doctor import examine

    checks = list(examine(pid))
    works = all(check.works is not False for check in checks)
    if json:
        rows: list[dict[str, Any]] = [{"check": c.name, "works": c.works, "text": c.text} for c in checks]
        emit_json({"schema": "leakharness.live-doctor/1", "pid": pid, "works": works, "checks": rows})
    else:
        words = {True: "yes", False: "NO", None: "but"}
        say("\n".join(f"{check.name:<10} {words[check.works]:<4} {check.text}" for check in checks))
    if not works:
        raise SystemExit(2)
