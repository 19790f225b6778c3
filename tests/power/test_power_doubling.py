"""Leaks that show only as tables that double, and stores that double and stop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness import RunResult, run

SCENES = Path(__file__).parent / "scenes" / "doubling.py"

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="bytes of malloc are read from glibc")


def measured(name: str, mode: str, iters: int) -> RunResult:
    return run(f"{SCENES}::{name}", mode, snapshots="never", iters=iters)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "per_run"), [("in-c", 64), ("in-bytes", 40)])
def test_a_table_that_doubles_is_found_by_its_steps(name: str, per_run: float) -> None:
    """Bytes of malloc alone, with the runs in which the steps came."""
    result = measured(name, "leaky", 200)
    assert result.verdict == "FAIL", (result.reason, result.detail)
    grown = grown_by(result)
    assert grown["malloc_bytes"] == pytest.approx(per_run, rel=0.25)  # a step came within two hundred runs
    assert "in steps that double, each after twice as many runs: " in result.reason
    assert "KiB in run " in result.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, "stops") for name in ("in-c", "in-bytes", "in-a-store")]
    + [(name, mode) for name in ("in-c", "in-a-store") for mode in ("cache-500", "cache-2000")],
)
@pytest.mark.parametrize("iters", [50, 200])
def test_a_table_that_doubles_and_stops_passes(name: str, mode: str, iters: int) -> None:
    """A bounded store grows by doublings too, until it is full: after as many runs as growth is followed for."""
    result = measured(name, mode, iters)
    assert result.verdict == "PASS", (result.reason, result.detail)
