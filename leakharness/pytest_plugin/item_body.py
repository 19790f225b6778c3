"""Running the body of one pytest item many times, without what pytest itself collects about every run.

pytest expects a body to run once: it keeps log records, warnings, captured output, finalizers, properties. All that
is dropped after every run, or the harness would report pytest as a leak. Fixtures are set up once, or for
every run.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import traceback
import types
import unittest
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from leakharness.pytest_plugin.mock_calls import MockCalls
from leakharness.pytest_plugin.rows import NOT_REPEATABLE
from leakharness.pytest_plugin.run_limit import RunLimit
from leakharness.scenario.declare import Run
from leakharness.worker.runs import RunFailed
from leakharness.worker.unpatched import time

__all__ = ["TestBody"]

TRACEBACK_LINES = 40
PLUMBING = ("leakharness", "_pytest", "pluggy", "unittest", "pytest_asyncio", "anyio", "asyncio", "contextlib")
"""Packages whose frames stand between a check and the body: they would bury the line that matters."""
SCHEDULES_EVERY_TIME = pytest.version_tuple < (8, 0)
"""Before pytest 8 every use of a fixture of a wider scope adds one more finalizer for it to its node."""
LOOKS_UP_BY_ID = pytest.version_tuple < (8, 1)
"""Before pytest 8.1 a fixture is looked up for a node's id, since then for the node."""
SEED_OF_GIVEN = "_hypothesis_internal_use_seed"
"""What ``hypothesis.seed`` sets on a ``@given`` test. A run is all examples of one seed: with new ones each time no two
runs of a body would be the same, and whatever remembers its arguments would grow."""
CAPTURING_FIXTURES = ("capsys", "capfd", "capsysbinary", "capfdbinary")


