"""Which containers are a test framework's own: held by its objects, and reached in no other way.

What a fixture gave hangs on pytest's objects too, and is the program's: it is looked for from there as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from leakharness.heap.dominators import strong_edges
from leakharness.heap.graph import HeapGraph
from leakharness.heap.paths import PathTree, links, path_tree, reachable
from leakharness.heap.retainers import harness_mask

__all__ = ["owned_by_framework"]

OF_THE_PROGRAM = ("cached_result", "funcargs", "callspec", "_instance", "_obj", "obj", "instance")
"""Attributes of pytest's objects in which the program's are: values of fixtures, parameters, functions, instances."""
PLAIN = (
    "list",
    "dict",
    "tuple",
    "set",
    "cell",
    "collections.deque",
    "collections.defaultdict",
    "collections.OrderedDict",
)
"""Containers that say nothing of whose they are."""


def owned_by_framework(graph: HeapGraph, addresses: Iterable[int], modules: Sequence[str]) -> dict[int, str]:
    """What each container at one of ``addresses`` is called that only objects of ``modules`` (and those below) hold:
    nothing leads there from a root, or from what the program has put into them, but through those objects."""
    nodes = np.flatnonzero(np.isin(graph.node_id, np.fromiter(addresses, np.uint64)))
    if not len(nodes):
        return {}
    keep = strong_edges(graph)
    framework = _of(graph, modules)
    closed = framework | _none_if_missing(harness_mask(graph), graph.node_count)
    closed[0] = False
    seeds = np.concatenate([np.zeros(1, np.int64), _of_the_program(graph, framework)])
    others = reachable(links(graph, keep), closed.copy(), seeds[~closed[seeds]]) & ~closed
    tree = path_tree(graph, keep)
    held = {node: _held_by(graph, tree, node, framework) for node in nodes.tolist() if not others[node]}
    return {int(graph.node_id[node]): name for node, name in held.items() if name}


def _held_by(graph: HeapGraph, tree: PathTree, node: int, framework: npt.NDArray[np.bool_]) -> str:
    """The framework's object that is the nearest holder but for plain containers, and how it holds: a plugin of the
    program may be held by pytest alone, and what it keeps is its own. Empty where another object is nearer."""
    for edge in reversed(tree.steps(node)):
        holder = graph.edge_source(edge)
        if framework[holder]:
            return f"{graph.type_name(node)} of {graph.type_name(holder)}, {graph.edge_text(edge)}"
        if graph.type_name(holder) not in PLAIN:
            return ""
    return ""


def _of(graph: HeapGraph, modules: Sequence[str]) -> npt.NDArray[np.bool_]:
    """The objects, types, functions, frames and modules of these modules."""
    named = "|".join(re.escape(name) for name in modules)
    files = "|".join(re.escape(name.replace(".", "/")) for name in modules)
    pattern = re.compile(rf"(?:type |module )?(?:{named})(?:\.|$)|.* \((?:.*/)?(?:{files})(?:/|\.py:)")
    used = np.unique(graph.node_name)
    ours = [int(name) for name in used.tolist() if pattern.match(graph.strings[name])]
    return np.isin(graph.node_name, np.array(ours, graph.node_name.dtype))


def _of_the_program(graph: HeapGraph, framework: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """What stands in those attributes of the framework's objects."""
    numbers = [number for number, text in enumerate(graph.strings) if text in OF_THE_PROGRAM]
    positions = [i for i, kind in enumerate(graph.edge_kinds) if kind in ("element", "hidden")]
    named = np.isin(graph.edge_name, np.array(numbers, graph.edge_name.dtype)) & ~np.isin(graph.edge_kind, positions)
    sources = np.repeat(framework, np.diff(graph.edge_start))
    return np.unique(graph.edge_to[named & sources]).astype(np.int64)


def _none_if_missing(mask: npt.NDArray[np.bool_] | None, count: int) -> npt.NDArray[np.bool_]:
    return np.zeros(count, bool) if mask is None else mask
