"""The reference of all options in markdown, from their table: ``python -m leakharness.options_reference``.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from leakharness.options import PLACES, TABLE, TESTS

__all__ = ["reference"]


def reference() -> str:
    """The reference of all options in markdown: a table for the commands, and one for pytest."""
    return "\n".join(
        [
            "## Options of the commands",
            "",
            "An option may be given in more than one place. The nearest counts: command line, `Scenario()`, "
            "`[tool.leakharness]` in pyproject.toml, default. *functions* are `leakharness.run()` and "
            "`leakharness.check()`; in Python and in pyproject.toml a name is written with underscores.",
            "",
            *_table(("Option", "Means", "Default", "At least", "Where"), _command_rows()),
            "",
            "## Options under pytest",
            "",
            "The nearest counts: command line, marker (or the argument of `assert_no_leak`), ini file, "
            "`[tool.leakharness]` in pyproject.toml, default.",
            "",
            *_table(("Flag", "Ini key", "In the marker", "Means", "Default"), _pytest_rows()),
            "",
        ]
    )


def _command_rows() -> Iterator[tuple[str, ...]]:
    for option in TABLE:
        where = [known for place, known in PLACES.items() if place in option.places and place not in TESTS]
        if where:
            flag = f"`{option.flag} {option.metavar}`" if option.metavar else f"`{option.flag}`"
            least = "" if option.least is None else f"{option.least:g}"
            yield flag, option.help, option.default_text, least, ", ".join(where)


def _pytest_rows() -> Iterator[tuple[str, ...]]:
    for option in TABLE:
        places = set(option.places)
        if places & set(TESTS):
            flag, key = (f"`{option.pytest_flag}`", f"`{option.ini_key}`") if "pytest" in places else ("", "")
            marker = f"`{option.name}=`" if "marker" in places else ""
            yield flag, key, marker, option.pytest_help or option.help, option.default_text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a markdown table."""
    for cells in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(reference(), end="")
