"""Capturing heaps of 0.1, 1 and (with --large) 5 million objects, against guppy3, objgraph and pympler.

    python tests/bench/capture.py [--large] [--sizes 0.1 1]

Every figure is the best of a few rounds in forked copies of one process, so all see the same heap; one table a
size. "capture" is the whole child: every object, size, reference and name, written to a file. guppy3's ``heap()``
gives counts and sizes of what it can reach, without references. CPU seconds (user and system), so that a busy machine
gives the same ratios; the parent's pause is wall-clock.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakharness.probe import capture

ROUNDS = 3
OBJECTS_PER_UNIT = 45
"""Nodes that one unit of the synthetic heap adds, so that sizes can be asked for in objects."""
GIVE_UP_S = 120


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


def ours(folder: Path) -> tuple[float, float, float, int, int]:
    """CPU seconds of the child, the parent's pause, seconds of reading back; nodes and edges."""
    from leakharness.heap.ingest import load_capture

    path = folder / "heap.capture"
    totals, pauses = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        pid = capture.snapshot(str(path))
        pauses.append(time.perf_counter() - started)
        assert pid is not None
        seconds, status = cpu_of(pid)
        if status:
            raise SystemExit(Path(f"{path}.error").read_text())
        totals.append(seconds)
    started = time.process_time()
    graph = load_capture(path).graph
    return min(totals), min(pauses), time.process_time() - started, graph.node_count, graph.edge_count


def without_names(folder: Path) -> float | None:
    """The same capture with naming left out."""
    from leakharness.probe.capture_walk import Walk

    def work() -> None:
        Walk._name_everything = lambda self: None  # type: ignore[method-assign]
        capture._capture(str(folder / "bare"), capture.prepare(), None, (), (), values=False, gentle=False)

    return best(lambda: in_copy(work))


def guppy_heap() -> None:
    from guppy import hpy

    heap = hpy().heap()
    assert heap.count


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
        return f"  {name:<34}      -"
    ratio = f"{seconds / unit:8.2f}" if unit else ""
    return f"  {name:<34}{seconds:9.3f}{ratio}"


def measure(millions: float, folder: Path) -> None:
    keep = build(int(millions * 1_000_000))
    gc.collect()
    total, pause, reading, nodes, edges = ours(folder)
    bare = without_names(folder)
    print(f"\n{nodes:,} nodes, {edges:,} edges{'':<8}CPU seconds   ratio to capture")
    print(row("capture: all edges, all names", total, total))
    print(row("  of it without names", bare, total))
    print(row("  of it the parent's pause (ms)", pause * 1000, None))
    print(row("reading it back (the tool's side)", reading, total))
    print(row("guppy3 heap()", best(lambda: in_copy(guppy_heap)), total))
    print(row("objgraph typestats()", best(lambda: in_copy(objgraph_types)), total))
    print(row("pympler muppy + summary", best(lambda: in_copy(pympler_summary), 1), total))
    del keep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=float, default=[0.1, 1.0], help="millions of objects")
    parser.add_argument("--large", action="store_true", help="5 million as well")
    options = parser.parse_args()
    imports_are_there("guppy", "objgraph", "pympler.muppy", "pympler.summary", "numpy", "leakharness.heap.ingest")
    with tempfile.TemporaryDirectory() as folder:
        for millions in [*options.sizes, *([5.0] if options.large else [])]:
            measure(millions, Path(folder))


if __name__ == "__main__":
    main()
