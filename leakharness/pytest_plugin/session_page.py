"""``--leak-report FILE``: one HTML page of a whole test session: its checks, their causes with the evidence, and what
the test files left behind where they were traced.

What a check came to travels with the next report of its test, so that under xdist, and from isolated processes, the
process with the terminal has it all. That one writes the page.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from leakharness.errors import LeakHarnessError
from leakharness.printable import for_terminal
from leakharness.pytest_plugin.options import setting
from leakharness.pytest_plugin.rows import Row, row_from
from leakharness.pytest_plugin.tracer import runs_tests, trace_book
from leakharness.suite.trace import LANE_VARIABLE, file_rows, lane_rows, lanes_of

__all__ = ["carry", "carry_row", "start_session_page"]

KEY = "leak_results"
"""Under which a report takes the rows and documents along."""
TELLING = ("FAIL", "NOT_JUDGED", "KNOWN", "LEAK", "INVALID")
"""Verdicts whose evidence is shown; of the others the row says all."""
MOST_RESULTS = 40
MOST_ROWS = 2000
MOST_FILES = 200
"""What one page takes of each, so that it opens: the rest is counted."""
_CARRIER = pytest.StashKey["Carrier"]()


def start_session_page(config: pytest.Config) -> None:
    """Let this process send what its checks come to, or gather and write it. Raises UsageError for a file that cannot
    be written."""
    if runs_tests(config):
        carrier = config.stash[_CARRIER] = Carrier()
        config.pluginmanager.register(carrier, "leakharness-session-results")
    if not hasattr(config, "workerinput") and LANE_VARIABLE not in os.environ:
        path = Path(config.invocation_params.dir, str(setting(config, "leak_report")))
        config.pluginmanager.register(SessionPage(config, path), "leakharness-session-page")


def carry_row(config: pytest.Config, row: Row, document: Mapping[str, Any] | None = None) -> None:
    """Put a check on the page, and its evidence where it is telling. Nothing where no page is asked for."""
    carrier = config.stash.get(_CARRIER, None)
    if carrier is not None:
        carrier.add(row, document)


def carry(config: pytest.Config, nodeid: str, result: Any) -> None:
    """The same for a RunResult or a Certificate that a test asked for, or that a scenario's item gave."""
    if config.stash.get(_CARRIER, None) is not None:
        document = result.document()
        row = row_from(nodeid, document.get("verdict") or document["certificate"], document, _seconds(document))
        if document.get("must") == row.verdict == "FAIL":
            row, document = row._replace(verdict="PASS", what="gave FAIL, as it must"), None
        carry_row(config, row, document)


def _seconds(document: Mapping[str, Any]) -> float:
    return float(sum(arm["duration_s"] for arm in document.get("arms", (document,))))


class Carrier:
    """In a process that runs tests: what is to go with the next report."""

    def __init__(self) -> None:
        self._pending: dict[tuple[str, str], dict[str, Any]] = {}
        self._told: set[str] = set()
        """Causes whose evidence was sent already."""

    def add(self, row: Row, document: Mapping[str, Any] | None) -> None:
        """One place for each thing that a test checks: a test that is itself repeated by a check leaves no more here
        for each of its runs."""
        key = (row.nodeid, f"{document['scenario']} {document.get('mode', '')}" if document else "")
        before = self._pending.get(key)
        if before is not None and before["row"]["verdict"] in TELLING:
            return
        shown = document if row.verdict in TELLING and _cause(row) not in self._told else None
        if shown is not None:
            self._told.add(_cause(row))
        self._pending[key] = {"row": row._asdict(), "document": shown}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        report = yield
        if self._pending:
            setattr(report, KEY, list(self._pending.values()))
            self._pending = {}
        return report


class SessionPage:
    """What all processes of this session sent, and the page of it."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir() or not os.access(path.parent, os.W_OK):
                raise OSError(0, "it is a folder" if path.is_dir() else "its folder cannot be written to")
        except OSError as exc:
            raise pytest.UsageError(f"--leak-report {path}: {exc.strerror or exc}") from None
        self._config = config
        self._path = path
        self._began = time.time()
        self._rows: list[Row] = []
        self._documents: dict[str, Mapping[str, Any]] = {}
        """By cause: the first that was told."""
        self._said = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        for sent in report.__dict__.pop(KEY, ()):
            row = Row(**sent["row"])
            self._rows.append(row)
            if sent["document"] is not None:
                self._documents.setdefault(_cause(row), sent["document"])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """After xdist's controller has heard of all workers."""
        from leakharness.page_material import gathered
        from leakharness.printable import encodable
        from leakharness.report.formats import render_documents
        from leakharness.store import write_atomically

        causes = list(self._documents)[:MOST_RESULTS]
        results = [self._documents[cause] for cause in causes]
        try:
            material = gathered(results, self._config.rootpath / "reports")
            page = render_documents([self._document(causes), *results], "html", material)
            write_atomically(self._path, encodable(page).encode())
            self._said = f"leak report: {os.path.relpath(self._path)}"
        except (LeakHarnessError, OSError) as exc:
            self._said = f"leak report: NOT written: {exc}"

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.write_line(for_terminal(self._said))

    def _document(self, causes: list[str]) -> dict[str, Any]:
        """``leakharness.session/1``: what the first part of the page shows. ``causes`` have a part of their own."""
        book = trace_book(self._config)
        lanes = lanes_of(book.rows) if book is not None else []
        rows = sorted(self._rows, key=lambda row: row.nodeid)  # workers tell them in no order
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if row.verdict in TELLING:
                groups.setdefault(_cause(row), []).append(row)
        return {
            "schema": "leakharness.session/1",
            "command": shlex.join(["pytest", *map(str, self._config.invocation_params.args)]),
            "python": sys.version.split()[0],
            "platform": sys.platform,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began)),
            "duration_s": round(time.time() - self._began, 3),
            "rows": [row._asdict() for row in rows[:MOST_ROWS]],
            "more_rows": max(0, len(rows) - MOST_ROWS),
            "causes": [
                {
                    "verdict": group[0].verdict,
                    "what": group[0].what,
                    "tests": [row.nodeid for row in group],
                    "result": causes.index(cause) if cause in causes else None,
                }
                for cause, group in sorted(groups.items(), key=lambda item: -len(item[1]))
            ],
            "lanes": lane_rows(lanes),
            "files": file_rows(lanes)[:MOST_FILES],
        }


def _cause(row: Row) -> str:
    """By what a check is one with others: the fingerprint of what it leaks; else it stands for itself."""
    return f"{row.verdict} {row.causes[0] if row.causes else row.nodeid}"
