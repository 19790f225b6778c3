"""Explanations name the edge that holds, group what is held alike, and count what would be freed once."""

from __future__ import annotations

import random

import numpy as np
import pytest
from heap_graphs import build, draw, plain, reach
from hypothesis import given, settings
from hypothesis import strategies as st

from leakharness.heap.dominator_rows import dominator_chain, dominator_rows
from leakharness.heap.dominators import dominators, retained_sizes, strong_edges
from leakharness.heap.graph import HeapGraph
from leakharness.heap.names import Names
from leakharness.heap.path_groups import PathGroups
from leakharness.heap.paths import path_tree
from leakharness.heap.retainers import explain
from leakharness.heap.wording import sentence
from leakharness.measure.evidence import retainers_of


def named(heap: HeapGraph, name: str) -> list[int]:
    """Nodes of a type."""
    return [i for i in range(heap.node_count) if heap.type_name(i) == name]


def wedged(count: int, *, second_way: bool = False) -> HeapGraph:
    """A registry of futures whose callbacks close over transcripts, as the bug this project comes from."""
    names = ["<root>", "module gateway", "dict", "list"]
    edges = [
        (0, "property", "sys.modules['gateway']", 1),
        (1, "internal", "__dict__", 2),
        (2, "property", "PROVIDERS", 3),
    ]
    sizes = [0, 100, 100, 100]
    for i in range(count):
        future, callbacks, done, cell, transcript = range(len(names), len(names) + 5)
        function = "function on_done (scenarios/embedded_run.py:88)"
        names += [f"_asyncio.Future#{i}", f"list#{i + 9}", f"{function}#{i}"]
        names += [f"cell#{i}", f"gateway.Transcript#{i}"]
        sizes += [100, 50, 100, 40, 2_000_000 - 290]
        edges += [
            (3, "element", str(i), future),
            (future, "property", "_callbacks", callbacks),
            (callbacks, "element", "0", done),
            (done, "context", "transcript", cell),
            (cell, "property", "cell_contents", transcript),
        ]
        if second_way:
            edges.append((0, "property", "thread MainThread: run (x.py:1) local 'kept'", transcript))
    return build(names, edges, sizes)


def test_the_held_transcripts_of_a_wedged_provider_read_like_the_bug_report() -> None:
    """Path, fingerprint, sentence and retained bytes of the case the project descends from."""
    heap = wedged(250)
    (group,) = explain(heap, named(heap, "gateway.Transcript"))
    assert group.path == [
        "sys.modules['gateway']",
        "gateway.PROVIDERS (list)[*]",
        "Future._callbacks[0]",
        "on_done (scenarios/embedded_run.py:88) closure cell 'transcript'",
        "Transcript",
    ]
    assert group.fingerprint == (
        "sys.modules['gateway'] -> gateway.PROVIDERS (list)[*] -> _asyncio.Future._callbacks[*]"
        " -> on_done (scenarios/embedded_run.py) closure cell 'transcript' -> gateway.Transcript"
    )
    assert (group.count, group.retained_bytes) == (250, 250 * (2_000_000 - 290))
    assert group.also_held_by == ()
    assert sentence(group) == (
        "250 Transcript (477 MiB retained) are held by closure cell 'transcript' of"
        " on_done (scenarios/embedded_run.py:88), registered in Future._callbacks"
    )


def test_the_edge_to_cut_is_the_cells_content() -> None:
    """Each target has its own edge, and cutting those frees every one."""
    heap = wedged(3)
    (group,) = explain(heap, named(heap, "gateway.Transcript"))
    keep = strong_edges(heap)
    keep[list(group.holding_edges)] = False
    assert len(set(group.holding_edges)) == 3
    assert not reach(heap.node_count, _pairs(heap, keep)) & set(group.targets)


def test_two_independent_ways_are_both_shown() -> None:
    """Cutting the first way frees nothing, and the sentence says so and names the other."""
    heap = wedged(5, second_way=True)
    (group,) = explain(heap, named(heap, "gateway.Transcript"))
    kept = "thread MainThread: run (x.py:1) local 'kept'"
    assert [way.path for way in group.also_held_by] == [[kept, "Transcript"]]
    assert group.also_held_by[0].count == 5
    assert "cutting the first frees nothing" in sentence(group)


