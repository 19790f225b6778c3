"""What is filled and cut back again and again: no leak, however few of its teeth a measurement sees.

Each has a leaky twin, which keeps one string a run below the teeth.
"""

from __future__ import annotations

import random
import time
from typing import Any

from leakharness import Run, Scenario

NAMES: dict[str, str] = {}
STORE: dict[int, Any] = {}


def _twins(name: str, summary: str, most: int, left: int, pause: float = 0.0) -> Scenario:
    """A store of one entry a run that is cut back to its newest ``left`` when it has ``most``."""
    scenario = Scenario(name, summary=summary)

    def work(index: int) -> None:
        STORE[index] = [[index, i] for i in range(4)]
        if len(STORE) >= most:
            for key in list(STORE)[: most - left]:
                del STORE[key]
        if pause:
            time.sleep(pause)

    @scenario.mode("clean", must="PASS", default=True, abort="none")
    def clean(run: Run) -> None:
        work(run.index)

    @scenario.mode("leaky", must="FAIL", abort="none")
    def leaky(run: Run) -> None:
        work(run.index)
        name = f"name {run.index}"
        NAMES[name] = name

    return scenario


flush_500 = _twins("flush-500", "a buffer that is flushed at 500 entries", 500, 0)
flush_1000 = _twins("flush-1000", "a buffer that is flushed at 1,000 entries", 1000, 0)
cut_750 = _twins("cut-750", "a cache that is cut back to 500 entries when it has 750", 750, 500)
cut_750_slow = _twins("cut-750-slow", "the same, by runs of a millisecond", 750, 500, pause=0.001)
flush_49 = _twins("flush-49", "a buffer that is flushed about once a batch, a run earlier in each", 49, 0)

SIZES = random.Random(11)
CURRENT: list[Any] = []
KEPT: list[Any] = []
slot = Scenario("slot-1000", summary="the rows of the current request: up to 1,000")


def _fill_slot() -> None:
    CURRENT[:] = [[] for _ in range(SIZES.randrange(1000))]


@slot.mode("clean", must="PASS", default=True, abort="none")
def slot_clean(run: Run) -> None:
    _fill_slot()


@slot.mode("leaky", must="FAIL", abort="none")
def slot_leaky(run: Run) -> None:
    _fill_slot()
    KEPT.append([])
