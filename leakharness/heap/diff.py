"""Growth between two snapshots: which (type, name) families, or which retainer paths, hold more than before.

By name no edge is read, so files of several GiB need far less memory than their size.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.errors import OptionError, SnapshotError
from leakharness.heap import v8
from leakharness.heap.classify import (
    BY_NAME,
    Classification,
    classify_growth,
    classify_name,
    classify_path,
)
from leakharness.heap.dominators import strong_edges
from leakharness.heap.graph import HeapGraph
from leakharness.heap.path_groups import PathFamily, path_families
from leakharness.heap.paths import path_tree

__all__ = ["MIN_KB", "TOP", "DiffRow", "Lane", "Pair", "SnapshotDiff", "diff", "diff_graphs", "lane_of", "lane_pair"]

TOP = 30  # rows shown
MIN_KB = 64  # KiB by which a family must grow to be shown
_PATH_FAMILIES = 20  # families whose growth is explained by path
_PATH_SAMPLE = 20_000  # objects of a family whose paths are grouped; the figures are scaled up to all of them

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """Two snapshots of one process, the earliest and the latest of ``snapshots``."""

    before: Path
    after: Path
    pid: int | None = None
    snapshots: int = 2
    thread: int = 0


@dataclass(frozen=True)
class Lane:
    """The snapshots of one process and thread, earliest first."""

    pid: int
    thread: int
    snapshots: tuple[Path, ...]

    @property
    def pair(self) -> Pair:
        return Pair(self.snapshots[0], self.snapshots[-1], self.pid, len(self.snapshots), self.thread)


@dataclass(frozen=True)
class DiffRow:
    """One family that grew: bytes (shallow) and objects more than before, its class and what that rests on.

    By path, ``name`` is the retainer fingerprint and ``path`` what to show.
    """

    type: str
    name: str
    size_delta: int
    count_delta: int
    classification: Classification
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class SnapshotDiff:
    """The answer of `diff`. ``rows`` are at most ``top``; ``kind`` classifies all that passed the filter."""

    pair: Pair
    nodes: tuple[int, int]
    rows: tuple[DiffRow, ...]
    kind: str
    evidence: str
    top: int
    min_kb: int

    def document(self) -> dict[str, Any]:
        """The document of ``diff --json``."""
        return {
            "schema": "leakharness.diff/1",
            "before": str(self.pair.before),
            "after": str(self.pair.after),
            "pid": self.pair.pid,
            "thread": self.pair.thread,
            "snapshots": self.pair.snapshots,
            "nodes": list(self.nodes),
            "rows": [
                {
                    "type": row.type,
                    "name": row.name,
                    "size_delta": row.size_delta,
                    "count_delta": row.count_delta,
                    "class": row.classification.kind,
                    "evidence": row.classification.evidence,
                    **({"path": list(row.path)} if row.path else {}),
                }
                for row in self.rows
            ],
            "class": self.kind,
            "evidence": self.evidence,
        }


def lane_of(folder: Path | str, pid: int | None = None, thread: int | None = None) -> list[Lane]:
    """The snapshots in a folder by process and thread, earliest first; those with the most snapshots first.

    Names: see `leakharness.heap.v8.parse_name`; other files are left alone. Raises `SnapshotError` where there are
    none.
    """
    folder = Path(folder)
    found: dict[tuple[int, int], list[tuple[str, int, Path]]] = defaultdict(list)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SnapshotError(f"{folder}: cannot be read as a lane: {error.strerror or error}") from None
    for name in names:
        parsed = v8.parse_name(name)
        if parsed is not None and pid in (None, parsed.pid) and thread in (None, parsed.thread):
            found[parsed.pid, parsed.thread].append((parsed.time, parsed.sequence, folder / name))
    if not found:
        whose = f" of PID {pid}" if pid is not None else ""
        whose += f" and thread {thread}" if thread is not None else ""
        example = "Heap.DATE.TIME.PID.THREAD.SEQ.heapsnapshot"
        raise SnapshotError(f"{folder}: no heap snapshots{whose} in it (names: {example})")
    lanes = [Lane(*key, tuple(path for *_, path in sorted(files))) for key, files in found.items()]
    return sorted(lanes, key=lambda lane: (-len(lane.snapshots), lane.pid, lane.thread))


def lane_pair(folder: Path | str, pid: int | None = None, thread: int | None = None) -> Pair:
    """Earliest and latest snapshot of one process and thread in a lane: of those asked for, or of those with the most
    snapshots (the lowest numbers on a tie). Raises `SnapshotError` where none has two.
    """
    lane = lane_of(folder, pid, thread)[0]
    if len(lane.snapshots) < 2:
        raise SnapshotError(f"{folder}: at least two snapshots of one PID are needed; take another one later")
    return lane.pair


def diff(
    before: Path | str | None = None,
    after: Path | str | None = None,
    *,
    lane_dir: Path | str | None = None,
    pid: int | None = None,
    top: int = TOP,
    min_kb: int = MIN_KB,
    by: str = "name",
) -> SnapshotDiff:
    """Families by growth, largest first: those whose shallow size grew by ``min_kb`` KiB, ``top`` of them.

    Either two files or a lane. ``by="path"`` groups the growth of those families by retainer fingerprint;
    figures of a family of more than `_PATH_SAMPLE` objects are then estimates from a sample. Raises
    `OptionError` for a contradiction, `SnapshotError` for an unreadable file.
    """
    if top < 1:
        raise OptionError(f"--top must be at least 1, not {top}")
    if min_kb < 0:
        raise OptionError(f"--min-kb must not be negative, not {min_kb}")
    if by not in ("name", "path"):
        raise OptionError(f"--by must be name or path, not {by!r}")
    pair = _pair(before, after, lane_dir, pid)
    edges = by == "path"
    old = v8.read(pair.before, edges=edges)
    if not edges:
        summary = _Families(old)  # and let go of the graph before the second is read
        total = old.node_count
        del old
        new = v8.read(pair.after, edges=False)
        return _by_name(pair, (total, new.node_count), summary, _Families(new), top, min_kb)
    return diff_graphs(pair, old, v8.read(pair.after), top=top, min_kb=min_kb, by=by)


def diff_graphs(
    pair: Pair, old: HeapGraph, new: HeapGraph, *, top: int = TOP, min_kb: int = MIN_KB, by: str = "name"
) -> SnapshotDiff:
    """`diff` of two graphs at hand."""
    counts = (old.node_count, new.node_count)
    by_name = _by_name(pair, counts, _Families(old), _Families(new), top, min_kb)
    return by_name if by == "name" else _by_path(by_name, old, new)


def _pair(before: Path | str | None, after: Path | str | None, lane_dir: Path | str | None, pid: int | None) -> Pair:
    if lane_dir is not None:
        if before is not None or after is not None:
            raise OptionError("give two snapshots or --lane-dir, not both")
        return lane_pair(lane_dir, pid)
    if before is None or after is None:
        raise OptionError("two snapshots are needed: BEFORE and AFTER, or --lane-dir DIR")
    if pid is not None:
        raise OptionError("--pid chooses among the snapshots of a lane: give --lane-dir too")
    return Pair(Path(before), Path(after))


class _Families:
    """Shallow bytes, count and first node of each (kind, name) in one snapshot, as columns."""

    def __init__(self, graph: HeapGraph) -> None:
        names = _same_text_once(graph)
        columns: list[tuple[Ints, ...]] = []
        for kind in range(len(graph.node_kinds)):
            nodes = np.flatnonzero(graph.node_kind == kind)
            if not len(nodes):
                continue
            name = names[nodes]
            count = np.bincount(name)
            used = np.flatnonzero(count)
            size = np.bincount(name, weights=graph.self_size[nodes])[used].astype(np.int64)  # exact below 2**53
            first = np.empty(len(count), np.int64)
            first[name[::-1]] = nodes[::-1]
            columns.append((np.full(len(used), kind), used, size, count[used], first[used]))
        self.kind, self.name, self.size, self.count, self.first = (
            np.concatenate(c) for c in zip(*columns, strict=True)
        )
        self.kinds, self.strings = graph.node_kinds, graph.strings

    def key(self, row: int) -> tuple[str, str]:
        return self.kinds[int(self.kind[row])], self.strings[int(self.name[row])]

    def find(self, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int]]:
        """(bytes, count) of those of ``wanted`` that are there."""
        texts = {name for _, name in wanted}
        numbers = [number for number, text in enumerate(self.strings) if text in texts]
        rows = np.flatnonzero(np.isin(self.name, numbers)).tolist()
        return {self.key(row): (int(self.size[row]), int(self.count[row])) for row in rows if self.key(row) in wanted}


def _same_text_once(graph: HeapGraph) -> npt.NDArray[np.int32]:
    """Node names with equal strings under one number; V8's tables have each once, foreign ones may not."""
    if len(set(graph.strings)) == len(graph.strings):
        return graph.node_name
    first: dict[str, int] = {}
    canonical = [first.setdefault(text, number) for number, text in enumerate(graph.strings)]
    return np.array(canonical, np.int32)[graph.node_name]