class TestBody:
    """The runs of one item. A context manager; on leaving, everything that was muted is as before."""

    __test__ = False

    def __init__(self, item: pytest.Function, runtest: Callable[[], None], *, fresh: bool) -> None:
        self._item = item
        self._runtest = runtest
        self._fresh = fresh
        self._stack = contextlib.ExitStack()
        self._runs = 0
        self._run_began = self._run_lasted = 0.0
        self._limit = RunLimit(item)
        self._mocks = MockCalls()
        self._warnings: list[Any] = []
        self._output = ("", "")
        self._capture: Any = item.config.pluginmanager.getplugin("capturemanager")
        logging_plugin = item.config.pluginmanager.getplugin("logging-plugin")
        self._log_handlers = [
            handler
            for handler in (getattr(logging_plugin, name, None) for name in ("caplog_handler", "report_handler"))
            if handler is not None and hasattr(handler, "clear")
        ]
        live = (getattr(logging_plugin, name, None) for name in ("log_cli_handler", "log_file_handler"))
        self._live_log_handlers = [handler for handler in live if hasattr(handler, "emit")]
        self._failed_subtests: list[str] = []
        self._finalizers = len(self._finalizer_list())
        self._properties = len(item.user_properties)
        self._sections = len(item._report_sections)
        patch = item.funcargs.get("monkeypatch")
        self._patch = patch if isinstance(patch, pytest.MonkeyPatch) else None
        self._patched = self._patch_marks()
        factory = getattr(item.config, "_tmp_path_factory", None)
        self._numbers: dict[str, int] = getattr(factory, "_next_number", {})
        self._first_numbers = dict(self._numbers)
        self._test_case = _test_case_of(item)
        self._test_case_dict = dict(vars(self._test_case)) if self._test_case is not None else {}
        self._renews = fresh and self._has_something_to_renew()

    def __enter__(self) -> TestBody:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        _allow_tmp_path_tear_down(self._item)
        for name, text in zip(("stdout", "stderr"), self._output, strict=True):
            if text:
                self._item.add_report_section("call", name, text)

    def first(self) -> bool:
        """The run that pytest would have made: its exception, skip or xfail is its own. False where it was
        recorded and not raised: by a unittest TestCase, or by subtests."""
        __tracebackhide__ = True
        self._run()
        if getattr(self._item, "_excinfo", None) or self._failed_subtests:
            return False
        if self._capture is not None:
            self._output = self._capture.read_global_capture()
        self._limit.take_over()
        self._mocks.remember(self._wider_fixture_values())
        self._mute()
        self._tidy()
        return True

    def maker(self, run: Run) -> Callable[[int], None]:
        """What makes a number of further runs, for the judge."""

        def make(count: int) -> None:
            for _ in range(count):
                self._again()
                run.index += 1

        return make

    def _again(self) -> None:
        failure = None
        self._run_began = time.monotonic()
        try:
            self._limit.start()
            if self._renews:
                self._renew()
            elif self._test_case is not None:
                self._rewind_test_case()
            self._run()
        except (KeyboardInterrupt, pytest.exit.Exception):
            raise
        except BaseException as exc:
            failure = self._failed(exc)
        finally:
            self._limit.stop()
        recorded = getattr(self._item, "_excinfo", None)
        if recorded:
            failure = self._failed(recorded[-1].value)
            recorded.clear()
        del recorded
        if self._failed_subtests:
            failure = RunFailed(self._unrepeatable("had a subtest that failed"), self._failed_subtests[0])
        self._tidy()
        self._runs += 1
        self._run_lasted = time.monotonic() - self._run_began
        if failure is not None:
            raise failure

    def _run(self) -> None:
        __tracebackhide__ = True
        before = self._item.__dict__.get("_obj")
        try:
            self._runtest()
        finally:
            if before is not None and self._item.__dict__.get("_obj") is not before:
                self._item.__dict__["_obj"] = before  # a plugin that wraps the function would wrap it every time

    def _failed(self, exc: BaseException) -> RunFailed:
        what = "was skipped" if isinstance(exc, pytest.skip.Exception) else f"raised {type(exc).__name__}: {exc}"[:300]
        lines = "".join(traceback.format_exception(type(exc), exc, _of_the_body(exc.__traceback__))).splitlines()
        return RunFailed(self._unrepeatable(what), "\n".join(lines[-TRACEBACK_LINES:]))

    def _unrepeatable(self, what: str, run: int | None = None) -> str:
        cure = "" if self._fresh else "; if it needs its fixtures anew, say fresh_fixtures=True"
        number = self._runs + 2 if run is None else run  # the first run is pytest's own
        return f"{NOT_REPEATABLE} {number} of it {what}: a body that cannot be repeated cannot be checked{cure}"

    def hung(self, timeout: float) -> str:
        """That the body's first repetition took at least half of ``timeout`` seconds; empty where it did not, or where
        a later one hangs: what was repeated can be repeated.
        """
        if self._runs > 1 or self._run_lasted < timeout / 2:
            return ""
        return self._unrepeatable(f"did not end within {timeout:g} s", self._runs + 1)

    def subtest_ended(self, report: pytest.TestReport) -> None:
        """One part of the run that is going on (``subTest``, ``subtests.test``) has ended. Keeps text alone."""
        if report.failed:
            lines = report.longreprtext.splitlines()
            self._failed_subtests.append("\n".join(lines[-TRACEBACK_LINES:]))

    # -- fixtures

    def _rewind_test_case(self) -> None:
        """A unittest TestCase is made to run once (an IsolatedAsyncioTestCase insists): make it as it was before."""
        space = vars(self._test_case)
        space.clear()
        space.update(self._test_case_dict)

    def _has_something_to_renew(self) -> bool:
        """Whether there is a function-scoped fixture, or an instance: the values of parameters are none."""
        if isinstance(self._item.parent, pytest.Class):
            return True
        return any(
            str(definition.scope) == "function"
            and getattr(definition.func, "__name__", "") != "get_direct_param_fixture_func"
            for definition in self._definitions()
        )

    def _renew(self) -> None:
        """Tear the function-scoped fixtures down and set them up again, as pytest does between two tests."""
        item = self._item
        state = item.session._setupstate
        temporary: Any = item.funcargs.get("tmp_path")
        _allow_tmp_path_tear_down(item)
        state.teardown_exact(item.parent)  # type: ignore[arg-type]  # any node of the chain will do
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
            # A new number for every run would be a new path for every run, and 3.12 keeps parts of paths for ever.
            self._numbers.clear()
            self._numbers.update(self._first_numbers)
        self._forget_finished_fixtures()
        # hypothesis insists that all runs of a @given method have one instance (HealthCheck.differing_executors).
        given = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if isinstance(item.parent, pytest.Class) and not given:
            item.__dict__.pop("_instance", None)
            item.__dict__["_obj"] = None
        item._initrequest()
        state.setup(item)
        self._forget_repeated_schedules()
        self._finalizers = len(self._finalizer_list())
        patch = item.funcargs.get("monkeypatch")
        self._patch = patch if isinstance(patch, pytest.MonkeyPatch) else None
        self._patched = self._patch_marks()

    def _forget_finished_fixtures(self) -> None:
        """A fixture of a wider scope keeps one finalizer for each set-up of a narrower one that uses it."""
        for definition in self._definitions():
            if definition.cached_result is not None:
                finalizers = definition._finalizers
                finalizers[:] = [finalizer for finalizer in finalizers if not _is_finished(finalizer)]

    def _let_the_body_ask_again(self) -> None:
        """A fixture that the body asked for by name is torn down with its run: the next one sets it up anew."""
        item: Any = self._item
        active = item._request._fixture_defs
        for name in [name for name, definition in active.items() if definition.cached_result is None]:
            del active[name]
            getattr(item._request, "_arg2index", {}).pop(name, None)  # pytest 7 counts how often a name was asked for

    def _forget_repeated_schedules(self) -> None:
        """One tear-down of a fixture is as good as many: the further ones find it finished."""
        if not SCHEDULES_EVERY_TIME:
            return
        for entry in self._item.session._setupstate.stack.values():
            finalizers: list[Any] = entry[0]
            scheduled: set[int] = set()
            kept = []
            for finalizer in finalizers:
                owner = _scheduled_fixture(finalizer)
                if owner is None or owner not in scheduled:
                    kept.append(finalizer)
                if owner is not None:
                    scheduled.add(owner)
            finalizers[:] = kept

    def _definitions(self) -> list[Any]:
        """Every fixture that the item uses: those its arguments lead to, and those that it, a fixture or a plugin
        has asked for by name since (``request.getfixturevalue``), which no argument list knows."""
        item: Any = self._item
        known = item._fixtureinfo.name2fixturedefs
        names = [name for name in item._request._fixture_defs if name not in known]
        sought: Any = item.nodeid if LOOKS_UP_BY_ID else item
        by_name = [item.session._fixturemanager.getfixturedefs(name, sought) or () for name in names]
        return [definition for found in (*known.values(), *by_name) for definition in found]

    def _wider_fixture_values(self) -> list[Any]:
        """What fixtures gave that are not set up anew for a run."""
        return [
            definition.cached_result[0]
            for definition in self._definitions()
            if definition.cached_result is not None and not (self._renews and str(definition.scope) == "function")
        ]

    def _finalizer_list(self) -> list[Any]:
        entry: Any = self._item.session._setupstate.stack.get(self._item)
        return entry[0] if entry is not None else []

    def _patch_marks(self) -> tuple[int, int]:
        return (0, 0) if self._patch is None else (len(self._patch._setattr), len(self._patch._setitem))

    # -- what pytest keeps

    def _tidy(self) -> None:
        """Drop what pytest has collected about the run, and undo what the body left to be undone at its end."""
        item = self._item
        finalizers = self._finalizer_list()
        if len(finalizers) > self._finalizers:
            while len(finalizers) > self._finalizers:
                finalizers.pop()()
            self._forget_finished_fixtures()
            self._let_the_body_ask_again()
        self._forget_repeated_schedules()
        self._undo_patches()
        self._mocks.forget_later_ones()
        for handler in self._log_handlers:
            handler.clear()
        for name in CAPTURING_FIXTURES:
            if name in item.funcargs:
                item.funcargs[name].readouterr()  # type: ignore[attr-defined]
        if isinstance(item.funcargs.get("recwarn"), pytest.WarningsRecorder):
            item.funcargs["recwarn"].clear()  # type: ignore[attr-defined]
        if self._capture is not None:
            self._capture.read_global_capture()
        self._warnings.clear()
        del item.user_properties[self._properties :]
        del item._report_sections[self._sections :]

    def _undo_patches(self) -> None:
        """Undo what the body patched, and leave what fixtures patched."""
        patch = self._patch
        if patch is None or self._patch_marks() == self._patched:
            return
        attributes, items = self._patched
        latest = pytest.MonkeyPatch()
        latest._setattr, patch._setattr = patch._setattr[attributes:], patch._setattr[:attributes]
        latest._setitem, patch._setitem = patch._setitem[items:], patch._setitem[:items]
        latest.undo()

    def _mute(self) -> None:
        """From the second run on nothing is recorded: what there is to say was said by the first."""
        recorded = self._stack.enter_context(warnings.catch_warnings(record=True))
        assert recorded is not None
        self._warnings = recorded  # that very list: it is empty now, and what is recorded goes there
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(sys, "unraisablehook", _say_nothing)
        patch.setattr(threading, "excepthook", _say_nothing)
        for handler in self._live_log_handlers:
            patch.setattr(handler, "emit", _say_nothing)
        hook, proxy_of = self._item.config.hook, self._item.session.gethookproxy

        def quiet_proxy_of(path: Any) -> Any:
            proxy = proxy_of(path)
            if proxy is not hook:  # where not every conftest.py applies, each call makes one
                vars(proxy)["pytest_runtest_logreport"] = _say_nothing
            return proxy

        patch.setattr(hook, "pytest_runtest_logreport", _say_nothing)  # subtests report through it
        patch.setattr(self._item.session, "gethookproxy", quiet_proxy_of)
        given = getattr(self._item.obj, "__func__", self._item.obj)
        if getattr(given, SEED_OF_GIVEN, 0) is None:
            patch.setattr(given, SEED_OF_GIVEN, 0)


