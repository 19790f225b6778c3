"""What scenarios tell the harness (track, wedged, hold), and the leaks that the harness plants on purpose."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from leakharness.scenario.never_set import NeverSet
from leakharness.worker.declared import Declared
from leakharness.worker.tracker import Tracker
from leakharness.worker.unpatched import os

__all__ = ["PLANTED", "Plant", "ScenarioRecorder", "TargetMissing", "imported"]

PLANTED: list[Any] = []
"""The module-level bucket of planted leaks."""


class TargetMissing(LookupError):
    """There is no such module here, or no such attribute in it. The text names the target first."""


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


class ScenarioRecorder:
    """The real recorder behind :class:`leakharness.scenario.declare.Run`."""

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
        loop = self._loop
        if loop is None:  # a plain mode that brings a loop of its own
            import asyncio

            loop = asyncio._get_running_loop()
        future = NeverSet() if loop is None else loop.create_future()
        self.declared.wedge(future)
        return future

    def hold(self, obj: Any) -> None:
        self.declared.hold(obj)

    def after_run(self) -> None:
        if self.plant is not None:
            self.plant.after_run(self)

    def target(self) -> Any:
        """Import ``module:attribute``. Raises TargetMissing, and whatever the module raises when it is imported."""
        if self._target is None:
            if self._target_name is None:
                raise LookupError("run.target() needs --target module:attribute")
            module, _, attribute = self._target_name.partition(":")
            value: Any = imported(module, self._target_name)
            try:
                for part in attribute.split("."):
                    value = getattr(value, part)
            except AttributeError as exc:
                raise TargetMissing(f"{self._target_name}: {exc}") from None
            self._target = value
        return self._target


def imported(module: str, target: str) -> Any:
    """The module, for ``target`` in it. Raises TargetMissing where it is not there, and what it raises itself."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is not None and f"{module}.".startswith(f"{exc.name}."):
            raise TargetMissing(f"{target}: {exc} in {sys.executable}") from None
        raise
