"""``--leak-trace``: what every test file leaves behind in the worker that ran it.

The process that runs tests makes the rows; under xdist they travel with the test reports, so that a worker that
dies has delivered all but its last file. The process with the terminal writes them down and sums them up.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from leakharness.errors import UsageError
from leakharness.plugin import setting
from leakharness.probe.counters import Counters, count_objects

__all__ = [
    "LANE_VARIABLE",
    "TRACER",
    "Lane",
    "current_lane",
    "lanes_of",
    "read_trace",
    "runs_tests",
    "start_trace",
    "summary_line",
    "trace_book",
]

SCHEMA = "leakharness.trace/1"
LANE_VARIABLE = "LEAKHARNESS_LANE"
"""Environment variable that names the lane of a process that is no xdist worker (an isolated file's)."""
TOP_IN_LINE = 5
TOP_IN_TABLE = 10
MIB = 2**20
TRACER = "leakharness-tracer"
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
        self._pending: list[dict[str, Any]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        """Importing a test file is part of what it costs every worker."""
        if not isinstance(collector, pytest.File):
            return (yield)
        before, high = self._read(settle=False), _high_water()
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
        book = trace_book(self._config)
        if book is not None and not self._travels():
            book.add(row)
        else:
            self._pending.append(row)

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
        write = terminalreporter.write_line
        terminalreporter.section("memory of the test files", sep="-")
        for lane in lanes:
            write(summary_line(lane))
        write("")
        for line in top_table(lanes):
            write(line)
        if self._path is not None:
            write(f"trace: {os.path.relpath(self._path)}")


# -- what the rows come to: pure


@dataclass
class Lane:
    """One worker: what its files left behind, in bytes."""

    name: str
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    """``{file: {"run": bytes, "collect": bytes, "tests": n, "objects": n, "blocks": n}}``."""
    peak: int = 0
    peak_at: str = ""
    pids: set[int] = field(default_factory=set)

    @property
    def total(self) -> int:
        return sum(row["run"] + row["collect"] for row in self.files.values())

    @property
    def run_files(self) -> int:
        return sum(1 for row in self.files.values() if row["tests"])

    def growers(self) -> list[tuple[str, int]]:
        """(file, bytes it left), largest first."""
        rows = [(name, row["run"] + row["collect"]) for name, row in self.files.items()]
        return sorted(rows, key=lambda row: (-row[1], row[0]))


def lanes_of(rows: Iterable[Mapping[str, Any]]) -> list[Lane]:
    """The rows of a trace, lane by lane, in the order of their names."""
    lanes: dict[str, Lane] = {}
    for row in rows:
        lane = lanes.setdefault(row["lane"], Lane(row["lane"]))
        entry = lane.files.setdefault(row["file"], dict.fromkeys(("run", "collect", "tests", "objects", "blocks"), 0))
        entry[row["phase"]] += row["delta_rss_bytes"]
        entry["tests"] += row["tests"]
        for counter in ("objects", "blocks"):
            entry[counter] += row["after"].get(counter, 0) - row["before"].get(counter, 0)
        lane.pids.add(row["pid"])
        if row["peak_rss_bytes"] > lane.peak:
            lane.peak, lane.peak_at = row["peak_rss_bytes"], row["file"]
    return sorted(lanes.values(), key=lambda lane: (len(lane.name), lane.name))


def summary_line(lane: Lane) -> str:
    """``[leakharness][mem] summary LANE files=N peak=… totalDelta=… peakAt=FILE top=FILE:+DELTA, …``"""
    top = ", ".join(f"{name}:{_signed(delta)}" for name, delta in lane.growers()[:TOP_IN_LINE] if delta > 0)
    return (
        f"[leakharness][mem] summary {lane.name} files={lane.run_files} peak={lane.peak / MIB:.1f}MiB "
        f"totalDelta={_signed(lane.total)} peakAt={lane.peak_at or '-'} top={top or '-'}"
    )


def top_table(lanes: Iterable[Lane]) -> list[str]:
    """The files that left most behind, over all lanes."""
    rows = [
        (row["run"] + row["collect"], lane.name, name, row)
        for lane in lanes
        for name, row in lane.files.items()
        if row["run"] + row["collect"] > 0
    ]
    rows.sort(key=lambda row: (-row[0], row[1], row[2]))
    lines = [f"{'left':>11} {'by import':>11} {'objects':>9} {'blocks':>9}  {'lane':<6} file"]
    for total, lane, name, row in rows[:TOP_IN_TABLE]:
        sizes = f"{_signed(total):>11} {_signed(row['collect']):>11}"
        lines.append(f"{sizes} {row['objects']:>+9,} {row['blocks']:>+9,}  {lane:<6} {name}")
    return lines


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The rows of a trace file. Raises UsageError for one that cannot be read or is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: cannot read the trace: {exc}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            known = row["schema"] == SCHEMA
            row["lane"], row["file"], row["phase"], row["pid"], row["tests"]
            row["delta_rss_bytes"] + row["peak_rss_bytes"]
            row["before"].get, row["after"].get
        except (ValueError, KeyError, TypeError, AttributeError):
            known = False
        if not known:
            raise UsageError(
                f"{path}:{number}: not a line of a trace ({SCHEMA}); make one with pytest --leak-trace=FILE"
            )
        rows.append(row)
    return rows


def _signed(count: int) -> str:
    return f"{count / MIB:+.1f}MiB"


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
