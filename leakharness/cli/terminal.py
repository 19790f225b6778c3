"""Progress on a terminal (rich), plain lines elsewhere. Always on stderr, so that stdout is the answer alone."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from leakharness.measure.arm import Listener
from leakharness.model import RunResult
from leakharness.printable import for_terminal, one_line

__all__ = ["Progress", "emit_json", "say", "text_width"]

COLOURS = {
    **dict.fromkeys(("PASS", "CERTIFIED", "PROVEN", "HOLDS", "SAME", "FOUND", "WITHIN"), 32),
    **dict.fromkeys(("FAIL", "LEAK", "NOT_FIXED", "TAMPERED", "OVER"), 31),
    **dict.fromkeys(("NOT_JUDGED", "NOT_REPRODUCED", "STALE", "DRIFTED", "NOT_FOUND"), 33),
    "INVALID": 35,
}
"""SGR colour codes (ECMA-48) of the verdicts."""


LEAST_WIDTH, MOST_WIDTH = 40, 120
"""Columns within which a text of sentences and tables can be read."""


def text_width() -> int:
    """Columns of a text: those that COLUMNS asks for, or the terminal has, or 80."""
    import shutil

    return min(MOST_WIDTH, max(LEAST_WIDTH, shutil.get_terminal_size().columns))


class Progress(Listener):
    """A live table on a terminal, one line a verdict elsewhere. ``quiet`` says nothing at all."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def phase(self, arm: str, name: str, done: int, total: int | None) -> None:
        if self._bar is None:
            return
        with self._lock:
            if arm not in self._tasks:
                self._tasks[arm] = self._bar.add_task(one_line(arm), total=total)
            self._bar.update(self._tasks[arm], completed=done, total=max(done, total or 0))

    def note(self, arm: str, text: str) -> None:
        if self._quiet:
            return
        line = f"{one_line(arm)}: {one_line(text)}"
        with self._lock:
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False)
            else:
                print(line, file=sys.stderr, flush=True)

    def done(self, result: RunResult) -> None:
        if self._bar is None and not self._quiet:
            with self._lock:
                arm = one_line(f"{result.scenario} / {result.mode}")
                print(f"{arm}: {result.verdict} ({result.duration_s:.1f} s)", file=sys.stderr)


def _coloured(block: str) -> str:
    """Colour the first word of a verdict block, on a terminal that wants colour."""
    word = block.split(maxsplit=1)[0]
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or word not in COLOURS:
        return block
    return f"\x1b[1;{COLOURS[word]}m{word}\x1b[0m" + block[len(word) :]


def say(text: str, *, verdict: bool = False) -> None:
    """One text on stdout, with nothing in it that would steer a terminal. ``verdict``: its first word is one."""
    shown = for_terminal(text)
    coloured = _coloured(shown) if verdict else shown
    _write(coloured.encode(sys.stdout.encoding or "utf-8", "backslashreplace") + b"\n")


def emit_json(document: Any) -> None:
    """One JSON document on stdout, and nothing else."""
    from leakharness.report.document import to_json

    _write(to_json(document))


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
