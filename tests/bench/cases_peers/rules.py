"""The rules of other tools, each judging one side of one case in a fresh process.

    python -P rules.py RULE CASE_FILE        prints {"verdict": "PASS"|"FAIL", "reason": ..., "runs": ...}

A rule calls the case as often as it likes and answers None, or what it saw grow. Standard library only, bar
psleak itself; the other rules are restated from what their documentation says.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import json
import linecache
import os
import re
import sys
import weakref
from array import array
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

REGRTEST_WARMUPS = 5
REGRTEST_REPETITIONS = 4
REGRTEST_RUNS = 20  # runs a repetition: regrtest repeats a whole test file, one run of ours is far less
ORIGINAL_BATCHES, ORIGINAL_RUNS = 5, 50
ORIGINAL_RSS_LIMIT = 64 << 20
ORIGINAL_TRACKED_LIMIT = 16
TRACEMALLOC_WARMUP, TRACEMALLOC_RUNS, TRACEMALLOC_LIMIT = 20, 100, 100 << 10
OBJGRAPH_GROWTHS, OBJGRAPH_RUNS = 3, 20


class InProcessWorker:
    """A loaded case that can be called synchronously, and a count of its tracked objects that are alive."""

    def __init__(self, path: str) -> None:
        spec = importlib.util.spec_from_file_location("leak_case", path)
        assert spec is not None
        assert spec.loader is not None
        self.case = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.case)
        names = ("setup", "run_once", "teardown")
        is_async = any(inspect.iscoroutinefunction(getattr(self.case, name, None)) for name in names)
        self.loop = asyncio.new_event_loop() if is_async else None
        self.run_is_async = inspect.iscoroutinefunction(self.case.run_once)
        self.runs = 0
        self.alive = 0
        if self.loop is not None:
            asyncio.set_event_loop(self.loop)
        self.finish(self.case.setup() if hasattr(self.case, "setup") else None)

    def finish(self, result: Any) -> None:
        if inspect.isawaitable(result):
            assert self.loop is not None
            self.loop.run_until_complete(result)

    def track(self, obj: Any, label: str | None = None) -> Any:
        weakref.finalize(obj, self.died).atexit = False
        self.alive += 1
        return obj

    def died(self) -> None:
        self.alive -= 1

    def run(self, count: int = 1, track: Callable[..., Any] | None = None) -> None:
        for _ in range(count):
            self.runs += 1
            result = self.case.run_once(track or self.track)
            if self.run_is_async:
                self.finish(result)

    def run_untracked(self) -> None:
        """One run for rules that know no tracked objects: no finalizer of ours counts as growth."""
        self.run(1, lambda obj, label=None: obj)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def drop_caches() -> None:
    """The interpreter's own caches that regrtest empties before it counts, then a full collection."""
    sys.path_importer_cache.clear()
    linecache.clearcache()
    re.purge()
    if sys.version_info >= (3, 13):
        sys._clear_internal_caches()
    else:
        sys._clear_type_cache()
    gc.collect()


def regrtest(patient: InProcessWorker) -> str | None:
    """CPython's `-R 5:4`: a count that rose in every repetition after the warm-ups is a leak.

    One flat delta clears it: [3, 0, 0] and [8, -8, 1] are forgiven, [10, 1, 1] is not. Applied to blocks and
    to descriptors alike (regrtest itself reports any change of descriptors).
    """
    total = REGRTEST_WARMUPS + REGRTEST_REPETITIONS
    # arrays, not lists: a kept int above 256 is a block of its own, and would be counted in every repetition
    blocks, fds = array("q", bytes(8 * (total + 1))), array("q", bytes(8 * (total + 1)))
    drop_caches()
    blocks[0], fds[0] = sys.getallocatedblocks(), descriptors()
    for repetition in range(1, total + 1):
        for _ in range(REGRTEST_RUNS):
            patient.run_untracked()
        drop_caches()
        blocks[repetition], fds[repetition] = sys.getallocatedblocks(), descriptors()
    for name, counts in (("blocks", blocks), ("descriptors", fds)):
        judged = counts[REGRTEST_WARMUPS:]
        deltas = [after - before for before, after in pairwise(judged)]
        if all(delta >= 1 for delta in deltas):
            return f"{name} {deltas}"
    return None


def psleak_default(patient: InProcessWorker) -> str | None:
    """psleak exactly as `MemoryLeakTestCase().execute(fun)` runs it."""
    return psleak_execute(patient)


def psleak_tuned(patient: InProcessWorker) -> str | None:
    """psleak without its checker of cyclic garbage, after one warm call."""
    import psleak  # type: ignore[import-not-found]

    patient.run_untracked()
    return psleak_execute(patient, checkers=psleak.Checkers.exclude("gcgarbage"))


def psleak_execute(patient: InProcessWorker, **options: Any) -> str | None:
    import psleak

    try:
        psleak.MemoryLeakTestCase().execute(patient.run_untracked, **options)
    except psleak.Error as found:
        return f"{type(found).__name__}: {str(found)[:200]}"
    return None


def original(patient: InProcessWorker) -> str | None:
    """The harness that this project descends from: 5 batches of 50, and two constants."""
    gc.collect()
    before = resident_bytes()
    for _ in range(ORIGINAL_BATCHES):
        patient.run(ORIGINAL_RUNS)
        gc.collect()
    grown = resident_bytes() - before
    if grown > ORIGINAL_RSS_LIMIT:
        return f"rss {grown:+}"
    if patient.alive > ORIGINAL_TRACKED_LIMIT:
        return f"{patient.alive} tracked objects alive"
    return None


def tracemalloc_limit(patient: InProcessWorker) -> str | None:
    """Traced memory that 100 runs leave behind, against the limit that tutorials use."""
    import tracemalloc

    tracemalloc.start()
    for _ in range(TRACEMALLOC_WARMUP):
        patient.run_untracked()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(TRACEMALLOC_RUNS):
        patient.run_untracked()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    return f"traced {grown:+} bytes" if grown > TRACEMALLOC_LIMIT else None


def objgraph_growth(patient: InProcessWorker) -> str | None:
    """Types whose number passed its peak in each of three growth reports, after one that is thrown away."""
    peaks: Counter[str] = Counter()
    always: set[str] | None = None
    for report in range(1 + OBJGRAPH_GROWTHS):
        for _ in range(OBJGRAPH_RUNS):
            patient.run_untracked()
        gc.collect()
        counts = Counter(type(obj).__name__ for obj in gc.get_objects())
        grown = {name for name, count in counts.items() if count > peaks[name]}
        peaks |= counts
        if report:
            always = grown if always is None else always & grown
    return f"grew {OBJGRAPH_GROWTHS} times: {', '.join(sorted(always)[:5])}" if always else None


RULES: dict[str, Callable[[InProcessWorker], str | None]] = {
    "regrtest -R 5:4": regrtest,
    "psleak": psleak_default,
    "psleak, no gcgarbage, 1 warm call": psleak_tuned,
    "original harness": original,
    "tracemalloc > 100 KB": tracemalloc_limit,
    "objgraph growth 3 times": objgraph_growth,
}


def main(rule: str, path: str) -> None:
    patient = InProcessWorker(path)
    seen = RULES[rule](patient)
    verdict = {"verdict": "FAIL" if seen else "PASS", "reason": seen or "", "runs": patient.runs}
    os.write(1, b"\n" + json.dumps(verdict).encode() + b"\n")
    os._exit(0)  # leaky sides leave threads and sockets behind that would keep the process


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
