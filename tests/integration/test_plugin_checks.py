"""The marker, ``--leakcheck`` and the fixture: one sample suite of leaky and clean twins, run as users run it."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SUITE = """
import asyncio, gc, logging, sys, unittest, warnings, weakref
import pytest

KEPT = []
REFS = []
FROZEN = gc.get_freeze_count()  # 3.12 starts with some
UPS = {"function": 0, "module": 0}


class Session:
    def __init__(self):
        self.cycle = self


quick = pytest.mark.leakcheck(iters=10, max_runs=400)


@quick
def test_leaky_plain():
    session = Session()
    REFS.append(weakref.ref(session))
    KEPT.append(session)


def test_nothing_of_ours_keeps_what_leaked():
    KEPT.clear()
    gc.collect()
    assert not [ref for ref in REFS if ref() is not None]
    assert gc.get_freeze_count() in (0, FROZEN)
    REFS.clear()


@quick
def test_clean_plain():
    Session()


@quick
def test_clean_although_pytest_records_it(caplog, monkeypatch, capsys, record_property, tmp_path, recwarn, request):
    logging.getLogger("app").warning("again %s", object())
    warnings.warn("again")
    print("again" * 100)
    monkeypatch.setattr(sys, "argv", [object()])
    monkeypatch.setenv("AGAIN", "1")
    record_property("again", "x")
    request.addfinalizer(lambda: None)
    (tmp_path / "again").write_text("x")


@quick
@pytest.mark.parametrize("leaks", [True, False])
class TestInClass:
    def test_parametrised(self, leaks):
        if leaks:
            KEPT.append(Session())


@quick
@pytest.mark.asyncio
async def test_clean_async():
    await asyncio.sleep(0)


@quick
@pytest.mark.asyncio
async def test_leaky_async():
    KEPT.append(asyncio.get_running_loop().create_future())
    await asyncio.sleep(0)


