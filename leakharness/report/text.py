"""The verdict as it reads in a terminal: 80 columns, the same with and without colour."""

from __future__ import annotations

import builtins
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leakharness.model import COUNTERS, NATIVE_GROWTH, Certificate, RunResult
from leakharness.printable import for_terminal, one_line
from leakharness.units import number, signed

__all__ = ["born_at", "certificate_block", "check_command", "detectable_line", "growth_rows", "run_block"]

WIDTH = 80
LABEL_COLUMNS = 14
BUILT_IN = (
    frozenset(kind.__name__ for kind in vars(builtins).values() if isinstance(kind, type)) | vars(builtins).keys()
)
"""Functions and types that are no extension's: of a line that calls them, the line itself says as much."""
LOST = {"references", "given_away"}
"""Counters whose growth the object says better than a number."""
MOST_RETAINERS = 5
MOST_FAMILIES = 6
MOST_SITES = 3
"""Lines of Python where it was born; memray's sites are few."""
MOST_DETAIL_LINES = 25


def run_block(result: RunResult, *, report: str | None = None, width: int = WIDTH) -> str:
    """The block at the end of ``run``."""
    head = f"{result.verdict}  {one_line(result.scenario)} / {one_line(result.mode)}"
    tail = f"{result.runs} runs, {result.duration_s:.1f} s"
    fits = len(head) + 2 + len(tail) <= width
    lines = [head + tail.rjust(width - len(head))] if fits else [head, tail.rjust(width)]
    lines += wrapped(_sentence(result), "  ", width)
    if result.must and not result.as_demanded:
        lines += wrapped(f"this mode must give {result.must}", "  ", width)
    if result.detail:
        lines += ["", "  what it said"]
        lines += [cut("    " + _plain(line), width) for line in result.detail.splitlines()[-MOST_DETAIL_LINES:]]
    if result.growing_containers:
        lines += ["", "  containers that grow"]
        for container in result.growing_containers:
            lines += wrapped(container.sentence, "    ", width)
        reference = result.growing_containers[0].reference
        if reference:
            cure = f'if it stops at a size, say so: Scenario(bounded={{"{reference}": ENTRIES}})'
            lines += wrapped(cure, "      ", width)
    growing = growth_rows(result)
    if growing:
        lines += ["", "  grows per run"]
        lines += [cut(f"    {name:<13}{pace:>12}  {rule}", width) for name, pace, rule in growing]
    if result.retainers:
        lines += ["", "  who holds them"]
        for retainer in result.retainers[:MOST_RETAINERS]:
            lines += wrapped(retainer.sentence or f"{retainer.count} {retainer.target}", "    ", width)
            lines += path_lines(retainer.path, width)
            if retainer.confirmed:
                lines += wrapped(f"confirmed: {retainer.confirmed}", "      ", width)
            for other in retainer.also:
                lines += wrapped(f"also held (cutting the first frees nothing): {other}", "      ", width)
        if len(result.retainers) > MOST_RETAINERS:
            lines.append(f"    … and {len(result.retainers) - MOST_RETAINERS} more ways (see the report)")
    elif result.families:
        lines += ["", "  what stays, per run"]
        for family in result.families[:MOST_FAMILIES]:
            lines.append(cut(f"    {number(family.count_per_run):>9}  {family.type}", width))
    if result.held_by_c:
        lines += ["", "  what C code holds"]
        for held in result.held_by_c:
            lines += wrapped(held.sentence, "    ", width)
            lines += path_lines(held.path, width) if len(held.path) > 1 else []
    if result.allocations:
        lines += ["", "  born at"]
        native = [site for site in result.allocations if site["of"] == NATIVE_GROWTH]
        lines_of_python = [site for site in result.allocations if site["of"] != NATIVE_GROWTH]
        for site in lines_of_python[:MOST_SITES] + native:
            place, born = f"{site['file']}:{site['line']}", born_at(site)
            if born == place:
                lines.append(cut_left(f"{place} ({site['of']})", "    ", width))
            else:  # the C function comes first, and must not be cut off with the path
                lines += wrapped(f"{born} ({site['of']})", "    ", width)
            if site["source"]:
                lines.append(cut(f"      {site['source']}", width))
    lines.append("")
    for name, text in _small_print(result, report):
        lines += labelled(name, text, width)
    return for_terminal("\n".join(line.rstrip() for line in lines))


def certificate_block(certificate: Certificate, *, report: str | None = None, width: int = WIDTH) -> str:
    """The certificate: a row for each arm, what was asked of it and what it gave."""
    lines = [f"{certificate.verdict}  {one_line(certificate.scenario)}", ""]
    lines.append(f"  {'arm':<20}{'must':<6}{'gave':<12}{'retained':>10}  grows")
    for arm in certificate.arms:
        retained = "bounded" if arm.stays else f"{arm.retained}/{arm.born}"
        grows = ", ".join(f"{g.counter} {signed(g.per_run)}" for g in arm.growth if g.grows) or "-"
        row = f"  {one_line(arm.mode):<20}{arm.must or '-':<6}{arm.verdict:<12}{retained:>10}  {grows}"
        lines.append(cut(row, width))
    for arm in certificate.arms:
        for sentence in (*(container.sentence for container in arm.growing_containers[:1]), *arm.stays):
            lines += wrapped(f"{arm.mode}: {sentence}", "  ", width)
    lines.append("")
    lines += wrapped(certificate.reason, "  ", width)
    for arm in certificate.arms:
        if arm.must and not arm.as_demanded:
            lines += ["", *("  " + line for line in run_block(arm, width=width - 2).splitlines())]
    for note in certificate.notes:
        lines += labelled("note", note, width)
    first = certificate.arms[0] if certificate.arms else None
    if first is not None:
        lines += labelled("would have seen", detectable_line(first), width)
    if report:
        lines += labelled("report", report, width)
    lines += labelled("reproduce", check_command(first.reproduce if first else "", certificate.scenario), width)
    return for_terminal("\n".join(line.rstrip() for line in lines))


