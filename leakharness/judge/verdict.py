"""The judge: readings in, verdict out. Pure.

A leak is growth that persists: after the warm-up, every stretch of runs leaves more behind than the one before
was left with, and goes on doing so. Size is no criterion for a counter that is exact. What is looked at is the
*floor* of a series, the running minimum from the right: what was never given back. A sawtooth's floor is flat, a
release that lags only shifts it, a cache that fills flattens it, a step raises it once.

Each counter has one rule in ``RULES``; the order is the policy. A rule answers *grows*, *steady* or *undecided*,
with the numbers that it used. Undecided asks for more runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from leakharness.judge.doubling import Doubling
from leakharness.judge.drains import Drain
from leakharness.judge.policy import (
    _FLOORS,
    CONTROL_FACTOR,
    EARLIER_MEMORY,
    EXCLUDED,
    FIRST_RUNS,
    HOLDERS,
    HOLDS_BYTES,
    LARGEST_LEAK,
    MAPPED_SHARE,
    NEARLY_FULL,
    RULES,
    SEGMENTS,
    SHOWN,
    SWING_FACTOR,
    USUAL_BLOCK_BYTES,
    Rule,
)
from leakharness.judge.series import Series, State, Trend, trend
from leakharness.model import COUNTERS, Detectable, Growth, Reading
from leakharness.units import number as _number
from leakharness.units import signed, size

__all__ = ["Assessment", "ResidentGrowth", "assess", "detectable", "explained", "swing_of", "unseen"]


@dataclass(frozen=True)
class Assessment:
    """The judge's answer: ``grows`` is a leak, ``steady`` is none, ``undecided`` asks for more runs."""

    state: State
    growth: tuple[Growth, ...]
    why: str
    forgiven: tuple[str, ...] = ()
    runs_needed: int | None = None
    last_step: int | None = None
    """Where all that grows grows in steps that double: the run of the process that the last one came in."""
    uneven: bool = False
    """Whether all that grows does so unevenly, as stores do whose keys come at random."""
    resident_open: bool = False
    """Whether resident size grows inside address space that does not, and nothing else does: the mappings tell."""


@dataclass(frozen=True)
class ResidentGrowth:
    """What the mappings say of resident size that grows inside address space that does not.

    ``ends``: it may be pages touched for the first time, which are no leak. ``goes on``: it was followed far enough,
    and there is room for more than any budget. ``evictable``: pages of files, only read, which the kernel takes back.
    """

    fate: Literal["ends", "goes on", "evictable"]
    why: str


def assess(
    readings: Sequence[Reading],
    *,
    warm_up: Sequence[Reading] = (),
    teeth: Mapping[str, float] | None = None,
    control: Mapping[str, float] | None = None,
    max_tracked_retention: int | None = None,
    max_rss_growth_bytes: float | None = None,
    final: bool = False,
    resident: ResidentGrowth | None = None,
) -> Assessment:
    """Judge a whole measurement. ``teeth``: how far each counter rose and fell within one batch, where that was looked
    at. ``control``: the control arm's rise of each over as many runs. ``final``: no more runs can be made, so what is
    noise by its numbers is called steady now. ``resident``: what the mappings say, where they were asked for."""
    judged = [rule for rule in RULES if _values(_rows(rule, readings), rule.counter) is not None]
    trends = _trends(judged, readings, warm_up, teeth or {}, control, final=final, resident=resident)
    if any(found.state == "grows" for found in trends.values()):
        trends = _trends(judged, readings, warm_up, teeth or {}, control, final=final, backed=True, resident=resident)
    trends = _beside_what_goes(_references_explained(trends), readings, final=final)
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
            why = f"{_number(declared)} a run declared by the scenario (wedged, hold) and not counted"
            forgiven.append(f"{counter}: {why}")
        if found.state == "steady" and found.rise > 0:
            forgiven.append(f"{counter}: {found.why}")
    over = _over_limits(readings, max_tracked_retention, max_rss_growth_bytes)
    growing = [g for g in growth if g.grows]
    if growing or over:
        why = over or "; ".join(_in_words(g, trends[g.counter]) for g in growing)
        if resident is not None and [g.counter for g in growing] == ["rss"]:
            why = f"{why}, {resident.why}"
        grow = [trends[g.counter] for g in growing]
        return replace(_leak(grow), growth=tuple(growth), why=why, forgiven=tuple(forgiven))
    open_ = [(name, t) for name, t in trends.items() if t.state == "undecided"]
    if open_:
        name, first = open_[0]
        needed = [t.runs_needed for _, t in open_ if t.runs_needed is not None]
        return Assessment(
            "undecided",
            tuple(growth),
            f"{name} {first.why}",
            tuple(forgiven),
            max(needed) if needed else None,
            resident_open=any(t.mappings_tell for _, t in open_),
        )
    return Assessment("steady", tuple(growth), "every counter stands still", tuple(forgiven))


