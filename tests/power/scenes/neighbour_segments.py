"""Shared memory with a name, while another measurement runs: this process's own is told from the other's.

The tests that run it remove what it leaves."""

from __future__ import annotations

import os
from multiprocessing import resource_tracker, shared_memory

from leakharness import Run, Scenario

PAGES = 8192
MARKED: list[str] = []

segments = Scenario("segments", summary="shared memory with a name, a segment a run")


@segments.mode("multiprocessing", must="FAIL", abort="none")
def by_multiprocessing(run: Run) -> None:
    name = f"leakharness-test-{os.getppid()}-{os.getpid()}-{run.index}-own"
    segment = shared_memory.SharedMemory(name, create=True, size=PAGES)
    segment.buf[:PAGES] = bytes(PAGES)
    resource_tracker.unregister(segment._name, "shared_memory")  # type: ignore[attr-defined]
    segment.close()


@segments.mode("clean", must="PASS", default=True, abort="none")
def clean(run: Run) -> None:
    segment = shared_memory.SharedMemory(create=True, size=PAGES)
    segment.buf[:PAGES] = bytes(PAGES)
    segment.close()
    segment.unlink()


def _made_by_a_child(run: Run) -> None:
    name = f"leakharness-test-{os.getppid()}-{os.getpid()}-{run.index}"
    child = os.fork()
    if child == 0:
        with open(f"/dev/shm/{name}", "wb") as file:
            file.write(bytes(PAGES))
        os._exit(0)
    os.waitpid(child, 0)


@segments.mode("child", must="FAIL", abort="none")
def child(run: Run) -> None:
    """Nobody else is known to have made them."""
    _made_by_a_child(run)


@segments.mode("neighbour", must="PASS", abort="none")
def neighbour(run: Run) -> None:
    """The same beside another measurement, which left its mark: they may be its own."""
    if not MARKED:
        MARKED.append(f"/dev/shm/leakharness-measuring-{os.getppid()}")
        os.close(os.open(MARKED[0], os.O_CREAT))
    _made_by_a_child(run)


@segments.mode("both", must="FAIL", abort="none")
def both(run: Run) -> None:
    """A leak of this process's own beside such a neighbour: its number alone is told."""
    neighbour(run)
    by_multiprocessing(run)
