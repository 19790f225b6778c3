"""The dominator tree as rows: what would be freed together, by type, largest first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.heap.dominators import Dominators
from leakharness.heap.graph import HeapGraph
from leakharness.heap.names import Names
from leakharness.heap.paths import Links, ragged

__all__ = ["DominatorRow", "dominator_chain", "dominator_rows"]


@dataclass(frozen=True)
class DominatorRow:
    """``count`` objects of one type below one dominator: what they are, their own and their retained size,
    and what is below the largest of them, or below all of them where it was asked for.
    """

    name: str
    count: int
    shallow_bytes: int
    retained_bytes: int
    node: int
    children: tuple[DominatorRow, ...] = ()

    def document(self) -> dict[str, Any]:
        """As ``dominators --json`` has it."""
        return {
            "type": self.name,
            "count": self.count,
            "shallow_bytes": self.shallow_bytes,
            "retained_bytes": self.retained_bytes,
            "children": [child.document() for child in self.children],
        }


def dominator_rows(
    graph: HeapGraph,
    tree: Dominators,
    retained: npt.NDArray[np.int64],
    *,
    top: int = 10,
    levels: int = 4,
    least: float = 0.01,
    folded: bool = False,
) -> list[DominatorRow]:
    """The largest retained sizes below the root, by type of what one dominator holds, ``levels`` deep.

    At most ``top`` rows a level, none below the fraction ``least`` of the whole heap. Below several objects of one type
    is what the largest of them holds; ``folded``: what all of them hold, as one.
    """
    children = Links.of(graph.node_count, np.where(tree.parent >= 0, tree.parent, 0), np.arange(graph.node_count))
    floor = least * float(retained[0])
    names = Names(graph)

    def below(nodes: npt.NDArray[np.int64], depth: int) -> list[DominatorRow]:
        if depth == 0:
            return []
        kids = children.to[ragged(children.start, nodes)]
        kids = kids[(kids != 0) & (tree.parent[kids] >= 0)]  # the root, and what cannot be reached, have no dominator
        by_type: Counter[int] = Counter()
        total = np.bincount(graph.node_name[kids], weights=retained[kids]) if len(kids) else np.empty(0)
        for name in np.flatnonzero(total >= max(floor, 1.0)).tolist():
            by_type[name] = int(total[name])
        rows: list[DominatorRow] = []
        for name, size in by_type.most_common(top):
            same = kids[graph.node_name[kids] == name]
            largest = int(same[np.argmax(retained[same])])
            rows.append(
                DominatorRow(
                    name=names.label(largest),
                    count=len(same),
                    shallow_bytes=int(graph.self_size[same].sum()),
                    retained_bytes=size,
                    node=largest,
                    children=tuple(below(same if folded else np.array([largest]), depth - 1)),
                )
            )
        return rows

    return below(np.array([0]), levels)


def dominator_chain(graph: HeapGraph, tree: Dominators, node: int) -> list[int]:
    """The nodes that dominate ``node``, from the root down to it; empty where it is unreachable."""
    if tree.depth[node] < 0:
        return []
    chain = [node]
    while chain[-1] != 0:
        chain.append(int(tree.parent[chain[-1]]))
    return chain[::-1]
