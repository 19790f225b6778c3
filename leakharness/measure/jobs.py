"""Measurements side by side: wait for them so that an interruption is noticed, and end their processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import Any

from leakharness.measure.worker_process import end_all

ENDING_PAUSE_S = 0.05
WAKING_S = 0.2


def _results(jobs: Sequence[Future[Any]]) -> list[Any]:
    """What the jobs gave. Woken now and then: a main thread that waits without end may not notice a Ctrl-C."""
    while wait(jobs, timeout=WAKING_S, return_when=FIRST_EXCEPTION).not_done:
        for job in jobs:
            if job.done():
                job.result()
    return [job.result() for job in jobs]


def _end_processes_of(jobs: Sequence[Future[Any]]) -> None:
    """After Ctrl-C: leaving the pool would wait for what its threads wait for, so their processes are ended; again
    and again, as a thread may just be starting one."""
    while not all(job.done() for job in jobs):
        end_all()
        time.sleep(ENDING_PAUSE_S)
