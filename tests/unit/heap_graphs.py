"""Heap graphs for tests, drawn as text, and the slow, obvious answers that the real algorithms are checked
against.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from leakharness.heap.graph import EDGE_KINDS, NODE_KINDS, HeapGraph

_ARROW = re.compile(r" (?:->|-(?:(\w+):)?(\S.*?)->) ")


def draw(text: str, sizes: dict[str, int] | None = None, size: int = 1) -> HeapGraph:
    """A graph from lines like ``root -> a -property:name-> b -element:0-> c``; a bare arrow is an edge named
    ``x``.

    A node is its name; ``Type#2`` is a second node named ``Type``. The first node of the first line is the
    root.
    """
    names: list[str] = []
    edges: list[tuple[int, str, str, int]] = []

    def node(name: str) -> int:
        if name not in names:
            names.append(name)
        return names.index(name)

    for line in filter(None, map(str.strip, text.strip().splitlines())):
        parts = _ARROW.split(line)
        left = node(parts[0])
        for kind, label, name in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            right = node(name)
            edges.append((left, kind or "property", label or "x", right))
            left = right
    return build(names, edges, [(sizes or {}).get(name, size) for name in names])


def build(names: Sequence[str], edges: Sequence[tuple[int, str, str, int]], sizes: Sequence[int]) -> HeapGraph:
    """A graph from node names (``Type#2`` is of type ``Type``), edges (source, kind, name, target) and
    shallow sizes.
    """
    strings: dict[str, int] = {}

    def text(value: str) -> int:
        return strings.setdefault(value, len(strings))

    ordered = sorted(edges, key=lambda edge: edge[0])
    start = np.zeros(len(names) + 1, np.int64)
    np.cumsum(np.bincount([edge[0] for edge in ordered], minlength=len(names)), out=start[1:])
    positional = ("element", "hidden")
    node_name = [text(re.sub(r"#\d+$", "", name)) for name in names]
    kinds = [NODE_KINDS.index("synthetic")] + [NODE_KINDS.index("object")] * (len(names) - 1)
    return HeapGraph(
        node_kind=np.array(kinds, np.uint8),
        node_name=np.array(node_name, np.int32),
        node_id=np.arange(len(names), dtype=np.uint64) * np.uint64(16) + np.uint64(0x7F00_0000_0000),
        self_size=np.array(sizes, np.int64),
        edge_start=start,
        edge_kind=np.array([EDGE_KINDS.index(kind) for _, kind, _, _ in ordered], np.uint8),
        edge_name=np.array([int(n) if k in positional else text(n) for _, k, n, _ in ordered], np.int32),
        edge_to=np.array([target for *_, target in ordered], np.int32),
        strings=list(strings),
    )


def plain(n: int, pairs: Sequence[tuple[int, int]], sizes: Sequence[int] | None = None) -> HeapGraph:
    """``n`` nodes and an edge for each pair."""
    return build([f"N#{i}" for i in range(n)], [(a, "property", "x", b) for a, b in pairs], sizes or [1] * n)


def reach(n: int, pairs: Sequence[tuple[int, int]], without: frozenset[int] = frozenset()) -> set[int]:
    """Nodes that can be reached from node 0 when those in ``without`` are taken away."""
    seen, todo = {0} - without, [0] if 0 not in without else []
    while todo:
        here = todo.pop()
        for a, b in pairs:
            if a == here and b not in seen and b not in without:
                seen.add(b)
                todo.append(b)
    return seen


def brute_dominators(n: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Immediate dominators by definition: which nodes become unreachable when one is taken away."""
    alive = reach(n, pairs)
    strict: dict[int, set[int]] = {v: set() for v in alive}
    for removed in alive - {0}:
        for lost in alive - reach(n, pairs, frozenset({removed})) - {removed}:
            strict[lost].add(removed)
    parent = [-1] * n
    for node in alive:
        above = strict[node] | {0} - {node}
        parent[node] = max(above, key=lambda d: len(strict[d]) + (d != 0), default=0)
    return parent
