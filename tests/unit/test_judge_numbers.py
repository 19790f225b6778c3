"""Each number of the judge's policy at its edge: a series on either side of it, so that none can move unnoticed.

The figures here are written out and not taken from the policy: a change of one is a decision, and is made twice.
``tests/bench/judge_mutants.py`` moves each by half and says which of the moves no test notices.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
from test_judge_table import ITERS, readings, runs_of, total

from leakharness.judge.series import Filling, Series, Trend, trend
from leakharness.judge.verdict import assess, detectable, unseen
from leakharness.model import Reading


def judged(values: Sequence[float], **terms: object) -> Trend:
    return trend(runs_of(values), values, **terms)  # type: ignore[arg-type]


def state(values: Sequence[float], **terms: object) -> str:
    return judged(values, **terms).state


def spike(values: Sequence[float], at: int, height: float) -> list[float]:
    """The same series, which was higher once: its swing."""
    return [*values[:at], values[at] + height, *values[at + 1 :]]


def paced(paces: Sequence[float]) -> list[float]:
    """A series of stretches of three batches, each with its own pace, which no two of its batches have alike."""
    return total([pace * share for pace in paces for share in (1.05, 0.95, 1)])


def slowing(spent: float, error: float = 0.0) -> list[float]:
    """Thirty batches whose pace falls as that of a store does, ``spent`` = runs over keys, and of which every third is
    uneven, so that the standard error of ``spent`` is ``error``; both to within a twentieth."""
    uneven = error / (1.461 - 0.2 * error)
    slope = spent * (1 + 0.2 * uneven) / 0.99
    signs = (1, -1, 1, -1, 1, 1, -1, 1, -1, 1)
    return paced([1e6 * (1 + slope * (0.45 - i / 10) + uneven * sign) for i, sign in enumerate(signs)])


# -- what counts as a rise that lasts


@pytest.mark.parametrize(("batches", "found"), [(4, "undecided"), (5, "grows")])
def test_five_stretches_must_rise(batches: int, found: str) -> None:
    """SEGMENTS."""
    assert state(total([50] * batches)) == found
    assert state(total([50, 50, 0, 50, 50][:batches])) == "undecided"


@pytest.mark.parametrize(("height", "found"), [(240, "grows"), (250, "undecided"), (260, "undecided")])
def test_a_rise_must_be_more_than_twice_the_swing(height: float, found: str) -> None:
    """SWING_FACTOR."""
    swinging = spike(total([50, 0] * 10), 5, height)
    assert state(swinging) == found
    if found == "undecided":
        assert "it also swings" in judged(swinging).why


@pytest.mark.parametrize(("rise", "found"), [(150, "steady"), (200, "steady"), (210, "undecided")])
def test_a_late_rise_within_twice_the_swing_is_noise_at_the_end_of_the_budget(rise: float, found: str) -> None:
    """SWING_FACTOR again."""
    series = readings(blocks=[0, 100, 0, 0, 0, 0, rise])
    assert assess(series).state == "undecided"
    assert assess(series, final=True).state == found


def test_only_what_each_of_ten_stretches_leaves_behind_is_no_noise_of_a_large_swing() -> None:
    """LASTING and LASTING_BATCHES."""
    in_each_of_ten = spike(total([10, 0, 0, 0] * 10), 2, 1000)
    in_each_of_five = spike(total([20, 0, 0, 0, 0, 0, 0, 0] * 5), 2, 1000)
    assert state(in_each_of_ten) == "grows"
    assert state(in_each_of_ten[:-1]) == "undecided"
    assert state(in_each_of_five) == "undecided"


@pytest.mark.parametrize(("batches", "found"), [(11, "undecided"), (12, "grows")])
def test_a_rise_that_began_late_is_a_tooth_of_the_saw_before_for_twice_as_long(batches: int, found: str) -> None:
    """SWING_MEMORY."""
    assert state(spike(total([0] * 6 + [50] * batches), 2, 5000)) == found


# -- what counts as over


@pytest.mark.parametrize(("rising", "flat"), [(10, 10), (20, 20), (40, 30), (60, 30)])
def test_half_of_the_series_must_be_flat_or_thirty_batches(rising: int, flat: int) -> None:
    """FLAT_TAIL and FLAT_BATCHES."""
    assert state(total([50] * rising + [0] * flat)) == "steady"
    assert state(total([50] * rising + [0] * (flat - 1))) == "undecided"


@pytest.mark.parametrize("apart", [5, 6, 8])
def test_three_times_the_usual_distance_of_its_rises_must_be_flat(apart: int) -> None:
    """FLAT_GAPS."""
    rises = ([0] * (apart - 1) + [40]) * 2
    assert state(total(rises + [0] * (3 * apart))) == "steady"
    assert state(total(rises + [0] * (3 * apart - 1))) == "undecided"


RESOURCES = (
    *("tracked", "fds", "threads", "children", "tasks", "interpreters", "watches", "locks", "timers", "temp_files"),
    *("unlinked_bytes", "shm_bytes", "unread_bytes"),
)
"""Counters that never move on code without a leak."""
PATIENCE = {
    **dict.fromkeys(RESOURCES, 8),
    "objects": 5,
    "references": 5,
    "given_away": 5,
    "entries": 5,
    "blocks": 4,
    "malloc_bytes": 4,
    "mapped_bytes": 4,
}


@pytest.mark.parametrize("counter", PATIENCE)
def test_each_counter_must_be_flat_for_its_patience(counter: str) -> None:
    """The rules' patience: batches. Three are not reached after four that rose: half of the series is more."""
    rises = [3_000_000] * (4 if PATIENCE[counter] == 4 else 3)
    for flat, found in ((PATIENCE[counter], "steady"), (PATIENCE[counter] - 1, "undecided")):
        assert assess(readings(**{counter: total(rises + [0] * flat)})).state == found, flat


