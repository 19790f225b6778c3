"""Stores with a bound that the scenario declares, and tracked objects that stay in a bounded cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leakharness import RunResult, run
from leakharness.errors import UsageError

SCENES = Path(__file__).parent / "scenes" / "bounded.py"

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the exact counters are Linux's")


def measured(name: str) -> RunResult:
    return run(f"{SCENES}::{name}", snapshots="never")


@pytest.mark.slow
def test_a_store_with_a_declared_bound_is_filled_and_passes() -> None:
    result = measured("store")
    assert result.verdict == "PASS", result.reason
    assert any("scenarios.bounded:STOPS, which the scenario says is bounded" in note for note in result.notes)


@pytest.mark.slow
def test_a_store_that_outgrows_its_declared_bound_is_a_leak() -> None:
    result = measured("beyond")
    assert result.verdict == "FAIL", result.reason
    assert "more than the 3,000 at which the scenario says it stops" in result.reason
    assert [row.reference for row in result.growing_containers] == ["scenarios.bounded:GOES_ON"]


@pytest.mark.slow
def test_a_declared_store_that_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match="bounded:GONE"):
        measured("nowhere")


def test_tracked_objects_that_stay_in_a_bounded_cache_are_told() -> None:
    """The warm-up fills it: none is retained since the baseline, and 200 are there."""
    result = measured("cache")
    assert result.verdict == "PASS", result.reason
    assert result.stays == ("200 Session stay in lru_cache(maxsize=200) of attachments: bounded",)
    assert "0/" not in result.reason


@pytest.mark.slow
def test_a_bounded_cache_that_is_not_full_within_the_budget_is_no_leak_and_hides_none() -> None:
    """Where the growth is just what such a cache has gained: PASS, with its name; one object a run beside it is a
    leak all the same."""
    result = run(f"{SCENES}::by-clock", "bounded", snapshots="never", max_seconds=3)
    assert result.verdict == "PASS", result.reason
    assert "held by lru_cache(maxsize=4000) of signed, which is bounded" in result.reason
    assert not any(row.grows for row in result.growth)
    assert run(f"{SCENES}::by-clock", "leaky", snapshots="never", max_seconds=3).verdict == "FAIL"


@pytest.mark.slow
def test_several_bounded_containers_that_are_not_full_within_the_budget_are_no_leak_and_hide_none() -> None:
    """Also where some of them have become full meanwhile."""
    result = run(f"{SCENES}::windows", "bounded", snapshots="never", warmup=50, max_runs=700)
    assert result.verdict == "PASS", result.reason
    if "held by" in result.reason:  # else it came to rest by chance
        assert " x deque(maxlen=12), which are bounded and together have" in result.reason
    assert run(f"{SCENES}::windows", "leaky", snapshots="never", warmup=50, max_runs=700).verdict == "FAIL"


def test_ever_more_containers_each_of_which_is_bounded_are_no_pass() -> None:
    """At random, and so few runs that it is open whether they go on."""
    result = run(f"{SCENES}::windows", "ever-more", snapshots="never", warmup=50, max_runs=400)
    assert result.verdict != "PASS", result.reason
