"""Leaks that are declared as known: which result they excuse, and which they never do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from leakharness.model import Retainer, RunResult
from leakharness.scenario.declare import SYNTHETIC_LEAK, Known

ARROW = " -> "
"""Between the segments of a fingerprint."""
ACCESS = re.compile(r"(?<!modules)(?:\[[^\]]*\]| \([\w.]+\))$")
"""What a segment may end with after a holder's name: an element, and the container's type."""


def forgive_known(result: RunResult, known: Sequence[Known]) -> RunResult:
    """Call a FAIL a PASS where the known leaks account for all of it; say which rule forgave what, what grows beside
    it, and which rules matched nothing. A mode that must FAIL is forgiven nothing: it is there to be seen."""
    if not known or result.must == "FAIL" or result.mode == SYNTHETIC_LEAK:
        return result
    notes, found, open_ = [], [], list(result.retainers)
    for entry in known:
        matched = [r for r in result.retainers if _matches(entry.match, r)]
        if not matched:
            notes.append(f"known leak {entry.match!r} matched nothing: remove it ({entry.reason})")
            continue
        open_ = [r for r in open_ if r not in matched]
        count = sum(r.count for r in matched)
        found.append(f"known leak {entry.match!r}: {count} {matched[0].target} ({entry.reason})")
    result = replace(result, notes=result.notes + tuple(notes))
    if not found or result.verdict != "FAIL":
        return result
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


def _names_of(segment: str) -> list[str]:
    """``app.KEEP (list)[*]`` is also ``app.KEEP (list)`` and ``app.KEEP``."""
    names = [segment]
    while (shorter := ACCESS.sub("", names[-1])) != names[-1]:
        names.append(shorter)
    return names
