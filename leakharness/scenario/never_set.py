"""What ``run.wedged()`` gives under trio: an event that never comes, awaited like asyncio's future.

Part of the measured process: standard library only, and trio where it is awaited.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

__all__ = ["NeverSet"]


class NeverSet:
    """As ``trio.Event``, but nobody can set it. One object while no task waits: what it weighs is then declared.

    A task that waits here is held by ``_tasks``, as one is by trio's own event, until it is cancelled.
    """

    __slots__ = ("__weakref__", "_tasks")

    def __init__(self) -> None:
        self._tasks: set[Any] | None = None

    def is_set(self) -> bool:
        return False

    def __await__(self) -> Generator[Any, None, None]:
        return self.wait().__await__()

    async def wait(self) -> None:
        """Wait until this task is cancelled."""
        import trio

        task = trio.lowlevel.current_task()
        tasks = self._tasks = self._tasks or set()
        tasks.add(task)

        def leave(_: Any) -> Any:
            tasks.discard(task)
            if not tasks:
                self._tasks = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
