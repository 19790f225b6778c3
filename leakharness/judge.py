"""The judge: readings in, verdict out. Pure.

A leak is growth that persists: after the warm-up, every stretch of runs leaves more behind than the one before
was left with, and goes on doing so. Size is no criterion for a counter that is exact. What is looked at is the
*floor* of a series, the running minimum from the right: what was never given back. A sawtooth's floor is flat, a
release that lags only shifts it, a cache that fills flattens it, a step raises it once.

Each counter has one rule in ``RULES``; the order is the policy. A rule answers *grows*, *steady* or *undecided*,
with the numbers that it used. Undecided asks for more runs.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from leakharness.model import COUNTERS, Detectable, Growth, Reading

__all__ = ["RULES", "Assessment", "Rule", "Trend", "assess", "detectable", "trend"]

State = Literal["grows", "steady", "undecided"]

SEGMENTS = 5
"""Equal stretches of the series, each of which must leave something behind. Five in a row by chance, for a floor
that only wobbles: (4/21)(4/17)(4/13)(4/9)(1) of 20 readings, under one in a hundred, before any other test."""
FLAT_TAIL = 0.5
"""Share of the series, at its end, that must be flat before a series that rose earlier is called steady,"""
FLAT_GAPS = 3.0
"""and how many times the mean distance of the rises before: a leak that strikes at random pauses so long by chance
once in twenty times,"""
FLAT_BATCHES = 30
"""but this many batches without a rise are enough in any case."""
FADING = 0.8
"""A rise that slows below this share of its earlier pace is a cache that fills, not a leak; ask for more runs."""
FADING_FEW = 0.4
"""The same where the rise is a handful of objects, whose pace cannot be told sharply."""
SLOWING = 0.98
"""An uneven rise that slows below this share, and by more than it is uneven, is a cache that fills slowly."""
FEW = 40
"""A rise below this many units is a handful."""
UNEVEN_BATCHES = 30
"""A leak adds the same in every batch. What rises unevenly may as well be a cache whose keys come at random, and
that slows too little to be seen in a short series: it is called a leak after this many batches at the earliest."""
EVEN = 0.01
"""Relative difference of two batches' rises that still counts as the same: table growth, a stray object or two."""
EVEN_STRAY = 0.6
"""How far a series of fewer batches than the following may stray from a straight line, in steps of k to k + 1."""
EVEN_EVENTS = 10
"""One object in N runs gives batches of k and k + 1. So many batches, and so many objects, before such a series is
called even: keys at random do the same by chance, in one series of a thousand of this length."""
AGREES = 0.05 + 1e-9
"""Relative difference of the median batch's pace and the whole's within which they agree; the last digit keeps a
series that lies just there on one side, whatever the size of its batches."""
SWING_FACTOR = 2.0
"""A rise must exceed this many times what the series has given back at some time: its own noise."""
LASTING = 10
"""Equal stretches, each of which must leave something behind, for a rise within the swings to be no noise: by chance
one series in three million does so (1/10!), and a saw's teeth do not."""
LASTING_BATCHES = 40
"""Batches from which on a series can be cut into so many stretches."""
EARLIER_MEMORY = 2.0
"""The pace of the warm-up counts until the measurement has lasted this many times as long: by then it shows itself
whether it slows, and a few chance events of a short warm-up must not stand against it for ever."""
SWING_MEMORY = 2.0
"""A rise that began after N batches may be the next tooth of a saw that was seen there, until it has lasted this many
times N."""
KIB = 1024
MALLOC_FLOOR_BYTES = 2 * KIB
"""Rise of malloc's bytes below which it is forgiven: a chunk may be handed out up to 16 bytes larger than asked for,
and tables of the program's own bookkeeping double now and then (steps of 500 to 2,000 bytes on clean code)."""
MAPPED_FLOOR_BYTES = 256 * KIB
"""Address space outside malloc grows by whole arenas of the small-object allocator (1 MiB), and by thread stacks."""
RSS_FLOOR_BYTES = 512 * KIB
"""Resident size alone: twice the largest step of one batch that was seen on code without a leak."""
STRAY_FLOORS = 4.0
"""At the end of the budget, a rise of an inexact counter up to this many floors, that did not come in every stretch,
is forgiven: a few tables doubled."""
CONTROL_FACTOR = 3.0
"""A rise must exceed this many times that of the control, the same loop with an empty body."""
LARGEST_LEAK = 10**9
"""A batch. What hides a leak of this size hides any."""
MAPPED_SHARE = 0.5
"""Resident size cannot grow for ever inside address space that does not: at least this share must be new."""


@dataclass(frozen=True)
class Rule:
    """How one counter is judged. ``patience``: batches without a rise before an earlier rise counts as over."""

    counter: str
    floor: float = 0.0
    patience: int = 3
    alone: bool = True
    """Whether this counter may call a leak when no other does (and no more trusted one contradicts)."""
    turns: int = EVEN_EVENTS
    """Batches of k or k + 1 by turns that are even enough. Five where the counter never moves on code without a leak:
    twelve tracked objects in 250 runs are a leak of one run in twenty."""


