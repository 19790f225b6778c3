"""From raw captures to proof: heap snapshots on disk, and who holds what is retained.

This is the edge between the measured process, which writes raw captures, and the pure heap analysis.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from leakharness.errors import LeakHarnessError
from leakharness.measure.analysis_budget import ANALYSIS_SECONDS, within
from leakharness.measure.beside_known import beside_known
from leakharness.measure.capture_file import wait_for_capture
from leakharness.measure.census import suspects
from leakharness.measure.measurement import Evidence, Measurement, WorkerClient
from leakharness.model import BesideKnown, GrowingContainer, Reading, Retainer
from leakharness.scratch import scratch_folder
from leakharness.store import make_snapshot_folder, snapshot_path
from leakharness.units import number, signed
from leakharness.worker.codec import BadLine, decode
from leakharness.worker.protocol import (
    CONFIRM,
    GROWN_CONTAINERS,
    RELEASE_TIMES,
    SECOND_OPINIONS,
    SNAPSHOT,
    Holder,
    Opinions,
    ReleaseTimes,
)

if TYPE_CHECKING:
    from leakharness.heap.growing import GrowthOf
    from leakharness.heap.ingest import Capture
    from leakharness.heap.retainers import RetainerGroup

__all__ = ["Snapshots", "retainers_of"]

MOST_CONFIRMED = 5
"""Groups of retainers that are confirmed by cutting, the largest first."""
NATIVE = (
    "by counters: there are no more objects of Python's, so C code holds it, or an object that is there once and has "
    "grown (the buffer of a list or bytearray)"
)
REFERENCES_ALONE = "by counters: no object, block or byte more, but references that no object holds: C code has them"
LEAST_GAINED = 0.02
"""Entries that a container must have gained for each run to be named: one in fifty. It may be a table of the program's
bookkeeping else."""
LEAST_SHARE = 0.1
"""and as a share of what the most grown container has gained."""
MOST_CONTAINERS = 5
"""Growing containers that are named."""
TIMER = re.compile(r"(?:TimerHandle|Timer)(?:$|[.\\[ ])")
"""A step of a path that is a timer of asyncio's, or of threading's."""
ATEXIT, LOST = "atexit's registered functions", "held by C or unknown"
ATEXIT_SHARE = 0.5
"""Callbacks that came for each object that hangs on nothing else, from which on they are taken to hold these."""
CAPTURE_TIMEOUT_S = 120.0
"""How long a forked copy may take to write one capture."""
OPINION_WAIT_S = 2.0
"""How long a FAIL waits for second opinions once everything else is known."""
POLL_S = 0.005


class Snapshots:
    """Takes snapshots of a measured process, and turns them into files and retainers, beside the measurement.

    ``folder`` None keeps no file: the one capture that explains a FAIL is then analysed and thrown away. ``keep``: how
    many measurements' files stay in the default folder, 0 for all.
    ``confirm``: cut each holding edge in a forked copy, and say what that freed. ``known`` says which retainers are
    those of an accepted leak: what grows beside them is then judged in a copy that is rid of them. ``framework``:
    modules of the test framework, what it notes for each run is judged in the same way.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        always: bool,
        keep: int = 0,
        confirm: bool = False,
        known: Callable[[Measurement, Retainer], bool] = lambda measurement, retainer: False,
        framework: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._known = known
        self._framework = framework
        self._confirm = confirm
        self._keep = keep
        self._always = always and folder is not None
        self._raw = scratch_folder()
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._written: list[Future[str | None]] = []
        self._last: tuple[str, Path] | None = None
        self._lock = threading.Lock()
        self._writers: dict[Path, int | None] = {}
        self._opinions: tuple[Path, int] | None = None
        self.problems: list[str] = []

    def reading(self, worker: WorkerClient, reading: Reading) -> None:
        """Called after each reading: take the baseline's and each batch's snapshot, if they are wanted."""
        if self._always:
            self._take(worker, reading.label, [], [])

    def suspected(self, worker: WorkerClient, measurement: Measurement) -> None:
        """Called when growth is found, before it is confirmed: this is the heap to explain."""
        tracked = any(row["retained"] for row in measurement.tracked.values())
        measurement.grown = worker.request(GROWN_CONTAINERS, [], doing="looking for the containers that grow").rows
        if not (self._always and tracked):
            # Where no more objects are there, no type is suspect: its newest objects would be innocents.
            types = suspects(measurement.census) if {"objects", "tracked"} & _growing(measurement) else []
            self._take(worker, measurement.readings[-1].label, types, steadily_grown(measurement))
            self._pool.submit(importlib.import_module, "leakharness.measure.held_by_c")  # meanwhile: it takes numpy
            self._pool.submit(importlib.import_module, "leakharness.heap.retainers")
            self._pool.submit(importlib.import_module, "leakharness.heap.ingest")

    def explain(self, worker: WorkerClient, measurement: Measurement) -> Evidence:
        """All retained tracked objects (or the fastest growing family) and what holds them."""
        from leakharness.measure.held_by_c import kept_blocks, lost_references, native_bytes

        assert self._last is not None
        label, raw = self._last
        try:
            self._ask_others(worker, measurement)
            capture = self._capture(raw)
            if self._folder is not None and not self._always:
                self._written.append(self._pool.submit(self._write, raw, label, worker.pid, capture))
            capture, groups, growing = within(
                ANALYSIS_SECONDS, lambda: _analysed(worker, measurement, capture), "the analysis of the heap"
            )
            confirmed = [_confirm(worker, capture, group) if self._confirm else "" for group in groups[:MOST_CONFIRMED]]
            retainers = _with_due_time(worker, retainers_of(groups, confirmed))
            held = lost_references(measurement, capture)
            kept = kept_blocks(worker, measurement, lost=any(group.path[0] == LOST for group in groups))
            native = native_bytes(worker, measurement)
            beside = self._beside_known(worker, measurement, capture, groups, retainers)
            framework, beside_framework = self._beside_framework(worker, measurement, capture, growing)
        except LeakHarnessError as exc:
            self.problems.append(f"no retainers: {exc}")
            return Evidence()
        measurement.notes += _resources(worker, measurement, capture)
        growth_class, class_evidence = _classified(measurement, groups)
        if kept.in_heap:
            class_evidence += f"; a run leaves {kept.in_heap} in the heap"
        if kept.problem:
            self.problems.append(kept.problem)
        evidence = Evidence(
            retainers,
            growth_class,
            class_evidence,
            beside,
            held_by_c=held + kept.by_c + native,
            growing_containers=growing,
            framework=framework,
            beside_framework=beside_framework,
        )
        said = self._second_opinions()
        if isinstance(said, str):
            return replace(evidence, opinions=(said,))
        if said is None:
            return evidence
        dot = said.objgraph.dot if said.objgraph is not None else ""
        return replace(evidence, opinions=opinions(said, *self._asked(retainers)), backrefs_dot=dot)

    def _beside_known(
        self,
        worker: WorkerClient,
        measurement: Measurement,
        capture: Capture,
        groups: Sequence[RetainerGroup],
        retainers: Sequence[Retainer],
    ) -> BesideKnown | None:
        """What grows beside the known leaks; None where not all of what is retained is known."""
        from leakharness.heap.retainers import entry_edges

        if not retainers or not all(self._known(measurement, retainer) for retainer in retainers):
            return None
        targets = [target for group in groups for target in group.targets]
        tracked = any(row["retained"] for row in measurement.tracked.values())
        types = [] if tracked else sorted({group.target for group in groups})
        return beside_known(worker, measurement, _holders(capture, entry_edges(capture.graph, targets)), types)

    def _beside_framework(
        self,
        worker: WorkerClient,
        measurement: Measurement,
        capture: Capture,
        growing: Sequence[GrowingContainer],
    ) -> tuple[tuple[str, ...], BesideKnown | None]:
        """Which containers that grow are the test framework's own, and what grows beside them."""
        if not self._framework:
            return (), None
        from leakharness.heap.framework import owned_by_framework

        addresses = [row.address for row in measurement.grown if row.address]
        owned = owned_by_framework(capture.graph, addresses, self._framework)
        if not owned:
            return (), None
        return tuple(owned.values()), beside_known(worker, measurement, containers=sorted(owned))

    def _ask_others(self, worker: WorkerClient, measurement: Measurement) -> None:
        """Let objgraph and guppy3 begin, where a tracked object is retained that they could be asked about."""
        if any(row["retained"] for row in measurement.tracked.values()):
            path = self._raw / "opinions.json"
            answer = worker.request(SECOND_OPINIONS, str(path), doing="asking objgraph and guppy3")
            self._opinions = (path, answer.alive) if answer.asked else None

    def _second_opinions(self) -> Opinions | str | None:
        """What objgraph and guppy3 answered, or a sentence that they did not; what is not there in time is not waited
        for."""
        if self._opinions is None:
            return None
        path, _ = self._opinions
        end = time.monotonic() + OPINION_WAIT_S
        while not path.exists() and time.monotonic() < end:
            time.sleep(POLL_S)
        if not path.exists():
            return f"objgraph and guppy3 had not answered after {OPINION_WAIT_S:g} s"
        try:
            return decode(Opinions, path.read_bytes())
        except (BadLine, OSError) as exc:
            return f"objgraph and guppy3 gave no answer that can be read: {exc}"

    def _asked(self, retainers: tuple[Retainer, ...]) -> tuple[int, str]:
        """What the answers are held against: tracked objects alive, and our path."""
        assert self._opinions is not None
        return self._opinions[1], " ".join(retainers[0].path) if retainers else ""

    def files(self) -> tuple[str, ...]:
        """Wait for the snapshot files; their paths, oldest first."""
        paths: list[str] = []
        failed: list[str] = []
        for job in self._written:
            try:
                path = job.result()
            except (LeakHarnessError, OSError) as exc:
                failed.append(str(exc))
                continue
            if path is not None:
                paths.append(path)
        self._written.clear()
        if failed:
            self.problems.append(f"{len(failed)} snapshot(s) not written, the first: {failed[0]}")
        return tuple(paths)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._raw, ignore_errors=True)

    @contextlib.contextmanager
    def closing(self) -> Iterator[Snapshots]:
        try:
            yield self
        finally:
            self.close()

    def _take(self, worker: WorkerClient, label: str, types: list[str], grown: list[tuple[int, int]]) -> None:
        raw = self._raw / f"{label}-{time.monotonic_ns()}.capture"
        answer = worker.request(SNAPSHOT, str(raw), types, grown, doing=f"forking the snapshot of {label}")
        self._writers[raw] = answer.writer
        self._last = (label, raw)
        if self._always:
            self._written.append(self._pool.submit(self._write, raw, label, worker.pid, None))

    def _capture(self, raw: Path) -> Capture:
        from leakharness.heap.ingest import load_capture

        wait_for_capture(raw, self._writers.get(raw), CAPTURE_TIMEOUT_S)
        with self._lock:
            return load_capture(raw)

    def _write(self, raw: Path, label: str, pid: int, capture: Capture | None) -> str | None:
        from leakharness.heap import v8

        assert self._folder is not None
        if capture is None:
            capture = self._capture(raw)
        path = snapshot_path(self._folder, label, pid)
        make_snapshot_folder(path.parent, self._keep)
        v8.write(capture.graph, path)
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def opinions(answer: Opinions, alive: int, path: str) -> tuple[str, ...]:
    """The second opinions as sentences, and whether they agree with ours. Pure."""
    lines = []
    objgraph, guppy = answer.objgraph, answer.guppy
    if objgraph is not None and objgraph.failed:
        lines.append(f"objgraph failed: {objgraph.failed}")
    if guppy is not None and guppy.failed:
        lines.append(f"guppy3 failed: {guppy.failed}")
    if guppy is not None and guppy.absent:
        lines.append(f"guppy3: {guppy.absent}")
    if objgraph is not None and objgraph.holders is not None:
        holders = ", ".join(objgraph.holders) or "nothing"
        agrees = any(holder in path for holder in objgraph.holders)
        chain = " -> ".join(objgraph.chain)
        lead = f"its chain from a module: {chain}" if len(objgraph.chain) > 1 else "no module leads to it"
        lines.append(f"objgraph {'agrees' if agrees else 'differs'}: held by {holders}; {lead}")
    if guppy is not None and guppy.objects is not None:
        verb = "agrees" if guppy.objects == alive else "differs"
        lines.append(f"guppy3 {verb}: it counts {guppy.objects} {guppy.type} ({alive} tracked objects are alive)")
    return tuple(lines)


