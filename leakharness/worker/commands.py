"""The measured process: loads one scenario, makes runs, takes readings, one line of command at a time.

Commands come as JSON lines on the standard input the process was started with, answers go as JSON lines to its
standard output; both are moved out of the scenario's way first (its input is empty, its prints go to stderr).
The tool's process decides what to do next; this one only does it. Standard library only.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO

from leakharness.errors import LeakHarnessError, ScenarioError
from leakharness.scenario.declare import SYNTHETIC_LEAK, Mode, Run, Scenario
from leakharness.worker.counters import Counters
from leakharness.worker.readings import CounterReader
from leakharness.worker.recorder import PLANTED, Plant, ScenarioRecorder, TargetMissing
from leakharness.worker.runs import RunFailed, Runs
from leakharness.worker.tracker import Tracker, self_test

__all__ = ["main"]

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal this process gets when its parent dies."""
REASON_KEPT = 600
"""Characters of a reason, which is one sentence; the detail has the rest."""


class Worker:
    """One scenario, one mode, in this process."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._tracker = Tracker()
        self._counters = Counters()
        self._loop: Any = None
        self._tear_down: Callable[[], None] | None = None
        self._runs: Runs | None = None
        self._reader: CounterReader | None = None
        self._recorder: ScenarioRecorder | None = None
        self._scenario: Scenario | None = None
        self._sites: Any = None

    def describe(self, paths: list[str]) -> dict[str, Any]:
        """The scenarios of each file, without running anything: ``{path: [scenario, …] or failure}``."""
        found: dict[str, Any] = {}
        for path in paths:
            try:
                found[path] = [_describe(scenario) for scenario in _scenarios(_load(path))]
            except BaseException as exc:
                found[path] = failure_answer(exc)
        return {"files": found}

    def load(self) -> dict[str, Any]:
        """Load the scenario and test the tracker: what is wrong with either is known before anything runs."""
        facts = self._tested()
        notes = _still_the_surroundings()
        scenario = _pick(_scenarios(_load(self._spec["path"])), self._spec.get("name"), self._spec["path"])
        mode, _ = _mode_of(scenario, self._spec["mode"])
        self._scenario = scenario
        return {**facts, "notes": notes, "scenario": _describe(scenario), "mode": mode.name}

    def _tested(self) -> dict[str, Any]:
        """What process this is, once the tracker has counted right. Raises RunFailed."""
        fault = self_test(self._tracker)
        if fault is not None:
            raise RunFailed(f"the tracker's self-test failed: {fault}")
        return {
            "pid": os.getpid(),
            "python": sys.version.split()[0],
            "implementation": sys.implementation.name,
            "executable": sys.executable,
            "blind": self._counters.blind,
        }

    def start(self, scope_bytes: int) -> dict[str, Any]:
        """Set up. What the runs need is imported here, before the baseline."""
        scenario = self._scenario
        assert scenario is not None
        mode, plant = _mode_of(scenario, self._spec["mode"])
        if self._spec.get("plant"):
            plant = Plant(**self._spec["plant"])
        for module, hint in mode.needs.items():
            if importlib.util.find_spec(module) is None:
                raise RunFailed(f"mode {mode.name!r} needs the module {module!r} in {sys.executable}: {hint}")
        target = self._spec.get("target") or scenario.target
        if mode.needs_target and target is None:
            raise ScenarioError(
                f"{mode.where}: mode {mode.name!r} of {scenario.name!r} imports the real code: "
                "say which with --target module:attribute"
            )
        if mode.is_async or _is_async(scenario.set_up):
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        self._counters.loop = self._loop
        self._recorder = recorder = ScenarioRecorder(self._tracker, self._loop, target, plant)
        run = Run(scope_bytes=scope_bytes, mode=mode.name, recorder=recorder)
        if target is not None and (mode.needs_target or mode.name == "production"):
            self._import_target(recorder)
        self._tear_down = _set_up(scenario.set_up, run, self._loop)
        self._runs = Runs(mode, run, self._loop, recorder.after_run if plant is not None else None)
        self._reader = CounterReader(self._counters, self._tracker, recorder, self._loop)
        # One capture is made and thrown away here, so that none imports anything or allocates first while measuring.
        importlib.import_module("leakharness.worker.capture.snapshot").prepare()
        self._reader.rehearse()
        return {}

    def _import_target(self, recorder: ScenarioRecorder) -> None:
        try:
            recorder.target()
        except TargetMissing as exc:
            if self._spec.get("target"):
                raise ScenarioError(f"--target {exc}") from None
            raise RunFailed(f"the scenario's target {exc}: install it there, or name another by --target") from None

    def runs(self, count: int) -> dict[str, Any]:
        assert self._runs is not None
        self._runs.make(count)
        return {}

    def freeze(self) -> dict[str, Any]:
        assert self._reader is not None
        return self._reader.freeze()

    def baseline(self, grace: float) -> dict[str, Any]:
        assert self._reader is not None
        return self._reader.baseline(grace)

    def read(self, grace: float, deep: bool = False, census: bool = False) -> dict[str, Any]:
        assert self._reader is not None
        reading = self._reader.read(grace, deep)
        if census:
            reading["census"] = self._reader.census()
        return reading

    def census(self) -> dict[str, Any]:
        assert self._reader is not None
        return {"census": self._reader.census(sizes=True)}

    def growth_after_clearing(self, before: dict[str, int]) -> dict[str, Any]:
        assert self._reader is not None
        return {"cleared": self._reader.growth_after_clearing(before)}

    def what_if_declared_cleared(self, least: int) -> dict[str, Any]:
        assert self._reader is not None
        return {"cleared": self._reader.what_if_declared_cleared(least)}

    def snapshot(self, path: str, types: list[str]) -> dict[str, Any]:
        """Write a raw capture of this process to ``path``, from a forked copy where there is one.

        Its targets are the retained tracked objects; where there are none, the newest ones of ``types``. Answers
        with the pid of the copy, ``{"writer": pid}``; None where the capture is complete.
        """
        from leakharness.worker.capture.snapshot import snapshot

        assert self._recorder is not None
        declared = self._recorder.declared
        pid = snapshot(
            path,
            targets=lambda: self._targets(types),
            roots=(
                ("harness: wedged()", declared.wedged),
                ("harness: hold()", declared.held),
                ("harness: synthetic bucket", PLANTED),
            ),
        )
        if pid is not None:
            self._counters.ignore_child(pid)
        return {"writer": pid}

    def _targets(self, types: list[str]) -> list[tuple[Any, str]]:
        assert self._reader is not None
        return list(self._tracker.survivors()) or self._reader.newest_of(types)

    def confirm(self, holders: list[dict[str, str]], counting: bool) -> dict[str, Any]:
        """Cut references in a forked copy and count what dies; ``counting``: and by how much each counter falls."""
        from leakharness.worker.cut_edge import confirm

        assert self._reader is not None
        return confirm(self._tracker.survivors, holders, count=self._reader.counters if counting else None)

    def opinions(self, path: str) -> dict[str, Any]:
        """Let objgraph and guppy3 write what they think to ``path``, from a forked copy."""
        from leakharness.worker.second_opinions import ask

        pid = ask(path, self._tracker.survivors)
        if pid is not None:
            self._counters.ignore_child(pid)
        return {"asked": pid is not None, "alive": self._tracker.alive}

    def trace(self) -> dict[str, Any]:
        """Start to trace allocations: for the second, explaining process only."""
        from leakharness.worker.allocation_sites import SiteReader

        self._sites = SiteReader()
        self._sites.start()
        return {}

    def sites(self) -> dict[str, Any]:
        assert self._sites is not None
        return {"sites": self._sites.read()}

    def births(self) -> dict[str, Any]:
        assert self._sites is not None
        return {"births": self._sites.births(self._tracker.survivors())}

    def self_test(self) -> dict[str, Any]:
        return {"fault": self_test(self._tracker)}

    def modules(self) -> dict[str, Any]:
        """Names in sys.modules: the proof that nothing of the tool's came along."""
        return {"modules": sorted(sys.modules), "path": list(sys.path)}

    def finish(self) -> dict[str, Any]:
        """Tear down. The process ends when the tool closes its input."""
        if self._tear_down is not None:
            tear_down, self._tear_down = self._tear_down, None
            tear_down()
        endings = self._runs.endings() if self._runs is not None else ""
        return {"notes": [endings] if endings else []}


