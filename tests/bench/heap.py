"""Benchmark of heap snapshots: capture, export, reading and analysis against their peers. Not collected by pytest.

    python tests/bench/heap.py [--sizes 0.1 1 5] [--fast-python PATH] [--folder DIR] [--sessions 70000 430000]

First, for Python heaps of so many million objects: "capture" is the whole child (every object, size, reference and
name, written to a file); guppy3's ``heap()`` finds the objects and nothing about them, its table counts and sizes
them by type, neither has references. Every figure is the best of a few rounds in forked copies of one process, so all
see the same heap. CPU seconds (user and system), so that a busy machine gives the same ratios; the parent's pause is
wall-clock. Then the analyses of that snapshot.

Second, node makes two snapshots (about 45 and 260 MB), for the analyses and ``diff``, against a script that reads
whole files with JSON.parse under node (``js/heap_delta.js``).

``--fast-python`` is an interpreter with numba (the extra ``fast``); its first call compiles, so it is given cold and
warm. Each analysis runs in a fresh process.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakharness.worker.capture import snapshot as capture
from leakharness.worker.capture.walk import Walk

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ROUNDS = 3  # each figure is the best of so many, the machine being shared
OBJECTS_PER_UNIT = 45
"""Nodes that one unit of the synthetic heap adds, so that sizes can be asked for in objects."""
GIVE_UP_S = 120
CAPTURE = "heap.capture"


@dataclass
class Record:
    number: int
    owner: Any
    tags: dict[str, Any]


class Plain:
    def __init__(self, number: int, parent: Any) -> None:
        self.number = number * 1_000_003
        self.name = f"plain-{number}"
        self.parent = parent
        self.parts: list[Any] = []

    def method(self) -> int:
        return self.number


class Slotted:
    __slots__ = ("a", "b", "c")

    def __init__(self, a: Any, b: Any, c: Any) -> None:
        self.a, self.b, self.c = a, b, c


def closure(first: Any, second: Any) -> Callable[[], Any]:
    return lambda: (first, second)


def build(objects: int) -> list[Any]:
    """A heap of about ``objects`` objects: instances, slots, dataclasses, closures, dicts, lists, tuples, sets."""
    rnd = random.Random(1)
    made: list[Any] = []
    gc.disable()
    for number in range(objects // OBJECTS_PER_UNIT):
        plain = Plain(number, rnd.choice(made) if made else None)
        slotted = Slotted(plain, f"slot-{number}", (number + 0.5, f"z{number}"))
        record = Record(number + 70_000, plain, {f"k{number}": number * 31 + 5000, "roles": [f"r{number}", "admin"]})
        keys = {"id": number + 90_000, "call": closure(slotted, f"c{number}"), "method": plain.method, number: record}
        plain.parts += [keys, {f"tag{number}", number * 3 + 90_000, ("a", number)}, b"%d" % number, slotted, record]
        plain.parts.append([f"{number}-{i}" for i in range(6)])
        made.append(plain)
    gc.enable()
    return made


def cpu_of(pid: int) -> tuple[float, int]:
    """CPU seconds (user and system) of a child that is waited for, and its exit status."""
    _, status, usage = os.wait4(pid, 0)
    return usage.ru_utime + usage.ru_stime, status


def in_copy(work: Callable[[], Any]) -> float | None:
    """CPU seconds that ``work`` takes in a forked copy of this process; None where it fails or takes too long."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            gc.disable()
            signal.alarm(GIVE_UP_S)
            work()
            status = 0
        finally:
            os._exit(status)
    seconds, status = cpu_of(pid)
    return None if status else seconds


def best(work: Callable[[], float | None], rounds: int = ROUNDS) -> float | None:
    found = [seconds for seconds in (work() for _ in range(rounds)) if seconds is not None]
    return min(found) if found else None