@quick
@pytest.mark.anyio
async def test_clean_anyio():
    await asyncio.sleep(0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@quick
class TestCases(unittest.TestCase):
    def setUp(self):
        self.session = Session()

    def test_clean_unittest(self):
        self.assertTrue(self.session)

    def test_leaky_unittest(self):
        KEPT.append(self.session)

    def test_failing_unittest(self):
        KEPT.append(self.session)
        self.assertEqual(1, 2)

    def test_skipped_unittest(self):
        KEPT.append(self.session)
        self.skipTest("not here")


@quick
class TestAsyncCases(unittest.IsolatedAsyncioTestCase):
    async def test_clean_isolated_async(self):
        await asyncio.sleep(0)


@quick
def test_failing():
    KEPT.append(Session())
    assert 1 == 2


@quick
def test_skipped():
    KEPT.append(Session())
    pytest.skip("not here")


@quick
@pytest.mark.xfail
def test_xfailed():
    KEPT.append(Session())
    assert 1 == 2


@pytest.fixture(scope="module")
def shared():
    UPS["module"] += 1
    return object()


@pytest.fixture
def own(shared):
    UPS["function"] += 1
    yield Session()


@quick
def test_clean_with_fixtures_once(own):
    assert UPS["module"] == 1 and UPS["function"] == 1


@pytest.mark.leakcheck(iters=10, fresh_fixtures=True)
def test_clean_with_fresh_fixtures(own, tmp_path):
    (tmp_path / "new").mkdir()


def test_fixtures_were_set_up_as_asked(own):
    assert UPS["module"] == 1
    assert UPS["function"] > 50


@pytest.fixture
def leaking_fixture():
    session = Session()
    KEPT.append(session)
    return session


@pytest.mark.leakcheck(iters=10, max_runs=400, fresh_fixtures=True)
def test_leaky_fixture(leaking_fixture):
    assert leaking_fixture


RAN = []


@quick
def test_cannot_be_repeated():
    RAN.append(1)
    assert len(RAN) < 5


def test_callable(leakharness):
    leakharness.assert_no_leak(Session, iters=10)


def test_callable_takes_the_run_and_ends_as_declared(leakharness):
    def body(run):
        run.track(Session())
        raise LookupError

    leakharness.assert_no_leak(body, iters=10, abort="raise")


def test_callable_leaks(leakharness):
    def body(run):
        KEPT.append(run.track(Session(), "session"))

    leakharness.assert_no_leak(body, iters=10, max_runs=400)


def test_callable_async(leakharness):
    async def body():
        await asyncio.sleep(0)

    leakharness.assert_no_leak(body, iters=10)


def test_callable_fails_as_itself(leakharness):
    def body():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        leakharness.assert_no_leak(body)
"""
LEAKY = {
    "test_leaky_plain": "KEPT",
    "test_parametrised[True]": "KEPT",
    "test_leaky_async": "KEPT",
    "test_leaky_unittest": "KEPT",
    "test_leaky_fixture": "KEPT",
    "test_callable_leaks": "KEPT",
}
NOT_LEAKS = {
    "test_failing": ("failed", "assert 1 == 2"),
    "test_failing_unittest": ("failed", "1 != 2"),
    "test_skipped": ("skipped", "not here"),
    "test_skipped_unittest": ("skipped", "not here"),
    "test_xfailed": ("skipped", ""),
    "test_cannot_be_repeated": ("skipped", "cannot be repeated"),
}
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"

Outcomes = dict[str, tuple[str, str]]


def outcomes(xml: Path) -> Outcomes:
    """``{test name: (passed, failed or skipped; what the report says)}`` of a junit file."""
    found = {}
    for case in ElementTree.parse(xml).getroot().iter("testcase"):
        parts = {part.tag: part for part in case}
        part = next((parts[tag] for tag in ("failure", "error", "skipped") if tag in parts), None)
        outcome = "passed" if part is None else "skipped" if part.tag == "skipped" else "failed"
        text = "" if part is None else f"{part.get('message')} {part.text or ''}"
        found[str(case.get("name"))] = (outcome, text)
    return found


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checks")
    (folder / "test_sample.py").write_text(SUITE)
    (folder / "pytest.ini").write_text(INI)
    return folder


def run_suite(folder: Path, *words: str, timeout: float = 900.0) -> Outcomes:
    import subprocess
    import sys

    xml = folder / f"junit-{abs(hash(words))}.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={xml}", *words],
        cwd=folder,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    return outcomes(xml)


@pytest.fixture(scope="module")
def results(suite: Path) -> Outcomes:
    return run_suite(suite)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAKY)
def test_a_leaky_body_fails_with_the_evidence_and_the_retainer_path(results: Outcomes, name: str) -> None:
    outcome, text = results[name]
    assert outcome == "failed"
    assert "LeakFound" in text
    assert LEAKY[name] in text, "the retainer path names who holds it"
    assert "reproduce" in text or "the same cause as in test_sample.py::" in text, "the whole evidence once a cause"


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_LEAKS)
def test_a_body_that_fails_or_is_skipped_is_itself_and_no_leak_report(results: Outcomes, name: str) -> None:
    outcome, text = results[name]
    assert (outcome, True) == (NOT_LEAKS[name][0], NOT_LEAKS[name][1] in text)
    assert "LeakFound" not in text


def test_every_clean_body_passes(results: Outcomes) -> None:
    clean = {name: row for name, row in results.items() if name not in LEAKY and name not in NOT_LEAKS}
    assert len(clean) >= 15
    assert {name: text for name, (outcome, text) in clean.items() if outcome != "passed"} == {}


def test_a_body_that_cannot_be_repeated_says_so(results: Outcomes) -> None:
    assert "the body passed once" in results["test_cannot_be_repeated"][1]
    assert "fresh_fixtures=True" in results["test_cannot_be_repeated"][1]


@pytest.mark.slow
def test_under_xdist_the_verdicts_are_the_same(suite: Path, results: Outcomes) -> None:
    chosen = "leaky_plain or clean_plain or async or unittest or callable or failing"
    spread = run_suite(suite, "-n2", "-k", chosen)
    assert len(spread) >= 12
    assert {name: row[0] for name, row in spread.items()} == {name: results[name][0] for name in spread}
    assert "KEPT" in spread["test_leaky_plain"][1]


REPLACED = """
import contextlib
import sys
from unittest import mock
import pytest

HELD = []
NAMES = (
    "builtins.open", "gc.collect", "gc.get_objects", "json.dumps", "json.loads", "os.fork", "os.getpid", "os.listdir",
    "os.waitpid", "signal.signal", "subprocess.Popen", "time.monotonic", "time.perf_counter",
    "time.sleep", "time.time",
)
if sys.version_info < (3, 14):  # pathlib calls it from then on, and pytest calls pathlib
    NAMES += ("os.path.exists",)


class Kept:
    pass


@pytest.fixture(scope="module", autouse=True)
def replaced():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(mock.patch(name)) for name in NAMES]


