"""What scenarios tell the harness (track, wedged, hold), and the leaks that the harness plants on purpose."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Any

from leakharness.probe.tracker import BLOCK_LIMIT_BYTES, Tracker

__all__ = ["PLANTED", "Declared", "Plant", "ScenarioRecorder"]

PLANTED: list[Any] = []
"""The module-level bucket of planted leaks."""
GC_HEADER_BYTES = 16
MALLOC_HEADER_BYTES = 8
"""Per-block overhead of glibc's malloc (malloc/malloc.c, SIZE_SZ)."""


class PlantedObject:
    """What ``synthetic-leak`` keeps where a run tracks nothing of its own."""

    __slots__ = ("__weakref__",)


class Plant:
    """A leak planted on purpose, so that the detector can be seen to work.

    ``kind``: ``tracked`` keeps every tracked object (synthetic-leak), ``object`` one object, ``native`` ``size``
    bytes of malloc, ``fd`` one descriptor; each in one of ``every`` runs.
    """

    def __init__(self, kind: str, every: int = 1, size: int = 0) -> None:
        self.kind, self.every, self.size = kind, max(1, every), size
        self._runs = 0
        self._seen = False
        self._libc: Any = None
        if kind == "native":
            import ctypes

            self._libc = ctypes.CDLL(None)
            self._libc.malloc.restype = ctypes.c_void_p

    def on_track(self, obj: Any) -> None:
        if self.kind == "tracked":
            self._seen = True
            PLANTED.append(obj)

    def after_run(self, recorder: ScenarioRecorder) -> None:
        self._runs += 1
        if self.kind == "tracked":
            if not self._seen:
                recorder.track(PlantedObject(), None)
            self._seen = False
        elif self._runs % self.every == 0:
            if self.kind == "object":
                PLANTED.append(PlantedObject())
            elif self.kind == "fd":
                PLANTED.append(os.open(os.devnull, os.O_RDONLY))
            elif self.kind == "native":
                self._libc.malloc(self.size)


class Declared:
    """Objects kept on purpose: what they weigh by themselves is no growth."""

    def __init__(self) -> None:
        self.wedged: list[Any] = []
        self.held: list[Any] = []

    def objects(self) -> int:
        """How many of the declared objects the collector lists."""
        return sum(map(gc.is_tracked, self.wedged)) + sum(map(gc.is_tracked, self.held))

    def blocks(self) -> int:
        """Allocator blocks of the declared objects themselves (a future is one block)."""
        return len(self.wedged) + sum(_own_blocks(obj)[0] for obj in self.held)

    def malloc_bytes(self) -> int:
        """Bytes of the declared objects' own large parts, those that malloc serves."""
        return sum(_own_blocks(obj)[1] for obj in self.held)

    def own_blocks(self) -> int:
        """Blocks of the two lists that keep them: the harness's own."""
        return sum(_list_table(table)[0] for table in (self.wedged, self.held))

    def own_malloc_bytes(self) -> int:
        return sum(_list_table(table)[1] for table in (self.wedged, self.held))


class ScenarioRecorder:
    """The real recorder behind :class:`leakharness.scenario.Run`."""

    def __init__(self, tracker: Tracker, loop: Any, target: str | None, plant: Plant | None) -> None:
        self.tracker = tracker
        self.declared = Declared()
        self.plant = plant
        self._loop = loop
        self._target_name = target
        self._target: Any = None

    def track(self, obj: Any, label: str | None) -> None:
        self.tracker.track(obj, label)
        if self.plant is not None:
            self.plant.on_track(obj)

    def wedged(self) -> Any:
        import asyncio

        future = (self._loop or asyncio.get_running_loop()).create_future()
        self.declared.wedged.append(future)
        return future

    def hold(self, obj: Any) -> None:
        self.declared.held.append(obj)

    def after_run(self) -> None:
        if self.plant is not None:
            self.plant.after_run(self)

    def target(self) -> Any:
        """Import ``module:attribute``. Raises ImportError or AttributeError as the import does."""
        if self._target is None:
            if self._target_name is None:
                raise LookupError("run.target() needs --target module:attribute")
            module, _, attribute = self._target_name.partition(":")
            value: Any = importlib.import_module(module)
            for part in attribute.split("."):
                value = getattr(value, part)
            self._target = value
        return self._target


def _own_blocks(obj: Any) -> tuple[int, int]:
    """(allocator blocks, malloc bytes) of one object by itself: its head and its own table or buffer."""
    kind = type(obj)
    head = kind.__basicsize__ + (GC_HEADER_BYTES if gc.is_tracked(obj) else 0)
    if kind in (list, bytearray, set, dict) or isinstance(obj, (list, bytearray, set, dict)):
        table = kind.__sizeof__(obj) - kind.__basicsize__ if kind in (list, bytearray, set, dict) else 0
        parts = [head, table]
    elif kind in (str, bytes, int, tuple, frozenset):
        parts = [sys.getsizeof(obj)]
    else:
        values = object.__getattribute__(obj, "__dict__") if kind.__dictoffset__ else None
        parts = [head, BLOCK_LIMIT_BYTES if values else 0]
    blocks = sum(1 for size in parts if 0 < size <= BLOCK_LIMIT_BYTES)
    return blocks, sum(size + MALLOC_HEADER_BYTES for size in parts if size > BLOCK_LIMIT_BYTES)


def _list_table(table: list[Any]) -> tuple[int, int]:
    size = sys.getsizeof(table) - sys.getsizeof([])
    if size > BLOCK_LIMIT_BYTES:
        return 0, size + MALLOC_HEADER_BYTES
    return (1 if size else 0), 0
