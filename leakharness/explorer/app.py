"""The terminal explorer: a table of types, and a tree of instances with who holds them. Needs textual."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Footer, Header, Input, Tree
from textual.widgets.tree import TreeNode

from leakharness.explorer.model import Entry, Heap, TypeRow
from leakharness.printable import one_line
from leakharness.units import signed_size, size

__all__ = ["Explorer"]

MOST_TYPES = 2000
"""Rows of the table; the search finds the others."""
Row = tuple[str, int]
"""What a line of the tree stands for: how its children are found (``holders``, ``dominated``), and the object."""


class TypeTable(DataTable[Text]):
    """The types; the right arrow opens one, as Enter does, where textual's own scrolls sideways."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("right", "select_cursor", "Open", show=False)]


class HeapTree(Tree[Row]):
    """A tree whose lines open and close by the arrows, as in DevTools; textual's own scroll sideways."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "collapse", "Collapse", show=False),
        Binding("right", "expand", "Expand", show=False),
    ]

    def action_expand(self) -> None:
        """Open the line at the cursor."""
        if self.cursor_node is not None:
            self.cursor_node.expand()

    def action_collapse(self) -> None:
        """Close the line at the cursor; go to the one above it where it is closed."""
        line = self.cursor_node
        if line is not None and line.is_expanded:
            line.collapse()
        elif line is not None and line.parent is not None:
            self.move_cursor(line.parent)


class Explorer(App[None]):
    """Types on the left; on the right what was chosen: instances with their holders, or the dominator tree."""

    CSS = """
    #types { width: 1fr; } #tree { width: 1fr; border: solid $primary; }
    #search { display: none; } #search.shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search"),
        Binding("t", "types", "Types"),
        Binding("r", "retainers", "Retainers"),
        Binding("d", "dominators", "Dominators"),
        Binding("escape", "to_types", "Back", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, heap: Heap, title: str) -> None:
        super().__init__()
        self.heap = heap
        self.title = title
        self._rows: list[TypeRow] = []
        self._edges: dict[int, str] = {}
        """By line of the tree: the edge that it tells."""

    def compose(self) -> ComposeResult:
        yield Header()
        yield Input(placeholder="a part of a type's name", id="search")
        with Horizontal():
            yield TypeTable(id="types", cursor_type="row")
            yield HeapTree("choose a type with Enter", id="tree")
        yield Footer()

    def on_mount(self) -> None:
        grown = ["+count", "+shallow"] if self.heap.earlier is not None else []
        self._table.add_columns("count", "shallow", *grown, "type")  # the name last: it may be of any length
        self._fill("")
        self._table.focus()
        self._weigh()

    @property
    def _table(self) -> TypeTable:
        return self.query_one("#types", TypeTable)

    @property
    def _tree(self) -> Tree[Row]:
        return self.query_one("#tree", Tree)

    @work(thread=True)
    def _weigh(self) -> None:
        """Retained sizes, beside what is looked at."""
        _ = self.heap.retained
        self.call_from_thread(self._weighed)

    def _weighed(self) -> None:
        """Write the retained sizes into the lines that were there before them."""
        self._say("retained sizes are there")
        lines = [self._tree.root]
        for line in lines:
            lines += line.children
            if line.data is not None and line.parent is not None:
                line.set_label(self._line(line.data[1], self._edges.get(line.id, "")))

    def _say(self, text: str) -> None:
        self.sub_title = text

    def _fill(self, search: str) -> None:
        self._table.clear()
        self._rows = self.heap.types(search)
        for row in self._rows[:MOST_TYPES]:
            cells = [f"{row.count:,}", size(row.size)]
            if self.heap.earlier is not None:
                cells += [f"{row.count_delta:+,}", signed_size(row.size_delta)]
            self._table.add_row(*(Text(cell, justify="right") for cell in cells), Text(one_line(row.name)))
        self._say(f"{len(self._rows):,} {'type' if len(self._rows) == 1 else 'types'}")

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        row = self._rows[event.cursor_row]
        tree = self._tree
        self._edges.clear()
        tree.reset(Text(one_line(row.name)))
        self._add(tree.root, "holders", self.heap.instances(row))
        self._enter(tree)

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[Row]) -> None:
        node = event.node
        if node.data is not None and not node.children:
            self._add(node, node.data[0], self._below(*node.data))

    def _below(self, kind: str, number: int) -> list[Entry]:
        """What hangs below an object in a tree of that kind."""
        return self.heap.holders(number) if kind == "holders" else self.heap.dominated(number)

    def _add(self, parent: TreeNode[Row], kind: str, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.more:
                parent.add_leaf(f"… and {entry.more:,} more")
                continue
            line = parent.add(self._line(entry.node, entry.edge), data=(kind, entry.node))
            self._edges[line.id] = entry.edge

    def _line(self, node: int, edge: str) -> Text:
        """One object: its retained and its own size, the edge by which it holds the one above, what it is."""
        retained = size(int(self.heap.retained[node])) if self.heap.has_dominators else "?"
        held_by = f".{edge} of " if edge else ""
        text = f"{retained:>10} {size(self.heap.size(node)):>10}  {held_by}{self.heap.names.label(node)}"
        return Text(one_line(text))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._fill(event.value)
        self.action_to_types()

    def action_search(self) -> None:
        """A part of a type's name."""
        box = self.query_one("#search", Input)
        box.add_class("shown")
        box.focus()

    def action_to_types(self) -> None:
        """To the table."""
        self.query_one("#search", Input).remove_class("shown")
        self._table.focus()

    def action_types(self) -> None:
        """All types."""
        self._fill("")
        self.action_to_types()

    def action_retainers(self) -> None:
        """Who holds the object at the cursor."""
        chosen = self._chosen()
        if chosen is None:
            self._say("no object is chosen: Enter lists those of a type")
        else:
            self._show("holders", chosen)

    def action_dominators(self) -> None:
        """What would be freed with the object at the cursor of the tree; from the root where there is none."""
        if not self.heap.has_dominators:  # they are computed by now, and twice would stop the keys for seconds
            self._say("dominators are still being computed")
            return
        chosen = self._chosen()
        self._show("dominated", 0 if chosen is None else chosen)

    def _chosen(self) -> int | None:
        line = self._tree.cursor_node
        return line.data[1] if self._tree.has_focus and line is not None and line.data is not None else None

    def _show(self, kind: str, number: int) -> None:
        tree = self._tree
        self._edges.clear()
        title = "held by" if kind == "holders" else "frees"
        tree.reset(Text(one_line(f"{self.heap.names.label(number)} {title}")), data=(kind, number))
        below = self._below(kind, number)
        self._add(tree.root, kind, below)
        if not below:
            tree.root.add_leaf("nothing: it is a root" if kind == "holders" else "nothing beside itself")
        self._enter(tree)

    def _enter(self, tree: Tree[Row]) -> None:
        """To the first line below the root, once the lines are there."""
        tree.root.expand()
        tree.border_title = "retained    shallow"
        tree.focus()
        if tree.root.children:
            self.call_after_refresh(tree.move_cursor, tree.root.children[0])
