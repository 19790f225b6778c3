"""What one counter's series does: grows, steady or undecided, and the numbers that say so."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

from leakharness.judge.policy import (
    AGREES,
    EARLIER_FASTER,
    EVEN,
    EVEN_EVENTS,
    FADING,
    FLAT_BATCHES,
    FLAT_GAPS,
    FLAT_TAIL,
    LASTING,
    LASTING_BATCHES,
    SEGMENTS,
    SLIGHT,
    SLOWS,
    STRAY_BYTES_A_RUN,
    STRAY_FLOORS,
    SURE,
    SWING_FACTOR,
    SWING_MEMORY,
    UNEVEN_BATCHES,
    WIDEST,
)
from leakharness.units import number as _number

__all__ = ["Filling", "Series", "Trend", "trend"]

REGULAR_PACES = 2
"""Paces of the batches of what strikes once in N runs: k or k + 1 by turns."""

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
    to_come: float = math.inf
    """Where a store of keys at random fills for sure: how much more it will take, in the counter's unit."""
    last_step: int | None = None
    """Where it grows in steps that double, tables of a store: the run of the process that the last one came in."""
    mappings_tell: bool = False
    """Of resident size: whether only a look at the memory mappings can decide."""
    uneven: bool = False
    """Of what grows: whether batches leave more and less behind, as a store does whose keys come at random."""


@dataclass(frozen=True)
class Series:
    """Readings of one counter. ``runs`` are cumulative; ``values`` are in the counter's unit."""

    runs: Sequence[int]
    values: Sequence[float]

    @property
    def batches(self) -> int:
        return len(self.values) - 1

    @property
    def total(self) -> int:
        """Runs from the first reading to the last."""
        return self.runs[-1] - self.runs[0]

    @cached_property
    def low(self) -> list[float]:
        """The running minimum from the right: what was never given back."""
        low = list(self.values)
        for i in range(len(low) - 2, -1, -1):
            low[i] = min(low[i], low[i + 1])
        return low

    @property
    def rise(self) -> float:
        """Of the floor, which never falls."""
        return self.low[-1] - self.low[0]

    @property
    def swing(self) -> float:
        """The most that was given back at some time."""
        return max(value - bottom for value, bottom in zip(self.values, self.low, strict=True))

    @property
    def tooth(self) -> float:
        """The largest fall that followed a gradual rise as large: of a saw its height, of a spike next to nothing."""
        steps = [b - a for a, b in itertools.pairwise(self.values)]
        usual = statistics.median([step for step in steps if step > 0] or [0.0])
        climbed = tallest = 0.0
        for step, value, bottom in zip(steps, self.values[1:], self.low[1:], strict=True):
            climbed = max(0.0, climbed + min(step, 2 * usual))
            tallest = max(tallest, min(climbed, value - bottom))
        return tallest

    @property
    def largest_step(self) -> float:
        """The most by which one reading is above the one before it."""
        return max(b - a for a, b in itertools.pairwise(self.values))

    def slope_at_most(self, errors: float) -> float:
        """How steep the line through the series may be, a run: its slope by least squares, and so many of its standard
        errors more."""
        count = len(self.runs)
        middle, mean = sum(self.runs) / count, sum(self.values) / count
        spread = sum((run - middle) ** 2 for run in self.runs)
        rows = list(zip(self.runs, self.values, strict=True))
        slope = sum((run - middle) * (value - mean) for run, value in rows) / spread
        apart = sum((value - mean - slope * (run - middle)) ** 2 for run, value in rows)
        return slope + errors * math.sqrt(apart / max(1, count - 2) / spread)

    @cached_property
    def feet(self) -> Series:
        """The lowest reading after each fall of half the swing: what is left where a saw starts anew."""
        large, found = self.swing / 2, list[int]()
        turn, falling = 0, False
        for i, value in enumerate(self.values):
            apart = self.values[turn] - value
            if (apart > 0) == falling and apart:
                turn = i  # lower still, or higher
            elif large and abs(apart) >= large:
                if falling:
                    found.append(turn)
                turn, falling = i, not falling
        if falling:
            found.append(turn)
        return Series([self.runs[i] for i in found], [self.values[i] for i in found])

    @cached_property
    def paces(self) -> list[float]:
        """What each batch leaves behind, per run."""
        return [
            (b - a) / (n - m)
            for (a, b), (m, n) in zip(itertools.pairwise(self.low), itertools.pairwise(self.runs), strict=True)
        ]

    @cached_property
    def odd_ones(self) -> int:
        """How many batches rise otherwise than the median one."""
        usual = statistics.median(self.paces)
        return sum(abs(pace - usual) > EVEN * usual for pace in self.paces)

    @property
    def pace(self) -> float:
        """Rise per run: the median batch's where all others but one agree with it, or the whole does within a
        twentieth (an odd batch then leaves the figure exact); else from the first batch that rises to the last, so
        that one object in 100 runs gives 0.01 wherever the series ends."""
        middle, whole = statistics.median(self.paces), self.rise / self.total
        if self.odd_ones <= 1 or abs(middle - whole) <= AGREES * abs(whole):
            return middle
        rises = [i for i, pace in enumerate(self.paces, 1) if pace > 0]
        first, last = rises[0], rises[-1]
        if len(rises) == self.batches or len(rises) < EVEN_EVENTS:
            return whole
        return (self.low[last] - self.low[first]) / (self.runs[last] - self.runs[first])

    def part(self, start: int) -> Series:
        """The readings from ``start`` on."""
        return Series(self.runs[start:], self.values[start:])

    def up_to(self, end: int) -> Series:
        """The floor up to and with ``end``: what is given back later was not left behind there."""
        return Series(self.runs[: end + 1], self.low[: end + 1])

    def after(self, before: Series) -> Series:
        """This series with ``before``, whose last reading is this one's first, put in front."""
        ahead, more = self.runs[0] - before.runs[-1], self.values[0] - before.values[-1]
        return Series(
            [run + ahead for run in before.runs[:-1]] + list(self.runs),
            [value + more for value in before.values[:-1]] + list(self.values),
        )

    def cuts(self, stretches: int) -> list[tuple[int, int]]:
        """Where each of so many equal stretches begins and ends."""
        return list(itertools.pairwise(round(i * self.batches / stretches) for i in range(stretches + 1)))

    def rises_in_each(self, stretches: int) -> bool:
        """Whether every one of so many equal stretches leaves something behind."""
        return all(self.low[b] > self.low[a] for a, b in self.cuts(stretches))


