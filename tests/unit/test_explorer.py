"""The terminal explorer, driven by its keys; and what it looks up, in small graphs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from leakharness.explorer.model import Entry, Heap
from leakharness.heap import v8
from tests.unit.heap_graphs import draw

from test_heap_javascript import held_in_an_array  # isort: skip

pytest.importorskip("textual")

EARLIER = draw("root -> App -property:kept-> Leak\nroot -> Other", {"Leak": 10, "Other": 50})
LATER = draw(
    """
    root -> App -property:kept-> Leak
    App -property:kept-> Leak#2 -> Part
    root -> Other
    """,
    {"Leak": 10, "Leak#2": 30, "Other": 50},
)


def drive(heap: Heap, steps: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Run the application without a terminal, and the steps in it."""
    from leakharness.explorer.app import Explorer

    async def main() -> None:
        app = Explorer(heap, "x.heapsnapshot")
        async with app.run_test(size=(120, 30)) as pilot:
            await steps(app, pilot)

    asyncio.run(main())


def lines_of(tree: Any) -> list[str]:
    return [" ".join(str(child.label).split()) for child in tree.root.children]


def test_types_are_ordered_by_size_and_compared_by_growth() -> None:
    """One file: the largest first. Two: what grew first, with the difference; what is gone as well."""
    alone = Heap(LATER).types()
    assert [(row.name, row.count, row.size) for row in alone[:2]] == [("Other", 1, 50), ("Leak", 2, 40)]
    compared = Heap(LATER, EARLIER).types()
    assert [(row.name, row.count_delta, row.size_delta) for row in compared[:2]] == [("Leak", 1, 30), ("Part", 1, 1)]
    gone = Heap(EARLIER, LATER).types()[-1]
    assert (gone.name, gone.count, gone.count_delta, gone.size_delta) == ("Leak", 1, -1, -30)
    assert [row.name for row in Heap(LATER).types("LEA")] == ["Leak"]


def test_instances_holders_and_dominators_of_an_object() -> None:
    heap = Heap(LATER)
    (row,) = heap.types("leak")
    large, small = heap.instances(row)
    assert [heap.size(entry.node) for entry in (large, small)] == [30, 10]
    (holder,) = heap.holders(large.node)
    assert (heap.names.label(holder.node), holder.edge) == ("App", "kept")
    assert [heap.names.label(entry.node) for entry in heap.dominated(large.node)] == ["Part"]
    assert int(heap.retained[large.node]) == 31
    assert [heap.names.label(entry.node) for entry in heap.dominated(0)] == ["Other", "App"]


def test_texts_of_v8_are_one_row_by_their_kind() -> None:
    """V8 names a string by its text: a row for each would hide the types."""
    graph = draw("root -> (GC roots) -> hello\n(GC roots) -> world\n(GC roots) -> Leak")
    kinds = list(graph.node_kinds)
    for node in range(graph.node_count):
        name = graph.type_name(node)
        kind = {"root": "synthetic", "(GC roots)": "synthetic", "Leak": "object"}.get(name, "string")
        graph.node_kind[node] = kinds.index(kind)
    graph.strings.extend(f"value {number}" for number in range(300))
    heap = Heap(graph)
    rows = {row.name: row for row in heap.types()}
    assert rows["(string)"].count == 2
    assert "hello" not in rows
    assert len(heap.instances(rows["(string)"])) == 2


def test_more_than_can_be_told_is_a_number() -> None:
    heap = Heap(draw("\n".join(f"root -> Many#{number}" for number in range(2, 252))))
    (row,) = heap.types("many")
    entries = heap.instances(row)
    assert (len(entries), entries[-1]) == (201, Entry(-1, "", 50))


def test_the_keys() -> None:
    """Search, a type with Enter, its instances, who holds one by unfolding and by r, dominators by d, back, quit."""

    async def steps(app: Any, pilot: Any) -> None:
        table, tree = app.query_one("#types"), app.query_one("#tree")
        await app.workers.wait_for_complete()
        assert table.row_count == 5
        await pilot.press("r")
        assert app.sub_title == "no object is chosen: Enter lists those of a type"
        await pilot.press("slash", *"lea", "enter")
        assert table.row_count == 1
        assert app.sub_title == "1 type"
        await pilot.press("enter")
        await pilot.pause()
        assert lines_of(tree)[0] == "31 B 30 B Leak"
        await pilot.press("escape", "t", "right")  # opens as Enter does, and scrolls nothing
        await pilot.pause()
        assert str(tree.root.label) == "Other"
        assert table.scroll_offset.x == 0
        await pilot.press("slash", *"lea", "enter", "enter")
        await pilot.pause()
        await pilot.press("right")
        await pilot.pause()
        (holder,) = tree.root.children[0].children
        assert str(holder.label).split() == ["42", "B", "1", "B", ".kept", "of", "App"]
        await pilot.press("left")
        assert not tree.root.children[0].is_expanded
        await pilot.press("r")
        await pilot.pause()
        assert str(tree.root.label) == "Leak held by"
        assert lines_of(tree)[0].endswith(".kept of App")
        await pilot.press("t", "d")
        await pilot.pause()
        assert lines_of(tree) == ["50 B 50 B Other", "42 B 1 B App"]
        await pilot.press("q")

    drive(Heap(LATER), steps)


