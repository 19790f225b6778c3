"""The quick look of ``pytest --leakcheck`` never passes a leaky twin; what it passes is clean."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_power_twins import CLEAN, LEAKY, NOT_LINUX, SCENES

from leakharness.measure.batches import Batches
from leakharness.measure.measurement import Measurement, Request
from leakharness.measure.quick_look import QuickPass, quick_look
from leakharness.measure.worker_process import WorkerProcess
from leakharness.model import Plan
from leakharness.worker.protocol import LOAD, START

pytestmark = pytest.mark.skipif(NOT_LINUX, reason="the exact counters of a process are Linux's")
SILENT = SimpleNamespace(phase=lambda *_: None, reading=lambda *_: None, suspected=lambda *_: None)
ALWAYS_STILL = {"resurrected", "cyclic", "tracked-cycle", "str", "bytes", "int", "malloc", "descriptor", "task"}
"""Clean twins that leave nothing behind from the first run on: these need no full measurement."""


def looked_at(scene: str, name: str, mode: str) -> QuickPass | None:
    request = Request(str(Path(SCENES / f"{scene}.py").resolve()), name, mode)
    m = Measurement(request, Plan(snapshots="never"))
    with WorkerProcess(sys.executable, deadline=time.monotonic() + 60) as worker:
        m.facts = worker.request(LOAD, request.spec(), doing="loading")
        worker.request(START, m.plan.scope_bytes, doing="setting up")
        return quick_look(Batches(m, worker, SILENT, time.monotonic))


@pytest.mark.parametrize(("scene", "name"), [(row.scene, row.name) for row in LEAKY], ids=[row.name for row in LEAKY])
def test_no_leaky_twin_passes_a_quick_look(scene: str, name: str) -> None:
    """One in a hundred runs, and one that begins at the 260th, are among them."""
    passed = looked_at(scene, name, "leaky")
    assert passed is None, passed


@pytest.mark.parametrize(("scene", "name"), [row for row in CLEAN if row[1] in ALWAYS_STILL])
def test_what_stands_still_passes_with_its_sensitivity(scene: str, name: str) -> None:
    """At least 250 runs without a move: the figure says what would have shown."""
    passed = looked_at(scene, name, "clean")
    assert passed is not None
    assert passed.detectable.objects_per_run is not None
    assert passed.detectable.objects_per_run <= 1 / 250
