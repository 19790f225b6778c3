"""What no object of the heap holds, in words: lost references, and objects that hang on C code alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leakharness.measure.known import NATIVE_MEMORY
from leakharness.measure.mappings import grown, in_words, mappings_of, parsed
from leakharness.measure.measurement import Measurement, WorkerClient
from leakharness.measure.native_memory import COMMAND
from leakharness.model import HeldByC
from leakharness.units import number, size
from leakharness.worker.protocol import BLOCKS, READ, RUNS, BlockCount, BlocksAnswer, UnownedReferences

if TYPE_CHECKING:
    from leakharness.heap.ingest import Capture

__all__ = ["KeptBlocks", "kept_blocks", "lost_references", "more_blocks", "native_bytes"]

MOST_OBJECTS = 5
"""Objects that are named, the largest changes first."""
WORTH_NAMING = 0.1
"""Share of the largest change below which an object is left out: what C code holds by the way."""
CENSUS_EVENTS = 20
"""Blocks that the runs between two censuses are to leave behind: fewer are not told from what comes and goes,"""
CENSUS_RUNS = 50
CENSUS_RUNS_LIMIT = 1_000
CENSUS_SECONDS = 5.0
"""but neither are there fewer or more runs than these, nor do they take longer."""
STRAY_BLOCKS = 3
"""Blocks of one type and size that may have come by the way."""
SETTLE_S = 0.03
BYTES = ("malloc_bytes", "mapped_bytes", "rss")
NATIVE_BYTES = float(1 << 20)
"""What the runs between two looks at the mappings are to leave behind: many pages."""


@dataclass(frozen=True)
class KeptBlocks:
    """``by_c``: what nothing in the heap refers to. ``in_heap``: the other growing types, in words. ``problem``: why
    blocks could not be told by type, or ""."""

    by_c: tuple[HeldByC, ...] = ()
    in_heap: str = ""
    problem: str = ""


def kept_blocks(worker: WorkerClient, measurement: Measurement, *, lost: bool = False) -> KeptBlocks:
    """Where blocks grow and objects do not: two censuses of all blocks with more runs in between. ``lost``: nothing
    that the heap shows holds some of the objects, so that they are of interest, too."""
    found = measurement.assessment
    growing = {row.counter: row.per_run for row in found.growth if row.grows} if found is not None else {}
    pace = growing.get("blocks", 0.0)
    if not pace or ({"objects", "tracked"} & growing.keys() and not lost):
        return KeptBlocks()
    runs = _more_runs(measurement, CENSUS_EVENTS / pace)
    censuses = []
    for count, rehearsal in ((1, True), (runs, False), (runs, False)):
        worker.request(RUNS, count, doing="making the runs of a census of blocks")
        worker.request(READ, SETTLE_S, False, False, doing="settling before a census of blocks")
        censuses.append(worker.request(BLOCKS, rehearsal, doing="taking a census of blocks"))
        if censuses[-1].failed:
            return KeptBlocks(problem=f"what the blocks hold is not known: {censuses[-1].failed}")
    kept = more_blocks(censuses[1], censuses[2], runs)
    return KeptBlocks(kept.by_c) if lost else kept


def native_bytes(worker: WorkerClient, measurement: Measurement) -> tuple[HeldByC, ...]:
    """Where bytes grow, and nothing that Python counts: in which mappings, over some more runs."""
    found = measurement.assessment
    growing = {row.counter: row.per_run for row in found.growth if row.grows} if found is not None else {}
    pace = next((growing[name] for name in BYTES if name in growing), 0.0)
    if not pace or growing.keys() - set(BYTES):
        return ()
    runs = _more_runs(measurement, NATIVE_BYTES / pace)
    looks = []
    for _ in range(2):
        worker.request(RUNS, runs, doing="making the runs between two looks at the mappings")
        worker.request(READ, SETTLE_S, False, False, doing="settling before a look at the mappings")
        looks.append(parsed(mappings_of(worker.pid) or ""))
    where = in_words(grown(looks[0], looks[1]), runs)
    sentence = f"{size(pace)} a run that no object accounts for{', in ' + where if where else ''}: native code keeps it"
    return (HeldByC(NATIVE_MEMORY, 0.0, pace, f"{sentence}; {COMMAND}"),)


def _more_runs(measurement: Measurement, wanted: float) -> int:
    """So many more runs, within the bounds of what an explanation may cost."""
    first, last = measurement.readings[0], measurement.readings[-1]
    run_seconds = (last.seconds - first.seconds) / max(1, measurement.runs)
    most = min(CENSUS_RUNS_LIMIT, int(CENSUS_SECONDS / run_seconds) if run_seconds > 0 else CENSUS_RUNS_LIMIT)
    return max(1, min(most, max(CENSUS_RUNS, math.ceil(wanted))))


def more_blocks(before: BlocksAnswer, after: BlocksAnswer, runs: int) -> KeptBlocks:
    """What came to stay between two censuses: what nothing refers to, most first, then what hangs on that. Pure."""
    old = {(row.type, row.size): row for row in before.rows}
    alone: dict[str, list[tuple[int, int]]] = {}
    within: dict[str, list[tuple[int, int]]] = {}
    held: dict[str, list[tuple[int, int]]] = {}
    for row in after.rows:
        was = old.get((row.type, row.size), BlockCount(row.type, row.size, 0, 0))
        more, lone, inside = row.blocks - was.blocks, row.alone - was.alone, row.within - was.within
        for table, count in ((alone, lone), (within, inside), (held, more - max(0, lone) - max(0, inside))):
            if count > STRAY_BLOCKS:
                table.setdefault(row.type, []).append((count, row.size))
    by_c = _most_first(_kept(kind, sizes, runs) for kind, sizes in alone.items())
    by_c += _most_first(_inside(kind, sizes, runs) for kind, sizes in within.items())
    bare = held.pop("", [])
    if not alone and not held:
        by_c = _most_first(_bare(count, size, runs) for count, size in bare)
    rows = by_c[:MOST_OBJECTS]
    types = sorted(held.items(), key=lambda item: -sum(count for count, _ in item[1]))[:MOST_OBJECTS]
    in_heap = ", ".join(f"{number(_pace(sizes, runs))} {_noun(kind)} of {_sizes(sizes)}" for kind, sizes in types)
    return KeptBlocks(tuple(rows), in_heap)


def _most_first(rows: Iterable[HeldByC]) -> list[HeldByC]:
    return sorted(rows, key=lambda row: -row.count_per_run)


def _pace(sizes: Sequence[tuple[int, int]], runs: int) -> float:
    """So many a run; whole where all but a few stray ones agree with that."""
    count = sum(count for count, _ in sizes)
    whole = round(count / runs)
    return float(whole) if whole and abs(count - whole * runs) <= STRAY_BLOCKS else count / runs


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    least, most = min(size for _, size in sizes), max(size for _, size in sizes)
    return f"{most:,} bytes" if least == most else f"{least:,} to {most:,} bytes"


def _kept(kind: str, sizes: Sequence[tuple[int, int]], runs: int) -> HeldByC:
    pace = _pace(sizes, runs)
    keeps = "C code keeps them" if pace != 1 else "C code keeps it"
    sentence = f"{number(pace)} {_noun(kind)} a run of {_sizes(sizes)}, referred to by nothing in the heap: {keeps}"
    return HeldByC(kind, pace, sum(count * size for count, size in sizes) / runs, sentence)


def _inside(kind: str, sizes: Sequence[tuple[int, int]], runs: int) -> HeldByC:
    pace = _pace(sizes, runs)
    sentence = f"{number(pace)} {_noun(kind)} a run of {_sizes(sizes)}, referred to by nothing but what C code keeps"
    return HeldByC(kind, pace, sum(count * size for count, size in sizes) / runs, sentence)


def _noun(kind: str) -> str:
    """Of the type bytes one must not think that it is a size."""
    return "bytes objects" if kind == "bytes" else kind


def _bare(count: int, width: int, runs: int) -> HeldByC:
    pace = _pace([(count, width)], runs)
    what = "blocks" if pace != 1 else "block"
    sentence = f"{number(pace)} {what} a run of {width} bytes that hold no object: a C struct, or a container's table"
    return HeldByC("", pace, count * width / runs, sentence)


def lost_references(measurement: Measurement, capture: Capture) -> tuple[HeldByC, ...]:
    """The objects of which more references every run are held by no object, or given away; where each of them is."""
    found = measurement.assessment
    growing = {row.counter for row in found.growth if row.grows} if found is not None else set()
    rows = [row for row in measurement.references.rows if ("references" if row.more > 0 else "given_away") in growing]
    if not rows or not measurement.runs:
        return ()
    least = WORTH_NAMING * max(abs(row.more) for row in rows)
    named = [row for row in rows if abs(row.more) >= least][:MOST_OBJECTS]
    return tuple(_lost(row, _place(row, capture), measurement.runs) for row in named)


def _lost(row: UnownedReferences, path: Sequence[str], runs: int) -> HeldByC:
    a_run = row.more / runs
    what = f"{_signed(a_run)} {'reference' if abs(a_run) == 1 else 'references'} a run to {_called(row, path)}"
    why = (
        "that no object holds: a C function does not give it back"
        if row.more > 0
        else "given away without being owned; it ends in a crash"
    )
    return HeldByC(row.type, a_run, 0, f"{what}{' ' if row.more > 0 else ': '}{why}", tuple(path))


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else f"−{number(-value)}"


def _called(row: UnownedReferences, path: Sequence[str]) -> str:
    """By where it is, as far as one can write it in code, and its type."""
    kind = row.type.rpartition(".")[2]
    if not path:
        return f"a {row.type} that no module leads to"
    place = path[-2] if len(path) > 1 else path[0]
    return place if place.endswith(f" ({kind})") else f"{place} ({kind})"


def _place(row: UnownedReferences, capture: Capture) -> list[str]:
    """The retainer path to the object; empty where the capture does not show it."""
    from leakharness.heap.retainers import explain

    nodes = np.flatnonzero(capture.graph.node_id == row.address)
    if not len(nodes):
        return []
    groups = explain(capture.graph, [int(nodes[0])])
    return list(groups[0].path) if groups else []