def explained(found: Assessment, why: str) -> Assessment:
    """The same with all that grows as steady, for the reason that was found elsewhere."""
    growth = tuple(
        row if row.state == "steady" else replace(row, per_run=0.0, grows=False, rule=f"steady: {why}", state="steady")
        for row in found.growth
    )
    return replace(found, state="steady", growth=growth, why=why, forgiven=(*found.forgiven, why))


def _references_explained(trends: Mapping[str, Trend]) -> dict[str, Trend]:
    """Objects that come to stay, those of C code included, refer to their type, their module, their callbacks; what
    they refer to is no finding of its own."""
    behind = next((name for name in HOLDERS if name in trends and trends[name].state == "grows"), None)
    lost = trends.get("references")
    if behind is None or lost is None or lost.state == "steady":
        return dict(trends)
    why = f"{lost.why}; explained by the {COUNTERS[behind]} that grow"
    return {**trends, "references": Trend("steady", 0.0, lost.rise, lost.swing, why)}


def _beside_what_goes(trends: Mapping[str, Trend], readings: Sequence[Reading], *, final: bool) -> dict[str, Trend]:
    """What comes to stay while as much of what was there at the baseline goes, judged by itself."""
    runs = [reading.runs for reading in readings]
    found = dict(trends)
    for counter, (went, why) in _drain(readings).hides().items():
        values, known = _values(readings, counter), found.get(counter)
        if values is None or known is None or known.state == "grows":
            continue
        rule = next(rule for rule in RULES if rule.counter == counter)
        new = [here + gone for here, gone in zip(values, went, strict=True)]
        alone = trend(runs, new, floor=0.0, patience=rule.patience, final=final, turns=rule.turns)
        if alone.state != "steady":
            found[counter] = replace(alone, why=f"{alone.why}; {why}")
    return found


def _drain(readings: Sequence[Reading]) -> Drain:
    """What went of what was there at the baseline."""
    counters = ("given_back", "drained", "entries")
    return Drain([reading.runs for reading in readings], *(_values(readings, name) for name in counters))


def _trends(
    rules: Sequence[Rule],
    readings: Sequence[Reading],
    warm_up: Sequence[Reading],
    teeth: Mapping[str, float],
    control: Mapping[str, float] | None,
    *,
    final: bool,
    backed: bool = False,
    resident: ResidentGrowth | None = None,
) -> dict[str, Trend]:
    """What each counter does, by its rule, in the rules' order."""
    runs = [reading.runs for reading in readings]
    recent = bool(warm_up) and runs[-1] - runs[0] <= EARLIER_MEMORY * warm_up[-1].runs
    trends: dict[str, Trend] = {}
    for rule in rules:
        rows = _rows(rule, readings)
        settled = _settling_in(warm_up, rule.counter) if rule.floor == 0 else None
        found = trend(
            [reading.runs for reading in rows],
            _values(rows, rule.counter) or (),
            floor=_floor(rule, control),
            patience=rule.patience,
            before=settled if recent else None,
            tooth=max(_tooth(warm_up, rows, rule.counter), teeth.get(rule.counter, 0.0)),
            final=final,
            backed=backed,
            turns=rule.turns,
            waits=rule.alone and _floor(rule, control) == rule.floor,
            earlier=_pace_of(settled),
        )
        if final and found.state == "undecided":
            found = _close(rule, found)
        if rule.tables and found.state != "grows":
            found = _in_doublings(rule, found, warm_up, rows, final=final)
        found = _beside_others(rule, found, trends, resident)
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

    return Detectable(
        smallest("tracked"), smallest("objects"), smallest("blocks"), smallest("malloc_bytes"), smallest("mapped_bytes")
    )


