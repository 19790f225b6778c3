"""What came with the definition of a class, a function or code in a heap of ours: docstrings, constants, bases,
annotations. Each has a path of its own, and thousands of them say one thing: modules were imported."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from leakharness.heap.names import Names
from leakharness.heap.paths import PathTree

__all__ = ["DEFINITIONS", "DEFINITION_OWNER", "definition_kind", "parts_of_definitions"]

Ints = npt.NDArray[np.int64]

DEFINITIONS = "(classes, functions and code)"
DEFINITION_OWNER = "type (any)"
_DEFINITION = re.compile(r"(code|module) |(?:(type|function) )(?!.*<locals>)", re.DOTALL)
_DEFINED = re.compile(r"(type|function|code) (?!.*<locals>)", re.DOTALL)
_FIXED = ("tuple", "frozenset")  # what is in such came with it
_TABLES = ("__dict__", "__annotations__", "__kwdefaults__")
_DEEPEST = 6  # steps: a constant in a tuple of constants, in one of code, in one of a function


def definition_kind(name: str) -> str:
    """``type``, ``function``, ``code`` or ``module`` where a node of that name is one that has a name of its own as it
    was written; empty for others, and for what was defined while the program ran (``<locals>``)."""
    match = _DEFINITION.match(name)
    return (match[1] or match[2]) if match else ""


def parts_of_definitions(names: Names, tree: PathTree, nodes: Ints) -> npt.NDArray[np.bool_]:
    """Which of ``nodes`` a class, a function or code has as an attribute or a constant, by their retainer paths. An
    entry of a list or a dict that a class has is none: it may have come later."""
    graph = names.graph
    defined = np.array([bool(_DEFINED.match(text)) for text in graph.strings], bool)[graph.node_name]
    fixed = np.isin(graph.node_name, [number for number, text in enumerate(graph.strings) if text in _FIXED])
    named = np.isin(graph.edge_name, [number for number, text in enumerate(graph.strings) if text in _TABLES])
    positions = [graph.edge_kinds.index(kind) for kind in ("element", "hidden") if kind in graph.edge_kinds]
    table = named & ~np.isin(graph.edge_kind, positions)
    parts = np.zeros(len(nodes), bool)
    places = np.arange(len(nodes))
    above = tree.source[nodes]
    for _ in range(_DEEPEST):
        inside = above > 0
        places, above = places[inside], above[inside]
        found = defined[above]
        parts[places[found]] = True
        entered = tree.edge[above]
        going = ~found & (entered >= 0) & (fixed[above] | table[np.maximum(entered, 0)])
        places, above = places[going], tree.source[above[going]]
    return parts
