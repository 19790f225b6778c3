"""Small files of V8, made by hand: each node and edge as V8 would write it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from leakharness.heap.graph import EDGE_KINDS, NODE_KINDS

NODE_FIELDS = ("type", "name", "id", "self_size", "edge_count", "trace_node_id", "detachedness")


class V8File:
    """A heap under construction; node 0 is the root and node 1 ``(GC roots)``."""

    def __init__(self) -> None:
        self.strings: dict[str, int] = {}
        self.nodes: list[list[int]] = []
        self.edges: list[list[tuple[int, int, int]]] = []
        self.edge(self.node("synthetic", "", 0), self.node("synthetic", "(GC roots)", 0), "element", 1)
        self.more: dict[str, Any] = {}

    def text(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def node(self, kind: str, name: str, size: int = 16, *, detached: int = 0, trace: int = 0) -> int:
        number = len(self.nodes)
        row = [NODE_KINDS.index(kind), self.text(name), 2 * number + 1, size, 0, trace, detached]
        self.nodes.append(row)
        self.edges.append([])
        return number

    def id(self, node: int) -> int:
        return self.nodes[node][2]

    def edge(self, source: int, target: int, kind: str, name: str | int) -> None:
        number = name if isinstance(name, int) else self.text(name)
        self.edges[source].append((EDGE_KINDS.index(kind), number, target))

    def held(self, source: int, kind: str, edge: str | int, node_kind: str, name: str, size: int = 16) -> int:
        """A new node that ``source`` holds by an edge of ``kind``."""
        node = self.node(node_kind, name, size)
        self.edge(source, node, kind, edge)
        return node

    def top(self) -> int:
        """The global object, below the root as V8 has it."""
        node = self.node("object", "global", 24)
        self.edge(0, node, "shortcut", 2)
        return node

    def text_of_file(self, *, node_kinds: int = len(NODE_KINDS), header: dict[str, Any] | None = None) -> str:
        width = len(NODE_FIELDS)
        for row, edges in zip(self.nodes, self.edges, strict=True):
            row[4] = len(edges)
        flat = [value for edges in self.edges for kind, name, to in edges for value in (kind, name, to * width)]
        meta = {
            "node_fields": list(NODE_FIELDS),
            "node_types": [list(NODE_KINDS[:node_kinds]), "string", *["number"] * 5],
            "edge_fields": ["type", "name_or_index", "to_node"],
            "edge_types": [list(EDGE_KINDS), "string_or_number", "node"],
            "trace_function_info_fields": ["function_id", "name", "script_name", "script_id", "line", "column"],
            "trace_node_fields": ["id", "function_info_index", "count", "size", "children"],
            "sample_fields": ["timestamp_us", "last_assigned_id"],
            "location_fields": ["object_index", "script_id", "line", "column"],
        }
        counts = {"node_count": len(self.nodes), "edge_count": len(flat) // 3, "trace_function_count": 0}
        document = {
            "snapshot": {"meta": meta, **counts, **(header or {})},
            "nodes": [value for row in self.nodes for value in row],
            "edges": flat,
            "trace_function_infos": [],
            "trace_tree": [],
            "samples": [],
            "locations": [],
            **self.more,
            "strings": list(self.strings),
        }
        return json.dumps(document)

    def write(self, path: Path, **options: Any) -> Path:
        text = self.text_of_file(**options).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
        return path
