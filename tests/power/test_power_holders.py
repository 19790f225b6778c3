"""Who holds what stays: the holder, and not what merely looks like one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leakharness import RunResult, run

SCENES = Path(__file__).parent / "scenes" / "holders.py"
MODULE = "scenarios.holders"

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="lengths are read as on Linux")


def found(name: str) -> RunResult:
    result = run(f"{SCENES}::{name}", snapshots="never", warmup=200, max_runs=300)
    assert result.verdict == "FAIL", result.reason
    return result


@pytest.mark.slow
def test_members_of_a_full_cache_that_are_replaced_are_not_named() -> None:
    """Twenty lists a run are replaced, one stays."""
    result = found("churn")
    assert result.retainers
    assert all("KEPT" in retainer.sentence for retainer in result.retainers)
    assert result.allocations[0]["source"] == "KEPT = [KEPT]"


@pytest.mark.slow
def test_the_key_of_a_weak_value_is_held_by_what_holds_the_value() -> None:
    result = found("weak")
    assert result.retainers[0].path[1].startswith(f"{MODULE}.REAL_HOLDER")
    assert not any("BY_KEY" in step for step in result.retainers[0].path)
    assert [row.path for row in result.growing_containers] == [f"REAL_HOLDER (list) of {MODULE}"]


@pytest.mark.slow
def test_atexit_is_named() -> None:
    result = found("exits")
    assert result.retainers[0].path[0] == "atexit's registered functions"
    assert "method Session.close" in result.retainers[0].sentence
    assert [row.per_run for row in result.growing_containers] == pytest.approx([1.0], abs=0.01)


@pytest.mark.slow
def test_equal_threads_are_one_way() -> None:
    result = found("threads")
    (retainer,) = result.retainers
    assert retainer.path[0].startswith("thread Thread-* (wait)")


@pytest.mark.slow
def test_what_nothing_refers_to_is_said_so() -> None:
    result = found("lost")
    (retainer,) = result.retainers
    assert "referred to by nothing that the heap shows" in retainer.sentence


@pytest.mark.slow
def test_the_unbounded_cache_is_named_and_the_full_one_is_not() -> None:
    result = found("caches")
    (retainer,) = result.retainers
    assert f"{MODULE}.adapter" in retainer.sentence
    assert "typing" not in retainer.sentence
    assert result.growing_containers[0].path == f"lru_cache of {MODULE}.adapter"


@pytest.mark.slow
def test_what_came_into_a_registry_is_the_headline_and_not_its_leaves() -> None:
    result = found("meters")
    assert result.growing_containers[0].path == f"Provider.meters (set), in {MODULE}.PROVIDER"
    assert result.growing_containers[0].per_run == pytest.approx(1.0, abs=0.01)
    assert result.retainers[0].target.endswith("Meter")