def ours(folder: Path) -> tuple[float, float]:
    """CPU seconds of the child, and the parent's pause."""
    totals, pauses = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        pid = capture.snapshot(str(folder / CAPTURE))
        pauses.append(time.perf_counter() - started)
        assert pid is not None
        seconds, status = cpu_of(pid)
        if status:
            raise SystemExit((folder / f"{CAPTURE}.error").read_text())
        totals.append(seconds)
    return min(totals), min(pauses)


def without_names(folder: Path) -> float:
    """The same capture with naming left out."""
    naming = Walk._name_everything
    Walk._name_everything = lambda self: None  # type: ignore[method-assign]
    try:
        return ours(folder)[0]
    finally:
        Walk._name_everything = naming  # type: ignore[method-assign]


def guppy_heap() -> None:
    from guppy import hpy

    heap = hpy().heap()
    assert heap.count


def guppy_table() -> None:
    from guppy import hpy

    assert str(hpy().heap())


def objgraph_types() -> None:
    import objgraph

    objgraph.typestats()


def pympler_summary() -> None:
    from pympler import muppy, summary

    summary.summarize(muppy.get_objects())


def imports_are_there(*names: str) -> None:
    """What a comparison imports must be imported before, or the import would be measured."""
    for name in names:
        try:
            __import__(name)
        except ImportError:
            pass


def row(name: str, seconds: float | None, unit: float | None) -> str:
    if seconds is None:
        return f"  {name:<42}      -"
    ratio = f"{seconds / unit:8.2f}" if unit else ""
    return f"  {name:<42}{seconds:9.3f}{ratio}"


def python_heap(millions: float, folder: Path, fast: str | None) -> None:
    """Both tables of one Python heap."""
    keep = build(int(millions * 1_000_000))
    gc.collect()
    bare = without_names(folder)
    total, pause = ours(folder)
    heap, table = best(lambda: in_copy(guppy_heap)), best(lambda: in_copy(guppy_table))
    exported = str(folder / "heap.heapsnapshot")
    export = analysed(sys.executable, "export", [str(folder / CAPTURE), exported], numba=False)
    print(f"\n{export['nodes']:,} nodes, {export['edges']:,} edges\n\n{'':44}CPU s  per capture")
    print(row("capture: all edges, all names", total, total))
    print(row("  of it all edges, without names", bare, total))
    print(row("  of it naming", total - bare, total))
    print(row("guppy3 heap(): objects", heap, total))
    print(row("guppy3 heap() and its table: sizes by type", table, total))
    print(row("objgraph typestats(): counts by type", best(lambda: in_copy(objgraph_types)), total))
    print(row("pympler muppy + summary: sizes by type", best(lambda: in_copy(pympler_summary), 1), total))
    if heap:
        print(f"  guppy3 heap() / all edges without names: {heap / bare:.2f}")
    print(f"  the parent's pause: {pause * 1000:.1f} ms\n", flush=True)
    del keep
    analyses(HEAP_TASKS, [str(folder / CAPTURE), exported], fast)


NODE_MB = 8000  # heap limit for node: a whole-file parse of 290 MB needs more than its default

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
from leakharness.heap.retainers import explain
from leakharness.heap.ingest import load_capture
from leakharness.heap.paths import path_tree

if task not in ("read", "diff", "diff by path", "ingest", "export"):
    graph = v8.read(files[-1])
if task == "explain":
    import numpy as np
    targets = np.flatnonzero(graph.node_name == graph.strings.index("Session"))[:250].tolist()

def once():
    if task == "ingest": load_capture(files[0])
    elif task == "export":
        global graph
        graph = load_capture(files[0]).graph
        v8.write(graph, files[-1])
    elif task == "read": v8.read(files[-1])
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
answer = {"cold": taken[0], "best": min(taken), "peak": peak}
if task == "export":
    answer |= {"nodes": graph.node_count, "edges": graph.edge_count}
