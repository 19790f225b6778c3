"""Containers by what came to stay in them: their names, and those in which members are only replaced.

A cache that is full gets a new entry for an old one in each run: its members are as new as those of a leak, and more of
them, and yet none came to stay. What tells them apart is how many entries the container has gained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from leakharness.heap.dominators import strong_edges
from leakharness.heap.graph import HeapGraph
from leakharness.heap.names import Names
from leakharness.heap.path_groups import PathGroup
from leakharness.heap.paths import PathTree, path_tree
from leakharness.heap.wording import LRU_CACHE, container_name

__all__ = ["GrowthOf", "container_names", "parting_nodes", "replacing"]

GrowthOf = Callable[[Sequence[int]], Mapping[int, int]]
"""By address, how many entries each of these containers has gained since the baseline; not of those that are newer."""

_FEWEST = 8  # entries of one container that lead to members, from which on it says something that they are many
_COMPARED = 1_000  # members whose paths are compared
_GAINED = 0.5  # entries gained, as a share of those that lead to new members, below which these only replace others
_WEAK = ("weakref.", "ReferenceType", "weakref")


def container_names(graph: HeapGraph, addresses: Iterable[int]) -> dict[int, tuple[str, str]]:
    """What each container at one of these addresses is called, "LISTENERS (list) of app", and how it is imported,
    "app:LISTENERS", where it can be.

    Those that the graph does not show are left out, and those of weak references: their entries go with what they
    refer to.
    """
    wanted = np.fromiter(addresses, np.uint64)
    nodes = np.flatnonzero(np.isin(graph.node_id, wanted))
    if not len(nodes):
        return {}
    names = Names(graph)
    tree = path_tree(graph, strong_edges(graph))
    return {
        int(graph.node_id[node]): container_name(names, tree, node)
        for node in nodes.tolist()
        if not _holds_weak_references(graph, node)
    }


def replacing(
    graph: HeapGraph, tree: PathTree, groups: Sequence[PathGroup], growth_of: GrowthOf
) -> npt.NDArray[np.int64]:
    """The nodes of the containers in which members of the groups only replace others."""
    parting = parting_nodes(graph, tree, groups)
    if not parting:
        return np.zeros(0, np.int64)
    tables = {node: _table_of(graph, node) for node in parting}
    gained = growth_of([int(graph.node_id[table]) for table in tables.values()])
    full = [
        node
        for node, entries in parting.items()
        if gained.get(int(graph.node_id[tables[node]]), entries) < _GAINED * entries
    ]
    return np.unique(np.array([*full, *(tables[node] for node in full)], np.int64))


def _table_of(graph: HeapGraph, node: int) -> int:
    """The dict of an lru_cache, which has its entries in a list of links as well; any other node itself."""
    if graph.type_name(node) != LRU_CACHE:
        return node
    begin, end = int(graph.edge_start[node]), int(graph.edge_start[node + 1])
    return next((int(graph.edge_to[edge]) for edge in range(begin, end) if graph.edge_text(edge) == "<cache>"), node)


def parting_nodes(graph: HeapGraph, tree: PathTree, groups: Sequence[PathGroup]) -> dict[int, int]:
    """For each group the node at which the paths of its members part, and how many ways they take from there."""
    found: dict[int, int] = {}
    for group in groups:
        if len(group.heads) < _FEWEST:
            continue
        paths = [tree.steps(node) for node in group.heads[:_COMPARED]]
        shortest = min(map(len, paths))
        at = next((place for place in range(shortest) if len({path[place] for path in paths}) > 1), shortest)
        if at in (0, shortest):
            continue
        ways = len({path[at] for path in paths}) * len(group.heads) // len(paths)
        node = int(graph.edge_to[paths[0][at - 1]])
        if ways >= _FEWEST:
            found[node] = max(found.get(node, 0), ways)
    return found


def _holds_weak_references(graph: HeapGraph, node: int) -> bool:
    begin, end = int(graph.edge_start[node]), int(graph.edge_start[node + 1])
    called = [graph.type_name(int(to)) for to in graph.edge_to[begin:end][:_COMPARED]]
    weak = sum(name.startswith(_WEAK) for name in called)
    return weak > 0 and 2 * weak >= len(called)
