"""Bodies of hypothesis: one run is all examples, and every run has the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_plugin_checks import run_suite

pytest.importorskip("hypothesis")

SUITE = """
from hypothesis import given, settings, strategies as st

MEMO, KEPT = {}, []
few = settings(max_examples=4, database=None, deadline=None)


class Thing: pass


@few
@given(st.integers(0, 10**12))
def test_clean_memo(number):
    MEMO.setdefault(number, Thing())


class TestMethods:
    @few
    @given(st.integers(0, 10**12))
    def test_clean_memo_of_a_method(self, number):
        MEMO.setdefault(number, Thing())


@few
@given(st.integers())
def test_leaky(number):
    KEPT.append(Thing())
"""


@pytest.mark.slow
def test_what_remembers_its_arguments_is_no_leak_and_what_keeps_each_call_is(tmp_path: Path) -> None:
    """A memo of every number ever drawn would grow with new examples for each run."""
    (tmp_path / "test_it.py").write_text(SUITE)
    results = run_suite(tmp_path, "--leakcheck", "--leak-iters=5", "--leak-max-runs=60")
    assert {name: outcome for name, (outcome, _) in results.items()} == {
        "test_clean_memo": "passed",
        "test_clean_memo_of_a_method": "passed",
        "test_leaky": "failed",
    }
    assert "Thing" in results["test_leaky"][1]
    assert "LeakFound" in results["test_leaky"][1]
