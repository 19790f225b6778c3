"""Leaks that are told by *what* grows: each kind beside a twin that makes as many and lets them go.

Where the collector sees nothing, the kept things stand in a list, whose own table is no allocator block.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from leakharness import Run, Scenario

KEPT: list[Any] = []
NATIVE_BYTES = 100
"""glibc hands out a chunk of 112 bytes for it: 8 of its own, rounded up to 16 (malloc/malloc.c)."""
MAP_BYTES = 65_536
PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS = 3, 0x22

libc: Any = ctypes.CDLL(None)
libc.malloc.restype = libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *([ctypes.c_int] * 3), ctypes.c_long)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
libc.free.argtypes = (ctypes.c_void_p,)

strings = Scenario("str", summary="strings only: no object that the collector lists")


@strings.mode("leaky", must="FAIL", abort="none")
def strings_leaky(run: Run) -> None:
    KEPT.append(f"a string of run {run.index}")


@strings.mode("clean", must="PASS", default=True, abort="none")
def strings_clean(run: Run) -> None:
    KEPT[:] = [f"a string of run {run.index}"]


byte_strings = Scenario("bytes", summary="bytes only")


@byte_strings.mode("leaky", must="FAIL", abort="none")
def byte_strings_leaky(run: Run) -> None:
    KEPT.append(run.index.to_bytes(64, "little"))


@byte_strings.mode("clean", must="PASS", default=True, abort="none")
def byte_strings_clean(run: Run) -> None:
    KEPT[:] = [run.index.to_bytes(64, "little")]


ints = Scenario("int", summary="ints only")


@ints.mode("leaky", must="FAIL", abort="none")
def ints_leaky(run: Run) -> None:
    KEPT.append(1_000_000 + run.index)


@ints.mode("clean", must="PASS", default=True, abort="none")
def ints_clean(run: Run) -> None:
    KEPT[:] = [1_000_000 + run.index]


native = Scenario("malloc", summary="a block of malloc that nothing in Python knows")


@native.mode("leaky", must="FAIL", abort="none")
def native_leaky(run: Run) -> None:
    libc.malloc(NATIVE_BYTES)


@native.mode("clean", must="PASS", default=True, abort="none")
def native_clean(run: Run) -> None:
    libc.free(libc.malloc(NATIVE_BYTES))


mapping = Scenario("mmap", summary="pages mapped beside malloc, never touched")


def _map() -> int:
    address: int = libc.mmap(None, MAP_BYTES, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0)
    return address


@mapping.mode("leaky", must="FAIL", abort="none")
def mapping_leaky(run: Run) -> None:
    _map()


@mapping.mode("clean", must="PASS", default=True, abort="none")
def mapping_clean(run: Run) -> None:
    libc.munmap(_map(), MAP_BYTES)


descriptor = Scenario("descriptor", summary="a descriptor opened and not closed")


@descriptor.mode("leaky", must="FAIL", abort="none")
def descriptor_leaky(run: Run) -> None:
    os.open(os.devnull, os.O_RDONLY)


@descriptor.mode("clean", must="PASS", default=True, abort="none")
def descriptor_clean(run: Run) -> None:
    os.close(os.open(os.devnull, os.O_RDONLY))


pipes = Scenario("pipes", summary="eight descriptors a run: the process may open 1024 of them, as a rule")


@pipes.setup
def _usual_limit() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))


@pipes.mode("leaky", must="FAIL", abort="none")
def pipes_leaky(run: Run) -> None:
    for _ in range(4):
        os.pipe()


@pipes.mode("clean", must="PASS", default=True, abort="none")
def pipes_clean(run: Run) -> None:
    for _ in range(4):
        for end in os.pipe():
            os.close(end)


thread = Scenario("thread", summary="a thread that waits for an event that never comes, or does")


@thread.mode("leaky", must="FAIL", abort="none")
def thread_leaky(run: Run) -> None:
    threading.Thread(target=threading.Event().wait, daemon=True).start()


@thread.mode("clean", must="PASS", default=True, abort="none")
def thread_clean(run: Run) -> None:
    """The thread is told to end, and not waited for."""
    event = threading.Event()
    threading.Thread(target=event.wait, daemon=True).start()
    event.set()


child = Scenario("child", summary="a child process that nobody ends, or that is ended and reaped")


@child.setup
def _without_finalizers() -> Iterator[None]:
    """What subprocess keeps of unreaped children is its own list: leave it to the program."""
    yield
    for process in KEPT:
        process.kill()


@child.mode("leaky", must="FAIL", abort="none")
def child_leaky(run: Run) -> None:
    KEPT.append(_sleeper())


@child.mode("clean", must="PASS", default=True, abort="none")
def child_clean(run: Run) -> None:
    with contextlib.closing(_Ended()):
        pass


def _sleeper() -> Any:
    return subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)


class _Ended:
    """A child that is killed and waited for when closed."""

    def __init__(self) -> None:
        self.process = _sleeper()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


tasks = Scenario("task", summary="a task that waits for ever, or is cancelled")


@tasks.mode("leaky", must="FAIL", abort="none")
async def tasks_leaky(run: Run) -> None:
    KEPT.append(asyncio.ensure_future(asyncio.Event().wait()))
    await asyncio.sleep(0)


@tasks.mode("clean", must="PASS", default=True, abort="none")
async def tasks_clean(run: Run) -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    await asyncio.sleep(0)
    task.cancel()


classes = Scenario("class", summary="a class built for every run and cached by a key that never comes back")
CLASSES: dict[int, type] = {}


@classes.mode("leaky", must="FAIL", abort="none")
def classes_leaky(run: Run) -> None:
    CLASSES[run.index] = type("Model", (), {})


@classes.mode("clean", must="PASS", default=True, abort="none")
def classes_clean(run: Run) -> None:
    CLASSES[run.index % 8] = type("Model", (), {})


untouched = Scenario("resident", summary="a large block made early and touched by and by: resident size alone rises")
BLOCK = bytearray(0)


@untouched.mode("clean", must="PASS", default=True, abort="none")
def untouched_clean(run: Run) -> None:
    if not KEPT:
        KEPT.append(_map_of(64 * 1024 * 1024))
    if run.index < 4000:
        ctypes.memset(KEPT[0] + run.index * 8192, 1, 1)


def _map_of(size: int) -> int:
    address: int = libc.mmap(None, size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0)
    return address


page = Scenario("page-in-5", summary="a page mapped in every fifth run: 250 runs of it are below the floor")


@page.mode("leaky", must="FAIL", abort="none")
def page_leaky(run: Run) -> None:
    if run.index % 5 == 0:
        _map_of(4096)


@page.mode("clean", must="PASS", default=True, abort="none")
def page_clean(run: Run) -> None:
    if run.index % 5 == 0:
        libc.munmap(_map_of(4096), 4096)
