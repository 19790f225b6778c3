"""Places of the judge that a change went unnoticed in: each test here fails when one number or comparison moves.

As in ``test_judge_edges.py`` the series are short, written out, and lie on the line (``tests/bench/judge_mutants.py``
says what is still unnoticed).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from test_judge_numbers import slowing, warmed_up
from test_judge_table import runs_of, total

from leakharness.judge import series
from leakharness.judge.drains import Drain
from leakharness.judge.series import Filling, Series, Terms, trend

RUNS = tuple(range(0, 301, 50))
FALLS = [100.0, 90, 80, 70, 60, 50, 40]
GOES = [0.0, 10, 20, 30, 40, 50, 60]


# -- what drains


@pytest.mark.parametrize("counter", ["blocks", "malloc_bytes"])
def test_the_whole_fall_is_taken_out_from_end_to_end(counter: str) -> None:
    """From the first reading to the last one, and over all of what went."""
    for drain in (Drain(RUNS, GOES, None, None), Drain(RUNS, None, GOES, None), Drain(RUNS, None, None, FALLS)):
        assert drain.levelled(counter, FALLS) == [[100.0] * 7]


def test_each_row_that_goes_levels_a_fall_by_itself() -> None:
    assert Drain(RUNS, GOES, GOES, FALLS).levelled("blocks", FALLS) == [[100.0] * 7] * 3


def test_the_objects_that_went_are_known_one_by_one() -> None:
    assert Drain(RUNS, GOES, None, None).levelled("objects", [9.0, 9, 9, 9, 9, 9, 3]) == [[9, 19, 29, 39, 49, 59, 63]]
    assert Drain(RUNS, None, GOES, FALLS).levelled("objects", FALLS) == []


@pytest.mark.parametrize("counter", ["objects", "blocks", "malloc_bytes"])
@pytest.mark.parametrize("last", [100.0, 101.0])
def test_what_ends_no_lower_than_it_began_is_not_levelled(counter: str, last: float) -> None:
    assert Drain(RUNS, GOES, GOES, FALLS).levelled(counter, [100.0, 90, 80, 70, 60, 50, last]) == []


@pytest.mark.parametrize(("batches", "levelled"), [(4, []), (5, [[100.0] * 6])])
def test_what_drains_must_go_in_each_of_five_stretches(batches: int, levelled: list[list[float]]) -> None:
    end = batches + 1
    assert Drain(RUNS[:end], GOES[:end], None, None).levelled("blocks", FALLS[:end]) == levelled


def test_other_counters_are_not_levelled() -> None:
    assert Drain(RUNS, GOES, GOES, FALLS).levelled("mapped_bytes", FALLS) == []


@pytest.mark.parametrize(("gone", "hidden"), [(18.0, True), (20.0, True), (21.0, False)])
def test_objects_are_hidden_where_half_as_many_entries_went(gone: float, hidden: bool) -> None:
    """From the baseline to the last reading, neither of which begins at 0 here."""
    given_back = [5.0, 6, 7, 8, 9, 10, 5 + gone]
    entries = [50.0, 50, 50, 50, 50, 50, 40]
    assert ("objects" in Drain(RUNS, given_back, None, entries).hides()) is hidden


def test_what_stops_going_is_no_drain() -> None:
    """Nothing went in the last of five stretches."""
    stopped = [0.0, 10, 20, 30, 40, 40]
    assert Drain(RUNS[:6], stopped, None, None).levelled("blocks", FALLS[:6]) == []
    assert Drain(RUNS[:6], None, stopped, None).hides() == {}
    assert list(Drain(RUNS[:6], None, GOES[:6], None).hides()) == ["entries"]


def test_nothing_is_hidden_where_no_old_object_went() -> None:
    assert Drain(RUNS, [5.0] * 7, None, [50.0] * 7).hides() == {}


# -- one series


def test_a_rise_of_half_the_swing_ends_a_fall() -> None:
    """And a fall of half the swing, after it, leaves a foot of its own."""
    assert list(Series(range(5), [0, 10, 0, 5, 0]).feet.runs) == [2, 4]
    assert list(Series(range(5), [0, 10, 0, 4.9, 0]).feet.runs) == [2]


@pytest.mark.parametrize(("tooth", "awaited"), [(19.0, 0.0), (20.0, 0.0), (20.5, 20.5)])
def test_a_tooth_is_awaited_by_a_series_that_swings_by_less_than_half_of_it(tooth: float, awaited: float) -> None:
    terms = Terms(0.0, 3, False, False, 10, False, tooth, 0.0)
    assert terms.awaited(Series([0, 50, 100], [0, 10, 0])) == awaited


@pytest.mark.parametrize(
    ("rises", "error"),
    [([30, 50, 40, 40], math.sqrt(12 * (1 - 1600 / 2000) / 1600)), ([50, 70, 60, 60], 0.0)],
    ids=["four objects in five runs", "six objects in five runs"],
)
def test_what_comes_in_nearly_every_run_comes_with_little_chance(rises: list[float], error: float) -> None:
    """Of keys at random a share comes in each run, and no more than one."""
    values = total(rises * 10)
    assert Filling.of(Series(runs_of(values), values)).error == error


@pytest.mark.parametrize(("usual", "odd", "state"), [(10.0625, 9.6875, "grows"), (10.0625, 9.625, "undecided")])
def test_one_batch_may_be_odd_where_sixty_objects_came_in_six_batches(usual: float, odd: float, state: str) -> None:
    values = total([usual] * 5 + [odd])
    assert trend(runs_of(values), values).state == state


@pytest.mark.parametrize(("batches", "state"), [(4, "undecided"), (5, "steady")])
def test_one_step_of_an_inexact_counter_is_one_after_five_batches(batches: int, state: str) -> None:
    """Fewer do not tell it from a counter that rises in every second batch."""
    values = total([0, 52, 0, 0, 0][:batches])
    assert trend(runs_of(values), values, floor=50.0).state == state


@pytest.mark.parametrize(("rise", "state"), [(249, "steady"), (250, "undecided")])
def test_one_step_of_less_than_one_byte_a_run_is_forgiven_at_the_end_of_the_budget(rise: int, state: str) -> None:
    """In the last of five batches, and far below four floors."""
    values = total([0, 0, 0, 0, rise])
    assert trend(runs_of(values), values, floor=100.0, final=True).state == state


# -- growth below teeth


def saw(rises: Sequence[float], climbs: Sequence[float]) -> list[float]:
    """Teeth of these climbs from a foot at 0, and from each foot that is so much higher than the one before."""
    feet = list(itertools.accumulate(rises, initial=0.0))
    between = [[*(foot + climb for climb in climbs), then] for foot, then in itertools.pairwise(feet)]
    return [0.0, *climbs, 0.0, *itertools.chain(*between)]


LONG_TEETH = [20.0, 40, 60, 80, 100, 120, 120]
BELOW_TEETH: list[tuple[str, list[float], str]] = [
    # what the feet do                                  the series                                     state
    ("as much in all as one step", saw([1] * 10, [10]), "undecided"),
    ("a little more than one step", saw([1] * 11, [10]), "grows"),
    ("not in each of ten stretches, two steps in all", saw([11, 11, 0] + [11] * 8, [60]), "undecided"),
    ("in each of ten stretches, two steps in all", saw([11] * 4 + [0] + [11] * 6, [60]), "grows"),
    ("in each of ten stretches, one step and a half", saw([1.5] * 10, [10]), "grows"),
    ("in each of twenty stretches, as much in all as one step", saw([0.5] * 20, [10]), "undecided"),
    ("in each of twenty stretches, a little more", saw([0.5625] * 20, [10]), "grows"),
    ("even but for one, four steps in all", saw([10, 10, 30, 10, 10, 10], [20, 40, 60]), "grows"),
    ("uneven, five steps in all", saw([10, 10, 30, 10, 10, 30], [20, 40, 60]), "undecided"),
    ("ten steps in all, and strays by one", saw([60, 20, 40, 40, 40], LONG_TEETH), "grows"),
    ("ten steps in all, and strays by more than one", saw([61, 20, 39, 40, 40], LONG_TEETH), "undecided"),
]


@pytest.mark.parametrize(("values", "state"), [row[1:] for row in BELOW_TEETH], ids=[row[0] for row in BELOW_TEETH])
def test_growth_below_teeth(values: list[float], state: str) -> None:
    """A saw whose feet rise, by so many times the largest step of one batch: readings that drift along the teeth rise
    by one of them."""
    found = trend(range(0, 64 * len(values), 64), values)
    assert found.state == state, found.why


# -- on the line itself, which is drawn where the series lies


def test_a_store_just_as_wide_as_is_plausible_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """WIDEST is of what is plausible, and not of what is too wide: a series that lies on it is called."""
    values = slowing(0.5, 0.1)
    filling = Filling.of(Series(runs_of(values), values))
    monkeypatch.setattr(series, "SLIGHT", 9.0)
    for spent, beside in ((filling.spent, True), (filling.at_most(2.5).spent, False)):
        for widest, state in ((spent, "grows"), (math.nextafter(spent, 0), "undecided")):
            monkeypatch.setattr(series, "WIDEST", widest)
            assert trend(runs_of(values), values, backed=beside).state == state


def test_a_slow_down_of_just_what_says_nothing_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = slowing(0.5, 0.1)
    spent = Filling.of(Series(runs_of(values), values)).spent
    monkeypatch.setattr(series, "WIDEST", 9.0)
    monkeypatch.setattr(series, "SLOWS", 0.0)
    for slight, state in ((spent, "grows"), (math.nextafter(spent, 0), "undecided")):
        monkeypatch.setattr(series, "SLIGHT", slight)
        assert trend(runs_of(values), values).state == state


def test_the_same_of_growth_below_teeth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its feet rise unevenly, and slow."""
    values = saw([20, 18, 16, 14, 12, 10, 9, 8, 7, 6, 5, 5], [20, 40, 60])
    runs = range(0, 64 * len(values), 64)
    filling = Filling.of(Series(runs, values).feet)
    wide = filling.at_most(2.5).spent
    monkeypatch.setattr(series, "SLOWS", 0.0)
    for slight, widest, state in (
        (filling.spent, wide, "grows"),
        (math.nextafter(filling.spent, 0), wide, "undecided"),
        (filling.spent, math.nextafter(wide, 0), "undecided"),
    ):
        monkeypatch.setattr(series, "SLIGHT", slight)
        monkeypatch.setattr(series, "WIDEST", widest)
        found = series._below_teeth(Series(runs, values), Terms(0.0, 3, False, False, 10, False, 0.0, 0.0))
        assert found is not None
        assert found.state == state


