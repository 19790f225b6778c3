"""Growth between two snapshots: which (type, name) families, or which retainer paths, hold more than before.

By name no edge of ours is kept, and of those of V8 only what says whose a store is, so files of several GiB need far
less memory than their size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from leakharness.errors import OptionError
from leakharness.heap import v8
from leakharness.heap.classify import (
    AMBIGUOUS,
    BY_NAME,
    BY_RETAINERS,
    DECIDING_SHARE,
    SOURCE_LENGTH,
    TEXTS,
    Classification,
    classify_growth,
    classify_name,
    classify_path,
)
from leakharness.heap.dominators import dominators, retained_sizes
from leakharness.heap.families import Families, retained_of_families
from leakharness.heap.graph import HeapGraph
from leakharness.heap.growth_by_path import FAMILIES, PathGrowth, growth_by_path, same_process
from leakharness.heap.lane import Pair, lane_of, lane_pair
from leakharness.heap.path_groups import OTHER_WAYS

__all__ = ["MIN_KB", "TOP", "DiffRow", "Pair", "SnapshotDiff", "diff", "diff_graphs", "diff_lane"]

TOP = 30  # rows shown
MIN_KB = 64  # KiB by which a family must grow to be shown
WITHHELD = "withheld"


@dataclass(frozen=True)
class DiffRow:
    """One family that grew: bytes (shallow) and objects more than before, its class and what that rests on.

    By path, ``name`` is the retainer fingerprint and ``path`` what to show. ``retained_delta`` is given where rows are
    ranked by it. ``born`` and ``gone`` are given by path: objects that came and went, by id in V8's files.
    """

    type: str
    name: str
    size_delta: int
    count_delta: int
    classification: Classification
    path: tuple[str, ...] = ()
    retained_delta: int | None = None
    born: int | None = None
    gone: int | None = None

    def document(self) -> dict[str, Any]:
        further = {"retained_delta": self.retained_delta, "born": self.born, "gone": self.gone}
        return {
            "type": self.type,
            "name": self.name,
            "size_delta": self.size_delta,
            "count_delta": self.count_delta,
            "class": self.classification.kind,
            "evidence": self.classification.evidence,
            **({"path": list(self.path)} if self.path else {}),
            **{key: value for key, value in further.items() if value is not None},
        }


@dataclass(frozen=True)
class Growth:
    """All that grew and shrank between two snapshots, in shallow bytes, and what the filter leaves out of it."""

    grown: int
    shrunk: int
    left_out: int = 0
    rows_left_out: int = 0
    left_by_class: tuple[tuple[str, int], ...] = ()
    """(class, bytes) of what is below the filter."""

    @property
    def explained(self) -> float:
        """Share of what grew that the rows explain; 1 where nothing grew."""
        return 1 - self.left_out / self.grown if self.grown else 1.0

    @property
    def classified(self) -> float:
        """Share of what grew that is in a row or has a class all the same."""
        unclear = sum(size for kind, size in self.left_by_class if kind == AMBIGUOUS)
        return 1 - unclear / self.grown if self.grown else 1.0


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
    growth: Growth = Growth(0, 0)
    survived: int | None = None
    """Objects that are in both files, by id; None where ids do not say so: ours are addresses, used again, and
    two processes have nothing in common."""

    @property
    def turnover(self) -> tuple[int, int, int] | None:
        """Objects that came, went and stayed."""
        if self.survived is None:
            return None
        return self.nodes[1] - self.survived, self.nodes[0] - self.survived, self.survived

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
            **(
                {"objects": dict(zip(("new", "gone", "survived"), self.turnover, strict=True))} if self.turnover else {}
            ),
            "growth": {
                "grown": self.growth.grown,
                "shrunk": self.growth.shrunk,
                "explained": round(self.growth.explained, 4),
                "left_out": self.growth.left_out,
                "rows_left_out": self.growth.rows_left_out,
            },
            "rows": [row.document() for row in self.rows],
            "class": self.kind,
            "evidence": self.evidence,
        }


@dataclass(frozen=True)
class Settings:
    """What `diff` was asked for. ``raw``: V8's files by the names and sizes that they give. ``rank``: rows by shallow
    or by retained growth."""

    top: int = TOP
    min_kb: int = MIN_KB
    by: str = "name"
    rank: str = "shallow"
    raw: bool = False

    def checked(self) -> Settings:
        if self.top < 1:
            raise OptionError(f"--top must be at least 1, not {self.top}")
        if self.min_kb < 0:
            raise OptionError(f"--min-kb must not be negative, not {self.min_kb}")
        if self.by not in ("name", "path"):
            raise OptionError(f"--by must be name or path, not {self.by!r}")
        if self.rank not in ("shallow", "retained"):
            raise OptionError(f"--rank must be shallow or retained, not {self.rank!r}")
        if self.raw and self.by == "path":
            raise OptionError("--raw shows names and sizes as they are in the file: leave out --by path")
        return self


def diff(
    before: Path | str | None = None,
    after: Path | str | None = None,
    *,
    lane_dir: Path | str | None = None,
    pid: int | None = None,
    thread: int | None = None,
    top: int = TOP,
    min_kb: int | None = MIN_KB,
    by: str = "name",
    rank: str = "shallow",
    raw: bool = False,
) -> SnapshotDiff:
    """Families by growth, largest first: those whose shallow size grew by ``min_kb`` KiB, ``top`` of them. Without
    ``min_kb`` those that grew by `MIN_KB`, and where none did, whatever grew.

    Either two files or a lane. ``by="path"`` groups the growth of those families by retainer fingerprint;
    figures of a family of more than 200,000 objects are then estimates from a sample. Raises
    `OptionError` for a contradiction, `SnapshotError` for an unreadable file.
    """
    settings = Settings(top, MIN_KB if min_kb is None else min_kb, by, rank, raw).checked()
    (found,) = _diffs([_pair(before, after, lane_dir, pid, thread)], settings, or_any=min_kb is None)
    return found


def diff_lane(
    lane_dir: Path | str,
    *,
    pid: int | None = None,
    thread: int | None = None,
    by: str | None = None,
    min_kb: int | None = MIN_KB,
    **options: Any,
) -> list[SnapshotDiff]:
    """`diff` of every process and thread of a lane that has two snapshots, the one with most snapshots first. Without
    ``min_kb`` whatever grew is shown only where nothing in the whole lane grew by `MIN_KB`.

    Without ``by`` they are compared by path: each worker holds its own modules, and names alone say nothing of who
    holds what.
    """
    lanes = [lane for lane in lane_of(lane_dir, pid, thread) if len(lane.snapshots) > 1]
    if not lanes:
        lane_pair(lane_dir, pid, thread)  # says what is missing
    way = by or ("name" if options.get("raw") else "path")
    settings = Settings(by=way, min_kb=MIN_KB if min_kb is None else min_kb, **options).checked()
    return _diffs([lane.pair for lane in lanes], settings, or_any=min_kb is None)


def _diffs(pairs: Sequence[Pair], settings: Settings, *, or_any: bool) -> list[SnapshotDiff]:
    """Each comparison. With ``or_any`` those of whatever grew where none has a row; each file is read once."""
    found: list[SnapshotDiff] = []
    whatever: list[SnapshotDiff] = []
    for pair in pairs:
        answer = _comparison(pair, settings)
        found.append(answer(settings))
        if or_any and not any(one.rows for one in found):
            smaller = answer(replace(settings, min_kb=0))
            whatever.append(replace(smaller, rows=tuple(row for row in smaller.rows if row.size_delta > 0)))
    return whatever if or_any and not any(one.rows for one in found) else found


def _comparison(pair: Pair, settings: Settings) -> Callable[[Settings], SnapshotDiff]:
    """Both files, read for settings like these: what they come to by the filters asked for."""
    if settings.by == "path" or settings.rank == "retained":
        graphs = v8.read(pair.before), v8.read(pair.after)
        return lambda asked: _compared(pair, *graphs, asked)
    edges: Literal["stores"] | bool = False if settings.raw else "stores"
    old = v8.read(pair.before, edges=edges)
    summary = Families(old, raw=settings.raw)  # and let go of the graph before the second is read
    total, ids = old.node_count, old.node_id if old.of_v8 else None
    del old
    new = v8.read(pair.after, edges=edges)
    both, counts = (summary, Families(new, raw=settings.raw)), (total, new.node_count)
    survived = same_process((ids, new.node_id), both) if ids is not None and new.of_v8 else None
    return lambda asked: replace(_by_name(pair, counts, both, asked), survived=survived)


def diff_graphs(
    pair: Pair, old: HeapGraph, new: HeapGraph, *, top: int = TOP, min_kb: int = MIN_KB, by: str = "name"
) -> SnapshotDiff:
    """`diff` of two graphs at hand."""
    return _compared(pair, old, new, Settings(top, min_kb, by).checked())


def _compared(pair: Pair, old: HeapGraph, new: HeapGraph, settings: Settings) -> SnapshotDiff:
    families = Families(old, raw=settings.raw), Families(new, raw=settings.raw)
    counts = (old.node_count, new.node_count)
    whole = replace(settings, top=max(settings.top, len(families[1].size)))
    by_name = _by_name(pair, counts, families, whole)
    if old.of_v8 and new.of_v8:
        by_name = replace(by_name, survived=same_process((old.node_id, new.node_id), families))
    if settings.rank == "retained":
        by_name = _ranked(by_name, (old, new), families)
    if settings.by == "path":
        return _by_path(by_name, (old, new), families, settings)
    return _cut_to(by_name, settings.top)


def _pair(
    before: Path | str | None,
    after: Path | str | None,
    lane_dir: Path | str | None,
    pid: int | None,
    thread: int | None,
) -> Pair:
    if lane_dir is not None:
        if before is not None or after is not None:
            raise OptionError("give two snapshots or --lane-dir, not both")
        return lane_pair(lane_dir, pid, thread)
    if before is None or after is None:
        raise OptionError("two snapshots are needed: BEFORE and AFTER, or --lane-dir DIR")
    for flag, value in (("--pid", pid), ("--thread", thread)):
        if value is not None:
            raise OptionError(f"{flag} chooses among the snapshots of a lane: give --lane-dir too")
    return Pair(Path(before), Path(after))


def _by_name(
    pair: Pair, counts: tuple[int, int], families: tuple[Families, Families], settings: Settings
) -> SnapshotDiff:
    old, new = families
    least = settings.min_kb * 1024
    sizes, counts_more, gone = new.less(old)
    grown = np.flatnonzero(sizes >= least)
    # Largest growth first, then most objects, then as they come in the file.
    order = grown[np.lexsort((new.first[grown], -counts_more[grown], -sizes[grown]))]
    rows = []
    for row in order.tolist():
        kind, name = new.key(row)
        by_name = Classification(classify_name(kind, name), BY_NAME)
        rows.append(DiffRow(kind, name, int(sizes[row]), int(counts_more[row]), by_name))
    below = np.flatnonzero((sizes > 0) & (sizes < least))
    small = _by_class(new, below, sizes)
    rose, fell = int(sizes[sizes > 0].sum()), gone - int(sizes[sizes < 0].sum())
    growth = Growth(rose, fell, small.total(), len(below), tuple(small.items()))
    kind, evidence = _conclusion(rows, growth, BY_NAME)
    whole = SnapshotDiff(pair, counts, tuple(rows), kind, evidence, settings.top, settings.min_kb, growth)
    return _cut_to(whole, settings.top)


def _by_class(families: Families, rows: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Counter[str]:
    """Bytes of each class of growth. With --raw each text is a family, and there are many: short ones say nothing."""
    texts = np.isin(families.kind, [number for number, kind in enumerate(families.kinds) if kind in TEXTS])
    short = np.array([len(families.strings[name]) < SOURCE_LENGTH for name in families.name[rows].tolist()], bool)
    plain = texts[rows] & short
    found = Counter[str]({AMBIGUOUS: int(sizes[rows[plain]].sum())} if plain.any() else {})
    for row in rows[~plain].tolist():
        found[classify_name(*families.key(row))] += int(sizes[row])
    return found


def _conclusion(rows: Sequence[DiffRow], growth: Growth, evidence: str) -> tuple[str, str]:
    """The class of the whole, which is withheld while the rows explain less of it than decides."""
    weights = [(row.classification.kind, row.size_delta) for row in rows]
    if growth.classified < DECIDING_SHARE:
        return AMBIGUOUS, f"{WITHHELD}: the rows explain {growth.explained:.0%} of what grew"
    return classify_growth([*weights, *growth.left_by_class]), evidence


def _cut_to(found: SnapshotDiff, top: int) -> SnapshotDiff:
    """The first ``top`` rows; the others are left out like those below the filter."""
    cut = [row for row in found.rows[top:] if row.size_delta > 0]
    growth = replace(
        found.growth,
        left_out=found.growth.left_out + sum(row.size_delta for row in cut),
        rows_left_out=found.growth.rows_left_out + len(cut),
    )
    return replace(found, rows=found.rows[:top], top=top, growth=growth)


def _ranked(
    found: SnapshotDiff, graphs: tuple[HeapGraph, HeapGraph], families: tuple[Families, Families]
) -> SnapshotDiff:
    """The rows with what each family retains more than before, most first."""
    retained: list[dict[tuple[str, str], int]] = []
    for graph, columns in zip(graphs, families, strict=True):
        tree = dominators(graph)
        sizes = retained_of_families(columns, tree, retained_sizes(graph, tree))
        retained.append(dict(zip(columns.all_keys(), sizes.tolist(), strict=True)))
    rows = [
        replace(
            row,
            retained_delta=retained[1].get((row.type, row.name), 0) - retained[0].get((row.type, row.name), 0),
        )
        for row in found.rows
    ]
    rows.sort(key=lambda row: (-(row.retained_delta or 0), -row.size_delta))
    return replace(found, rows=tuple(rows))


def _by_path(
    names: SnapshotDiff,
    graphs: tuple[HeapGraph, HeapGraph],
    families: tuple[Families, Families],
    settings: Settings,
) -> SnapshotDiff:
    """Growth of the families that grew, by retainer fingerprint: the after file's less the before file's."""
    keys = [(row.type, row.name) for row in names.rows]
    retained = {(row.type, row.name): row.retained_delta for row in names.rows}
    rows: list[DiffRow] = []
    small, small_rows = Counter(dict(names.growth.left_by_class)), names.growth.rows_left_out
    for row in names.rows[FAMILIES:]:
        small[row.classification.kind] += row.size_delta
    other: dict[tuple[str, str, str], PathGrowth] = {}
    for ((kind, name), fingerprint), found in growth_by_path(keys, graphs, families).items():
        path = tuple(found.path)
        classification = classify_path(kind, name, path, found.owner, in_place=found.in_place)
        if found.size >= settings.min_kb * 1024 and path:
            figures = retained[kind, name], found.born, found.gone
            rows.append(DiffRow(kind, fingerprint, found.size, found.count, classification, path, *figures))
        elif found.size > 0:
            other.setdefault((kind, name, classification.kind), PathGrowth((kind, name))).add(found)
    for (kind, name, growth_kind), found in other.items():  # small alone, and maybe not together
        if found.size >= settings.min_kb * 1024:
            classification = Classification(growth_kind, BY_RETAINERS)
            figures = retained[kind, name], found.born, found.gone
            rows.append(DiffRow(kind, f"{name} {OTHER_WAYS}", found.size, found.count, classification, (), *figures))
        else:
            small[growth_kind] += found.size
            small_rows += found.ways
    rows.sort(key=lambda row: (-(row.retained_delta or 0), -row.size_delta, -row.count_delta, row.name))
    shown = sum(row.size_delta for row in rows)
    left = max(0, names.growth.grown - shown)
    growth = replace(
        names.growth, left_out=left, rows_left_out=max(small_rows, int(left > 0)), left_by_class=tuple(small.items())
    )
    kind, evidence = _conclusion(rows, growth, BY_RETAINERS)
    whole = replace(names, rows=tuple(rows), kind=kind, evidence=evidence, growth=growth)
    return _cut_to(whole, settings.top)
