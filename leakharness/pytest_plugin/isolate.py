"""``--leak-isolate``: the files of a manifest run in processes of their own, as if they had run inside.

Shared workers never import these files. When their tests are done, the process with the terminal starts pytest once
for each file, with the same options, and replays what it reports: pytest's own serialised reports, so results, junit,
``--lf`` and the exit code are those of one session.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from leakharness.errors import UsageError
from leakharness.printable import for_terminal
from leakharness.pytest_plugin.options import setting
from leakharness.pytest_plugin.tracer import TRACER, trace_book
from leakharness.suite.hotspots import ISOLATED, Manifest, read_manifest
from leakharness.suite.trace import LANE_VARIABLE, lanes_of
from leakharness.units import KIB, size

__all__ = ["start_isolation"]

CHANNEL_VARIABLE = "LEAKHARNESS_CHANNEL"
"""Environment variable with the descriptor on which an isolated process reports."""
OUTPUT_KEPT_BYTES = 4000
KILLED = 9
"""The number of the signal that ends a process at once."""
END_SECONDS = 10.0
"""How long a process that was killed, or closed its channel, may take to be gone; and how long a channel may stay open
after the process, in the hands of what it left behind."""
LAST_SECONDS = 300.0
"""How long a process may take to end after its tests: it writes its coverage, and joins its threads."""
SILENT_SECONDS = 3600.0
"""How long a process may say nothing: far above what one test, or the collection of one file, takes."""
LOOK_SECONDS = 1.0
"""How often the processes are looked at while none says anything."""


def start_isolation(config: pytest.Config) -> None:
    """Isolate, or be an isolated process. Raises pytest.UsageError for a manifest that cannot be read."""
    channel = os.environ.get(CHANNEL_VARIABLE)
    if channel is not None:
        config.pluginmanager.register(IsolatedChild(config, int(channel)), "leakharness-isolated-child")
        return
    if config.getoption("collectonly", False):
        return
    try:
        manifest = read_manifest(Path(config.invocation_params.dir, str(setting(config, "leak_isolate"))))
    except UsageError as exc:
        raise pytest.UsageError(str(exc)) from None
    isolated = _located(config, manifest)
    config.pluginmanager.register(_Elsewhere(config, isolated), "leakharness-elsewhere")
    if hasattr(config, "workerinput"):
        return
    orders = _orders(config, isolated)
    config.pluginmanager.register(Isolation(config, manifest, orders), "leakharness-isolation")


class _Elsewhere:
    """Keeps the isolated files out of the processes that are shared."""

    def __init__(self, config: pytest.Config, isolated: dict[Path, str]) -> None:
        self._root = config.rootpath
        self._isolated = isolated

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        return True if collection_path in self._isolated else None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """With --lf, pytest runs everything where no known failure is collected; here they may all be elsewhere."""
        failed = _last_failed(config)
        if failed and all(self._root / nodeid.partition("::")[0] in self._isolated for nodeid in failed):
            config.hook.pytest_deselected(items=items[:])
            items.clear()


@dataclass
class _Order:
    """What one process runs."""

    file: str
    words: list[str]


@dataclass
class _Child:
    """One isolated process."""

    order: _Order
    process: subprocess.Popen[bytes]
    output: Any
    running: str | None = None
    finished: bool = False
    reported: int = 0
    heard: float = 0.0
    """When it said something last, or was seen to have ended; of the monotonic clock."""
    gone: bool = False
    problem: str = ""
    """Why it was killed."""

    def overdue(self) -> bool:
        """Whether it has kept its channel for too long; kills the process where that still runs."""
        quiet = time.monotonic() - self.heard
        if self.process.poll() is not None:
            if not self.gone:
                self.gone, self.heard, quiet = True, time.monotonic(), 0.0
            return self.finished or quiet > END_SECONDS  # what it forked has the channel open
        if quiet <= (LAST_SECONDS if self.finished else SILENT_SECONDS):
            return False
        self.problem = f"did not end {quiet:.0f} s after its tests" if self.finished else f"hung for {quiet:.0f} s"
        self.process.kill()
        return True


class Isolation:
    """Starts the isolated processes and replays what they report."""

    def __init__(self, config: pytest.Config, manifest: Manifest, orders: list[_Order]) -> None:
        self._config = config
        self._manifest = manifest
        self._orders = orders
        self._events: queue.Queue[tuple[_Child, dict[str, Any] | None]] = queue.Queue()
        self._next_lane = 0
        self._ran = 0
        """Files of which the process came to its end."""
        self._killed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        result = yield
        if not session.shouldstop and not session.shouldfail:
            self._run_all(session)
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        def write(text: str) -> None:
            terminalreporter.write_line(for_terminal(text))

        terminalreporter.section("isolated test files", sep="-")
        write(f"{self._ran} of {len(self._manifest.files)} files of the manifest ran in processes of their own")
        if self._ran < len(self._orders):
            write(f"  {len(self._orders) - self._ran} did not, or not to their end: the session was stopped before")
        for line in self._killed:
            write(f"  {line}")
        there = set(_located(self._config, self._manifest).values())
        for hotspot in self._manifest.files:
            if hotspot.file not in there:
                write(f"  {hotspot.file} is not there any more: refresh the manifest with leakharness hotspots update")
        for name in self._manifest.untraced:
            write(f"  {name} had no recorded trace when the manifest was written")
        book = trace_book(self._config)
        lanes = lanes_of(book.rows) if book is not None else []
        shared = max((lane.peak for lane in lanes if not lane.name.startswith(ISOLATED)), default=0)
        apart = max((lane.peak for lane in lanes if lane.name.startswith(ISOLATED)), default=0)
        before = self._manifest.shared_peak_kb * KIB
        write(
            f"peak RSS of the shared workers: {size(before)} before (as recorded), {size(shared)} now; "
            f"of the isolated ones {size(apart)}"
        )

    def _run_all(self, session: pytest.Session) -> None:
        at_once = len(self._config.getoption("tx", None) or []) or 1
        waiting = list(self._orders)
        children: list[_Child] = []
        try:
            while waiting or children:
                while waiting and len(children) < at_once:
                    children.append(self._start(waiting.pop(0)))
                child, event = self._next_event(children)
                if child not in children:  # its channel was closed after we had given it up
                    continue
                if event is not None:
                    child.heard = time.monotonic()
                    self._replay(session, child, event)
                else:
                    children.remove(child)
                    self._ran += 1
                    self._ended(child)
                if session.shouldstop or session.shouldfail:
                    break
        finally:
            for child in children:
                child.process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(END_SECONDS)

    def _next_event(self, children: Sequence[_Child]) -> tuple[_Child, dict[str, Any] | None]:
        """What a child says next; None at its end, which comes within a deadline whatever the child does."""
        while True:
            try:
                return self._events.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                for child in children:
                    if child.overdue():
                        return child, None

    def _start(self, order: _Order) -> _Child:
        self._next_lane += 1
        receive, send = os.pipe()
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        env = {**os.environ, LANE_VARIABLE: f"{ISOLATED}{self._next_lane}", CHANNEL_VARIABLE: str(send)}
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *order.words],
            cwd=self._config.invocation_params.dir,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(send,),
        )
        os.close(send)
        child = _Child(order, process, output, heard=time.monotonic())
        threading.Thread(target=self._listen, args=(child, receive), daemon=True).start()
        return child

    def _listen(self, child: _Child, receive: int) -> None:
        """A thread for each child: its lines become events; None is the last."""
        with os.fdopen(receive, "rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # half a line: the process was killed while it wrote
                    self._events.put((child, json.loads(line)))
        self._events.put((child, None))

    def _replay(self, session: pytest.Session, child: _Child, event: dict[str, Any]) -> None:
        hook, config = self._config.hook, self._config
        name = event["event"]
        if name == "collected":
            session.testscollected += event["count"]
        elif name == "start":
            child.running = event["nodeid"]
            hook.pytest_runtest_logstart(nodeid=event["nodeid"], location=tuple(event["location"]))
        elif name == "stop":
            child.running = None
            hook.pytest_runtest_logfinish(nodeid=event["nodeid"], location=tuple(event["location"]))
        elif name == "report":
            child.reported += 1
            report = config.hook.pytest_report_from_serializable(config=config, data=event["data"])
            if event["collect"]:
                hook.pytest_collectreport(report=report)
            else:
                hook.pytest_runtest_logreport(report=report)
        elif name == "finish":
            child.finished = True
            book = trace_book(config)
            for row in event["trace"] if book is not None else ():
                book.add(row)  # type: ignore[union-attr]

    def _ended(self, child: _Child) -> None:
        """Report a process that died, or that never came to its tests, as what it is: a failure."""
        code = _exit_code(child.process)
        said = _tail(child.output)
        child.output.close()
        if child.problem:
            self._killed.append(f"the process of {child.order.file} {child.problem}, and was killed")
        if child.finished and (code in (0, 1, 2, 5) or child.reported):
            return
        where = child.running or child.order.file
        how = child.problem or (f"died by signal {-code}" if code < 0 else f"ended with exit code {code}")
        text = f"the process of {child.order.file} {how} while running {where}"
        report = pytest.TestReport(
            where,
            (child.order.file, None, where),
            {},
            "failed",
            text + (f"\n\n{said}" if said else ""),
            "call",
            sections=[],
            duration=0.0,
            start=0.0,
            stop=0.0,
        )
        self._config.hook.pytest_runtest_logreport(report=report)


class IsolatedChild:
    """In an isolated process: report everything to the one that started it, and write nothing that is its."""

    def __init__(self, config: pytest.Config, channel: int) -> None:
        os.set_inheritable(channel, False)
        del os.environ[CHANNEL_VARIABLE]
        self._config = config
        self._channel = os.fdopen(channel, "wb", buffering=0)
        option = config.option
        option.xmlpath = None
        option.cacheshow = True  # the cache plugin then leaves its files alone; the listing itself came too late
        if getattr(option, "basetemp", None):
            option.basetemp = str(Path(option.basetemp) / os.environ[LANE_VARIABLE])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._send({"event": "collected", "count": len(session.items)})

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._send({"event": "start", "nodeid": nodeid, "location": location})

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._send({"event": "stop", "nodeid": nodeid, "location": location})

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._send_report(report, collect=False)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._send_report(report, collect=True)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        tracer: Any = self._config.pluginmanager.get_plugin(TRACER)
        self._send({"event": "finish", "trace": tracer.take_pending() if tracer is not None else []})

    def _send_report(self, report: Any, *, collect: bool) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._send({"event": "report", "collect": collect, "data": data})

    def _send(self, event: dict[str, Any]) -> None:
        line = json.dumps(event, default=str).encode() + b"\n"
        while line:
            line = line[self._channel.write(line) :]


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that has closed its channel, which is killed where it does not end."""
    try:
        return process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    return -KILLED