@pytest.mark.leakcheck(iters=10, max_runs=100)
def test_clean():
    Kept()


@pytest.mark.leakcheck(iters=10, max_runs=100)
def test_leaky():
    HELD.append(Kept())


def test_nobody_but_the_tests_called_them(replaced):
    assert {name: one.mock_calls for name, one in zip(NAMES, replaced) if one.mock_calls} == {}
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="one of the replaced functions is not there")
def test_what_a_test_replaces_does_not_reach_the_check(tmp_path: Path) -> None:
    """Clocks, files, the collector and the process itself are mocks for the whole check: the verdicts are right, and
    no mock has counted a call of ours."""
    (tmp_path / "test_replaced.py").write_text(REPLACED)
    found = run_suite(tmp_path, "-p", "no:asyncio")
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "test_clean": "passed",
        "test_leaky": "failed",
        "test_nobody_but_the_tests_called_them": "passed",
    }, found
    assert "LeakFound" in found["test_leaky"][1]
    assert "HELD" in found["test_leaky"][1]


def test_leakcheck_judges_every_selected_test_with_fresh_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        KEPT = []
        class Session: pass
        def test_writes(tmp_path):
            (tmp_path / "new").mkdir()
        def test_keeps():
            KEPT.append(Session())
        def test_other():
            KEPT.append([])
        """
    )
    result = pytester.runpytest_subprocess(
        "--leakcheck", "--leak-iters=10", "--leak-max-runs=400", "-k", "not other", "-v", "-p", "no:asyncio"
    )
    result.assert_outcomes(passed=1, failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*test_keeps FAILED*", "*LeakFound: FAIL*", "*KEPT (list)*", "*--leakcheck"])


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("itters=3", "no option 'itters'"),
        ("3", "named options only"),
        ("process='moon'", "it is one of"),
        ("iters=0", "--iters 0 (leakcheck marker of "),
        ("max_seconds='soon'", "--max-seconds 'soon' (leakcheck marker of "),
    ],
)
def test_a_marker_that_is_written_wrongly_is_a_usage_error(pytester: pytest.Pytester, mark: str, said: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.leakcheck({mark})\ndef test_it(): pass")
    result = pytester.runpytest_inprocess("-p", "no:asyncio")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in "\n".join(result.outlines + result.errlines)


@pytest.mark.slow
def test_a_marked_test_that_was_never_measured_fails(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_call(item):
            item.obj = item.obj
        @pytest.hookimpl(trylast=True)
        def pytest_collection_finish(session):
            for item in session.items:
                item.config.pluginmanager.register(Own())
        class Own:
            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_call(self, item):
                measured, item.runtest = item.runtest, item.obj
                yield
                item.runtest = measured
        """
    )
    pytester.makepyfile("import pytest\n@pytest.mark.leakcheck\ndef test_it(): pass")
    result = pytester.runpytest_subprocess("-p", "no:asyncio")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*was never measured*"])


def test_options_resolve_command_line_over_marker_over_ini(pytester: pytest.Pytester) -> None:
    from leakharness.pytest_plugin.checks import _mark_options

    pytester.makeini("[pytest]\nleak_iters = 7\nleak_batches = 6\nleak_timeout = 9\n")
    pytester.makepyfile("import pytest\n@pytest.mark.leakcheck(iters=8, batches=9)\ndef test_it(): pass")
    for words, iters in ((["--leak-iters=3"], 3), ([], 8)):
        items, _ = pytester.inline_genitems("-p", "no:asyncio", *words)
        options = _mark_options(items[0], False)
        assert (options["iters"], options["batches"], options["timeout"]) == (iters, 9, 9.0)


@pytest.mark.slow
def test_a_hanging_body_in_a_forked_copy_is_not_judged_and_the_next_test_is(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest, time
        RAN = []
        @pytest.mark.leakcheck(timeout=2, process="fork")
        def test_hangs():
            RAN.append(1)
            time.sleep(60 if len(RAN) > 3 else 0)
        @pytest.mark.leakcheck(iters=10, process="fork")
        def test_dies():
            RAN.append(1)
            if len(RAN) > 3: import os; os.kill(os.getpid(), 9)
        @pytest.mark.leakcheck(iters=10, process="fork")
        def test_fine(): pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:asyncio")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(
        ["*NotJudged: hung: no verdict within 2 s*", "*NotJudged: the forked copy crashed by SIGKILL*"]
    )