def _by_name(
    pair: Pair, counts: tuple[int, int], old: _Families, new: _Families, top: int, min_kb: int
) -> SnapshotDiff:
    least = min_kb * 1024
    candidates = np.flatnonzero(new.size >= least).tolist()  # no smaller one can have grown by that much
    keys = [new.key(row) for row in candidates]
    earlier = old.find(set(keys))
    grown: list[tuple[int, int, int, tuple[str, str]]] = []
    for row, key in zip(candidates, keys, strict=True):
        size, count = earlier.get(key, (0, 0))
        size_delta = int(new.size[row]) - size
        if size_delta >= least:
            # Largest growth first, then most objects, then as they come in the file.
            grown.append((-size_delta, count - int(new.count[row]), int(new.first[row]), key))
    grown.sort()
    rows = [
        DiffRow(kind, name, -size, -count, Classification(classify_name(kind, name), BY_NAME))
        for size, count, _, (kind, name) in grown
    ]
    overall = classify_growth((row.classification.kind, row.size_delta) for row in rows)
    return SnapshotDiff(pair, counts, tuple(rows[:top]), overall, BY_NAME, top, min_kb)


def _by_path(names: SnapshotDiff, old: HeapGraph, new: HeapGraph) -> SnapshotDiff:
    """Growth of the families that grew, by retainer fingerprint: the after file's less the before file's."""
    before, after = _PathFamilies(old, names.rows), _PathFamilies(new, names.rows)
    rows: list[DiffRow] = []
    for key, (size, count, path) in after.found.items():
        old_size, old_count, _ = before.found.get(key, (0, 0, []))
        if size - old_size >= names.min_kb * 1024:
            kind, name, fingerprint = key
            rows.append(
                DiffRow(
                    kind,
                    fingerprint,
                    size - old_size,
                    count - old_count,
                    classify_path(kind, name, path),
                    tuple(path),
                )
            )
    rows.sort(key=lambda row: (-row.size_delta, -row.count_delta, row.name))
    overall = classify_growth((row.classification.kind, row.size_delta) for row in rows)
    return SnapshotDiff(
        names.pair, names.nodes, tuple(rows[: names.top]), overall, "by retainers", names.top, names.min_kb
    )


