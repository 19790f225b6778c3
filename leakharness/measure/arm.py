"""One mode in a fresh process, from its options to its result: what ``run`` does."""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from leakharness.errors import LeakHarnessError
from leakharness.excerpts import Sources, library_folders, with_excerpts
from leakharness.measure.allocation import SecondProcess, trace_allocations
from leakharness.measure.analysis_budget import EXPLAIN_SECONDS
from leakharness.measure.evidence import Snapshots
from leakharness.measure.known import forgive_known, is_known
from leakharness.measure.loop import measure
from leakharness.measure.measurement import Evidence, Measurement, Request, SilentObserver, WorkerClient
from leakharness.measure.soak import soak_seconds
from leakharness.measure.worker_process import WorkerProcess, interpreter
from leakharness.model import Plan, Reading, Retainer, RunResult
from leakharness.options import default_of
from leakharness.resolve import checked_target, known_leaks, pyproject_options, resolve
from leakharness.scenario.declarations import reference_to
from leakharness.scenario.find import ScenarioRef
from leakharness.store import SNAP_DIR

DEFAULT_KEEP: int = default_of("keep")

__all__ = ["Listener", "Settings", "place_of", "run_found"]


class Listener:
    """Told how a measurement goes. This one says nothing; the terminal's prints."""

    def phase(self, arm: str, name: str, done: int, total: int | None) -> None:
        """A batch begins: number ``done`` of about ``total``."""

    def note(self, arm: str, text: str) -> None:
        """Something to tell while an arm is measured for a long time: how far it is."""

    def done(self, result: RunResult) -> None:
        """An arm has its verdict."""


