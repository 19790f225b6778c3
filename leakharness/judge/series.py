"""What one counter's series does: grows, steady or undecided, and the numbers that say so."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from leakharness.judge.policy import (
    AGREES,
    EVEN,
    EVEN_EVENTS,
    EVEN_STRAY,
    FADING,
    FADING_FEW,
    FEW,
    FLAT_BATCHES,
    FLAT_GAPS,
    FLAT_TAIL,
    LASTING,
    LASTING_BATCHES,
    SEGMENTS,
    SLOWING,
    STRAY_FLOORS,
    SWING_FACTOR,
    SWING_MEMORY,
    UNEVEN_BATCHES,
)

__all__ = ["Trend", "trend"]

State = Literal["grows", "steady", "undecided"]


@dataclass(frozen=True)
class Trend:
    """What one series does, and the sentence that says so with its numbers."""

    state: State
    per_run: float
    rise: float
    swing: float
    why: str
    runs_needed: int | None = None
    """Where a rise fades: about how many more runs until it would have stopped."""
    lasting: bool = False
    """Whether every one of :data:`LASTING` stretches rises: that is no noise, however much the series swings."""


def trend(
    runs: Sequence[int],
    values: Sequence[float],
    *,
    floor: float = 0.0,
    patience: int = 3,
    earlier_pace: float | None = None,
    final: bool = False,
    backed: bool = False,
    turns: int = EVEN_EVENTS,
) -> Trend:
    """What a series of readings does. ``runs`` are cumulative; ``floor`` is in the counter's unit;
    ``earlier_pace`` is the rise per run in the warm-up, where it is known; ``final``: the series gets no longer;
    ``backed``: another counter grows for sure, so this one need not rise evenly; ``turns`` as in :class:`Rule`."""
    batches = len(values) - 1
    if batches < 1:
        return Trend("undecided", 0.0, 0.0, 0.0, "no batch yet")
    low = _floor_of(values)
    rise = low[-1] - low[0]
    swing = max(value - bottom for value, bottom in zip(values, low, strict=True))
    total = runs[-1] - runs[0]
    per_run = rise / total
    if rise <= 0:
        return Trend(
            "steady", 0.0, rise, swing, f"ends {_number(-rise)} below where it began" if rise else "stands still"
        )
    for start in _starts(low):
        earlier = _middle_pace(runs[: start + 1], low[: start + 1]) if start else earlier_pace
        seen = swing if batches - start < SWING_MEMORY * start else 0.0
        even = _is_even(runs[start:], low[start:], turns)
        found = _persists(
            runs[start:], values[start:], low[start:], floor, earlier, seen, final=final, backed=backed or even
        )
        if found is not None and found.state == "grows":
            return found
    even = _is_even(runs, low, turns)
    whole = _persists(runs, values, low, floor, earlier_pace, 0.0, final=final, backed=backed or even)
    if whole is not None:
        return whole
    rises = [i for i in range(1, batches + 1) if low[i] > low[i - 1]]
    last = rises[-1]
    one_step = bool(floor) and len(rises) == 1 and batches >= SEGMENTS  # of an inexact counter: a table that doubled
    if final and batches >= FLAT_BATCHES and (one_step or rise <= STRAY_FLOORS * floor):
        why = f"rose by {_number(rise)} in {len(rises)} of {batches} batches: tables that doubled"
        return Trend("steady", 0.0, rise, swing, why)
    gaps = 0.0 if one_step else FLAT_GAPS * last / len(rises)
    tail = max(batches * FLAT_TAIL, gaps)
    tail = max(patience, math.ceil(min(tail, FLAT_BATCHES)))
    if batches >= tail and low[-1] - low[batches - tail] <= 0:
        return Trend(
            "steady", 0.0, rise, swing, f"rose by {_number(rise)} and stopped after {runs[last] - runs[0]} runs"
        )
    risen_late = low[-1] - low[batches - tail] if batches >= tail else rise
    if risen_late <= swing and low[min(batches, max(1, batches - tail))] <= low[0]:
        return Trend("steady", 0.0, rise, swing, f"swings by {_number(swing)} and returns")
    if rise <= floor:
        return Trend("steady", per_run, rise, swing, f"rise of {_number(rise)} is below the floor of {_number(floor)}")
    return Trend("undecided", per_run, rise, swing, f"rose by {_number(rise)} in {total} runs, not in every stretch")


def _persists(
    runs: Sequence[int],
    values: Sequence[float],
    low: Sequence[float],
    floor: float,
    earlier_pace: float | None,
    earlier_swing: float,
    *,
    final: bool,
    backed: bool,
) -> Trend | None:
    """The test for persistent growth, or None where not every stretch rises."""
    batches = len(values) - 1
    if batches < SEGMENTS:
        return None
    cuts = [round(i * batches / SEGMENTS) for i in range(SEGMENTS + 1)]
    rises = [low[b] - low[a] for a, b in itertools.pairwise(cuts)]
    if min(rises) <= 0:
        return None
    rise, total = low[-1] - low[0], runs[-1] - runs[0]
    swing = max(earlier_swing, *(value - bottom for value, bottom in zip(values, low, strict=True)))
    per_run = _pace(runs, low)
    numbers = f"+{_number(rise)} in {total} runs, in each of {SEGMENTS} stretches"
    if rise <= floor:
        return Trend("steady", per_run, rise, swing, f"{numbers}; below the floor of {_number(floor)}")
    lasting = _lasts(low)
    undecided = partial(Trend, "undecided", per_run, rise, swing, lasting=lasting)
    if rise <= SWING_FACTOR * swing and not lasting:
        return Trend("undecided", per_run, rise, swing, f"{numbers}; but it also swings by {_number(swing)}")
    early, late = rises[0] + rises[1], rises[-2] + rises[-1]
    limit = FADING if rise >= FEW else FADING_FEW
    pace = late / early
    if earlier_pace is not None and earlier_pace > 0:
        pace = min(pace, per_run / earlier_pace)
    if pace < limit:
        needed = _runs_until_flat(per_run, pace, total)
        return undecided(f"{numbers}; but it slows to {pace:.0%}", needed)
    if backed:
        return Trend("grows", per_run, rise, swing, numbers)
    error = _crookedness(runs, low) * math.sqrt(2) / early
    if pace < SLOWING and pace + error < 1:
        needed = _runs_until_flat(per_run, pace, total)
        return undecided(f"{numbers}; but it slows steadily, to {pace:.0%}", needed)
    if batches < UNEVEN_BATCHES and not final:
        return undecided(f"{numbers}; but unevenly, as a cache does that fills")
    if pace - error < limit:
        return undecided(f"{numbers}; but so unevenly that it may slow to {pace - error:.0%}")
    return Trend("grows", per_run, rise, swing, numbers)


def _lasts(low: Sequence[float]) -> bool:
    """Whether every one of :data:`LASTING` equal stretches rises, in a series that is long enough for it."""
    batches = len(low) - 1
    cuts = [round(i * batches / LASTING) for i in range(LASTING + 1)]
    return batches >= LASTING_BATCHES and all(low[b] > low[a] for a, b in itertools.pairwise(cuts))


def _is_even(runs: Sequence[int], low: Sequence[float], turns: int) -> bool:
    """Whether every batch adds the same, but for one; or, of one object in N runs, k or k + 1 by turns, for at least
    so many batches."""
    paces = _paces(runs, low)
    odd = _odd_ones(paces)
    rise = low[-1] - low[0]
    if odd == 0 or (odd == 1 and len(paces) > SEGMENTS and rise >= EVEN_EVENTS * len(paces)):
        return rise >= EVEN_EVENTS
    step = (max(paces) - min(paces)) * (runs[-1] - runs[0]) / len(paces)
    if len(paces) < turns or rise < EVEN_EVENTS * step:
        return False
    most = step if len(paces) >= EVEN_EVENTS else EVEN_STRAY * step
    return len(set(paces)) == 2 and _crookedness(runs, low) <= most


def _crookedness(runs: Sequence[int], low: Sequence[float]) -> float:
    """The farthest that the series strays from the straight line between its ends, in the counter's unit."""
    slope = (low[-1] - low[0]) / (runs[-1] - runs[0])
    return max(abs(value - low[0] - slope * (run - runs[0])) for run, value in zip(runs, low, strict=True))


