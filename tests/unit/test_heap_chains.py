"""Linked structures: one group each, and no time that grows with the square of their length."""

from __future__ import annotations

import time

import numpy as np
import pytest

from leakharness.heap.dominators import strong_edges
from leakharness.heap.graph import HeapGraph
from leakharness.heap.paths import depths, path_tree, sums_upwards
from leakharness.heap.retainers import entry_edges, explain
from leakharness.heap.wording import sentence

from heap_graphs import build, draw  # isort: skip


def chain(n: int, *, back: bool = False, payload: bool = False) -> HeapGraph:
    """A module's list of ``n`` nodes; ``back``: each knows the one before; ``payload``: the last holds one."""
    names = ["(root)", "module m", *(f"Node#{i}" for i in range(n))]
    edges = [(0, "property", "sys.modules['m']", 1), (1, "property", "head", 2)]
    edges += [(i + 2, "property", "next", i + 3) for i in range(n - 1)]
    if back:
        edges += [(i + 3, "property", "prev", i + 2) for i in range(n - 1)]
    if payload:
        names.append("Payload")
        edges.append((n + 1, "property", "value", n + 2))
    return build(names, edges, [16] * len(names))


@pytest.mark.parametrize("back", [False, True])
def test_a_list_is_one_chain_held_by_what_holds_its_head(back: bool) -> None:
    heap = chain(1_000, back=back)
    (group,) = explain(heap, range(2, heap.node_count))
    assert sentence(group) == "a chain of 1,000 Node by next (15.6 KiB retained) is held by m.head"
    assert (group.count, group.heads, group.links, group.also_held_by) == (1_000, 1, ("next",), ())
    assert [heap.edge_text(edge) for edge in group.holding_edges] == ["head"]


def test_a_tree_of_objects_is_one_group() -> None:
    names = ["(root)", "module m", *(f"Node#{i}" for i in range(500))]
    edges = [(0, "property", "sys.modules['m']", 1), (1, "property", "top", 2)]
    edges += [((i - 1) // 2 + 2, "property", "left" if i % 2 else "right", i + 2) for i in range(1, 500)]
    (group,) = explain(build(names, edges, [1] * 502), range(2, 502))
    assert (group.count, group.heads, group.links) == (500, 1, ("left", "right"))


def test_several_lists_in_one_registry_are_one_group_of_chains() -> None:
    lines = ["root -sys.modules['m']-> module m -LISTS-> list"]
    lines += [f"list -element:{i}-> Node#{i} -next-> Node#{i}1 -next-> Node#{i}2" for i in range(2, 7)]
    heap = draw("\n".join(lines))
    (group,) = explain(heap, [i for i in range(heap.node_count) if heap.type_name(i) == "Node"])
    assert (group.count, group.heads, group.links) == (15, 5, ("next",))
    assert sentence(group).startswith("15 Node in 5 chains by next (15 B retained) are held by")


def test_a_second_holder_in_the_middle_of_a_list_is_found() -> None:
    heap = draw(
        """root -sys.modules['m']-> module m -head-> Node#1 -next-> Node#2 -next-> Node#3 -next-> Node#4
        module m -other-> dict -['k']-> Box -kept-> Node#3"""
    )
    (group,) = explain(heap, [i for i in range(heap.node_count) if heap.type_name(i) == "Node"])
    assert group.count == 4
    assert [(way.count, way.path[-2]) for way in group.also_held_by] == [(2, "Box.kept")]


def test_what_hangs_at_the_end_of_a_list_has_a_short_path_and_one_fingerprint() -> None:
    found = []
    for n in (400, 3_000):
        heap = chain(n, payload=True)
        (group,) = explain(heap, [heap.node_count - 1])
        found.append(group.fingerprint)
        assert len(group.path) < 12
        assert f"… {n - 3} more …" in group.path
        assert group.holding_edge == "Node.value"
    assert found[0] == found[1]


@pytest.mark.parametrize("back", [False, True])
def test_a_long_list_takes_no_time_of_its_square(back: bool) -> None:
    heap = chain(100_000, back=back)
    began = time.process_time()
    (group,) = explain(heap, range(2, heap.node_count))
    entries = entry_edges(heap, list(range(2, heap.node_count)))
    assert group.links == ("next",)
    assert len(entries) == 100_000
    assert time.process_time() - began < 20, "2 s where it is measured; the square of it would be hours"


def test_many_objects_of_one_array_take_no_time_of_their_square() -> None:
    n = 50_000
    names = ["(root)", "module m", "list", *(f"Item#{i}" for i in range(n))]
    edges = [(0, "property", "sys.modules['m']", 1), (1, "property", "ITEMS", 2)]
    heap = build(names, edges + [(2, "element", str(i), i + 3) for i in range(n)], [1] * (n + 3))
    began = time.process_time()
    (group,) = explain(heap, range(3, n + 3))
    assert (group.count, group.also_held_by, len(group.holding_edges)) == (n, (), n)
    assert time.process_time() - began < 10


def test_the_entry_of_a_target_is_the_first_edge_that_is_its_own() -> None:
    heap = draw(
        "root -sys.modules['m']-> module m -REG-> list -element:0-> Box#1 -v-> T#1\nlist -element:1-> T#2 -n-> T#3"
    )
    nodes = {f"{heap.type_name(i)}{n}": i for n, i in enumerate(range(heap.node_count))}
    targets = [i for i in range(heap.node_count) if heap.type_name(i) == "T"]
    texts = [heap.edge_text(edge) for edge in entry_edges(heap, targets)]
    assert texts == ["0", "1", "n"], nodes
    assert [heap.edge_text(edge) for edge in entry_edges(heap, targets[:1])] == ["v"]


def test_depths_and_sums_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(7)
    for n in (1, 2, 50, 400):
        parent = np.array([-1, *(int(rng.integers(-1, i)) for i in range(1, n))], np.int64)
        plain = [0] * n
        for node in range(n):
            plain[node] = 0 if parent[node] < 0 else plain[parent[node]] + 1
        assert depths(parent).tolist() == plain
        values = rng.integers(0, 9, n)
        sums = values.tolist()
        for node in reversed(range(n)):
            if parent[node] >= 0:
                sums[parent[node]] += sums[node]
        assert sums_upwards(values, parent, depths(parent)).tolist() == sums


def test_a_path_that_is_deep_and_wide_is_the_cheapest_one() -> None:
    """The plain loop and the arrays of the search give the same tree: the first edge of the file among equals."""
    lines = ["root -sys.modules['m']-> module m -a-> A -n-> B#0"]
    lines += [f"A -n-> B#{i} -n-> C#{i % 7} -n-> D" for i in range(60)]
    heap = draw("\n".join(lines))
    tree = path_tree(heap, strong_edges(heap))
    for node in range(1, heap.node_count):
        entering = [e for e in range(heap.edge_count) if int(heap.edge_to[e]) == node]
        nearest = min(tree.depth[heap.edge_source(e)] for e in entering)
        first = min(e for e in entering if tree.depth[heap.edge_source(e)] == nearest)
        assert int(tree.edge[node]) == first
