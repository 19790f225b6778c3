"""What was there at the baseline and goes while the runs are made: a queue that is worked off, a store that is emptied.

It may hide a leak: what comes to stay takes the place, in every sum, of what went.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leakharness.judge.policy import DRAINED_SHARE, SEGMENTS
from leakharness.judge.series import Series

__all__ = ["Drain"]


@dataclass(frozen=True)
class Drain:
    """What went, at each reading; None where that is not counted. In objects: ``given_back``; in entries by which the
    containers that have become shorter are shorter: ``drained``, beside the ``entries`` of all of them."""

    runs: Sequence[int]
    given_back: Sequence[float] | None
    drained: Sequence[float] | None
    entries: Sequence[float] | None

    def hides(self) -> Mapping[str, tuple[Sequence[float], str]]:
        """What is to be added to a counter for what is new to show by itself, and the words that say so.

        Where new objects only take the places of old ones, as in a cache that is full, no container gets shorter;
        where something drains, one does, in every stretch. Of old objects that die, no more count than entries that
        went: the others may have given their places to new ones.
        """
        found: dict[str, tuple[Sequence[float], str]] = {}
        shorter = self.drained if self.drained is not None and self._goes_on(self.drained) else None
        if self.given_back is not None and self.entries is not None:
            lost = shorter or [0.0] * len(self.entries)
            went = [max(here, self.entries[0] - now) for here, now in zip(lost, self.entries, strict=True)]
            gone = self.given_back[-1] - self.given_back[0]
            if gone > 0 and went[-1] - went[0] >= DRAINED_SHARE * gone:
                fewer = [min(pair) for pair in zip(self.given_back, went, strict=True)]
                why = "as many that were there at the baseline went, and so did the entries that held them"
                found["objects"] = (fewer, why)
        if shorter is not None:
            found["entries"] = (shorter, "as many left other containers")
        return found

    def levelled(self, counter: str, values: Sequence[float]) -> list[list[float]]:
        """A counter that falls because something drains, without that fall; empty where nothing drains, or it does not
        fall.

        Of objects, every one that went is known. Of blocks and bytes only the fall is: what goes takes as much with it
        each time, so that the line from end to end is taken out. What may then be hidden is what nothing but C code
        holds: an entry of a container, and an object, is counted by itself.
        """
        fell = values[0] - values[-1]
        if fell <= 0:
            return []
        if counter == "objects":
            return [] if self.given_back is None else [[v + g for v, g in zip(values, self.given_back, strict=True)]]
        if counter not in ("blocks", "malloc_bytes"):
            return []
        fewer = None if self.entries is None else [self.entries[0] - now for now in self.entries]
        rows = (self.drained, self.given_back, fewer)
        went = [row for row in rows if row is not None and self._goes_on(row)]
        return [[v + fell / (row[-1] - row[0]) * w for v, w in zip(values, row, strict=True)] for row in went]

    def _goes_on(self, went: Sequence[float]) -> bool:
        """Whether something goes in every stretch."""
        series = Series(self.runs, went)
        return series.batches >= SEGMENTS and series.rises_in_each(SEGMENTS)
