"""``--leak-report FILE``: one page of a session, whichever process ran its tests."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser

import pytest

from leakharness.pytest_plugin.rows import Row
from leakharness.pytest_plugin.session_page import Carrier

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the exact counters are Linux's")

QUIET = ("-p", "no:cacheprovider", "-p", "no:randomly", "--leak-iters=10", "--leak-warmup=20")
SHARED = """
HELD = []


class Session:
    def __init__(self):
        self.buffer = bytearray(1_000_000)


def opened():
    HELD.append(Session())
"""
SUITE = """
import pytest
from shared import Session, opened


def test_leaks{0}():
    opened()


def test_clean{0}():
    Session()


@pytest.mark.leakcheck(skip="<b>binds</b> a port")
def test_excused{0}():
    opened()
"""


class Text(HTMLParser):
    """The text of a page, without its script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.silent = False
        self.feed(page)
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.silent = False

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data)


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(shared=SHARED, test_one=SUITE.format(1), test_two=SUITE.format(2))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\npythonpath = .\n")
    return pytester


def text_of(pytester: pytest.Pytester, *arguments: str) -> tuple[str, str]:
    """(page, its text) of a session in which two tests leak."""
    result = pytester.runpytest_subprocess(*QUIET, "--leakcheck", "--leak-report", "out/page.html", *arguments)
    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines([f"leak report: out{os.sep}page.html"])
    page = (pytester.path / "out" / "page.html").read_text(encoding="utf-8")
    assert page.count("<!doctype html>") == 1
    return page, Text(page).text


@pytest.mark.slow
def test_one_page_of_a_session_with_workers(suite: pytest.Pytester) -> None:
    """Two workers find the same cause: it is there once, with both tests and the path that holds the objects; beside it
    the checks of both, and what their files left behind."""
    page, text = text_of(suite, "-n", "2", "--dist=loadfile", "--leak-trace")
    assert "2 FAIL , 2 NOT_CHECKED , 2 PASS" in text
    assert page.count('<ol class="causes">') == 1
    assert len(re.findall(r"<h1", page)) == 2  # the session, and the cause
    assert "2 tests test_one.py::test_leaks1 test_two.py::test_leaks2" in text
    assert "shared.HELD (list)" in text
    assert "<b>binds</b> a port" in text
    assert "<b>binds" not in page
    assert re.search(r"gw[01] 1 file peak [\d.]+ MiB in test_(one|two)\.py", text)
    assert re.search(r"Reproduce pytest .*--leak-report out/page.html", text)


@pytest.mark.slow
def test_the_same_page_without_workers(suite: pytest.Pytester) -> None:
    """The process that runs the tests writes it; nothing was traced."""
    _, text = text_of(suite)
    assert "2 FAIL , 2 NOT_CHECKED , 2 PASS" in text
    assert "2 tests test_one.py::test_leaks1 test_two.py::test_leaks2" in text
    assert "Memory of the test files" not in text


def test_a_repeated_body_that_checks_something_leaves_no_more_for_each_run() -> None:
    """It would be found as a leak of the test; a leak that one run finds is not covered by a later PASS."""
    carrier = Carrier()
    document = {"scenario": "test_it: f", "mode": "callable"}
    for verdict in ("PASS", "FAIL", "PASS", "PASS"):
        carrier.add(Row("test_it", verdict), document)
    carrier.add(Row("test_it", "PASS"), {**document, "scenario": "test_it: g"})
    sent = list(carrier._pending.values())
    assert [(one["row"]["verdict"], one["document"]) for one in sent] == [("FAIL", document), ("PASS", None)]


@pytest.mark.slow
def test_what_a_test_asks_of_the_fixture_is_on_the_page(pytester: pytest.Pytester) -> None:
    """Its row, under the test's name."""
    pytester.makepyfile(
        """
        def test_asks(leakharness):
            leakharness.assert_no_leak(lambda: None, iters=1, batches=3, warmup=1)
        """
    )
    asked = pytester.runpytest_subprocess(*QUIET, "--leak-report=page.html")
    asked.assert_outcomes(passed=1)
    assert "1 PASS" in Text((pytester.path / "page.html").read_text(encoding="utf-8")).text


@pytest.mark.slow
def test_nothing_is_written_where_nothing_is_asked_for_or_can_be_written(pytester: pytest.Pytester) -> None:
    """A folder is no file: one line, before any test runs."""
    pytester.makepyfile("def test_it(): pass")
    (pytester.path / "folder").mkdir()
    refused = pytester.runpytest_subprocess("--leak-report=folder")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*--leak-report *folder: it is a folder"])
    empty = pytester.runpytest_subprocess("--leak-report=page.html")
    assert empty.ret == 0
    assert "No test was checked." in (pytester.path / "page.html").read_text(encoding="utf-8")