def retainers_of(groups: Sequence[RetainerGroup], confirmed: Sequence[str] = ()) -> tuple[Retainer, ...]:
    """The groups of an explanation as the result's retainers. Pure."""
    from leakharness.heap.wording import sentence

    said = [*confirmed, *[""] * (len(groups) - len(confirmed))]
    return tuple(
        Retainer(
            target=group.target,
            count=group.count,
            retained_bytes=group.retained_bytes,
            path=tuple(group.path),
            fingerprint=group.fingerprint,
            sentence=sentence(group),
            also=tuple(" -> ".join(way.path) for way in group.also_held_by if way.count >= group.count),
            confirmed=text,
        )
        for group, text in zip(groups, said, strict=True)
    )


def _with_due_time(worker: WorkerClient, retainers: tuple[Retainer, ...]) -> tuple[Retainer, ...]:
    """The retainers, of which a timer will release some: those say when."""
    timed = [any(TIMER.match(step) for step in retainer.path) for retainer in retainers]
    times = worker.request(RELEASE_TIMES, doing="looking for timers") if any(timed) else ReleaseTimes(0, 0.0, 0)
    if not times.timers:
        return retainers
    due = f"; released by a timer, in {number(max(0.0, times.last_due_s))} s at the latest"
    return tuple(
        replace(retainer, sentence=retainer.sentence + due) if by_timer else retainer
        for retainer, by_timer in zip(retainers, timed, strict=True)
    )