def test_modules_go_before_stacks_and_stacks_before_the_unknown() -> None:
    """A longer path from a module is preferred to a local, and a local to what C holds."""
    heap = draw(
        """
        root -property:held by C or unknown-> A
        root -property:thread MainThread: f (x.py:1) local 'a'-> A
        root -property:sys.modules['m']-> module m -property:registry-> list -element:0-> Box
        Box -property:item-> A
        root -property:held by C or unknown-> B
        root -property:thread MainThread: f (x.py:1) local 'b'-> B
        root -property:held by C or unknown-> C
        """
    )
    by_type = {group.target: group.path for group in explain(heap, range(4, heap.node_count))}
    assert by_type["B"] == ["thread MainThread: f (x.py:1) local 'b'", "B"]
    assert by_type["C"] == ["held by C or unknown", "C"]
    (group,) = explain(heap, named(heap, "A"))
    assert group.path == ["sys.modules['m']", "m.registry (list)[0]", "Box.item", "A"]
    assert len(group.also_held_by) == 2


def test_no_chain_is_ever_empty() -> None:
    """What nothing known reaches is held by C or unknown, with the holders that are there."""
    heap = draw("root -> a\nOrphan -property:child-> Lost\nCycle -property:me-> Cycle")
    paths = {group.target: group.path for group in explain(heap, [2, 3, 4])}
    assert paths == {
        "Lost": ["held by C or unknown", "Orphan.child", "Lost"],
        "Orphan": ["held by C or unknown", "Orphan"],
        "Cycle": ["held by C or unknown", "Cycle"],
    }


def test_weak_edges_and_the_harness_are_never_on_a_path() -> None:
    """A weak reference is no retainer; a path through the harness gives way to a longer one."""
    heap = draw(
        """
        root -property:sys.modules['h']-> module h -property:kept-> T
        root -property:sys.modules['w']-> module w -weak:w-> T
        root -property:sys.modules['m']-> module m -property:a-> A -property:b-> B -property:t-> T
        """
    )
    heap.meta["harness_nodes"] = [1]
    (group,) = explain(heap, named(heap, "T"))
    assert group.path == ["sys.modules['m']", "m.a", "A.b", "B.t", "T"]


def test_many_keys_are_one_registry_and_few_stay_apart() -> None:
    """Sessions under a hundred names are one group; two named caches are two."""

    def registry(keys: list[str]) -> HeapGraph:
        names = ["<root>", "module m", "dict"] + [f"Session#{i}" for i in range(len(keys))]
        edges = [(0, "property", "sys.modules['m']", 1), (1, "property", "SESSIONS", 2)]
        edges += [(2, "property", key, 3 + i) for i, key in enumerate(keys)]
        return build(names, edges, [1] * len(names))

    many = registry([f"s{i}" for i in range(100)])
    (group,) = explain(many, named(many, "Session"))
    assert group.path == ["sys.modules['m']", "m.SESSIONS (dict)[*]", "Session"]
    assert group.fingerprint.endswith("m.SESSIONS (dict)[*] -> Session")
    few = registry(["old", "new"])
    assert {g.path[1] for g in explain(few, named(few, "Session"))} == {
        "m.SESSIONS (dict)['old']",
        "m.SESSIONS (dict)['new']",
    }


def test_a_linked_list_is_one_group() -> None:
    """Nodes at any depth of a chain have one fingerprint, and retained bytes count once."""
    heap = build(
        ["<root>", "module m"] + [f"Node#{i}" for i in range(500)],
        [(0, "property", "sys.modules['m']", 1), (1, "property", "head", 2)]
        + [(i, "property", "next", i + 1) for i in range(2, 501)],
        [0, 0] + [10] * 500,
    )
    groups = explain(heap, named(heap, "Node"))
    assert len(groups) <= 2
    assert sum(group.count for group in groups) == 500
    assert groups[0].retained_bytes <= 5000


