"""What may release by itself, later, what runs have left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator

import pytest

from leakharness.worker.time_bounds import release_times


@pytest.fixture
def loops() -> Iterator[list[asyncio.AbstractEventLoop]]:
    made = [asyncio.new_event_loop() for _ in range(3)]
    yield made
    for loop in made:
        loop.close()
    gc.unfreeze()


def test_timers_of_every_loop_are_told(loops: list[asyncio.AbstractEventLoop]) -> None:
    """Of a loop in another thread too; not what was cancelled, nor what a closed loop never calls."""
    before = release_times()
    for seconds, loop in zip((500.0, 900.0, 2000.0), loops, strict=True):
        loop.call_later(seconds, print)
    loops[1].call_later(3000.0, print).cancel()
    loops[2].close()
    with contextlib.closing(loops[1]):
        after = release_times()
        assert after.timers == before.timers + 2
        assert after.last_due_s == pytest.approx(900.0, abs=30)
    assert release_times().timers == before.timers + 1
