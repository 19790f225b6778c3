"""A check that hangs in the pytest process itself is no verdict, and the next test is judged."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("pytest_asyncio")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no signals to ring with")
pytest_plugins = ["pytester"]

SUITE = """
import asyncio, threading, time
import pytest

RAN = {}


def fifth(name):
    RAN[name] = RAN.get(name, 0) + 1
    return RAN[name] == 5


def test_hangs():
    if fifth("sleep"):
        time.sleep(600)


def test_hangs_busily():
    while fifth("busy"):
        RAN["busy"] = 4
        try:
            threading.Event().wait(0.1)
        except Exception:
            pass


def test_hangs_and_catches_everything():
    if fifth("catch"):
        try:
            time.sleep(600)
        except BaseException:
            pass


@pytest.fixture
def hangs():
    yield
    if fifth("fixture"):
        time.sleep(600)


def test_hangs_in_its_tear_down(hangs):
    pass


@pytest.mark.asyncio
async def test_hangs_async():
    if fifth("async"):
        await asyncio.sleep(600)


@pytest.mark.leakcheck(timeout=1)
def test_hangs_by_its_own_marker():
    if fifth("marker"):
        time.sleep(600)


@pytest.mark.asyncio
async def test_clean_async():
    await asyncio.sleep(0)


def test_clean():
    pass
"""
CALLABLES = """
import asyncio, time

RAN = []


def fifth():
    RAN.append(1)
    return len(RAN) == 5


def test_hangs_plain(leakharness):
    def body():
        if fifth():
            time.sleep(600)

    leakharness.assert_no_leak(body, timeout=1)


def test_hangs_async(leakharness):
    async def body():
        if fifth():
            await asyncio.sleep(600)

    RAN.clear()
    leakharness.assert_no_leak(body, timeout=1)


def test_clean(leakharness):
    leakharness.assert_no_leak(lambda: None)
"""
CONFTEST = """
import signal
BEFORE = signal.getsignal(signal.SIGURG)
def pytest_runtest_teardown(item):
    assert signal.getsignal(signal.SIGURG) is BEFORE
"""
TOO_LONG_S = 100
"""Of a session that should take ten: it hangs."""


def run(pytester: pytest.Pytester, suite: str, *words: str) -> list[str]:
    """The lines of a session over ``suite``."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_sample=suite)
    return pytester.runpytest_subprocess("-vv", "--leak-process=here", *words, timeout=TOO_LONG_S).outlines


def outcomes(lines: list[str]) -> dict[str, str]:
    """``{test: what -vv says of it}``."""
    parts = [line.split() for line in lines if line.startswith("test_sample.py::")]
    return {words[0].partition("::")[2]: words[1] for words in parts}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "words", "tests"), [(SUITE, ("--leakcheck", "--leak-timeout=2"), 8), (CALLABLES, (), 3)]
)
def test_what_hangs_is_not_judged_and_the_session_goes_on(
    pytester: pytest.Pytester, suite: str, words: tuple[str, ...], tests: int
) -> None:
    lines = run(pytester, suite, *words)
    found = outcomes(lines)
    assert len(found) == tests
    assert found == {name: "FAILED" if "hangs" in name else "PASSED" for name in found}
    reasons = [line for line in lines if "NotJudged: hung: no verdict within " in line and line[:1] in "NE"]
    assert len(reasons) == sum("hangs" in name for name in found)
    assert any("time.sleep(600)" in line for line in lines), "where it hung"
