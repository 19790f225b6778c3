"""Leak checks of test bodies: the marker, ``--leakcheck``, and the ``leakharness`` fixture."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import pytest

from leakharness.errors import LeakFound, LeakHarnessError, NotJudged, OptionError, UsageError
from leakharness.options import BY_NAME, DEFAULTS, checked, names_at, options_at
from leakharness.printable import for_terminal
from leakharness.pytest_plugin.framework import framework_modules
from leakharness.pytest_plugin.in_fork import CAN_FORK, in_forked_copy
from leakharness.pytest_plugin.in_process import CheckOutcome, CheckTarget, Judge, error_text
from leakharness.pytest_plugin.item_body import TestBody
from leakharness.pytest_plugin.options import setting
from leakharness.pytest_plugin.rows import Row
from leakharness.pytest_plugin.session import CheckSession, check_session, row_of
from leakharness.pytest_plugin.session_page import carry, carry_row
from leakharness.pytest_plugin.timeout_signal import ending_by_sigterm
from leakharness.scenario.declare import Mode, Run, Scenario
from leakharness.worker.runs import Runs
from leakharness.worker.unpatched import os, time

__all__ = ["LeakHarness", "common_options", "prepare"]

MARK_OPTIONS = names_at("marker")
CALLABLE_OPTIONS = names_at("callable") | {"abort", "abort_after"}
PROCESSES = BY_NAME["process"].choices
NOT_CHECKABLE = "cannot be checked for leaks: "
SIZES = {"iters", "batches", "warmup"}
"""Whoever says how many runs there are to be gets them, and no quick look."""
_JUDGE = pytest.StashKey[Judge]()


def prepare(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Make the checked items check themselves. Raises pytest.UsageError for a marker that is written wrongly."""
    everything = bool(setting(config, "leak_check"))
    checked = [item for item in items if isinstance(item, pytest.Function) and _asked_for(item, everything)]
    if not checked:
        return
    for item in checked:
        options = _mark_options(item, everything)
        # On the instance: the hooks and wrappers around runtest (xfail, capture, logging, timeouts) stay as they are,
        # and tests that are not checked do not pay for those that are.
        item.runtest = _Measured(item, item.runtest, options)  # type: ignore[method-assign]
        item.repr_failure = _Evidence(item.repr_failure)  # type: ignore[method-assign]
    check_session(config).total += len(checked)
    if not config.pluginmanager.has_plugin("leakharness-measured"):
        config.pluginmanager.register(_NothingUnmeasured(), "leakharness-measured")


