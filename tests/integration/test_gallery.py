"""The gallery: every scenario leaks in its inline shape, does not in its extracted one, and says why."""

from __future__ import annotations

import ast
import importlib.util
import sys
import time
from pathlib import Path

import pytest

from leakharness.measure.arm import Settings
from leakharness.measure.describe import describe
from leakharness.measure.loop import measure
from leakharness.measure.measurement import Request, SilentObserver
from leakharness.measure.worker_process import WorkerProcess
from leakharness.model import Plan, RunResult
from leakharness.proof.certify import check_found
from leakharness.scenario.find import ScenarioRef, find, packaged_folder
from leakharness.worker.protocol import ScenarioFacts

FILES = sorted(path for path in packaged_folder().glob("*.py") if not path.name.startswith("_"))
QUICK = Plan(iters=20, batches=5, warmup=60, snapshots="never", scope_bytes=20_000)
MECHANISMS = {
    "embedded-run",
    "stored-exception",
    "task-set",
    "shield-leftover",
    "contextvar-per-object",
    "lru-cache-method",
    "listener-list",
    "call-later-handle",
    "executor-future",
    "async-generator-not-closed",
    "thread-local-stack",
    "logging-filter",
    "weakref-finalizer",
    "c-lost-reference",
    "trio-service-nursery",
    "aiohttp-aborted-stream",
}
REAL = {
    "pyzmq-poll-cancel",
    "async-lru-exception",
    "kafka-cancelled-timer",
    "prompt-filter-cache",
    "sh-status-pipe",
}


def verdict(file: Path, mode: str) -> RunResult:
    """One mode, quickly and without evidence."""
    with WorkerProcess(sys.executable, deadline=time.monotonic() + 60.0) as worker:
        return measure(Request(str(file), None, mode), QUICK, worker, SilentObserver())


@pytest.fixture(scope="module")
def declared() -> dict[str, ScenarioFacts]:
    """Every scenario of the gallery, by name."""
    answers = describe(FILES, sys.executable)
    assert not any(answer.failure for answer in answers.values()), answers
    return {scenario.name: scenario for answer in answers.values() for scenario in answer.scenarios}


def test_every_mechanism_has_its_scenario(declared: dict[str, ScenarioFacts]) -> None:
    """One for each way that the gallery promises, in a file of that name, with the two usual modes."""
    assert set(declared) >= MECHANISMS | REAL
    for name, scenario in declared.items():
        assert Path(scenario.where.rpartition(":")[0]).stem == name.replace("-", "_")
        modes = {mode.name: mode.must for mode in scenario.modes}
        assert modes["closure-extracted"] == "PASS"
        assert modes["closure-inline"] == "FAIL"
        assert scenario.default == "closure-extracted"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_says_why_it_leaks_and_what_the_fix_is(file: Path) -> None:
    """A page at the top; a real package's has the command that proves the fix; standard library and us only."""
    tree = ast.parse(file.read_text())
    page = ast.get_docstring(tree) or ""
    name = file.stem.replace("_", "-")
    assert len(page.split()) >= 60
    assert "fix" in page.lower()
    assert name not in REAL or f"leakharness prove {name} --before " in page
    names = [
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    imported = {name.partition(".")[0] for name in names}
    assert imported <= {*sys.stdlib_module_names, "leakharness"}


def _needs_what_is_not_here(file: Path) -> bool:
    """As the name of the file says."""
    package = file.stem.partition("_")[0]
    return package in ("trio", "aiohttp") and importlib.util.find_spec(package) is None


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_inline_leaks_and_extracted_does_not(file: Path) -> None:
    """The twins, each in a fresh process: FAIL by every run, and PASS with nothing retained."""
    if _needs_what_is_not_here(file):
        pytest.skip("its package is not installed")
    inline, extracted = verdict(file, "closure-inline"), verdict(file, "closure-extracted")
    assert inline.verdict == "FAIL", inline.reason
    assert any(g.grows and g.counter in ("tracked", "fds", "references") and g.per_run == 1.0 for g in inline.growth)
    assert extracted.verdict == "PASS", (extracted.reason, extracted.detail)
    assert extracted.retained == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_the_gallery_is_certified(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every arm with the defaults, from an empty folder."""
    monkeypatch.chdir(tmp_path)
    found: ScenarioRef = find(name)
    if _needs_what_is_not_here(found.path):
        pytest.skip("its package is not installed")
    certificate = check_found(found, Settings())
    assert certificate.verdict == "CERTIFIED", certificate.reason
