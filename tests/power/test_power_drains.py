"""Growth that something else which shrinks hides: each container is compared with itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness import RunResult, run

SCENES = Path(__file__).parent / "scenes" / "drains.py"
LEAKY = {
    "exchange": {"objects": 0.5, "entries": 0.5},
    "text": {"entries": 1.0},
    "shards": {"objects": 1.0, "entries": 1.0},
    "chain": {"objects": 1.0},
}

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="lengths are read as on Linux")


def measured(name: str, mode: str) -> RunResult:
    return run(f"{SCENES}::{name}", mode, snapshots="never")


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAKY)
def test_what_drains_hides_nothing(name: str) -> None:
    """FAIL with the exact number, though as much goes as comes."""
    result = measured(name, "leaky")
    assert result.verdict == "FAIL", result.reason
    grown = grown_by(result)
    for counter, number in LEAKY[name].items():
        assert grown.get(counter) == pytest.approx(number, rel=0.02), grown


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAKY)
def test_what_only_drains_or_takes_the_place_of_others_passes(name: str) -> None:
    """PASS: no container is longer than it was."""
    result = measured(name, "clean")
    assert result.verdict == "PASS", result.reason


@pytest.mark.slow
def test_a_registry_of_warnings_is_not_emptied_by_looking() -> None:
    """Each look forks, which warns from 3.12 on where there are threads; what silences that must not touch what the
    program's own warnings leave behind."""
    result = run(f"{SCENES.with_name('warned.py')}::warned", "leaky", snapshots="never")
    assert result.verdict == "FAIL", result.reason
    assert grown_by(result)["entries"] == 1.0
    clean = run(f"{SCENES.with_name('warned.py')}::warned", "clean", snapshots="never")
    assert clean.verdict == "PASS", clean.reason
