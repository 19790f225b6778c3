"""``--leak-snapshots``: every worker writes heap snapshots at start, at an interval and at the end, by fork.

The tests stand still for the fork alone: the forked copy writes a raw capture, and a process beside the worker turns
captures into snapshot files. It outlives a worker that is killed: it finishes what was captured and cleans up.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from leakharness.errors import UsageError
from leakharness.printable import for_terminal
from leakharness.pytest_plugin.options import setting
from leakharness.pytest_plugin.tracer import SNAPSHOTS, current_lane, runs_tests
from leakharness.store import write_atomically
from leakharness.suite.trace import COMMAND_FILE, LANE_VARIABLE
from leakharness.worker.capture.snapshot import snapshot
from leakharness.worker.children import leave_out
from leakharness.worker.fork import reap
from leakharness.worker.unpatched import os, time

__all__ = ["LaneSnapshots", "start_snapshots"]

INTERVAL_S = 30.0
MOST_WAITING = 2
"""Captures that may wait for their conversion; a further one is skipped, so that a slow disk does not fill a memory."""
LAST_WAIT_S = 120.0
"""How long the end of a session waits for the last snapshot."""
CAPTURE_WAIT_S = 60.0
NICENESS = 10
"""The converter yields to the tests."""
BOOT = """\
import sys
sys.path[0:1] = []
sys.path.append(sys.argv[1])
from leakharness.pytest_plugin.snapshots import convert
convert()
"""


def start_snapshots(config: pytest.Config) -> None:
    """Snapshots of this process if it runs tests, and the summary if it has the terminal."""
    if config.getoption("collectonly", False):
        return
    folder = Path(config.invocation_params.dir, str(setting(config, "leak_snapshots")))
    if not hasattr(config, "workerinput") and LANE_VARIABLE not in os.environ:
        config.pluginmanager.register(_Summary(folder), "leakharness-snapshot-summary")
        command = shlex.join(["pytest", *map(str, config.invocation_params.args)])
        try:
            write_atomically(folder / COMMAND_FILE, command.encode() + b"\n")
        except UsageError as exc:
            raise pytest.UsageError(f"--leak-snapshots={folder}: {exc}") from None
    if not runs_tests(config):
        return
    interval = setting(config, "leak_snapshot_interval")
    interval = INTERVAL_S if interval is None else float(interval)
    if interval <= 0:
        raise pytest.UsageError(f"--leak-snapshot-interval {interval:g}: more than 0 seconds")
    lane = folder / current_lane(config)
    try:
        lane.mkdir(parents=True, exist_ok=True)
        _sweep(lane)
        snapshots = LaneSnapshots(config, lane, interval)
    except OSError as exc:
        raise pytest.UsageError(f"--leak-snapshots={folder}: {exc.strerror or exc}") from None
    config.pluginmanager.register(snapshots, SNAPSHOTS)


class LaneSnapshots:
    """The snapshots of one process that runs tests: ``begun`` and ``taken`` count them."""

    def __init__(self, config: pytest.Config, lane: Path, interval: float) -> None:
        self._config = config
        self._lane = lane
        self._interval = interval
        self._raw = Path(tempfile.mkdtemp(prefix=".raw-", dir=lane))
        self.begun = self.taken = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._timer: threading.Thread | None = None
        self._converter: subprocess.Popen[str] | None = None
        self._unreaped: int | None = None
        self._skipped = 0
        self._problems: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        package_parent = Path(__file__).resolve().parents[2]
        self._converter = subprocess.Popen(
            [sys.executable, "-c", BOOT, str(package_parent), str(self._raw)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=os.name == "posix",  # it must survive what kills the worker's group
        )
        leave_out(self._converter.pid)
        first = self._take()
        self._timer = threading.Thread(
            target=self._keep_taking, args=(first,), name="leakharness snapshots", daemon=True
        )
        self._timer.start()

    def pytest_collection_finish(self) -> None:
        """One more when every test file is imported: what comes later is not the tests' own module graph."""
        if self._converter is not None:
            self._unreaped = self._take()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """The last snapshot, and wait until all are files."""
        self._stop.set()
        if self._timer is not None:
            self._timer.join()
        if self._converter is None:
            return
        _reap(self._unreaped)
        _reap(self._take())
        said = self._finish_converter()
        made = len(list(self._lane.glob(f"Heap.*.{os.getpid()}.0.*.heapsnapshot")))
        report = {"lane": self._lane.name, "made": made, "skipped": self._skipped, "problems": [*self._problems, *said]}
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["leak_snapshots"] = report
        else:
            summary: Any = self._config.pluginmanager.get_plugin("leakharness-snapshot-summary")
            if summary is not None:
                summary.lanes.append(report)

    def _keep_taking(self, first: int | None) -> None:
        """The timer thread's whole life."""
        _reap(first)
        while not self._stop.wait(self._interval):
            if len(list(self._raw.glob("*.capture"))) > MOST_WAITING:
                self._skipped += 1
            else:
                _reap(self._take())

    def _take(self) -> int | None:
        with self._lock:
            self.begun += 1
            pid = self._take_one(self.begun)
            self.taken = self.begun
            return pid

    def _take_one(self, sequence: int) -> int | None:
        """Fork a copy that captures the heap, and announce it to the converter. Returns the copy's pid."""
        now = time.strftime("%Y%m%d.%H%M%S")
        name = f"Heap.{now}.{os.getpid()}.0.{sequence:03d}"
        raw = self._raw / f"{name}.capture"
        try:
            pid = snapshot(str(raw))
            assert self._converter is not None
            assert self._converter.stdin is not None
            self._converter.stdin.write(f"{pid or 0}\t{raw}\t{self._lane / name}.heapsnapshot\n")
            self._converter.stdin.flush()
        except OSError as exc:
            self._problems.append(f"{name}: {exc}")
            return None
        return pid

    def _finish_converter(self) -> list[str]:
        process, self._converter = self._converter, None
        assert process is not None
        try:
            said, _ = process.communicate(timeout=LAST_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=LAST_WAIT_S)
            return [f"the last snapshots were not converted within {LAST_WAIT_S:g} s"]
        return said.splitlines()


