"""What one check came to, as a row, and rows grouped by their cause. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from leakharness.sensitivity import Sensitivity
from leakharness.units import signed

__all__ = ["NOT_REPEATABLE", "Row", "causes_of", "row_from", "words_for"]

NOT_REPEATABLE = "the body passed once, and run"
"""How the reason begins where a later run of a body failed."""
TESTS_NAMED = 3
BYTES = ("malloc_bytes", "mapped_bytes", "rss")
SMALL_BYTES = Sensitivity(1).native_bytes
"""Bytes a run that a PASS need not have seen by default: what grows by less beside objects, entries or blocks is their
own memory, which grows in steps, and so now and then does not grow in the runs of one check."""


class Row(NamedTuple):
    """One check. ``verdict``: PASS, FAIL, NOT_JUDGED, KNOWN (what leaks is accepted), NOT_REPEATABLE or NOT_CHECKED.

    ``causes``: the retainer fingerprints of a leak, the largest first; ``counters``: what grows; ``what``: one line."""

    nodeid: str
    verdict: str
    how: str = ""
    runs: int = 0
    seconds: float = 0.0
    what: str = ""
    causes: Sequence[str] = ()
    counters: Sequence[str] = ()
    targets: Sequence[str] = ()


def row_from(nodeid: str, verdict: str, document: Mapping[str, Any], seconds: float) -> Row:
    """The row of a check whose result is this document."""
    reason = str(document.get("reason", ""))
    retainers = document.get("retainers") or ()
    growth = [row for row in document.get("growth") or () if row["grows"]]
    how = "quick" if reason.startswith("quick look") else "full"
    if verdict == "NOT_JUDGED" and NOT_REPEATABLE in reason:
        verdict = "NOT_REPEATABLE"
    elif verdict == "PASS" and reason.startswith("every leak found is known"):
        verdict = "KNOWN"
    what = retainers[0]["sentence"] if retainers else reason
    if growth and not retainers:
        what = "; ".join(f"{row['counter']} {signed(row['per_run'])} a run" for row in growth)
    return Row(
        nodeid,
        verdict,
        how,
        int(document.get("runs") or 0),
        seconds,
        reason if verdict in ("KNOWN", "NOT_REPEATABLE") else what,
        [row["fingerprint"] for row in retainers],
        _telling(growth),
        [row["target"] for row in retainers],
    )


def _telling(growth: Sequence[Mapping[str, Any]]) -> list[str]:
    """The counters that a leak is known by again: without the bytes that only follow the others."""
    others = [row["counter"] for row in growth if row["counter"] not in BYTES]
    return others + [
        row["counter"] for row in growth if row["counter"] in BYTES and not (others and row["per_run"] < SMALL_BYTES)
    ]


def words_for(row: Row) -> str:
    """One check in a few words, for ``-v``."""
    if row.verdict in ("NOT_CHECKED", "NOT_REPEATABLE"):
        return f"{row.verdict.lower().replace('_', ' ')}: {row.what}"
    how = "quick look, " if row.how == "quick" else ""
    known = "known leak, " if row.verdict == "KNOWN" else ""
    return f"{known}{how}{row.runs} runs, {row.seconds:.2f} s"


def causes_of(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Lines for each cause: "44 tests, 1 cause", what holds it, and the first tests. The most frequent one first.

    A cause is the fingerprint of the largest group of retained objects; what grows without one is told by test."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.causes[0] if row.causes else "\n" + row.nodeid, []).append(row)
    if not groups:
        return
    count = f"{len(groups)} {'cause' if len(groups) == 1 else 'causes'}"
    yield [f"{len(rows)} {'test' if len(rows) == 1 else 'tests'} leak: {count}"]
    for number, group in enumerate(sorted(groups.values(), key=lambda group: -len(group)), 1):
        more = f" and {len(group) - TESTS_NAMED} more" if len(group) > TESTS_NAMED else ""
        tests = ", ".join(row.nodeid for row in group[:TESTS_NAMED]) + more
        yield [f"  {number}. {group[0].what}", f"     {len(group)} of them: {tests}"]