def _floor_of(values: Sequence[float]) -> list[float]:
    """The running minimum from the right: what was never given back."""
    low = list(values)
    for i in range(len(low) - 2, -1, -1):
        low[i] = min(low[i], low[i + 1])
    return low


def _pace(runs: Sequence[int], low: Sequence[float]) -> float:
    """Rise per run: the median batch's where all others but one agree with it, or the whole does within a twentieth
    (an odd batch then leaves the figure exact); else the whole rise over all runs."""
    whole = (low[-1] - low[0]) / (runs[-1] - runs[0])
    middle = _middle_pace(runs, low)
    agreed = _odd_ones(_paces(runs, low)) <= 1 or abs(middle - whole) <= AGREES * abs(whole)
    return middle if agreed else whole


def _odd_ones(paces: Sequence[float]) -> int:
    """How many batches rise otherwise than the median one."""
    usual = statistics.median(paces)
    return sum(abs(pace - usual) > EVEN * usual for pace in paces)


def _middle_pace(runs: Sequence[int], low: Sequence[float]) -> float:
    return statistics.median(_paces(runs, low))


def _paces(runs: Sequence[int], low: Sequence[float]) -> list[float]:
    """The rise per run of each batch."""
    return [(b - a) / (n - m) for a, b, m, n in zip(low, low[1:], runs, runs[1:], strict=False)]


def _starts(low: Sequence[float]) -> list[int]:
    """Where growth may begin: at the baseline, after a flat beginning, or in the second half."""
    batches = len(low) - 1
    flat = max(i for i in range(batches + 1) if low[i] <= low[0])
    return sorted({start for start in (0, flat, batches // 2) if batches - start >= SEGMENTS})


def _runs_until_flat(per_run: float, pace: float, total: int) -> int:
    """Extrapolate a fading rise as an exponential: runs until less than one unit a stretch is left."""
    if pace <= 0:
        return total
    decay = total * 0.6 / max(1e-9, -math.log(pace))  # 0.6: the middles of first and last two fifths lie so far apart
    left = per_run * total / SEGMENTS
    return int(decay * math.log(max(math.e, left)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
