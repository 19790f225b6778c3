"""What holds one object, as facts that a scenario can be written from: the closure, the attribute, the registry."""

from __future__ import annotations

import re
from dataclasses import dataclass

from leakharness.errors import SnapshotError
from leakharness.heap.dominators import strong_edges
from leakharness.heap.graph import HeapGraph
from leakharness.heap.paths import path_tree
from leakharness.heap.retainers import RetainerGroup

__all__ = ["Holding", "holding_of"]

_REGISTRY = re.compile(r"(?P<owner>.+)\.(?P<name>[^\W\d]\w*) \((?P<kind>[\w.]+)\)")
_FUNCTION = re.compile(r"function (?P<name>[^\W\d]\w*) \((?P<place>.+)\)")
FUTURE_EDGES = ("_callbacks", "_callbacks context")


@dataclass(frozen=True)
class Holding:
    """How ``count`` objects of ``type`` are held.

    ``closure`` is the function whose variable ``variable`` leads to them, ``captured`` are all of its free variables,
    ``place`` its file and line. ``holder`` and ``attribute``: an instance that has them as an attribute. ``registry``,
    its ``kind`` and ``owner`` (a module): the container that all hang on. ``future``: they hang on callbacks of one.
    """

    type: str
    count: int
    sentence: str
    closure: str = ""
    variable: str = ""
    captured: tuple[str, ...] = ()
    place: str = ""
    holder: str = ""
    attribute: str = ""
    owner: str = ""
    registry: str = ""
    kind: str = ""
    future: bool = False


def holding_of(graph: HeapGraph, group: RetainerGroup, sentence: str) -> Holding:
    """The facts of a group's first object. Raises SnapshotError where nothing known leads to it."""
    tree = path_tree(graph, strong_edges(graph))
    target = group.targets[0]
    if tree.edge[target] < 0:
        raise SnapshotError(f"nothing known holds the {group.target} of this snapshot: there is no path to write down")
    facts: dict[str, object] = {"type": graph.type_name(target), "count": group.count, "sentence": sentence}
    match = _REGISTRY.fullmatch(group.registered_in or "")
    if match is not None:
        facts.update(owner=match["owner"], registry=match["name"], kind=match["kind"].rpartition(".")[2])
    node, below = target, True
    while node and tree.edge[node] >= 0:
        edge, source = int(tree.edge[node]), int(tree.source[node])
        kind, text = graph.edge_kinds[int(graph.edge_kind[edge])], graph.edge_text(edge)
        function = _FUNCTION.fullmatch(graph.type_name(source))
        if kind == "context" and function is not None and "closure" not in facts:
            facts.update(closure=function["name"], variable=text, place=function["place"])
            facts["captured"] = _captured(graph, source)
        if (
            below
            and kind == "property"
            and text.isidentifier()
            and not text.startswith("__")
            and "." in graph.type_name(source)
        ):
            facts.update(holder=graph.type_name(source).rpartition(".")[2], attribute=text)
        if text in FUTURE_EDGES:
            facts["future"] = True
        below = below and graph.type_name(source) == "dict"  # an instance's own dict lies between
        node = source
    return Holding(**facts)  # type: ignore[arg-type]


def _captured(graph: HeapGraph, function: int) -> tuple[str, ...]:
    edges = range(int(graph.edge_start[function]), int(graph.edge_start[function + 1]))
    names = [graph.edge_text(edge) for edge in edges if graph.edge_kinds[int(graph.edge_kind[edge])] == "context"]
    return tuple(dict.fromkeys(name for name in names if name.isidentifier()))
