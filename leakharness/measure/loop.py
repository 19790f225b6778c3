"""Measuring one mode: a fresh process, warm-up, baseline, batches, and the judge's assessment after each.

Knows neither the terminal nor files. What it needs of the outside is passed in: how a worker is opened, who
listens to its progress, and who explains a leak once there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leakharness.errors import NotJudged
from leakharness.judge import verdict as judge
from leakharness.judge.policy import SEGMENTS
from leakharness.measure.bounded import _runs_to_fill, _runs_to_fill_declared
from leakharness.measure.census import families
from leakharness.measure.measurement import Evidence, Explainer, Measurement, Observer, Request, WorkerClient
from leakharness.measure.warm_up import (
    LINEAR_MEMORY_BYTES,
    LINEAR_SECONDS,
    OPCODE_CACHES,
    WARM_UP_MEMORY_BYTES,
    WARM_UP_OBJECTS,
    WARM_UP_RUNS,
    WARM_UP_RUNS_310,
    WARM_UP_RUNS_LIMIT,
    WARM_UP_SECONDS,
    WARM_UP_SECONDS_LIMIT,
    WARM_UP_SIZES,
    _at_rest,
    _linear,
    _sizes,
)
from leakharness.model import COUNTERS, Detectable, Growth, Plan, Reading, RunResult, Verdict
from leakharness.units import number
from leakharness.worker.protocol import (
    BASELINE,
    CENSUS,
    FINISH,
    FREEZE,
    LOAD,
    READ,
    RUNS,
    SELF_TEST,
    START,
    ReadingAnswer,
)

__all__ = ["measure"]
SCARCE = ("fds", "threads", "children")
WARM_UP_SCARCE = 64
"""What a warm-up, and a batch, may leave behind of what a process or a user has few of: 1,024 descriptors, as a
rule. A leak of eight a run would else end in "too many open files", which is no verdict, before the baseline."""
OBJECTS_A_BATCH = 20_000
"""A batch that would leave more objects behind than this is made smaller: so clear a leak needs no more."""
REHEARSAL_RUNS = 5
"""Runs of each of the two rehearsals between the freeze and the baseline: what the first frozen reading itself
allocates must be there before it is compared with the second."""
SLOW_BATCH_SECONDS = 0.3
"""A batch that would take longer is made smaller, unless its size was asked for."""
FEWEST_RUNS_A_BATCH = 5
PASS_SECONDS = 1.5
"""A PASS of runs too slow for ``iters`` x ``batches`` of them needs at least this much measured time."""
GRACE_S = 0.03
"""Seconds that a reading waits for threads, descriptors and tasks that are on their way out."""
CONFIRM_GRACE_S = 0.5
"""The same for the reading that confirms a leak."""


def measure(
    request: Request,
    plan: Plan | Callable[[Mapping[str, Any]], Plan],
    worker: WorkerClient,
    observer: Observer,
    *,
    explain: Explainer | None = None,
    control: Callable[[int], Mapping[str, float]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RunResult:
    """Measure one mode in ``worker`` and judge it. ``plan`` may depend on the options that the scenario declares.

    ``control`` gives, for a number of runs, how much each counter rises in the same loop with an empty body; it is
    asked only where its answer can change the verdict. A measurement that fails gives NOT_JUDGED with the reason;
    UsageError passes through.
    """
    m = Measurement(request, plan if isinstance(plan, Plan) else Plan())
    began = clock()
    evidence = Evidence()
    noise: Mapping[str, float] = {}
    try:
        m.facts = worker.request(LOAD, request.spec(), doing="loading the scenario")
        m.notes += m.facts.notes
        if not isinstance(plan, Plan):
            m.plan = plan(m.facts.scenario.options)
        worker.request(START, m.plan.scope_bytes, doing="setting up")
        Batches(m, worker, observer, clock).warm_up_and_baseline()
        verdict, reason, noise = _judge_in_batches(m, worker, observer, control, clock)
        fault = worker.request(SELF_TEST, doing="testing the tracker").fault
        if fault is not None:
            raise NotJudged(f"the tracker's self-test failed after the runs: {fault}")
        if verdict == "FAIL" and explain is not None:
            evidence = explain(worker, m)
        m.notes += worker.request(FINISH, doing="tearing down").notes
    except NotJudged as exc:
        return _result(m, "NOT_JUDGED", str(exc), clock() - began, noise, detail=exc.detail)
    return evidence.added_to(_result(m, verdict, reason, clock() - began, noise))


@dataclass
class Batches:
    """The steps of a measurement that talk to the worker."""

    m: Measurement
    worker: WorkerClient
    observer: Observer
    clock: Callable[[], float]

    def warm_up_and_baseline(self, extra: int = 0) -> None:
        """Make runs until the counters stand still, within a budget (or as many as asked for); then the baseline."""
        m, plan = self.m, self.m.plan
        m.warm_up.clear()
        run_seconds = self._fixed_warm_up(plan.warmup + extra) if plan.warmup is not None else self._warm_up(extra)
        m.iters = plan.iters if plan.iters_given else self._runs_a_batch(run_seconds)
        m.bounded = self.worker.request(FREEZE, doing="collecting before the baseline").bounded
        if plan.warmup is None or plan.warmup >= 4 * REHEARSAL_RUNS:
            for _ in range(2):
                self._runs(REHEARSAL_RUNS, "warm-up")
                self._read(0.0)
        m.readings = [self.reading("baseline", 0, self.worker.request(BASELINE, GRACE_S, doing="taking the baseline"))]
        self.observer.reading(self.worker, m.readings[0])

    def batch(self, number: int) -> None:
        m = self.m
        first = number == 1
        label = f"batch-{number}"
        self.observer.phase(label, number, m.plan.batches)
        self._runs(m.iters, label)
        answer = self.worker.request(READ, GRACE_S, False, first, doing=f"reading after {label}")
        if first:
            m.census = [(m.iters, answer.census)]
        m.readings.append(self.reading(label, m.runs + m.iters, answer))
        if number <= m.plan.batches or number & (number - 1) == 0:  # of a long measurement, ever fewer
            self.observer.reading(self.worker, m.readings[-1])

    def confirm(self) -> None:
        """Read again, this time with the frozen heap collected and a long grace: what was only late is gone now."""
        m = self.m
        answer = self.worker.request(READ, CONFIRM_GRACE_S, True, False, doing="confirming the leak")
        m.readings[-1] = self.reading(m.readings[-1].label, m.readings[-1].runs, answer)

    def reading(self, label: str, runs: int, answer: ReadingAnswer) -> Reading:
        m = self.m
        m.tracked = answer.by_label()
        alive = answer.tracked_alive
        base = m.readings[0].declared["tracked_alive"] if m.readings and label != "baseline" else alive
        counters = {"tracked": alive - base, **answer.counters}
        declared = {**answer.declared, "tracked_alive": base}
        return Reading(label, runs, counters, declared, answer.collected, self.clock())

    def _fixed_warm_up(self, runs: int) -> float:
        if runs <= 0:
            return 0.0
        start = self.clock()
        self._runs(runs, "warm-up")
        return (self.clock() - start) / runs

    def _warm_up(self, extra: int) -> float:
        """Warm up until the counters stand still. Returns the seconds of one run, at the end of it."""
        m = self.m
        began = self.clock()
        made, run_seconds = 0, 0.0
        enough = WARM_UP_RUNS_310 if _is_310(m) else WARM_UP_RUNS
        at_least = extra
        for size in _sizes():
            start = self.clock()
            self._runs(size, "warm-up")
            run_seconds = (self.clock() - start) / size
            made += size
            m.warm_up.append(self.reading("warm-up", made, self._read(0.0)))
            if made == WARM_UP_SIZES[0] + WARM_UP_SIZES[1]:
                self.worker.request(FREEZE, doing="warming up")
            elapsed = self.clock() - began
            if made < at_least:
                continue
            if self._memory_left_behind() > WARM_UP_MEMORY_BYTES or self._left_behind("objects") > WARM_UP_OBJECTS:
                break
            if any(self._left_behind(name) >= WARM_UP_SCARCE for name in SCARCE):
                break
            if made < enough and elapsed < WARM_UP_SECONDS:
                continue
            if _at_rest(m.warm_up) or (_linear(m.warm_up) and self._outlasted(made, elapsed)):
                break
            if made >= WARM_UP_RUNS_LIMIT or elapsed >= WARM_UP_SECONDS_LIMIT:
                break
        return run_seconds

    def _runs_a_batch(self, run_seconds: float) -> int:
        """Fewer runs a batch where a run is slow, or leaves very much behind; the note says so."""
        m, iters = self.m, self.m.plan.iters
        fit, why = iters, ""
        if run_seconds * iters > SLOW_BATCH_SECONDS:
            fit, why = int(SLOW_BATCH_SECONDS / run_seconds), f"a run takes {run_seconds * 1000:.0f} ms"
        for name, most in (("objects", OBJECTS_A_BATCH), *((name, WARM_UP_SCARCE) for name in SCARCE)):
            left = self._left_a_run(name)
            if left * fit > most:
                fit, why = int(most / left), f"a run leaves {left:,.0f} {COUNTERS[name]} behind"
        fit = min(iters, max(FEWEST_RUNS_A_BATCH, fit))
        if fit < iters:
            m.notes.append(f"{why}: {fit} runs a batch instead of {iters} (--iters keeps its size)")
        return fit

    def _left_a_run(self, name: str) -> float:
        """How much of a counter a run left behind, at the end of the warm-up."""
        if len(self.m.warm_up) < 2:
            return 0.0
        before, last = self.m.warm_up[-2:]
        return (last.counters.get(name, 0) - before.counters.get(name, 0)) / max(1, last.runs - before.runs)

    def _outlasted(self, made: int, elapsed: float) -> bool:
        """Whether even growth has outlasted the usual bounds of caches, or costs too much to be followed there."""
        costs = elapsed >= LINEAR_SECONDS or self._memory_left_behind() > LINEAR_MEMORY_BYTES
        return costs or made >= WARM_UP_RUNS_LIMIT

    def _memory_left_behind(self) -> int:
        first, last = self.m.warm_up[0].counters, self.m.warm_up[-1].counters
        return max((last[name] - first[name] for name in ("rss", "malloc_bytes") if name in last), default=0)

    def _left_behind(self, name: str) -> int:
        return self.m.warm_up[-1].counters.get(name, 0) - self.m.warm_up[0].counters.get(name, 0)

    def _runs(self, count: int, doing: str) -> None:
        self.worker.request(RUNS, count, doing=f"making the runs of {doing}")
        if doing == "warm-up":
            self.m.warm_up_runs += count

    def _read(self, grace: float) -> ReadingAnswer:
        return self.worker.request(READ, grace, False, False, doing="reading during warm-up")


def _judge_in_batches(
    m: Measurement,
    worker: WorkerClient,
    observer: Observer,
    control: Callable[[int], Mapping[str, float]] | None,
    clock: Callable[[], float],
) -> tuple[Verdict, str, Mapping[str, float]]:
    """Batches until the judge is sure, or the budget ends."""
    loop, plan = Batches(m, worker, observer, clock), m.plan
    noise: Mapping[str, float] = {}
    number, began, spent = 0, clock(), 0
    while True:
        number += 1
        loop.batch(number)
        spent += m.iters
        if number < plan.batches:
            continue
        elapsed = clock() - began
        out_of_budget = spent + m.iters > plan.max_runs or elapsed >= plan.max_seconds
        found = _assess(m, noise, final=out_of_budget)
        if _may_be_opcode_caches(m, found):
            if out_of_budget:
                return "NOT_JUDGED", f"not clear after {m.runs} runs: {found.why}; {OPCODE_CACHES}", noise
            continue
        if found.state == "grows":
            if control is not None and not noise and not _decided_by_exact(found):
                noise = control(m.runs)
                found = _assess(m, noise, final=out_of_budget)
            m.census[1:] = [(m.runs, worker.request(CENSUS, doing="counting families").census)]
            observer.suspected(worker, m)
            loop.confirm()
            found = _assess(m, noise, final=out_of_budget)
            if found.state == "grows":
                refill, proven = _runs_to_fill(m, worker), True
                if refill is None:
                    refill, proven = _runs_to_fill_declared(m, worker), False
                if refill is None:
                    return "FAIL", found.why, noise
                runs, sentence = refill
                if spent + runs > plan.max_runs or runs * _run_seconds(m) > plan.max_seconds - elapsed:
                    if not proven:
                        return "FAIL", found.why, noise
                    m.assessment = found
                    return "NOT_JUDGED", f"{sentence}: it is full after about {runs:,} more runs (--max-runs)", noise
                m.notes.append(f"{sentence}: filled by {runs} more runs of warm-up, then measured anew")
                spent += runs
                loop.warm_up_and_baseline(runs)
                number = 0
                continue
            # The confirming reading froze the heap anew: from here on a census starts at nothing.
            m.census = [(m.runs, {})]
        if len(m.readings) <= SEGMENTS:
            if out_of_budget:
                batches = len(m.readings) - 1
                why = f"{batches} batches are too few to judge by: {SEGMENTS} are needed"
                return "NOT_JUDGED", f"{why} (--max-runs, --max-seconds, or a smaller --iters)", noise
            continue
        if found.state == "steady" and _enough(m):
            return "PASS", _pass_reason(m, number), noise
        if out_of_budget and found.state != "steady":
            needed = f"; it would take about {found.runs_needed:,} more runs" if found.runs_needed else ""
            return (
                "NOT_JUDGED",
                f"not clear after {m.runs} runs: {found.why}{needed} (--max-runs, --max-seconds)",
                noise,
            )
        if out_of_budget:
            return "PASS", _pass_reason(m, number), noise


def _may_be_opcode_caches(m: Measurement, found: judge.Assessment) -> bool:
    """Whether what grows may be the caches that 3.10 makes at a function's 1,024th call, after a warm-up that was
    too short for them: less than a block a run, and nothing else."""
    if (
        found.state != "grows"
        or not _is_310(m)
        or m.warm_up_runs + m.runs >= WARM_UP_RUNS_310 + m.plan.iters * m.plan.batches
    ):
        return False
    growing = {g.counter: g.per_run for g in found.growth if g.grows}
    return growing.keys() <= {"blocks", "malloc_bytes", "mapped_bytes", "rss"} and growing.get("blocks", 1.0) < 1.0


def _is_310(m: Measurement) -> bool:
    return m.facts is not None and m.facts.python.startswith("3.10.")


def _assess(m: Measurement, noise: Mapping[str, float], *, final: bool) -> judge.Assessment:
    plan = m.plan
    limit = None if plan.max_rss_growth_mb is None else plan.max_rss_growth_mb * 2**20
    m.assessment = judge.assess(
        m.readings,
        warm_up=m.warm_up,
        control=noise,
        max_tracked_retention=plan.max_tracked_retention,
        max_rss_growth_bytes=limit,
        final=final,
    )
    return m.assessment


def _decided_by_exact(found: judge.Assessment) -> bool:
    return any(g.grows and g.counter not in ("malloc_bytes", "mapped_bytes", "rss") for g in found.growth)


def _enough(m: Measurement) -> bool:
    """Whether a PASS rests on enough runs: what was asked for, or enough time where runs are slow."""
    asked = m.plan.iters * m.plan.batches
    return m.runs >= asked or m.readings[-1].seconds - m.readings[0].seconds >= PASS_SECONDS


def _run_seconds(m: Measurement) -> float:
    return (m.readings[-1].seconds - m.readings[0].seconds) / max(1, m.runs)


def _pass_reason(m: Measurement, batches: int) -> str:
    born = sum(row["born"] for row in m.tracked.values())
    retained = sum(row["retained"] for row in m.tracked.values())
    tracked = f"{retained}/{born} tracked objects retained; " if born else ""
    extended = batches > m.plan.batches
    why = f"settled after {batches} batches" if extended else "no counter grows"
    return f"{tracked}{why} over {m.runs} runs"


def _result(
    m: Measurement, verdict: Verdict, reason: str, seconds: float, noise: Mapping[str, float], detail: str = ""
) -> RunResult:
    facts = m.facts
    mode, must = _mode_and_must(m)
    found = m.assessment
    growth: tuple[Growth, ...] = found.growth if found is not None else ()
    return RunResult(
        scenario=facts.scenario.name if facts is not None else m.request.name or m.request.path,
        mode=mode,
        verdict=verdict,
        must=must,
        reason=reason,
        pid=facts.pid if facts is not None else 0,
        python=facts.python if facts is not None else "",
        executable=facts.executable if facts is not None else "",
        duration_s=seconds,
        runs=m.runs,
        warmup_runs=m.warm_up_runs,
        tracked=m.tracked,
        series=tuple(m.readings),
        growth=growth,
        families=families(m.census) if verdict == "FAIL" and _more_objects(growth) else (),
        detectable=judge.detectable(m.readings) if m.readings else Detectable(),
        forgiven=found.forgiven if found is not None else (),
        notes=tuple(m.notes + _collector_note(m)),
        blind=facts.missing_counters if facts is not None else {},
        control=noise,
        known_declared=facts.scenario.known if facts is not None else (),
        detail=detail,
    )


def _more_objects(growth: Sequence[Growth]) -> bool:
    """Whether objects that the collector lists came to stay; else a census shows strays alone."""
    return any(g.grows and g.counter in ("tracked", "objects") for g in growth)


def _mode_and_must(m: Measurement) -> tuple[str, Any]:
    scenario = m.facts.scenario if m.facts is not None else None
    name = m.request.mode or (scenario.default if scenario is not None else "(default)")
    if name == "synthetic-leak" or m.request.plant:
        return name, "FAIL"
    for mode in scenario.modes if scenario is not None else ():
        if mode.name == name:
            return name, mode.must
    return name, None


def _collector_note(m: Measurement) -> list[str]:
    """What only the cyclic collector freed: no leak, but memory that stays until a collection is due."""
    if m.runs == 0:
        return []
    per_run = m.readings[-1].collected / m.runs
    if per_run < 0.5:
        return []
    return [f"freed only by the cyclic collector: {number(per_run)} objects a run (a collection is due before they go)"]