def _of_the_body(trace: types.TracebackType | None) -> types.TracebackType | None:
    """The traceback from the first frame that is neither ours nor pytest's; all of it where there is none."""
    inner = trace
    while inner is not None:
        package = str(inner.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in PLUMBING:
            return inner
        inner = inner.tb_next
    return trace


def _test_case_of(item: pytest.Function) -> unittest.TestCase | None:
    """The TestCase behind an item; ``_testcase`` before pytest 8.2."""
    case = getattr(item, "_testcase", None) or item.instance
    return case if isinstance(case, unittest.TestCase) else None


def _say_nothing(*arguments: object, **named: object) -> None:
    pass


def _is_finished(finalizer: Any) -> bool:
    """Whether this is the ``finish`` of a fixture that is not set up (calling it would do nothing)."""
    owner = getattr(getattr(finalizer, "func", None), "__self__", None)
    return owner is not None and hasattr(owner, "cached_result") and owner.cached_result is None


def _scheduled_fixture(finalizer: Any) -> int | None:
    """The id of the fixture that this finalizer of a node tears down: pytest 7's ``lambda: fixturedef.finish(…)``."""
    if getattr(finalizer, "__module__", None) != "_pytest.fixtures" or not getattr(finalizer, "__closure__", None):
        return None
    cells = dict(zip(finalizer.__code__.co_freevars, finalizer.__closure__, strict=True))
    return id(cells["fixturedef"].cell_contents) if "fixturedef" in cells else None


def _allow_tmp_path_tear_down(item: pytest.Item) -> None:
    """tmp_path's tear-down takes the outcome of the set-up out of the item's stash, once."""
    try:
        from _pytest.tmpdir import tmppath_result_key
    except ImportError:
        return
    item.stash.setdefault(tmppath_result_key, {"setup": True, "call": True})