class _NothingUnmeasured:
    """A checked test that passed without having been measured fails: silence is the worst result."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Any:
        report = yield
        runtest = getattr(item, "runtest", None)
        if call.when != "call" or not isinstance(runtest, _Measured):
            return report
        row = check_session(item.config).take_pending() if runtest.body is None else None
        if row is not None:
            report.leak_check = row._asdict()
            if report.skipped and row.verdict == "NOT_REPEATABLE":  # and not where we raised it
                report.longrepr = (str(item.path), (item.location[1] or 0) + 1, f"Skipped: {NOT_CHECKABLE}{row.what}")
        if runtest.body is not None:  # the body reports one of its subtests
            runtest.body.subtest_ended(report)
        elif report.passed and not runtest.measured:
            report.outcome = "failed"
            report.longrepr = (
                f"{item.nodeid} is to be checked for leaks and was never measured: another plugin runs its body "
                "by itself; check it with leakharness.assert_no_leak(...) instead"
            )
        return report


class _Measured:
    """``item.runtest`` of a checked test: once as it is, and if that passes, many times under the judge."""

    def __init__(self, item: pytest.Function, runtest: Callable[[], None], options: Mapping[str, Any]) -> None:
        self._item, self._runtest, self._options = item, runtest, options
        self.body: TestBody | None = None
        """While it runs."""
        self.measured = False

    def __call__(self) -> None:
        __tracebackhide__ = True
        item, session = self._item, check_session(self._item.config)
        options = dict(self._options)
        fresh, where = options.pop("fresh_fixtures"), options.pop("process")
        quick, skipped = not options.pop("thorough"), options.pop("skip")
        unchecked = skipped or session.unchecked_because(item.nodeid)
        if unchecked:
            self._runtest()
            self.measured = True
            session.ended(Row(item.nodeid, "NOT_CHECKED", what=unchecked))
            return
        left = session.seconds_left()
        if left is not None:
            options["max_seconds"] = min(left, options.get("max_seconds") or DEFAULTS["max_seconds"])
        with TestBody(item, self._runtest, fresh=fresh) as body, self._running(body):
            if not body.first():
                return  # subtests that failed, a unittest TestCase that failed or was skipped: reported already
            subject = CheckTarget(
                item.nodeid,
                item.nodeid,
                "marked" if item.get_closest_marker("leakcheck") else "leakcheck",
                body.maker,
                options=options,
                passes_on=(KeyboardInterrupt, pytest.exit.Exception),
                quick=quick,
                known=session.known(),
                framework=framework_modules(item.config),
            )
            began = time.monotonic()
            try:
                outcome = _judged(item.config, subject, where)
            except NotJudged as exc:
                hung = body.hung(float(options.get("timeout") or DEFAULTS["timeout"]))
                verdict = "NOT_REPEATABLE" if hung else "NOT_JUDGED"
                session.ended(Row(item.nodeid, verdict, "full", 0, time.monotonic() - began, hung or str(exc)))
                if not hung:
                    raise
                outcome = CheckOutcome("NOT_JUDGED", error_text(exc), {"reason": hung})
            else:
                session.ended(row_of(item.nodeid, outcome, time.monotonic() - began), outcome.document)
        _say(outcome, session, strict=bool(setting(item.config, "leak_strict")))

    @contextlib.contextmanager
    def _running(self, body: TestBody) -> Iterator[None]:
        self.body = body
        try:
            yield
            self.measured = True
        finally:
            self.body = None


class _Evidence:
    """``item.repr_failure`` of a checked test: the evidence alone, without frames of ours."""

    def __init__(self, usual: Callable[..., Any]) -> None:
        self._usual = usual

    def __call__(self, excinfo: pytest.ExceptionInfo[BaseException], *arguments: Any, **named: Any) -> Any:
        error = excinfo.value
        if isinstance(error, LeakHarnessError):
            return f"{type(error).__name__}: {error_text(error)}"
        if isinstance(error, LeakFound):
            return f"LeakFound: {error}"
        return self._usual(excinfo, *arguments, **named)


class LeakHarness:
    """The ``leakharness`` fixture: leak checks from inside of a test."""

    def __init__(self, config: pytest.Config, nodeid: str) -> None:
        self._config = config
        self._nodeid = nodeid

    def run(self, scenario: str | os.PathLike[str] | Scenario, mode: str | None = None, **options: Any) -> Any:
        """``leakharness.run``: one mode in a fresh process, as a RunResult."""
        from leakharness.api import run

        result = run(scenario, mode, **self._with_settings(options, snapshots="on-fail"))
        carry(self._config, self._nodeid, result)
        return result

    def check(self, scenario: str | os.PathLike[str] | Scenario, **options: Any) -> Any:
        """``leakharness.check``: every arm, as a Certificate."""
        from leakharness.api import check

        certificate = check(scenario, **self._with_settings(options))
        carry(self._config, self._nodeid, certificate)
        return certificate

    def assert_no_leak(
        self,
        subject: str | os.PathLike[str] | Scenario | Callable[..., Any],
        mode: str | None = None,
        **options: Any,
    ) -> None:
        """Raise LeakFound, with the evidence, where runs of ``subject`` leave something behind.

        A scenario (a name, a file, ``file::name`` or the object) is measured in a fresh process. A callable, plain or
        async, is measured here: it makes ONE run, may take the :class:`Run` as its argument (``run.track(…)``), and
        ends by itself unless ``abort=`` says how. Its own exception in the first run is raised as it is. Raises
        NotJudged where there is no verdict: that is no pass.
        """
        __tracebackhide__ = True
        if isinstance(subject, (str, os.PathLike, Scenario)):
            from leakharness.report.text import run_block

            result = self.run(subject, mode, **options)
            _raise_unless_passed(CheckOutcome(result.verdict, run_block(result), result.document()))
            return
        if not callable(subject):
            raise UsageError(f"assert_no_leak takes a scenario or a callable, not {subject!r}")
        if mode is not None:
            raise UsageError("assert_no_leak: only a scenario has modes")
        began = time.monotonic()
        outcome = self._measure(subject, options)
        carry_row(self._config, row_of(self._nodeid, outcome, time.monotonic() - began), outcome.document)
        _raise_unless_passed(outcome)

    def _measure(self, function: Callable[..., Any], options: dict[str, Any]) -> CheckOutcome:
        __tracebackhide__ = True
        unknown = sorted(set(options) - CALLABLE_OPTIONS)
        if unknown:
            raise OptionError(
                f"assert_no_leak: unknown option {unknown[0]!r}; it takes {', '.join(sorted(CALLABLE_OPTIONS))}"
            )
        name = getattr(function, "__qualname__", type(function).__qualname__)
        mode = _mode_of(function, name, options.pop("abort", None), options.pop("abort_after", None))
        where = _process(options.pop("process", None), self._config)
        loop = None
        if mode.is_async:
            import asyncio

            if asyncio._get_running_loop() is not None:
                raise UsageError(
                    f"assert_no_leak({name}) needs an event loop of its own: call it from a plain test, or mark the "
                    "async test itself with @pytest.mark.leakcheck"
                )
            loop = asyncio.new_event_loop()
        try:
            if mode.abort == "none":  # what is wrong with it shows as itself, not as a run that failed
                first = mode.function(Run(mode=name))
                if loop is not None:
                    loop.run_until_complete(first)
                del first
            asked = _all_options(self._config, options)
            subject = CheckTarget(self._nodeid, f"{self._nodeid}: {name}", "callable", _maker(mode, loop), loop, asked)
            return _judged(self._config, subject, where)
        finally:
            if loop is not None:
                loop.close()

    def _with_settings(self, options: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
        asked = {**common_options(self._config), "target": setting(self._config, "leak_target"), **options}
        return {**defaults, **{name: value for name, value in asked.items() if value is not None}}


def judge_of(config: pytest.Config) -> Judge:
    """The judging process of this pytest process, ended with it."""
    judge = config.stash.get(_JUDGE, None)
    if judge is None:
        judge = config.stash[_JUDGE] = Judge()
        config.add_cleanup(judge.close)
    return judge


def _judged(config: pytest.Config, subject: CheckTarget, where: str) -> CheckOutcome:
    __tracebackhide__ = True
    judge = judge_of(config)
    with ending_by_sigterm():
        if where == "fork":
            seconds = float(subject.options.get("timeout") or DEFAULTS["timeout"])
            return in_forked_copy(judge, subject, seconds)
        return judge.judge(subject)


def _say(outcome: CheckOutcome, session: CheckSession, *, strict: bool) -> None:
    """Raise what this outcome of a test's check is, with the evidence once for each cause."""
    __tracebackhide__ = True
    row = session.latest
    if row is None or row.verdict in ("PASS", "KNOWN"):
        return
    if row.verdict == "NOT_REPEATABLE" and not strict:
        pytest.skip(NOT_CHECKABLE + row.what)
    first = session.first_with(row.causes[0], row.nodeid) if row.causes else None
    if row.verdict == "FAIL" and first is not None:
        text = f"{outcome.document['reason']}\n  {row.what}\n  the same cause as in {first}: evidence there"
        _raise(LeakFound(for_terminal(text)))
    _raise_unless_passed(outcome)