def _located(config: pytest.Config, manifest: Manifest) -> dict[Path, str]:
    """The manifest's files that are here. They are named from pytest's root folder, which depends on the arguments
    where a project has no configuration file; so they are looked for from the current folder as well."""
    found = {}
    for hotspot in manifest.files:
        for folder in (config.rootpath, Path(config.invocation_params.dir)):
            if (folder / hotspot.file).is_file():
                found[folder / hotspot.file] = hotspot.file
                break
    return found


def _orders(config: pytest.Config, isolated: dict[Path, str]) -> list[_Order]:
    """What to start, one order a file that this session would have run. Takes arguments that name isolated files off
    the session's own."""
    start = Path(config.invocation_params.dir)
    inside: list[str] = []
    named: dict[Path, list[str]] = {}
    for word in config.args:
        path = Path(os.path.abspath(start / word.partition("::")[0]))
        if path in isolated:
            named.setdefault(path, []).append(word)
        else:
            inside.append(word)
            for file in isolated:
                if file.is_relative_to(path):
                    named.setdefault(file, [])
    config.args[:] = inside
    failed = [config.rootpath / nodeid for nodeid in _last_failed(config)]
    options = [*_options(config), f"--rootdir={config.rootpath}"]
    orders = []
    for path in sorted(named):
        words = named[path] or [str(path)]
        if failed:
            words = [str(nodeid) for nodeid in failed if str(nodeid).partition("::")[0] == str(path)]
        if words:
            orders.append(_Order(isolated[path], [*options, *words]))
    return orders


def _options(config: pytest.Config) -> list[str]:
    """The command line without its files, and without xdist: one process for one file."""
    positional = list(config.option.file_or_dir or ())
    words: list[str] = []
    for word in config.invocation_params.args:
        text = str(word)
        if text in positional:
            positional.remove(text)
        else:
            words.append(text)
    if config.pluginmanager.hasplugin("xdist"):
        words += ["-n0", "--dist=no"]
    return words


def _last_failed(config: pytest.Config) -> list[str]:
    """Known failures, where ``--lf`` asks for them alone."""
    if not config.getoption("lf", False) or getattr(config, "cache", None) is None:
        return []
    known: dict[str, bool] = config.cache.get("cache/lastfailed", {})
    return sorted(known)


def _tail(output: Any) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - OUTPUT_KEPT_BYTES))
    return str(output.read().decode("utf-8", "replace")).strip()
