"""`diff --lane-dir` alone, over the lanes of a suite with two workers: which leaks a module's array, and which has
loaded a heavy module graph. vitest's needs LEAKHARNESS_NODE_MODULES, a ``node_modules`` folder with ``vitest``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from leakharness.heap.diff import SnapshotDiff, diff_lane

MODULES = Path(os.environ.get("LEAKHARNESS_NODE_MODULES", "") or "/nonexistent")
pytestmark = pytest.mark.slow

CONFIG = """
export default { test: { pool: "forks", maxWorkers: 2, isolate: false, // two workers, as 4 and as 3 have it
  poolOptions: { forks: { minForks: 2, maxForks: 2 } },
  include: ["test/*.test.mjs"], setupFiles: ["./setup.mjs"], cache: false,
  hookTimeout: 120000, testTimeout: 120000 } }; // a snapshot takes its time on a busy machine
"""
SETUP = """
import v8 from "node:v8"; import fs from "node:fs"; import { afterAll, beforeAll } from "vitest";
const snap = (seq) => { fs.mkdirSync("snaps", { recursive: true });
  v8.writeHeapSnapshot(`snaps/Heap.20260101.00000${seq}.${process.pid}.0.00${seq}.heapsnapshot`); };
beforeAll(() => snap(0));
afterAll(() => snap(1));
"""
REGISTRY = """
export const SESSIONS = [];
export function open(i) { SESSIONS.push({ id: i, rows: new Array(200).fill(i + 0.5), name: "session " + i }); }
"""
LEAK_TEST = """
import { test } from "vitest"; import { open } from "../src/registry.mjs";
test("opens sessions", () => { for (let i = 0; i < 3000; i++) open(i); });
"""
HEAVY_TEST = """
import { test, expect } from "vitest";
test("loads much", async () => { expect((await import("../src/heavy.mjs")).all.length).toBe(150); });
"""


@pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "vitest").is_dir(),
    reason="LEAKHARNESS_NODE_MODULES names no folder with vitest",
)
def test_a_vitest_lane_says_which_worker_leaks_and_which_has_loaded_modules(tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(MODULES)
    for folder in ("src", "test"):
        (tmp_path / folder).mkdir()
    functions = "\n".join(f"export function f{k}(a) {{ /* {'x' * 120} */ return [a, {k}]; }}" for k in range(20))
    for i in range(150):
        (tmp_path / f"src/heavy_{i}.mjs").write_text(functions)
    imports = "\n".join(f'import * as h{i} from "./heavy_{i}.mjs";' for i in range(150))
    heavy = f"{imports}\nexport const all = [{', '.join(f'h{i}' for i in range(150))}];"
    for name, text in (
        ("package.json", '{"type": "module", "private": true}'),
        ("vitest.config.mjs", CONFIG),
        ("setup.mjs", SETUP),
        ("src/registry.mjs", REGISTRY),
        ("src/heavy.mjs", heavy),
        ("test/leak.test.mjs", LEAK_TEST),
        ("test/heavy.test.mjs", HEAVY_TEST),
    ):
        (tmp_path / name).write_text(text)
    command = ["node", "node_modules/vitest/vitest.mjs", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    leaking, loading = by_class(diff_lane(tmp_path / "snaps"))
    told = " ".join(leaking.rows[0].path)
    assert "SESSIONS" in told
    assert "registry.mjs" in told
    assert "SESSIONS" not in str(loading.document())


def test_a_pytest_lane_says_which_worker_leaks_and_which_has_loaded_modules(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "heavy").mkdir()
    (tmp_path / "leaky_app.py").write_text(
        "SESSIONS = []\n"
        "class Session:\n    def __init__(self, i):\n        self.rows = [float(i + k) for k in range(100)]\n"
    )
    classes = "\n".join(
        f'class C{k}:\n    """text {k}"""\n    def method(self, a):\n        return [a, {k}]\n' for k in range(12)
    )
    (tmp_path / "heavy/__init__.py").write_text("")
    for i in range(150):
        (tmp_path / f"heavy/m{i}.py").write_text(classes)
    (tmp_path / "tests/test_leak.py").write_text(
        "import leaky_app\n"
        "def test_first(): pass\n"
        "def test_opens(): leaky_app.SESSIONS.extend(leaky_app.Session(i) for i in range(3000))\n"
    )
    (tmp_path / "tests/test_heavy.py").write_text(
        "import importlib\n"
        "def test_first(): pass\n"
        "def test_loads(): [importlib.import_module(f'heavy.m{i}') for i in range(150)]\n"
    )
    words = ["-n2", "--dist=loadfile", "-p", "no:cacheprovider", "--leak-snapshots=snaps"]
    command = [sys.executable, "-m", "pytest", "-q", *words, "--leak-snapshot-interval=0.2"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    leaking, loading = by_class([one for lane in sorted((tmp_path / "snaps").glob("gw*")) for one in diff_lane(lane)])
    assert "leaky_app.SESSIONS (list)[*]" in leaking.rows[0].path
    assert loading.growth.explained > 0.8


def by_class(found: list[SnapshotDiff]) -> tuple[SnapshotDiff, SnapshotDiff]:
    """The comparison of the worker that leaks and of the one that has loaded modules."""
    assert {one.kind for one in found} == {"runtime-objects", "module-graph"}, [one.document() for one in found]
    leaking, loading = sorted(found, key=lambda one: one.kind, reverse=True)
    return leaking, loading
