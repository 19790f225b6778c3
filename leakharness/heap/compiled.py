"""Optional speed: the same source compiled by numba where the extra ``leakharness[fast]`` is installed.

Functions handed to `compiled` must be written in the subset that both understand (flat loops over arrays or
lists), so the results are identical with and without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["compiled"]

NO_NUMBA = "LEAKHARNESS_NO_NUMBA"  # set to anything: as if numba were not installed


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """``function`` compiled to machine code, or None where numba is missing or switched off by `NO_NUMBA`."""
    if os.environ.get(NO_NUMBA):
        return None
    try:
        import numba
    except ImportError:
        return None
    try:
        return numba.njit(cache=True, nogil=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder to keep the machine code in: compile for this process alone
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]