def test_labels_are_never_mixed() -> None:
    """Objects tracked under different labels are explained apart."""
    heap = wedged(4)
    groups = explain(heap, named(heap, "gateway.Transcript"), ["a", "a", "a", "b"])
    assert {(group.target, group.count) for group in groups} == {("a", 3), ("b", 1)}


def test_instance_dicts_and_frames_read_as_python() -> None:
    """`__dict__` is no step, a coroutine's variable is a local, a redacted key stays redacted."""
    heap = draw(
        """
        root -property:sys.modules['m']-> module m -internal:__dict__-> dict -property:app-> m.App
        m.App -internal:__dict__-> dict#2 -property:tasks-> set -element:0-> _asyncio.Task
        _asyncio.Task -property:_coro-> coroutine run (m.py:7) -property:job-> m.Job
        m.Job -property:by_id-> dict#3 -property:<int>-> m.Row
        """
    )
    (group,) = explain(heap, named(heap, "m.Row"))
    assert group.path == [
        "sys.modules['m']",
        "m.app",
        "App.tasks[0]",
        "Task._coro",
        "coroutine run (m.py:7) local 'job'",
        "Job.by_id[<int>]",
        "Row",
    ]
    assert group.holding_edge == "local 'job' of coroutine run (m.py:7)"
    assert group.registered_in == "Task._coro"


def test_tracebacks_and_frames_read_as_python() -> None:
    """A kept exception holds a local of the frame that raised it, and is named as the place."""
    heap = draw(
        """
        root -property:sys.modules['m']-> module m -property:last-> ValueError
        ValueError -property:__traceback__-> traceback -property:tb_next-> traceback#2
        traceback#2 -property:tb_frame-> frame fail (m.py:9) -context:job-> m.Job
        """
    )
    (group,) = explain(heap, named(heap, "m.Job"))
    assert group.path[-2:] == ["frame fail (m.py:9) local 'job'", "Job"]
    assert sentence(group) == (
        "1 Job (1 B retained) is held by local 'job' of frame fail (m.py:9), registered in ValueError.__traceback__"
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_paths_are_real_shortest_and_avoid_what_is_closed(data: st.DataObject) -> None:
    """With equal edges the path has as many steps as a breadth-first search says, and each step is an
    edge.
    """
    n = data.draw(st.integers(1, 12))
    node = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(node, node), max_size=3 * n))
    barred = data.draw(st.frozensets(st.integers(1, n), max_size=2)) & frozenset(range(1, n))
    heap = plain(n, pairs)
    closed = np.zeros(n, bool)
    closed[list(barred)] = True
    tree = path_tree(heap, strong_edges(heap), closed)
    distance = _distances(n, pairs, barred)
    for target in range(1, n):
        steps = tree.steps(target)
        if target in distance:
            assert len(steps) == distance[target]
            at = 0
            for edge in steps:
                assert heap.edge_start[at] <= edge < heap.edge_start[at + 1]
                at = int(heap.edge_to[edge])
                assert at not in barred
            assert at == target


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_retained_bytes_of_a_group_are_those_of_the_set(data: st.DataObject) -> None:
    """All targets taken away together free exactly the bytes the groups of one type say."""
    n = data.draw(st.integers(2, 12))
    node = st.integers(0, n - 1)
    pairs = [(0, 1), *data.draw(st.lists(st.tuples(node, node), max_size=3 * n))]
    sizes = data.draw(st.lists(st.integers(1, 99), min_size=n, max_size=n))
    heap = plain(n, pairs, sizes)
    for group in explain(heap, range(1, n)):
        alive = reach(n, pairs)
        lost = set(group.targets) - alive
        seeds = [(0, k) for k in lost]
        with_lost = reach(n, [*pairs, *seeds])
        gone = with_lost - reach(n, pairs, frozenset(group.targets))
        assert group.retained_bytes == sum(sizes[k] for k in gone)


