"""The verdicts stand whatever surrounds the measured process: allocators, tracing, a loaded machine, interpreters."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PYTHONS, grown_by

from leakharness import RunResult, run

SCENES = Path(__file__).parent / "scenes"
BUSY = 2

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the exact counters are Linux's")

LEAKY = {
    "pace::one-in-100": ("objects", 0.01),
    "pace::late": ("objects", 1.0),
    "pace::cyclic": ("objects", 2.0),
    "pace::tracked-cycle": ("tracked", 1.0),
    "kinds::mmap": ("mapped_bytes", 65_536.0),
    "kinds::descriptor": ("fds", 1.0),
    "kinds::task": ("tasks", 1.0),
    "filling::ring-512": ("objects", 1.0),
}
CLEAN = (
    *("pace::sawtooth", "pace::lagging", "pace::cyclic", "pace::late", "kinds::str", "kinds::malloc", "kinds::mmap"),
    *("kinds::thread", "kinds::class", "kinds::resident", "filling::errors-512", "filling::imports"),
)


def measured(what: str, mode: str, python: str | None = None, **environment: str) -> RunResult:
    scene, _, name = what.partition("::")
    env = {**os.environ, **environment} if environment else None
    return run(f"{SCENES / scene}.py::{name}", mode, snapshots="never", env=env, python=python)


def assert_all_twins_judged(python: str | None = None, **environment: str) -> None:
    """Each leaky twin FAILs with its figure, each clean one PASSes; says all that did not, not only the first."""
    wrong = []
    for what, (counter, per_run) in LEAKY.items():
        result = measured(what, "leaky", python, **environment)
        found = grown_by(result)
        if result.verdict != "FAIL" or found.get(counter) != pytest.approx(per_run, rel=0.01):
            wrong.append(f"leaky {what}: {result.verdict} {found} {result.reason}")
    for what in CLEAN:
        result = measured(what, "clean", python, **environment)
        if result.verdict != "PASS":
            wrong.append(f"clean {what}: {result.verdict} {result.reason}")
    assert wrong == []


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Two processes beside that never rest."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("busy_machine")
def test_beside_two_busy_processes() -> None:
    """Exact counters do not mind company."""
    assert_all_twins_judged()


@pytest.mark.slow
def test_with_one_malloc_arena() -> None:
    """MALLOC_ARENA_MAX=1 is the usual cure for fragmentation in containers."""
    assert_all_twins_judged(MALLOC_ARENA_MAX="1")


@pytest.mark.slow
def test_with_the_debug_hooks_of_the_allocators() -> None:
    """PYTHONMALLOC=debug pads every block; counts stay what they are."""
    assert_all_twins_judged(PYTHONMALLOC="debug")


@pytest.mark.slow
def test_without_the_small_object_allocator() -> None:
    """PYTHONMALLOC=malloc: no blocks to count, and malloc counts Python's objects as well."""
    assert_all_twins_judged(PYTHONMALLOC="malloc")


@pytest.mark.slow
def test_strings_are_seen_without_the_small_object_allocator() -> None:
    """The counter that is blind is named, and malloc's bytes take its place."""
    result = measured("kinds::str", "leaky", PYTHONMALLOC="malloc")
    assert "PYTHONMALLOC=malloc" in result.blind["blocks"]
    assert result.verdict == "FAIL", result.reason
    assert [growth.counter for growth in result.growth if growth.grows] == ["entries", "malloc_bytes"]


@pytest.mark.slow
def test_tracemalloc_is_stopped_and_that_is_said() -> None:
    """PYTHONTRACEMALLOC would count itself; the measured run is never traced."""
    result = measured("kinds::str", "leaky", PYTHONTRACEMALLOC="5")
    assert result.verdict == "FAIL", result.reason
    assert any("tracemalloc was on and has been stopped" in note for note in result.notes)


@pytest.mark.slow
def test_with_tracemalloc_on() -> None:
    """And so every verdict stands."""
    assert_all_twins_judged(PYTHONTRACEMALLOC="5")


JEMALLOC = ctypes.util.find_library("jemalloc")


@pytest.mark.slow
@pytest.mark.skipif(JEMALLOC is None, reason="libjemalloc is not installed")
def test_with_jemalloc_preloaded() -> None:
    """glibc's figures stand still then: that counter is blind, it is said, and the others do their work."""
    assert JEMALLOC is not None
    assert "another allocator" in measured("kinds::str", "clean", LD_PRELOAD=JEMALLOC).blind["malloc_bytes"]
    assert_all_twins_judged(LD_PRELOAD=JEMALLOC)


@pytest.mark.slow
@pytest.mark.parametrize("python", [python for python in PYTHONS if python != sys.executable])
def test_in_another_interpreter(python: str) -> None:
    """Those of LEAKHARNESS_PYTHONS, else of pyenv."""
    assert_all_twins_judged(python)
