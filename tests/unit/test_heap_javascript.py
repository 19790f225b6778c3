"""JavaScript's everyday leaks: one owner for a store, one way for a reference that V8 writes twice, DevTools' rule for
the entries of a WeakMap."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakharness.heap import path_groups, v8
from leakharness.heap.classify import classify_path
from leakharness.heap.diff import SnapshotDiff, diff
from leakharness.heap.dominators import dominators, retained_sizes, strong_edges
from leakharness.heap.graph import HeapGraph
from leakharness.heap.retainers import RetainerGroup, explain
from leakharness.heap.v8_objects import objects_of, size_owners
from leakharness.heap.wording import sentence

from v8_files import V8File  # isort: skip


def held_in_a_map(n: int, *, size: int = 1000) -> V8File:
    file = V8File()
    table = file.held(
        file.held(file.top(), "property", "CACHE", "object", "Map", 32), "internal", "table", "array", "", 8
    )
    for i in range(n):
        file.held(table, "internal", str(3 * i + 2), "object", "Entry", size)
    return file


def held_in_an_array(n: int) -> V8File:
    file = V8File()
    array = file.held(file.top(), "property", "leaks", "object", "Array")
    elements = file.held(array, "internal", "elements", "array", "(object elements)", 4000)
    for i in range(n):
        item = file.held(array, "element", i, "object", "Leak", 100)
        file.edge(elements, item, "internal", str(i))
    return file


def held_in_a_dictionary(n: int) -> V8File:
    file = V8File()
    by_id = file.held(file.top(), "property", "byId", "object", "Object")
    properties = file.held(by_id, "internal", "properties", "array", "(object properties)", 16 * n)
    for i in range(n):
        item = file.held(by_id, "property", f"id{i}", "object", "Rec", 1000)
        file.edge(properties, item, "internal", str(3 * i + 7))
    return file


def add_ephemeron(file: V8File, table: int, key: int, value: int, place: int) -> None:
    pair = f"part of key (K @{file.id(key)}) -> value (V @{file.id(value)}) pair in WeakMap (table @{file.id(table)})"
    file.edge(table, key, "weak", str(2 * place))
    file.edge(table, value, "internal", f"{2 * place + 1} / {pair}")
    file.edge(key, value, "internal", f"{place + 1} / {pair}")


def held_in_a_weak_map(n: int) -> V8File:
    file = V8File()
    top = file.top()
    registry = file.held(top, "property", "registry", "object", "Array")
    weak_map = file.held(top, "property", "priv", "object", "WeakMap", 24)
    table = file.held(weak_map, "internal", "table", "array", "(internal array)", 100)
    for i in range(n):
        session = file.held(registry, "element", i, "object", "Session", 50)
        add_ephemeron(file, table, session, file.node("object", "PrivateData", 2000), i)
    return file


def named(graph: HeapGraph, name: str) -> list[int]:
    numbers = [number for number, text in enumerate(graph.strings) if text == name]
    return np.flatnonzero(np.isin(graph.node_name, numbers)).tolist()


def groups_of(tmp_path: Path, file: V8File, name: str) -> tuple[HeapGraph, list[RetainerGroup]]:
    graph = v8.read(file.write(tmp_path / "a.heapsnapshot"))
    return graph, explain(graph, named(graph, name))


@pytest.mark.parametrize(
    ("file", "name", "said"),
    [
        (held_in_a_map(500), "Entry", "500 Entry (488 KiB retained) are held by global.CACHE (Map)"),
        (held_in_an_array(500), "Leak", "500 Leak (48.8 KiB retained) are held by global.leaks (Array)"),
        (held_in_a_dictionary(500), "Rec", "500 Rec (488 KiB retained) are held by global.byId (Object)"),
        (
            held_in_a_weak_map(100),
            "PrivateData",
            "100 PrivateData (195 KiB retained) are held by Session value in WeakMap, registered in "
            "global.registry (Array)",
        ),
    ],
)
def test_the_entries_of_a_store_are_one_group_with_one_holder(
    tmp_path: Path, file: V8File, name: str, said: str
) -> None:
    _, (group,) = groups_of(tmp_path, file, name)
    assert sentence(group) == said
    assert group.also_held_by == ()
    assert group.path[0] == "global"


def test_an_array_that_shares_its_elements_has_no_edge_twice(tmp_path: Path) -> None:
    """Elements of a literal are shared until one is written: then each array is a way of its own."""
    file = held_in_an_array(3)
    file.edge(file.held(1, "element", 9, "object", "Array"), 4, "internal", "elements")
    graph, (group,) = groups_of(tmp_path, file, "Leak")
    objects = objects_of(graph)
    assert objects is not None
    assert [graph.edge_text(edge) for edge in np.flatnonzero(objects.repeated)] == ["elements"]
    assert [way.count for way in group.also_held_by] == [3]


def test_a_store_that_something_else_points_to_is_no_second_way_through_its_owner(tmp_path: Path) -> None:
    file = held_in_an_array(3)
    file.edge(file.held(1, "element", 9, "synthetic", "(Relocatable)"), 4, "weak", "0")
    _, (group,) = groups_of(tmp_path, file, "Leak")
    assert group.also_held_by == ()


def test_the_entries_of_a_map_under_iteration_are_the_maps(tmp_path: Path) -> None:
    file = held_in_a_map(5)
    file.edge(3, 3, "property", "__proto__")
    file.edge(file.held(2, "property", "it", "object", "Map Iterator"), 4, "internal", "table")
    _, (group,) = groups_of(tmp_path, file, "Entry")
    assert group.holding_edge == "global.CACHE (Map)"
    assert group.also_held_by == ()  # both ways end with the same entries of the table


def test_a_global_is_one_slot_though_v8_writes_it_as_a_cell_too(tmp_path: Path) -> None:
    file = V8File()
    top = file.top()
    item = file.held(top, "property", "head", "object", "Item")
    properties = file.held(top, "internal", "properties", "array", "(object properties)")
    cell = file.held(properties, "internal", "77", "hidden", "system / PropertyCell")
    file.edge(cell, item, "internal", "value")
    file.edge(file.held(1, "element", 3, "code", "system / FeedbackVector"), cell, "internal", "5")
    _, (group,) = groups_of(tmp_path, file, "Item")
    assert sentence(group) == "1 Item (16 B retained) is held by global.head"


def test_a_closure_says_which_variable_of_it_holds(tmp_path: Path) -> None:
    file = V8File()
    get = file.held(file.top(), "property", "get", "closure", "get")
    outer = file.held(
        file.held(get, "internal", "context", "object", "system / Context"),
        "internal",
        "previous",
        "object",
        "system / Context",
    )
    cache = file.held(outer, "context", "cache", "object", "Map")
    table = file.held(cache, "internal", "table", "array", "")
    for i in range(9):
        file.held(table, "internal", str(i), "object", "Entry")
    _, (group,) = groups_of(tmp_path, file, "Entry")
    assert group.path == ["global", "global.get", "get context 'cache' (Map)[*]", "Entry"]
    assert group.holding_edge == "context 'cache' of get (Map)"


def test_few_named_properties_stay_apart_and_many_are_entries(tmp_path: Path) -> None:
    for n, groups in ((24, 24), (40, 1)):  # MANY_KEYS lies between
        _, found = groups_of(tmp_path, held_in_a_dictionary(n), "Rec")
        assert len(found) == groups


def test_who_holds_some_of_them_too_is_no_reason_to_say_that_a_cut_frees_nothing(tmp_path: Path) -> None:
    file = held_in_an_array(5)
    stack = file.held(1, "element", 7, "synthetic", "(Stack roots)")
    file.edge(stack, len(file.nodes) - 2, "internal", "31")
    _, (group,) = groups_of(tmp_path, file, "Leak")
    assert sentence(group).endswith("are held by global.leaks (Array); 1 of them also by (Stack roots)")


def test_a_key_retains_its_value_and_the_table_does_not(tmp_path: Path) -> None:
    graph = v8.read(held_in_a_weak_map(10).write(tmp_path / "a.heapsnapshot"))
    sizes = {"key": (2050, 124), "both": (50, 124)}
    for rule, (session, weak_map) in sizes.items():
        retained = retained_sizes(graph, dominators(graph, ephemerons=rule))
        assert {int(retained[node]) for node in named(graph, "Session")} == {session}
        assert {int(retained[node]) for node in named(graph, "WeakMap")} == {weak_map}


def naive_dominated(graph: HeapGraph, node: int, skipped: set[int]) -> int:
    """Bytes that are lost with ``node``: by definition, edge after edge."""

    strong = np.ones(graph.edge_count, bool)
    strong[list(skipped)] = False
    strong &= graph.edge_kind != graph.edge_kinds.index("weak")

    def alive(without: int) -> set[int]:
        seen, todo = {0} - {without}, [0] if without else []
        while todo:
            here = todo.pop()
            edges = range(int(graph.edge_start[here]), int(graph.edge_start[here + 1]))
            fresh = {int(graph.edge_to[edge]) for edge in edges if strong[edge]} - seen - {without}
            seen |= fresh
            todo += fresh
        return seen

    return int(sum(graph.self_size[n] for n in alive(-1) - alive(node)))


def naive_table_edges(graph: HeapGraph) -> set[int]:
    """Edges that DevTools leaves out: named as a pair, and from the node whose id the name gives as the table."""
    found = set()
    for node in range(graph.node_count):
        for edge in range(int(graph.edge_start[node]), int(graph.edge_start[node + 1])):
            text = graph.edge_text(edge)
            if graph.edge_kinds[graph.edge_kind[edge]] == "internal" and text.endswith(
                f" pair in WeakMap (table @{int(graph.node_id[node])})"
            ):
                found.add(edge)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_retained_sizes_follow_devtools_where_weak_maps_hold(tmp_path: Path, seed: int) -> None:
    """Any heap with WeakMaps: keys held here and there, values that hold keys, one key in two maps."""
    rng = random.Random(seed)
    file = V8File()
    top = file.top()
    nodes = [top] + [file.held(top, "property", f"p{i}", "object", f"O{i}", rng.randint(1, 99)) for i in range(4)]
    nodes += [file.node("object", "X", rng.randint(1, 99)) for _ in range(10)]
    for _ in range(22):
        file.edge(rng.choice(nodes), rng.choice(nodes), "property", f"q{rng.randint(0, 99)}")
    for _ in range(2):
        weak_map = file.held(rng.choice(nodes), "property", "wm", "object", "WeakMap")
        table = file.held(weak_map, "internal", "table", "array", "", 64)
        for place in range(5):
            add_ephemeron(file, table, rng.choice(nodes), rng.choice(nodes), place)
    graph = v8.read(file.write(tmp_path / "a.heapsnapshot"))
    retained = retained_sizes(graph, dominators(graph))
    table_edges = naive_table_edges(graph)
    assert len(table_edges) == 10
    assert set(np.flatnonzero(~strong_edges(graph)).tolist()) >= table_edges
    assert [int(size) for size in retained] == [naive_dominated(graph, n, table_edges) for n in range(graph.node_count)]


def test_a_store_counts_for_its_only_owner(tmp_path: Path) -> None:
    file = held_in_an_array(2)
    shared = file.held(4, "internal", "9", "array", "shared", 500)
    graph = v8.read(file.write(tmp_path / "a.heapsnapshot"))
    assert size_owners(graph)[[4, shared]].tolist() == [3, 3]
    file.edge(2, shared, "property", "too")
    lone = file.held(1, "element", 5, "array", "of a root", 7)
    graph = v8.read(file.write(tmp_path / "a.heapsnapshot"))
    assert size_owners(graph)[[4, shared, lone]].tolist() == [3, shared, lone]


def grown(tmp_path: Path, before: V8File, after: V8File, **options: Any) -> SnapshotDiff:
    files = before.write(tmp_path / "before.heapsnapshot"), after.write(tmp_path / "after.heapsnapshot")
    return diff(*files, **options)


def unique_strings(n: int) -> V8File:
    file = V8File()
    log = file.held(file.top(), "property", "log", "object", "Array")
    for i in range(n):
        file.held(log, "element", i, "string", f"line {i} {'y' * 20}", 1000)
    return file


@pytest.mark.parametrize(
    ("by", "name"), [("name", "(string)"), ("path", "global -> global.log (Array)[*] -> (string)")]
)
def test_strings_are_one_family_whatever_they_say(tmp_path: Path, by: str, name: str) -> None:
    found = grown(tmp_path, unique_strings(0), unique_strings(2000), by=by)
    (row,) = found.rows
    assert (row.type, row.name, row.size_delta, row.count_delta) == ("string", name, 2_000_000, 2000)
    assert found.growth.explained == 1


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (held_in_a_map, "global -> global.CACHE (Map)[*] -> Entry"),
        (held_in_an_array, "global -> global.leaks (Array)[*] -> Leak"),
        (held_in_a_dictionary, "global -> global.byId (Object)[*] -> Rec"),
    ],
)
def test_what_a_store_gained_is_one_row_by_path(tmp_path: Path, make: Callable[[int], V8File], path: str) -> None:
    found = grown(tmp_path, make(40), make(540), by="path", min_kb=16)
    (row,) = found.rows
    assert (row.name, row.count_delta, row.classification.kind) == (path, 500, "runtime-objects")


def test_a_store_is_told_as_its_owner_and_the_file_as_it_is_with_raw(tmp_path: Path) -> None:
    def session(size: int) -> V8File:
        file = V8File()
        elements = file.held(
            file.held(file.top(), "property", "s", "object", "Session"), "internal", "elements", "array", ""
        )
        file.nodes[elements][3] = size
        return file

    found = grown(tmp_path, session(16), session(4 << 20))
    assert [(row.type, row.name) for row in found.rows] == [("object", "Session")]
    found = grown(tmp_path, session(16), session(4 << 20), raw=True)
    assert [(row.type, row.name) for row in found.rows] == [("array", "")]


def reached_by(root: str, n: int) -> V8File:
    file = V8File()
    held = file.held(file.held(1, "element", 7, "synthetic", "(Stack roots)"), "internal", root, "object", "Array")
    for i in range(n):
        file.held(held, "element", i, "object", "Entry", 100)
    return file


def test_the_same_objects_by_another_way_are_no_growth(tmp_path: Path) -> None:
    """2,000 entries below ``(Stack roots).1`` and then, with 1,000 more, below a global: 1,000 came."""
    after = reached_by("1", 3000)
    after.edges[0].append(after.edges[0][0])
    after.edges[0][0] = (after.edges[0][0][0], 99, 3)
    found = grown(tmp_path, reached_by("1", 2000), after, by="path")
    (row,) = found.rows
    assert (row.count_delta, row.size_delta, row.born, row.gone) == (1000, 100_000, 1000, 0)


def test_what_the_filter_leaves_out_is_told_and_no_conclusion_is_drawn_from_the_rest(tmp_path: Path) -> None:
    def heap(n: int) -> V8File:
        file = held_in_an_array(n)
        for i in range(n):
            file.held(2, "property", f"p{i}", "object", f"kind{i}", 900)
        return file

    found = grown(tmp_path, heap(0), heap(1000))
    assert [row.name for row in found.rows] == ["Leak"]
    assert (found.growth.grown, found.growth.left_out, found.growth.rows_left_out) == (1_000_000, 900_000, 1000)
    assert (found.kind, found.evidence) == ("ambiguous", "withheld: the rows explain 10% of what grew")
    assert found.document()["growth"]["explained"] == 0.1


def test_rows_are_ranked_by_what_they_retain(tmp_path: Path) -> None:
    def heap(n: int) -> V8File:
        file = V8File()
        top = file.top()
        for i in range(n):
            box = file.held(top, "property", f"b{i}", "object", "Box", 1000)
            file.held(file.held(box, "property", "in", "object", "Box", 1000), "property", "v", "object", "Value", 9000)
        return file

    found = grown(tmp_path, heap(1), heap(101), rank="retained")
    assert [(row.name, row.size_delta, row.retained_delta) for row in found.rows] == [
        ("Box", 200_000, 1_100_000),
        ("Value", 900_000, 900_000),
    ]


@pytest.mark.parametrize(
    ("kind", "name", "path", "expected"),
    [
        (
            "object",
            "system / Context",
            ["global", "global.leak (Array)[*]", "(closure).context", "C"],
            "runtime-objects",
        ),
        ("array", "(object properties)", ["global", "global.x", "P"], "ambiguous"),
        (
            "object",
            "Object",
            ["a", "Loader.moduleCache (Map)[*]", "Object.exports", "exports.CONFIG", "O"],
            "module-graph",
        ),
        (
            "object",
            "Object",
            ["a", "Loader.moduleCache (Map)[*]", "exports.REGISTRY (Array)[*]", "O"],
            "runtime-objects",
        ),
        ("closure", "helper", ["a", "Loader.moduleCache (Map)[*]", "exports.helper", "h"], "module-graph"),
        (
            "closure",
            "",
            ["global", "global.bus", "EventEmitter._events", "Object.x (Array)[*]", "f"],
            "runtime-objects",
        ),
        ("closure", "inner", ["global", "global.f", "f context 'inner'", "inner"], "ambiguous"),
    ],
)
def test_a_path_of_javascript_has_the_class_of_what_holds_it(
    kind: str, name: str, path: list[str], expected: str
) -> None:
    assert classify_path(kind, name, path).kind == expected


def test_small_rows_that_have_a_class_count_for_it(tmp_path: Path) -> None:
    """A module graph is thousands of small families: code, shapes and sources that no single row shows."""

    def heap(n: int) -> V8File:
        file = V8File()
        top = file.top()
        for i in range(n):
            file.held(top, "element", i, "object", f"system / ScopeInfo{i}", 900)
        return file

    found = grown(tmp_path, heap(0), heap(1000))
    assert found.rows == ()
    assert (found.kind, found.growth.left_by_class) == ("module-graph", (("module-graph", 900_000),))


def test_closures_of_one_holder_are_one_row_whatever_they_are_called(tmp_path: Path) -> None:
    def heap(n: int) -> V8File:
        file = V8File()
        exports = file.held(file.top(), "property", "api", "object", "Module")
        for i in range(n):
            file.held(exports, "property", f"f{i}", "closure", f"f{i}", 1000)
        return file

    (row,) = grown(tmp_path, heap(0), heap(400), by="path").rows
    assert (row.name, row.count_delta, row.classification.kind) == (
        "global -> global.api -> Module[*] -> (closure)",
        400,
        "module-graph",
    )


def test_what_v8s_lists_of_roots_hold_is_in_no_store_of_the_program(tmp_path: Path) -> None:
    path = ["(GC roots)", "(GC roots)[1]", "(Internalized strings)[*]", "(string)"]
    assert classify_path("string", "(string)", path).kind == "ambiguous"


def module_graph(n: int) -> V8File:
    """``n`` modules in a loader's cache, each with a function, its script and its source."""
    file = V8File()
    cache = file.held(file.top(), "property", "moduleCache", "object", "Map")
    table = file.held(cache, "internal", "table", "array", "")
    internalized = file.held(1, "element", 1, "synthetic", "(Internalized strings)", 0)
    for i in range(n):
        key = file.held(table, "internal", str(3 * i + 5), "string", f"/src/m{i}.js", 32)
        exports = file.held(table, "internal", str(3 * i + 6), "object", "Module", 64)
        function = file.held(exports, "property", "run", "closure", "run", 64)
        script = file.held(
            file.held(function, "internal", "shared", "code", f"f{i}", 56),
            "internal",
            "script_or_debug_info",
            "code",
            f"/src/m{i}.js",
            96,
        )
        source = file.held(script, "internal", "source", "string", f"import {i}", 20_000)
        file.edge(internalized, source, "element", i)
        file.edge(internalized, key, "element", n + i)
    return file


