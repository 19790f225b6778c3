"""Subtests of checked tests: each is reported as it is, and the whole body is what is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="subtests came with pytest 9")
pytest_plugins = ["pytester"]

SUITE = """
import unittest
import pytest

KEPT, RAN = [], []


def test_clean(subtests):
    for i in range(2):
        with subtests.test(i=i):
            pass


def test_leaky(subtests):
    for i in range(2):
        with subtests.test(i=i):
            KEPT.append([[]])


def test_fails(subtests):
    for i in range(2):
        with subtests.test(i=i):
            assert i


def test_fails_late(subtests):
    RAN.append(1)
    with subtests.test(i=0):
        assert len(RAN) < 4, "too late"


def test_skips(subtests):
    with subtests.test(i=0):
        pytest.skip("not here")


class TestCases(unittest.TestCase):
    def test_clean_case(self):
        for i in range(2):
            with self.subTest(i=i):
                pass

    def test_leaky_case(self):
        with self.subTest(i=0):
            KEPT.append([[]])

    def test_fails_case(self):
        for i in range(2):
            with self.subTest(i=i):
                self.assertTrue(i)

    def test_skips_case(self):
        with self.subTest(i=0):
            self.skipTest("not here")
"""
WANTED = [
    "FAILED tests/test_sample.py::test_leaky - LeakFound: FAIL*",
    "SUBFAILED(i=0) tests/test_sample.py::test_fails - assert 0*",
    "FAILED tests/test_sample.py::test_fails - contains 1 failed subtest",
    "SUBFAILED(i=0) tests/test_sample.py::TestCases::test_fails_case - AssertionError*",
    "FAILED tests/test_sample.py::TestCases::test_leaky_case - LeakFound: objects +2 a run*",
]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Path:
    for folder in ("tests", "elsewhere"):
        pytester.mkdir(folder)
    (pytester.path / "tests" / "test_sample.py").write_text(SUITE)
    return pytester.path


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--leak-process=fork",)])
def test_only_what_fails_or_leaks_is_reported_and_once(
    pytester: pytest.Pytester, suite: Path, words: tuple[str, ...]
) -> None:
    budget = ("--leak-iters=10", "--leak-max-runs=400")
    result = pytester.runpytest_subprocess("--leakcheck", *budget, "-p", "no:asyncio", "-vv", *words)
    said = [line for line in result.outlines if line.startswith(("FAILED ", "SUBFAILED"))]
    result.stdout.fnmatch_lines_random(WANTED)
    late = "cannot be repeated: tests/test_sample.py::test_fails_late: *, and run 4 of it had a subtest that failed: *"
    result.stdout.fnmatch_lines([late])
    assert not [line for line in said if "test_fails_late" in line]
    assert len(said) <= len(WANTED) + 1, said  # a TestCase with a failed subtest may fail itself, too
    reports = [line for line in result.outlines if "SUBPASSED" in line and "::test_clean " in line]
    assert len(reports) == 2


@pytest.mark.slow
def test_subtests_of_further_runs_are_not_reported_where_a_conftest_does_not_apply(
    pytester: pytest.Pytester, suite: Path
) -> None:
    (suite / "elsewhere" / "conftest.py").write_text("def pytest_runtest_logreport(report): pass")
    (suite / "elsewhere" / "test_other.py").write_text("def test_other(): pass")
    words = ("--leakcheck", "--leak-iters=10", "-p", "no:asyncio", "-vv", "-k", "clean or other")
    result = pytester.runpytest_subprocess(*words)
    result.stdout.fnmatch_lines(["*= 3 passed, 7 deselected, 4 subtests passed in *"])