def _raise_unless_passed(verdict: CheckOutcome) -> None:
    __tracebackhide__ = True
    if verdict.verdict == "FAIL":
        _raise(LeakFound(for_terminal(verdict.text)))
    if verdict.verdict != "PASS":
        _raise(NotJudged(verdict.text))


def _raise(error: BaseException) -> NoReturn:
    __tracebackhide__ = True
    raise error


def _asked_for(item: pytest.Function, everything: bool) -> bool:
    return everything or item.get_closest_marker("leakcheck") is not None


def _mark_options(item: pytest.Function, everything: bool) -> dict[str, Any]:
    """Command line over marker (the closest first) over ini."""
    said: dict[str, Any] = {}
    for mark in item.iter_markers("leakcheck"):
        if mark.args:
            raise pytest.UsageError(f"{item.nodeid}: leakcheck takes named options only, as in leakcheck(iters=20)")
        unknown = sorted(set(mark.kwargs) - MARK_OPTIONS)
        if unknown:
            raise pytest.UsageError(
                f"{item.nodeid}: leakcheck has no option {unknown[0]!r}; it takes {', '.join(sorted(MARK_OPTIONS))}"
            )
        try:
            for name in mark.kwargs.keys() & MEASURING.keys():
                checked(name, mark.kwargs[name], f"leakcheck marker of {item.nodeid}")
        except OptionError as exc:
            raise pytest.UsageError(str(exc)) from None
        said = {**mark.kwargs, **said}
    marked = item.get_closest_marker("leakcheck") is not None
    fresh = said.pop("fresh_fixtures", None)
    if fresh is None:
        fresh = everything and not marked and setting(item.config, "leak_fresh_fixtures") is not False
    where = _process(said.pop("process", None), item.config)
    thorough = said.pop("thorough", None) or setting(item.config, "leak_thorough")
    skip = said.pop("skip", None)
    options = _all_options(item.config, said)
    thorough = bool(thorough) or not SIZES.isdisjoint(options)
    if skip is not None and not (isinstance(skip, str) and skip.strip()):
        raise pytest.UsageError(f"{item.nodeid}: leakcheck(skip={skip!r}): say why, in words")
    return {**options, "fresh_fixtures": bool(fresh), "process": where, "thorough": thorough, "skip": skip}


