"""Measuring one mode: a fresh process, warm-up, baseline, batches, and the judge's assessment after each.

Knows neither the terminal nor files. What it needs of the outside is passed in: how a worker is opened, who
listens to its progress, and who explains a leak once there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from leakharness.errors import NotJudged
from leakharness.judge import verdict as judge
from leakharness.measure.batches import Batches
from leakharness.measure.bounded import over_bound
from leakharness.measure.census import families
from leakharness.measure.judging import Judging, Outcome
from leakharness.measure.measurement import Evidence, Explainer, Measurement, Observer, Request, WorkerClient
from leakharness.measure.quick_look import quick_look
from leakharness.measure.retention import what_stays
from leakharness.measure.soak import PacedWorker, soak_seconds
from leakharness.measure.unhindered import unhindered_clock
from leakharness.model import Detectable, Growth, Plan, RunResult, Verdict
from leakharness.units import number
from leakharness.worker.protocol import (
    FINISH,
    LOAD,
    SELF_TEST,
    START,
)

__all__ = ["measure"]

NOTED_TYPES = 0.5
"""References to an extension's type, a run, from which on it is noted that its instances do not give them back."""


def measure(
    request: Request,
    plan: Plan | Callable[[Mapping[str, Any]], Plan],
    worker: WorkerClient,
    observer: Observer,
    *,
    explain: Explainer | None = None,
    control: Callable[[int], Mapping[str, float]] | None = None,
    clock: Callable[[], float] | None = None,
    quick: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> RunResult:
    """Measure one mode in ``worker`` and judge it. ``plan`` may depend on the options that the scenario declares.

    ``control`` gives, for a number of runs, how much each counter rises in the same loop with an empty body; it is
    asked only where its answer can change the verdict. ``quick``: pass at once what stands still in a quick look.
    ``tell`` is given a line a minute where a time to measure for was asked for; ``clock`` is by default one of what the
    machine let it run. A measurement that fails gives NOT_JUDGED with the reason; UsageError passes through.
    """
    measurement = Measurement(request, plan if isinstance(plan, Plan) else Plan())
    wall = clock or time.monotonic
    began = wall()
    evidence = Evidence()
    stays: tuple[str, ...] = ()
    noise: Mapping[str, float] = {}
    try:
        measurement.facts = worker.request(LOAD, request.spec(), doing="loading the scenario")
        measurement.notes += measurement.facts.notes
        if not isinstance(plan, Plan):
            measurement.plan = plan(measurement.facts.scenario.options)
        worker.request(START, measurement.plan.scope_bytes, doing="setting up")
        asked_s = soak_seconds(measurement.plan)
        clock = clock or (unhindered_clock(worker.pid) if asked_s is None else wall)
        paced = worker if asked_s is None else PacedWorker(worker, measurement, asked_s, tell, clock)
        batches = Batches(measurement, paced, observer, clock)
        passed = quick_look(batches) if quick else None
        if passed is not None:
            outcome = Outcome("PASS", passed.reason)
        else:
            batches.warm_up_and_baseline()
            judging = Judging(batches, control, clock)
            outcome = judging.outcome()
            noise = judging.noise
        outcome = _checked_against_bounds(measurement, worker, observer, outcome)
        if outcome.verdict == "PASS":
            stays = what_stays(measurement, worker)
            outcome = Outcome("PASS", "; ".join((*stays, outcome.reason)))
        fault = worker.request(SELF_TEST, doing="testing the tracker").fault
        if fault is not None:
            raise NotJudged(f"the tracker's self-test failed after the runs: {fault}")
        if outcome.verdict == "FAIL" and explain is not None:
            evidence = explain(worker, measurement)
        measurement.notes += _torn_down(worker, outcome)
    except NotJudged as exc:
        return _result(measurement, "NOT_JUDGED", str(exc), wall() - began, noise, detail=exc.detail)
    result = _result(measurement, outcome.verdict, outcome.reason, wall() - began, noise)
    result = replace(result, stays=stays)
    if passed is not None:
        result = replace(result, detectable=passed.detectable, blind={**passed.blind, **result.blind})
    return evidence.added_to(result)


def _checked_against_bounds(
    measurement: Measurement, worker: WorkerClient, observer: Observer, outcome: Outcome
) -> Outcome:
    """A store with more entries than the scenario says it ever has is a leak, however slowly it got them."""
    over = over_bound(measurement, worker)
    if over is None or outcome.verdict == "NOT_JUDGED":
        return outcome
    if outcome.verdict == "PASS":
        observer.suspected(worker, measurement)
        return Outcome("FAIL", over)
    return Outcome("FAIL", f"{outcome.reason}; {over}")


def _torn_down(worker: WorkerClient, outcome: Outcome) -> Sequence[str]:
    """Tear down. A leak that was found is one whatever comes of that."""
    try:
        return worker.request(FINISH, doing="tearing down").notes
    except NotJudged as exc:
        if outcome.verdict != "FAIL":
            raise
        return [f"after the verdict: {exc}"]


def _result(
    measurement: Measurement,
    verdict: Verdict,
    reason: str,
    seconds: float,
    noise: Mapping[str, float],
    detail: str = "",
) -> RunResult:
    facts = measurement.facts
    mode, must = _mode_and_must(measurement)
    found = measurement.assessment
    growth: tuple[Growth, ...] = found.growth if found is not None else ()
    return RunResult(
        scenario=facts.scenario.name if facts is not None else measurement.request.name or measurement.request.path,
        mode=mode,
        verdict=verdict,
        must=must,
        reason=reason,
        pid=facts.pid if facts is not None else 0,
        python=facts.python if facts is not None else "",
        executable=facts.executable if facts is not None else "",
        duration_s=seconds,
        runs=measurement.runs,
        warmup_runs=measurement.warm_up_runs,
        tracked=measurement.tracked,
        series=tuple(measurement.readings),
        growth=growth,
        families=families(measurement.census) if verdict == "FAIL" and _more_objects(growth) else (),
        detectable=judge.detectable(measurement.readings) if measurement.readings else Detectable(),
        forgiven=found.forgiven if found is not None else (),
        notes=tuple(measurement.notes + _collector_note(measurement) + _types_note(measurement)),
        blind=_blind(measurement),
        control=noise,
        known_declared=facts.scenario.known if facts is not None else (),
        soaked_s=_soaked(measurement),
        detail=detail,
    )


def _soaked(measurement: Measurement) -> float:
    """Seconds from the baseline to the last reading; 0 where no time was asked for."""
    readings = measurement.readings
    return readings[-1].seconds - readings[0].seconds if readings and measurement.plan.soak else 0.0


def _blind(measurement: Measurement) -> Mapping[str, str]:
    """Counters that are absent, and why: from the start, or since a copy failed to count references."""
    missing = measurement.facts.missing_counters if measurement.facts is not None else {}
    failed = measurement.references.failed
    return {**missing, **({"references": failed} if failed else {})}


def _more_objects(growth: Sequence[Growth]) -> bool:
    """Whether objects that the collector lists came to stay; else a census shows strays alone."""
    return any(g.grows and g.counter in ("tracked", "objects") for g in growth)


def _mode_and_must(measurement: Measurement) -> tuple[str, Any]:
    scenario = measurement.facts.scenario if measurement.facts is not None else None
    name = measurement.request.mode or (scenario.default if scenario is not None else "(default)")
    if name == "synthetic-leak" or measurement.request.plant:
        return name, "FAIL"
    for mode in scenario.modes if scenario is not None else ():
        if mode.name == name:
            return name, mode.must
    return name, None


def _types_note(measurement: Measurement) -> list[str]:
    """References that an extension never gives back to what lives as long as the process, such as its own types by
    their instances: no memory is lost, so it is no finding."""
    runs = measurement.runs
    types = measurement.references.types
    names = sorted(row.type for row in types if runs and row.more >= NOTED_TYPES * runs)
    if not names:
        return []
    lives = "which lives" if len(names) == 1 else "which live"
    return [
        f"no memory is lost by it: references are not given back to {', '.join(names)}, {lives} as long as the process"
    ]


def _collector_note(measurement: Measurement) -> list[str]:
    """What only the cyclic collector freed: no leak, but memory that stays until a collection is due."""
    if measurement.runs == 0:
        return []
    per_run = measurement.readings[-1].collected / measurement.runs
    if per_run < 0.5:
        return []
    return [f"freed only by the cyclic collector: {number(per_run)} objects a run (a collection is due before they go)"]
