"""Which revision is measured next: every place of a change, in chains and in histories with merges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakharness.proof.bisection import Answer, Found, History, search


def chain(count: int, *, old_leaks: bool = False) -> History:
    """``count`` revisions in a row, the first of which is the old end."""
    names = [f"c{number}" for number in range(count)]
    return History(names[0], names[-1], {name: [names[i]] for i, name in enumerate(names[1:])}, old_leaks)


def searched(history: History, answers: dict[str, Answer]) -> tuple[Found, list[str]]:
    """What is found, and what was measured for it."""
    asked: list[str] = []

    def ask(name: str, left: int) -> Answer:
        asked.append(name)
        return answers[name]

    return search(history, ask), asked


def answers_of(history: History, first: str) -> dict[str, Answer]:
    """PASS before ``first`` and FAIL from there on, in a chain; the other way round where the old end leaks."""
    names = [history.old, *history.parents]
    before: Answer = "FAIL" if history.old_leaks else "PASS"
    place = names.index(first)
    return {name: history.wanted if number >= place else before for number, name in enumerate(names)}


@pytest.mark.parametrize("old_leaks", [False, True])
def test_each_of_64_commits_is_found_in_at_most_seven_measurements(old_leaks: bool) -> None:
    """The one that brought the leak, and the one that mended it; both neighbours are among those measured."""
    history = chain(64, old_leaks=old_leaks)
    for number in range(1, 64):
        found, asked = searched(history, answers_of(history, f"c{number}"))
        assert found == Found(f"c{number}", f"c{number - 1}")
        assert len(asked) == len(set(asked)) <= 7
        assert {f"c{number}", f"c{number - 1}"} <= set(asked)


@given(st.integers(2, 300), st.data())
def test_a_chain_of_any_length(count: int, data: st.DataObject) -> None:
    """Found by one measurement more than halving takes, and one for the end that the search comes down to."""
    history = chain(count, old_leaks=data.draw(st.booleans()))
    first = data.draw(st.sampled_from(list(history.parents)))
    found, asked = searched(history, answers_of(history, first))
    assert found.first == first
    assert len(asked) <= 1 + math.ceil(math.log2(count))


@given(st.integers(2, 40), st.data())
def test_what_cannot_be_judged_is_passed_over(count: int, data: st.DataObject) -> None:
    """Any of them: what is found is right, or the change is among those that are named, which is never more than what
    could not be judged and the revision behind it."""
    history = chain(count)
    first = data.draw(st.sampled_from(list(history.parents)))
    answers = answers_of(history, first)
    inner = list(history.parents)[:-1]
    broken = data.draw(st.sets(st.sampled_from(inner))) if inner else set()
    found, _ = searched(history, answers | dict.fromkeys(broken, "NOT_JUDGED"))
    if found.first is not None:
        assert found.first == first
    else:
        assert first in found.suspects
        assert len(set(found.suspects) - broken) == 1


def test_a_row_of_broken_revisions_is_left_in_strides() -> None:
    """31 broken ones in the middle of 200 take a handful of measurements, not one each."""
    history = chain(200)
    answers = answers_of(history, "c180") | {f"c{number}": "NOT_JUDGED" for number in range(85, 116)}
    found, asked = searched(history, answers)
    assert found.first == "c180"
    assert len(asked) < 18


def test_an_end_that_leaks_not_ends_the_search_at_once() -> None:
    found, asked = searched(chain(64), dict.fromkeys([f"c{number}" for number in range(64)], "PASS"))
    assert found.first is None
    assert found.reason == "--bad c63 does not leak: it gave PASS"
    assert asked == ["c63"]
    found, _ = searched(chain(64), {"c63": "NOT_JUDGED"})
    assert found.reason == "--bad c63 could not be measured: it gave NOT_JUDGED"


@pytest.mark.parametrize("old_leaks", [False, True])
def test_an_end_that_does_not_pass_is_no_find(old_leaks: bool) -> None:
    """Everything leaks: the search comes down to the good end, measures it, and says so."""
    history = chain(64, old_leaks=old_leaks)
    found, asked = searched(history, dict.fromkeys([f"c{number}" for number in range(64)], "FAIL"))
    good = history.new if old_leaks else history.old
    assert (found.first, found.reason) == (None, f"--good {good} does not pass: it gave FAIL")
    assert len(asked) == 7


def test_two_neighbours_are_both_measured() -> None:
    found, asked = searched(chain(2), {"c0": "PASS", "c1": "FAIL"})
    assert found == Found("c1", "c0")
    assert asked == ["c1", "c0"]


@st.composite
def graphs(draw: st.DrawFn) -> History:
    """A history with merges: every revision but the first has one to three parents among the earlier ones."""
    count = draw(st.integers(2, 25))
    parents = {
        f"c{number}": [f"c{p}" for p in draw(st.lists(st.integers(0, number - 1), min_size=1, max_size=3, unique=True))]
        for number in range(1, count)
    }
    kept: dict[str, list[str]] = {}
    todo = [f"c{count - 1}"]
    while todo:
        name = todo.pop()
        if name != "c0" and name not in kept:
            kept[name] = parents[name]
            todo += parents[name]
    return History("c0", f"c{count - 1}", {name: kept[name] for name in parents if name in kept})


@given(graphs(), st.data())
def test_a_history_with_merges(history: History, data: st.DataObject) -> None:
    """A change that its descendants keep is found, wherever it was made."""
    first = data.draw(st.sampled_from(list(history.parents)))
    leaks: set[str] = set()
    for name, parents in history.parents.items():
        if name == first or leaks & set(parents):
            leaks.add(name)
    answers: dict[str, Answer] = {name: "FAIL" if name in leaks else "PASS" for name in ["c0", *history.parents]}
    found, asked = searched(history, answers)
    if history.new in leaks:
        assert found.first == first
        assert found.before is not None
        assert answers[found.before] == "PASS"
        assert found.before in asked
