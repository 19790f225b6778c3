"""What native code takes from malloc by itself: told beside the sites where Python allocates, and by memray's native
traces where the measured environment has it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Any

from leakharness.errors import LeakHarnessError
from leakharness.measure.known import NATIVE_MEMORY
from leakharness.measure.measurement import Measurement
from leakharness.measure.worker_process import WorkerProcess
from leakharness.model import NATIVE_GROWTH, HeldByC
from leakharness.units import size
from leakharness.worker.protocol import NATIVE_CALLS

__all__ = [
    "COMMAND",
    "NativeSites",
    "Traced",
    "beside_the_sites",
    "native_calls",
    "native_share",
    "with_memray",
]

COMMAND = "`memray run --native` of such runs, then `memray flamegraph --leaks`, names the calls"
"""Said where nobody has asked memray."""
LEAST_SHARE = 0.5
"""Of what malloc gives out in a run, what Python's allocators did not ask for to be told: the runs that are traced are
few, and some may leave less behind than the others."""
LEAST_BYTES = 256.0
"""a run; each chunk of malloc has some of its own."""


@dataclass(frozen=True)
class NativeSites:
    """What memray said. ``there``: whether the measured environment has it; ``failed``: why it said nothing."""

    there: bool = False
    sites: tuple[dict[str, Any], ...] = ()
    failed: str = ""


@dataclass(frozen=True)
class Traced:
    """What the second process found: the sites, memray's last; the bytes a run that native code takes beside them;
    and memray's answer, None where it was not asked."""

    sites: tuple[dict[str, Any], ...]
    native_bytes: float = 0.0
    asked: NativeSites | None = None


def native_calls(worker: WorkerProcess, runs: int) -> NativeSites:
    """Where native code allocates what stays, by memray, over two batches of so many runs."""
    try:
        answer = worker.request(NATIVE_CALLS, runs, doing="asking memray for native call sites")
    except LeakHarnessError as exc:
        return NativeSites(True, (), str(exc))
    rows = tuple(
        {
            "of": NATIVE_GROWTH,
            "file": row.file,
            "line": row.line,
            "source": f"{row.function}: {size(row.bytes)} a run",
            "per_run": 0.0,
            "bytes_per_run": float(row.bytes),
            "c_functions": [],
        }
        for row in answer.rows
    )
    return NativeSites(answer.asked, rows)


def native_share(malloc_bytes: float, traced_bytes: float) -> float:
    """Of ``malloc_bytes`` that stay in a run, those that no allocator of Python's asked for (``traced_bytes`` it did);
    0 where they are too few to be told. Pure."""
    left = malloc_bytes - traced_bytes
    return left if left >= max(LEAST_BYTES, LEAST_SHARE * malloc_bytes) else 0.0


def beside_the_sites(traced: Traced, measurement: Measurement) -> tuple[HeldByC, ...]:
    """What native code takes beside objects that grow, where malloc's bytes grow indeed. Pure."""
    found = measurement.assessment
    grows = {growth.counter for growth in found.growth if growth.grows} if found is not None else set()
    if not traced.native_bytes or "malloc_bytes" not in grows:
        return ()
    sentence = f"{size(traced.native_bytes)} a run that Python's allocators did not give out: native code took them"
    return (HeldByC(NATIVE_MEMORY, 0.0, traced.native_bytes, f"{sentence}; {COMMAND}"),)


def with_memray(row: HeldByC, asked: NativeSites | None, python: str) -> HeldByC:
    """A sentence on native memory ends with what memray said, or with the command that would let it say that. Pure."""
    if row.type != NATIVE_MEMORY or not row.sentence.endswith(COMMAND) or asked is None:
        return row
    if asked.failed:
        end = f"the calls are not known: {asked.failed}"
    elif not asked.there:
        install = shlex.join([python, "-m", "pip", "install", "memray"])
        end = f"`{install}`, and the same command again names the calls"
    elif asked.sites:
        end = "memray names the calls under 'born at'"
    else:
        end = "memray saw no call of which each batch of runs leaves something"
    return replace(row, sentence=row.sentence.removesuffix(COMMAND) + end)