@pytest.mark.parametrize("counter", ["blocks", "malloc_bytes", "mapped_bytes"])
def test_three_flat_batches_are_enough_after_one_that_rose(counter: str) -> None:
    """The patience of a rule that names none."""
    assert assess(readings(**{counter: total([3_000_000, 0, 0, 0])})).state == "steady"
    assert assess(readings(**{counter: total([3_000_000, 0, 0])})).state == "undecided"


@pytest.mark.parametrize("counter", [*RESOURCES, "references", "given_away"])
def test_counters_that_never_move_need_five_batches_by_turns(counter: str) -> None:
    """The rules' turns."""
    by_turns = [2, 3, 2, 3, 3, 2, 3, 2, 3, 3]
    assert assess(readings(**{counter: total(by_turns[:5])})).state == "grows"
    assert assess(readings(objects=total(by_turns[:5]))).state == "undecided"
    assert assess(readings(objects=total(by_turns[:9]))).state == "undecided"
    assert assess(readings(objects=total(by_turns))).state == "grows"


# -- even, or a store that fills


@pytest.mark.parametrize(("other", "found"), [(1009, "grows"), (1010, "grows"), (1011, "undecided")])
def test_batches_within_one_per_cent_are_the_same(other: int, found: str) -> None:
    """EVEN."""
    values = total([1000, other, 1000, 1000, 1000, other, 1000])
    assert trend(range(8), values).state == found


@pytest.mark.parametrize(("rises", "found"), [([2] * 5, "grows"), ([1] * 9, "undecided"), ([1] * 10, "grows")])
def test_ten_objects_at_the_least_are_even(rises: list[float], found: str) -> None:
    """EVEN_EVENTS, of equal batches."""
    assert state(total(rises)) == found