def unseen(
    readings: Sequence[Reading],
    objects: float,
    native_bytes: float,
    *,
    final: bool,
    control: Mapping[str, float] | None = None,
    resident: ResidentGrowth | None = None,
    warm_up: Sequence[Reading] = (),
) -> tuple[str, ...]:
    """The counters in which a leak of so many objects, or bytes of malloc, a run would not have been called.

    What a platform does not have is not asked for; it is listed as blind. ``final``: no more runs can be made, and a
    leak that stands so far above the noise that there is no PASS counts as seen as well, but where there may be one.
    ``resident`` is what the mappings say of resident size, where they were asked; ``warm_up`` as in :func:`assess`: a
    leak would have been there in it, too.
    """
    runs = [reading.runs for reading in readings]
    asked = {"tracked": objects, "objects": objects, "blocks": objects, "malloc_bytes": native_bytes}
    missed = []
    for rule in RULES:
        values = _values(readings, rule.counter)
        if rule.counter not in asked or values is None:
            continue
        per_run, floor = asked[rule.counter], _floor(rule, control)
        more = [math.floor(per_run * (run - runs[0])) for run in runs]
        before = _pace_of(_settling_in(warm_up, rule.counter) if rule.floor == 0 else None)
        terms = partial(trend, floor=floor, patience=rule.patience, final=True, turns=rule.turns)

        def judged(
            window: slice, series: list[float], earlier: float, rule: Rule = rule, terms: partial[Trend] = terms
        ) -> Trend:
            found = terms(runs[window], series[window], earlier=earlier)
            return _close(rule, found) if found.state == "undecided" else found

        # What rose at first and came to rest must show it since then.
        later = len(runs) // 2 if len(runs) // 2 >= SEGMENTS else 0
        windows = (slice(0, None), slice(later, None))
        levels = (values, *_drain(readings).levelled(rule.counter, values))
        shown = any(
            _is_less_steep(Series(runs[window], level[window]), per_run)
            and _shows(
                judged(window, level, before),
                judged(window, [v + m for v, m in zip(level, more, strict=True)], before + per_run),
                final,
            )
            for level in levels
            for window in windows
        )
        if not shown or (final and _may_be_there(Series(runs, values), asked[rule.counter])):
            missed.append(rule.counter)
    pages = _values(readings, "rss")
    if resident is None and pages is not None and _rises_by(Series(runs, pages), native_bytes):
        missed.append("rss")
    return tuple(missed)


