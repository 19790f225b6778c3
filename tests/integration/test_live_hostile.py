"""A process whose memory lies: an answer or one line, never a traceback, a hang or runaway memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from leakharness.errors import LeakHarnessError
from leakharness.live import look as look_module
from leakharness.live.layouts import layout_of
from leakharness.live.look import look
from leakharness.live.memory import Memory, Source
from leakharness.live.objects import find_objects
from leakharness.live.process import Target, find_target

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="reads /proc/PID/mem of x86-64"
)
SMALL = "import time\nclass Node: pass\nKEPT = [Node() for _ in range(200)]\nprint('up', flush=True)\ntime.sleep(600)\n"


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with subprocess.Popen([sys.executable, "-S", "-c", SMALL], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield find_target(process.pid)
        finally:
            process.kill()


@contextmanager
def in_one_line() -> Iterator[None]:
    """What cannot be read is said in one line; anything but our own error is a fault."""
    try:
        yield
    except LeakHarnessError as error:
        if "\n" in str(error):
            pytest.fail(f"more than one line: {error}")


def spoilt(memory: Memory, seed: int) -> Memory:
    """The same memory with words overwritten: by noise, by addresses of other words, by what follows them."""
    dice = random.Random(seed)
    words = memory.words
    filled = np.flatnonzero(words)
    for _ in range(dice.choice([1, 20, 400, 5_000])):
        at = int(filled[dice.randrange(len(filled))])
        words[at] = {
            0: dice.getrandbits(64),
            1: int(words[filled[dice.randrange(len(filled))]]),
            2: dice.choice([0, 1, 2**64 - 1, 2**63, 1 << 40, 1 << 28]),
            3: int(words[at]) ^ (1 << dice.randrange(64)),
        }[dice.randrange(4)]
    return memory


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60))])
def test_memory_that_lies_ends_in_an_answer_or_one_line(
    target: Target, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fields of objects, types, tables and frames overwritten at random."""

    def lying(source: Source, into: Memory | None = None, *, spare: bool = False) -> Memory:
        return spoilt(Memory(source, into, spare=spare), seed)

    monkeypatch.setattr(look_module, "Memory", lying)
    monkeypatch.setattr(look_module, "ATTEMPTS", 1)
    with in_one_line():
        found = look(target.pid)
        found.retainers(found.program_nodes(3))
        found.document([])


@pytest.mark.parametrize("of", ["noise", "pages of others"])
def test_memory_without_any_sense_ends_in_one_line(target: Target, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word at random; and every page in another's place, so that each address leads to something else."""

    def lying(source: Source, into: Memory | None = None, *, spare: bool = False) -> Memory:
        memory = Memory(source, into, spare=spare)
        dice, words = np.random.default_rng(5), memory.words[: len(memory.words) // 512 * 512]
        if of == "noise":
            words[:] = dice.integers(0, 2**64, len(words), np.uint64)
        else:
            dice.shuffle(words.reshape(-1, 512))
        return memory

    monkeypatch.setattr(look_module, "Memory", lying)
    monkeypatch.setattr(look_module, "ATTEMPTS", 1)
    with in_one_line():
        look(target.pid)


CHANGING = """
import threading
class Node: pass
print("up", flush=True)
def churn():
    while True:
        ring = []
        ring.append(ring)
        nodes = [Node() for _ in range(300)]
        for one, other in zip(nodes, reversed(nodes)):
            one.other, one.by_key, one.ring = other, {id(one): one, "k" * (id(one) % 7): [other]}, ring
for _ in range(3):
    threading.Thread(target=churn).start()
"""


@pytest.mark.slow
def test_a_heap_that_changes_all_the_time_ends_in_an_answer_or_one_line() -> None:
    """Objects are made and freed, rings collected and tables grown while they are read, again and again."""
    with subprocess.Popen([sys.executable, "-S", "-c", CHANGING], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(3):
                with in_one_line():
                    found = look(process.pid)
                    found.retainers(found.program_nodes(2))
            assert process.poll() is None
        finally:
            process.kill()


def test_a_type_that_is_its_own_base_ends(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every type's base is itself, and every dict says that it has 2**40 entries."""
    layout = layout_of(target.version)

    def lying(source: Source, into: Memory | None = None, *, spare: bool = False) -> Memory:
        memory = Memory(source, into, spare=spare)
        objects = find_objects(memory, layout)
        for kind in objects.types.tolist():
            memory.words[int(memory.index(np.array([kind + layout("PyTypeObject.tp_base")], np.uint64))[0])] = kind
        for number in np.flatnonzero(np.array(objects.c_name)[objects.kind] == "dict")[:200].tolist():
            keys = memory.word(int(objects.address[number]) + layout("PyDictObject.ma_keys"))
            at = int(memory.index(np.array([keys + layout("PyDictKeysObject.dk_nentries")], np.uint64))[0])
            memory.words[at] = 1 << 40
        return memory

    monkeypatch.setattr(look_module, "Memory", lying)
    with in_one_line():
        look(target.pid)


# 0x4000 is MAP_NORESERVE (include/uapi/asm-generic/mman.h); from 3.13 on mmap has its name.
RESERVED = (
    "import mmap, sys, time\nclass Node: pass\nKEPT = [Node() for _ in range(200)]\n"
    "room = mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)\n"
    "room[3 << 30] = 1\nprint('up', flush=True)\ntime.sleep(600)\n"
)


def test_memory_that_was_never_written_is_not_read() -> None:
    """4 GiB of address space with one page: neither this process nor the one that is read grows by it."""

    def tables(pid: int) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmPTE:"))

    with subprocess.Popen([sys.executable, "-S", "-c", RESERVED], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            before = tables(process.pid)
            target = find_target(process.pid)
            with target.opened() as source:
                memory = Memory(source)
                room = next(region for region in target.regions if region.end - region.start >= 4 << 30)
                assert sum(end - start for start, end in source.used(room)) < 1 << 20
            assert memory.word(room.start + (3 << 30)) & 0xFF == 1
            assert len(find_objects(memory, layout_of(target.version))) > 200
            assert tables(process.pid) - before < 1024  # KiB; a page table for all of it has 8 MiB
        finally:
            process.kill()


def test_a_file_that_only_looks_like_a_core_dump_is_one_line(tmp_path: Path) -> None:
    dice = random.Random(7)
    good = bytearray(Path(sys.executable).resolve().read_bytes()[:20_000])
    good[16:18] = (4).to_bytes(2, "little")
    for number in range(60):
        data = bytearray(good)
        for _ in range(number):
            data[dice.randrange(200)] = dice.randrange(256)
        path = tmp_path / "core"
        path.write_bytes(data)
        with in_one_line():
            look_module.look_at_core(path)
