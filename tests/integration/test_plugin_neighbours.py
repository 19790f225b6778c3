"""Other plugins beside ``--leakcheck``, in real pytest runs: clean bodies pass, and leaky ones are found.

Slow. What is not installed is left out, test by test: `nox -s neighbours` has an environment with all of them.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_plugin_checks import Outcomes, outcomes, run_suite

pytest_plugins = ["pytester"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the exact counters are Linux's"),
]
INI = """
[pytest]
asyncio_default_fixture_loop_scope = function
django_find_project = false
pythonpath = .
"""
START = "import pytest\nHELD = []\nclass Kept:\n    pass\n"
ASYNC = """
import asyncio
{mark}
async def test_clean_{name}():
    await asyncio.sleep(0)
{mark}
async def test_leaky_{name}():
    await asyncio.sleep(0)
    HELD.append(Kept())
"""
SUITES: dict[str, tuple[str, str]] = {
    "asyncio": ("pytest_asyncio", ASYNC.format(mark="@pytest.mark.asyncio", name="asyncio")),
    "anyio": (
        "anyio",
        "import anyio, importlib.util\n"
        "@pytest.fixture(params=[name for name in ('asyncio', 'trio') if importlib.util.find_spec(name)])\n"
        "def anyio_backend(request):\n    return request.param\n"
        "@pytest.mark.anyio\nasync def test_clean_anyio():\n"
        "    async with anyio.create_task_group() as group:\n        group.start_soon(anyio.sleep, 0)\n"
        "@pytest.mark.anyio\nasync def test_leaky_anyio():\n    HELD.append(Kept())\n",
    ),
    "trio": (
        "pytest_trio",
        "import trio\n@pytest.fixture\nasync def served(nursery):\n    nursery.start_soon(trio.sleep_forever)\n"
        "@pytest.mark.trio\nasync def test_clean_trio(served):\n    await trio.sleep(0)\n"
        "@pytest.mark.trio\nasync def test_leaky_trio():\n    HELD.append(Kept())\n",
    ),
    "unittest": (
        "unittest",
        "import asyncio, unittest\nclass TestIt(unittest.TestCase):\n"
        "    def test_clean_case(self):\n        self.assertTrue(1)\n        self.addCleanup(list)\n"
        "    def test_leaky_case(self):\n        HELD.append(Kept())\n"
        "class TestIso(unittest.IsolatedAsyncioTestCase):\n"
        "    async def test_clean_isolated(self):\n        await asyncio.sleep(0)\n"
        "    async def test_leaky_isolated(self):\n        HELD.append(Kept())\n",
    ),
    "hypothesis": (
        "hypothesis",
        "from hypothesis import given, settings, strategies as st\nclass TestIt:\n"
        "    @given(st.integers())\n    @settings(max_examples=3)\n    def test_clean_given(self, n):\n"
        "        assert n == n\n"
        "    @given(st.integers())\n    @settings(max_examples=3)\n    def test_leaky_given(self, n):\n"
        "        HELD.append(Kept())\n",
    ),
    "mock": (
        "pytest_mock",
        "import os\nfrom unittest import mock\n"
        "def test_clean_mocker(mocker):\n    mocker.patch('os.getcwd')\n    os.getcwd()\n"
        "@pytest.fixture(scope='module')\ndef once():\n    return mock.Mock()\n"
        "def test_clean_shared(once):\n    once.child(1, a=2)\n    once()\n"
        "def test_clean_spied(module_mocker):\n    spied = module_mocker.spy(os, 'getcwd')\n    os.getcwd()\n"
        "    module_mocker.stop(spied)\n"
        "@pytest.fixture(scope='module')\ndef replaced(module_mocker):\n    return module_mocker.patch('os.getlogin')\n"
        "def test_clean_calls_of_a_module_mocker(replaced):\n    os.getlogin('a', [1])\n"
        "def test_leaky_calls_of_a_module_mocker(replaced):\n    HELD.append(Kept())\n    os.getlogin(HELD[-1])\n"
        "def test_leaky_mocker(mocker):\n    HELD.append(mocker.Mock())\n",
    ),
    "freezegun": (
        "freezegun",
        "import datetime, freezegun\ndef test_clean_frozen():\n    with freezegun.freeze_time('2020-01-01'):\n"
        "        datetime.datetime.now()\n"
        "@freezegun.freeze_time('2020-01-01')\ndef test_clean_decorated():\n    datetime.datetime.now()\n"
        "def test_leaky_frozen():\n    with freezegun.freeze_time('2020-01-01') as frozen:\n"
        "        frozen.tick()\n        HELD.append(Kept())\n        HELD[-1].born = datetime.datetime.now()\n",
    ),
    "timeout": (
        "pytest_timeout",
        "import time\n@pytest.mark.timeout(5)\ndef test_clean_limited():\n    time.sleep(0.01)\n",
    ),
    "randomly": ("pytest_randomly", "import random\ndef test_clean_random():\n    random.random()\n"),
    "django": (
        "pytest_django",
        "def test_clean_django(db):\n    from django.contrib.contenttypes.models import ContentType\n"
        "    ContentType.objects.create(app_label='a', model='b')\n"
        "def test_leaky_django(db):\n    from django.contrib.contenttypes.models import ContentType\n"
        "    HELD.append(ContentType.objects.create(app_label='a', model='b'))\n",
    ),
}
NEEDS = {"django": ("django",)}
"""pytest-django does not depend on Django itself."""
FEW = ("--leak-max-runs=1000", "--leak-max-seconds=120")
"""A leak is found in as many runs; how large it grows, where it is followed for longer, is not asked here."""
WITHOUT = [word for name in ("asyncio", "anyio", "trio", "django", "randomly") for word in ("-p", f"no:{name}")]
DJANGO = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""


def verdicts(results: Outcomes) -> dict[str, str]:
    """What contradicts a test's name, with what its report says."""
    return {
        name: text
        for name, (outcome, text) in results.items()
        if outcome != ("failed" if "leaky" in name else "passed") or ("leaky" in name and "HELD" not in text)
    }


