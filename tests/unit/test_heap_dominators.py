"""Dominators and retained sizes agree with their definition on random graphs, compiled or not."""

from __future__ import annotations

import numpy as np
import pytest
from heap_graphs import brute_dominators, draw, plain, reach
from hypothesis import given, settings
from hypothesis import strategies as st

from leakharness.heap import dominator_regions
from leakharness.heap import dominators as module
from leakharness.heap.dominators import dominators, retained_sizes
from leakharness.heap.paths import links, reachable


@st.composite
def graphs(draw_from: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Up to 14 nodes, sparse enough for real trees and dense enough for joins and cycles."""
    n = draw_from(st.integers(1, 14))
    node = st.integers(0, n - 1)
    return n, draw_from(st.lists(st.tuples(node, node), max_size=3 * n))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(graphs())
def test_immediate_dominators_are_those_of_the_definition(graph: tuple[int, list[tuple[int, int]]]) -> None:
    """Peeling and Semi-NCA together give what taking away one node at a time gives."""
    n, pairs = graph
    assert dominators(plain(n, pairs)).parent.tolist() == brute_dominators(n, pairs)


@settings(max_examples=500, deadline=None)
@given(graphs())
def test_the_source_given_to_the_compiler_agrees_without_peeling(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    """Semi-NCA alone, on the whole graph, is right too."""
    n, pairs = graph
    whole = plain(n, pairs)
    forward = links(whole, module.strong_edges(whole))
    assert module._core(forward, module._semi_nca).tolist() == brute_dominators(n, pairs)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(graphs(), st.integers(0, 2**31))
def test_retained_size_is_what_would_become_unreachable(graph: tuple[int, list[tuple[int, int]]], seed: int) -> None:
    """The retained size of a node is the sum of what only it keeps reachable."""
    n, pairs = graph
    sizes = np.random.default_rng(seed).integers(0, 1000, n).tolist()
    heap = plain(n, pairs, sizes)
    retained = retained_sizes(heap, dominators(heap)).tolist()
    alive = reach(n, pairs)
    for node in range(n):
        lost = alive - reach(n, pairs, frozenset({node})) if node in alive else set()
        assert retained[node] == sum(sizes[k] for k in lost)


def test_depth_counts_the_dominators_above() -> None:
    """Depth 0 is the root, -1 is unreachable."""
    heap = draw("root -> a -> b -> c\nroot -> b\nlost -> c")
    tree = dominators(heap)
    assert dict(zip(["root", "a", "b", "c", "lost"], tree.depth.tolist(), strict=True)) == {
        "root": 0,
        "a": 1,
        "b": 1,
        "c": 2,
        "lost": -1,
    }


def test_weak_edges_keep_nothing_alive() -> None:
    """A node that only a weak edge reaches has no dominator and retains nothing."""
    heap = draw("root -> cache -weak:w-> entry -> value")
    tree = dominators(heap)
    assert tree.parent.tolist() == [0, 0, -1, -1]
    assert retained_sizes(heap, tree).tolist() == [2, 1, 0, 0]


@pytest.mark.parametrize("n", [3000, 60_000])
def test_a_long_list_is_no_special_case(n: int) -> None:
    """A linked list of any length: each node retains the rest of it."""
    heap = plain(n, [(i, i + 1) for i in range(n - 1)])
    tree = dominators(heap)
    assert tree.parent.tolist() == [0, *range(n - 1)]
    assert retained_sizes(heap, tree).tolist() == list(range(n, 0, -1))
    assert reachable(links(heap, module.strong_edges(heap))).all()


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_has_one_way_in_is_merged_and_the_rest_is_searched(data: st.DataObject) -> None:
    """Objects with parts that point back, lists and what all of them share: as by Semi-NCA alone, also where trees are
    too deep to be climbed and where merging stops early."""
    count = data.draw(st.integers(1, 40))
    pairs = [(0, 1)]
    n = 2
    for number in range(count):  # an object, its closure and scope, which hold it again
        above = data.draw(st.sampled_from([1, *([n - 3] if number else [])]))
        pairs += [(above, n), (n, n + 1), (n + 1, n + 2), (n + 2, n)]
        n += 3
    node = st.integers(1, n - 1)
    pairs += data.draw(st.lists(st.tuples(node, st.sampled_from([2, n - 1, n])), max_size=2 * count))
    pairs += [*data.draw(st.lists(st.tuples(node, node), max_size=4)), (1, n)]
    heap = plain(n + 1, pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dominator_regions, "_DEEP", data.draw(st.sampled_from([0, 2, 64])))
        patch.setattr(dominator_regions, "_LEAST_SHARE", data.draw(st.sampled_from([1, 20, 10_000])))
        forward = links(heap, module.strong_edges(heap))
        live = reachable(forward)
        found = module._peeled(*module._telling(forward, live), live).tolist()
    assert found == module._core(forward, module._semi_nca).tolist()


def test_numba_gives_the_same_tree() -> None:
    """Compiled and plain give identical trees on a larger graph (skipped where numba is missing)."""
    pytest.importorskip("numba")
    random = np.random.default_rng(7)
    heap = plain(3000, list(map(tuple, random.integers(0, 3000, (7000, 2)).tolist())))
    forward = links(heap, module.strong_edges(heap))
    fast = module.compiled(module._semi_nca)
    assert fast is not None
    assert module._core(forward, fast).tolist() == module._core(forward, module._semi_nca).tolist()
    live = reachable(forward)
    assert module._peeled(*module._telling(forward, live), live).tolist() == module._core(forward, fast).tolist()
