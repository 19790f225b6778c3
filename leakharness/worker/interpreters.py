"""Sub-interpreters of this process: how many there are, and that Pythons before 3.13 cannot fork beside them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

__all__ = ["hinders_forks", "others_reader"]


def others_reader() -> Callable[[], int] | str:
    """What counts the interpreters besides this one, or why nothing does."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # renamed in 3.13
        try:
            listed = importlib.import_module(name).list_all
        except (ImportError, AttributeError):
            continue
        return lambda: len(listed()) - 1
    return "this Python does not list its sub-interpreters"


def hinders_forks() -> bool:
    """Whether a fork would never end: up to 3.12 the child clears the other interpreters and hangs there, or dies of
    it (``_PyInterpreterState_DeleteExceptMain`` in Python/pystate.c)."""
    if sys.version_info >= (3, 13):
        return False
    others = others_reader()
    return not isinstance(others, str) and others() > 0
