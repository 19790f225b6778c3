"""Snapshots of several producers, node by node: sizes and dominators as memlab has them, and as DevTools' rule for the
entries of a WeakMap says, computed here in the simplest way.

Slow. Needs node and LEAKHARNESS_NODE_MODULES, a ``node_modules`` folder with ``@memlab/core``; further ones of Node by
LEAKHARNESS_NODES (paths, separated as in PATH), Chromium's with ``playwright-core`` in that folder. A lane of other
files (a vitest run's, say) can be given by LEAKHARNESS_SNAPSHOTS.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_heap_node import memlab

from leakharness.heap import v8
from leakharness.heap.dominators import dominators, retained_sizes
from leakharness.heap.graph import HeapGraph

HERE = Path(__file__).parent
MODULES = Path(os.environ.get("LEAKHARNESS_NODE_MODULES", "") or "/nonexistent")
NODE = shutil.which("node") or ""
FURTHER = [path for path in os.environ.get("LEAKHARNESS_NODES", "").split(os.pathsep) if path]
CHROMIUM = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), "")
GIVEN = sorted(Path(os.environ.get("LEAKHARNESS_SNAPSHOTS", "") or "/nonexistent").glob("*.heapsnapshot"))
PAIR = re.compile(r"\d+ / part of key \(.*? @\d+\) -> value \(.*? @\d+\) pair in WeakMap \(table @(\d+)\)")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not NODE or not (MODULES / "@memlab" / "core").is_dir(),
        reason="LEAKHARNESS_NODE_MODULES names no folder with @memlab/core",
    ),
]


@pytest.mark.parametrize("kind", ["stores", "numbers", "tracked", "worker"])
def test_node_is_read_as_memlab_and_devtools_read_it(tmp_path: Path, kind: str) -> None:
    all_agree(made(tmp_path, NODE, kind), weak_entries=500)


@pytest.mark.skipif(not FURTHER, reason="LEAKHARNESS_NODES names no further node")
@pytest.mark.parametrize("node", FURTHER or [""])
@pytest.mark.parametrize("kind", ["stores", "tracked"])
def test_other_versions_of_node_as_well(tmp_path: Path, node: str, kind: str) -> None:
    all_agree(made(tmp_path, node, kind), weak_entries=500)


@pytest.mark.skipif(not CHROMIUM or not (MODULES / "playwright-core").is_dir(), reason="no Chromium to drive")
@pytest.mark.parametrize("kind", ["chrome", "chrome-tracked"])
def test_chromium_as_well(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path, NODE, kind)
    all_agree(path, weak_entries=500)
    assert v8.info(path).detached == (100, v8.info(path).detached[1])  # type: ignore[index]


@pytest.mark.skipif(not GIVEN, reason="LEAKHARNESS_SNAPSHOTS names no folder with snapshots")
@pytest.mark.parametrize("path", GIVEN, ids=lambda path: path.name)
def test_files_that_are_given_as_well(path: Path) -> None:
    all_agree(path, weak_entries=0)


def made(folder: Path, node: str, kind: str) -> Path:
    path = folder / f"{kind}.heapsnapshot"
    environment = {**os.environ, "CHROMIUM": CHROMIUM}
    command = [node, str(HERE / "heap_producers.js"), kind, str(path)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    return path


def all_agree(path: Path, *, weak_entries: int) -> None:
    graph = v8.read(path)
    as_by_memlab(path, graph)
    as_by_devtools_rule(graph, weak_entries)
    packed = path.with_name("packed.heapsnapshot.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert np.array_equal(v8.read(packed).edge_to, graph.edge_to)
    packed.unlink()


def as_by_memlab(path: Path, graph: HeapGraph) -> None:
    """Name, size, dominator and retained size of every node that is reached. The root is left out: memlab hangs what
    is not reached below it."""
    tree = dominators(graph, ephemerons="both")
    retained = retained_sizes(graph, tree)
    reached = np.flatnonzero(tree.parent >= 0)[1:]
    answer = memlab(path, graph.node_id[reached].tolist())
    assert answer["nodes"] == graph.node_count
    columns = (graph.node_id[reached], graph.self_size[reached], graph.node_id[tree.parent[reached]], retained[reached])
    theirs = [[row[place] for row in answer["rows"]] for place in (0, 2, 3, 4)]
    for ours, other in zip(columns, theirs, strict=True):
        assert ours.tolist() == other
    names = [row[1].removeprefix("Detached ") for row in answer["rows"]]  # which the column says, where it is there
    assert [graph.type_name(node).removeprefix("Detached ") for node in reached.tolist()] == names


def as_by_devtools_rule(graph: HeapGraph, weak_entries: int) -> None:
    successors, left_out = followed(graph)
    assert left_out >= weak_entries
    parent = naive_dominators(successors)
    retained = graph.self_size.tolist()
    for node in reversed(list(parent)):
        if node:
            retained[parent[node]] += retained[node]
    tree = dominators(graph)
    ours = retained_sizes(graph, tree)
    assert set(np.flatnonzero(tree.parent >= 0).tolist()) == set(parent)
    assert {node: int(tree.parent[node]) for node in parent} == parent
    assert {node: int(ours[node]) for node in parent} == {node: retained[node] for node in parent}


def followed(graph: HeapGraph) -> tuple[list[list[int]], int]:
    """The targets of each node by edges that hold, and how many of WeakMaps' tables were left out: by DevTools' rule,
    those named as a pair in the table that they start from."""
    kinds = [graph.edge_kinds[kind] for kind in graph.edge_kind.tolist()]
    names, targets, start = graph.edge_name.tolist(), graph.edge_to.tolist(), graph.edge_start.tolist()
    found, left_out = list[list[int]](), 0
    for node in range(graph.node_count):
        held = []
        for edge in range(start[node], start[node + 1]):
            kind = kinds[edge]
            if kind == "weak" or (kind == "shortcut" and node):
                continue
            if kind == "internal":
                pair = PAIR.fullmatch(graph.strings[names[edge]])
                if pair and int(pair[1]) == int(graph.node_id[node]):
                    left_out += 1
                    continue
            held.append(targets[edge])
        found.append(held)
    return found, left_out


def naive_dominators(successors: list[list[int]]) -> dict[int, int]:
    """By the two lines of the definition, again and again until nothing changes: a node's dominator is the nearest
    that all of its predecessors have in common. In an order in which a node comes behind its dominator."""
    order, place = list[int](), {0: 0}
    todo = [(0, iter(successors[0]))]
    while todo:  # depth first; `order` ends up as the reverse of the order in which nodes are left
        node, rest = todo[-1]
        child = next((one for one in rest if one not in place), None)
        if child is None:
            order.append(node)
            todo.pop()
        else:
            place[child] = 0
            todo.append((child, iter(successors[child])))
    order.reverse()
    place = {node: number for number, node in enumerate(order)}
    before: dict[int, list[int]] = {node: [] for node in order}
    for node in order:
        for child in successors[node]:
            before[child].append(node)
    parent, changed = {0: 0}, True
    while changed:
        changed = False
        for node in order[1:]:
            known = [one for one in before[node] if one in parent]
            nearest = known[0]
            for other in known[1:]:
                while nearest != other:
                    if place[nearest] > place[other]:
                        nearest = parent[nearest]
                    else:
                        other = parent[other]
            if parent.get(node) != nearest:
                parent[node], changed = nearest, True
    return {node: parent[node] for node in order}
