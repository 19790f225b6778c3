"""``hold`` and ``wedged`` excuse an object once, by identity, and one that was there before the baseline not at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness import RunResult, run

FOLDER = Path(__file__).parent / "scenes"
SCENES = FOLDER / "kept.py"

LEAKY = {
    "same": {"objects": 1.0},
    "pool": {"objects": 1.0},
    "fresh": {"objects": 3.0 if sys.version_info < (3, 11) else 2.0},  # before 3.11 with the dict of its instance
    "table": {"entries": 4096.0},
    "attribute": {"blocks": 1.0},
    "future": {"objects": 4.0},
}
"""What each leaves behind in a run, besides what it holds on purpose."""


def measured(name: str, mode: str) -> RunResult:
    return run(f"{SCENES}::{name}", mode, snapshots="never")


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAKY)
def test_what_is_held_on_purpose_excuses_nothing_else(name: str) -> None:
    """FAIL, by exactly what is left behind beside it."""
    result = measured(name, "leaky")
    assert result.verdict == "FAIL", result.reason
    grown = grown_by(result)
    for counter, number in LEAKY[name].items():
        assert grown.get(counter) == pytest.approx(number, rel=0.25 if name == "table" else 0.02), (
            grown
        )  # a buffer grows in steps


@pytest.mark.parametrize("name", LEAKY)
def test_what_is_held_on_purpose_is_no_growth(name: str) -> None:
    """PASS, and only what is new in each run is declared."""
    result = measured(name, "clean")
    assert result.verdict == "PASS", result.reason
    declared = {growth.counter: growth.declared for growth in result.growth}
    assert declared["objects"] == (1.0 if name == "fresh" else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slotted", "labels"])
def test_tracked_objects_are_counted_in_other_ways(name: str) -> None:
    """By type where they have no weak references; under a label each, without the harness's own growth."""
    leaky = run(f"{FOLDER / 'tracked.py'}::{name}", "leaky", snapshots="never")
    assert leaky.verdict == "FAIL", leaky.reason
    grown = {growth.counter: growth.per_run for growth in leaky.growth if growth.grows}
    assert (grown["tracked"], grown["objects"]) == (1.0, 1.0)
    clean = run(f"{FOLDER / 'tracked.py'}::{name}", "clean", snapshots="never")
    assert (clean.verdict, clean.retained) == ("PASS", 0), clean.reason
