"""Reading and writing V8's ``.heapsnapshot``, the one snapshot format here.

The file is one JSON object. Its numbers are flat arrays whose row layout the file itself declares
(``snapshot.meta.node_fields`` and so on), so a reader takes the layout from there and never from the
version. Format: https://chromium.googlesource.com/v8/v8/+/main/src/profiler/heap-snapshot-generator.cc and
https://chromium.googlesource.com/devtools/devtools-frontend/+/main/front_end/entrypoints/heap_snapshot_worker/

Four facts about the other readers shape what is written:

- Chrome DevTools looks for ``"snapshot"``, ``"nodes"``, ``"edges"``, ``"samples"``, ``"locations"``,
  ``"strings"`` in this order; memlab looks for ``"nodes":`` and its like anywhere in the text. Our own
  metadata therefore lies inside ``snapshot``, beside ``meta``, under the key ``leakharness``, and may not
  use those words as keys.
- Both keep node ids in 32 bits and compare two snapshots by them. Addresses do not fit, so `stable_ids`
  folds each address to an odd 32-bit number that is the same in every snapshot of a process.
- DevTools counts a node once for every edge that the root has to it, and gives up when it has counted more than there
  are. A further name of a root's target (a module under two names, say) therefore lies in the metadata, under
  ``root_aliases``, and `read` puts it back.
- DevTools adds the size of ``array`` and ``hidden`` nodes to their only owner. Python's containers are thus
  ``object``, which it shows by name and with their own size.
- V8 writes an entry of a WeakMap as two edges named ``N / part of key (...) -> value (...) pair in WeakMap (table
  @ID)``: from the key to the value, and from the table. DevTools takes the first alone when it computes dominators
  (``isEssentialEdge`` of its ``HeapSnapshot.ts``), since removing either the key or the table frees the value, and the
  key says more; memlab up to 2.0 takes both, so that a value belongs to neither. Ours is DevTools' rule.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from leakharness.heap.graph import HeapGraph
from leakharness.heap.ingest import load_capture
from leakharness.heap.snapshot_names import SnapshotName, parse_name
from leakharness.heap.v8_columns import columns_of
from leakharness.heap.v8_details import DETACHED, TimeLine, producer_of, time_line
from leakharness.heap.v8_sections import OUR_KEY, layout_of, mapped, named_errors, sections_of, strings_of
from leakharness.heap.v8_write import node_kind_of, stable_ids, write
from leakharness.worker.capture.file import MAGIC

__all__ = [
    "SnapshotInfo",
    "SnapshotName",
    "info",
    "node_kind_of",
    "parse_name",
    "read",
    "stable_ids",
    "write",
]


def read(path: Path | str, *, edges: bool | Literal["stores"] | None = True) -> HeapGraph:
    """The graph in a ``.heapsnapshot`` of ours, of Node or of Chrome; without its edges if ``edges`` is
    False, or None and the file is ours. ``edges="stores"``: those alone by which sizes count for the objects whose
    stores they are, without their names, and none of ours. A raw capture (``.heapcapture``, of ``leakharness.watch``)
    is read as well.

    The file is mapped and parsed piece by piece, so memory stays near the file's size. ``meta`` is what we
    stored (empty for files of other producers). Raises `SnapshotError` where the file is missing, truncated,
    corrupt or of another format; counts are checked against the data before anything of their size is
    allocated.
    """
    path = Path(path)
    if _is_capture(path):
        return load_capture(path).graph
    with mapped(path) as text, named_errors(path):
        sections = sections_of(text)
        layout = layout_of(text, sections)
        strings = strings_of(text, sections)
        if layout.ours and edges is not True:
            edges = False
        return columns_of(text, sections, layout, strings, edges=True if edges is None else edges)


@dataclass(frozen=True)
class SnapshotInfo:
    """What a snapshot file is. Sizes in bytes; ``by_kind`` maps a node kind to (count, shallow bytes),
    largest first.
    """

    path: str
    producer: str
    pid: int | None
    time: float | str | None
    """Seconds since 1970 where the snapshot says so itself; else what its name says, as it is written there."""
    python: str | None
    node_count: int
    edge_count: int
    string_count: int
    shallow_bytes: int
    file_bytes: int
    by_kind: dict[str, tuple[int, int]]
    thread: int = 0
    """Node's number of a worker thread; 0 for the main one."""
    detached: tuple[int, int] | None = None
    """(count, shallow bytes) of what is detached from its document; None where the file does not say."""
    time_line: TimeLine | None = None
    traced: int = 0
    """Objects of which the file says where they were allocated."""


def _is_capture(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def info(path: Path | str) -> SnapshotInfo:
    """Producer, process, time, counts and sizes of a snapshot. Raises `SnapshotError` as `read` does."""
    path = Path(path)
    if _is_capture(path):
        graph = load_capture(path).graph
        ours, node_count, edge_count = dict(graph.meta), graph.node_count, graph.edge_count
    else:
        with mapped(path) as text, named_errors(path):
            sections = sections_of(text)
            layout = layout_of(text, sections)
            graph = columns_of(text, sections, layout, strings_of(text, sections), edges=False)
        ours, node_count, edge_count = layout.ours, layout.nodes, layout.edges
    counts = np.bincount(graph.node_kind, minlength=len(graph.node_kinds))
    sizes = np.bincount(graph.node_kind, weights=graph.self_size, minlength=len(graph.node_kinds))
    order = np.argsort(-sizes, kind="stable")
    named = parse_name(path)
    pid, time, python = ours.get("pid"), ours.get("time"), ours.get("python")
    return SnapshotInfo(
        path=str(path),
        producer=str(ours.get("producer", OUR_KEY)) if ours else producer_of(graph),
        pid=pid if isinstance(pid, int) else (named.pid if named else None),
        time=time if isinstance(time, (int, float, str)) else (named.time if named else None),
        python=str(python) if python is not None else None,
        node_count=node_count,
        edge_count=edge_count,
        string_count=len(graph.strings),
        shallow_bytes=int(graph.self_size.sum()),
        file_bytes=os.stat(path).st_size,
        thread=named.thread if named is not None else 0,
        detached=_detached(graph),
        time_line=None if _is_capture(path) else time_line(path, graph),
        traced=int(np.count_nonzero(graph.trace_node)) if graph.trace_node is not None else 0,
        by_kind={graph.node_kinds[k]: (int(counts[k]), int(sizes[k])) for k in order.tolist() if counts[k]},
    )


def _detached(graph: HeapGraph) -> tuple[int, int] | None:
    if graph.detachedness is None or not graph.detachedness.any():
        return None
    gone = graph.detachedness == DETACHED
    return int(np.count_nonzero(gone)), int(graph.self_size[gone].sum())
