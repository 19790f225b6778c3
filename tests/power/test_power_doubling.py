"""Leaks that show only as tables that double, and stores that double and stop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leakharness import RunResult, run

SCENES = Path(__file__).parent / "scenes" / "doubling.py"

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="bytes of malloc are read from glibc")


def measured(name: str, mode: str) -> RunResult:
    return run(f"{SCENES}::{name}", mode, snapshots="never", iters=200)


@pytest.mark.parametrize(("name", "per_run"), [("in-c", 64), ("in-bytes", 40)])
def test_a_table_that_doubles_is_found_by_its_steps(name: str, per_run: float) -> None:
    """Bytes of malloc alone, with the runs in which the steps came."""
    result = measured(name, "leaky")
    assert result.verdict == "FAIL", (result.reason, result.detail)
    grown = {growth.counter: growth.per_run for growth in result.growth if growth.grows}
    assert grown["malloc_bytes"] == pytest.approx(per_run, rel=0.25)  # a step came within two hundred runs
    assert "in steps that double, each after twice as many runs: " in result.reason
    assert "KiB in run " in result.reason


@pytest.mark.parametrize("name", ["in-c", "in-bytes", "in-a-store"])
def test_a_table_that_doubles_and_stops_passes(name: str) -> None:
    result = measured(name, "stops")
    assert result.verdict == "PASS", (result.reason, result.detail)
