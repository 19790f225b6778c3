"""Where a leak is allocated: a second, short, traced measurement in a fresh process."""

from __future__ import annotations

import itertools
import linecache
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from leakharness.errors import LeakHarnessError, NotJudged
from leakharness.judge.series import trend
from leakharness.measure.measurement import Evidence, Measurement, Request
from leakharness.measure.native_memory import Traced, beside_the_sites, native_calls, native_share, with_memray
from leakharness.measure.worker_process import WorkerProcess
from leakharness.worker.protocol import (
    ALLOCATION_SITES,
    BASELINE,
    BIRTHS,
    C_FUNCTIONS,
    FREEZE,
    LOAD,
    READ,
    RUNS,
    SITES,
    START,
    TRACE,
)

__all__ = ["SecondProcess", "trace_allocations"]

WARM_UP_RUNS = 20
BATCHES = 5
RUNS_A_BATCH = 8
TRACED_OBJECTS = 20_000
"""Few: tracing is slow, and the question is only where, not whether. Fewer still where a run leaves very much
behind: about so many objects in all."""
CALL_RUNS = 3
"""Runs in which calls of C functions are watched: the line that leaks is met in the first, or hardly ever."""
RUNS_SECONDS = 8.0
"""What its runs may take; fewer are made where they are slow."""
NATIVE_RUNS = 30
"""Runs of each of the two batches in which memray traces every native allocation with its stack."""
TIMEOUT_S = 15.0
"""After this long the second process is given up: a leak is named without it."""
FLOOR_BYTES = 512.0
"""Growth of a site below which it is not named: a table that doubled."""
FILLS = 2.0
"""Blocks that a site leaves behind in a run, as a multiple of what all of them do in the long measurement (give or take
one), above which it is a cache that fills."""
MOST = 10
RESOURCES = {"fds": "descriptor opened", "threads": "thread started"}
"""Counters of which it is told where what they count comes from, and what a row of it is of."""


def trace_allocations(
    request: Request,
    python: str,
    scope_bytes: int,
    *,
    objects_a_run: float = 0.0,
    run_seconds: float = 0.0,
    env: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], ...]:
    """Sites where retained tracked objects were allocated, then sites whose memory grows in every batch.

    Each is ``{"of", "file", "line", "source", "per_run", "bytes_per_run"}``. ``objects_a_run``: what a run leaves
    behind, ``run_seconds`` how long it takes: fewer are made where they are slow. Empty where the second process fails
    or is too slow: it only explains, and never decides.
    """
    try:
        return _traced(request, python, scope_bytes, objects_a_run, run_seconds, 0.0, env).sites
    except LeakHarnessError:
        return ()