def _analysed(
    worker: WorkerClient, measurement: Measurement, capture: Capture
) -> tuple[Capture, list[RetainerGroup], tuple[GrowingContainer, ...]]:
    """The capture with weak entries by what keeps them, who holds its targets, and the containers that grow."""
    from leakharness.heap.weak_values import with_weak_values

    capture = replace(capture, graph=with_weak_values(capture.graph))
    groups = _groups(capture, lambda addresses: _gained(worker, addresses))
    groups = named_for_atexit(without_our_own(groups), measurement)
    return capture, groups, _growing_containers(capture, measurement)


def _resources(worker: WorkerClient, measurement: Measurement, capture: Capture) -> list[str]:
    """What the descriptors and threads are that grow."""
    from leakharness.measure.resources_described import descriptors, threads

    growing, lines = _growing(measurement), []
    if "fds" in growing:
        came = measurement.readings[-1].counters["fds"] - measurement.readings[0].counters["fds"]
        what = descriptors(worker.pid, came)
        lines += [f"descriptors that came: {what}"] if what else []
    if "threads" in growing:
        graph = capture.graph
        what = threads([graph.edge_text(edge) for edge in range(int(graph.edge_start[1]))])
        lines += [f"threads that run: {what}"] if what else []
    return lines


def steadily_grown(measurement: Measurement) -> list[tuple[int, int]]:
    """(address, entries that came) of the containers that explain the growth by what they have gained, most first."""
    rows = [(row.address, row.now - row.before) for row in measurement.grown]
    least = max(LEAST_GAINED * measurement.runs, LEAST_SHARE * max((gained for _, gained in rows), default=0))
    return [row for row in rows if row[1] >= least][:MOST_CONTAINERS]


