"""Resident size that rises inside address space that is there already: does it come to an end?

Pages that are touched for the first time end with the mapping that they lie in, at the latest: where that is within the
budget, it is waited for. Else the rise is followed as far as any other growth that may be a cache.
"""

from __future__ import annotations

from collections.abc import Callable

from leakharness.judge.verdict import Assessment, ResidentGrowth
from leakharness.measure.mappings import Mapping, grown, in_words, mappings_of, parsed
from leakharness.units import size

__all__ = ["ResidentSize"]

SHARE = 0.5
"""Of the resident pages that came, those of a file that were only read: from there on they are what grows."""


class ResidentSize:
    """Looks at the mappings of the measured process, from outside, once its resident size is what is not clear."""

    def __init__(self, pid: int, most_runs: int, read: Callable[[int], str | None] = mappings_of) -> None:
        """``most_runs`` is the whole budget: what cannot be full after that many runs is not waited for."""
        self._pid, self._most_runs, self._read = pid, most_runs, read
        self._first: tuple[int, list[Mapping]] | None = None

    def explained(self, found: Assessment, runs: int, *, followed: bool) -> ResidentGrowth | None:
        """Where the pages lie that came since the first call, and whether more can come; None where that is not known
        yet, not asked for, or cannot be read. ``runs`` are those that have been made; ``followed``: no more will be
        made for this."""
        if not found.resident_open:
            return None
        text = self._read(self._pid)
        if text is None:
            return None
        now = parsed(text)
        if self._first is None:
            self._first = (runs, now)
            return None
        then, before = self._first
        rows = grown(before, now)
        made = runs - then
        pages = sum(row.resident for row in rows)
        if made <= 0 or pages <= 0:
            return None
        where = in_words(rows, made)
        if sum(max(0, row.dirty) for row in rows) < SHARE * pages:
            return ResidentGrowth("evictable", f"pages of files that were read: {where}")
        first = rows[0]
        needed = int(first.untouched * made / max(1, first.resident)) + 1
        left = f"{size(first.untouched)} of it are untouched, enough for {needed:,} more runs"
        return ResidentGrowth("ends" if needed <= self._most_runs or not followed else "goes on", f"in {where}; {left}")