def _all_options(config: pytest.Config, said: Mapping[str, Any]) -> dict[str, Any]:
    options = {**_from_ini(config), **{name: value for name, value in said.items() if value is not None}}
    return {**options, **_from_command_line(config)}


def common_options(config: pytest.Config) -> dict[str, Any]:
    """What pytest's command line and ini say about measuring."""
    return {**_from_ini(config), **_from_command_line(config)}


MEASURING = {option.name: option.ini_key for option in options_at("pytest") if option.plan}
"""The options of a measurement that pytest's command line and ini file have, with their keys."""


def _from_command_line(config: pytest.Config) -> dict[str, Any]:
    return {name: setting(config, key) for name, key in MEASURING.items() if config.getoption(key, None) is not None}


def _from_ini(config: pytest.Config) -> dict[str, Any]:
    found = {name: setting(config, key) for name, key in MEASURING.items()}
    return {name: value for name, value in found.items() if value is not None}


def _process(asked: str | None, config: pytest.Config) -> str:
    how = setting(config, "leak_process") or asked or "auto"
    if how not in PROCESSES:
        raise pytest.UsageError(f"process={how!r} of the marker: it is one of {', '.join(PROCESSES)}")
    if how == "auto":
        return "fork" if CAN_FORK and hasattr(config, "workerinput") else "here"
    if how == "fork" and not CAN_FORK:
        raise pytest.UsageError("leak_process = 'fork': this platform cannot fork; use here")
    return how


def _mode_of(function: Callable[..., Any], name: str, abort: Any, abort_after: float | None) -> Mode:
    """A callable as a mode of a scenario, so that its runs are made, and end, as those of scenarios do."""
    scenario = Scenario("callable")
    is_async = inspect.iscoroutinefunction(function)
    takes_run = bool(inspect.signature(function).parameters)
    wrapped: Callable[..., Any]
    if takes_run:
        wrapped = function
    elif is_async:

        async def wrapped(run: Run) -> None:
            await function()

    else:

        def wrapped(run: Run) -> None:
            function()

    scenario.mode(name, abort=abort or "none", abort_after=abort_after)(wrapped)
    return scenario.modes[name]


def _maker(mode: Mode, loop: Any) -> Callable[[Run], Callable[[int], None]]:
    return lambda run: Runs(mode, run, loop).make
