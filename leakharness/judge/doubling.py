"""Growth that shows only as tables that double: a store in C, or a buffer, whose room is doubled whenever it is full.

What it takes then rises in steps, each about twice as large as the one before and after about twice as many runs: the
same growth a run all the time, seen ever more rarely. Between two steps the counter stands still, so that no test of
equal stretches sees it. A store that stopped growing shows by the next step not coming when it is due. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from leakharness.judge.policy import (
    BESIDE_STEPS,
    DOUBLING_STEPS,
    LEAST_DOUBLED,
    MOST_DOUBLED,
    RECENT,
    SMALL_STEP,
)
from leakharness.units import size

__all__ = ["Doubling"]


@dataclass(frozen=True)
class Doubling:
    """Steps that double. ``at``: the runs after which they were seen; ``sizes`` in the counter's unit."""

    at: tuple[int, ...]
    sizes: tuple[float, ...]
    blur: int
    """Runs by which a step may have come earlier than it was seen."""

    @classmethod
    def of(cls, runs: Sequence[int], low: Sequence[float]) -> Doubling | None:
        """The last steps of a series where they double, else None. ``runs`` are cumulative; ``low`` never falls."""
        rises = [(b - a, run) for (a, b), run in zip(itertools.pairwise(low), runs[1:], strict=True)]
        least = max((rise for rise, _ in rises), default=0.0) / SMALL_STEP
        steps = [(rise, run) for rise, run in rises if rise > 0 and rise >= least][-DOUBLING_STEPS:]
        if len(steps) < DOUBLING_STEPS:
            return None
        sizes, at = tuple(rise for rise, _ in steps), tuple(run for _, run in steps)
        beside = low[-1] - low[runs.index(at[0])] - sum(sizes[1:])
        if beside > BESIDE_STEPS * sum(sizes[1:]):
            return None
        blur = max(b - a for a, b in itertools.pairwise(runs) if b >= at[0])
        found = cls(at, sizes, blur)
        return found if found._doubles() else None

    def _doubles(self) -> bool:
        """Whether each step, and each distance as far as the readings tell, is about twice the one before."""
        if not all(LEAST_DOUBLED <= b / a <= MOST_DOUBLED for a, b in itertools.pairwise(self.sizes)):
            return False
        apart = [b - a for a, b in itertools.pairwise(self.at)]
        return all(
            b + self.blur >= LEAST_DOUBLED * (a - self.blur) and b - self.blur <= MOST_DOUBLED * (a + self.blur)
            for a, b in itertools.pairwise(apart)
        )

    @property
    def apart(self) -> int:
        """Runs from the last step but one to the last."""
        return self.at[-1] - self.at[-2]

    @property
    def overdue(self) -> int:
        """The run after which the next step, due after twice the distance of the last two, has not come."""
        return self.at[-1] + round(MOST_DOUBLED * (self.apart + self.blur))

    @property
    def per_run(self) -> float:
        """What a run leaves behind, in the counter's unit: the room was full at each step, and has doubled since."""
        return sum(self.sizes[:-1]) / (self.at[-1] - self.at[0])

    def seen_lately(self, run: int) -> bool:
        """Whether the last step came so shortly before ``run`` that the growth was going on then."""
        return run - self.at[-1] <= max(self.blur, RECENT * self.apart)

    def in_words(self, first: int) -> str:
        """The steps and the runs they came in, counted from the run ``first``, the baseline's."""
        steps = ", ".join(
            f"{size(step)} in run {run - first:,}" if run > first else f"{size(step)} in the warm-up"
            for step, run in zip(self.sizes, self.at, strict=True)
        )
        return f"steps that double, each after twice as many runs: {steps}"