def _with_c_functions(worker: WorkerProcess, sites: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sites, each with the names of the C functions that its line calls; as they are where that cannot be seen."""
    if not sites:
        return []
    places = {str(site["place"]) for site in sites}
    try:
        called = worker.request(C_FUNCTIONS, sorted(places), CALL_RUNS, doing="watching calls of C functions").called
    except LeakHarnessError:
        called = {}
    return [{**site, "c_functions": list(called.get(str(site.pop("place")), ()))} for site in sites]


def _traced(
    request: Request,
    python: str,
    scope_bytes: int,
    objects_a_run: float,
    run_seconds: float,
    malloc_a_run: float,
    env: Mapping[str, str] | None,
    resources: Sequence[str] = (),
) -> Traced:
    """The same, and of ``malloc_a_run``, the bytes that malloc gives out in a run and that stay, how much none of
    Python's allocators asked for; first, where what ``resources`` count comes from. Raises LeakHarnessError where the
    second process fails or is too slow."""
    runs_a_batch = max(1, min(RUNS_A_BATCH, int(TRACED_OBJECTS / BATCHES / max(1.0, objects_a_run))))
    while runs_a_batch > 1 and _runs_in_all(runs_a_batch) * run_seconds > RUNS_SECONDS:
        runs_a_batch -= 1
    if _runs_in_all(runs_a_batch) * run_seconds > TIMEOUT_S:
        raise NotJudged(f"a run takes {run_seconds:.1f} s, and {_runs_in_all(runs_a_batch)} are needed")
    with WorkerProcess(python, env=env, deadline=time.monotonic() + TIMEOUT_S) as worker:
        worker.request(LOAD, request.spec(), doing="loading the scenario")
        worker.request(START, scope_bytes, doing="setting up")
        worker.request(RUNS, _warm_up_runs(runs_a_batch), doing="warming up")
        worker.request(FREEZE, doing="collecting")
        worker.request(TRACE, doing="starting to trace")
        worker.request(BASELINE, 0.0, doing="taking the baseline")
        readings = [worker.request(SITES, doing="reading sites").sites]
        for _ in range(BATCHES):
            worker.request(RUNS, runs_a_batch, doing="making traced runs")
            worker.request(READ, 0.01, False, False, doing="settling")
            readings.append(worker.request(SITES, doing="reading sites").sites)
        allocated = worker.request(ALLOCATION_SITES, doing="asking where they were allocated").rows
        runs = BATCHES * runs_a_batch
        rows = [row for row in allocated[:MOST] if row.stack]
        retained = [_site(row.stack[0], f"retained {row.label}", row.objects / runs, 0.0) for row in rows]
        growing = growing_sites(readings, runs_a_batch)[:MOST]
        came = [site for counter in resources for site in _born(worker, counter)]
        sites = [*came, *_with_c_functions(worker, [*retained, *growing])]
        native = native_share(malloc_a_run, (_traced_bytes(readings[-1]) - _traced_bytes(readings[0])) / runs)
        if sites and not native:
            return Traced(tuple(sites))
        asked = native_calls(worker, NATIVE_RUNS if runs_a_batch == RUNS_A_BATCH else runs_a_batch)
        return Traced((*sites, *asked.sites), native if sites else 0.0, asked)


def _born(worker: WorkerProcess, counter: str) -> list[dict[str, Any]]:
    """Where descriptors that stay are opened, or such threads started."""
    rows = worker.request(BIRTHS, counter, doing="watching what is opened and started").rows
    sites = [_site(f"{row.file}:{row.line}", RESOURCES[counter], row.per_run, 0.0) for row in rows[:MOST]]
    for site in sites:
        del site["place"]
    return [{**site, "c_functions": []} for site in sites]


def _traced_bytes(reading: Mapping[str, Sequence[int]]) -> int:
    return sum(size for size, _ in reading.values())


def _warm_up_runs(runs_a_batch: int) -> int:
    return min(WARM_UP_RUNS, 4 * runs_a_batch)


def _runs_in_all(runs_a_batch: int) -> int:
    return _warm_up_runs(runs_a_batch) + BATCHES * runs_a_batch


class SecondProcess:
    """Where a leak is allocated, asked of a second process beside the measured one. It begins once growth is seen, so
    that it is nearly done when the growth is confirmed."""

    def __init__(self, request: Request, python: str, env: Mapping[str, str] | None) -> None:
        self._request, self._python, self._env = request, python, env
        self._pool = ThreadPoolExecutor(1)
        self._begun: Future[Traced] | None = None

    def begin(self, measurement: Measurement) -> None:
        """Start it, unless it was started before."""
        if self._begun is None:
            found = measurement.assessment
            pace = {g.counter: g.per_run for g in found.growth} if found is not None else {}
            seconds = measurement.readings[-1].seconds - measurement.readings[0].seconds
            call = partial(_traced, self._request, self._python, measurement.plan.scope_bytes)
            self._begun = self._pool.submit(
                call,
                pace.get("objects", 0.0),
                seconds / max(1, measurement.runs),
                pace.get("malloc_bytes", 0.0),
                self._env,
                [g.counter for g in found.growth if g.grows and g.counter in RESOURCES] if found is not None else [],
            )

    def added_to(self, evidence: Evidence, measurement: Measurement) -> Evidence:
        """The evidence with the sites, as of :func:`trace_allocations`, and with what native code keeps beside them;
        waits for it. Where there are none, a note says why."""
        if self._begun is None:
            return evidence
        try:
            traced = self._begun.result()
        except LeakHarnessError as exc:
            measurement.notes.append(f"born at: not known, the second process that traces allocations failed: {exc}")
            traced = Traced(())
        held = (*evidence.held_by_c, *beside_the_sites(traced, measurement))
        told = tuple(with_memray(row, traced.asked, self._python) for row in held)
        return replace(evidence, allocations=by_growth(traced.sites, measurement), held_by_c=told)

    def __enter__(self) -> SecondProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def by_growth(sites: Sequence[dict[str, Any]], measurement: Measurement) -> tuple[dict[str, Any], ...]:
    """The sites, those last that leave more blocks behind in a run than are left behind in all. Pure.

    The second process makes few runs: a cache that is full in the long measurement still fills in it."""
    found = measurement.assessment
    blocks = next((g.per_run for g in found.growth if g.counter == "blocks"), None) if found is not None else None
    if blocks is None:
        return tuple(sites)
    most = FILLS * blocks + 1
    return tuple(sorted(sites, key=lambda site: site["of"] == "growth" and site["per_run"] > most))


def growing_sites(readings: Sequence[Mapping[str, Sequence[int]]], runs_a_batch: int) -> list[dict[str, Any]]:
    """Sites whose bytes grow by the judge's own rule, the fastest first; where there are none, those that rise in
    every batch, if unevenly (a list that is appended to takes a larger buffer now and then). Pure."""
    runs = [i * runs_a_batch for i in range(len(readings))]
    sure: list[dict[str, Any]] = []
    rising: list[dict[str, Any]] = []
    for site in readings[-1]:
        sizes = [float(reading.get(site, (0, 0))[0]) for reading in readings]
        what = trend(runs, sizes, floor=FLOOR_BYTES, final=True)
        every_batch = all(later > earlier for earlier, later in itertools.pairwise(sizes))
        if what.state == "grows" or (every_batch and what.rise > FLOOR_BYTES):
            blocks = (readings[-1][site][1] - readings[0].get(site, (0, 0))[1]) / runs[-1]
            row = _site(site, "growth", blocks, what.per_run)
            (sure if what.state == "grows" else rising).append(row)
    return sorted(sure or rising, key=lambda row: -row["bytes_per_run"])


def _site(place: str, of: str, per_run: float, bytes_per_run: float) -> dict[str, Any]:
    file, _, line = place.rpartition(":")
    shown = Path(file)
    if shown.is_relative_to(Path.cwd()):
        shown = shown.relative_to(Path.cwd())
    return {
        "place": place,
        "of": of,
        "file": str(shown),
        "line": int(line),
        "source": linecache.getline(file, int(line)).strip(),
        "per_run": round(per_run, 3),
        "bytes_per_run": round(bytes_per_run, 1),
    }