@dataclass(frozen=True)
class Settings:
    """Everything a command line says, before it is resolved. ``options`` are those of the measurement."""

    options: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    python: str | None = None
    snap_dir: str | None = None
    keep: int | None = None
    """Measurements of each scenario whose snapshots stay in the default folder; 0 is all, None what pyproject says."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    plant: Mapping[str, Any] | None = None
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    """Where the measured process starts; None is here."""
    trace_allocations: bool = False
    """Trace allocations after a PASS as well (after a FAIL they always are)."""
    confirm: bool = False
    """Confirm retainers by cutting them in a forked copy."""
    values: bool = False
    """Let values of the program into snapshots and reports: keys of dicts, names of threads, texts of exceptions."""

    def command_options(self) -> list[str]:
        """The options that were given, as they are typed."""
        words: list[str] = []
        for name, value in self.options.items():
            if value is not None:
                words += ["--" + name.replace("_", "-"), f"{value:g}" if isinstance(value, float) else str(value)]
        for flag, given in (("--target", self.target), ("--python", self.python), ("--snap-dir", self.snap_dir)):
            if given is not None:
                words += [flag, given]
        return words


def run_found(
    found: ScenarioRef,
    mode: str | None,
    settings: Settings,
    listener: Listener | None = None,
    *,
    control: Mapping[str, float] | None = None,
) -> RunResult:
    """:func:`run` for a scenario that was found already. ``control``: what the control arm gave, if it ran."""
    listener = listener or Listener()
    began, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    pyproject = pyproject_options(Path.cwd())
    python = interpreter(settings.python or pyproject.get("python"))
    target = checked_target(settings.target or pyproject.get("target"))
    folder = Path(settings.snap_dir or pyproject.get("snap_dir") or f"{SNAP_DIR}/{found.name or found.path.stem}")
    request = Request(str(found.path.resolve()), found.name, mode, target, settings.plant, settings.values)
    arm = Arm(request, settings, python, pyproject)
    when = arm.plan().snapshots

    def explain(worker: WorkerClient, measurement: Measurement) -> Evidence:
        """Who holds it, and meanwhile, in a second process, where it was born."""
        traced.begin(measurement)
        return traced.added_to(snapshots.explain(worker, measurement), measurement)

    traced = SecondProcess(request, python, settings.env)
    snapshots = Snapshots(
        None if when == "never" else folder,
        always=when == "always",
        keep=int(pyproject.get("keep", DEFAULT_KEEP) if settings.keep is None else settings.keep),
        confirm=settings.confirm,
        known=arm.knows,
    )
    observer = SnapshotObserver(f"{found.name or found.path.name} / {mode or 'default'}", listener, snapshots, traced)
    with snapshots.closing(), traced:
        result, plan = arm.measure(observer, explain=explain, control=control)
    if settings.trace_allocations and result.verdict == "PASS":
        allocated = trace_allocations(request, python, plan.scope_bytes, env=settings.env)
        result = replace(result, allocations=allocated)
    result = replace(
        result,
        reproduce=_reproduce(found, mode, settings),
        platform=platform.platform(),
        duration_s=time.monotonic() - began,
        started=started,
        where=place_of(found),
    )
    here = Path(settings.cwd or Path.cwd())
    result = with_excerpts(result, Sources([here, *library_folders(python, result.python)]))
    result = forgive_known(result, known_leaks(result.known_declared, pyproject))
    listener.done(result)
    return result


@dataclass(frozen=True)
class Arm:
    """One mode to be measured in a fresh process: what to run, by which interpreter, with which options."""

    request: Request
    settings: Settings
    python: str
    pyproject: Mapping[str, Any]

    def plan(self, scenario_options: Mapping[str, Any] | None = None) -> Plan:
        """What the options come to; raises OptionError."""
        settings = self.settings
        return resolve(settings.options, scenario_options, self.pyproject, defaults=settings.defaults)

    def knows(self, measurement: Measurement, retainer: Retainer) -> bool:
        """Whether what holds these objects is a leak that the scenario or pyproject.toml declares as known."""
        declared = measurement.facts.scenario.known if measurement.facts is not None else ()
        return is_known(known_leaks(declared, self.pyproject), retainer)

    def measure(
        self,
        observer: SnapshotObserver,
        *,
        explain: Callable[[WorkerClient, Measurement], Evidence] | None,
        control: Mapping[str, float] | None = None,
    ) -> tuple[RunResult, Plan]:
        """The result, and the plan that it was measured by. ``control``: what the control arm gave, if it ran."""
        began, plans = time.monotonic(), [self.plan()]

        def plan_for(scenario_options: Mapping[str, Any]) -> Plan:
            plans.append(self.plan(scenario_options))
            worker.set_deadline(began + _longest(plans[-1]))
            return plans[-1]

        def rise(runs: int) -> Mapping[str, float]:
            return control_rise(runs, self.python, self.settings) if control is None else control

        def explained(client: WorkerClient, measurement: Measurement) -> Evidence:
            """A leak that was found is explained in time of its own."""
            worker.set_deadline(max(began + _longest(plans[-1]), time.monotonic() + EXPLAIN_SECONDS))
            return explain(client, measurement) if explain is not None else Evidence()

        settings = self.settings
        deadline = began + _longest(plans[0])
        own = None if self.request.values else str(Path(self.request.path).parent)
        with WorkerProcess(
            self.python, cwd=settings.cwd, env=settings.env, deadline=deadline, own_folder=own
        ) as worker:
            tell = partial(observer.listener.note, observer.arm)
            result = measure(self.request, plan_for, worker, observer, explain=explained, control=rise, tell=tell)
            files = observer.snapshots.files()  # written by children of the worker, which end with it
        notes = result.notes + tuple(observer.snapshots.problems)
        return replace(result, snapshots=files, notes=notes), plans[-1]


def _longest(plan: Plan) -> float:
    """Seconds after which a mode counts as hung: a soak has its time beside ``--timeout``."""
    return plan.timeout + (soak_seconds(plan) or 0.0)


@dataclass(frozen=True)
class SnapshotObserver:
    """Passes on what a measurement tells: to the listener, to the snapshots, and to the process that is traced."""

    arm: str
    listener: Listener
    snapshots: Snapshots
    traced: SecondProcess | None = None

    def phase(self, name: str, done: int, total: int | None) -> None:
        self.listener.phase(self.arm, name, done, total)

    def reading(self, worker: WorkerClient, reading: Reading) -> None:
        self.snapshots.reading(worker, reading)

    def suspected(self, worker: WorkerClient, measurement: Measurement) -> None:
        self.snapshots.suspected(worker, measurement)
        if self.traced is not None:
            self.traced.begin(measurement)


def control_rise(runs: int, python: str, settings: Settings) -> dict[str, float]:
    """How much each counter rises in the same loop with an empty body, over ``runs`` runs."""
    import leakharness.worker.control as control

    plan = Plan(iters=max(1, runs // 5), batches=5, snapshots="never")
    path = str(Path(control.__file__).resolve())
    try:
        with WorkerProcess(python, env=settings.env, deadline=time.monotonic() + 60.0) as worker:
            result = measure(Request(path, "control", "async"), plan, worker, SilentObserver())
    except LeakHarnessError:
        return {}
    if not result.series:
        return {}
    first, last = result.series[0].counters, result.series[-1].counters
    return {name: max(0.0, float(last[name] - first[name])) for name in last if name in first}


def place_of(found: ScenarioRef) -> str:
    """``file:line``, from the current folder where the file is below that."""
    path, here = found.path.resolve(), Path.cwd().resolve()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{found.line}"


def _reproduce(found: ScenarioRef, mode: str | None, settings: Settings) -> str:
    words = ["leakharness", "run", reference_to(found)]
    if mode is not None:
        words += ["--mode", mode]
    return shlex.join(words + settings.command_options())
