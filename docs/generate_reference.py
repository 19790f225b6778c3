"""Hook of mkdocs: writes the parts of the reference that the code already says, at build time.

A page asks for one by a comment, ``<!-- generated: commands -->``. What nothing generates stops the build.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

PLACE = re.compile(r"<!-- generated: ([\w-]+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page: the page with its generated parts."""
    return PLACE.sub(lambda found: GENERATED[found[1]](), markdown)


def commands() -> str:
    """Every command with its arguments and options, by typer's own documentation of an application."""
    import typer
    from typer.cli import get_docs_for_click

    from leakharness.cli import make_app

    command = typer.main.get_command(make_app())
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="leakharness")
    # The page has its title, and a table of the commands would repeat the headings with their texts cut short.
    text = re.sub(r"\A# .*\n", "", text)
    return re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", text, count=1)


def options() -> str:
    """Every option with its default, its least value and where it may stand, from the table that all doors read."""
    from leakharness.options_reference import reference

    return reference()


def marker() -> str:
    """The marker's arguments, as ``pytest --markers`` shows them."""
    from leakharness.pytest_plugin.options import MARKER

    return f"`{MARKER.partition(':')[0]}`: {MARKER.partition(':')[2].strip()}"


def pytest_options() -> str:
    """Options and ini keys of the plugin, as it registers them with pytest."""
    from leakharness.pytest_plugin.hooks import pytest_addoption

    recorder = _Recorder()
    pytest_addoption(recorder)  # type: ignore[arg-type]
    rows = []
    for key, text in recorder.ini.items():
        flag, metavar, told = recorder.flags.get(key, ("", "", text))
        rows.append((f"`{flag} {metavar}`".replace(" `", "`") if flag else "-", f"`{key}`", told))
    return _table(("option", "ini key", "what it does"), rows)


class _Recorder:
    """Stands in for pytest's parser and its groups, and keeps what it is given."""

    def __init__(self) -> None:
        self.flags: dict[str, tuple[str, str, str]] = {}
        self.ini: dict[str, str] = {}

    def getgroup(self, name: str, description: str = "") -> _Recorder:
        return self

    def addoption(self, flag: str, *, dest: str, help: str = "", metavar: str = "", **_: Any) -> None:
        self.flags[dest] = (flag, metavar, help)

    def addini(self, key: str, help: str = "", *_: Any, **__: Any) -> None:
        self.ini[key] = help


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown; ``|`` in a cell is escaped."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands,
    "options": options,
    "pytest-options": pytest_options,
    "marker": marker,
}
"""What a page may ask for."""
