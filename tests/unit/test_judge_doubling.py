"""Growth in steps that double: a table to read, then any store whose room doubles, and any that stops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakharness.judge.doubling import Doubling
from leakharness.judge.policy import MALLOC_FLOOR_BYTES
from leakharness.judge.verdict import assess
from leakharness.model import Reading

KIB = 1024
ITERS = 50
WARM_UP = [1, 5, 10, 20, 40, *range(80, 601, 50)]
"""The runs after which a warm-up reads."""


def steps(*at: tuple[int, float], until: int = 0) -> tuple[list[int], list[float]]:
    """A series that is read after every fifty runs, and rises by so much at each of these runs."""
    runs = list(range(0, max(until, at[-1][0]) + 1, ITERS))
    return runs, [sum(size for run, size in at if run <= now) for now in runs]


DOUBLED = ((100, 8), (200, 16), (400, 32), (800, 64))
TABLE: list[tuple[str, tuple[tuple[int, float], ...], bool]] = [
    ("four that double", DOUBLED, True),
    ("five", ((50, 4), *DOUBLED), True),
    ("three alone", DOUBLED[1:], False),
    ("none", ((400, 0),), False),
    ("equal sizes", ((100, 8), (200, 8), (400, 8), (800, 8)), False),
    ("equal distances, as of arenas", ((400, 8), (800, 16), (1200, 32), (1600, 64)), False),
    ("sizes that triple", ((100, 2), (200, 6), (400, 18), (800, 54)), False),
    ("sizes that fall", ((100, 64), (200, 32), (400, 16), (800, 8)), False),
    ("ever faster", ((100, 8), (900, 16), (1300, 32), (1500, 64)), False),
    ("one that is no step beside them", (*DOUBLED[:3], (600, 3), (800, 64)), True),
    ("as much beside them", (*DOUBLED[:3], (500, 12), (600, 12), (700, 12), (800, 64)), False),
]


@pytest.mark.parametrize(("at", "doubles"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_doubles(at: Sequence[tuple[int, float]], doubles: bool) -> None:
    """Four steps, in size and in distance, with next to nothing beside them."""
    assert (Doubling.of(*steps(*at)) is not None) == doubles


def test_the_figures_of_steps() -> None:
    """What a run leaves behind, the runs in words, and when the next one should have come."""
    found = Doubling.of(*steps(*DOUBLED, until=900))
    assert found is not None
    assert found.per_run == (8 + 16 + 32) / 700
    assert found.in_words(150) == (
        "steps that double, each after twice as many runs: "
        "8 B in the warm-up, 16 B in run 50, 32 B in run 250, 64 B in run 650"
    )
    assert (found.seen_lately(900), found.seen_lately(901)) == (True, False)
    assert found.overdue == 800 + round(2.6 * (400 + 50))


def beside(*rises: float) -> bool:
    """Whether steps of 8, 16, 32 and 64 still double with these rises beside them, a batch each, the last one at the
    end."""
    free = [run for run in range(150, 800, ITERS) if run not in (200, 400)]
    at = {**dict(zip(free, rises[:-1], strict=False)), **dict(DOUBLED), 850: rises[-1]}
    return Doubling.of(*steps(*sorted(at.items()))) is not None


def test_a_quarter_of_the_steps_after_the_first_may_come_beside_them() -> None:
    """BESIDE_STEPS: of 16, 32 and 64, which are 112; also what came after the last one."""
    assert beside(*[3] * 9, 1)
    assert not beside(*[3] * 8, 2, 3)


@pytest.mark.parametrize(("rise", "doubles"), [(3.75, True), (4, False)])
def test_a_twentieth_of_the_largest_is_a_step(rise: float, doubles: bool) -> None:
    """SMALL_STEP."""
    at = ((100, 10), (200, 20), (400, 40), (600, rise), (800, 80))
    assert (Doubling.of(*steps(*at)) is not None) == doubles


@pytest.mark.parametrize(
    ("at", "doubles"),
    [
        ((100, 400, 750, 1450), True),
        ((100, 400, 700, 1400), False),
        ((100, 300, 1000, 2000), True),
        ((100, 300, 1050, 2050), False),
    ],
    ids=["at least 1.6 times as far", "less", "at most 2.6 times as far", "more"],
)
def test_distances_double_as_far_as_batches_of_fifty_tell(at: tuple[int, ...], doubles: bool) -> None:
    """LEAST_DOUBLED of a distance less a batch, MOST_DOUBLED of one and a batch."""
    assert (Doubling.of(*steps(*zip(at, (8, 16, 32, 64), strict=True))) is not None) == doubles


@pytest.mark.parametrize(
    ("sizes", "doubles"),
    [((625, 1000, 2000, 4000), True), ((625, 999, 1998, 3996), False), ((625, 1625, 3250, 6500), True)],
)
def test_sizes_double_by_1_6_to_2_6(sizes: tuple[float, ...], doubles: bool) -> None:
    """LEAST_DOUBLED and MOST_DOUBLED."""
    assert (Doubling.of(*steps(*zip((100, 200, 400, 800), sizes, strict=True))) is not None) == doubles
    assert Doubling.of(*steps(*zip((100, 200, 400, 800), (625, 1626, 3252, 6504), strict=True))) is None


def test_a_step_may_have_come_at_any_time_since_the_reading_before() -> None:
    """The longest batch from the one that the first step came in."""
    runs = [0, 300, 500, *range(550, 1351, ITERS)]
    low = [
        0.0,
        0,
        *(sum(size for size, at in ((8, 500), (16, 650), (32, 850), (64, 1300)) if at <= r) for r in runs[2:]),
    ]
    found = Doubling.of(runs, low)
    assert found is not None
    assert found.blur == 200


def test_a_step_in_the_last_run_of_the_warm_up_came_there() -> None:
    found = Doubling.of(*steps(*DOUBLED))
    assert found is not None
    assert "8 B in the warm-up, 16 B in run 100" in found.in_words(100)


def read(runs: Sequence[int], used: Sequence[float], unit: float, first_room: float = 8) -> list[Reading]:
    """Readings of a store whose room is doubled whenever it is full; ``used`` entries at each of them."""
    rows = []
    for run, entries in zip(runs, used, strict=True):
        room = first_room
        while room < entries:
            room *= 2
        rows.append(Reading("", run, {"malloc_bytes": int(room * unit)}))
    return rows


def assessed(batches: int, a_run: float, unit: float, most: float, *, final: bool = False) -> str:
    """The verdict on a store that gets ``a_run`` entries a run until it has ``most``, after so many batches."""
    early = read(WARM_UP, [min(a_run * run, most) for run in WARM_UP], unit)
    runs = [i * ITERS for i in range(batches + 1)]
    late = read(runs, [min(a_run * (WARM_UP[-1] + run), most) for run in runs], unit)
    return assess(late, warm_up=early, final=final).state


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(a_run=st.floats(0.5, 20), unit=st.sampled_from([64, 100, 4096]))
def test_a_store_that_goes_on_is_called_at_some_look(a_run: float, unit: float) -> None:
    """Whatever its pace, the judge calls it within the budget, having passed it at no look before that."""
    states = [assessed(batches, a_run, unit, float("inf"), final=batches == 200) for batches in range(5, 201, 5)]
    assert "grows" in states
    assert "steady" not in states[: states.index("grows")]


@settings(max_examples=60, deadline=None)
@given(a_run=st.floats(0.5, 20), unit=st.sampled_from([64, 100, 4096]), runs=st.integers(50, 2_000))
def test_a_store_that_stops_is_steady_once_its_next_step_has_not_come(a_run: float, unit: float, runs: int) -> None:
    """One that is full after so many runs is no growth after four times as many, and never called again."""
    first = max(6, (4 * runs + 600) // ITERS)
    states = [assessed(batches, a_run, unit, a_run * runs) for batches in range(first, first + 30, 10)]
    assert set(states) == {"steady"}
    assert assessed(first, a_run, unit, a_run * runs, final=True) == "steady"


def test_steps_below_the_floor_are_forgiven() -> None:
    """Tables of a few hundred bytes double in any process."""
    small = MALLOC_FLOOR_BYTES / 1024 / 8
    assert assessed(200, 1, small, float("inf"), final=True) == "steady"


def test_the_reason_says_in_which_runs_the_steps_came() -> None:
    """The figure of such a leak cannot be seen in a series of equal stretches; the steps can."""
    early = read(WARM_UP, WARM_UP, KIB)
    late = read(range(0, 451, ITERS), [600 + run for run in range(0, 451, ITERS)], KIB)
    found = assess(late, warm_up=early)
    assert found.state == "grows"
    assert found.why == (
        "malloc_bytes +1,019 a run, in steps that double, each after twice as many runs: "
        "128 KiB in the warm-up, 256 KiB in the warm-up, 512 KiB in the warm-up, 1 MiB in run 450"
    )
