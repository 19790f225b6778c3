"""The end of a measured process's stderr, with tracebacks that show as much of a text as those of the harness do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from leakharness.worker.exception_text import INSTALLED, NAMES_OF_CODE, NOT_SHOWN

__all__ = ["without_foreign_texts"]

HEADER = "Traceback (most recent call last):"
FILE = re.compile(r'File "(.+)", line [0-9]+')
EXCEPTION = re.compile(r"([^\W\d][\w.]*)(: .*)?")
STRUCTURE = re.compile(
    r"Traceback |During handling |The above exception |Exception in |Exception ignored |Fatal Python error|"
    r"(Current )?[Tt]hread 0x|Stack \(most recent|Extension modules|Task exception |Segmentation fault|File \""
)
"""How lines begin that Python writes between tracebacks and when it crashes (Python/traceback.c,
Modules/faulthandler.c, Lib/threading.py)."""
MARGIN = re.compile(r" *[|+] ?")
"""In front of the lines of a group of exceptions."""
KNOWN = frozenset(kind.__name__ for kind in NAMES_OF_CODE)


def without_foreign_texts(text: str, own_folder: str) -> str:
    """``text`` without the texts of exceptions that were raised outside of ``own_folder``; types and places stay, and
    what the program printed."""
    return "\n".join(_lines(text.splitlines(), os.path.join(os.path.realpath(own_folder), "")))


def _lines(lines: list[str], own_folder: str) -> Iterator[str]:
    in_traceback = hidden = False
    last = ""
    for line in lines:
        content = line[margin.end() :] if (margin := MARGIN.match(line)) else line
        bare = content.lstrip()
        if bare.endswith(HEADER):  # of a group it is "Exception Group Traceback ..."
            in_traceback, hidden, last = True, False, ""
        elif in_traceback and (found := FILE.match(bare)):
            last = found[1]
        elif in_traceback and content == bare != "":
            in_traceback = False
            found = EXCEPTION.fullmatch(bare)
            if found is not None and not _is_own(last, own_folder) and found[1] not in KNOWN:
                hidden = found[2] is not None
                yield f"{found[1]}: {NOT_SHOWN}" if hidden else line
                continue
        elif hidden and bare and not STRUCTURE.match(bare):
            continue  # a text may have several lines
        else:
            hidden = False
        yield line


def _is_own(file: str, own_folder: str) -> bool:
    path = os.path.realpath(file)
    return path.startswith(own_folder) and not any(mark in path[len(own_folder) - 1 :] for mark in INSTALLED)
