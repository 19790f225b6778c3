"""Forking the measured process without leaving a trace in it."""

from __future__ import annotations

import os
import sys
import warnings

__all__ = ["quiet_fork"]

IGNORE = ("ignore", None, DeprecationWarning, None, 0)
"""A row of ``warnings.filters``: (action, message, category, module, line)."""


def quiet_fork() -> int:
    """``os.fork()`` without the warning of 3.12+ about threads: the child only reads memory and leaves by
    ``os._exit``, so a lock that another thread held is never waited for.

    The row is put into the list of filters and taken out again, because ``catch_warnings`` leaves its copy of the
    list behind, for the C code to hold; a census would see it.
    """
    if sys.version_info < (3, 12):
        return os.fork()
    changed = getattr(warnings, "_filters_mutated", lambda: None)
    warnings.filters.insert(0, IGNORE)
    changed()
    try:
        return os.fork()
    finally:
        warnings.filters.remove(IGNORE)
        changed()
