"""What the commands do, as functions: ``run`` one mode, ``check`` every arm."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from leakharness.allocation import trace_allocations
from leakharness.discovery import Found, find
from leakharness.errors import LeakHarnessError, NotJudged, OptionError, UsageError
from leakharness.evidence import Snapshots
from leakharness.model import Certificate, CertificateVerdict, Plan, Reading, Retainer, RunResult
from leakharness.options import DEFAULTS, checked_target, known_leaks, pyproject_options, resolve
from leakharness.process import WorkerProcess, end_all, interpreter
from leakharness.runner import Asker, Evidence, Measurement, Request, measure
from leakharness.scenario import SYNTHETIC_LEAK, Known, Scenario

__all__ = ["Listener", "Settings", "check", "check_found", "describe", "run", "run_found"]

SNAP_DIR = ".tmp/leakharness"
ENDING_PAUSE_S = 0.05
WAKING_S = 0.2
NEVER_KNOWN = ("fds", "threads", "children")
"""What a forked copy cannot give back, so that no known leak can be shown to account for it."""
ARMS_AT_ONCE = 2
"""Arms measured side by side. Exact counters do not mind company; more would only slow each other down."""


class Listener:
    """Told how a measurement goes. This one says nothing; the terminal's prints."""

    def phase(self, arm: str, name: str, done: int, total: int | None) -> None:
        """A batch begins: number ``done`` of about ``total``."""

    def done(self, result: RunResult) -> None:
        """An arm has its verdict."""


@dataclass(frozen=True)
class Settings:
    """Everything a command line says, before it is resolved. ``options`` are those of the measurement."""

    options: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    python: str | None = None
    snap_dir: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    plant: Mapping[str, Any] | None = None
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    """Where the measured process starts; None is here."""
    trace_allocations: bool = False
    """Trace allocations after a PASS as well (after a FAIL they always are)."""
    confirm: bool = False
    """Confirm retainers by cutting them in a forked copy."""

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


def run(scenario: str | os.PathLike[str] | Scenario, mode: str | None = None, **options: Any) -> RunResult:
    """Measure one mode in a fresh process, as ``leakharness run`` does. Writes snapshots, but no report.

    ``options`` are the command's, with underscores: iters, batches, warmup, scope_bytes, max_tracked_retention,
    max_rss_growth_mb, max_runs, max_seconds, timeout, snapshots, snap_dir, target, python.
    Raises UsageError for what the command would exit 2 for; a measurement that fails is a NOT_JUDGED result.
    """
    return run_found(_find(scenario), mode, _settings(options))


def check(scenario: str | os.PathLike[str] | Scenario, **options: Any) -> Certificate:
    """Measure every arm of a scenario, as ``leakharness check`` does. Options and errors as for :func:`run`."""
    return check_found(_find(scenario), _settings(options, snapshots="on-fail"))


def run_found(
    found: Found,
    mode: str | None,
    settings: Settings,
    listener: Listener | None = None,
    *,
    control: Mapping[str, float] | None = None,
) -> RunResult:
    """:func:`run` for a scenario that was found already. ``control``: what the control arm gave, if it ran."""
    listener = listener or Listener()
    began = time.monotonic()
    pyproject = pyproject_options(Path.cwd())
    python = interpreter(settings.python or pyproject.get("python"))
    target = checked_target(settings.target or pyproject.get("target"))
    folder = Path(settings.snap_dir or pyproject.get("snap_dir") or f"{SNAP_DIR}/{found.name or found.path.stem}")
    request = Request(str(found.path.resolve()), found.name, mode, target, settings.plant)
    arm = Arm(request, settings, python, pyproject)
    when = arm.plan().snapshots

    def explain(worker: Asker, m: Measurement) -> Evidence:
        """Who holds it, and meanwhile, in a second process, where it was born."""
        with ThreadPoolExecutor(1) as pool:
            left = (
                next((g.per_run for g in m.assessment.growth if g.counter == "objects"), 0.0) if m.assessment else 0.0
            )
            births = pool.submit(
                trace_allocations, request, python, m.plan.scope_bytes, objects_a_run=left, env=settings.env
            )
            evidence = snapshots.explain(worker, m)
            return Evidence({**evidence.changes, "allocations": births.result()})

    snapshots = Snapshots(
        None if when == "never" else folder,
        always=when == "always",
        confirm=settings.confirm,
        known=arm.knows,
    )
    observer = SnapshotObserver(f"{found.name or found.path.name} / {mode or 'default'}", listener, snapshots)
    with snapshots.closing():
        result, plan = arm.measure(observer, explain=explain, control=control)
    if settings.trace_allocations and result.verdict == "PASS":
        births = trace_allocations(request, python, plan.scope_bytes, env=settings.env)
        result = replace(result, allocations=births)
    result = replace(
        result,
        reproduce=_reproduce(found, mode, settings),
        platform=platform.platform(),
        duration_s=time.monotonic() - began,
    )
    result = forgive_known(result, known_leaks(result.known_declared, pyproject))
    listener.done(result)
    return result