class _Summary:
    """Says at the end which snapshots there are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lanes: list[dict[str, Any]] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        report = getattr(node, "workeroutput", {}).get("leak_snapshots")
        if report is not None:
            self.lanes.append(report)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("heap snapshots", sep="-")
        folder = os.path.relpath(self._folder)
        for report in sorted(self.lanes, key=lambda report: report["lane"]):
            skipped = (
                f", {report['skipped']} skipped (the one before was still being written)" if report["skipped"] else ""
            )
            terminalreporter.write_line(f"{folder}/{report['lane']}: {report['made']} snapshots{skipped}")
            for problem in report["problems"]:
                terminalreporter.write_line(for_terminal(f"  {problem}"))
        terminalreporter.write_line(f"compare with: leakharness diff --lane-dir {folder}/LANE")


def _sweep(lane: Path) -> None:
    """Remove what a converter that was killed in an earlier session has left; finished files stay."""
    for place in lane.glob(".raw-*"):
        if time.time() - place.stat().st_mtime > CAPTURE_WAIT_S:
            shutil.rmtree(place, ignore_errors=True)


def _reap(pid: int | None) -> None:
    """Wait for the forked copy, without holding up other threads."""
    if pid is not None:
        reap(pid, CAPTURE_WAIT_S)


def convert() -> None:
    """Turn captures into snapshot files until the input ends; then remove the folder of captures."""
    folder = Path(sys.argv[2])
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        for line in sys.stdin:
            pid, raw, final = line.rstrip("\n").split("\t")
            problem = _converted(int(pid), Path(raw), Path(final))
            if problem is not None:
                print(f"{Path(final).name}: {problem}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _converted(pid: int, raw: Path, final: Path) -> str | None:
    """Write ``final`` from ``raw`` once that is there. Returns what is wrong, or None."""
    from leakharness.errors import LeakHarnessError
    from leakharness.heap import v8
    from leakharness.heap.ingest import load_capture
    from leakharness.measure.capture_file import wait_for_capture

    try:
        wait_for_capture(raw, pid or None, CAPTURE_WAIT_S)
        v8.write(load_capture(raw).graph, final)
    except LeakHarnessError as exc:
        return str(exc)
    finally:
        raw.unlink(missing_ok=True)
    return None