def _growing_containers(capture: Capture, measurement: Measurement) -> tuple[GrowingContainer, ...]:
    from leakharness.heap.growing import container_names

    grown = dict(steadily_grown(measurement))
    entries = {row.address: row.now for row in measurement.grown}
    names = {**container_names(capture.graph, [address for address in grown if address]), 0: (ATEXIT, "")}
    runs = max(1, measurement.runs)
    found = []
    for address, gained in grown.items():
        if address in names:
            pace = signed(gained / runs)
            noun = "entry" if pace == "+1" else "entries"
            name, reference = names[address]
            if reference.partition(".")[0].partition(":")[0] in sys.stdlib_module_names:
                reference = ""  # no store of the program's
            sentence = f"{name} {pace} {noun} a run ({entries[address]:,} now)"
            found.append(GrowingContainer(name, gained / runs, entries[address], sentence, reference))
    return tuple(found)


def without_our_own(groups: list[RetainerGroup]) -> list[RetainerGroup]:
    """What the harness alone holds is its own, and no finding beside any other. Pure."""
    from leakharness.heap.capture_roots import HELD_BY_HARNESS

    return [group for group in groups if group.path[0] != HELD_BY_HARNESS] or groups


def named_for_atexit(groups: list[RetainerGroup], measurement: Measurement) -> list[RetainerGroup]:
    """The interpreter shows nobody its list of exit callbacks. What hangs on nothing else, and came as one with each
    callback that was registered, hangs on that list. Pure."""
    came = next((row.now - row.before for row in measurement.grown if row.address == 0), 0)
    if not came:
        return groups
    return [
        replace(
            group,
            path=[ATEXIT, *group.path[1:]],
            fingerprint=group.fingerprint.replace(group.path[0], ATEXIT, 1),
            registered_in=ATEXIT,
        )
        if group.path[0] == LOST and 2 * group.count >= came >= ATEXIT_SHARE * group.count
        else group
        for group in groups
    ]