def command_table(worker: Worker) -> dict[str, Callable[..., dict[str, Any]]]:
    return {
        "describe": worker.describe,
        "load": worker.load,
        "start": worker.start,
        "runs": worker.runs,
        "freeze": worker.freeze,
        "baseline": worker.baseline,
        "read": worker.read,
        "census": worker.census,
        "growth_after_clearing": worker.growth_after_clearing,
        "what_if_declared_cleared": worker.what_if_declared_cleared,
        "snapshot": worker.snapshot,
        "confirm": worker.confirm,
        "opinions": worker.opinions,
        "trace": worker.trace,
        "sites": worker.sites,
        "births": worker.births,
        "self_test": worker.self_test,
        "modules": worker.modules,
        "finish": worker.finish,
    }


def main() -> None:
    """Serve commands until the input ends."""
    commands, answers = _take_channel()
    _die_with_parent()
    answers.write(b"{}\n")  # ready: whatever goes wrong from here on is not the interpreter's
    answers.flush()
    # A table of bound methods, and positional arguments: looking an attribute up by a string made from JSON leaves
    # one entry a call in the interpreter's method cache, and the harness would see itself grow.
    handlers: dict[str, Callable[..., dict[str, Any]]] = {}
    pid = os.getpid()
    for line in commands:
        op, *arguments = json.loads(line)
        try:
            if not handlers:
                handlers = command_table(Worker(arguments.pop(0)))
            answer = handlers[op](*arguments)
        except BaseException as exc:
            answer = failure_answer(exc)
            del exc
        if os.getpid() != pid:
            os._exit(0)  # a child that the scenario has forked and let go on: only its parent speaks here
        try:
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()
        except BrokenPipeError:
            break
        del answer, arguments
    _leave()


