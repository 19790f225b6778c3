"""What the checks of a session have in common: causes, known leaks, baseline, budget, summary, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import clean_environment

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the exact counters are Linux's")

SUITE = """
import pytest

HELD = []
ONCE = []


class Session:
    pass


def test_leaks():
    HELD.append(Session())


def test_leaks_by_the_same_cause():
    HELD.append(Session())


def test_leaks_text(kept=[]):
    kept.append(str(id(kept)) * 3)


def test_clean():
    Session()


def test_passes_once():
    ONCE.append(1)
    assert len(ONCE) == 1


@pytest.mark.leakcheck(skip="binds a port for ever")
def test_excused():
    HELD.append(Session())
"""
QUIET = ("-p", "no:cacheprovider", "-p", "no:randomly", "--leakcheck", "--leak-max-seconds=120")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_suite=SUITE)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


@pytest.mark.slow
def test_the_summary_groups_by_cause_and_names_what_was_not_checked(suite: pytest.Pytester) -> None:
    """The evidence once; a body that cannot be repeated is skipped with its reason; -v says what was done."""
    result = suite.runpytest_subprocess(*QUIET, "-v", "-rs")
    result.assert_outcomes(passed=2, failed=3, skipped=1)
    text = result.stdout.str()
    assert text.count("who holds them") == 1
    result.stdout.fnmatch_lines(
        [
            "*test_clean PASSED (quick look, * runs*",
            "*test_excused PASSED (not checked: binds a port for ever*",
            "*the same cause as in test_suite.py::test_leaks: evidence there",
            "*5 checked (1 by a quick look) in *: 3 FAIL, 1 NOT_CHECKED, 1 NOT_REPEATABLE, 1 PASS",
            "3 tests leak: 2 causes",
            "  1. * test_suite.Session * held by test_suite.HELD (list)*",
            "     2 of them: test_suite.py::test_leaks, test_suite.py::test_leaks_by_the_same_cause",
            "  2. * blocks +1 a run*",
            "cannot be repeated: test_suite.py::test_passes_once: * run 2 of it raised AssertionError*",
            "not checked: 1 test: binds a port for ever",
            "SKIPPED * test_suite.py:*: cannot be checked for leaks: *",
        ]
    )


@pytest.mark.slow
def test_a_body_that_cannot_be_repeated_fails_where_it_is_asked_for(suite: pytest.Pytester) -> None:
    """--leak-strict."""
    result = suite.runpytest_subprocess(*QUIET, "--leak-strict", "-k", "once")
    result.assert_outcomes(failed=1)


@pytest.mark.slow
def test_known_leaks_of_pyproject_are_excused_with_their_reason(suite: pytest.Pytester) -> None:
    """By type; what is not known fails as before."""
    known = '[tool.leakharness]\nknown = [{match = "test_suite.Session", reason = "until 2.0"}]\n'
    suite.makepyprojecttoml(known)
    result = suite.runpytest_subprocess(*QUIET, "-k", "leaks")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*2 KNOWN*", "*(until 2.0)*"])


@pytest.mark.slow
def test_a_baseline_is_written_and_then_only_new_causes_fail(suite: pytest.Pytester) -> None:
    """Causes by fingerprint, text by test and counter."""
    first = suite.runpytest_subprocess(*QUIET, "--leak-baseline=leaks.json", "-k", "test_leaks or test_clean")
    first.assert_outcomes(passed=4)
    first.stdout.fnmatch_lines(["2 causes written to *leaks.json: from now on only others fail"])
    document = json.loads((suite.path / "leaks.json").read_text())
    assert document["schema"] == "leakharness.baseline/1"
    assert [row["target"] for row in document["causes"]] == ["test_suite.Session"]
    assert document["tests"] == {"test_suite.py::test_leaks_text": ["blocks", "entries"]}
    more = "\n\nMORE = []\n\n\ndef test_new():\n    MORE.append(Session())\n"
    (suite.path / "test_suite.py").write_text((suite.path / "test_suite.py").read_text() + more)
    second = suite.runpytest_subprocess(*QUIET, "--leak-baseline=leaks.json", "-k", "leaks or new")
    second.assert_outcomes(passed=3, failed=1)
    (suite.path / "leaks.json").write_text("{}")
    broken = suite.runpytest_subprocess(*QUIET, "--leak-baseline=leaks.json")
    assert broken.ret == pytest.ExitCode.USAGE_ERROR
    broken.stderr.fnmatch_lines(["*--leak-baseline *leaks.json: not as leakharness.baseline/1 is written*"])


@pytest.mark.parametrize("text", ["", "10x", "-1m", "nan"])
def test_a_budget_that_is_none_is_a_usage_error(suite: pytest.Pytester, text: str) -> None:
    """One line."""
    result = suite.runpytest_subprocess(*QUIET, f"--leak-budget={text}", "-k", "clean")
    if text:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*--leak-budget {text}: a duration such as 90s, 10m or 1h"])


@pytest.mark.slow
def test_what_the_budget_leaves_over_comes_first_the_next_time(pytester: pytest.Pytester) -> None:
    """All tests run; those that were not checked are counted, and are checked by the next session."""
    pytester.makepyfile(test_many="import pytest\n@pytest.mark.parametrize('i', range(6))\ndef test_it(i): pass\n")
    words = ("--leakcheck", "--leak-budget=0.001s", "-p", "no:randomly")
    for checked in range(6):
        result = pytester.runpytest_subprocess(*words, "-v")
        result.assert_outcomes(passed=6)
        lines = [line for line in result.outlines if "PASSED (quick look" in line]
        assert len(lines) == 1
        assert f"test_it[{checked}]" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_check_ends_in_the_summary(suite: pytest.Pytester, number: int) -> None:
    """In the middle of a check of a test with tmp_path, after another has failed."""
    body = """
        def test_fails():
            assert 0

        def test_long(tmp_path):
            import time
            (tmp_path / "file").write_text("x")
            time.sleep(0.2)
            open("running", "w").close()
    """
    suite.makepyfile(test_long=body)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", *QUIET, "test_long.py"],
        cwd=suite.path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # which a job in the background ignores
    )
    end = time.monotonic() + 60
    while not Path(suite.path, "running").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, text
    assert "FAILED test_long.py::test_fails" in text
    assert "1 failed" in text
    assert "KeyError" not in text


def test_repeats_write_no_log_and_the_users_line_leads(pytester: pytest.Pytester) -> None:
    """--log-cli-level prints the first run alone; the frames of pytest and of plugins are left out."""
    pytester.makepyfile(
        """
        import logging
        SEEN = []
        def test_it():
            logging.getLogger("app").warning("said")
            SEEN.append(1)
            if len(SEEN) == 20:
                raise ValueError("the twentieth")
        """
    )
    result = pytester.runpytest_subprocess(*QUIET, "--leak-strict", "--log-cli-level=INFO")
    text = result.stdout.str()
    assert text.count("said") <= 3, text
    assert "run 20 of it raised ValueError: the twentieth" in text
    assert "pluggy/_" not in text
    assert "_pytest" not in text


@pytest.mark.slow
def test_checks_leave_no_descriptor_open_and_count_no_helper_of_the_harness(pytester: pytest.Pytester) -> None:
    """One a check would end a suite of a thousand tests; the judge beside this process grows with what it is told."""
    pytester.makeconftest(
        """
        import os
        def pytest_runtest_logfinish():
            with open("descriptors.txt", "a") as file:
                print(len(os.listdir("/proc/self/fd")), file=file)
        """
    )
    pytester.makepyfile(
        test_many="""
        import pytest
        KEPT = []

        @pytest.mark.parametrize("i", range(5))
        def test_clean(i):
            pass

        def test_leaky():
            KEPT.append([])
        """
    )
    result = pytester.runpytest_subprocess(*QUIET)
    result.assert_outcomes(passed=5, failed=1)
    counts = (pytester.path / "descriptors.txt").read_text().split()
    assert len(set(counts[1:5])) == 1, counts
    result.stdout.no_fnmatch_line("*children_rss*")