@pytest.mark.parametrize(("usual", "found"), [(9, "undecided"), (10, "grows")])
def test_one_batch_may_be_odd_among_batches_of_ten_objects(usual: int, found: str) -> None:
    """EVEN_EVENTS, of batches with an odd one; and of six, so that five agree."""
    odd = [usual, usual, usual * 1.3, usual, usual, usual * 0.7 + 1 if usual == 9 else usual]
    assert state(total([usual, usual, usual + 4, usual, usual, usual])) == found
    assert state(total([usual, usual, usual + 4, usual, usual])) == "undecided"
    assert state(total([*odd[:2], 30, 30, *odd[4:]])) == "undecided"


def test_turns_of_more_than_one_step_are_uneven() -> None:
    """EVEN_EVENTS, of steps: ten batches of none or six, five of them, are fewer than ten steps."""
    assert state(total([6, 0] * 5)) == "undecided"
    assert state(total([6, 0] * 10)) == "grows"


@pytest.mark.parametrize(("odd", "per_run"), [(124, 2.0), (128, 2.112), (160, 2.24)])
def test_the_median_batch_gives_the_figure_where_the_whole_agrees_within_a_twentieth(
    odd: float, per_run: float
) -> None:
    """AGREES."""
    found = judged(total([100, 100, odd, 100, 100] * 2))
    assert found.per_run == pytest.approx(per_run)


@pytest.mark.parametrize(("now", "found"), [(39.5, "undecided"), (40, "grows"), (41, "grows")])
def test_a_pace_below_four_fifths_of_the_warm_up_s_fades(now: float, found: str) -> None:
    """FADING."""
    before = Series(range(0, 300, ITERS), total([50] * 5))
    assert state(total([now] * 5), before=before) == found


