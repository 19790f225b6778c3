"""A budget of seconds is one of what the machine let the process do."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from leakharness.measure.unhindered import unhindered_clock, waited_for_processor


class Machine:
    """A process that waits for a processor for some of the time."""

    def __init__(self) -> None:
        self.now, self.hindered = 100.0, 7.0

    def passes(self, seconds: float, waiting: float) -> None:
        self.now += seconds
        self.hindered += waiting

    def clock(self):  # type: ignore[no-untyped-def]
        return unhindered_clock(1, wall=lambda: self.now, waited=lambda pid: self.hindered)


@pytest.mark.parametrize(
    ("passed", "waiting", "counted"),
    [
        (10.0, 0.0, 10.0),  # an idle machine
        (10.0, 6.0, 4.0),  # somebody else had it for six seconds
        (10.0, 7.5, 2.5),
        (10.0, 9.5, 2.5),  # no more than four times what was asked for passes
    ],
)
def test_what_others_took_does_not_count(passed: float, waiting: float, counted: float) -> None:
    machine = Machine()
    seconds = machine.clock()
    machine.passes(passed, waiting)
    assert seconds() == pytest.approx(counted)


def test_the_clock_goes_on_when_the_process_is_gone() -> None:
    machine = Machine()
    seconds = machine.clock()
    machine.passes(10.0, 6.0)
    before = seconds()
    machine.hindered = 0.0
    assert seconds() >= before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be tied to one processor here")
def test_waiting_beside_another_process_on_one_processor_is_seen() -> None:
    mine = os.sched_getaffinity(0)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        one = {min(mine)}
        os.sched_setaffinity(busy.pid, one)
        os.sched_setaffinity(0, one)
        before = waited_for_processor(os.getpid())
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
        assert waited_for_processor(os.getpid()) > before
    finally:
        os.sched_setaffinity(0, mine)
        busy.kill()
        busy.wait(10)
    assert waited_for_processor(2**22 + 1) < waited_for_processor(os.getpid())  # no such process: this thread's alone
