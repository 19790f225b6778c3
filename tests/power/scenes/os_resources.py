"""Resources of the system that are no object, no block and no descriptor: each leaky twin leaves a fixed number of them
behind in a run, its clean one takes and gives back as many."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import importlib
import os
import select
import socket
import tempfile
import threading
from typing import Any

from leakharness import Run, Scenario

PAGES = 16_384
libc: Any = ctypes.CDLL(None)
KEPT: list[Any] = []
MOST = 12_000
"""Runs of one measurement, at most: what is watched or registered by turns is made for as many."""

memfd = Scenario("memfd", summary="a memory file that grows on one descriptor")
MEMORY = os.memfd_create("x") if hasattr(os, "memfd_create") else -1


@memfd.mode("leaky", must="FAIL", abort="none")
def memfd_leaky(run: Run) -> None:
    os.write(MEMORY, bytes(PAGES))


@memfd.mode("clean", must="PASS", default=True, abort="none")
def memfd_clean(run: Run) -> None:
    os.pwrite(MEMORY, bytes(PAGES), 0)


deleted = Scenario("deleted", summary="a deleted file that is still open and grows")
OPEN: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the process


@deleted.mode("leaky", must="FAIL", abort="none")
def deleted_leaky(run: Run) -> None:
    OPEN.write(bytes(PAGES))


@deleted.mode("clean", must="PASS", default=True, abort="none")
def deleted_clean(run: Run) -> None:
    OPEN.seek(0)
    OPEN.write(bytes(PAGES))


left = Scenario("left", summary="a folder with a file in it is left in the temporary folder")


@left.mode("leaky", must="FAIL", abort="none")
def left_leaky(run: Run) -> None:
    folder = tempfile.mkdtemp()
    os.close(os.open(folder + "/file", os.O_CREAT))


@left.mode("clean", must="PASS", default=True, abort="none")
def left_clean(run: Run) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.close(os.open(folder + "/file", os.O_CREAT))


shared = Scenario("shared", summary="POSIX shared memory is closed and not unlinked")


@shared.setup
def unlinked_at_the_end() -> Any:
    yield
    for name in KEPT:
        os.unlink(f"/dev/shm/{name}")


def _segment(run: Run) -> str:
    name = f"leakharness-test-{os.getppid()}-{os.getpid()}-{run.index}"
    descriptor = os.open(f"/dev/shm/{name}", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(descriptor, bytes(PAGES))
    os.close(descriptor)
    return name


@shared.mode("leaky", must="FAIL", abort="none")
def shared_leaky(run: Run) -> None:
    KEPT.append(_segment(run))


@shared.mode("clean", must="PASS", default=True, abort="none")
def shared_clean(run: Run) -> None:
    os.unlink(f"/dev/shm/{_segment(run)}")


sysv = Scenario("sysv", summary="System V shared memory")
IPC_PRIVATE, IPC_CREAT, IPC_RMID = 0, 0o1000, 0


@sysv.setup
def removed_at_the_end() -> Any:
    yield
    for number in KEPT:
        libc.shmctl(number, IPC_RMID, None)


@sysv.mode("leaky", must="FAIL", abort="none")
def sysv_leaky(run: Run) -> None:
    KEPT.append(libc.shmget(IPC_PRIVATE, PAGES, IPC_CREAT | 0o600))


@sysv.mode("clean", must="PASS", default=True, abort="none")
def sysv_clean(run: Run) -> None:
    libc.shmctl(libc.shmget(IPC_PRIVATE, PAGES, IPC_CREAT | 0o600), IPC_RMID, None)


inotify = Scenario("inotify", summary="a watch in one inotify descriptor")
IN_MODIFY = 2
WATCHED: list[str] = []


@inotify.setup
def folders() -> None:
    folder = tempfile.mkdtemp()
    for number in range(MOST):
        WATCHED.append(f"{folder}/{number}")
        os.close(os.open(WATCHED[-1], os.O_CREAT))
    KEPT.append(libc.inotify_init())


@inotify.mode("leaky", must="FAIL", abort="none")
def inotify_leaky(run: Run) -> None:
    libc.inotify_add_watch(KEPT[0], WATCHED[run.index].encode(), IN_MODIFY)


@inotify.mode("clean", must="PASS", default=True, abort="none")
def inotify_clean(run: Run) -> None:
    libc.inotify_rm_watch(KEPT[0], libc.inotify_add_watch(KEPT[0], WATCHED[run.index].encode(), IN_MODIFY))
    os.read(KEPT[0], 4096)


lock = Scenario("lock", summary="a locked range of one file")
LOCKED: Any = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process


@lock.mode("leaky", must="FAIL", abort="none")
def lock_leaky(run: Run) -> None:
    fcntl.lockf(LOCKED, fcntl.LOCK_EX, 1, 2 * run.index)


@lock.mode("clean", must="PASS", default=True, abort="none")
def lock_clean(run: Run) -> None:
    fcntl.lockf(LOCKED, fcntl.LOCK_EX, 1, 2 * run.index)
    fcntl.lockf(LOCKED, fcntl.LOCK_UN, 1, 2 * run.index)


timer = Scenario("timer", summary="a POSIX timer")


@timer.mode("leaky", must="FAIL", abort="none")
def timer_leaky(run: Run) -> None:
    libc.timer_create(1, None, ctypes.byref(ctypes.c_void_p()))


@timer.mode("clean", must="PASS", default=True, abort="none")
def timer_clean(run: Run) -> None:
    made = ctypes.c_void_p()
    libc.timer_create(1, None, ctypes.byref(made))
    libc.timer_delete(made)


unread = Scenario("unread", summary="bytes that nobody reads, in a socket")
HERE, THERE = socket.socketpair()
HERE.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
HERE.setblocking(False)


@unread.mode("leaky", must="FAIL", abort="none")
def unread_leaky(run: Run) -> None:
    HERE.send(b"ten bytes.")


@unread.mode("clean", must="PASS", default=True, abort="none")
def unread_clean(run: Run) -> None:
    HERE.send(b"ten bytes.")
    THERE.recv(10)


other_loop = Scenario("other-loop", summary="a task of the event loop of another thread")
LOOP = asyncio.new_event_loop()


@other_loop.setup
def started() -> None:
    threading.Thread(target=LOOP.run_forever, daemon=True).start()


@other_loop.mode("leaky", must="FAIL", abort="none")
def other_loop_leaky(run: Run) -> None:
    asyncio.run_coroutine_threadsafe(asyncio.sleep(3600), LOOP)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), LOOP).result()


@other_loop.mode("clean", must="PASS", default=True, abort="none")
def other_loop_clean(run: Run) -> None:
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), LOOP).result()


interpreter = Scenario("interpreter", summary="a sub-interpreter")


def _interpreters() -> Any:
    try:
        return importlib.import_module("_interpreters")
    except ImportError:
        return importlib.import_module("_xxsubinterpreters")


@interpreter.mode("leaky", must="FAIL", abort="none")
def interpreter_leaky(run: Run) -> None:
    if run.index % 5 == 0:
        KEPT.append(_interpreters().create())


@interpreter.mode("clean", must="PASS", default=True, abort="none")
def interpreter_clean(run: Run) -> None:
    if run.index % 5 == 0:
        _interpreters().destroy(_interpreters().create())


epoll = Scenario("epoll", summary="a registration in one epoll descriptor")
PAIRS: list[int] = []


@epoll.setup
def descriptors() -> None:
    PAIRS.extend(os.eventfd(0) for _ in range(500))
    KEPT.append(select.epoll())


@epoll.mode("leaky", must="FAIL", abort="none")
def epoll_leaky(run: Run) -> None:
    if run.index % 20 == 0 and run.index // 20 < len(PAIRS):
        KEPT[0].register(PAIRS[run.index // 20], select.EPOLLIN)


@epoll.mode("clean", must="PASS", default=True, abort="none")
def epoll_clean(run: Run) -> None:
    KEPT[0].register(PAIRS[0], select.EPOLLIN)
    KEPT[0].unregister(PAIRS[0])
