"""What all checks of a session have in common: rows, causes seen so far, the budget, and the summary.

A row travels with the test report that it belongs to, so that under xdist the process with the terminal has them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from leakharness.errors import OptionError
from leakharness.printable import for_terminal
from leakharness.pytest_plugin.baseline import Baseline
from leakharness.pytest_plugin.judge_messages import CheckOutcome
from leakharness.pytest_plugin.options import setting
from leakharness.pytest_plugin.rows import Row, causes_of, row_from, words_for
from leakharness.pytest_plugin.session_page import carry_row
from leakharness.units import seconds_of

__all__ = ["CheckSession", "check_session", "row_of"]

_SESSION = pytest.StashKey["CheckSession"]()
CACHE_KEY = "leakharness/checked"
SLOWEST = 5


def check_session(config: pytest.Config) -> CheckSession:
    """The one of this pytest process, made and registered where there is none yet."""
    session = config.stash.get(_SESSION, None)
    if session is None:
        session = config.stash[_SESSION] = CheckSession(config)
        config.pluginmanager.register(session, "leakharness-checks")
    return session


def _budget_seconds(text: str) -> float:
    """``90``, ``90s``, ``10m``, ``1h`` as seconds. Raises OptionError."""
    seconds = seconds_of(text)
    if seconds is None:
        raise OptionError(f"--leak-budget {text}: a duration such as 90s, 10m or 1h")
    return seconds


class CheckSession:
    """The rows of this session's checks. In a worker of xdist: of its own checks."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.rows: list[Row] = []
        self.total = 0
        """Tests that are to be checked in this process, as far as that is known."""
        self._spent = 0.0
        budget = setting(config, "leak_budget")
        try:
            self._budget = None if budget is None else _budget_seconds(str(budget))
        except OptionError as exc:
            raise pytest.UsageError(str(exc)) from None
        path = setting(config, "leak_baseline")
        self.baseline = None if path is None else Baseline.read(Path(config.invocation_params.dir, str(path)))
        self.latest: Row | None = None
        """What the check that has just ended came to: its report takes it along."""
        self._shown: dict[str, str] = {}
        cache = getattr(config, "cache", None)
        self._checked_before: set[str] = set(cache.get(CACHE_KEY, [])) if cache and self._budget else set()

    # -- asked by a check

    def unchecked_because(self, nodeid: str) -> str | None:
        """Why this test is not to be checked now: the budget is used up, or others come first."""
        if self._budget is None:
            return None
        if self._spent >= self._budget:
            return "the budget of --leak-budget is used up"
        if nodeid in self._checked_before:
            return "checked by an earlier session; with --leak-budget those that were not come first"
        return None

    def seconds_left(self) -> float | None:
        return None if self._budget is None else max(0.0, self._budget - self._spent)

    def ended(self, row: Row, document: Mapping[str, Any] | None = None) -> None:
        """A check has come to this; ``document``: its result."""
        if row.verdict == "FAIL" and self.baseline is not None:
            if self.baseline.is_new:
                row = row._replace(verdict="KNOWN", what=f"{row.what} (in the new baseline)")
            elif self.baseline.forgives(row):
                row = row._replace(verdict="KNOWN", what=f"{row.what} (in the baseline {self.baseline.path.name})")
        self.latest = row
        self._spent += row.seconds
        carry_row(self._config, row, document)

    def take_pending(self) -> Row | None:
        """The row that no report has taken along yet."""
        row, self.latest = self.latest, None
        return row

    def known(self) -> tuple[tuple[str, str], ...]:
        """The leaks that the baseline accepts."""
        return () if self.baseline is None else tuple(self.baseline.known())

    def first_with(self, cause: str, nodeid: str) -> str | None:
        """The test whose failure showed the evidence of ``cause`` already; None for the first."""
        first = self._shown.setdefault(cause, nodeid)
        return None if first == nodeid else first

    # -- hooks

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        row = getattr(report, "leak_check", None)
        if row is not None:
            self.rows.append(Row(**row))

    def pytest_report_teststatus(self, report: Any, config: pytest.Config) -> Any:
        """``-v``: what the check did."""
        row = getattr(report, "leak_check", None)
        if row is None or report.when != "call" or config.get_verbosity() <= 0 or not report.passed:
            return None
        left = self._left_s()
        eta = f", about {left:.0f} s left" if left >= 1 else ""
        return "passed", ".", (f"PASSED ({words_for(Row(**row))}{eta})", {"green": True})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self._config, "workerinput"):
            return
        if self.baseline is not None and self.baseline.is_new:
            self.baseline.write(self.rows)
        self._remember()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.rows:
            return
        terminalreporter.section("leak checks", sep="-")
        for line in self.summary():
            terminalreporter.write_line(for_terminal(line))

    def summary(self) -> Iterator[str]:
        """The lines at the end of the session."""
        rows = self.rows
        by_verdict: dict[str, list[Row]] = {}
        for row in rows:
            by_verdict.setdefault(row.verdict, []).append(row)
        seconds = sum(row.seconds for row in rows)
        quick = sum(row.how == "quick" for row in rows)
        measured = sum(row.how in ("quick", "full") for row in rows)
        counts = ", ".join(f"{len(found)} {verdict}" for verdict, found in sorted(by_verdict.items()))
        yield f"{measured} checked ({quick} by a quick look) in {seconds:.1f} s: {counts}"
        for cause in causes_of(by_verdict.get("FAIL", [])):
            yield from cause
        for reason, group in _grouped(by_verdict.get("KNOWN", [])).items():
            yield f"accepted: {_tests(group)}: {reason}"
        for row in by_verdict.get("NOT_REPEATABLE", []):
            yield f"cannot be repeated: {row.nodeid}: {row.what}"
        for reason, group in _grouped(by_verdict.get("NOT_CHECKED", [])).items():
            yield f"not checked: {_tests(group)}: {reason}"
        if self.baseline is not None and self.baseline.is_new:
            yield f"{self.baseline.count} causes written to {self.baseline.path}: from now on only others fail"
        slowest = sorted((row for row in rows if row.seconds >= 0.5), key=lambda row: -row.seconds)[:SLOWEST]
        if slowest:
            yield "slowest checks: " + ", ".join(
                f"{row.nodeid} {row.seconds:.1f} s ({row.runs} runs)" for row in slowest
            )

    # -- in between

    def _left_s(self) -> float:
        if not self.total or not self.rows:
            return 0.0
        left = sum(row.seconds for row in self.rows) / len(self.rows) * (self.total - len(self.rows))
        return left if self._budget is None else min(left, self.seconds_left() or 0.0)

    def _remember(self) -> None:
        """With a budget: which tests have been checked, so that the next session goes on with the others."""
        cache = getattr(self._config, "cache", None)
        if self._budget is None or cache is None:
            return
        checked = self._checked_before | {row.nodeid for row in self.rows if row.how in ("quick", "full")}
        open_ = any(row.verdict == "NOT_CHECKED" and row.nodeid not in checked for row in self.rows)
        cache.set(CACHE_KEY, sorted(checked) if open_ else [])


def row_of(nodeid: str, outcome: CheckOutcome, seconds: float) -> Row:
    """The row of a check that has an outcome."""
    return row_from(nodeid, outcome.verdict, outcome.document, seconds)


def _tests(rows: list[Row]) -> str:
    return f"{len(rows)} {'test' if len(rows) == 1 else 'tests'}"


def _grouped(rows: list[Row]) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.what, []).append(row)
    return found
