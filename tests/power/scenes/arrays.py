"""References to NumPy's arrays and from them, of which the collector is told nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from leakharness import Run, Scenario

take: Any = ctypes.pythonapi.Py_IncRef
take.argtypes, take.restype = [ctypes.py_object], None


class Config:
    """Made once."""


CONFIG = Config()
MATRIX = np.arange(100.0)
ITEMS = np.array([Config() for _ in range(50)], dtype=object)
RECORD = np.dtype([("name", "U8"), ("size", "i8")])
SLOTS = np.empty(20_000, dtype=object)


def scene(name: str, must: Any, body: Callable[[int], None]) -> Scenario:
    """A scenario of that name, whose one mode calls ``body`` with the run's number."""
    made = Scenario(name, summary=name)

    def mode(run: Run) -> None:
        body(run.index)

    made.mode("case", must=must, default=True, abort="none")(mode)
    return made


def into_a_slot(number: int) -> None:
    """The array holds it, as a list would."""
    SLOTS[number] = CONFIG


array = scene("array", "FAIL", lambda number: take(MATRIX))
item = scene("item", "FAIL", lambda number: take(ITEMS[3]))
slot = scene("slot", "PASS", into_a_slot)
record = scene("record", "FAIL", lambda number: take(RECORD))
empty = scene("empty", "PASS", lambda number: np.empty(3).sort())
