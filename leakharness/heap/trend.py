"""Three and more snapshots of one process: what rises again and again, and what stayed.

Two snapshots cannot tell a leak from a cache that filled once; a family that rises in every interval can, and so can
the objects that were allocated between the first two snapshots and are still alive in the last (the three-snapshot
technique).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.errors import OptionError
from leakharness.heap import v8
from leakharness.heap.classify import classify_path
from leakharness.heap.families import Families, credited_sizes
from leakharness.heap.graph import HeapGraph
from leakharness.heap.growth_by_path import holders_of
from leakharness.heap.v8_objects import objects_of

__all__ = ["Collection", "FamilySeries", "Stayed", "Trend", "trend"]

Ints = npt.NDArray[np.int64]

_STAYED_FAMILIES = 20  # families whose holders are told
_FEWEST_ENTRIES = 10  # entries by which a collection must have grown to be told


@dataclass(frozen=True)
class FamilySeries:
    """One family in every snapshot: shallow bytes and objects."""

    type: str
    name: str
    sizes: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def rises(self) -> bool:
        """Whether it rose in every interval."""
        return all(later > earlier for earlier, later in itertools.pairwise(self.sizes))

    @property
    def grown(self) -> int:
        return self.sizes[-1] - self.sizes[0]


@dataclass(frozen=True)
class Stayed:
    """Objects of one family that came between the first two snapshots and are alive in the last, held alike."""

    type: str
    name: str
    count: int
    size: int
    path: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Collection:
    """One collection that gained entries in every interval."""

    name: str
    entries: tuple[int, ...]
    path: tuple[str, ...]


@dataclass(frozen=True)
class Trend:
    """The answer of `trend`. ``stayed`` and ``collections`` are None where ids do not last (files of ours, whose ids
    are addresses)."""

    snapshots: tuple[Path, ...]
    rising: tuple[FamilySeries, ...]
    stayed: tuple[Stayed, ...] | None
    collections: tuple[Collection, ...] | None

    def document(self) -> dict[str, Any]:
        """The document of ``diff --json`` with three snapshots and more, under ``trend``."""
        return {
            "snapshots": [str(path) for path in self.snapshots],
            "rising": [
                {"type": f.type, "name": f.name, "sizes": list(f.sizes), "counts": list(f.counts)} for f in self.rising
            ],
            "stayed": None
            if self.stayed is None
            else [
                {
                    "type": s.type,
                    "name": s.name,
                    "count": s.count,
                    "size": s.size,
                    "path": list(s.path),
                    "class": s.kind,
                }
                for s in self.stayed
            ],
            "collections": None
            if self.collections is None
            else [{"name": c.name, "entries": list(c.entries), "path": list(c.path)} for c in self.collections],
        }


def trend(paths: Sequence[Path | str], *, top: int = 30, min_kb: int = 64) -> Trend:
    """What three or more snapshots of one process, earliest first, have in common. Raises `OptionError` for fewer."""
    if len(paths) < 3:
        raise OptionError(f"a trend needs three snapshots or more, not {len(paths)}")
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    ids: list[Ints] = []
    entries: list[dict[int, int]] = []
    lasts = True
    for number, path in enumerate(paths):
        graph = v8.read(path, edges=None if number < len(paths) - 1 else True)
        families = Families(graph)
        columns = families.size.tolist(), families.count.tolist()
        for key, size, count in zip(families.all_keys(), *columns, strict=True):
            row = found.setdefault(key, [(0, 0)] * number)
            row.append((size, count))
        for row in found.values():
            row.extend([(0, 0)] * (number + 1 - len(row)))
        lasts &= graph.of_v8
        if lasts:
            ids.append(graph.node_id.astype(np.int64))
            entries.append(_entries(graph))
    series = [
        FamilySeries(*key, tuple(size for size, _ in row), tuple(count for _, count in row))
        for key, row in found.items()
    ]
    rising = sorted((s for s in series if s.rises and s.grown >= min_kb * 1024), key=lambda s: (-s.grown, s.name))
    stayed = _stayed(graph, families, ids, min_kb)[:top] if lasts else None
    collections = _growing(graph, entries)[:top] if lasts else None
    return Trend(
        tuple(map(Path, paths)),
        tuple(rising[:top]),
        tuple(stayed) if stayed is not None else None,
        tuple(collections) if collections is not None else None,
    )


def _stayed(graph: HeapGraph, families: Families, ids: Sequence[Ints], min_kb: int) -> list[Stayed]:
    born = np.setdiff1d(ids[1], ids[0])
    nodes = np.flatnonzero(np.isin(graph.node_id.astype(np.int64), born))
    sizes = credited_sizes(graph)
    weight = np.bincount(families.of_node[nodes], weights=sizes[nodes], minlength=len(families.size))
    wanted = [row for row in np.argsort(-weight, kind="stable")[:_STAYED_FAMILIES].tolist() if weight[row] > 0]
    members = [nodes[families.of_node[nodes] == row].tolist() for row in wanted]
    rows: list[Stayed] = []
    for row, groups in zip(wanted, holders_of(graph, members), strict=True):
        kind, name = families.key(row)
        for group in groups:
            size = int(sizes[list(group.members)].sum())
            if size >= min_kb * 1024:
                growth = classify_path(kind, name, group.path, group.owner)
                rows.append(Stayed(kind, name, len(group.members), size, tuple(group.path), growth.kind))
    return sorted(rows, key=lambda row: (-row.size, -row.count, row.path))


def _entries(graph: HeapGraph) -> dict[int, int]:
    """How many entries each collection has, by its id: its own elements and properties and those of its store."""
    objects = objects_of(graph)
    if objects is None:
        return {}
    degree = np.diff(graph.edge_start)
    held = np.flatnonzero(objects.into_stores)
    owners = np.searchsorted(graph.edge_start, held, side="right") - 1
    most = degree.copy()  # an array's elements are its own edges as well as those of its store
    np.maximum.at(most, owners, degree[graph.edge_to[held]])
    nodes = np.flatnonzero(objects.collections)
    return dict(zip(graph.node_id[nodes].tolist(), most[nodes].tolist(), strict=True))


def _growing(graph: HeapGraph, entries: Sequence[dict[int, int]]) -> list[Collection]:
    rows: list[tuple[int, tuple[int, ...]]] = []
    for one, last in entries[-1].items():
        counts = tuple(found.get(one, -1) for found in entries)
        rises = all(later > earlier for earlier, later in itertools.pairwise(counts))
        if counts[0] >= 0 and rises and last - counts[0] >= _FEWEST_ENTRIES:
            rows.append((one, counts))
    rows.sort(key=lambda row: row[1][0] - row[1][-1])
    rows = rows[:_STAYED_FAMILIES]
    number = {int(one): node for node, one in enumerate(graph.node_id.tolist())}
    nodes = [number[one] for one, _ in rows]
    paths = [groups[0].path for groups in holders_of(graph, [[node] for node in nodes])]
    return [
        Collection(graph.type_name(node), counts, tuple(path))
        for node, (_, counts), path in zip(nodes, rows, paths, strict=True)
    ]
