"""Forking the measured process without leaving a trace in it."""

from __future__ import annotations

import os
import warnings

__all__ = ["quiet_fork"]


def quiet_fork() -> int:
    """``os.fork()`` without the warning of 3.12+ about threads: the child only reads memory and leaves by
    ``os._exit``, so a lock that another thread held is never waited for. The filters are restored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
