"""Benchmark of reading, diffing and analysing heap snapshots, with ratios. Not collected by pytest.

    python tests/bench/heap_analysis.py [--folder DIR] [--fast-python PATH] [--sessions 70000 430000]

Node makes two snapshots (about 50 and 290 MB); each measurement runs in a fresh process. ``--fast-python`` is an
interpreter with numba (the extra ``fast``); its first call compiles, so it is given cold and warm. The whole-file
script under node is ``js/heap_delta.js``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NODE_MB = 8000  # heap limit for node: a whole-file parse of 290 MB needs more than its default
TIMES = 3  # each is the best of so many, the machine being shared

MAKE = """
const v8 = require("v8");
const [folder, few, many] = [process.argv[1], +process.argv[2], +process.argv[3]];
class Session {
  constructor(i) { this.id = i; this.tags = ["t" + i, { k: i }]; this.cb = () => i + this.id; }
}
globalThis.keep = [];
function grow(until) {
  while (keep.length < until) {
    const i = keep.length;
    keep.push(i % 11 ? new Session(i) : { ["p" + (i % 500)]: new Map([[i, "v" + i]]) });
  }
}
grow(few);
v8.writeHeapSnapshot(folder + "/before.heapsnapshot");
grow(many);
v8.writeHeapSnapshot(folder + "/after.heapsnapshot");
"""

MEASURE = """
import json, resource, sys, time
task, times, files = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
from leakharness.heap import v8
from leakharness.heap.diff import diff
from leakharness.heap.dominators import dominators, retained_sizes, strong_edges
from leakharness.heap.explain import explain
from leakharness.heap.paths import path_tree

if task not in ("read", "diff", "diff by path"):
    graph = v8.read(files[-1])
if task == "explain":
    import numpy as np
    targets = np.flatnonzero(graph.node_name == graph.strings.index("Session"))[:250].tolist()

def once():
    if task == "read": v8.read(files[-1])
    elif task == "diff": diff(*files)
    elif task == "diff by path": diff(*files, by="path")
    elif task == "dominators": dominators(graph)
    elif task == "paths": path_tree(graph, strong_edges(graph))
    elif task == "explain": explain(graph, targets)
    elif task == "write": v8.write(graph, files[-1] + ".copy")

if task == "retained":
    tree = dominators(graph)
    once = lambda: retained_sizes(graph, tree)
taken = []
for _ in range(times):
    began = time.perf_counter()
    once()
    taken.append(time.perf_counter() - began)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"cold": taken[0], "best": min(taken), "peak": peak}))
"""

TASKS = ("read", "write", "diff", "diff by path", "dominators", "retained", "paths", "explain")


def measure(python: str, task: str, files: list[str], *, numba: bool) -> dict[str, float]:
    """One task in a fresh process: seconds of the first call and of the best, peak resident bytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("LEAKHARNESS_NO_NUMBA", None)
    if not numba:
        environment["LEAKHARNESS_NO_NUMBA"] = "1"
    times = 1 if task == "diff by path" else TIMES
    command = [python, "-c", MEASURE, task, str(times), *files]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def by_node(before: str, after: str) -> float:
    """Seconds of the whole-file script, the best of several."""
    script = str(HERE / "js" / "heap_delta.js")
    command = ["node", f"--max-old-space-size={NODE_MB}", script, before, after, "30", "64"]
    runs: list[dict[str, Any]] = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(TIMES)
    ]
    return float(min(run["seconds"] for run in runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="where the snapshots are made, or kept from an earlier run")
    parser.add_argument("--fast-python", help="an interpreter that has numba, numpy and orjson")
    parser.add_argument("--sessions", type=int, nargs=2, default=(70_000, 430_000))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run(options.folder or Path(temporary), options.fast_python, options.sessions)


def run(folder: Path, fast: str | None, sessions: tuple[int, int]) -> None:
    files = [str(folder / name) for name in ("before.heapsnapshot", "after.heapsnapshot")]
    if not all(map(os.path.exists, files)):
        make = ["node", f"--max-old-space-size={NODE_MB}", "-e", MAKE, str(folder), *map(str, sessions)]
        subprocess.run(make, check=True, capture_output=True)
    sizes = [os.path.getsize(file) / 1e6 for file in files]
    print(f"two snapshots made by node: {sizes[0]:.0f} MB and {sizes[1]:.0f} MB; analyses are of the second\n")
    print(f"{'':14}{'plain, s':>10}{'peak/file':>11}{'numba, s':>10}{'cold, s':>9}{'plain/numba':>13}")
    plain: dict[str, dict[str, float]] = {}
    quick: dict[str, dict[str, float]] = {}
    for task in TASKS:
        plain[task] = measure(sys.executable, task, files, numba=False)
        line = f"{task:14}{plain[task]['best']:>10.2f}{plain[task]['peak'] / 1e6 / sizes[1]:>11.2f}"
        if fast:
            quick[task] = measure(fast, task, files, numba=True)
            ratio = plain[task]["best"] / quick[task]["best"]
            line += f"{quick[task]['best']:>10.2f}{quick[task]['cold']:>9.2f}{ratio:>13.1f}"
        print(line, flush=True)
    node = by_node(*files)
    print(f"\nwhole-file JSON.parse under node: {node:.2f} s")
    print(f"node / diff without numba: {node / plain['diff']['best']:.1f}")
    if fast:
        print(f"node / diff with numba:    {node / quick['diff']['best']:.1f}")


if __name__ == "__main__":
    main()
