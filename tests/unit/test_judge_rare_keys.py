"""Stores whose keys come ever more rarely, and leaks at random: told apart by the whole series alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from leakharness.judge.verdict import Assessment, assess
from leakharness.measure.following import followed_far_enough
from leakharness.measure.measurement import Measurement
from leakharness.model import Reading

WARM_UP = (1, 5, 10, 20, 40, 80, *range(130, 841, 50))
RUNS, A_BATCH, SEEDS = 10_000, 50, 20


def store(generator: random.Random, keys: int) -> Callable[[], int]:
    """Its size after one more key, of which the k-th is drawn with a chance of about k to the power of -1.8."""
    seen = set[int]()

    def size() -> int:
        seen.add(min(int(generator.paretovariate(0.8)), keys))
        return len(seen)

    return size


def leak(generator: random.Random, chance: float) -> Callable[[], int]:
    left = 0

    def size() -> int:
        nonlocal left
        left += generator.random() < chance
        return left

    return size


def judged(size: Callable[[], int], runs: int = RUNS, budget: int = RUNS) -> str:
    """At the end of ``runs``, of so many that may be made, after a warm-up."""
    warm_up = [Reading("warm-up", run, {"entries": value}) for run in range(1, WARM_UP[-1] + 1) for value in (size(),)]
    values = [size() for _ in range(runs + 1)]
    rows = [Reading(f"at {run}", run, {"entries": values[run]}) for run in range(0, runs + 1, A_BATCH)]
    return assess(rows, warm_up=[row for row in warm_up if row.runs in WARM_UP], final=runs == budget).state


@pytest.mark.parametrize("keys", [1_000, 5_000])
def test_rare_keys_of_a_store_are_no_leak(keys: int) -> None:
    """Some 30 more entries in each thousand runs, at the end: never called, whatever the draw, and not after half."""
    for seed in range(SEEDS):
        assert judged(store(random.Random(seed), keys)) != "grows", seed
    early = [judged(store(random.Random(seed), keys), RUNS // 2) for seed in range(SEEDS)]
    assert early.count("grows") <= 1


def test_a_store_of_few_rare_keys_is_full_before_it_slows_for_sure() -> None:
    """Three thousand runs are no time for a slow-down of two and a half standard errors (nine of twenty show it); that
    it was four times as fast in the warm-up says the same."""
    found = [judged(store(random.Random(seed), 100), 3_000, 3_000) for seed in range(SEEDS)]
    assert found.count("steady") >= 14
    assert "grows" not in found


@pytest.mark.parametrize(("chance", "least"), [(0.02, 12), (0.05, 17), (0.3, 17)])
def test_a_leak_at_random_is_called(chance: float, least: int) -> None:
    """Of twenty, so many at the end of the budget; none passes."""
    found = [judged(leak(random.Random(seed), chance)) for seed in range(SEEDS)]
    assert found.count("grows") >= least
    assert "steady" not in found


def measurement(left: int) -> Measurement:
    made = Measurement.__new__(Measurement)
    made.warm_up_runs, made.warm_up = 840, [Reading("warm-up", 1, {"entries": 0, "objects": 0})]
    made.readings = [Reading("b", 0, {"entries": 0}), Reading("b", 5_000, {"entries": left, "objects": 0})]
    return made


@pytest.mark.parametrize(("left", "uneven", "enough"), [(2_047, True, False), (2_048, True, True), (100, False, True)])
def test_growth_at_random_is_followed_by_entries_and_not_by_runs(left: int, uneven: bool, enough: bool) -> None:
    """A store that gets one key in forty runs is not full after 5,840 of them."""
    row = next(iter(assess([Reading("b", r * 50, {"entries": r}) for r in range(12)]).growth))
    found = Assessment("grows", (row,), "", uneven=uneven)
    assert row.grows
    assert followed_far_enough(measurement(left), found) is enough


@pytest.mark.parametrize("elsewhere", ["objects", "blocks"])
def test_only_what_grows_counts_as_entries(elsewhere: str) -> None:
    """What a process builds in its first runs, or takes once, is nothing that the store has got."""
    row = next(iter(assess([Reading("b", r * 50, {"entries": r}) for r in range(12)]).growth))
    found = Assessment("grows", (row,), "", uneven=True)
    made = measurement(100)
    made.readings[-1].counters[elsewhere] = 9_000
    made.warm_up[0].counters[elsewhere] = made.readings[0].counters[elsewhere] = 0
    assert not followed_far_enough(made, found)


@pytest.mark.parametrize(("objects", "enough"), [(252, False), (2_048, True)])
def test_entries_that_are_lists_count_once(objects: int, enough: bool) -> None:
    """A histogram for each label: nine entries come with each, and one object, of which it is open whether it grows."""
    rows = [Reading("b", r * 50, {"entries": 9 * r, "objects": r // 3}) for r in range(12)]
    growth = assess(rows).growth
    assert [row.state for row in growth] == ["undecided", "grows"]
    made = measurement(0)
    made.readings[0].counters.update(objects=0)
    made.readings[-1].counters.update(entries=9 * objects, objects=objects)
    assert followed_far_enough(made, Assessment("grows", growth, "", uneven=True)) is enough


def test_bytes_alone_count_as_entries_of_the_usual_size() -> None:
    row = next(iter(assess([Reading("b", r * 50, {"malloc_bytes": r * 5_000}) for r in range(12)]).growth))
    found = Assessment("grows", (row,), "", uneven=True)
    assert row.grows
    made = measurement(0)
    for left, enough in ((64 * 2_047, False), (64 * 2_048, True)):
        made.readings[0].counters["malloc_bytes"], made.readings[-1].counters["malloc_bytes"] = 7, 7 + left
        assert followed_far_enough(made, found) is enough
