"""What native code takes beside the sites of Python, and what memray says of it: pure."""

from __future__ import annotations

import pytest

from leakharness.measure.known import NATIVE_MEMORY
from leakharness.measure.native_memory import COMMAND, NativeSites, native_share, with_memray
from leakharness.model import NATIVE_GROWTH, HeldByC

ROW = HeldByC(NATIVE_MEMORY, 0.0, 5_000.0, f"4.88 KiB a run: native code took them; {COMMAND}")
SITE = {"of": NATIVE_GROWTH, "file": "lossy.c", "line": 63}


@pytest.mark.parametrize(
    ("malloc", "traced", "left"),
    [
        (5_400.0, 100.0, 5_300.0),
        (1_040.0, 1_024.0, 0.0),  # each chunk has some bytes of its own
        (2_500_000.0, 2_490_000.0, 0.0),
        (400.0, 100.0, 300.0),
        (400.0, 150.0, 0.0),  # few
        (5_400.0, 3_000.0, 0.0),  # the runs that were traced may have left less behind
        (0.0, 9_000.0, 0.0),
    ],
)
def test_what_no_allocator_of_python_s_gave_out(malloc: float, traced: float, left: float) -> None:
    """Told where it is most of what malloc gave out, and no trifle."""
    assert native_share(malloc, traced) == left


@pytest.mark.parametrize(
    ("asked", "end"),
    [
        (None, COMMAND),
        (NativeSites(), "`/usr/bin/python3 -m pip install memray`, and the same command again names the calls"),
        (NativeSites(True, (SITE,)), "memray names the calls under 'born at'"),
        (NativeSites(True), "memray saw no call of which each batch of runs leaves something"),
        (NativeSites(True, (), "run 60 raised"), "the calls are not known: run 60 raised"),
    ],
)
def test_a_sentence_on_native_memory_ends_with_what_memray_said(asked: NativeSites | None, end: str) -> None:
    """Or with the command that would let it say that."""
    assert with_memray(ROW, asked, "/usr/bin/python3").sentence == f"4.88 KiB a run: native code took them; {end}"


def test_other_sentences_stay_as_they_are() -> None:
    """Of what is no native memory memray is not the one to ask."""
    row = HeldByC("str", 1.0, 64.0, "1 str a run")
    assert with_memray(row, NativeSites(), "python3") is row