def test_the_median_batch_and_the_whole_agree_on_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """One, and two: half of two apart."""
    rises = Series(range(9), total([1, 1, 1, 1, 1, 3, 4, 4]))
    for agrees, pace in ((0.5, 1.0), (math.nextafter(0.5, 0), 2.0)):
        monkeypatch.setattr(series, "AGREES", agrees)
        assert rises.pace == pace


# -- the warm-up


def test_an_even_rise_of_half_the_pace_of_the_batches_before_slows() -> None:
    """The second half is compared with the later half of the first."""
    values = total([100] * 6 + [50] * 6)
    found = trend(runs_of(values), values)
    assert (found.state, "it slows to" in found.why) == ("undecided", True)


def test_a_second_half_as_fast_as_the_first_is_judged_by_itself() -> None:
    """Uneven, and slower than the warm-up, which does not count there."""
    values = total([41, 44, 40, 43, 39] * 12)
    before = Series(range(0, 300, 50), total([200] * 5))
    assert trend(runs_of(values), values, before=before).state == "grows"


def test_the_first_fifth_of_the_warm_up_is_that_of_all_its_runs() -> None:
    """Not of those up to the reading before its last one."""
    assert warmed_up([0, 20, 25, 30, 35, 100, 200], fast=range(35)) == "grows"
