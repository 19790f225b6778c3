"""Leaks that are declared as known: which result they excuse, and which they never do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from leakharness.model import HeldByC, Retainer, RunResult
from leakharness.scenario.declare import SYNTHETIC_LEAK, Known
from leakharness.units import number, signed

ARROW = " -> "
"""Between the segments of a fingerprint."""
ACCESS = re.compile(r"(?<!modules)(?:\[[^\]]*\]| \([\w.]+\))$")
"""What a segment may end with after a holder's name: an element, and the container's type."""

NATIVE_MEMORY = "native memory"
"""What stands for the type of bytes that are no object's."""
ACCOUNTED = 0.02
"""Of a counter's pace that known leaks of C code may leave open: two rates, measured over different runs,"""
STRAY = 0.02
"""and one in fifty runs, which is below what any other leak is found with."""
IN_PAGES = ("malloc_bytes", "mapped_bytes", "rss")
IN_PAGES_FACTOR = 1.5
"""Bytes that blocks take, as a multiple of their own: pools and arenas are filled in part, and mapped as a whole."""


def forgive_known(result: RunResult, known: Sequence[Known]) -> RunResult:
    """Call a FAIL a PASS where the known leaks account for all of it; say which rule forgave what, what grows beside
    it, and which rules matched nothing. A mode that must FAIL is forgiven nothing: it is there to be seen."""
    if not known or result.must == "FAIL" or result.mode == SYNTHETIC_LEAK:
        return result
    notes, found, open_ = [], [], list(result.retainers)
    held: list[HeldByC] = []
    for entry in known:
        matched = [r for r in result.retainers if _matches(entry.match, r)]
        kept = [row for row in result.held_by_c if _is_of_c(entry.match, row)]
        held += [row for row in kept if row not in held]
        if kept and not matched:
            found.append(f"known leak {entry.match!r}: {kept[0].sentence} ({entry.reason})")
            continue
        if not matched:
            notes.append(f"known leak {entry.match!r} matched nothing: remove it ({entry.reason})")
            continue
        open_ = [r for r in open_ if r not in matched]
        count = sum(r.count for r in matched)
        found.append(f"known leak {entry.match!r}: {count} {matched[0].target} ({entry.reason})")
    result = replace(result, notes=result.notes + tuple(notes))
    if not found or result.verdict != "FAIL":
        return result
    if not result.retainers:
        more = _not_of_c(result, held, "grows")
        if not more and (unclear := _not_of_c(result, held, "undecided")):
            return replace(result, verdict="NOT_JUDGED", reason=f"beside the {found[0]}: not clear yet: {unclear}")
        if more:
            return replace(result, notes=(*result.notes, f"{found[0]} is not all that leaks: {more}"))
        forgiven = result.forgiven + tuple(found)
        return replace(result, forgiven=forgiven, verdict="PASS", reason=f"every leak found is known: {found[0]}")
    beside = result.beside_known
    if open_ or beside is None or beside.verdict == "FAIL":
        beyond = [r.sentence for r in open_] or [
            beside.reason if beside is not None else "what is left was not counted"
        ]
        return replace(result, notes=result.notes + tuple(f"{found[0]} is not all that leaks: {b}" for b in beyond))
    if beside.verdict == "NOT_JUDGED":
        return replace(result, verdict="NOT_JUDGED", reason=f"beside the {found[0]}: {beside.reason}")
    forgiven = (*result.forgiven, *found, f"beside the known leaks, counted in copies without them: {beside.reason}")
    return replace(result, forgiven=forgiven, verdict="PASS", reason=f"every leak found is known: {found[0]}")


def is_known_of_c(known: Sequence[Known], row: HeldByC) -> bool:
    """Whether what C code holds there is an accepted leak."""
    return any(_is_of_c(entry.match, row) for entry in known)


def forgive_framework(result: RunResult) -> RunResult:
    """Call a FAIL a PASS where nothing grows but what the test framework notes for each run, counted without it."""
    beside = result.beside_framework
    if result.verdict != "FAIL" or beside is None:
        return result
    names = ", ".join(result.framework)
    if beside.verdict == "NOT_JUDGED":
        reason = f"beside what the test framework notes for each run ({names}): {beside.reason}"
        return replace(result, verdict="NOT_JUDGED", reason=reason)
    if beside.verdict == "FAIL":
        left = f"left out what the test framework notes for each run ({names}), this is still there: {beside.reason}"
        return replace(result, notes=(*result.notes, left))
    return replace(
        result,
        verdict="PASS",
        reason=f"nothing grows but what the test framework notes for each run: {names}",
        forgiven=(
            *result.forgiven,
            *(
                f"{name}: only objects of the test framework hold it, so what it gains is none of the body"
                for name in result.framework
            ),
            f"beside it, counted in copies without it: {beside.reason}",
        ),
    )


def is_known(known: Sequence[Known], retainer: Retainer) -> bool:
    """Whether an accepted leak holds these objects."""
    return any(_matches(entry.match, retainer) for entry in known)


def _matches(match: str, retainer: Retainer) -> bool:
    """Whether ``match`` is the type's name, with or without what it is nested in, or whole segments of the fingerprint
    one after the other; a segment is meant with or without the element that it ends with."""
    segments = retainer.fingerprint.split(ARROW)
    if match == retainer.target or f".{segments[-1]}".endswith(f".{match}"):
        return True
    wanted = match.split(ARROW)
    return any(
        all(asked in _names_of(segment) for asked, segment in zip(wanted, segments[start:], strict=False))
        for start in range(len(segments) - len(wanted) + 1)
    )


def _is_of_c(match: str, row: HeldByC) -> bool:
    """As of a retainer: by the type, or by where the object is. What has no type cannot be meant."""
    if row.type in ("", NATIVE_MEMORY):
        return False
    return _matches(match, Retainer(row.type, 0, 0, row.path, ARROW.join(row.path) or row.type, row.sentence))


def _not_of_c(result: RunResult, held: Sequence[HeldByC], state: str) -> str:
    """What grows, or is undecided, beyond these rows, or "". Each of their references, blocks and bytes is one that a
    counter shows. Resident size follows these, and decides nothing while it is undecided."""
    lost = [row for row in held if row.bytes == 0]
    kept = [row for row in held if row.bytes > 0]
    size = sum(row.bytes for row in kept)
    accounted = {
        "references": sum(row.count_per_run for row in lost if row.count_per_run > 0),
        "given_away": -sum(row.count_per_run for row in lost if row.count_per_run < 0),
        "blocks": sum(row.count_per_run for row in kept),
        **dict.fromkeys(IN_PAGES, IN_PAGES_FACTOR * size),
    }
    for growth in result.growth:
        known = accounted.get(growth.counter, 0.0)
        follows = state == "undecided" and growth.counter == "rss"
        if growth.state == state and not follows and growth.per_run > known * (1 + ACCOUNTED) + STRAY:
            return f"{growth.counter} {signed(growth.per_run)} a run, of which it is {number(known)}"
    return ""


def _names_of(segment: str) -> list[str]:
    """``app.KEEP (list)[*]`` is also ``app.KEEP (list)`` and ``app.KEEP``."""
    names = [segment]
    while (shorter := ACCESS.sub("", names[-1])) != names[-1]:
        names.append(shorter)
    return names
