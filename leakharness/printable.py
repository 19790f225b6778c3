"""Text of a program made safe to show: on a terminal, in XML, in the log of a CI job, in a table of markdown.

Names, labels, paths and the texts of exceptions come from the program, or from a file that somebody else wrote. A
terminal obeys control characters, a log shows bidirectional marks in an order that is not that of the text, XML cannot
hold most of them, and UTF-8 cannot hold lone surrogates (``os.fsdecode`` makes them).
"""

from __future__ import annotations

import re

__all__ = ["cell", "code", "encodable", "fenced", "for_terminal", "one_line", "printable", "prose"]

_BACKTICKS = re.compile(r"`+")
_COMMAND = re.compile(r"^([ \t]*):(?=:)|#(?=#(?:vso)?\[)", re.MULTILINE)
"""What the runner of a CI job takes for a command in what a step prints: ``::error::`` at the start of a line, white
space aside (GitHub), ``##[error]`` and ``##vso[...]`` anywhere (GitHub, Azure Pipelines)."""


def printable(text: str) -> str:
    """``text`` with what would steer a terminal, turn the direction of writing or break XML written as an escape:
    control characters, bidirectional marks, lone surrogates. Line ends stay."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else _escape(c) for c in text)


def one_line(text: str) -> str:
    """The same, and line ends are escaped too: for a name."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def for_terminal(text: str) -> str:
    """:func:`printable`, and nothing in it is a command to the runner of a CI job."""
    return _COMMAND.sub(lambda match: f"{match[1] or ''}\\x{ord(match[0][-1]):02x}", printable(text))


def encodable(text: str) -> str:
    """``text`` with lone surrogates as escapes, so that UTF-8 can hold it; all else as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def prose(text: str) -> str:
    """``text`` in a sentence of markdown: one line without HTML, links, images and code that does not end."""
    return one_line(text).replace("<", "\\<").replace("](", "]\\(").replace("`", "\\`")


def cell(text: str) -> str:
    """``text`` in a cell of a table in markdown."""
    return prose(text).replace("|", "\\|")


def code(text: str) -> str:
    """``text`` as a piece of code in a sentence of markdown (CommonMark 0.31, section 6.1)."""
    shown = one_line(text)
    ticks = _longer_than_in(shown, 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{space}{shown}{space}{ticks}"


def fenced(text: str) -> str:
    """``text`` as a block of code in markdown, which nothing in it ends (CommonMark 0.31, section 4.5)."""
    shown = printable(text)
    ticks = _longer_than_in(shown, 3)
    return f"{ticks}\n{shown}\n{ticks}"


def _longer_than_in(text: str, least: int) -> str:
    return "`" * max([least, *(len(run) + 1 for run in _BACKTICKS.findall(text))])


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