def suite(folder: Path, *names: str) -> Path:
    """A folder with a file for each of these plugins that is installed."""
    (folder / "pytest.ini").write_text(INI)
    for name in names or SUITES:
        module, body = SUITES[name]
        if all(importlib.util.find_spec(needed) for needed in (module, *NEEDS.get(name, ()))):
            (folder / f"test_{name}.py").write_text(START + body)
            if name == "django":
                (folder / "pytest.ini").write_text(INI + "DJANGO_SETTINGS_MODULE = project_settings\n")
                (folder / "project_settings.py").write_text(DJANGO)
    return folder


def test_bodies_of_every_plugin_that_is_installed(tmp_path: Path) -> None:
    """All plugins at once, as a project has them that uses many; random order where pytest-randomly is there."""
    results = run_suite(suite(tmp_path), "--leakcheck", *FEW, timeout=1800)
    assert len(results) >= 5
    assert verdicts(results) == {}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("pytest_asyncio", ("--asyncio-mode=auto",)),
        ("xdist", ("-n", "1")),
        ("pytest_rerunfailures", ("--reruns=1",)),
        ("pytest_cov", ("--cov=.",)),
        ("pytest_timeout", ("--timeout=60",)),
        ("faulthandler", ("-o", "faulthandler_timeout=100")),
    ],
)
def test_a_plugin_that_an_option_switches_on(module: str, words: tuple[str, ...], tmp_path: Path) -> None:
    """As its users do."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    text = ASYNC.format(mark="", name="it")
    if module != "pytest_asyncio":
        text = text.replace("async def", "def").replace("await asyncio.sleep(0)", "[].append(1)")
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "test_it.py").write_text(START + text)
    results = run_suite(tmp_path, "--leakcheck", *FEW, "-p", "no:django", *words)
    assert set(results) == {"test_clean_it", "test_leaky_it"}
    assert verdicts(results) == {}


SUBJECT = """
def branches(n):
    return [i for i in range(n) if i % 2] or {n: n}
"""
TRACED = (
    START
    + """
