"""Resident memory inside address space that is reserved once: an arena that is used up for ever, and buffers whose
pages are touched for the first time, which comes to an end."""

from __future__ import annotations

import mmap
import tempfile

from leakharness import Run, Scenario

GIB, MIB, CHUNK = 2**30, 2**20, 65_536
DATA = b"x" * CHUNK


def _file(size: int) -> mmap.mmap:
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return mmap.mmap(file.fileno(), size)


STATE: dict[str, mmap.mmap] = {}


def _write(memory: mmap.mmap, run: Run, step: int = CHUNK) -> None:
    at = run.index * step % len(memory)
    memory[at : at + step] = DATA[:step]


private = Scenario("private", summary="private anonymous memory, 64 KiB a run")


@private.mode("leaky", must="FAIL", abort="none")
def private_leaky(run: Run) -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    _write(STATE.get("m") or STATE.setdefault("m", mmap.mmap(-1, 4 * GIB, flags)), run)


@private.mode("clean", must="PASS", default=True, abort="none")
def private_clean(run: Run) -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    _write(STATE.get("m") or STATE.setdefault("m", mmap.mmap(-1, 100 * MIB, flags)), run)


shared = Scenario("shared", summary="shared anonymous memory, a page a run")


@shared.mode("leaky", must="FAIL", abort="none")
def shared_leaky(run: Run) -> None:
    _write(STATE.get("m") or STATE.setdefault("m", mmap.mmap(-1, 4 * GIB)), run, 8192)


@shared.mode("clean", must="PASS", default=True, abort="none")
def shared_clean(run: Run) -> None:
    _write(STATE.get("m") or STATE.setdefault("m", mmap.mmap(-1, 20 * MIB)), run, 8192)


file = Scenario("file", summary="a mapped file that is written, or only read")


@file.mode("leaky", must="FAIL", abort="none")
def file_leaky(run: Run) -> None:
    _write(STATE.get("m") or STATE.setdefault("m", _file(4 * GIB)), run)


@file.mode("clean", must="PASS", default=True, abort="none")
def file_clean(run: Run) -> None:
    memory = STATE.get("m") or STATE.setdefault("m", _file(4 * GIB))
    at = run.index * CHUNK % len(memory)
    sum(memory[at : at + CHUNK : 4096])
