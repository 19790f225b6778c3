"""Celery: the request of each task is watched from its end on.

from leakharness.watch import celery
celery.connect()
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from leakharness.watch import watch

__all__ = ["connect"]


def connect() -> None:
    """Watch what every task leaves: its request, under ``task NAME``. Raises ImportError without celery."""
    import_module("celery.signals").task_postrun.connect(_ended, weak=False)


def _ended(task: Any = None, **_: Any) -> None:
    request = getattr(task, "request_stack", None)
    top = getattr(request, "top", None)
    if top is not None:
        watch(top, f"task {getattr(task, 'name', '?')}")
