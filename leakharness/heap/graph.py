"""The heap as columns: one value that every analysis takes, whoever made the snapshot.

Node 0 is the synthetic root. Edges are stored by source (compressed sparse rows): the edges of node ``i`` are
``edge_start[i]:edge_start[i + 1]``. Node and edge kinds are V8's own, because V8's ``.heapsnapshot`` is the one
file format here (https://chromium.googlesource.com/v8/v8/+/main/src/profiler/heap-snapshot-generator.cc).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["EDGE_KINDS", "NODE_KINDS", "UNKNOWN_PLACE", "HeapGraph"]

UNKNOWN_PLACE = 2**31 - 1
"""Position of an entry of which the file does not know where it is (Julia's), or that lies beyond 32 bits."""

NODE_KINDS = (
    "hidden",
    "array",
    "string",
    "object",
    "code",
    "closure",
    "regexp",
    "number",
    "native",
    "synthetic",
    "concatenated string",
    "sliced string",
    "symbol",
    "bigint",
    "object shape",
)
EDGE_KINDS = ("context", "element", "property", "internal", "hidden", "shortcut", "weak")


@dataclass(frozen=True, eq=False)
class HeapGraph:
    """One heap snapshot. All columns are read-only by agreement; n nodes, m edges.

    ``edge_name`` is an index into ``strings``, except for kinds ``element`` and ``hidden``, where it is the
    position itself. ``node_id`` is the identity within one process (V8's object id; for ours the address).
    Sizes are shallow, in bytes.
    """

    node_kind: npt.NDArray[np.uint8]
    node_name: npt.NDArray[np.int32]
    node_id: npt.NDArray[np.uint64]
    self_size: npt.NDArray[np.int64]
    edge_start: npt.NDArray[np.int64]
    edge_kind: npt.NDArray[np.uint8]
    edge_name: npt.NDArray[np.int32]
    edge_to: npt.NDArray[np.int32]
    strings: list[str]
    node_kinds: tuple[str, ...] = NODE_KINDS
    edge_kinds: tuple[str, ...] = EDGE_KINDS
    meta: dict[str, Any] = field(default_factory=dict)
    detachedness: npt.NDArray[np.uint8] | None = None
    """V8's column of that name where the file has it: 0 unknown, 1 attached to a document, 2 detached from it."""
    trace_node: npt.NDArray[np.int32] | None = None
    """Number of the node of the file's trace tree in which each was allocated; 0 where that is not known."""

    @property
    def node_count(self) -> int:
        return len(self.node_kind)

    @property
    def edge_count(self) -> int:
        return len(self.edge_to)

    def edge_text(self, edge: int) -> str:
        """Name of an edge; the position for ``element`` and ``hidden`` ones, ``*`` where it is not known."""
        name = int(self.edge_name[edge])
        kind = self.edge_kinds[int(self.edge_kind[edge])]
        if name == UNKNOWN_PLACE:
            return "*"
        return str(name) if kind in ("element", "hidden") else self.strings[name]

    def edge_source(self, edge: int) -> int:
        """The node that an edge goes out from."""
        return int(np.searchsorted(self.edge_start, edge, side="right")) - 1

    def type_name(self, node: int) -> str:
        """Name of a node: its type for objects of ours, the constructor or text for V8's."""
        return self.strings[int(self.node_name[node])]

    @cached_property
    def of_v8(self) -> bool:
        """Whether V8 made it (Node, Chrome): it is not ours, and has V8's roots."""
        synthetic = [number for number, kind in enumerate(self.node_kinds) if kind == "synthetic"]
        roots = np.unique(self.node_name[np.isin(self.node_kind, synthetic)]).tolist()
        return not self.meta and any(self.strings[name] == "(GC roots)" for name in roots)