def test_the_sources_of_modules_are_one_row_of_the_module_graph(tmp_path: Path) -> None:
    """Each script and each function's code has a name of its own, and V8's table of strings holds
    the sources as well."""
    found = grown(tmp_path, module_graph(1), module_graph(401), by="path")
    assert found.kind == "module-graph"
    assert found.rows[0].size_delta == 400 * 20_000
    assert found.rows[0].path[-3:] == ("(code).script_or_debug_info", "(code).source", "(string)")
    assert not any("Internalized" in step for row in found.rows for step in row.path)


def test_what_only_a_passing_root_holds_is_told_by_it(tmp_path: Path) -> None:
    file = V8File()
    stack = file.held(1, "element", 1, "synthetic", "(Stack roots)", 0)
    held = file.top()
    for _ in range(60):  # a way of the program's own goes before the stack at any length
        held = file.held(held, "internal", "part", "hidden", "system / Part")
    both = file.held(held, "property", "it", "object", "Both")
    file.edge(stack, both, "element", 0)
    file.held(stack, "element", 1, "object", "Local")
    graph, (group,) = groups_of(tmp_path, file, "Both")
    assert "(Stack roots)" not in " ".join(group.path)
    (group,) = explain(graph, named(graph, "Local"))
    assert "(Stack roots)" in " ".join(group.path)


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_an_entry_of_a_map_is_told_by_its_key(tmp_path: Path, parts: int) -> None:
    """Of a key that is put together, too; one of many parts, and one that is no string, is a position."""
    file = V8File()
    table = file.held(file.held(file.top(), "property", "routes", "object", "Map"), "internal", "table", "array", "", 8)
    key = file.node("string", "/a", 16)
    for _ in range(parts - 1):
        whole = file.node("concatenated string", "(concatenated string)", 32)
        file.edge(whole, key, "internal", "first")
        file.edge(whole, file.node("string", "/b", 16), "internal", "second")
        key = whole
    file.edge(table, key, "internal", "7")
    entry = file.held(table, "internal", "8", "object", "Entry")
    file.held(table, "internal", "11", "object", "Other")
    file.held(entry, "property", "leaf", "object", "Leaf")
    graph, (group,) = groups_of(tmp_path, file, "Leaf")
    place = "'/a" + "/b" * (parts - 1) + "'" if parts < 32 else "8"
    assert group.path == ["global", f"global.routes (Map)[{place}]", "Entry.leaf", "Leaf"]
    (group,) = explain(graph, named(graph, "Other"))
    assert group.path[1] == "global.routes (Map)[11]"


