"""Measurements side by side: wait for them so that an interruption is noticed, and end their processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from leakharness.measure.worker_process import end_all

__all__ = ["AT_ONCE", "side_by_side"]

T = TypeVar("T")

AT_ONCE = min(2, os.cpu_count() or 1)
"""Measurements side by side. Exact counters do not mind company; more of them would only slow each other down."""

ENDING_PAUSE_S = 0.05
"""Seconds between two attempts to end the processes of an interrupted pool."""
WAKE_S = 0.2
"""Seconds between two looks of the main thread: a signal that another thread receives does not wake it by itself."""


def side_by_side(calls: Sequence[Callable[[], T]], at_once: int = AT_ONCE) -> list[T]:
    """What the calls give, in their order, ``at_once`` of them at a time.

    Raises what the first failed call raised. An interruption ends the processes that the calls wait for.
    """
    with ThreadPoolExecutor(at_once) as pool:
        jobs: list[Future[T]] = []
        try:
            for call in calls:
                jobs.append(pool.submit(call))
            while wait(jobs, timeout=WAKE_S, return_when=FIRST_EXCEPTION).not_done:
                for job in jobs:
                    if job.done():
                        job.result()
            return [job.result() for job in jobs]
        except BaseException as exc:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(exc, Exception):
                _end_processes_of(jobs)
            raise


def _end_processes_of(jobs: Sequence[Future[Any]]) -> None:
    """End what the threads of the pool wait for, again and again: one of them may just be starting a process."""
    while not all(job.done() for job in jobs):
        end_all()
        time.sleep(ENDING_PAUSE_S)