def check_found(found: Found, settings: Settings, listener: Listener | None = None) -> Certificate:
    """:func:`check` for a scenario that was found already."""
    settings = replace(settings, defaults={"snapshots": "on-fail", **settings.defaults})
    pyproject = pyproject_options(Path.cwd())
    python = interpreter(settings.python or pyproject.get("python"))
    scenario = declaration_of(describe([found.path], python)[str(found.path.resolve())], found)
    has_target = bool(checked_target(settings.target or pyproject.get("target")) or scenario["target"])
    arms, notes = _arms(scenario, has_target)
    with ThreadPoolExecutor(max_workers=min(ARMS_AT_ONCE, os.cpu_count() or 1)) as pool:
        jobs: list[Future[Any]] = []
        try:
            jobs.append(pool.submit(control_rise, DEFAULTS["iters"] * DEFAULTS["batches"], python, settings))
            noise = _results(jobs)[0]
            jobs += [pool.submit(run_found, found, mode, settings, listener, control=noise) for mode, _ in arms]
            results = _results(jobs)[1:]
        except BaseException as exc:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(exc, Exception):
                _end_processes_of(jobs)
            raise
    results = [replace(result, must=must, control=noise) for result, (_, must) in zip(results, arms, strict=True)]
    notes += _shape_notes(scenario, found, python)
    return certify(scenario["name"], results, notes)


def _results(jobs: Sequence[Future[Any]]) -> list[Any]:
    """What the jobs gave. Woken now and then: a main thread that waits without end may not notice a Ctrl-C."""
    while wait(jobs, timeout=WAKING_S, return_when=FIRST_EXCEPTION).not_done:
        for job in jobs:
            if job.done():
                job.result()
    return [job.result() for job in jobs]


def _end_processes_of(jobs: Sequence[Future[Any]]) -> None:
    """After Ctrl-C: leaving the pool would wait for what its threads wait for, so their processes are ended; again
    and again, as a thread may just be starting one."""
    while not all(job.done() for job in jobs):
        end_all()
        time.sleep(ENDING_PAUSE_S)


def certify(name: str, arms: Sequence[RunResult], notes: Sequence[str] = ()) -> Certificate:
    """The certificate that these arms come to. Pure."""
    blind = [arm for arm in arms if arm.must == "FAIL" and arm.verdict == "PASS"]
    leaky = [arm for arm in arms if arm.must == "PASS" and arm.verdict == "FAIL"]
    unjudged = [arm for arm in arms if arm.verdict == "NOT_JUDGED"]
    uncounted = [
        arm
        for arm in arms
        if arm.mode == SYNTHETIC_LEAK
        and arm.verdict == "FAIL"
        and not any(g.grows and g.counter == "tracked" for g in arm.growth)
    ]
    verdict: CertificateVerdict
    if blind:
        verdict, reason = (
            "INVALID",
            (f"{_names(blind)} must FAIL and passed: the detector or the scenario is blind, so no PASS counts"),
        )
    elif uncounted:
        verdict, reason = (
            "INVALID",
            (f"{SYNTHETIC_LEAK} keeps every tracked object and the tracker did not count them: no PASS counts"),
        )
    elif leaky:
        verdict, reason = "LEAK", f"{_names(leaky)} must PASS and failed: {leaky[0].reason}"
    elif unjudged:
        verdict, reason = "NOT_JUDGED", f"{_names(unjudged)} could not be measured: {unjudged[0].reason}"
    else:
        verdict, reason = "CERTIFIED", "every arm gave what it must: the leak is seen where it is, and the fix has none"
    return Certificate(name, verdict, reason, tuple(arms), tuple(notes))


