"""The modules that a snapshot shows as loaded, and the packages that they are of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leakharness.heap.graph import HeapGraph

__all__ = ["by_package", "modules_in"]

MODULE_NODE = re.compile(r"module ([A-Za-z_]\w*(?:\.\w+)*)")
SCRIPT_NODE = re.compile(r"(?:file://)?(/.+\.[cm]?[jt]sx?)")
"""A script of Node: V8 names the node of its code by its file."""
LAST_FOLDER = re.compile(r".*/node_modules/((?:@[^/]+/)?[^/]+)/.*|.*/([^/]+/[^/]+)")


def modules_in(graph: HeapGraph) -> set[str]:
    """The names of Python's modules, or the paths of Node's scripts."""
    import numpy as np

    pattern, nodes = MODULE_NODE, graph.node_name
    if graph.of_v8:
        pattern, nodes = SCRIPT_NODE, nodes[graph.node_kind == graph.node_kinds.index("code")]
    matches = ((number, pattern.fullmatch(graph.strings[number])) for number in np.unique(nodes).tolist())
    return {match.group(1) for _, match in matches if match is not None}


def by_package(modules: Iterable[str]) -> list[tuple[str, int]]:
    """How many modules of each package, most first."""
    packages = Counter(_package_of(name) for name in modules)
    return sorted(packages.items(), key=lambda row: (-row[1], row[0]))


def _package_of(module: str) -> str:
    """The top-level package of a Python module; of a script its npm package, else its folder and file."""
    if not module.startswith("/"):
        return module.partition(".")[0]
    match = LAST_FOLDER.fullmatch(module)
    return (match[1] or match[2].rpartition("/")[0]) if match else module
