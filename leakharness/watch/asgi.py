"""ASGI middleware: the scope and the task of each request are watched from its end on.

app = WatchRequests(app)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from leakharness.watch import watch

__all__ = ["Scope", "WatchRequests"]


class Scope(dict[str, Any]):
    """The scope of one request: a dict that can be weakly referenced."""

    __slots__ = ("__weakref__",)


class WatchRequests:
    """Wraps an ASGI application. Labels: ``request scope``, and ``request task`` where each has its own task."""

    def __init__(self, app: Callable[..., Awaitable[None]], *, tasks: bool = False) -> None:
        self._app, self._tasks = app, tasks

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope.get("type") != "http":
            await self._app(scope, receive, send)
            return
        mine = Scope(scope)
        try:
            await self._app(mine, receive, send)
        finally:
            watch(mine, "request scope")
            task = asyncio.current_task()
            if self._tasks and task is not None:
                watch(task, "request task")
