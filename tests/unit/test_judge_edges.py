"""The judge's comparisons just where they turn: on the line itself, where one more or less changes the answer.

Many of these series were found by comparing the judge with a copy of it that has one operator changed
(``tests/bench/judge_mutants.py``): the shortest on which the two differ.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from test_judge_table import readings, runs_of

from leakharness.judge.policy import RULES
from leakharness.judge.series import Series, Trend, trend
from leakharness.judge.verdict import (
    ResidentGrowth,
    _close,
    _leaks,
    _shows,
    _tooth,
    assess,
    detectable,
    swing_of,
    unseen,
)
from leakharness.model import Reading

OBJECTS = next(rule for rule in RULES if rule.counter == "objects")


def found(state: Any, *, rise: float = 10.0, swing: float = 0.0, **more: Any) -> Trend:
    return Trend(state, 0.0, rise, swing, "it rose", **more)


def test_the_leaks_that_are_tried_begin_with_one_a_batch() -> None:
    assert list(itertools.islice(_leaks(0.0), 13)) == [*range(1, 14)]
    assert list(itertools.islice(_leaks(19.5), 3)) == [20, 22, 24]


@pytest.mark.parametrize(("to_come", "state"), [(63.0, "steady"), (64.0, "steady"), (64.5, "undecided")])
def test_a_store_is_nearly_full_with_sixty_four_to_come(to_come: float, state: str) -> None:
    assert _close(OBJECTS, found("undecided", to_come=to_come)).state == state


@pytest.mark.parametrize(("to_come", "said"), [(0.2, "about 1 more"), (1.4, "about 1 more"), (2.6, "about 3 more")])
def test_at_least_one_is_said_to_come(to_come: float, said: str) -> None:
    assert said in _close(OBJECTS, found("undecided", to_come=to_come)).why


@pytest.mark.parametrize(
    ("without", "planted", "final", "shows"),
    [
        (found("steady", rise=0.0), found("grows"), False, True),
        (found("undecided", rise=0.0), found("grows"), True, False),
        (found("steady", rise=0.0), found("steady", rise=90.0), True, False),
        (found("steady", rise=0.0, swing=5.0), found("undecided", rise=10.0), True, False),
        (found("steady", rise=0.0, swing=5.0), found("undecided", rise=11.0), True, True),
        (found("steady", rise=0.0, swing=5.0), found("undecided", rise=11.0), False, False),
        (found("steady", rise=2.0, swing=5.0), found("undecided", rise=12.0), True, False),
        (found("steady", rise=-2.0, swing=5.0), found("undecided", rise=11.0), True, True),
    ],
)
def test_a_planted_leak_shows_where_it_changes_the_answer(
    without: Trend, planted: Trend, final: bool, shows: bool
) -> None:
    assert _shows(without, planted, final) is shows


@pytest.mark.parametrize(("first", "tooth"), [(9, 0.0), (10, 40.0)])
def test_a_saw_is_seen_from_the_tenth_run_of_the_warm_up_on(first: int, tooth: float) -> None:
    warm_up = [Reading("warm-up", first + 10 * i, {"objects": value}, {}) for i, value in enumerate((0, 40, 0, 0))]
    later = [Reading("baseline", 0, {"objects": 0}, {}), Reading("batch-1", 50, {"objects": 0}, {})]
    assert _tooth(warm_up, later, "objects") == tooth


def test_a_counter_that_the_warm_up_lacks_has_the_teeth_of_its_readings() -> None:
    warm_up = [Reading("warm-up", 10 * i, {"blocks": 0}, {}) for i in range(3)]
    assert _tooth(warm_up, readings(objects=[0, 40, 0, 0]), "objects") == 40.0
    assert _tooth([], readings(objects=[0, 40, 0, 0]), "objects") == 40.0
    assert swing_of(readings(blocks=[0, 1]), "objects") == 0.0


def test_two_readings_of_references_are_enough_to_judge_them() -> None:
    rows = readings(objects=[0] * 7)
    for at in (0, 6):
        rows[at] = Reading(rows[at].label, rows[at].runs, {**rows[at].counters, "references": at}, {})
    assert "references" in {row.counter for row in assess(rows).growth}


@pytest.mark.parametrize(("declared", "named"), [(2048, False), (2050, True)])
def test_declared_bytes_are_named_above_the_floor(declared: int, named: bool) -> None:
    rows = [
        Reading(f"batch-{i}", 50 * i, {"malloc_bytes": declared * i // 5}, {"malloc_bytes": declared * i // 5})
        for i in range(6)
    ]
    assert any("declared by the scenario" in text for text in assess(rows).forgiven) is named


@pytest.mark.parametrize(("gone", "why"), [(0, "stands still"), (1, "went, and so did the entries")])
def test_one_object_that_goes_is_enough_to_look_at_what_comes(gone: int, why: str) -> None:
    """A drain that lets one old object go beside a new one, in the last of six batches."""
    rows = readings(objects=[0] * 7, given_back=[0] * 6 + [gone], entries=[10] * 6 + [9], tracked=[0] * 7)
    row = next(row for row in assess(rows).growth if row.counter == "objects")
    assert why in row.rule


EDGES: list[tuple[str, list[float], dict[str, Any], str, float]] = [
    ("rises: 1 -> 0", [10, 10, 35], {}, "undecided", 0.25),
    ("rises: 1 -> 0", [0, 20, 240], {}, "undecided", 2.4),
    ("later: 2 -> 3", [0, -1, 1, -1, 2, 5, 6, 3, 6, 9, 9, 6, 9, 6, 4, 7], {}, "steady", 0.0),
    (
        "if later.feet.batches > 0 and later.feet.values[-1] <= later.feet.valu: 1 -> 0",
        [0, 5, 1, 6, 2, 7, 3, 8, 4],
        {},
        "undecided",
        0.01,
    ),
    ("(large, found): 2 -> 1", [0, 50, 100, 200, 100, 150, 100], {"turns": 5, "patience": 5}, "steady", 0.0),
    ("(large, found): 2 -> 3", [0, 0, 2, 7, 4, 4, 5, 4], {"backed": True, "patience": 5}, "undecided", 0.011429),
    (
        "rises: 1 -> 0",
        [
            0,
            20,
            20,
            20,
            30,
            40,
            40,
            40,
            50,
            50,
            60,
            70,
            80,
            80,
            90,
            110,
            130,
            130,
            130,
            140,
            160,
            180,
            200,
            200,
            200,
            210,
            220,
            240,
            240,
            250,
            270,
            270,
            270,
            290,
            300,
            320,
            330,
            350,
            360,
            360,
            370,
        ],
        {"floor": 100.0, "before": [0, 5, 10, 15, 1, 6, 11, 16]},
        "undecided",
        0.179487,
    ),
    (
        "rise <= SWING_FACTOR * terms.awaited(series): <= -> <",
        [0, 10, 20, 30, 40, 50, 60],
        {"tooth": 30.0},
        "undecided",
        0.2,
    ),
    (
        "crookedness <= step and rise > SWING_FACTOR * step: and -> or",
        [0, 10, 2, 12, 4, 14, 6, 16, 8, 18, 10, 20, 12, 22, 14, 24],
        {"patience": 8, "tooth": 1.0},
        "undecided",
        0.032,
    ),
    (
        "not many and (not straight): and -> or",
        [0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6, 5, 6, 7, 6, 7, 8, 7, 8, 9, 8, 9],
        {},
        "grows",
        0.006667,
    ),
    ("series.rise <= terms.floor: <= -> <", [0, 131, 181, 257, 385], {"floor": 385.0}, "steady", 1.925),
    (
        "lasting and series.feet.rise - series.feet.swing > series.largest_step: and -> or",
        [0, 10, 2, 12, 4, 14, 6, 16, 8, 18, 10, 20, 12, 22, 14, 24, 16, 28, 18, 28, 20],
        {"turns": 5, "patience": 8},
        "undecided",
        0.02,
    ),
    (
        "feet.batches < SEGMENTS: < -> <=",
        [0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7, 4, 5, 6, 7, 8, 5, 6, 7, 8, 9, 6],
        {"final": True},
        "grows",
        0.004,
    ),
    (
        "rise > SWING_FACTOR * step: > -> >=",
        [
            0,
            5,
            10,
            15,
            20,
            2,
            7,
            12,
            17,
            22,
            4,
            9,
            14,
            19,
            24,
            6,
            11,
            16,
            21,
            26,
            8,
            13,
            18,
            23,
            28,
            10,
            15,
            20,
            25,
            30,
            12,
        ],
        {"turns": 5},
        "undecided",
        0.008,
    ),
    ("risen_late <= series.swing: <= -> <", [0, 1, 5, 2, 0, 4, 5], {}, "steady", 0.0),
    ("later.feet.batches > 0: > -> >=", [0, 230, 20], {}, "undecided", 0.2),
    (
        "_crookedness(series) <= step: <= -> <",
        [0, 20, 30, 40, 60, 80, 100],
        {"floor": 50.0, "turns": 5, "before": [0, 5, 0, 5, 0, 5]},
        "grows",
        0.333333,
    ),
    (
        "len(rises) < EVEN_EVENTS: < -> <=",
        [0, 216, 20, 28, 38, 53, 58, 70, 75, 89, 100, 113],
        {"floor": 100.0},
        "undecided",
        0.186,
    ),
    ("(apart > 0) == falling: == -> !=", [0, 2, 3, 29, 7, 20], {}, "undecided", 0.08),
]
"""(what is changed in the judge's copy, readings 50 runs apart, terms, state, figure a run)."""


@pytest.mark.parametrize(("change", "values", "terms", "state", "per_run"), EDGES)
def test_a_series_on_the_line(
    change: str, values: list[float], terms: dict[str, Any], state: str, per_run: float
) -> None:
    before = terms.get("before")
    given = {**terms, "before": Series([10 * i for i in range(len(before))], before)} if before else terms
    answer = trend(runs_of(values), values, **given)
    assert (answer.state, round(answer.per_run, 6)) == (state, per_run), change


def test_a_step_counts_as_a_climb_of_twice_the_usual_step_at_most() -> None:
    series = Series(range(6), [0, 5, 25, 5, 0, 5])
    assert (series.tooth, series.feet.values) == (15.0, [0])


@pytest.mark.parametrize(
    ("counter", "values", "asked", "missed"),
    [
        ("malloc_bytes", [0, 1000, 2000, 3000, 4000, 5000, 6200, 7000, 7000, 7000, 7000], 4096.0, ()),
        ("malloc_bytes", [0, 20480, 40960, 40960, 40960], 4096.0, ("malloc_bytes",)),
        ("objects", [0, 0, 0, 35, 0, 25], 1.0, ()),
        (
            "rss",
            [0, 900_000, 200_000, 1_300_000, 500_000, 1_800_000, 1_200_000, 2_500_000, 2_100_000],
            4096.0,
            ("rss",),
        ),
        ("rss", [0, 900_000, 1_700_000, 2_100_000, 2_100_000, 2_100_000, 2_100_000, 2_100_000], 4096.0, ()),
    ],
    ids=[
        "rose at first: five batches since then show it",
        "four batches have no second half",
        "noise at the end",
        "resident size that swings as it rises",
        "resident size that rose at first",
    ],
)
def test_what_is_seen_at_the_end_of_the_budget(
    counter: str, values: list[int], asked: float, missed: tuple[str, ...]
) -> None:
    assert unseen(readings(**{counter: values}), asked, asked, final=True) == missed


@pytest.mark.parametrize("fall", [0, 600_000, 5_000_000])
def test_one_low_reading_of_resident_size_that_rises_is_no_rest(fall: int) -> None:
    """The reading that confirms a leak may find resident size lower: the kernel took pages of files back."""
    values = [30_000_000 + batch * 50 * 8192 for batch in range(155)]
    rows = readings(objects=[0] * 155, rss=[*values[:-1], values[-1] - fall])
    found = assess(rows, resident=ResidentGrowth("goes on", "in an arena"))
    assert found.state == ("steady" if fall else "grows")
    assert unseen(rows, 1.0, 4096.0, final=False) == ("rss",)
    assert unseen(rows, 1.0, 9000.0, final=False) == ()


def test_a_leak_that_is_not_called_is_not_taken_out_before_others_are_tried() -> None:
    assert detectable(readings(objects=[0, 100, 180, 296, 295, 339])).objects_per_run == 5.68