print(json.dumps(answer))
"""

HEAP_TASKS = ("ingest", "write", "read", "dominators", "retained", "paths")
NODE_TASKS = ("read", "write", "diff", "diff by path", "dominators", "retained", "paths", "explain")


def analysed(python: str, task: str, files: list[str], *, numba: bool) -> dict[str, Any]:
    """One task in a fresh process: seconds of the first call and of the best, peak resident bytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("LEAKHARNESS_NO_NUMBA", None)
    if not numba:
        environment["LEAKHARNESS_NO_NUMBA"] = "1"
    times = 1 if task in ("diff by path", "export") else ROUNDS
    command = [python, "-c", MEASURE, task, str(times), *files]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def analyses(tasks: tuple[str, ...], files: list[str], fast: str | None) -> dict[str, dict[str, Any]]:
    """One table: each task plain and, where there is an interpreter for it, with numba. Returns the plain figures,
    and those with numba under the task's name and ``+numba``."""
    size = os.path.getsize(files[-1]) / 1e6
    print(f"{size:4.0f} MB file   {'plain, s':>10}{'peak/file':>11}{'numba, s':>10}{'cold, s':>9}{'plain/numba':>13}")
    found: dict[str, dict[str, Any]] = {}
    for task in tasks:
        plain = found[task] = analysed(sys.executable, task, files, numba=False)
        line = f"{task:15}{plain['best']:>10.2f}{plain['peak'] / 1e6 / size:>11.2f}"
        if fast:
            quick = found[task + "+numba"] = analysed(fast, task, files, numba=True)
            line += f"{quick['best']:>10.2f}{quick['cold']:>9.2f}{plain['best'] / quick['best']:>13.1f}"
        print(line, flush=True)
    return found


def by_node(before: str, after: str) -> float:
    """Seconds of the whole-file script, the best of several."""
    script = str(HERE / "js" / "heap_delta.js")
    command = ["node", f"--max-old-space-size={NODE_MB}", script, before, after, "30", "64"]
    runs: list[dict[str, Any]] = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(ROUNDS)
    ]
    return float(min(run["seconds"] for run in runs))


def node_heaps(folder: Path, fast: str | None, sessions: tuple[int, int]) -> None:
    """The analyses of node's snapshots, and ``diff`` against the whole-file script."""
    files = [str(folder / name) for name in ("before.heapsnapshot", "after.heapsnapshot")]
    if not all(map(os.path.exists, files)):
        make = ["node", f"--max-old-space-size={NODE_MB}", "-e", MAKE, str(folder), *map(str, sessions)]
        subprocess.run(make, check=True, capture_output=True)
    sizes = [os.path.getsize(file) / 1e6 for file in files]
    print(f"\ntwo snapshots made by node: {sizes[0]:.0f} MB and {sizes[1]:.0f} MB; analyses are of the second\n")
    found = analyses(NODE_TASKS, files, fast)
    node = by_node(*files)
    print(f"\nwhole-file JSON.parse under node: {node:.2f} s")
    print(f"node / diff without numba: {node / found['diff']['best']:.1f}")
    if fast:
        print(f"node / diff with numba:    {node / found['diff+numba']['best']:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=float, default=[0.1, 1.0, 5.0], help="millions of objects")
    parser.add_argument("--folder", type=Path, help="where node's snapshots are made, or kept from an earlier run")
    parser.add_argument("--fast-python", help="an interpreter that has numba, numpy and orjson")
    parser.add_argument("--sessions", type=int, nargs=2, default=(70_000, 430_000))
    options = parser.parse_args()
    imports_are_there("guppy", "objgraph", "pympler.muppy", "pympler.summary", "numpy", "leakharness.heap.ingest")
    with tempfile.TemporaryDirectory() as temporary:
        for millions in options.sizes:
            python_heap(millions, Path(temporary), options.fast_python)
        node_heaps(options.folder or Path(temporary), options.fast_python, tuple(options.sessions))


if __name__ == "__main__":
    main()