@pytest.mark.slow
def test_every_other_key_of_the_documentation() -> None:
    """Arrows move, Space and Enter unfold and fold, left goes to the line above, Escape goes back to the table."""

    async def steps(app: Any, pilot: Any) -> None:
        table, tree = app.query_one("#types"), app.query_one("#tree")
        await app.workers.wait_for_complete()
        await pilot.press("down")
        assert table.cursor_row == 1
        await pilot.press("up", "down", "enter")
        await pilot.pause()
        assert str(tree.root.label) == "Leak"
        assert tree.has_focus
        await pilot.press("space")
        await pilot.pause()
        first = tree.root.children[0]
        assert first.is_expanded
        await pilot.press("down")
        assert tree.cursor_node is first.children[0]
        await pilot.press("left")
        assert tree.cursor_node is first
        await pilot.press("enter")
        assert not first.is_expanded
        await pilot.press("d")
        await pilot.pause()
        assert (str(tree.root.label), lines_of(tree)) == ("Leak frees", ["1 B 1 B Part"])
        await pilot.press("d")
        await pilot.pause()
        assert lines_of(tree) == ["nothing beside itself"]
        await pilot.press("escape")
        assert table.has_focus
        await pilot.press("slash", "escape")
        assert table.has_focus
        assert not app.query_one("#search").has_class("shown")

    drive(Heap(LATER), steps)


@pytest.mark.slow
def test_lines_that_were_there_first_get_their_retained_sizes() -> None:
    """A type may be opened before the dominators are known."""

    async def steps(app: Any, pilot: Any) -> None:
        tree = app.query_one("#tree")
        await app.workers.wait_for_complete()
        sizes = app.heap.__dict__.pop("retained")
        await pilot.press("slash", *"leak", "enter", "enter")
        await pilot.pause()
        await pilot.press("right")
        await pilot.pause()
        assert lines_of(tree)[0] == "? 30 B Leak"
        app.heap.__dict__["retained"] = sizes
        app._weighed()
        assert lines_of(tree)[0] == "31 B 30 B Leak"
        (holder,) = tree.root.children[0].children
        assert str(holder.label).split() == ["42", "B", "1", "B", ".kept", "of", "App"]

    drive(Heap(LATER), steps)


def test_dominators_are_not_computed_twice() -> None:
    """Asked for before they are there: it says so, and the keys go on."""

    async def steps(app: Any, pilot: Any) -> None:
        await app.workers.wait_for_complete()
        del app.heap.retained
        await pilot.press("d")
        assert app.sub_title == "dominators are still being computed"
        assert not app.query_one("#tree").root.children

    drive(Heap(LATER), steps)


def test_two_files_have_columns_of_their_difference() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        table = app.query_one("#types")
        assert [str(column.label) for column in table.columns.values()][2:] == ["+count", "+shallow", "type"]
        assert [str(cell) for cell in table.get_row_at(0)] == ["2", "40 B", "+1", "+30 B", "Leak"]

    drive(Heap(LATER, EARLIER), steps)


def test_names_of_a_program_are_no_markup() -> None:
    """Brackets mean styles to textual, and an escape sequence would steer the terminal."""

    async def steps(app: Any, pilot: Any) -> None:
        table, tree = app.query_one("#types"), app.query_one("#tree")
        assert "[red]A[/nothing]\\x1b[31m" in [str(table.get_row_at(row)[-1]) for row in range(table.row_count)]
        await app.workers.wait_for_complete()
        await pilot.press("d")
        await pilot.pause()
        assert "[red]A[/nothing]\\x1b[31m" in lines_of(tree)[0]

    drive(Heap(draw("root -> [red]A[/nothing]\x1b[31m")), steps)


def test_without_a_terminal_it_says_so(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "leakharness", "explore", str(tmp_path / "x")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "explore needs a terminal" in done.stderr


def test_types_and_their_sizes_are_those_of_a_comparison(tmp_path: Path) -> None:
    """A store counts for its owner, and Python's classes are one row: as `diff` tells both."""
    rows = {row.name: row for row in Heap(v8.read(held_in_an_array(3).write(tmp_path / "a.heapsnapshot"))).types()}
    assert (rows["Array"].size, rows["(object elements)"].size) == (4016, 0)
    graph = draw("root -> Leak\nroot -> Own\nroot -> Other")
    graph.strings[:] = [f"type app.{name}" if name in ("Own", "Other") else name for name in graph.strings]
    rows = {row.name: row for row in Heap(graph).types()}
    assert rows["(type)"].count == 2
