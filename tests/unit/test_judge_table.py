"""What the judge says of a series: a table to read, then the rule stated once more without its shortcuts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakharness.judge import policy as judge
from leakharness.judge.policy import MALLOC_FLOOR_BYTES, MAPPED_FLOOR_BYTES, RSS_FLOOR_BYTES
from leakharness.judge.series import trend
from leakharness.judge.verdict import ResidentGrowth, assess, detectable, unseen
from leakharness.model import COUNTERS, Reading

ITERS = 50


def total(rises: Sequence[float]) -> list[float]:
    """A series from what each batch adds."""
    values = [0.0]
    for rise in rises:
        values.append(values[-1] + rise)
    return values


def runs_of(values: Sequence[float], iters: int = ITERS) -> list[int]:
    return [i * iters for i in range(len(values))]


def one_in(n: int, batches: int, first: int = 0) -> list[float]:
    """The series of a leak of one object in ``n`` runs, the first one in run ``first``."""
    return [float(len(range(first, i * ITERS, n))) for i in range(batches + 1)]


def readings(**series: Sequence[float]) -> list[Reading]:
    """One reading a batch, with a value of each counter."""
    rows = [dict(zip(series, map(int, row), strict=True)) for row in zip(*series.values(), strict=True)]
    return [Reading(f"batch-{i}", i * ITERS, row) for i, row in enumerate(rows)]


SAW = [0.0, 30, 60]
TABLE: list[tuple[str, list[float], str, float]] = [
    # what it is                              the counter, one value a batch        state      a run
    ("steady", total([0] * 5), "steady", 0),
    ("retained, a constant above nothing", [7.0] * 6, "steady", 0),
    ("one object a run", total([50] * 5), "grows", 1.0),
    ("three objects a run", total([150] * 5), "grows", 3.0),
    ("one in two runs", total([25] * 5), "grows", 0.5),
    ("one a batch, five batches", total([1] * 5), "undecided", 0.02),
    ("one a batch, ten batches", total([1] * 10), "grows", 0.02),
    ("one in 20 runs, 13 of 250", total([2, 3, 2, 3, 3]), "undecided", 0.052),
    ("one in 20 runs, 25 of 500", one_in(20, 10), "grows", 0.05),
    ("one in 100 runs, 5 of 500", one_in(100, 10, 40), "undecided", 0.01),
    ("one in 100 runs, 10 of 1000", one_in(100, 20, 40), "grows", 0.01),
    ("an odd batch among equal ones", total([50, 50, 83, 50, 50, 50]), "grows", 1.0),
    ("stops at once", total([50, 0, 0, 0, 0, 0]), "steady", 0),
    ("stops in the middle: wait", total([50, 50, 50, 0, 0, 0]), "undecided", 0.5),
    ("stopped in the middle", total([50, 50, 50, 0, 0, 0, 0]), "steady", 0),
    ("a step, early", total([0, 40, 0, 0, 0, 0, 0, 0]), "steady", 0),
    ("a step, late: wait", total([0, 0, 0, 40, 0]), "undecided", 0.16),
    ("a step, late, and nothing after it", total([0, 0, 0, 40] + [0] * 12), "steady", 0),
    ("a step in the last batch", total([0, 0, 0, 0, 40]), "undecided", 0.16),
    ("fills: each batch adds 70 % of the one before", total([int(100 * 0.7**i) for i in range(10)]), "undecided", 0.65),
    ("filled", total([64, 32, 16, 8, 4, 2, 1] + [0] * 8), "steady", 0),
    ("fills at random: uneven", total([41, 44, 40, 43, 39]), "undecided", 0.83),
    ("uneven for 30 batches, and no slower", total([41, 44, 40, 43, 39] * 6), "grows", 0.82),
    ("uneven for 30 batches, and slower", total([41 - i for i in range(30)]), "undecided", 0.53),
    ("late start", total([0, 0, 0, 50, 50]), "undecided", 0.4),
    ("late start, five batches on", total([0, 0, 0] + [50] * 5), "grows", 1.0),
    ("lagging by two batches, released", total([50, 50, 0, 0, 0, 0, 0]), "steady", 0),
    ("lagging by two batches, kept", [0.0, 0, 0, 50, 100, 150, 200, 250], "grows", 1.0),
    ("decreasing", [100.0, 90, 80, 70, 60, 50], "steady", 0),
    ("falls once, then leaks", total([-500, 50, 50, 50, 50, 50]), "grows", 1.0),
    ("a spike, then a leak", total([500, -500, 50, 50, 50, 50, 50]), "grows", 1.0),
    ("sawtooth of two batches", (SAW[:2] * 8)[:16], "steady", 0),
    ("sawtooth of three batches", (SAW * 6)[:16], "steady", 0),
    ("sawtooth of seven batches", [10.0 * (i % 7) for i in range(28)], "steady", 0),
    ("sawtooth of three and a leak of one a run", [50.0 * i + 30 * (i % 3) for i in range(31)], "grows", 1.0),
    ("noise of ±3", [3.0, 5, 2, 6, 3, 4, 2, 5, 3, 6, 2, 4], "steady", 0),
    ("noise of ±3 and a leak of one a run", [50.0 * i + (3, 5, 2, 6, 3)[i % 5] for i in range(31)], "grows", 1.0),
    ("too short to say", total([50, 50]), "undecided", 1.0),
]


@pytest.mark.parametrize(("values", "state", "per_run"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_series_is_what_the_table_says(values: list[float], state: str, per_run: float) -> None:
    """The judge's rule on an exact counter, as documentation."""
    found = trend(runs_of(values), values, patience=4)
    assert (found.state, found.per_run) == (state, pytest.approx(per_run, rel=0.03)), found.why