def _rises_by(series: Series, per_run: float) -> bool:
    """Whether a series rose by so much a run, and in its second half too: resident size that does so, and is not clear
    to grow, is no reason for a FAIL, and none for a PASS. One low reading at its end looks like rest, and is none."""
    later = series.part(series.batches // 2)
    return all(part.batches > 0 and part.rise >= per_run * part.total for part in (series, later))


def _may_be_there(series: Series, per_run: float) -> bool:
    """Whether a rise that was forgiven as noise may be a leak of so much a run: what only swings rises not so far in
    every stretch."""
    return series.rises_in_each(SEGMENTS) and series.rise >= per_run * series.total


def _is_less_steep(series: Series, per_run: float) -> bool:
    """Whether a leak of so much a run is excluded by the line through the series, or through the feet of a saw, where
    there are twice as many of these as stretches are asked for."""
    feet = series.feet
    lines = (series, feet) if feet.batches >= 2 * SEGMENTS else (series,)
    return any(line.slope_at_most(EXCLUDED) < per_run for line in lines)


def _shows(without: Trend, planted: Trend, final: bool) -> bool:
    """Whether a planted leak changes the answer: it is called, or, at the end, it prevents a PASS."""
    if without.state != "steady" or planted.state == "steady":
        return False
    more = planted.rise - max(0.0, without.rise)
    return planted.state == "grows" or (final and more > SWING_FACTOR * without.swing)


def _leaks(least: float) -> Iterator[int]:
    """Leaks a batch to try: whole numbers above ``least``, each about a tenth larger than the one before."""
    size = max(1, math.ceil(least))
    while size < LARGEST_LEAK:
        yield size
        size = max(size + 1, size * 11 // 10)


def _floor(rule: Rule, control: Mapping[str, float] | None) -> float:
    """The rise that is forgiven: an exact counter has none, the others that of the control several times over."""
    return max(rule.floor, CONTROL_FACTOR * (control or {}).get(rule.counter, 0.0)) if rule.floor else 0.0


def _rows(rule: Rule, readings: Sequence[Reading]) -> Sequence[Reading]:
    """The readings that a counter is judged by; none where fewer than two have it."""
    if not rule.sparse:
        return readings
    rows = [reading for reading in readings if rule.counter in reading.counters]
    return rows if len(rows) > 1 else ()


def _values(readings: Sequence[Reading], counter: str) -> list[float] | None:
    """The counter's series without what was declared; None where any reading lacks it."""
    values = []
    for reading in readings:
        value = reading.counters.get(counter)
        if value is None:
            return None
        values.append(float(value - reading.declared.get(counter, 0)))
    return values or None


def _settling_in(warm_up: Sequence[Reading], counter: str) -> Series | None:
    """The warm-up's series without its first fifth, where everything is built for the first time."""
    rows = [reading for reading in warm_up if reading.runs * 5 >= warm_up[-1].runs]
    values = _values(rows, counter)
    if values is None or len(values) < 3:
        return None
    return Series([reading.runs for reading in rows], values)


def _pace_of(settled: Series | None) -> float:
    """What a run of the warm-up left behind."""
    return max(0.0, settled.rise / settled.total) if settled is not None else 0.0


def _tooth(warm_up: Sequence[Reading], readings: Sequence[Reading], counter: str) -> float:
    """The largest rise and fall of a counter after the process's first runs, where everything is built."""
    early, late = _values(warm_up, counter) or [], _values(readings, counter) or []
    skipped = sum(reading.runs < FIRST_RUNS for reading in warm_up)
    shift = late[0] - early[-1] if early and late else 0.0  # some counters begin anew at the baseline
    values = [value + shift for value in early[skipped:]] + late
    return Series(range(len(values)), values).tooth if values else 0.0


def swing_of(readings: Sequence[Reading], counter: str) -> float:
    """The most that a counter gave back among these readings; 0 where one lacks it."""
    values = _values(readings, counter)
    return Series(range(len(values)), values).swing if values else 0.0


def _declared_per_run(readings: Sequence[Reading], counter: str) -> float:
    total = readings[-1].runs - readings[0].runs
    if total <= 0:
        return 0.0
    return (readings[-1].declared.get(counter, 0) - readings[0].declared.get(counter, 0)) / total


def _beside_others(rule: Rule, found: Trend, others: Mapping[str, Trend], resident: ResidentGrowth | None) -> Trend:
    """Resident size never decides alone: it backs an exact counter, or it needs new address space, or pages of what is
    there already are touched for ever, as the mappings tell."""
    if rule.alone or found.state == "steady":
        return found
    if any(t.state == "grows" for t in others.values()):
        return found
    if found.runs_needed is not None and all(t.state == "steady" for t in others.values()):
        return Trend("steady", 0.0, found.rise, found.swing, f"{found.why}; resident size alone decides nothing")
    mapped = others.get("mapped_bytes")
    if found.state == "undecided" or mapped is None:
        return found
    if mapped.rise >= MAPPED_SHARE * found.rise and mapped.state != "steady":  # one arena more is no growth
        blocks, malloc = (max(0.0, others[name].rise) if name in others else 0.0 for name in ("blocks", "malloc_bytes"))
        if blocks * USUAL_BLOCK_BYTES + malloc < MAPPED_SHARE * found.rise:
            return found
        why = f"{found.why}; but so does what blocks and malloc took, which does not grow for sure"
        return replace(found, state="undecided", why=why)
    if resident is None:
        why = f"{found.why}; inside address space that did not grow"
        return replace(found, state="undecided", why=why, mappings_tell=True)
    why = f"{found.why}; {resident.why}"
    if resident.fate == "evictable":
        return Trend("steady", 0.0, found.rise, found.swing, why)
    state: State = "grows" if resident.fate == "goes on" else "undecided"
    return replace(found, state=state, why=why)


def _close(rule: Rule, found: Trend) -> Trend:
    """At the end of the budget: a rise within the series' own swings is noise, and resident size that does not rise
    in every stretch decides nothing, and a store whose last keys come ever more rarely is full; anything else stays
    open."""
    if found.rise <= SWING_FACTOR * found.swing and not found.lasting:
        return Trend("steady", 0.0, found.rise, found.swing, f"{found.why}; no more than its own noise")
    if not rule.alone:
        return Trend("steady", 0.0, found.rise, found.swing, f"{found.why}; resident size alone decides nothing")
    if found.to_come <= NEARLY_FULL * (USUAL_BLOCK_BYTES if rule.floor else 1):
        why = f"{found.why}: a store that is nearly full, about {_number(max(1.0, round(found.to_come)))} more to come"
        return Trend("steady", 0.0, found.rise, found.swing, why)
    return found


def _in_words(growth: Growth, trend: Trend) -> str:
    steps = f", in {trend.why}" if trend.last_step is not None else ""
    return f"{growth.counter} {signed(growth.per_run)} a run{steps}"


def _leak(growing: Sequence[Trend]) -> Assessment:
    """What grows, without words."""
    uneven = all(found.uneven for found in growing)
    return Assessment("grows", (), "", last_step=_last_step(growing), uneven=uneven)


def _last_step(growing: Sequence[Trend]) -> int | None:
    """The run of the last step, where all that grows grows in steps that double."""
    steps = [found.last_step for found in growing if found.last_step is not None]
    return max(steps) if steps and len(steps) == len(growing) else None


def _in_doublings(
    rule: Rule, found: Trend, warm_up: Sequence[Reading], readings: Sequence[Reading], *, final: bool
) -> Trend:
    """Growth that shows only as tables that double, in the warm-up and the measurement; ``found`` where there is none.

    It is called when a step has just come: between two steps the store may have stopped. Where the entries, objects or
    blocks of the same stretch explain the steps, the store is judged by these.
    """
    built = [row for row in warm_up if row.runs >= FIRST_RUNS]  # what the first runs build is no step
    first = built[-1].runs if built else 0
    rows = [*built, *(replace(row, runs=first + row.runs - readings[0].runs) for row in readings)]
    series = _together(rows, built, rule.counter)
    steps = Doubling.of(series.runs, series.low) if series.batches > 0 else None
    if steps is None or steps.sizes[-1] <= rule.floor or series.runs[-1] > steps.overdue:
        return found
    held = max(_risen(_together(rows, built, name), steps.at[0], steps.at[-1]) for name in SHOWN)
    if held * HOLDS_BYTES >= sum(steps.sizes[1:]):
        return found
    rise, why = series.rise, steps.in_words(first)
    if steps.seen_lately(series.runs[-1]) and steps.at[-1] > first:
        return Trend("grows", steps.per_run, rise, found.swing, why, last_step=steps.at[-1])
    if final:
        return found
    return Trend("undecided", steps.per_run, rise, found.swing, f"{why}; the next one is due", lasting=True)


def _together(rows: Sequence[Reading], built: Sequence[Reading], counter: str) -> Series:
    """A counter from the warm-up to the end, one value a run; empty where a reading lacks it. What is counted exactly
    may begin anew at the baseline."""
    values = _values(rows, counter) or []
    if counter in SHOWN and built and values:
        before = len(built)
        ahead = values[before - 1] - values[before]
        values = [*values[:before], *(value + ahead for value in values[before:])]
    last = dict(zip((row.runs for row in rows), values, strict=False))
    return Series(list(last), list(last.values()))


def _risen(series: Series, since: int, until: int) -> float:
    """What a counter's floor rose by from one run to another."""
    within = [low for run, low in zip(series.runs, series.low, strict=True) if since <= run <= until]
    return within[-1] - within[0] if within else 0.0


def _over_limits(readings: Sequence[Reading], max_tracked: int | None, max_rss_bytes: float | None) -> str | None:
    """The hard limits on top of the judge, as the original harness has them."""
    first, last = readings[0], readings[-1]
    retained = last.counters.get("tracked", 0) - first.counters.get("tracked", 0)
    if max_tracked is not None and retained > max_tracked:
        return f"{retained} tracked objects retained, over the limit of {max_tracked} (--max-tracked-retention)"
    if max_rss_bytes is not None and "rss" in last.counters:
        grown = last.counters["rss"] - first.counters["rss"]
        if grown > max_rss_bytes:
            return f"resident size grew by {size(grown)}, over the limit of {size(max_rss_bytes)} (--max-rss-growth-mb)"
    return None


assert tuple(COUNTERS) == tuple(rule.counter for rule in RULES)