def _gained(worker: WorkerClient, addresses: Sequence[int]) -> dict[int, int]:
    rows = worker.request(GROWN_CONTAINERS, list(addresses), doing="asking how much containers have grown").rows
    return {row.address: row.now - row.before for row in rows}


def _groups(capture: Capture, growth_of: GrowthOf) -> list[RetainerGroup]:
    from leakharness.heap.retainers import explain

    return explain(capture.graph, capture.targets, capture.labels, growth_of)


def _confirm(worker: WorkerClient, capture: Capture, group: RetainerGroup) -> str:
    """Cut the group's holding edges in a forked copy; what that freed, in words."""
    holders = _holders(capture, group.holding_edges)
    return worker.request(CONFIRM, holders, doing="cutting the edge in a forked copy").sentence


def _holders(capture: Capture, edges: Sequence[int]) -> list[Holder]:
    """The edges as the measured process finds them again."""
    graph = capture.graph
    rows = set()
    for edge in edges:
        if edge >= 0:
            kind = graph.edge_kinds[int(graph.edge_kind[edge])]
            name = "" if kind == "element" else graph.edge_text(edge)  # a position says nothing in the copy
            rows.add((kind, name, graph.type_name(graph.edge_source(edge))))
    return [Holder(*row) for row in sorted(rows)]


def _classified(measurement: Measurement, groups: Sequence[RetainerGroup]) -> tuple[str, str]:
    """The class of the growth, and what it rests on: retainers where there are any, else the counters."""
    from leakharness.heap.classify import classify_growth, classify_path

    if groups:
        found = [(classify_path("object", group.target, group.path), group.retained_bytes) for group in groups]
        kinds = [(classification.kind, size) for classification, size in found]
        return classify_growth(kinds), found[0][0].evidence
    grows = _growing(measurement)
    if grows and grows <= {"references", "given_away"}:
        return "native", REFERENCES_ALONE
    if "objects" in grows or "tracked" in grows:
        return "ambiguous", "objects grow, and no retainer was found"
    if "blocks" in grows:
        return (
            "runtime-objects",
            "by counters: allocator blocks grow, objects that refer to others do not (str, bytes, int and the like)",
        )
    return "native", NATIVE


def _growing(measurement: Measurement) -> set[str]:
    """The counters that grow."""
    found = measurement.assessment
    return {growth.counter for growth in found.growth if growth.grows} if found is not None else set()