def test_keys_that_differ_are_entries_where_the_paths_have_different_lengths(tmp_path: Path) -> None:
    """Texts put together from parts, in an object used as a cache: no one key stands for all of them."""

    def heap(n: int) -> V8File:
        file = V8File()
        cache = file.held(file.top(), "property", "cache", "object", "Object")
        for i in range(n):
            part = file.held(cache, "property", f"/p/{i}", "concatenated string", "(concatenated string)", 32)
            for _ in range(i % 3):
                part = file.held(part, "internal", "first", "concatenated string", "(concatenated string)", 32)
            file.held(part, "internal", "second", "string", f"text {i}", 1000)
        return file

    found = grown(tmp_path, heap(40), heap(540), by="path", min_kb=1)
    assert found.kind == "runtime-objects"
    assert not any("/p/" in step for row in found.rows for step in row.path)
    assert any(row.path[1] == "global.cache (Object)[*]" for row in found.rows if row.type == "string")


def test_a_collection_that_became_larger_has_got_entries(tmp_path: Path) -> None:
    def heap(size: int) -> V8File:
        file = V8File()
        log = file.held(file.top(), "property", "log", "object", "Array")
        file.held(log, "internal", "elements", "array", "(object elements)", size)
        return file

    (row,) = grown(tmp_path, heap(16), heap(1 << 20), by="path").rows
    assert (row.count_delta, row.classification.kind) == (0, "runtime-objects")


