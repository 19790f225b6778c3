"""Which C functions a line of the program calls, seen by a profile function over a few runs. Standard library only.

For the second, explaining process: a profile function slows every call, and the runs that it sees are not measured.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from leakharness.worker.capture.type_plans import type_name

__all__ = ["c_functions_called"]

MOST_FUNCTIONS = 4
"""C functions of one line that are told."""


def c_functions_called(make_runs: Callable[[], None], places: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """``{"file:line": names}`` of the C functions called there, of ``places``, as ``make_runs()`` goes through them.

    Names are ``module.function`` or ``module.Type.method``; a line that calls none is left out.
    """
    wanted: dict[str, dict[int, list[str]]] = {}
    for place in places:
        file, _, line = place.rpartition(":")
        wanted.setdefault(file, {})[int(line)] = []

    def seen(frame: types.FrameType, event: str, called: Any) -> None:
        if event != "c_call":
            return
        lines = wanted.get(frame.f_code.co_filename)
        names = lines.get(frame.f_lineno) if lines is not None else None
        if names is not None and len(names) < MOST_FUNCTIONS:
            name = _name(called)
            if name not in names:
                names.append(name)

    previous = sys.getprofile()
    sys.setprofile(seen)
    try:
        make_runs()
    finally:
        sys.setprofile(previous)
    return {f"{file}:{line}": tuple(names) for file, lines in wanted.items() for line, names in lines.items() if names}


def _name(called: Any) -> str:
    """A C function's name with its module, or with the type whose method it is."""
    owner = getattr(called, "__self__", None)
    name = str(getattr(called, "__name__", "?"))
    if type(called) is types.BuiltinFunctionType and owner is not None and type(owner) is not types.ModuleType:
        return f"{type_name(owner if type(owner) is type else type(owner))}.{name}"
    module = getattr(called, "__module__", None)
    return name if type(module) is not str or module == "builtins" else f"{module}.{name}"
