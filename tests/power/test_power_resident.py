"""Resident memory inside address space that was reserved once: what goes on is a leak, what comes to an end is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness import run

SCENES = Path(__file__).parent / "scenes" / "resident.py"
WORDS = {
    "private": ("private anonymous memory at", 65_536),
    "shared": ("shared anonymous memory at", 8_192),
    "file": ("unlinked_bytes +", 65_536),  # an exact counter has it: a file without a name
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mappings are read from Linux's /proc")


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_an_arena_that_is_used_up_for_ever_is_a_leak(name: str) -> None:
    """FAIL, with the figure and the mapping that it grows in."""
    result = run(f"{SCENES}::{name}", "leaky", snapshots="never")
    assert result.verdict == "FAIL", result.reason
    words, number = WORDS[name]
    assert words in result.reason
    counters = ("unlinked_bytes", "rss") if name == "file" else ("rss",)
    grown = grown_by(result)
    assert grown == dict.fromkeys(counters, pytest.approx(number, rel=0.1))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_pages_touched_for_the_first_time_are_none(name: str) -> None:
    """A buffer that is full within the budget, and a file that is only read."""
    result = run(f"{SCENES}::{name}", "clean", snapshots="never")
    assert result.verdict == "PASS", result.reason
