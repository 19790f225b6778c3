"""``explore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("explore", help="A terminal explorer of a snapshot; needs the extra tui.")(explore_command)


def explore_command(
    snapshot: Annotated[Path, typer.Argument(help="A .heapsnapshot of ours, Node or Chrome.", show_default=False)],
    other: Annotated[
        Path | None, typer.Argument(help="A later one, compared with the first.", show_default=False)
    ] = None,
) -> None:
    """Types, instances, who holds them and what they dominate. / searches, r, d and t change the view, q quits."""
    import sys

    from leakharness.errors import UsageError
    from leakharness.heap.v8 import read

    try:
        from leakharness.explorer.app import Explorer
        from leakharness.explorer.model import Heap
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "textual":
            raise
        raise UsageError("explore needs textual: pip install 'leakharness[tui]'") from None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("explore needs a terminal; `leakharness retainers` and `dominators` print the same")
    graphs = [read(path) for path in (snapshot, other) if path is not None]
    heap = Heap(graphs[-1], graphs[0] if len(graphs) > 1 else None)
    Explorer(heap, " against ".join(path.name for path in (other, snapshot) if path is not None)).run()
