"""How much of an exception may be repeated: its type and place always, its text only where it is the scenario's own.

The text of an exception is data of the program as often as not (``KeyError: 'alice'``, the name of a file, a row of a
database), and reports are attached to pull requests. What the scenario's own folder raises is shown; so is what says
only names of code. ``show_all`` lifts that, and holds where no scenario file is loaded: pytest shows its own failures.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

from leakharness.errors import LeakHarnessError
from leakharness.worker.unpatched import os

__all__ = ["INSTALLED", "NAMES_OF_CODE", "NOT_SHOWN", "formatted", "show_all", "show_only_of", "text_of"]

NAMES_OF_CODE: tuple[type[BaseException], ...] = (
    AttributeError, ImportError, IndentationError, MemoryError, ModuleNotFoundError, NameError, NotImplementedError,
    RecursionError, SyntaxError, UnboundLocalError,
)  # fmt: skip
"""Types, and none derived from them, whose texts name what code is called, or nothing."""
NOT_SHOWN = "(its text is not shown: it comes from outside the scenario's folder; --values shows it)"
INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_own_folder: list[str] = []


def show_all() -> None:
    """Show every text."""
    _own_folder.clear()


def show_only_of(path: str) -> None:
    """From now on, show the texts of what the folder of this scenario file raises."""
    _own_folder[:] = [os.path.join(os.path.dirname(os.path.realpath(path)), "")]


def text_of(exc: BaseException) -> str:
    """The text of ``exc``, in whole, in part, or why it is not there. Runs its ``__str__``, whose errors pass."""
    if _is_shown(exc):
        return str(exc)
    if isinstance(exc, OSError) and exc.errno is not None:
        return f"[Errno {exc.errno}] {os.strerror(exc.errno)} {NOT_SHOWN}"
    return NOT_SHOWN


def formatted(exc: BaseException) -> str:
    """The traceback of ``exc`` and of those that led to it, each with as much of its text as may be shown."""
    shown = traceback.TracebackException(type(exc), exc, exc.__traceback__)
    for part, of in _chain(shown, exc):
        if not _is_shown(of):
            part._str = text_of(of)
            if getattr(part, "__notes__", None):
                part.__notes__ = None
    return "".join(shown.format())


def _chain(part: Any, exc: BaseException | None) -> Iterator[tuple[Any, BaseException]]:
    """Each part of a formatted exception with what it was made of: causes, contexts, members of groups."""
    todo = [(part, exc)]
    while todo:
        shown, of = todo.pop()
        if shown is None or of is None:
            continue
        yield shown, of
        todo += [(shown.__cause__, of.__cause__), (shown.__context__, of.__context__)]
        todo += zip(getattr(shown, "exceptions", None) or (), getattr(of, "exceptions", None) or (), strict=False)


def _is_shown(exc: BaseException) -> bool:
    if not _own_folder or isinstance(exc, LeakHarnessError) or type(exc) in NAMES_OF_CODE:
        return True
    last = exc.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    file = os.path.realpath(last.tb_frame.f_code.co_filename)
    return file.startswith(_own_folder[0]) and not any(mark in file[len(_own_folder[0]) - 1 :] for mark in INSTALLED)