def test_small_ways_of_one_class_are_one_row(tmp_path: Path) -> None:
    """Each way is below the filter, and together they are most of what grew."""

    def heap(n: int) -> V8File:
        file = V8File()
        top = file.top()
        for i in range(n):
            holder = file.held(top, "property", f"p{i}", "object", f"Owner{i}")
            file.held(holder, "property", "job", "object", "Job", 20_000)
        return file

    (row,) = grown(tmp_path, heap(1), heap(21), by="path").rows
    assert (row.name, row.size_delta, row.count_delta, row.path) == ("Job (in other ways)", 400_000, 20, ())


def test_objects_that_one_array_holds_alike_are_put_into_words_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two arrays of 1,500 objects, and one whose objects are held under names of their own: the groups are those that
    are found one by one, and of each array one path is walked."""
    file = V8File()
    top = file.top()
    for name, kind in (("ROWS", "element"), ("LOGS", "element"), ("byKey", "property")):
        store = file.held(top, "property", name, "object", "Array" if kind == "element" else "Object")
        for i in range(1500):
            file.held(store, kind, i if kind == "element" else f"key{i}", "object", "Row", 10)
    graph = v8.read(file.write(tmp_path / "rows.heapsnapshot"))
    nodes = [node for node in range(graph.node_count) if graph.type_name(node) == "Row"]
    walked: list[int] = []
    plain = path_groups._Chains.chain

    def counted(chains: path_groups._Chains, node: int) -> int:
        walked.append(node)
        return plain(chains, node)

    monkeypatch.setattr(path_groups._Chains, "chain", counted)
    quick = [group.document() for group in explain(graph, nodes)]
    assert len(walked) < 2 * 1500 + 100, "those under names of their own, and a few"
    monkeypatch.setattr(path_groups, "_MANY", 1 << 30)
    assert [group.document() for group in explain(graph, nodes)] == quick
    assert sorted((group["count"], group["path"][-2]) for group in quick) == [
        (1500, "global.LOGS (Array)[*]"),
        (1500, "global.ROWS (Array)[*]"),
        (1500, "global.byKey (Object)[*]"),
    ]