FLOORS = [("malloc_bytes", MALLOC_FLOOR_BYTES), ("mapped_bytes", MAPPED_FLOOR_BYTES), ("rss", RSS_FLOOR_BYTES)]


@pytest.mark.parametrize(("counter", "floor"), FLOORS)
def test_a_rise_at_the_floor_is_forgiven_and_one_above_is_not(counter: str, floor: int) -> None:
    """A counter of bytes has a floor: up to it the rise is forgiven by name, beyond it the leak is called."""
    assert next(rule.floor for rule in judge.RULES if rule.counter == counter) == floor
    at = assess(readings(**{counter: [floor * i / 5 for i in range(6)]}), final=True)
    assert at.state == "steady"
    assert "below the floor" in at.forgiven[0]
    assert assess(readings(**{counter: [(floor + 5) * i / 5 for i in range(6)]})).state == "grows"


def test_exact_counters_have_no_floor() -> None:
    """Size is no criterion for a counter that is exact."""
    exact = (
        "tracked",
        "fds",
        "threads",
        "children",
        "tasks",
        *("interpreters", "watches", "locks", "timers", "temp_files"),
        *("unlinked_bytes", "shm_bytes", "unread_bytes"),
        "objects",
        "references",
        "given_away",
        "entries",
        "blocks",
    )
    assert [rule.counter for rule in judge.RULES if rule.floor == 0] == list(exact)
    assert [rule.counter for rule in judge.RULES] == list(COUNTERS)


RSS_GROWS = [RSS_FLOOR_BYTES * 2.0 * i for i in range(6)]


@pytest.mark.parametrize(
    ("beside", "state"),
    [
        ({}, "grows"),
        ({"mapped_bytes": RSS_GROWS}, "grows"),
        ({"mapped_bytes": [0.0] * 6}, "undecided"),
        ({"mapped_bytes": [value * 0.4 for value in RSS_GROWS]}, "grows"),
        ({"mapped_bytes": [0.0] * 6, "objects": total([50] * 5)}, "grows"),
    ],
    ids=["alone", "with new address space", "inside old address space", "mapped itself grows", "beside objects"],
)
def test_resident_size_never_decides_alone(beside: dict[str, list[float]], state: str) -> None:
    """Resident size backs another counter, or new address space. Inside the old one it comes to an end, or new space
    is taken: that takes more runs."""
    found = assess(readings(rss=RSS_GROWS, **beside))
    assert found.state == state