def _leave() -> None:
    """End without running the program's exit handlers: the verdict is out, and they may hang."""
    sys.stderr.flush()
    os._exit(0)


def _take_channel() -> tuple[BinaryIO, BinaryIO]:
    """Move the two pipes off descriptors 0 and 1, so that the scenario can neither read nor write them."""
    commands = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return commands, answers


def _die_with_parent() -> None:
    """Linux: be killed when the tool is, even while a run is going on. Elsewhere the end of input does it."""
    if sys.platform != "linux":
        return
    try:
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def failure_answer(exc: BaseException) -> dict[str, Any]:
    """An error as strings: kind ``usage`` for a wrong declaration, else ``not_judged``; the reason in one line."""
    answer = _failure(exc)
    return {**answer, "reason": " ".join(answer["reason"].split())[:REASON_KEPT]}


def _failure(exc: BaseException) -> dict[str, Any]:
    if isinstance(exc, RunFailed):
        return {"failed": "not_judged", "reason": exc.reason, "detail": exc.detail}
    if isinstance(exc, ScenarioError):
        return {"failed": "usage", "reason": str(exc), "detail": ""}
    detail = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))[-4000:]
    if isinstance(exc, SyntaxError):
        reason = f"{exc.filename}:{exc.lineno}: {type(exc).__name__}: {exc.msg}"
        return {"failed": "usage", "reason": reason, "detail": detail}
    if isinstance(exc, ModuleNotFoundError):
        return {
            "failed": "not_judged",
            "reason": f"{exc} in {sys.executable}: install it there, or measure another interpreter with --python",
            "detail": detail,
        }
    return {"failed": "not_judged", "reason": f"{type(exc).__name__}: {exc}", "detail": detail}