@pytest.mark.parametrize(("runs", "found"), [(250, "undecided"), (300, "undecided"), (350, "grows")])
def test_the_warm_up_counts_for_twice_its_length(runs: int, found: str) -> None:
    """EARLIER_MEMORY."""
    warm = [Reading("warm-up", i * ITERS, {"blocks": 100 * i}) for i in range(4)]
    assert assess(readings(blocks=total([50] * (runs // ITERS))), warm_up=warm).state == found


def warmed_up(runs: Sequence[int], fast: range) -> str:
    """What an even rise of one block a run is called after a warm-up that made as many, and 100 in one of ``fast``."""
    warm_up = [Reading("warm-up", run, {"blocks": run + 99 * sum(r < run for r in fast)}) for run in runs]
    return assess(readings(blocks=total([50] * 5)), warm_up=warm_up).state


def test_the_first_fifth_of_the_warm_up_does_not_count() -> None:
    """Everything is built there for the first time; what comes after says something if there are three readings."""
    assert warmed_up(range(0, 201, 5), fast=range(40)) == "grows"
    assert warmed_up(range(0, 201, 5), fast=range(40, 50)) == "undecided"
    assert warmed_up([0, 50, 100, 200], fast=range(200)) == "undecided"
    assert warmed_up([0, 100, 200], fast=range(200)) == "grows"


@pytest.mark.parametrize(("batches", "found"), [(29, "undecided"), (30, "grows")])
def test_an_uneven_rise_takes_thirty_batches(batches: int, found: str) -> None:
    """UNEVEN_BATCHES."""
    values = total(([41, 44, 40, 43, 39] * 6)[:batches])
    assert state(values) == found
    assert state(values, final=True) == "grows"


@pytest.mark.parametrize(("spent", "found"), [(0.045, "grows"), (0.055, "undecided")])
def test_a_slow_down_of_a_twentieth_says_nothing(spent: float, found: str) -> None:
    """SLIGHT."""
    values = slowing(spent)
    assert Filling.of(Series(runs_of(values), values)).spent == pytest.approx(spent, rel=0.02)
    assert state(values) == found


@pytest.mark.parametrize(("errors", "found"), [(1.4, "grows"), (1.6, "undecided")])
def test_a_slow_down_must_be_one_and_a_half_standard_errors(errors: float, found: str) -> None:
    """SLOWS."""
    values = slowing(errors * 0.1, 0.1)
    filling = Filling.of(Series(runs_of(values), values))
    assert filling.spent / filling.error == pytest.approx(errors, rel=0.05)
    assert state(values) == found
    assert (found == "grows") or "it slows to" in judged(values).why


@pytest.mark.parametrize(("times", "errors"), [(3.99, 2.5), (4, 1.5), (4.01, 1.5)])
def test_a_store_that_rose_four_times_as_fast_in_the_warm_up_needs_less_certainty(times: float, errors: float) -> None:
    """EARLIER_FASTER: what is yet to come is told of a slow-down by two standard errors."""
    values = slowing(0.2, 0.1)
    per_run = judged(values).per_run
    to_come = judged(values, earlier=times * per_run).to_come
    assert to_come == Filling.of(Series(runs_of(values), values)).to_come(values[-1], errors)
    assert (to_come < math.inf) == (errors == 1.5)


@pytest.mark.parametrize(("smallest", "found"), [(0.72, "grows"), (0.88, "undecided")])
def test_a_plausible_store_must_be_excluded_by_two_and_a_half_standard_errors(smallest: float, found: str) -> None:
    """SURE and WIDEST: no slow-down is seen, but one of this many runs over keys is not excluded."""
    values = slowing(0, smallest / 2.5)
    filling = Filling.of(Series(runs_of(values), values))
    assert filling.spent + 2.5 * filling.error == pytest.approx(smallest, rel=0.05)
    assert state(values) == found
    assert (found == "grows") or "so unevenly that it may slow" in judged(values).why


@pytest.mark.parametrize(("spent", "found"), [(0.76, "grows"), (0.84, "undecided")])
def test_beside_a_leak_a_rise_may_slow_as_the_widest_plausible_store_does(spent: float, found: str) -> None:
    """WIDEST, where another counter grows for sure."""
    values = slowing(spent)
    assert state(values, backed=True) == found
    assert state(values) == "undecided"


# -- the store that a series looks like


def test_the_error_of_what_comes_at_random_is_not_taken_for_less_than_it_is() -> None:
    """Ten stretches that happen to agree, of batches that do not, are no evidence of regularity; those of one in two
    runs are."""
    at_random = [0.0, *itertools.accumulate([1, 0, 5, 0] * 10)]
    regular = [0.0, *itertools.accumulate([1, 2] * 20)]
    assert Filling.of(Series(runs_of(at_random), at_random)).error == math.sqrt(12 * (1 - 60 / (40 * ITERS)) / 60)
    assert Filling.of(Series(runs_of(regular), regular)).error == 0


def filling_of(keys: int, draws: int, seed: int) -> Filling:
    """What is read off twenty readings of a set that takes keys at random."""
    draw, seen, values = random.Random(seed), set[int](), [0.0]
    for _ in range(20):
        seen.update(draw.randrange(keys) for _ in range(draws // 20))
        values.append(float(len(seen)))
    return Filling.of(Series(range(0, draws + 1, draws // 20), values))


def test_the_store_is_found_by_its_filling_and_the_error_is_the_one_that_it_makes() -> None:
    """Of 400 stores of 4,000 keys after 1,000 draws: the mean is 1/4, and the error that is given is somewhat more
    than their spread (the rise of a store that is a quarter full varies less than a Poisson process)."""
    found = [filling_of(4000, 1000, seed) for seed in range(400)]
    assert statistics.fmean(filling.spent for filling in found) == pytest.approx(0.25, rel=0.1)
    spread = statistics.stdev(filling.spent for filling in found)
    assert 1 < math.sqrt(statistics.fmean(filling.error**2 for filling in found)) / spread < 1.25


def test_the_pace_of_a_store_is_that_of_its_last_two_fifths_over_its_first_two() -> None:
    """Keys 0.5 times the draws: exp(-0.3) for a store that fills by the book."""
    whole = [1 - math.exp(-t / 2) for t in (0, 0.4, 0.6, 1)]
    assert Filling(0.5, 0.0).pace == pytest.approx((whole[3] - whole[2]) / whole[1], rel=1e-6)


@pytest.mark.parametrize("keys", [1500, 3000])
def test_the_runs_until_a_store_is_full_are_told(keys: int) -> None:
    """Less than one unit in as many runs as a stretch has."""
    values = [keys * (1 - math.exp(-i * ITERS / keys)) for i in range(31)]
    needed = judged(values).runs_needed
    left = keys * math.exp(-1500 / keys) * (1 - math.exp(-300 / keys))
    assert needed == pytest.approx(keys * math.log(left), rel=0.4)


# -- floors


@pytest.mark.parametrize(
    ("counter", "floor"),
    [("malloc_bytes", 2048), ("mapped_bytes", 262_144), ("rss", 524_288), ("children_rss", 2_097_152), ("blocks", 0)],
)
def test_bytes_are_forgiven_up_to_their_floor(counter: str, floor: int) -> None:
    """MALLOC_FLOOR_BYTES, MAPPED_FLOOR_BYTES, RSS_FLOOR_BYTES, CHILDREN_FLOOR_BYTES."""
    if floor:
        at = readings(**{counter: [floor * i / 5 for i in range(6)]})
        assert assess(at, final=True).state == "steady"
        # Runs are spent before it is forgiven; resident size, which never decides alone, is not waited for.
        assert assess(at).state == ("steady" if counter == "rss" else "undecided")
    assert assess(readings(**{counter: [(floor + 10) * i / 5 for i in range(6)]})).state == "grows"


@pytest.mark.parametrize(("rise", "found"), [(2990, "steady"), (3010, "grows")])
def test_three_times_the_control_s_rise_is_forgiven(rise: float, found: str) -> None:
    """CONTROL_FACTOR."""
    series = readings(malloc_bytes=[rise * i / 5 for i in range(6)])
    assert assess(series, control={"malloc_bytes": 1000.0}).state == found
    assert assess(readings(blocks=total([50] * 5)), control={"blocks": 1e9}).state == "grows"


@pytest.mark.parametrize(
    ("rise", "batches", "found"), [(8192, 30, "steady"), (8194, 30, "undecided"), (8192, 29, "undecided")]
)
def test_a_few_tables_that_doubled_are_forgiven_at_the_end_of_the_budget(rise: float, batches: int, found: str) -> None:
    """STRAY_FLOORS, after FLAT_BATCHES."""
    steps = total([rise / 2 if i in (9, 28) else 0 for i in range(batches)])
    assert assess(readings(malloc_bytes=steps), final=True).state == found
    assert assess(readings(malloc_bytes=steps)).state == "undecided"
    assert assess(readings(blocks=steps), final=True).state == "undecided"


@pytest.mark.parametrize(
    ("size", "batches", "found"),
    [(4096, 82, "steady"), (4096, 81, "undecided"), (8192, 164, "steady"), (8193, 200, "undecided")],
)
def test_one_page_more_in_few_batches_is_forgiven_at_the_end_of_the_budget(size: int, batches: int, found: str) -> None:
    """STRAY_BYTES_A_RUN, up to STRAY_FLOORS; five batches, the step in the last but one."""
    rows = [Reading(f"batch-{i}", i * 10 * batches, {"malloc_bytes": size if i > 3 else 0}) for i in range(6)]
    assert assess(rows, final=True).state == found
    assert assess(rows).state == "undecided"
    twice = [
        replace(row, counters={"malloc_bytes": min(i, 2) * size // 2})
        for i, row in zip((0, 0, 0, 0, 1, 2), rows, strict=True)
    ]
    assert assess(twice, final=True).state == "undecided"


@pytest.mark.parametrize(("share", "found"), [(0.45, "undecided"), (0.5, "grows"), (0.55, "grows")])
def test_half_of_the_resident_size_must_be_new_address_space(share: float, found: str) -> None:
    """MAPPED_SHARE."""
    rss = [4e6 * i for i in range(6)]
    mapped = total([0, 0, 0, 0, share * rss[-1]])
    growth = {g.counter: g for g in assess(readings(rss=rss, mapped_bytes=mapped), final=True).growth}
    assert (growth["rss"].state, growth["mapped_bytes"].state) == (found, "undecided")


@pytest.mark.parametrize(("control", "found"), [(1.5e9, True), (1.8e9, False)])
def test_a_leak_of_a_thousand_million_a_batch_is_the_largest_that_is_tried(control: float, found: bool) -> None:
    """LARGEST_LEAK: five batches of it must exceed three times the control's rise."""
    figure = detectable(readings(malloc_bytes=[0] * 6), {"malloc_bytes": control})
    assert (figure.native_bytes_per_run is not None) == found


def test_leaks_are_tried_in_steps_of_a_tenth() -> None:
    """The first, of 3,000 bytes a batch, stays at the floor; the next is called."""
    figure = detectable(readings(malloc_bytes=[0] * 6), {"malloc_bytes": 5000.0})
    assert figure.native_bytes_per_run == 3300 / ITERS


# -- edges that are no numbers of the policy


def test_one_reading_says_nothing() -> None:
    """Not even that it stands still."""
    assert state([5.0]) == "undecided"


def test_one_step_of_an_inexact_counter_is_over_after_half_of_the_series() -> None:
    """A table that doubled; of an exact counter, the distance of its only rise counts."""
    steps = total([0, 0, 0, 5000, 0, 0, 0, 0])
    assert assess(readings(malloc_bytes=steps)).state == "steady"
    assert assess(readings(malloc_bytes=steps[:-1])).state == "undecided"
    assert assess(readings(blocks=steps)).state == "undecided"


@pytest.mark.parametrize(("values", "found"), [([0, 300, 50, 50, 150], "undecided"), ([0, 0, 300, 50, 150], "steady")])
def test_a_swing_that_has_left_nothing_in_its_first_batch_returns(values: list[float], found: str) -> None:
    """Of a series that is too short to have a flat end."""
    assert state(values) == found


def test_a_leak_beside_what_fills_at_first_is_found_in_the_second_half() -> None:
    """The whole slows; its second half does not."""
    assert state(total([4000, 2000, 1000, 500] + [50] * 9)) == "grows"


@pytest.mark.parametrize(("first", "found"), [(4, "grows"), (10, "undecided")])
def test_the_first_ten_runs_of_the_warm_up_show_no_saw(first: int, found: str) -> None:
    """FIRST_RUNS: a rise and fall of 600 from the tenth run on may come again; before, everything is built."""
    warm = [Reading("warm-up", run, {"blocks": 200 * max(0, min(3, run - first))}) for run in range(first + 4)]
    warm += [Reading("warm-up", run, {"blocks": 0}) for run in range(first + 4, 200)]
    assert assess(readings(blocks=total([50] * 5)), warm_up=warm).state == found


def test_where_runs_are_counted_from_changes_nothing() -> None:
    """Neither the store that a series looks like, nor what the series does."""
    values = slowing(0.3, 0.1)
    later = [run + 1000 for run in runs_of(values)]
    assert Filling.of(Series(later, values)) == Filling.of(Series(runs_of(values), values))
    assert trend(later, values) == judged(values)


def test_a_series_continues_the_one_before_it() -> None:
    """The earlier one's last reading is this one's first."""
    whole = Series([0, 10, 20], [5, 6, 8]).after(Series([0, 100, 130], [1, 2, 4]))
    assert (whole.runs, whole.values) == ([-130, -30, 0, 10, 20], [2, 3, 5, 6, 8])


def test_one_reading_is_assessed() -> None:
    """Nothing is said of it, and nothing fails."""
    found = assess(readings(objects=[5.0], malloc_bytes=[7.0]))
    assert (found.state, [g.declared for g in found.growth]) == ("undecided", [0.0, 0.0])


@pytest.mark.parametrize(("keys", "found"), [(550, "steady"), (590, "steady"), (620, "undecided"), (700, "undecided")])
def test_a_store_that_may_take_sixty_four_more_is_full_at_the_end_of_the_budget(keys: int, found: str) -> None:
    """NEARLY_FULL: a store of 595 keys, after 1,500 draws, is told to have 64 to come."""
    values = [float(round(keys * (1 - math.exp(-i * ITERS / keys)))) for i in range(31)]
    to_come = judged(values, final=True, patience=5).to_come
    assert (to_come <= 64, 32 < to_come < 128) == (found == "steady", True)
    assert assess(readings(objects=values), final=True).state == found
    assert assess(readings(objects=values)).state == "undecided"


@pytest.mark.parametrize(("keys", "found"), [(550, "steady"), (590, "steady"), (620, "undecided"), (700, "undecided")])
def test_a_store_of_bytes_is_full_where_so_many_blocks_may_come(keys: int, found: str) -> None:
    """Of the usual size: pages of a table of sqlite, for instance, of rows that come at random."""
    values = [64.0 * round(keys * (1 - math.exp(-i * ITERS / keys))) for i in range(31)]
    assert assess(readings(malloc_bytes=values), final=True).state == found


def test_a_store_that_is_nearly_full_hides_no_leak_that_the_warm_up_would_have_shown() -> None:
    """The warm-up tells that the last keys are a store's, and no leak; a leak a run would have been there, too."""
    warm_up = [Reading("warm-up", run, {"blocks": run}) for run in (1, 5, 10, *range(20, 820, 50))]
    filled = [min(600.0, 50.0 * i) for i in range(200)]
    late = [float(sum(i >= at for at in (45, 60, 90, 130, 170, 199))) for i in range(200)]
    rows = readings(blocks=[a + b for a, b in zip(filled, late, strict=True)])
    assert assess(rows, warm_up=warm_up, final=True).state == "steady"
    assert unseen(rows, 1.0, 4096.0, final=True, warm_up=warm_up) == ()
    assert unseen(rows, 1.0, 4096.0, final=True) == ("blocks",)


def beside_a_drain(entries_a_run: float) -> list[Reading]:
    """Objects stand still, one old object dies in each run, and so many entries of containers go."""
    steps = range(60)
    gone = [50_000 - int(entries_a_run * ITERS * step) for step in steps]
    return readings(
        objects=[0.0] * 60, given_back=[float(ITERS * step) for step in steps], entries=gone, blocks=[0.0] * 60
    )


@pytest.mark.parametrize(
    ("entries_a_run", "found"),
    [(1.0, "grows"), (0.5, "grows"), (0.48, "steady"), (0.26, "steady"), (0.0, "steady")],
)
def test_what_drains_does_not_hide_what_comes(entries_a_run: float, found: str) -> None:
    """An old object a run goes and a new one stays: a leak where the entries fall by half as much at the least; a full
    cache that takes new ones for old ones where they stand still."""
    answer = assess(beside_a_drain(entries_a_run))
    assert answer.state == found
    if found == "grows":
        growth = {row.counter: row for row in answer.growth}
        assert growth["objects"].per_run == pytest.approx(entries_a_run)
        assert "at the baseline went" in growth["objects"].rule


@pytest.mark.parametrize(("beneath", "state"), [(0.0, "steady"), (1.0, "grows")])
def test_a_saw_in_two_phases_by_turns_is_no_growth(beneath: float, state: str) -> None:
    """Teeth of 200 runs, every other one from a foot that is 30 higher, drift by one in 400 runs: blocks of 57 entries
    that are emptied every 200 runs do. A leak of one a run below such a saw is seen all the same."""
    values = [
        50.0 * ((batch + 3) % 4) + 30.0 * (batch // 4 % 2) + batch // 8 + beneath * ITERS * batch
        for batch in range(201)
    ]
    assert assess(readings(objects=values), final=True).state == state