RULES: tuple[Rule, ...] = (
    Rule("tracked", patience=8, turns=SEGMENTS),
    Rule("fds", patience=8, turns=SEGMENTS),
    Rule("threads", patience=8, turns=SEGMENTS),
    Rule("children", patience=8, turns=SEGMENTS),
    Rule("tasks", patience=8, turns=SEGMENTS),
    Rule("objects", patience=5),
    Rule("blocks"),
    Rule("malloc_bytes", floor=MALLOC_FLOOR_BYTES),
    Rule("mapped_bytes", floor=MAPPED_FLOOR_BYTES),
    Rule("rss", floor=RSS_FLOOR_BYTES, alone=False),
)


_FLOORS = {rule.counter: rule.floor for rule in RULES}


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


@dataclass(frozen=True)
class Assessment:
    """The judge's answer: ``grows`` is a leak, ``steady`` is none, ``undecided`` asks for more runs."""

    state: State
    growth: tuple[Growth, ...]
    why: str
    forgiven: tuple[str, ...] = ()
    runs_needed: int | None = None


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


def assess(
    readings: Sequence[Reading],
    *,
    warm_up: Sequence[Reading] = (),
    control: Mapping[str, float] | None = None,
    max_tracked_retention: int | None = None,
    max_rss_growth_bytes: float | None = None,
    final: bool = False,
) -> Assessment:
    """Judge a whole measurement. ``control`` is the control arm's rise of each counter over the same number of
    runs. ``final``: no more runs can be made, so whatever is noise by its numbers is called steady now."""
    judged = [rule for rule in RULES if _values(readings, rule.counter) is not None]
    trends = _trends(judged, readings, warm_up, control, final=final)
    if any(found.state == "grows" for found in trends.values()):
        trends = _trends(judged, readings, warm_up, control, final=final, backed=True)
    growth: list[Growth] = []
    forgiven: list[str] = []
    for counter, found in trends.items():
        declared = _declared_per_run(readings, counter)
        growth.append(
            Growth(
                counter,
                found.per_run if found.state != "steady" else 0.0,
                found.state == "grows",
                f"{found.state}: {found.why}",
                declared,
                found.state,
            )
        )
        if declared * (readings[-1].runs - readings[0].runs) > _FLOORS[counter]:  # less is not counted anyway
            forgiven.append(
                f"{counter}: {_number(declared)} a run declared by the scenario (wedged, hold) and not counted"
            )
        if found.state == "steady" and found.rise > 0:
            forgiven.append(f"{counter}: {found.why}")
    over = _over_limits(readings, max_tracked_retention, max_rss_growth_bytes)
    growing = [g for g in growth if g.grows]
    if growing or over:
        why = over or "; ".join(f"{g.counter} {_signed(g.per_run)} a run" for g in growing)
        return Assessment("grows", tuple(growth), why, tuple(forgiven))
    open_ = [(name, t) for name, t in trends.items() if t.state == "undecided"]
    if open_:
        name, first = open_[0]
        needed = [t.runs_needed for _, t in open_ if t.runs_needed is not None]
        return Assessment(
            "undecided", tuple(growth), f"{name} {first.why}", tuple(forgiven), max(needed) if needed else None
        )
    return Assessment("steady", tuple(growth), "every counter stands still", tuple(forgiven))


def _trends(
    rules: Sequence[Rule],
    readings: Sequence[Reading],
    warm_up: Sequence[Reading],
    control: Mapping[str, float] | None,
    *,
    final: bool,
    backed: bool = False,
) -> dict[str, Trend]:
    """What each counter does, by its rule, in the rules' order."""
    runs = [reading.runs for reading in readings]
    recent = bool(warm_up) and runs[-1] - runs[0] <= EARLIER_MEMORY * warm_up[-1].runs
    trends: dict[str, Trend] = {}
    for rule in rules:
        found = trend(
            runs,
            _values(readings, rule.counter) or (),
            floor=_floor(rule, control),
            patience=rule.patience,
            earlier_pace=_earlier_pace(warm_up, rule.counter) if rule.floor == 0 and recent else None,
            final=final,
            backed=backed,
            turns=rule.turns,
        )
        found = _beside_others(rule, found, trends, final=final)
        if final and found.state == "undecided":
            found = _close(rule, found)
        trends[rule.counter] = found
    return trends


