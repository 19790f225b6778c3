"""Detection power: each mechanism has a leaky twin, found with its exact number, and a clean twin, which passes.

Real processes, no snapshots. The scenarios are in ``scenes/``: ``pace`` (when it grows), ``kinds`` (what grows) and
``filling`` (what grows at first and is no leak).
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import grown_by

from leakharness import RunResult, run
from leakharness.worker.os_resources import NOT_COUNTED

SCENES = Path(__file__).parent / "scenes"
PAGE_64 = 65_536.0
NOT_LINUX = not os.path.isdir("/proc/self/task")

pytestmark = pytest.mark.skipif(NOT_LINUX, reason="the exact counters of a process are Linux's")


@dataclass(frozen=True)
class Leaky:
    """A leaky twin: where it is, and what each counter must grow by in a run."""

    scene: str
    name: str
    per_run: dict[str, float]


OLD = sys.version_info < (3, 11)
"""Before 3.11 a function's 1,024th call leaves a few blocks."""
DICT = 1.0 if OLD else 0.0
"""Before 3.11 the dict of an instance is an object of its own."""
INSTANCE = 3.0 if OLD else 2.0 if sys.version_info < (3, 13) else 1.0
"""Blocks of an instance with one attribute: with its dict and the dict's keys, with its values, or all in one."""

LEAKY = [
    Leaky("pace", "one-in-100", {"objects": 0.01}),
    Leaky("pace", "late", {"objects": 1.0}),
    Leaky("pace", "sawtooth", {"objects": 1.0}),
    Leaky("pace", "lagging", {"objects": 0.5}),
    Leaky("pace", "cyclic", {"objects": 2.0, "blocks": 2.0}),
    Leaky("pace", "resurrected", {"objects": 1.0 + DICT, "blocks": INSTANCE}),
    Leaky("pace", "tracked-cycle", {"tracked": 1.0, "objects": 1.0 + DICT, "blocks": INSTANCE}),
    Leaky("kinds", "str", {"blocks": 1.0}),
    Leaky("kinds", "bytes", {"blocks": 1.0}),
    Leaky("kinds", "int", {"blocks": 1.0}),
    Leaky("kinds", "malloc", {"malloc_bytes": 112.0}),
    Leaky("kinds", "mmap", {"mapped_bytes": PAGE_64}),
    Leaky("kinds", "descriptor", {"fds": 1.0}),
    Leaky("kinds", "pipes", {"fds": 8.0}),
    Leaky("kinds", "thread", {"threads": 1.0}),
    Leaky("kinds", "child", {"children": 1.0}),
    Leaky("kinds", "task", {"tasks": 1.0}),
    Leaky("kinds", "class", {"objects": 6.0}),
    Leaky("filling", "lru-128", {"objects": 1.0, "blocks": 2.0}),
    Leaky("filling", "deque-128", {"objects": 1.0}),
    # An exception, two tracebacks, four frames; and the three frames that called the batch, once for all fifty.
    Leaky("filling", "errors-512", {"objects": 7.06}),
    Leaky("filling", "ring-512", {"objects": 1.0, "blocks": 2.0}),
    Leaky("filling", "lazy-classes", {"objects": 6.0}),
    Leaky("filling", "dict-resizes", {"blocks": 1.0}),
    Leaky("filling", "imports", {"objects": 1.0}),
    Leaky("saws", "cut-750", {"blocks": 1.0}),
    Leaky("kinds", "page-in-5", {"mapped_bytes": 819.2}),
    Leaky("lives", "timers", {"tracked": 1.0}),
]

CLEAN = [
    *[
        ("pace", name)
        for name in ("one-in-100", "late", "sawtooth", "lagging", "cyclic", "resurrected", "tracked-cycle")
    ],
    *[("kinds", name) for name in ("str", "bytes", "int", "malloc", "mmap", "descriptor", "pipes", "thread", "child")],
    *[("kinds", name) for name in ("task", "class", "resident", "page-in-5")],
    *[("filling", name) for name in ("lru-128", "deque-128", "errors-512", "ring-512", "lazy-classes", "dict-resizes")],
    *[
        ("filling", name)
        for name in ("imports", "histogram", "random-1000", "random-tracked", "own-lru-2000", "lru-5000")
    ],
    ("lives", "ttl-cache"),
    *[("saws", name) for name in ("flush-500", "flush-1000", "cut-750", "cut-750-slow", "slot-1000", "flush-49")],
]