def describe(paths: Sequence[Path], python: str) -> dict[str, Any]:
    """What the scenario files declare, read in a fresh process: ``{path: [scenario, …] or failure}``."""
    names = [str(path.resolve()) for path in paths]
    try:
        with WorkerProcess(python, deadline=time.monotonic() + DEFAULTS["timeout"]) as worker:
            found: dict[str, Any] = worker.ask("describe", {}, names, doing="reading the declarations")["files"]
    except NotJudged as exc:
        if len(paths) > 1:  # one file ended the process: the others are read without it
            return {name: answer for path in paths for name, answer in describe([path], python).items()}
        return {names[0]: {"failed": "not_judged", "reason": str(exc), "detail": exc.detail}}
    return found


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
        declared = measurement.hello["scenario"].get("known", ())
        return is_known(known_leaks([(match, reason) for match, reason in declared], self.pyproject), retainer)

    def measure(
        self,
        observer: SnapshotObserver,
        *,
        explain: Callable[[Asker, Measurement], Evidence] | None,
        control: Mapping[str, float] | None = None,
    ) -> tuple[RunResult, Plan]:
        """The result, and the plan that it was measured by. ``control``: what the control arm gave, if it ran."""
        began, plans = time.monotonic(), [self.plan()]

        def plan_for(scenario_options: Mapping[str, Any]) -> Plan:
            plans.append(self.plan(scenario_options))
            worker.set_deadline(began + plans[-1].timeout)
            return plans[-1]

        def rise(runs: int) -> Mapping[str, float]:
            return control_rise(runs, self.python, self.settings) if control is None else control

        settings = self.settings
        deadline = began + plans[0].timeout
        with WorkerProcess(self.python, cwd=settings.cwd, env=settings.env, deadline=deadline) as worker:
            result = measure(self.request, plan_for, worker, observer, explain=explain, control=rise)
            files = observer.snapshots.files()  # written by children of the worker, which end with it
        notes = result.notes + tuple(observer.snapshots.problems)
        return replace(result, snapshots=files, notes=notes), plans[-1]


@dataclass(frozen=True)
class SnapshotObserver:
    """Passes on what a measurement tells: to the listener, and to the snapshots."""

    arm: str
    listener: Listener
    snapshots: Snapshots

    def phase(self, name: str, done: int, total: int | None) -> None:
        self.listener.phase(self.arm, name, done, total)

    def reading(self, worker: Asker, reading: Reading) -> None:
        self.snapshots.reading(worker, reading)

    def suspected(self, worker: Asker, measurement: Measurement) -> None:
        self.snapshots.suspected(worker, measurement)


class _Silent:
    def phase(self, name: str, done: int, total: int | None) -> None: ...
    def reading(self, worker: Asker, reading: Reading) -> None: ...
    def suspected(self, worker: Asker, measurement: Measurement) -> None: ...