def detectable(readings: Sequence[Reading], control: Mapping[str, float] | None = None) -> Detectable:
    """The smallest leak per run that these very readings, had there been no more of them, would have been called
    FAIL with: leaks of k a batch are added to the series, k rising by a tenth, until one is called."""
    if len(readings) <= SEGMENTS:
        return Detectable()
    runs = [reading.runs for reading in readings]

    def smallest(counter: str) -> float | None:
        rule = next(rule for rule in RULES if rule.counter == counter)
        values = _values(readings, counter)
        if values is None:
            return None
        floor = _floor(rule, control)
        judged = partial(trend, runs, floor=floor, patience=rule.patience, final=True, turns=rule.turns)
        own = judged(values)
        if own.state == "grows":  # the leak that is there is not noise: take it out, and ask what else would show
            values = [v - math.floor(own.per_run * (r - runs[0])) for v, r in zip(values, runs, strict=True)]
        iters = runs[1] - runs[0]
        for a_batch in _leaks(floor / (len(runs) - 1)):
            planted = [v + a_batch * (r - runs[0]) // iters for v, r in zip(values, runs, strict=True)]
            if judged(planted).state == "grows":
                return a_batch / iters
        return None

    return Detectable(smallest("tracked"), smallest("objects"), smallest("blocks"), smallest("malloc_bytes"))


def _leaks(least: float) -> Iterator[int]:
    """Leaks a batch to try: whole numbers above ``least``, each about a tenth larger than the one before."""
    size = max(1, math.ceil(least))
    while size < LARGEST_LEAK:
        yield size
        size = max(size + 1, size * 11 // 10)


def _floor(rule: Rule, control: Mapping[str, float] | None) -> float:
    """The rise that is forgiven: an exact counter has none, the others that of the control several times over."""
    return max(rule.floor, CONTROL_FACTOR * (control or {}).get(rule.counter, 0.0)) if rule.floor else 0.0


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


def _values(readings: Sequence[Reading], counter: str) -> list[float] | None:
    """The counter's series without what was declared; None where any reading lacks it."""
    values = []
    for reading in readings:
        value = reading.counters.get(counter)
        if value is None:
            return None
        values.append(float(value - reading.declared.get(counter, 0)))
    return values


def _earlier_pace(warm_up: Sequence[Reading], counter: str) -> float | None:
    """Rise per run in the warm-up, without its first fifth, where everything is built for the first time."""
    values = _values(warm_up, counter)
    if values is None or len(values) < 4:
        return None
    first = next((i for i, r in enumerate(warm_up) if r.runs * 5 >= warm_up[-1].runs), 0)
    runs = warm_up[-1].runs - warm_up[first].runs
    if runs <= 0 or len(values) - first < 3:
        return None
    low = _floor_of(values)
    return (low[-1] - low[first]) / runs


def _declared_per_run(readings: Sequence[Reading], counter: str) -> float:
    total = readings[-1].runs - readings[0].runs
    if total <= 0:
        return 0.0
    return (readings[-1].declared.get(counter, 0) - readings[0].declared.get(counter, 0)) / total


def _beside_others(rule: Rule, found: Trend, others: Mapping[str, Trend], *, final: bool) -> Trend:
    """Resident size never decides alone: it backs an exact counter, or it needs new address space."""
    if rule.alone or found.state == "steady":
        return found
    if any(t.state == "grows" for t in others.values()):
        return found
    mapped = others.get("mapped_bytes")
    if mapped is not None and mapped.rise < MAPPED_SHARE * found.rise:
        if found.state == "grows" and not final:
            # Pages touched for the first time come to an end; a block that was taken much too large fills, and then
            # the next one is taken.
            why = f"{found.why}; inside address space that did not grow so far"
            return Trend("undecided", found.per_run, found.rise, found.swing, why)
        why = (
            f"rose by {_number(found.rise)} inside address space that did not grow, while no exact counter grows: "
            "pages touched for the first time, not a leak"
        )
        return Trend("steady", 0.0, found.rise, found.swing, why)
    return found


def _close(rule: Rule, found: Trend) -> Trend:
    """At the end of the budget: a rise within the series' own swings is noise, and resident size that does not rise
    in every stretch decides nothing; anything else stays open."""
    if found.rise <= SWING_FACTOR * found.swing and not found.lasting:
        return Trend("steady", 0.0, found.rise, found.swing, f"{found.why}; no more than its own noise")
    if not rule.alone:
        return Trend("steady", 0.0, found.rise, found.swing, f"{found.why}; resident size alone decides nothing")
    return found


def _over_limits(readings: Sequence[Reading], max_tracked: int | None, max_rss_bytes: float | None) -> str | None:
    """The hard limits on top of the judge, as the original harness has them."""
    first, last = readings[0], readings[-1]
    retained = last.counters.get("tracked", 0) - first.counters.get("tracked", 0)
    if max_tracked is not None and retained > max_tracked:
        return f"{retained} tracked objects retained, over the limit of {max_tracked} (--max-tracked-retention)"
    if max_rss_bytes is not None and "rss" in last.counters:
        grown = last.counters["rss"] - first.counters["rss"]
        if grown > max_rss_bytes:
            return (
                f"resident size grew by {grown / 2**20:.1f} MB, over the limit of {max_rss_bytes / 2**20:g} MB "
                "(--max-rss-growth-mb)"
            )
    return None


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.4g}"


assert tuple(COUNTERS) == tuple(rule.counter for rule in RULES)
