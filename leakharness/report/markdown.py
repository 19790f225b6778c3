"""Reports for people and pull requests: how to reproduce, what was compared, who holds what, what it is likely to
be and what confirmed that, what to change, what was verified and what was not."""

from __future__ import annotations

from collections.abc import Sequence

from leakharness.model import Certificate, RunResult
from leakharness.printable import cell, code, fenced, one_line, prose
from leakharness.report.text import born_at, detectable_line
from leakharness.units import number, size

__all__ = ["certificate_report", "run_report"]


def run_report(result: RunResult) -> str:
    """``report.md`` of one mode."""
    parts = [
        f"# {result.verdict}: {prose(result.scenario)} / {prose(result.mode)}",
        prose(result.reason) + ".",
        _reproduce(result),
        _compared(result),
        _growth(result),
        _holders(result),
        _likely(result),
        _change(result),
        _verified(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def certificate_report(certificate: Certificate) -> str:
    """``report.md`` of a certificate."""
    rows = [
        f"| {cell(arm.mode)} | {arm.must or '-'} | {arm.verdict} | {_retained(arm)} | "
        + (", ".join(f"{g.counter} {number(g.per_run)}" for g in arm.growth if g.grows) or "-")
        + " |"
        for arm in certificate.arms
    ]
    table = "\n".join(["| arm | must | gave | retained | grows per run |", "| --- | --- | --- | --- | --- |", *rows])
    notes = "\n".join(f"- {prose(note)}" for note in certificate.notes)
    arms = "\n\n".join(run_report(arm).replace("\n# ", "\n## ").replace("# ", "## ", 1) for arm in certificate.arms)
    head = f"# {certificate.verdict}: {prose(certificate.scenario)}\n\n{prose(certificate.reason)}."
    return "\n\n".join(part for part in (head, table, notes, arms) if part) + "\n"


def _retained(arm: RunResult) -> str:
    return "bounded" if arm.stays else f"{arm.retained}/{arm.born}"


def _reproduce(result: RunResult) -> str:
    return f"## Reproduce\n\n{fenced(result.reproduce)}" if result.reproduce else ""


def _compared(result: RunResult) -> str:
    lines = [
        "## What was compared",
        "",
        f"- process: pid {result.pid}, Python {result.python} ({prose(result.executable)}), {result.platform}",
        f"- runs: {result.warmup_runs} of warm-up, then {result.runs} measured "
        f"in {max(0, len(result.series) - 1)} batches",
    ]
    if result.snapshots:
        lines += ["- heap snapshots of that process:", *(f"  - {code(path)}" for path in result.snapshots)]
    else:
        lines.append("- no heap snapshots were kept")
    if result.control:
        control = ", ".join(f"{name} {number(value)}" for name, value in result.control.items())
        lines.append(f"- control (the same loop with an empty body), growth per run: {control}")
    return "\n".join(lines)


def _growth(result: RunResult) -> str:
    if not result.growth:
        return ""
    rows = [
        f"| {g.counter} | {number(g.per_run)} | {'yes' if g.grows else 'no'} | {number(g.declared)} | {cell(g.rule)} |"
        for g in result.growth
    ]
    return "\n".join(
        [
            "## Growth",
            "",
            "| counter | per run | grows | declared per run | rule |",
            "| --- | --- | --- | --- | --- |",
            *rows,
        ]
    )


def _holders(result: RunResult) -> str:
    if not any((result.families, result.retainers, result.held_by_c, result.growing_containers)):
        return ""
    lines = ["## Retained families and who holds them", ""]
    for family in result.families:
        lines.append(
            f"- {number(family.count_per_run)} {code(family.type)} a run, {size(family.shallow_bytes_per_run)} shallow"
        )
    lines += [f"- container that grows: {prose(container.sentence)}" for container in result.growing_containers]
    for retainer in result.retainers:
        lines += ["", f"**{prose(retainer.sentence or retainer.target)}**", "", _path(retainer.path)]
        lines += [f"- also held: {prose(other)}" for other in retainer.also]
    for held in result.held_by_c:
        lines += ["", f"**{prose(held.sentence)}**"]
        lines += ["", _path(held.path)] if held.path else []
    for site in result.allocations:
        place = born_at(site)
        lines.append(f"- born at {code(place)}: {code(site.get('source') or '')}")
    return "\n".join(lines)


def _likely(result: RunResult) -> str:
    if result.verdict != "FAIL":
        return ""
    kinds = {
        "runtime-objects": "A real leak: objects of the program stay alive.",
        "module-graph": "Likely growth of the module graph (code, types, modules), not of runtime objects.",
        "native": "Native memory: nothing that Python lists grows with it.",
        "ambiguous": "Ambiguous: names alone do not tell a leak from module growth.",
    }
    text = kinds.get(result.growth_class or "", "Not classified.")
    confirmed = f" Evidence: {prose(result.class_evidence)}." if result.class_evidence else ""
    return f"## What it is likely to be\n\n{text}{confirmed}"


def _change(result: RunResult) -> str:
    if result.verdict != "FAIL" or not result.retainers:
        return ""
    lines = ["## What to change", ""]
    lines += [f"- break this edge: {prose(retainer.sentence)}" for retainer in result.retainers[:5]]
    return "\n".join(lines)


def _verified(result: RunResult) -> str:
    lines = ["## What was verified, and what was not", "", f"- it would have seen {detectable_line(result)}"]
    lines += [f"- its reach: {result.reach}"] if result.reach else []
    lines += [f"- forgiven: {prose(line)}" for line in result.forgiven]
    lines += [f"- {prose(line)}" for line in result.notes]
    lines += [f"- second opinion: {prose(line)}" for line in result.opinions]
    lines += [f"- not measured: {prose(counter)}: {prose(why)}" for counter, why in result.blind.items()]
    if result.detail:
        lines += ["", fenced(result.detail)]
    return "\n".join(lines)


def _path(steps: Sequence[str]) -> str:
    return fenced("\n".join(map(one_line, steps)))
