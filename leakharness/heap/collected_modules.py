"""Modules of tests: what they show as a global they have mostly imported from where it is defined."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leakharness.heap.graph import HeapGraph

__all__ = ["collected_modules"]

COLLECTOR = "_pytest.python.Module"
COLLECTED_AS = "_obj"
"""The attribute by which a collector holds the module that it has imported (``_pytest.python.PyobjMixin``)."""


def collected_modules(graph: HeapGraph) -> npt.NDArray[np.bool_]:
    """Which nodes are modules that pytest has collected tests from.

    ``from registry import STORE`` makes ``STORE`` a global of both modules, and the heap does not say which of them
    defines it. The module of tests is the first of the two in ``sys.modules``, as its import caused the other's.
    """
    found = np.zeros(graph.node_count, bool)
    if graph.of_v8 or COLLECTOR not in graph.strings or COLLECTED_AS not in graph.strings:
        return found
    named = graph.edge_name == graph.strings.index(COLLECTED_AS)
    kinds = graph.edge_kinds
    if "property" not in kinds:
        return found
    targets = np.unique(graph.edge_to[named & (graph.edge_kind == kinds.index("property"))]).tolist()
    modules = [node for node in targets if graph.strings[int(graph.node_name[node])].startswith("module ")]
    found[modules] = True
    return found