@pytest.mark.parametrize(
    ("resident", "state"),
    [
        (None, "undecided"),
        (ResidentGrowth("ends", "in a buffer that is not full"), "undecided"),
        (ResidentGrowth("evictable", "pages of files that were read"), "steady"),
        (ResidentGrowth("goes on", "in an arena"), "grows"),
    ],
    ids=["not looked at", "a buffer", "a file that is read", "an arena"],
)
@pytest.mark.parametrize("final", [False, True])
def test_the_mappings_tell_what_resident_size_alone_is(
    resident: ResidentGrowth | None, state: str, final: bool
) -> None:
    """Rising with no new address space and nothing else that grows: asked for until it is known, and then said."""
    found = assess(readings(rss=RSS_GROWS, mapped_bytes=[0.0] * 6), final=final, resident=resident)
    assert found.state == state
    assert found.resident_open is (resident is None)
    assert resident is None or resident.why in " ".join([found.why, *found.forgiven])


def saw_with_leak(batches: int, tooth: int = 4, height: float = 50, leak: float = 5.7) -> list[float]:
    """Every ``tooth`` batches all is given back but ``leak``."""
    return [float(int(leak * (i // tooth)) + height * (i % tooth)) for i in range(batches + 1)]


@pytest.mark.parametrize("final", [False, True])
def test_a_leak_below_a_saw_is_not_its_noise(final: bool) -> None:
    """What each of many stretches leaves behind is no noise, though the saw swings by more: never steady."""
    found = trend(runs_of(saw := saw_with_leak(100)), saw, final=final)
    assert found.state != "steady"
    assert assess(readings(blocks=saw), final=True).state != "steady"
    long = trend(runs_of(saw := saw_with_leak(180)), saw)
    assert (long.state, long.per_run) == ("grows", pytest.approx(5.7 / 200, rel=0.05))
    clean = saw_with_leak(180, leak=0)
    assert trend(runs_of(clean), clean).state == "steady"


def test_the_pace_of_a_short_warm_up_does_not_count_for_ever() -> None:
    """A few chance events of the warm-up made it look fast: that stands against a leak for twice as long."""
    chance = random.Random(1)
    series = readings(blocks=total([2 * sum(chance.random() < 1 / 60 for _ in range(ITERS)) for _ in range(200)]))
    warm = [Reading("warm-up", i * ITERS, {"blocks": int(4.5 * i)}) for i in range(13)]
    assert assess(series[:13], warm_up=warm, final=True).state == "undecided"
    assert assess(series, warm_up=warm, final=True).state == "grows"


def test_tables_that_doubled_are_forgiven_after_a_long_series_alone() -> None:
    """A short budget that ends shows nothing of a slow leak of malloc's bytes."""
    short = [0.0, 0, 600, 600, 600, 1200, 1200]
    assert assess(readings(malloc_bytes=[6 * v for v in short]), final=True).state == "undecided"
    long = [0.0] * 9 + [4000.0] * 12 + [8000.0] * 12
    assert assess(readings(malloc_bytes=long), final=True).state == "steady"


def test_declared_growth_is_not_growth_and_is_named() -> None:
    """What the scenario keeps on purpose is taken off, and listed."""
    held = [Reading("b", i * ITERS, {"objects": i * ITERS}, {"objects": i * ITERS}) for i in range(6)]
    found = assess(held)
    assert found.state == "steady"
    assert found.growth[0].declared == 1.0
    assert found.forgiven == ("objects: 1 a run declared by the scenario (wedged, hold) and not counted",)
    more = [Reading("b", i * ITERS, {"objects": 3 * i * ITERS}, {"objects": i * ITERS}) for i in range(6)]
    assert [(g.per_run, g.declared) for g in assess(more).growth] == [(2.0, 1.0)]


@pytest.mark.parametrize(("retained", "state"), [(15, "steady"), (16, "steady"), (17, "grows")])
def test_the_hard_limit_of_tracked_objects(retained: int, state: str) -> None:
    """--max-tracked-retention allows its number, and not one more, whatever the series does."""
    series = readings(tracked=[0.0] + [float(retained)] * 12)
    assert assess(series, max_tracked_retention=16).state == state


@pytest.mark.parametrize(("over", "state"), [(-1, "steady"), (0, "steady"), (1, "grows")])
def test_the_hard_limit_of_resident_size(over: int, state: str) -> None:
    """--max-rss-growth-mb likewise, in bytes."""
    limit = 64 * 2**20
    series = readings(rss=[0.0] + [float(limit + over)] * 12, mapped_bytes=[0.0] * 13)
    assert assess(series, max_rss_growth_bytes=limit).state == state


def test_a_counter_that_is_absent_is_not_judged() -> None:
    """Absent is not zero: the counter has no word in the verdict."""
    found = assess(readings(objects=total([0] * 5)))
    assert [g.counter for g in found.growth] == ["objects"]
    gap = [*readings(objects=total([0] * 5), blocks=total([50] * 5))[:-1], Reading("b", 250, {"objects": 0})]
    assert [g.counter for g in assess(gap).growth] == ["objects"]


def test_references_are_judged_by_the_readings_that_have_them() -> None:
    """Standing still from end to end is standing still; a difference asks for more readings."""
    rows = [Reading("b", 50 * i, {"objects": 0}) for i in range(6)]
    ends = [Reading("b", 0, {"objects": 0, "references": 0}), *rows[1:-1]]
    last = Reading("b", 250, {"objects": 0, "references": 250})
    assert assess([*ends, rows[-1]]).growth[-1].counter == "objects"
    assert assess([*ends, replace(last, counters={"references": 0, "objects": 0})]).state == "steady"
    assert assess([*ends, last]).state == "undecided"
    more = [Reading("b", 250 + 50 * i, {"objects": 0, "references": 250 + 50 * i}) for i in range(1, 5)]
    assert assess([*ends, last, *more[:3]]).state == "undecided"
    found = assess([*ends, last, *more])
    assert (found.state, found.why) == ("grows", "references +1 a run")


@pytest.mark.parametrize("counter", ["tracked", "objects", "blocks"])
def test_references_of_what_grows_are_explained_by_it(counter: str) -> None:
    """An object that C code keeps refers to its type and callbacks: that is not told twice. Bytes explain nothing."""
    found = assess(readings(**{counter: total([50] * 5), "references": total([100] * 5)}))
    assert [row.counter for row in found.growth if row.grows] == [counter]
    assert any("references" in line and "explained by" in line for line in found.forgiven)
    found = assess(readings(malloc_bytes=total([50_000] * 5), references=total([100] * 5)))
    assert [row.counter for row in found.growth if row.grows] == ["references", "malloc_bytes"]


def test_a_counter_that_grows_backs_those_that_grow_unevenly() -> None:
    """Once one counter grows for sure, its neighbours need not rise evenly to be named."""
    uneven = total([900, 1900, 800, 2900, 1000])
    assert assess(readings(malloc_bytes=uneven)).state == "undecided"
    found = assess(readings(objects=total([50] * 5), malloc_bytes=uneven))
    assert {g.counter: g.grows for g in found.growth} == {"objects": True, "malloc_bytes": True}


def test_the_warm_up_s_pace_unmasks_a_cache_that_fills_slowly() -> None:
    """A rise that was faster in the warm-up fades, even where it looks even by itself."""
    looks = (0, 50, 100, 200, 300, 400)
    warm_up = [Reading("w", run, {"objects": int(1000 * (1 - 0.99 ** (run / 5)))}) for run in looks]
    even = readings(objects=total([30] * 5))
    assert assess(even).state == "grows"
    assert assess(even, warm_up=warm_up).state == "undecided"


def test_the_reason_of_an_undecided_fill_says_how_many_runs_it_takes() -> None:
    """A fading rise is extrapolated."""
    found = trend(runs_of([0] * 16), total([int(1000 * 0.8**i) for i in range(15)]))
    assert found.state == "undecided"
    assert "slows to" in found.why
    assert 500 < (found.runs_needed or 0) < 5000


# -- the rule, stated without shortcuts


def naive_floor(values: Sequence[float]) -> list[float]:
    return [min(values[i:]) for i in range(len(values))]


def never_given_back(values: Sequence[float]) -> float:
    return naive_floor(values)[-1] - naive_floor(values)[0]


series = st.lists(st.integers(-1000, 1000).map(float), min_size=2, max_size=45)
rising = st.lists(st.integers(0, 30).map(float), min_size=5, max_size=45).map(total)


@given(st.one_of(series, rising))
def test_the_rule_against_its_own_statement(values: list[float]) -> None:
    """What is called a leak rose in each fifth of some stretch that reaches the end, and by more than twice what
    the series ever gave back; what never rose is steady; the rise is that of the floor."""
    runs = runs_of(values)
    found = trend(runs, values)
    floor = naive_floor(values)
    assert found.rise == never_given_back(values)
    if found.rise <= 0:
        assert found.state == "steady"
    if found.state == "grows":
        assert any(_rises_in_every_fifth(values[start:]) for start in range(len(values) - judge.SEGMENTS))
        assert floor[-1] > floor[len(floor) // 2]
        assert found.per_run > 0


def _rises_in_every_fifth(values: Sequence[float]) -> bool:
    floor, batches = naive_floor(values), len(values) - 1
    cuts = [round(i * batches / 5) for i in range(6)]
    swing = max(value - low for value, low in zip(values, floor, strict=True))
    rises = [floor[cuts[i + 1]] - floor[cuts[i]] for i in range(5)]
    return min(rises) > 0 and floor[-1] - floor[0] > 2 * swing


@given(st.one_of(series, rising), st.integers(-(10**6), 10**6))
def test_a_constant_changes_nothing(values: list[float], constant: int) -> None:
    """Only differences are judged."""
    runs = runs_of(values)
    assert trend(runs, [value + constant for value in values]) == trend(runs, values)


@given(st.one_of(series, rising), st.integers(1, 1000))
def test_the_size_of_a_batch_changes_only_the_figure(values: list[float], iters: int) -> None:
    """A series says the same whatever number of runs its batches have; the figure is per run."""
    one, other = trend(runs_of(values), values), trend(runs_of(values, iters), values)
    assert other.state == one.state
    assert other.per_run * iters == pytest.approx(one.per_run * ITERS)


@given(st.integers(0, 10**6), st.integers(1, 1000), st.integers(5, 40), st.integers(1, 100))
def test_a_leak_of_one_or_more_a_run_in_a_steady_series_is_always_called(
    constant: int, per_run: int, batches: int, iters: int
) -> None:
    """The exact counters' promise; ten objects at the least, so that keys at random are not taken for a leak."""
    values = [float(constant + per_run * iters * i) for i in range(batches + 1)]
    found = trend(runs_of(values, iters), values)
    if per_run * iters * batches >= judge.EVEN_EVENTS:
        assert (found.state, found.per_run) == ("grows", per_run)
    else:
        assert found.state == "undecided"


@given(st.integers(1, 5), st.integers(5, 30), st.lists(st.integers(0, 20).map(float), min_size=61, max_size=61))
def test_a_leak_far_above_the_noise_is_called_within_sixty_batches(
    per_run: int, noise: int, wobble: list[float]
) -> None:
    """Noise of up to twenty objects hides no leak of one a run for longer than sixty batches. (After thirty, two
    readings of it in the wrong places can still look like a slow-down of two per cent, which asks for more.)"""
    values = [per_run * ITERS * i + min(w, noise) for i, w in enumerate(wobble)]
    found = trend(runs_of(values), values)
    assert found.state == "grows"
    assert found.per_run == pytest.approx(per_run, rel=0.051)  # a twentieth, judge.AGREES, of either


def verdict_of(rises: Callable[[], float], batches: int = 200, patience: int = 5) -> str:
    """What the loop comes to: a look after every batch from the fifth on, until it is clear."""
    values = [0.0]
    for batch in range(1, batches + 1):
        values.append(rises() if rises.__name__ == "level" else values[-1] + rises())
        if batch < 5:
            continue
        found = trend(runs_of(values), values, patience=patience, final=batch == batches)
        if found.state != "undecided":
            return found.state
    return "undecided"


@pytest.mark.parametrize("bound", [1, 3, 10, 1000])
def test_bounded_noise_is_never_called_a_leak(bound: int) -> None:
    """Of 300 series of independent noise, looked at after each of up to 200 batches, none is called a leak."""
    draw = random.Random(bound)

    def level() -> float:
        return float(draw.randint(0, bound))

    called = [verdict_of(level) for _ in range(300)]
    assert called.count("grows") == 0


@pytest.mark.slow
@pytest.mark.parametrize("keys", [50, 300, 1000, 3000])
def test_a_cache_whose_keys_come_at_random_is_not_called_a_leak(keys: int) -> None:
    """It rises in every stretch and slows imperceptibly: of 40 such caches none is a leak, full or not."""
    called = []
    for seed in range(40):
        draw, seen = random.Random(seed), set[int]()

        def fill(draw: random.Random = draw, seen: set[int] = seen) -> float:
            before = len(seen)
            seen.update(draw.randrange(keys) for _ in range(ITERS))
            return float(len(seen) - before)

        called.append(verdict_of(fill))
    assert called.count("grows") == 0
    if keys <= 300:
        assert called.count("steady") == len(called)


def test_a_store_whose_last_keys_come_ever_more_rarely_is_full_at_the_end_of_the_budget() -> None:
    """A histogram's outer buckets (Gauss): steady once no more runs can be made. A leak at random is never that."""
    for seed in range(6):
        draw, seen, values = random.Random(seed), set[int](), [0.0]
        seen.update(int(draw.gauss(250, 60)) for _ in range(700))
        first = len(seen)
        for _ in range(200):
            seen.update(int(draw.gauss(250, 60)) for _ in range(ITERS))
            values.append(float(len(seen) - first))
        found = assess(readings(objects=values), final=True)
        assert found.state == "steady", found.why
        leak = total([float(sum(draw.random() < 0.02 for _ in range(ITERS))) for _ in range(200)])
        assert assess(readings(objects=leak), final=True).state != "steady"


@pytest.mark.parametrize(("leak", "missed"), [(1.0, ("blocks",)), (0.0, ())])
def test_what_was_forgiven_as_noise_is_not_said_to_have_been_seen(leak: float, missed: tuple[str, ...]) -> None:
    """One object a run below a saw that is too tall for it at the end of the budget: no PASS. The saw alone passes."""
    batches = 50 if leak else 70
    saw = [leak * ITERS * i + 55.0 * ITERS * ((i + 3) % 5) for i in range(batches + 1)]
    assert assess(readings(blocks=saw), final=True).state == "steady"
    assert unseen(readings(blocks=saw), 1.0, 4096.0, final=True) == missed


@pytest.mark.parametrize(("paces", "state"), [((1.0, 0.6, 0.35, 0.25), "steady"), ((0.0, 0.0, 0.0, 0.0), "undecided")])
def test_a_store_that_filled_far_faster_in_the_warm_up_needs_less_certainty(
    paces: tuple[float, ...], state: str
) -> None:
    """A few keys that come ever more rarely: full at the end of the budget, if the warm-up says the same."""
    rises = [1, 2, 0, 1, 2, 1, 0, 1, 1, 0, 2, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1]
    values = [0.0, *itertools.accumulate(map(float, rises))]
    warm = [Reading("warm-up", 150 * i, {"entries": round(150 * sum(paces[:i]))}) for i in range(len(paces) + 1)]
    assert assess(readings(entries=values), warm_up=warm, final=True).state == state


@pytest.mark.parametrize(
    ("block_bytes", "state"), [(100, "grows"), (66, "grows"), (62, "undecided"), (50, "undecided")]
)
def test_resident_size_is_no_leak_of_its_own_where_blocks_account_for_it(block_bytes: int, state: str) -> None:
    """A cache that is filled takes blocks and address space, and then neither; its pages are touched a little later.
    USUAL_BLOCK_BYTES: so much a block accounts for half of it, or does not."""
    rss = [RSS_FLOOR_BYTES * float(i) for i in range(31)]
    mapped = [min(value, RSS_FLOOR_BYTES * 16.0) for value in rss]
    blocks = [min(value, rss[20]) * 0.75 / block_bytes for value in rss]
    found = assess(readings(rss=rss, mapped_bytes=mapped, blocks=blocks))
    assert {g.counter: g.state for g in found.growth}["rss"] == state


def test_a_large_store_is_not_full_because_it_slows() -> None:
    """Some thousand keys to come: open."""
    values = [5000 * (1 - 0.9998 ** (i * ITERS)) for i in range(100)]
    assert assess(readings(objects=values), final=True).state == "undecided"


@pytest.mark.slow
@pytest.mark.parametrize("chance", [0.5, 0.1, 0.02])
def test_a_leak_that_strikes_at_random_is_called_nearly_always(chance: float) -> None:
    """One run in two, ten or fifty at random: 54 of 60 such leaks are called within 10,000 runs."""
    called = []
    for seed in range(60):
        draw = random.Random(seed)

        def strike(draw: random.Random = draw) -> float:
            return float(sum(draw.random() < chance for _ in range(ITERS)))

        called.append(verdict_of(strike))
    assert called.count("grows") >= 54


@pytest.mark.parametrize("every", [1, 2, 3, 7, 20, 37, 50, 51, 75, 99, 100, 150])
def test_a_leak_that_strikes_regularly_is_called_exactly(every: int) -> None:
    """One object in N runs, whatever its phase: called within 10 of them or 500 runs, and the figure is 1/N."""
    for phase in range(0, every, max(1, every // 7)):
        batches = max(10, -(-10 * every // ITERS) + 2)
        values = one_in(every, batches, phase)
        found = trend(runs_of(values), values, patience=5)
        assert found.state == "grows", (phase, found.why)
        assert found.per_run == pytest.approx(1 / every, rel=0.12)


# -- detectable


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6).map(float), min_size=8, max_size=30))
def test_detectable_is_truthful(noise: list[float]) -> None:
    """A leak of the figure that it names, planted into the very same series, is called at its end."""
    data = readings(tracked=[0.0] * len(noise), objects=noise)
    figure = detectable(data)
    for counter, per_run in (("tracked", figure.tracked_per_run), ("objects", figure.objects_per_run)):
        assert per_run is not None
        more = [{**r.counters, counter: r.counters[counter] + round(per_run * r.runs)} for r in data]
        planted = [replace(r, counters=counters) for r, counters in zip(data, more, strict=True)]
        found = {g.counter: g.state for g in assess(planted, final=True).growth}
        assert found[counter] == "grows", (counter, per_run)


def test_detectable_of_a_silent_series_is_a_few_objects_in_all() -> None:
    """250 runs without any noise would have shown one object in 50 runs, and native bytes just above the floor."""
    figure = detectable(readings(tracked=[0.0] * 6, objects=[0.0] * 6, blocks=[5.0] * 6, malloc_bytes=[0.0] * 6))
    assert figure.tracked_per_run == figure.objects_per_run == figure.blocks_per_run
    assert figure.objects_per_run == 1 / ITERS
    assert figure.native_bytes_per_run is not None
    assert MALLOC_FLOOR_BYTES / 250 <= figure.native_bytes_per_run <= 1.1 * MALLOC_FLOOR_BYTES / 250


def test_detectable_of_a_leaky_series_asks_what_else_would_show() -> None:
    """The leak that was found is not noise."""
    figure = detectable(readings(objects=total([50] * 5), tracked=[0.0] * 6))
    assert figure.objects_per_run == 1 / ITERS
    assert figure.native_bytes_per_run is None
