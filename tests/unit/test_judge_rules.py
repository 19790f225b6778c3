"""The parts of a verdict, each at its line: what one more or less of it changes, written out.

Beside ``test_judge_edges.py``, which asks the same of whole series (``tests/bench/judge_mutants.py`` names the numbers
and comparisons that no test holds).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_judge_edges import found
from test_judge_table import readings, runs_of, total

from leakharness.judge.policy import RULES
from leakharness.judge.series import Series, Trend
from leakharness.judge.verdict import (
    ResidentGrowth,
    _beside_others,
    _declared_per_run,
    _in_doublings,
    _is_less_steep,
    _last_step,
    _may_be_there,
    _over_limits,
    _risen,
    _rises_by,
    _together,
    _tooth,
    assess,
    explained,
    unseen,
)
from leakharness.model import Reading

MALLOC = next(rule for rule in RULES if rule.counter == "malloc_bytes")
RSS = next(rule for rule in RULES if rule.counter == "rss")
KIB = 1024


def read(counter: str, *rows: tuple[int, float]) -> list[Reading]:
    """Readings of one counter: (run, value)."""
    return [Reading("", run, {counter: int(value)}, {}) for run, value in rows]


# -- how far a series rises


@pytest.mark.parametrize(
    ("values", "asked", "answer"),
    [
        (total([50] * 5), 1.0, True),
        (total([50] * 5), 1.01, False),
        (total([100, 100, 50, 0, 0]), 1.0, False),
    ],
    ids=["just so much", "less", "not in every stretch"],
)
def test_what_may_be_a_leak_rises_by_so_much_in_every_stretch(values: list[float], asked: float, answer: bool) -> None:
    assert _may_be_there(Series(runs_of(values), values), asked) is answer


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (total([50] * 6), True),
        ([0, 50, 100, 149, 199, 249, 299], False),
        ([0, 50, 100, 170, 220, 270, 310], False),
        ([0, 90, 180, 200, 250, 300, 350], True),
        ([0, 50], True),
        ([7], False),
    ],
    ids=["just so much", "one less", "less in its second half", "slower there", "one batch", "one reading"],
)
def test_resident_size_rises_by_the_sensitivity_in_its_second_half_too(values: list[float], answer: bool) -> None:
    assert _rises_by(Series(runs_of(values), values), 1.0) is answer


@pytest.mark.parametrize(("resident", "missed"), [(None, ("rss",)), (ResidentGrowth("ends", "first touched"), ())])
def test_resident_size_that_the_mappings_explain_is_not_missed(
    resident: ResidentGrowth | None, missed: tuple[str, ...]
) -> None:
    assert unseen(readings(rss=total([50 * 4096] * 6)), 1.0, 4096.0, final=False, resident=resident) == missed


def test_a_saw_that_is_counted_anew_at_the_baseline_climbs_on_from_the_warm_up() -> None:
    """20 in the warm-up and 10 after it, then it falls by 40: a tooth of 30."""
    warm_up = read("objects", (10, 100), (20, 110), (30, 120))
    assert _tooth(warm_up, read("objects", (0, 0), (50, 10), (100, -30)), "objects") == 30.0


# -- limits, and what is said of growth


@pytest.mark.parametrize(("last", "over"), [(12, False), (13, True)])
def test_the_limit_of_tracked_objects_is_from_the_first_reading_to_the_last(last: int, over: bool) -> None:
    rows = read("tracked", (0, 2), (50, 40), (100, last))
    assert (_over_limits(rows, 10, None) is not None) is over
    assert _over_limits(rows, None, 0.0) is None


@pytest.mark.parametrize(("last", "over"), [(5_000, False), (5_001, True)])
def test_the_limit_of_resident_size_is_from_the_first_reading_to_the_last(last: int, over: bool) -> None:
    rows = read("rss", (0, 1_000), (50, 90_000), (100, last))
    assert (_over_limits(rows, None, 4_000.0) is not None) is over
    assert _over_limits(rows, 0, None) is None


def test_a_last_step_is_told_where_all_that_grows_grows_in_steps() -> None:
    steps = [found("grows", last_step=run) for run in (500, 900, 700)]
    assert _last_step(steps) == 900
    assert _last_step([*steps, found("grows")]) is None
    assert _last_step([]) is None


def test_what_is_explained_is_steady_and_what_was_steady_keeps_its_words() -> None:
    before = assess(readings(objects=total([50] * 5), blocks=[0] * 6))
    after = explained(before, "a cache")
    assert (after.state, after.why) == ("steady", "a cache")
    assert [(row.counter, row.state, row.rule) for row in after.growth] == [
        ("objects", "steady", "steady: a cache"),
        ("blocks", "steady", "steady: stands still"),
    ]


def test_what_is_declared_is_told_a_run_from_the_first_reading_to_the_last() -> None:
    rows = [Reading("", run, {}, {"objects": declared}) for run, declared in ((50, 3), (100, 5), (250, 43))]
    assert _declared_per_run(rows, "objects") == 0.2


@pytest.mark.parametrize(("had_by", "judged"), [((6,), False), ((0, 6), True)])
def test_references_are_judged_by_two_readings_that_have_them(had_by: tuple[int, ...], judged: bool) -> None:
    rows = readings(objects=[0] * 7)
    for at in had_by:
        rows[at] = Reading("", rows[at].runs, {"objects": 0, "references": 5}, {})
    assert ("references" in {row.counter for row in assess(rows).growth}) is judged


# -- beside what goes


def test_what_grows_for_sure_keeps_its_figure_beside_what_goes() -> None:
    """One a run stays in all, whatever went besides."""
    went = total([20] * 8)
    rows = readings(objects=total([50] * 8), given_back=went, entries=[500 - gone for gone in went])
    objects = next(row for row in assess(rows).growth if row.counter == "objects")
    assert (objects.per_run, objects.rule) == (1.0, "grows: +400 in 400 runs, in each of 5 stretches")


def test_objects_beside_what_goes_are_judged_by_the_rule_for_objects() -> None:
    """Batches of two and three by turns: ten of them are even, five are not."""
    for batches, state in ((5, "undecided"), (10, "grows")):
        went = total([2, 3, 2, 3, 3, 2, 3, 2, 3, 3][:batches])
        rows = readings(objects=[0] * (batches + 1), given_back=went, entries=[500 - gone for gone in went])
        assert assess(rows).state == state


# -- resident size beside the others


@pytest.mark.parametrize(
    ("mapped", "blocks", "malloc", "state"),
    [
        (499.0, 0.0, 0.0, "undecided"),
        (500.0, 0.0, 0.0, "grows"),
        (500.0, 0.0, 499.0, "grows"),
        (500.0, 0.0, 500.0, "undecided"),
        (500.0, 4.0, 243.0, "grows"),
        (500.0, 4.0, 244.0, "undecided"),
        (500.0, -9.0, 499.0, "grows"),
        (500.0, -9.0, 500.0, "undecided"),
    ],
)
def test_half_of_resident_growth_must_be_new_and_be_no_block_of_another(
    mapped: float, blocks: float, malloc: float, state: str
) -> None:
    """A rise of 1,000 bytes; a block is taken for 64."""
    others = {"blocks": blocks, "malloc_bytes": malloc, "mapped_bytes": mapped}
    trends = {name: found("steady", rise=rise) for name, rise in others.items()}
    trends["mapped_bytes"] = found("undecided", rise=mapped)
    answer = _beside_others(RSS, found("grows", rise=1000.0), trends, None)
    assert (answer.state, answer.mappings_tell) == (state, mapped < 500)
    trends["mapped_bytes"] = found("steady", rise=mapped)  # one arena more is no growth
    answer = _beside_others(RSS, found("grows", rise=1000.0), trends, None)
    assert (answer.state, answer.mappings_tell) == ("undecided", True)


@pytest.mark.parametrize(
    ("other", "needed", "state"),
    [("steady", 300, "steady"), ("undecided", 300, "undecided"), ("steady", None, "undecided")],
)
def test_resident_size_that_fades_alone_decides_nothing(other: Any, needed: int | None, state: str) -> None:
    trends = {"objects": found("steady"), "mapped_bytes": found(other)}
    assert _beside_others(RSS, found("undecided", runs_needed=needed), trends, None).state == state


@pytest.mark.parametrize(("fate", "state"), [("goes on", "grows"), ("ends", "undecided"), ("evictable", "steady")])
def test_the_mappings_decide_on_pages_of_what_is_there(fate: Any, state: str) -> None:
    trends = {"mapped_bytes": found("steady", rise=0.0)}
    answer = _beside_others(RSS, found("grows", rise=1000.0), trends, ResidentGrowth(fate, "they say"))
    assert (answer.state, answer.mappings_tell) == (state, False)


# -- steps that double


def doubled(until: int, unit: float = KIB, **beside: int) -> list[Reading]:
    """Steps of 8, 16, 32 and 64 units after 100, 200, 400 and 800 runs; ``beside``: what other counters rise by in
    run 300."""
    runs = [*range(0, until, 50), until]
    return [
        Reading(
            "",
            run,
            {
                "malloc_bytes": int(
                    unit * sum(s for s, at in ((8, 100), (16, 200), (32, 400), (64, 800)) if at <= run)
                ),
                **{name: rise if run >= 300 else 0 for name, rise in beside.items()},
            },
            {},
        )
        for run in runs
    ]


OPEN = found("undecided")


def in_doublings(rows: list[Reading], warm_up: list[Reading] | None = None, *, final: bool = False) -> str:
    """What is made of an undecided series: "as it was" where it has no such steps."""
    answer: Trend = _in_doublings(MALLOC, OPEN, warm_up or [], rows, final=final)
    return "as it was" if answer is OPEN else answer.state


@pytest.mark.parametrize(
    ("until", "state", "at_the_end"),
    [
        (800, "grows", "grows"),
        (900, "grows", "grows"),
        (901, "undecided", "as it was"),
        (1970, "undecided", "as it was"),
        (1971, "as it was", "as it was"),
    ],
)
def test_a_store_in_steps_is_called_shortly_after_one_and_waited_for_until_the_next(
    until: int, state: str, at_the_end: str
) -> None:
    """A quarter of the last distance of 400 runs after it; 2.6 times as long as that and one batch, at the most."""
    assert in_doublings(doubled(until)) == state
    assert in_doublings(doubled(until), final=True) == at_the_end


def test_the_run_of_the_last_step_is_told() -> None:
    """Of the process, wherever the measurement began: the steps before may all have come in the warm-up."""
    assert _in_doublings(MALLOC, OPEN, [], doubled(850), final=False).last_step == 800
    rows = [Reading("", row.runs - 450, row.counters, {}) for row in doubled(850) if row.runs >= 450]
    called = _in_doublings(MALLOC, OPEN, doubled(450), rows, final=False)
    assert (called.state, called.last_step) == ("grows", 800)


@pytest.mark.parametrize(("unit", "state"), [(32, "as it was"), (33, "grows")])
def test_steps_must_exceed_the_floor(unit: float, state: str) -> None:
    """Of 2,048 bytes: the last one counts."""
    assert in_doublings(doubled(800, unit)) == state


@pytest.mark.parametrize("counter", ["entries", "objects", "blocks"])
@pytest.mark.parametrize(("came", "state"), [(223, "grows"), (224, "as it was")])
def test_entries_of_512_bytes_explain_the_steps_that_came_after_the_first(counter: str, came: int, state: str) -> None:
    """112 KiB in all."""
    assert in_doublings(doubled(800, **{counter: came})) == state


@pytest.mark.parametrize("run", [150, 200, 450, 800])
def test_entries_explain_the_steps_whenever_they_came_after_the_first(run: int) -> None:
    """All of them in one batch, and the last one's included; not those of the first step."""
    for at, state in ((run, "as it was"), (100, "grows")):
        rows = [replace(row, counters={**row.counters, "entries": 224 * (row.runs >= at)}) for row in doubled(800)]
        assert in_doublings(rows) == state