def check_command(reproduce: str, scenario: str) -> str:
    """The command that gives a certificate: that of an arm, with ``check`` for ``run`` and without its mode."""
    try:
        words = shlex.split(reproduce)
    except ValueError:  # of a stored result, which may hold anything: a quotation mark without its other half
        words = []
    if words[:2] != ["leakharness", "run"]:
        return shlex.join(["leakharness", "check", scenario])
    if "--mode" in words:
        at = words.index("--mode")
        del words[at : at + 2]
    return shlex.join(["leakharness", "check", *words[2:]])


def growth_rows(result: RunResult) -> list[tuple[str, str, str]]:
    """(counter, pace, rule) of what grows."""
    return [(g.counter, signed(g.per_run), g.rule.partition(": ")[2]) for g in result.growth if g.grows]


def detectable_line(result: RunResult) -> str:
    """What this run would have seen, in words."""
    d = result.detectable
    parts = [
        (d.tracked_per_run, "tracked"),
        (d.objects_per_run, "objects"),
        (d.blocks_per_run, "blocks"),
        (d.native_bytes_per_run, "native bytes"),
        (d.mapped_bytes_per_run, "mapped bytes"),
    ]
    seen = [f"{number(value)} {name}" for value, name in parts if value is not None]
    return "a leak of " + ", ".join(seen) + " a run" if seen else "nothing: too few readings"


def _sentence(result: RunResult) -> str:
    if result.verdict == "FAIL" and result.born:
        labels = ", ".join(
            f"{label} {row['retained']}/{row['born']}" for label, row in result.tracked.items() if row["retained"]
        )
        if labels:
            return f"{result.retained} of {result.born} tracked objects are retained ({labels})"
    if result.verdict == "FAIL" and {g.counter for g in result.growth if g.grows} <= LOST and result.held_by_c:
        return result.held_by_c[0].sentence
    return result.reason


def _small_print(result: RunResult, report: str | None) -> Iterable[tuple[str, str]]:
    if result.growth_class:
        yield "class", f"{result.growth_class} ({result.class_evidence})"
    if result.verdict != "NOT_JUDGED":
        yield "would have seen", detectable_line(result)
    if result.reach:
        yield "reach", result.reach
    for line in result.forgiven:
        yield "forgiven", line
    for line in result.notes:
        yield "note", line
    for line in result.opinions:
        yield "second opinion", line
    for counter, why in result.blind.items():
        if counter in COUNTERS:
            yield "blind", f"{counter} ({COUNTERS[counter]}): {why}"
    elsewhere = [name for name in result.blind if name not in COUNTERS]
    if elsewhere and result.verdict == "PASS":
        yield "not looked at", ", ".join(elsewhere)
    if result.control:
        grown = ", ".join(f"{name} {signed(value)}" for name, value in result.control.items() if value)
        yield "control", f"the same loop with an empty body: {grown or 'nothing grows'}"
    if result.snapshots:
        last = result.snapshots[-1]
        yield "snapshots", f"{len(result.snapshots)}, the last {last}"
    if report:
        yield "report", report
    if result.reproduce:
        yield "reproduce", result.reproduce


def path_lines(path: Sequence[str], width: int) -> list[str]:
    lines: list[str] = []
    for depth, step in enumerate(path):
        arrow = "" if depth == 0 else "-> "
        lines += textwrap.wrap(
            arrow + step, width, initial_indent="      ", subsequent_indent="         ", break_long_words=False
        )
    return lines


def born_at(site: Mapping[str, Any]) -> str:
    """Where something was allocated: the line, and the C function of an extension that it calls, if it is the only
    one."""
    place = f"{site['file']}:{site['line']}"
    foreign = [name for name in site.get("c_functions", ()) if name.partition(".")[0] not in BUILT_IN]
    if len(foreign) == 1:
        return f"in {foreign[0]}, called at {place}"
    return f"at {place}, which calls {' and '.join(foreign)}" if foreign else place


def labelled(label: str, text: str, width: int) -> list[str]:
    indent = " " * (LABEL_COLUMNS + 4)
    return textwrap.wrap(
        text,
        width,
        initial_indent=f"  {label:<{LABEL_COLUMNS + 2}}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def wrapped(text: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def _plain(line: str) -> str:
    """What a program wrote, without what would steer a terminal."""
    return "".join(c if c.isprintable() else "·" for c in line.expandtabs(4))


def cut_left(text: str, indent: str, width: int) -> str:
    """A place in a file: what is too long loses folders on the left, never the file's name and line."""
    room = width - len(indent)
    if len(text) <= room:
        return indent + text
    shown = text[len(text) - room + 1 :]
    return f"{indent}…{shown[shown.find('/') if '/' in shown else 0 :]}"


def cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
