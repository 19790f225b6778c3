"""Child processes, also those that detach, and the memory in them: found with their number, and gone at the end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness import run

SCENES = Path(__file__).parent / "scenes" / "processes.py"
LEAKY = {
    "daemon": ("children", 0.1),
    "background": ("children", 0.1),
    "ended": ("children", 0.1),
    "worker": ("children_rss", 131_072.0),
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted by prctl(2)")


def commands() -> list[str]:
    """The command lines of all processes."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip())
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAKY)
def test_a_child_is_counted_wherever_it_goes_and_ends_with_the_run(name: str) -> None:
    """FAIL, with the number; no daemon is left over."""
    result = run(f"{SCENES}::{name}", "leaky", snapshots="never")
    assert result.verdict == "FAIL", result.reason
    counter, number = LEAKY[name]
    grown = grown_by(result)
    assert grown.get(counter) == pytest.approx(number, rel=0.1), grown
    assert "sleep 611" not in commands()


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAKY)
def test_children_that_end_or_stay_as_they_are_are_silent(name: str) -> None:
    """A daemon or a background command that has ended would be waited for by init; a pool keeps its size."""
    result = run(f"{SCENES}::{name}", "clean", snapshots="never")
    assert result.verdict == "PASS", result.reason