import subject, sys
def test_clean_traced():
    assert sys.gettrace() or sys.monitoring.get_tool(1)
    subject.branches(4)
def test_leaky_traced():
    HELD.append((Kept(), subject.branches(0)))
"""
)


@pytest.mark.parametrize("core", ["ctrace", "sysmon"])
def test_coverage_alone(core: str, tmp_path: Path) -> None:
    """`coverage run --branch -m pytest --leakcheck`: the lines and arcs that it notes are its own."""
    if importlib.util.find_spec("coverage") is None:
        pytest.skip("coverage is not installed")
    if core == "sysmon" and sys.version_info < (3, 14):
        pytest.skip("coverage measures branches by sys.monitoring from 3.14 on")
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "subject.py").write_text(SUBJECT)
    (tmp_path / "test_it.py").write_text(TRACED)
    words = [
        "-m",
        "coverage",
        "run",
        "--branch",
        "--source=.",
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:cov",
    ]
    subprocess.run(
        [sys.executable, *words, "--junitxml=it.xml", "--leakcheck", *FEW, *WITHOUT],
        cwd=tmp_path,
        env={**os.environ, "COVERAGE_CORE": core},
        capture_output=True,
        timeout=240,
        check=False,
    )
    results = outcomes(tmp_path / "it.xml")
    assert set(results) == {"test_clean_traced", "test_leaky_traced"}
    assert verdicts(results) == {}


DEBUGGED = """
import sys
async def nested():
    await asyncio.sleep(0)
    return sys.get_coroutine_origin_tracking_depth()
@pytest.mark.asyncio
async def test_clean_tracked():
    loop = asyncio.get_running_loop()
    assert loop.get_debug()
    assert await asyncio.create_task(nested()) > 0
    coroutine = nested()
    assert coroutine.cr_origin
    coroutine.close()
    loop.call_soon(list)
    await asyncio.gather(nested(), nested())
@pytest.mark.asyncio
async def test_leaky_tracked():
    kept = Kept()
    kept.task = asyncio.create_task(nested())
    await kept.task
    HELD.append(kept)
def test_clean_runner():
    asyncio.run(nested(), debug=True)
"""


def test_asyncio_in_debug_mode_notes_where_coroutines_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's origin tracking and the source tracebacks of handles, tasks and futures."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "test_it.py").write_text(START + "import asyncio\n" + DEBUGGED)
    words = ["-p", "no:django", "-o", "asyncio_debug=true"]
    results = run_suite(tmp_path, "--leakcheck", *FEW, *words)
    assert set(results) == {"test_clean_tracked", "test_leaky_tracked", "test_clean_runner"}
    assert verdicts(results) == {}


FRAMEWORK = """
KEY = pytest.StashKey()

def test_clean_on_item(request):
    request.node.__dict__.setdefault("seen", []).append({"run": [1]})

def test_clean_in_stash(request):
    notes = request.node.stash.setdefault(KEY, [])
    notes.append(f"run {len(notes)} of many")

def test_leaky_beside_it(request):
    kept = Kept()
    request.node.stash.setdefault(KEY, []).append(kept)
    HELD.append(kept)
"""


def test_what_only_the_frameworks_objects_hold_is_left_out_by_name(
    pytester: pytest.Pytester,
) -> None:
    """By the way that leads to it; a leak of the program's beside it, or in it as well, fails."""
    pytester.makeini(INI)
    pytester.makepyfile(test_it=START + FRAMEWORK)
    result = pytester.runpytest_subprocess("--leakcheck", "--leak-max-seconds=300", "-v", *WITHOUT)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*test_clean_on_item PASSED*", "*test_clean_in_stash PASSED*", "*left out what*"])


def test_another_plugins_warnings_as_errors_end_no_session(pytester: pytest.Pytester) -> None:
    """A project that turns every warning into an error: our hooks warn of nothing."""
    pytester.makepyfile("def test_it(tmp_path, monkeypatch, caplog): pass\n")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--leakcheck", "-W", "error")
    result.assert_outcomes(passed=1)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
