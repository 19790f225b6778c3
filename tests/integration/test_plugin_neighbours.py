"""Other plugins beside ``--leakcheck``, each in a real pytest run: clean bodies pass, and a leaky one is found.

Slow, and each for itself left out where its plugin is not installed.
"""

from __future__ import annotations

import importlib.util
import os

import pytest

pytest_plugins = ["pytester"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the exact counters are Linux's"),
]
LEAKY = """
HELD = []
class Kept: pass
def test_leaky():
    HELD.append(Kept())
"""
SUITES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "asyncio, strict": (
        "pytest_asyncio",
        "import asyncio, pytest\n@pytest.mark.asyncio\nasync def test_it():\n    await asyncio.sleep(0)\n",
        ("--asyncio-mode=strict",),
    ),
    "asyncio, auto": (
        "pytest_asyncio",
        "import asyncio\nasync def test_it():\n    await asyncio.sleep(0)\n",
        ("--asyncio-mode=auto",),
    ),
    "anyio": (
        "anyio",
        "import anyio, pytest\n@pytest.mark.anyio\nasync def test_it():\n    await anyio.sleep(0)\n"
        "@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n",
        (),
    ),
    "anyio on trio": (
        "trio",
        "import anyio, pytest\n@pytest.mark.anyio\nasync def test_it():\n    await anyio.sleep(0)\n"
        "@pytest.fixture\ndef anyio_backend(): return 'trio'\n",
        (),
    ),
    "trio": (
        "pytest_trio",
        "import pytest, trio\n@pytest.mark.trio\nasync def test_it():\n    await trio.sleep(0)\n",
        (),
    ),
    "unittest": (
        "unittest",
        "import asyncio, unittest\nclass TestIt(unittest.TestCase):\n    def test_it(self): self.assertTrue(1)\n"
        "class TestIso(unittest.IsolatedAsyncioTestCase):\n    async def test_iso(self): await asyncio.sleep(0)\n",
        (),
    ),
    "hypothesis": (
        "hypothesis",
        "from hypothesis import given, settings, strategies as st\n"
        "class TestIt:\n    @given(st.integers())\n    @settings(max_examples=3, database=None)\n"
        "    def test_it(self, n): assert n == n\n",
        (),
    ),
    "xdist": ("xdist", "def test_it(tmp_path): (tmp_path / 'x').write_text('x')\n", ("-n", "1")),
    "timeout": ("pytest_timeout", "import time\ndef test_it(): time.sleep(0.02)\n", ("--timeout=3",)),
    "randomly": ("pytest_randomly", "import random\ndef test_it(): random.random()\n", ("-p", "randomly")),
    "rerunfailures": ("pytest_rerunfailures", "def test_it(): pass\n", ("--reruns=1",)),
    "cov": ("pytest_cov", "def test_it(): [].append(1)\n", ("--cov=.",)),
    "mock": (
        "pytest_mock",
        "import os, pytest\nfrom unittest import mock\n"
        "def test_it(mocker):\n    mocker.patch('os.getcwd')\n    os.getcwd()\n"
        "@pytest.fixture(scope='module')\ndef once(): return mock.Mock()\n"
        "def test_shared(once):\n    once.child(1, a=2)\n    once()\n",
        (),
    ),
    "freezegun": (
        "freezegun",
        "import datetime, freezegun\ndef test_it():\n    with freezegun.freeze_time('2020-01-01'):\n"
        "        datetime.datetime.now()\n",
        (),
    ),
}


@pytest.mark.parametrize("name", SUITES)
def test_clean_bodies_pass_and_a_leaky_one_fails_beside(name: str, pytester: pytest.Pytester) -> None:
    """With the plugin switched on as its users do."""
    module, body, words = SUITES[name]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    pytester.makepyfile(test_it=body, test_leaky=LEAKY)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--leakcheck", "--leak-max-seconds=120", *words)
    outcomes = result.parseoutcomes()
    assert outcomes.get("passed", 0) >= 1, outcomes
    assert outcomes.get("failed", 0) + outcomes.get("rerun", 0) >= 1
    result.stdout.fnmatch_lines(["*test_leaky.Kept * held by test_leaky.HELD*"])
    clean = [line for line in result.outlines if line.startswith(("FAILED", "ERROR")) and "test_it.py" in line]
    assert clean == []


def test_another_plugins_warnings_as_errors_end_no_session(pytester: pytest.Pytester) -> None:
    """A project that turns every warning into an error: our hooks warn of nothing."""
    pytester.makepyfile("def test_it(tmp_path, monkeypatch, caplog): pass\n")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--leakcheck", "-W", "error")
    result.assert_outcomes(passed=1)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
