"""Leaks that are declared as known: which result they excuse, and which they never do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from leakharness.model import Retainer, RunResult
from leakharness.scenario.declare import SYNTHETIC_LEAK, Known
from leakharness.units import signed

NEVER_KNOWN = ("fds", "threads", "children")
"""What a forked copy cannot give back, so that no known leak can be shown to account for it."""


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
    if not found:
        return result
    scarce = [g for g in result.growth if g.grows and g.counter in NEVER_KNOWN]
    beyond = [*result.beyond_known, *(r.sentence for r in open_)]
    beyond += [f"{g.counter} {signed(g.per_run)} a run, which no kept object explains" for g in scarce]
    if result.verdict == "FAIL" and beyond:
        return replace(result, notes=result.notes + tuple(f"{found[0]} is not all that leaks: {b}" for b in beyond))
    result = replace(result, forgiven=result.forgiven + tuple(found))
    if result.verdict == "FAIL":
        return replace(result, verdict="PASS", reason=f"every leak found is known: {found[0]}")
    return result


def is_known(known: Sequence[Known], retainer: Retainer) -> bool:
    """Whether an accepted leak holds these objects."""
    return any(_matches(entry.match, retainer) for entry in known)


def _matches(match: str, retainer: Retainer) -> bool:
    target = retainer.target
    return match == target or target.endswith("." + match) or match in retainer.fingerprint