def measured(scene: str, name: str, mode: str, **options: Any) -> RunResult:
    return run(f"{SCENES / scene}.py::{name}", mode, snapshots="never", **options)


def said(result: RunResult) -> str:
    return f"{result.verdict} after {result.runs} runs: {result.reason}\n{result.detail}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "name", "per_run"),
    [pytest.param(row.scene, row.name, row.per_run, id=row.name) for row in LEAKY],
)
def test_the_leaky_twin_is_found_with_its_number(scene: str, name: str, per_run: dict[str, float]) -> None:
    """FAIL, and the named counters grow by exactly what the twin leaves behind in a run."""
    result = measured(scene, name, "leaky")
    assert result.verdict == "FAIL", said(result)
    found = grown_by(result)
    for counter, number in per_run.items():
        stray = 0.1 if OLD and counter == "blocks" else 0.001 * number
        assert found.get(counter) == pytest.approx(number, abs=stray), found


@pytest.mark.slow
@pytest.mark.parametrize(("scene", "name"), CLEAN, ids=[name for _, name in CLEAN])
def test_the_clean_twin_passes(scene: str, name: str) -> None:
    """PASS, with every counter that the platform has."""
    result = measured(scene, name, "clean")
    assert result.verdict == "PASS", said(result)
    assert result.blind.keys() == set(NOT_COUNTED)


def test_what_only_the_collector_frees_is_said() -> None:
    """No leak, but memory that stays until a collection is due."""
    result = measured("pace", "cyclic", "clean")
    assert any(note.startswith("freed only by the cyclic collector: 2 objects a run") for note in result.notes)
    assert not any("cyclic collector" in note for note in measured("pace", "late", "clean").notes)


@pytest.mark.slow
def test_a_class_a_run_is_a_family() -> None:
    """Type objects are counted as what they are."""
    result = measured("kinds", "class", "leaky")
    families = {family.type: family.count_per_run for family in result.families}
    assert families.get("type") == pytest.approx(1.0), (families, said(result))


@pytest.mark.slow
def test_a_leak_beside_a_cache_that_fills_at_random_is_found() -> None:
    """The cache's share is in the figure until it is full; the leak is one object a run."""
    result = measured("filling", "random-1000", "leaky")
    assert result.verdict == "FAIL", said(result)
    assert 1.0 <= grown_by(result)["objects"] <= 1.2


def test_a_leak_below_a_slot_that_varies_is_found() -> None:
    """One object a run beside up to 1,000 that come and go: no PASS before it could have been seen."""
    result = measured("saws", "slot-1000", "leaky")
    assert result.verdict == "FAIL", said(result)
    assert 0.5 <= grown_by(result)["objects"] <= 2.0


@pytest.mark.slow
def test_noise_that_hides_the_sensitivity_asked_for_is_not_judged() -> None:
    """Within 300 runs, up to 1,000 objects that come and go would hide one a run: that is said, with what is seen."""
    result = measured("saws", "slot-1000", "clean", max_runs=300)
    assert result.verdict == "NOT_JUDGED", said(result)
    assert "objects" in result.reason
    assert "--sensitivity 1,4096" in result.reason
    assert measured("saws", "slot-1000", "clean", max_runs=300, sensitivity="100").verdict == "PASS"


@pytest.mark.slow
def test_a_bound_beyond_the_budget_is_not_judged_and_the_runs_are_named() -> None:
    """lru_cache(5000) with 1,000 runs to spend: neither PASS nor FAIL."""
    result = measured("filling", "lru-5000", "clean", max_runs=1000)
    assert result.verdict == "NOT_JUDGED", said(result)
    assert "lru_cache(maxsize=5000) of Record" in result.reason
    assert re.search(r"it is full after about [23],\d{3} more runs", result.reason), result.reason


@pytest.mark.slow
def test_a_bound_within_the_budget_is_filled_and_passes() -> None:
    """The same with the usual budget: the runs that fill it are made, and said."""
    result = measured("filling", "lru-5000", "clean")
    assert result.verdict == "PASS", said(result)
    assert any("filled by" in note for note in result.notes)


@pytest.mark.slow
def test_a_bound_far_beyond_any_budget_is_not_judged() -> None:
    """deque(maxlen=100000): about as many more runs."""
    result = measured("filling", "deque-100000", "clean")
    assert result.verdict == "NOT_JUDGED", said(result)
    assert "deque(maxlen=100000)" in result.reason
    assert "about 10" in result.reason
    assert measured("filling", "deque-100000", "leaky").verdict == "FAIL"