@dataclass(frozen=True)
class Filling:
    """The store of keys at random whose filling looks most like a series: after n draws from K keys it holds
    K (1 - exp(-n / K)) of them."""

    spent: float
    """n / K: draws in this series over keys of the store; 0 where the series does not slow, less where it speeds up."""
    error: float
    """Standard error of ``spent``."""

    @classmethod
    def of(cls, series: Series) -> Filling:
        """The most likely store, by the mean time at which the series rises.

        For a rise that slows as exp(-t / K) that mean lies n² / 12 K before the middle, to first order in n / K: the
        score test of 1 / K = 0. The variance of a stretch's rise is half the mean square of successive differences
        (von Neumann et al., The mean square successive difference, 1941), which a slow trend does not enter, nor the
        teeth of a saw that are shorter than a stretch. An estimate from few stretches is too low now and then:
        of a rise that is not regular it is no less than keys at random make, of which a share comes in each run.
        """
        low, runs, total, rise = series.low, series.runs, series.total, series.rise
        cuts = series.cuts(min(series.batches, LASTING))
        mean = sum((runs[a] + runs[b] - 2 * runs[0]) / 2 * (low[b] - low[a]) for a, b in cuts) / rise
        paces = [(low[b] - low[a]) / (runs[b] - runs[a]) for a, b in cuts]
        variance = sum((b - a) ** 2 for a, b in itertools.pairwise(paces)) / (2 * (len(cuts) - 1))
        error = math.sqrt(12 * variance / len(cuts)) * total / rise
        if len(set(series.paces)) > REGULAR_PACES:
            error = max(error, math.sqrt(12 * (1 - min(1.0, rise / total)) / rise))
        return cls(12 * (0.5 - mean / total), error)

    @property
    def pace(self) -> float:
        """How the last two fifths rise, as a share of the first two, whose middles lie 0.6 of the series apart."""
        return math.exp(-0.6 * self.spent)

    def to_come(self, rise: float, errors: float = SURE) -> float:
        """What the store has yet to take after it took ``rise``, of K (1 - exp(-spent)); inf where it may not slow, by
        so many standard errors."""
        return rise / math.expm1(self.spent) if self.spent > errors * self.error else math.inf

    def at_most(self, errors: float) -> Filling:
        """The smallest store that is not excluded by so many standard errors."""
        return replace(self, spent=self.spent + errors * self.error)