def test_dominator_rows_fold_what_is_alike() -> None:
    """Two hundred transcripts below one list are one row with their sum."""
    heap = wedged(200)
    tree = dominators(heap)
    rows = dominator_rows(heap, tree, retained_sizes(heap, tree), levels=6)
    flat, stack = [], list(rows)
    while stack:
        flat.append(stack.pop())
        stack.extend(flat[-1].children)
    assert ("_asyncio.Future", 200, 200 * 2_000_000) in [(r.name, r.count, r.retained_bytes) for r in flat]
    target = named(heap, "gateway.Transcript")[0]
    chain = [heap.type_name(k) for k in dominator_chain(heap, tree, target)]
    assert chain[:3] == ["<root>", "module gateway", "dict"]


def _pairs(heap: HeapGraph, keep: np.ndarray) -> list[tuple[int, int]]:
    source = np.repeat(np.arange(heap.node_count), np.diff(heap.edge_start))
    return list(zip(source[keep].tolist(), heap.edge_to[keep].tolist(), strict=True))


def _distances(n: int, pairs: list[tuple[int, int]], barred: frozenset[int]) -> dict[int, int]:
    distance, frontier = {0: 0}, [0]
    while frontier:
        following = []
        for a in frontier:
            for x, b in pairs:
                if x == a and b not in distance and b not in barred:
                    distance[b] = distance[a] + 1
                    following.append(b)
        frontier = following
    return distance


def test_paths_compared_at_once_make_the_groups_of_paths_compared_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members, order and names, on graphs with several ways, lost nodes and paths beyond the compared steps."""
    for seed in range(200):
        dice = random.Random(seed)
        count = dice.randint(3, 25)
        names = ["root", *(dice.choice(["dict", "list", "A", "B", "cell"]) for _ in range(count - 1))]
        edges = []
        for place in range(dice.randint(count, 3 * count)):
            kind = dice.choice(["property", "element", "internal"])
            name = str(place) if kind == "element" else dice.choice(["x", "y", "__dict__"])
            edges.append((dice.randrange(count), kind, name, dice.randrange(1, count)))
        graph = build([f"{name}#{place}" if place else name for place, name in enumerate(names)], edges, [1] * count)
        tree, nodes = path_tree(graph, strong_edges(graph)), list(range(1, count))
        monkeypatch.setattr("leakharness.heap.path_groups._MANY", 1_000)
        one_by_one = PathGroups(Names(graph), tree).groups(nodes, names[1:])
        monkeypatch.setattr("leakharness.heap.path_groups._MANY", 1)
        monkeypatch.setattr("leakharness.heap.chains._COMPARED", dice.randint(1, 12))
        assert PathGroups(Names(graph), tree).groups(nodes, names[1:]) == one_by_one, seed


def test_what_only_a_cycle_holds_is_told_from_the_cycle() -> None:
    """Wherever in the file the cycle stands: behind what it holds, and with a container first."""
    for text in (
        "payload -> data\ndict -> node -> dict\nnode -> payload",
        "dict -> node -> dict\nnode -> payload -> data",
    ):
        heap = draw("root -> else\n" + text)
        payload = next(node for node in range(heap.node_count) if heap.type_name(node) == "payload")
        path = explain(heap, [payload])[0].path
        assert path[0] == "held by C or unknown"
        assert path[-2].startswith("node"), path
        assert path[-1] == "payload"


def test_what_holds_the_last_of_them_only_is_no_other_way_of_all() -> None:
    """Cutting the list frees all but one: the sentence says so, and no other way is listed."""
    heap = "root -> module m -property:HELD-> list\n" + "\n".join(f"list -element:{i}-> m.Kept#{i}" for i in range(20))
    graph = draw(heap + "\nroot -> m.Item -property:funcargs-> dict -element:0-> m.Kept#19")
    (retainer,) = retainers_of(explain(graph, [n for n in range(graph.node_count) if graph.type_name(n) == "m.Kept"]))
    assert retainer.also == ()
    assert "; 1 of them also by " in retainer.sentence
    assert "frees nothing" not in retainer.sentence
