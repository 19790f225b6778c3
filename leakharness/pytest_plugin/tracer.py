"""``--leak-trace``: what every test file leaves behind in the worker that ran it.

The process that runs tests makes the rows; under xdist they travel with the test reports, so that a worker that
dies has delivered all but its last file. The process with the terminal writes them down and sums them up.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from leakharness.printable import for_terminal
from leakharness.pytest_plugin.options import setting
from leakharness.suite.trace import LANE_VARIABLE, SCHEMA, lanes_of, summary_line, top_table
from leakharness.worker.counters import Counters, count_objects
from leakharness.worker.unpatched import gc, json, open, os

__all__ = ["SNAPSHOTS", "TRACER", "current_lane", "runs_tests", "start_trace", "trace_book"]
TRACER = "leakharness-tracer"
SNAPSHOTS = "leakharness-snapshots"
_BOOK = pytest.StashKey["TraceBook"]()


def start_trace(config: pytest.Config) -> None:
    """Trace this process's tests, or gather what workers send. Raises UsageError for a file that cannot be written."""
    target = setting(config, "leak_trace")
    full = target is not None
    if runs_tests(config):
        config.pluginmanager.register(Tracer(config, full=full), TRACER)
    if not hasattr(config, "workerinput") and LANE_VARIABLE not in os.environ:
        path = None if target in (None, "", True, "true") else Path(config.invocation_params.dir, str(target))
        book = config.stash[_BOOK] = TraceBook(path, shown=full)
        config.pluginmanager.register(book, "leakharness-trace-book")


def trace_book(config: pytest.Config) -> TraceBook | None:
    """What has been gathered in this session; None in workers and where nothing is traced."""
    return config.stash.get(_BOOK, None)


def runs_tests(config: pytest.Config) -> bool:
    """Whether this process runs tests itself: every process but xdist's controller."""
    return hasattr(config, "workerinput") or (
        not config.getoption("tx", None) and config.getoption("dist", "no") in (None, "no")
    )


def current_lane(config: pytest.Config) -> str:
    """xdist's name for this worker; ``main`` without xdist."""
    worker = getattr(config, "workerinput", None)
    return str(worker["workerid"]) if worker else os.environ.get(LANE_VARIABLE, "main")


class Tracer:
    """Reads the counters when the test file changes."""

    def __init__(self, config: pytest.Config, *, full: bool) -> None:
        self._config = config
        self._full = full
        self._counters = Counters()
        self._lane = current_lane(config)
        self._file: str | None = None
        self._tests = 0
        self._before: dict[str, int] = {}
        self._boundary: dict[str, int] | None = None
        self._highest = 0
        self._high_before = 0
        self._snapshots_before = 0
        self._pending: list[dict[str, Any]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        """Importing a test file is part of what it costs every worker."""
        if not isinstance(collector, pytest.File):
            return (yield)
        before, high = self._read(settle=False), _high_water()
        self._snapshots_before = self._snapshots(finished=True)
        report = yield
        self._row("collect", self._name(collector.path), 0, before, self._read(settle=False), high, 0)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        name = self._name(item.path)
        if name != self._file:
            self._open(name)
        done = yield
        self._tests += 1
        self._highest = max(self._highest, self._resident())
        if nextitem is None or self._name(nextitem.path) != name:
            self._close()
        return done

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """In a worker: rows that are ready travel with the next report."""
        if self._pending and self._travels():
            report.leak_trace = self._pending
            self._pending = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._close()
        self._counters.close()
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["leak_trace"] = self._pending
            self._pending = []

    def take_pending(self) -> list[dict[str, Any]]:
        """Rows that no report has taken along."""
        rows, self._pending = self._pending, []
        return rows

    def _travels(self) -> bool:
        return hasattr(self._config, "workerinput") or LANE_VARIABLE in os.environ

    def _open(self, name: str) -> None:
        self._file, self._tests, self._highest, self._high_before = name, 0, 0, _high_water()
        self._snapshots_before = self._snapshots(finished=True)
        self._before = self._boundary or self._read(settle=self._full)
        self._boundary = None

    def _close(self) -> None:
        if self._file is not None:
            self._boundary = self._read(settle=self._full)
            self._row("run", self._file, self._tests, self._before, self._boundary, self._high_before, self._highest)
            self._file = None

    def _row(
        self, phase: str, name: str, tests: int, before: dict[str, int], after: dict[str, int], high: int, sampled: int
    ) -> None:
        peak = max(sampled, before.get("rss", 0), after.get("rss", 0))
        if _high_water() > high:
            peak = max(peak, _high_water())
        row = {
            "schema": SCHEMA,
            "phase": phase,
            "lane": self._lane,
            "pid": os.getpid(),
            "file": name,
            "tests": tests,
            "delta_rss_bytes": after.get("rss", 0) - before.get("rss", 0),
            "peak_rss_bytes": peak,
            "before": before,
            "after": after,
        }
        if self._config.pluginmanager.has_plugin(SNAPSHOTS):
            row["snapshots"] = [self._snapshots_before, self._snapshots(finished=False)]
        book = trace_book(self._config)
        if book is not None and not self._travels():
            book.add(row)
        else:
            self._pending.append(row)

    def _snapshots(self, *, finished: bool) -> int:
        """How many snapshots this process has taken, with or without one that is being taken: of a file's two numbers
        each the one by which it ran for longer, so that no stretch between two snapshots is without its files."""
        snapshots: Any = self._config.pluginmanager.get_plugin(SNAPSHOTS)
        return 0 if snapshots is None else int(snapshots.taken if finished else snapshots.begun)

    def _read(self, *, settle: bool) -> dict[str, int]:
        if not self._full:
            return {"rss": self._resident()}
        if settle:
            gc.collect()
        return {**self._counters.read(), "objects": count_objects()}

    def _resident(self) -> int:
        reader = self._counters.readers.get("rss")
        return reader() if reader is not None else 0

    def _name(self, path: Path) -> str:
        root = self._config.rootpath
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


class TraceBook:
    """Everything the workers of this session said. Writes the JSON lines as they come."""

    def __init__(self, path: Path | None, *, shown: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self._shown = shown
        self._path = path
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("", encoding="utf-8")
            except OSError as exc:
                raise pytest.UsageError(f"--leak-trace={path}: {exc.strerror or exc}") from None

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        for row in report.__dict__.pop("leak_trace", ()):
            self.add(row)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        for row in getattr(node, "workeroutput", {}).get("leak_trace", ()):
            self.add(row)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._shown or not self.rows:
            return
        lanes = lanes_of(self.rows)

        def write(text: str) -> None:
            terminalreporter.write_line(for_terminal(text))

        terminalreporter.section("memory of the test files", sep="-")
        for lane in lanes:
            write(summary_line(lane))
        write("")
        for line in top_table(lanes):
            write(line)
        if self._path is not None:
            write(f"trace: {os.path.relpath(self._path)}")


def _high_water() -> int:
    """Highest resident size of this process so far, in bytes: VmHWM (proc(5)), elsewhere ru_maxrss."""
    if sys.platform == "linux":
        try:
            with open("/proc/self/status", "rb") as file:
                for line in file:
                    if line.startswith(b"VmHWM:"):
                        return int(line.split()[1]) * 1024
        except OSError:
            pass
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