def control_rise(runs: int, python: str, settings: Settings) -> dict[str, float]:
    """How much each counter rises in the same loop with an empty body, over ``runs`` runs."""
    import leakharness.probe.control as control

    plan = Plan(iters=max(1, runs // 5), batches=5, snapshots="never")
    path = str(Path(control.__file__).resolve())
    try:
        with WorkerProcess(python, env=settings.env, deadline=time.monotonic() + 60.0) as worker:
            result = measure(Request(path, "control", "async"), plan, worker, _Silent())
    except LeakHarnessError:
        return {}
    if not result.series:
        return {}
    first, last = result.series[0].counters, result.series[-1].counters
    return {name: max(0.0, float(last[name] - first[name])) for name in last if name in first}


def _arms(scenario: Mapping[str, Any], has_target: bool) -> tuple[list[tuple[str, Any]], list[str]]:
    """(mode, what it must give) for each arm, and what there is to say about them."""
    notes: list[str] = []
    arms: list[tuple[str, Any]] = []
    for mode in scenario["modes"]:
        if mode["needs_target"] and not has_target:
            notes.append(f"no {mode['name']} arm: it needs --target module:attribute")
        elif mode["must"] is not None or mode["default"]:
            arms.append((mode["name"], mode["must"] or "PASS"))
    if not any(must == "FAIL" for _, must in arms):
        notes.append("no sensitivity arm of its own: no mode of this scenario must FAIL but synthetic-leak")
    arms.append((SYNTHETIC_LEAK, "FAIL"))
    return arms, notes


def _shape_notes(scenario: Mapping[str, Any], found: Found, python: str) -> list[str]:
    """Whether the fixture still has the lexical shape of what it mimics, in a sentence; none where it says nothing
    of that. A fixture that has drifted proves nothing about the original, and the certificate has to say so."""
    if not scenario["mimics"]:
        return []
    from leakharness.lexical import check_shape

    other = None if python == sys.executable else python
    try:
        comparison = check_shape(f"{found.path}::{scenario['name']}", python=other).comparison
    except LeakHarnessError as exc:
        return [f"shape not compared with {scenario['mimics']}: {exc}"]
    hides = ", and the difference can hide the leak" if comparison.can_hide else ""
    return [f"shape: {comparison.verdict} as {scenario['mimics']}{hides} (leakharness shape {scenario['name']})"]


def declaration_of(answer: Any, found: Found) -> dict[str, Any]:
    """One scenario's declaration out of a file's. Raises UsageError or NotJudged for what went wrong there."""
    if isinstance(answer, Mapping):
        error = UsageError(answer["reason"]) if answer["failed"] == "usage" else NotJudged(answer["reason"])
        raise error
    for scenario in answer:
        if found.name is None or scenario["name"] == found.name:
            return dict(scenario)
    raise UsageError(f"{found.path}: no scenario {found.name!r}")


def forgive_known(result: RunResult, known: Sequence[Known]) -> RunResult:
    """Call a FAIL a PASS where the known leaks account for all of it; say which rule forgave what, what grows beside
    it, and which rules matched nothing. A mode that must FAIL is forgiven nothing: it is there to be seen."""
    if not known or result.must == "FAIL" or result.mode == SYNTHETIC_LEAK:
        return result
    notes, found, open_ = [], [], list(result.retainers)
    for entry in known:
        matched = [r for r in result.retainers if _matches(entry.match, r)]
        if not matched:
            notes.append(f"known leak {entry.match!r} matched nothing: remove it ({entry.reason})")
            continue
        open_ = [r for r in open_ if r not in matched]
        count = sum(r.count for r in matched)
        found.append(f"known leak {entry.match!r}: {count} {matched[0].target} ({entry.reason})")
    result = replace(result, notes=result.notes + tuple(notes))
    if not found:
        return result
    scarce = [g for g in result.growth if g.grows and g.counter in NEVER_KNOWN]
    beyond = [*result.beyond_known, *(r.sentence for r in open_)]
    beyond += [f"{g.counter} {g.per_run:+.4g} a run, which no kept object explains" for g in scarce]
    if result.verdict == "FAIL" and beyond:
        return replace(result, notes=result.notes + tuple(f"{found[0]} is not all that leaks: {b}" for b in beyond))
    result = replace(result, forgiven=result.forgiven + tuple(found))
    if result.verdict == "FAIL":
        return replace(result, verdict="PASS", reason=f"every leak found is known: {found[0]}")
    return result


def is_known(known: Sequence[Known], retainer: Retainer) -> bool:
    """Whether an accepted leak holds these objects."""
    return any(_matches(entry.match, retainer) for entry in known)


def _matches(match: str, retainer: Retainer) -> bool:
    target = retainer.target
    return match == target or target.endswith("." + match) or match in retainer.fingerprint


def _find(scenario: str | os.PathLike[str] | Scenario) -> Found:
    if isinstance(scenario, Scenario):
        path, _, line = scenario.where.rpartition(":")
        return Found(scenario.name, Path(path), int(line), "file")
    return find(os.fspath(scenario))


def _settings(options: Mapping[str, Any], **defaults: Any) -> Settings:
    rest = {name: value for name, value in options.items() if name not in DEFAULTS}
    unknown = sorted(set(rest) - {"snap_dir", "target", "python", "env"})
    if unknown:
        raise OptionError(
            f"unknown option {unknown[0]!r}; there are {', '.join(sorted(DEFAULTS))}, snap_dir, target, python"
        )
    return Settings(
        {name: value for name, value in options.items() if name in DEFAULTS},
        rest.get("target"),
        rest.get("python"),
        rest.get("snap_dir"),
        defaults,
        env=rest.get("env"),
    )


def _reproduce(found: Found, mode: str | None, settings: Settings) -> str:
    words = ["leakharness", "run", reference_to(found)]
    if mode is not None:
        words += ["--mode", mode]
    return shlex.join(words + settings.command_options())


def reference_to(found: Found) -> str:
    """How the scenario is named on a command line from here."""
    if found.origin != "file" and found.name:
        return found.name
    path = os.path.relpath(found.path) if found.path.resolve().is_relative_to(Path.cwd()) else str(found.path)
    return f"{path}::{found.name}" if found.name else path


def _names(arms: Sequence[RunResult]) -> str:
    return " and ".join(arm.mode for arm in arms)