def test_steps_that_double_are_looked_for_in_what_counts_tables() -> None:
    """Descriptors have none."""
    rows = [Reading("", row.runs, {"fds": row.counters["malloc_bytes"] // KIB}, {}) for row in doubled(800)]
    assert assess(rows).state == "undecided"
    assert assess(doubled(800)).state == "grows"


@pytest.mark.parametrize(("first", "state"), [(9, "as it was"), (10, "grows")])
def test_what_was_built_before_the_tenth_run_is_no_step(first: int, state: str) -> None:
    """Of four steps, the first one came between this reading of the warm-up and the next."""
    rows = [Reading("", row.runs - 100, row.counters, {}) for row in doubled(800) if row.runs >= 100]
    assert in_doublings(rows, read("malloc_bytes", (first, 0), (100, 8 * KIB))) == state


def test_a_last_step_at_the_end_of_the_warm_up_is_no_growth_of_the_measurement() -> None:
    last = 120 * KIB
    assert in_doublings(read("malloc_bytes", (0, last), (50, last)), doubled(800)) == "undecided"
    assert in_doublings(read("malloc_bytes", (0, last)), doubled(800), final=True) == "as it was"


def test_an_exact_counter_that_begins_anew_at_the_baseline_goes_on_from_the_warm_up() -> None:
    """Bytes do not begin anew."""
    for counter, values in (("objects", [7, 9, 13]), ("malloc_bytes", [7, 0, 4])):
        built = read(counter, (10, 7), (20, 9))
        series = _together([*built, *read(counter, (20, 0), (70, 4))], built, counter)
        assert (series.runs, series.values) == ([10, 20, 70], values)
    assert _together(read("objects", (0, 1)), [], "objects").values == [1]
    assert _together(built, built, "objects").values == []


def test_what_rose_from_one_run_to_another() -> None:
    series = Series([0, 50, 100, 150], [0, 1, 3, 9])
    assert (_risen(series, 50, 150), _risen(series, 50, 100), _risen(series, 10, 40)) == (8, 2, 0.0)


def test_one_arena_more_does_not_make_a_leak_of_resident_size() -> None:
    """It rises evenly, by a third more than the arena that came: the mappings are asked."""
    mapped = [0.0] * 3 + [1048576.0] * 94
    found = assess(readings(blocks=[0.0] * 97, mapped_bytes=mapped, rss=[14_250.0 * batch for batch in range(97)]))
    assert (found.state, found.resident_open) == ("undecided", True)
    steadily = [65_536.0 * (batch // 4) for batch in range(97)]
    found = assess(readings(blocks=[0.0] * 97, mapped_bytes=steadily, rss=[14_250.0 * batch for batch in range(97)]))
    assert found.state == "grows"


@pytest.mark.parametrize(
    ("values", "missed"),
    [
        ([350, 320, 420, 240, 220, 270, 370, 570, 350, 580], ("objects",)),
        ([90, 20, 55, 135, 100, 175, 105, 115, 195, 105, 10, 30, 5, 15, 40, 195], ()),
        ([0, 1_000] * 11, ("objects",)),
        ([0, 1_000] * 12, ()),
    ],
    ids=["may rise by one a run", "cannot rise by one a run", "a saw of ten feet", "a saw of one more"],
)
def test_a_leak_is_excluded_where_the_line_through_the_series_is_less_steep(
    values: list[int], missed: tuple[str, ...]
) -> None:
    """A noise that hides a leak lets another that is added to it be seen: that is not enough. Both turn where the
    standard errors that are asked for move by half."""
    assert unseen(readings(objects=values), 1.0, 4096.0, final=False) == missed


@pytest.mark.parametrize(("per_run", "excluded"), [(0.99, False), (1.0, False), (1.01, True)])
def test_a_line_as_steep_as_the_leak_excludes_nothing(per_run: float, excluded: bool) -> None:
    assert _is_less_steep(Series([0, 50, 100], [0, 50, 100]), per_run) is excluded


@pytest.mark.parametrize(
    ("values", "errors", "most"),
    [([0, 3], 1.0, 3.0), ([0, 1, 0], 1.0, 3**-0.5), ([0, 2, 0, 2], 0.0, 0.4), ([0, 2, 0, 2], 1.0, 0.4 + 0.32**0.5)],
)
def test_the_error_of_a_slope_is_that_of_least_squares(values: list[int], errors: float, most: float) -> None:
    """Residual sum of squares over as many readings less two, and over the spread of the runs."""
    assert Series(range(len(values)), values).slope_at_most(errors) == pytest.approx(most)