@dataclass(frozen=True)
class Terms:
    """How a series is judged; see :func:`trend`."""

    floor: float
    patience: int
    final: bool
    backed: bool
    turns: int
    waits: bool
    """Whether a rise below the floor in every stretch asks for more runs before it is forgiven."""
    tooth: float
    """The height of a saw's tooth that was seen at some time."""
    earlier: float
    """What a run of the warm-up left behind, without what it built at first."""

    def awaited(self, series: Series) -> float:
        """How far a series may still climb a tooth: one that it holds itself is its swing."""
        return self.tooth if series.swing < self.tooth / SWING_FACTOR else 0.0


def trend(
    runs: Sequence[int],
    values: Sequence[float],
    *,
    floor: float = 0.0,
    patience: int = 0,
    before: Series | None = None,
    tooth: float = 0.0,
    final: bool = False,
    backed: bool = False,
    turns: int = EVEN_EVENTS,
    waits: bool = False,
    earlier: float = 0.0,
) -> Trend:
    """What a series of readings does. ``runs`` are cumulative; ``floor`` is in the counter's unit; ``before`` is the
    warm-up's series, where it counts, and ``tooth`` the largest rise and fall in it; ``final``: the series gets no
    longer; ``backed``: another counter grows for sure, so this one need not rise evenly; ``patience`` and ``turns``
    as in :class:`Rule`; ``waits``: a rise below the floor in every stretch is followed, not forgiven; ``earlier``: what
    a run of the warm-up left behind, however long ago that is."""
    series = Series(runs, values)
    if series.batches < 1:
        return Trend("undecided", 0.0, 0.0, 0.0, "no batch yet")
    rise = series.rise
    if not rise:
        return Trend("steady", 0.0, rise, series.swing, "stands still")
    terms = Terms(floor, patience, final, backed, turns, waits, tooth, earlier)
    for start in _starts(series):
        if start and _slower_than_before(series, start, terms.turns):
            continue
        prior = series.up_to(start).part(start // 2) if start else before
        # A rise that began after N batches may be the next tooth of a saw that was seen there.
        seen = series.swing if series.batches - start < SWING_MEMORY * start else 0.0
        found = _persists(series.part(start), terms, prior, seen)
        if found is not None and found.state == "grows":
            return found
    return (
        _below_teeth(series, terms)
        or _persists(series, terms, before)
        or _came_to_rest(series, terms)
        or _not_yet(series)
    )


def _persists(series: Series, terms: Terms, before: Series | None, earlier_swing: float = 0.0) -> Trend | None:
    """The test for persistent growth, or None where not every stretch rises."""
    if series.batches < SEGMENTS or not series.rises_in_each(SEGMENTS):
        return None
    rise, total, per_run = series.rise, series.total, series.pace
    swing = max(earlier_swing, series.swing)
    numbers = f"+{_number(rise)} in {total} runs, in each of {SEGMENTS} stretches"
    if rise <= terms.floor:
        # Growth of any size exceeds the floor if it lasts: runs are spent before it is forgiven.
        state: State = "steady" if terms.final or not terms.waits else "undecided"
        return Trend(state, per_run, rise, swing, f"{numbers}; below the floor of {_number(terms.floor)}")
    lasting = series.batches >= LASTING_BATCHES and series.rises_in_each(LASTING)
    if series.feet.batches > 0:  # of a saw, what readings that drift along its teeth may rise by is no growth
        lasting = lasting and series.feet.rise - series.feet.swing > series.largest_step
    if rise <= SWING_FACTOR * (earlier_swing if lasting else swing):
        return Trend("undecided", per_run, rise, swing, f"{numbers}; but it also swings by {_number(swing)}")
    if rise <= SWING_FACTOR * terms.awaited(series):
        why = f"{numbers}; but it rose and fell by {_number(terms.tooth)} before"
        return Trend("undecided", per_run, rise, series.swing, why, lasting=True)
    doubt, needed = _doubt(series, terms, before)
    if doubt:
        faster = terms.earlier >= EARLIER_FASTER * per_run
        to_come = Filling.of(series).to_come(rise, SLOWS if faster else SURE) if needed else math.inf
        return Trend("undecided", per_run, rise, swing, f"{numbers}; but {doubt}", needed, lasting, to_come=to_come)
    return Trend("grows", per_run, rise, swing, numbers, uneven=not _is_even(series, terms.turns))


def _below_teeth(series: Series, terms: Terms) -> Trend | None:
    """The test for growth below a saw, or below noise: the troughs rise. None where they do not, or are too few.

    A reading finds the foot of a tooth late by less than one batch, so that readings which drift along the teeth, a
    little later in each, never rise by more than the largest step of one batch.
    """
    feet, step = series.feet, series.largest_step
    if feet.batches < SEGMENTS or not feet.rises_in_each(SEGMENTS):
        return None
    rise, crookedness = feet.rise, _crookedness(feet)
    many = feet.batches >= LASTING and feet.rises_in_each(LASTING)
    straight = crookedness <= step and rise > SWING_FACTOR * step
    if not many and not straight:
        return None
    if rise <= max(SWING_FACTOR * feet.swing, step, terms.floor):
        return None
    numbers = f"+{_number(rise)} in {feet.total} runs, below teeth of {_number(series.swing)}"
    if not _is_even(feet, terms.turns) and not (crookedness <= step and rise >= EVEN_EVENTS * step):
        filling = Filling.of(feet)
        if filling.spent > max(SLIGHT, SLOWS * filling.error):
            why, needed = f"{numbers}; but it slows to {filling.pace:.0%}", _runs_until_flat(feet, filling.spent)
            return Trend("undecided", feet.pace, series.rise, series.swing, why, needed, True)
        if filling.at_most(SURE).spent > WIDEST:
            why = f"{numbers}; so unevenly that it may slow to {filling.at_most(SURE).pace:.0%}"
            return Trend("undecided", feet.pace, series.rise, series.swing, why, lasting=True)
    return Trend("grows", feet.pace, rise, series.swing, numbers)


def _doubt(series: Series, terms: Terms, before: Series | None) -> tuple[str, int | None]:
    """What speaks against a rise in every stretch being a leak, or "", and the runs until it would have stopped.

    One question: what is the smallest bounded store whose filling looks like this series, and is it larger than any
    plausible one? A store of keys at random rises unevenly and slows; one of keys in turn rises evenly, and is told by
    its bound or by the warm-up, not here.
    """
    until_flat = partial(_runs_until_flat, series)
    if before is not None and before.rise > 0 and series.pace < FADING * before.pace:
        slowed = series.pace / before.pace
        return f"it slows to {slowed:.0%}", until_flat(-math.log(slowed))
    filling = Filling.of(series)
    if _is_even(series, terms.turns) or (terms.backed and filling.spent <= WIDEST):
        return "", None
    whole = filling if before is None else Filling.of(series.after(before))
    for store in (filling, whole):
        if store.spent > max(SLIGHT, SLOWS * store.error):
            return f"it slows to {store.pace:.0%}", until_flat(store.spent)
    if series.batches < UNEVEN_BATCHES and not terms.final:
        return "unevenly, as a cache does that fills", None
    smallest = filling.at_most(SURE)
    if smallest.spent > WIDEST:
        return f"so unevenly that it may slow to {smallest.pace:.0%}", None
    return "", None


def _came_to_rest(series: Series, terms: Terms) -> Trend | None:
    """The tests for a rise that is over, or was none; None where it may go on."""
    low, batches = series.low, series.batches
    steady = partial(Trend, "steady", 0.0, series.rise, series.swing)
    rises = [i for i in range(1, batches + 1) if low[i] > low[i - 1]]
    last, rise = rises[-1], _number(series.rise)
    # Of an inexact counter: a table that doubled.
    one_step = bool(terms.floor) and len(rises) == 1 and batches >= SEGMENTS
    few = series.rise <= STRAY_FLOORS * terms.floor
    stray = one_step and few and series.rise < STRAY_BYTES_A_RUN * series.total
    if terms.final and (stray or (batches >= FLAT_BATCHES and (one_step or few))):
        return steady(f"rose by {rise} in {len(rises)} of {batches} batches: tables that doubled")
    gaps = 0.0 if one_step else FLAT_GAPS * last / len(rises)
    tail = max(terms.patience, math.ceil(min(max(batches * FLAT_TAIL, gaps), FLAT_BATCHES)))
    risen_late = low[-1] - low[max(0, batches - tail)]
    if risen_late <= 0:
        return steady(f"rose by {rise} and stopped after {series.runs[last] - series.runs[0]} runs")
    if risen_late <= series.swing and low[min(batches, max(1, batches - tail))] <= low[0]:
        return steady(f"swings by {_number(series.swing)} and returns")
    later = series.part(batches // 2)
    if later.feet.batches > 0 and later.feet.values[-1] <= later.feet.values[0]:
        return steady(f"swings by {_number(later.swing)} and returns")
    if series.rise <= terms.floor:
        why = f"rise of {rise} is below the floor of {_number(terms.floor)}"
        return Trend("steady", series.rise / series.total, series.rise, series.swing, why)
    return None


def _not_yet(series: Series) -> Trend:
    why = f"rose by {_number(series.rise)} in {series.total} runs, not in every stretch"
    return Trend("undecided", series.rise / series.total, series.rise, series.swing, why)


def _is_even(series: Series, turns: int) -> bool:
    """Whether every batch adds the same, but for one; or, of one object in N runs, k or k + 1 by turns, for at least
    so many batches. Such a series strays from the straight line by less than one step, and keys at random by more."""
    paces, rise = series.paces, series.rise
    if series.odd_ones == 0 or (series.odd_ones == 1 and len(paces) > SEGMENTS and rise >= EVEN_EVENTS * len(paces)):
        return rise >= EVEN_EVENTS
    step = (max(paces) - min(paces)) * series.total / len(paces)
    if len(paces) < turns or rise < EVEN_EVENTS * step:
        return False
    return len(set(paces)) == 2 and _crookedness(series) <= step


def _crookedness(series: Series) -> float:
    """The farthest that the floor strays from the straight line between its ends, in the counter's unit."""
    low, runs, slope = series.low, series.runs, series.rise / series.total
    return max(abs(value - low[0] - slope * (run - runs[0])) for run, value in zip(runs, low, strict=True))


def _starts(series: Series) -> list[int]:
    """Where growth may begin: after a flat beginning, at the baseline, or in the second half; the first from which it
    goes on gives the figure."""
    batches, low = series.batches, series.low
    flat = max(i for i in range(batches + 1) if low[i] <= low[0])
    return [start for start in dict.fromkeys((flat, 0, batches // 2)) if batches - start >= SEGMENTS]


def _slower_than_before(series: Series, start: int, turns: int) -> bool:
    """Whether it rises unevenly from ``start`` on, and slower than up to there. A store whose keys come ever more
    rarely does that, and a part of it is too short to tell: it is judged from its beginning."""
    later, sooner = series.part(start), series.up_to(start)
    return later.rise * sooner.total < sooner.rise * later.total and not _is_even(later, turns)


def _runs_until_flat(series: Series, spent: float) -> int:
    """Extrapolate a fading rise as an exponential: runs until less than one unit a stretch is left."""
    left = series.pace * series.total / SEGMENTS
    return int(series.total / spent * math.log(max(math.e, left)))
