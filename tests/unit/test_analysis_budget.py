"""What explains a verdict is given up in time, and says so."""

from __future__ import annotations

import threading

import pytest

from leakharness.errors import LeakHarnessError
from leakharness.measure.analysis_budget import within


def test_the_answer_comes_back() -> None:
    assert within(5.0, lambda: 7, "counting") == 7


def test_what_it_raises_is_raised() -> None:
    def fails() -> None:
        raise LeakHarnessError("no capture")

    with pytest.raises(LeakHarnessError, match="no capture"):
        within(5.0, fails, "reading")


def test_what_takes_too_long_is_given_up() -> None:
    end = threading.Event()
    with pytest.raises(LeakHarnessError, match=r"the analysis was given up after 0\.05 s"):
        within(0.05, lambda: end.wait(30), "the analysis")
    end.set()
