"""Text of a program made safe to show: on a terminal, in XML, in the log of a CI job, in a table of markdown.

Names, labels, paths and the texts of exceptions come from the program, or from a file that somebody else wrote. A
terminal obeys control characters, a log shows bidirectional marks in an order that is not that of the text, XML cannot
hold most of them, and UTF-8 cannot hold lone surrogates (``os.fsdecode`` makes them).
"""

from __future__ import annotations

import re

__all__ = ["encodable", "for_terminal", "one_line", "printable"]

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


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
