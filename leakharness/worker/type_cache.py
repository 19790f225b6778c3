"""Emptying the interpreter's cache of attribute look-ups."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["CLEAR_TYPE_CACHE"]

CLEAR_TYPE_CACHE: Callable[[], object] = getattr(
    sys,
    # From 3.14 on the older name gives a warning each time: whoever records warnings keeps one for each reading.
    "_clear_internal_caches" if hasattr(sys, "_clear_internal_caches") else "_clear_type_cache",
    lambda: None,
)
"""The cache keeps 4096 name strings alive, slot by address: names that are built anew in each run fill it for thousands
of runs, and would look like a leak of blocks."""