def _still_the_surroundings() -> list[str]:
    """Switch off what would count itself. Returns what was done, in words."""
    try:
        import _tracemalloc as tracing  # PYTHONTRACEMALLOC starts it without leaving a module in sys.modules
    except ImportError:
        return []
    if tracing.is_tracing():
        tracing.stop()
        return ["tracemalloc was on and has been stopped: the measured run is never traced"]
    return []


def _load(path: str) -> ModuleType:
    """Import the scenario file as ``scenarios.<stem>``, whatever its folder is called."""
    stem = os.path.splitext(os.path.basename(path))[0]
    name = f"scenarios.{stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (LeakHarnessError, SyntaxError, ModuleNotFoundError):
        raise
    except BaseException as exc:
        answer = _failure(exc)
        raise RunFailed(f"loading {path} ended by {answer['reason']}", answer["detail"]) from None
    return module


def _scenarios(module: ModuleType) -> list[Scenario]:
    found = [value for value in vars(module).values() if isinstance(value, Scenario)]
    unique = list(dict.fromkeys(found))
    names: dict[str, Scenario] = {}
    for scenario in unique:
        scenario.validate()
        if scenario.name in names:
            raise ScenarioError(
                f"{scenario.where}: scenario {scenario.name!r} is declared twice "
                f"(first at {names[scenario.name].where})"
            )
        names[scenario.name] = scenario
    return unique


def _pick(scenarios: list[Scenario], name: str | None, path: str) -> Scenario:
    if name is not None:
        scenarios = [scenario for scenario in scenarios if scenario.name == name]
    if len(scenarios) == 1:
        return scenarios[0]
    if not scenarios:
        raise ScenarioError(f"{path}: no scenario {'here' if name is None else repr(name)}")
    names = ", ".join(scenario.name for scenario in scenarios)
    raise ScenarioError(f"{path}: several scenarios here ({names}): say which with {path}::NAME")


def _mode_of(scenario: Scenario, name: str | None) -> tuple[Mode, Plant | None]:
    if name is None:
        return scenario.default_mode(), None
    if name == SYNTHETIC_LEAK:
        return scenario.default_mode(), Plant("tracked")
    mode = scenario.modes.get(name)
    if mode is None:
        names = ", ".join([*scenario.modes, SYNTHETIC_LEAK])
        raise ScenarioError(f"scenario {scenario.name!r} has no mode {name!r}; it has {names}")
    return mode, None


def _describe(scenario: Scenario) -> dict[str, Any]:
    default = scenario.default_mode().name
    return {
        "name": scenario.name,
        "summary": scenario.summary,
        "mimics": scenario.mimics,
        "target": scenario.target,
        "where": scenario.where,
        "options": scenario.options,
        "known": [[known.match, known.reason] for known in scenario.known],
        "default": default,
        "modes": [
            {
                "name": mode.name,
                "must": mode.must,
                "abort": mode.abort,
                "default": mode.name == default,
                "where": mode.where,
                "needs": dict(mode.needs),
                "needs_target": mode.needs_target,
            }
            for mode in scenario.modes.values()
        ],
    }


def _is_async(function: Callable[..., Any] | None) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _set_up(function: Callable[..., Any] | None, run: Run, loop: Any) -> Callable[[], None] | None:
    """Run the set-up, and return the tear-down (what follows a generator's ``yield``)."""
    if function is None:
        return None
    started = function(run) if inspect.signature(function).parameters else function()
    if inspect.iscoroutine(started):
        loop.run_until_complete(started)
        return None
    if inspect.isasyncgen(started):
        loop.run_until_complete(started.__anext__())
        return lambda: loop.run_until_complete(_finish_async(started))
    if inspect.isgenerator(started):
        next(started)
        return lambda: _finish(started)
    return None


def _finish(generator: Any) -> None:
    next(generator, None)


async def _finish_async(generator: Any) -> None:
    async for _ in generator:
        break