class _PathFamilies:
    """Shallow bytes and count by (kind, name, fingerprint) of the objects of the given families."""

    def __init__(self, graph: HeapGraph, families: Sequence[DiffRow]) -> None:
        self.found: dict[tuple[str, str, str], tuple[int, int, list[str]]] = {}
        tree = path_tree(graph, strong_edges(graph))
        numbers = {text: number for number, text in enumerate(graph.strings)}
        known = [row for row in families[:_PATH_FAMILIES] if row.name in numbers and row.type in graph.node_kinds]
        members = [
            np.flatnonzero(
                (graph.node_kind == graph.node_kinds.index(row.type)) & (graph.node_name == numbers[row.name])
            )
            for row in known
        ]
        # Evenly spread, so a sample of a family stands for it.
        samples = [nodes[:: max(1, -(-len(nodes) // _PATH_SAMPLE))].tolist() for nodes in members]
        for row, nodes, sample, groups in zip(
            known, members, samples, path_families(graph, tree, samples), strict=True
        ):
            for held in groups:
                self._add(graph, row, held, len(nodes) / len(sample))

    def _add(self, graph: HeapGraph, family: DiffRow, held: PathFamily, scale: float) -> None:
        size = int(graph.self_size[list(held.members)].sum() * scale)
        key = (family.type, family.name, held.fingerprint)
        old_size, old_count, _ = self.found.get(key, (0, 0, []))
        self.found[key] = (old_size + size, old_count + round(len(held.members) * scale), held.path)
