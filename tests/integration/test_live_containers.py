"""Containers that moved to a larger table while the memory of a process was copied."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from leakharness.errors import UsageError
from leakharness.heap.paths import reachable
from leakharness.live.containers_again import read_containers_again
from leakharness.live.layouts import layout_of
from leakharness.live.look import MISFIT_ATTEMPTS, look
from leakharness.live.memory import Memory
from leakharness.live.objects import Objects, find_objects
from leakharness.live.process import Region, Target, find_target

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
COUNT = 3_000
SERVICE = f"""
import time
LISTENERS = [[number] for number in range({COUNT})]
SESSIONS = {{number: [number] for number in range({COUNT})}}
NAMES = {{str(number): [number] for number in range({COUNT})}}
CLIENTS = {{(number, str(number)) for number in range({COUNT})}}
print(*map(id, (LISTENERS, SESSIONS, NAMES, CLIENTS)), flush=True)
time.sleep(60)
"""
PLACES = ("PyListObject.ob_item", "PyDictObject.ma_keys", "PyDictObject.ma_keys", "PySetObject.table")


@pytest.fixture
def service() -> Iterator[tuple[int, list[int]]]:
    """Its pid, and the addresses of its containers."""
    with subprocess.Popen([sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, [int(word) for word in process.stdout.readline().split()]
        process.kill()


def read(target: Target) -> Objects:
    layout = layout_of(target.version)
    with target.opened() as source:
        return find_objects(Memory(source), layout)


def test_a_table_that_moved_meanwhile_is_read_with_its_head(service: tuple[int, list[int]]) -> None:
    """Each container is as it is now, wherever its head said that the table was."""
    pid, containers = service
    target = find_target(pid)
    objects = read(target)
    memory, layout = objects.memory, objects.layout
    places = [at + layout(field) for at, field in zip(containers, PLACES, strict=True)]
    tables = [memory.word(place) for place in places]
    words = [memory.data(table, 2_000) for table in tables]
    for place, table in zip(places, tables, strict=True):
        memory.put(place, (8 * 4096).to_bytes(8, "little"))
        memory.put(table, bytes(2_000))
    with target.opened() as source:
        read_containers_again(objects, source)
    assert [memory.word(place) for place in places] == tables
    assert [memory.data(table, 2_000) for table in tables] == words


def test_what_was_emptied_meanwhile_is_full_as_it_was_copied(service: tuple[int, list[int]]) -> None:
    """Its entries are in the copy, though in the process it has none any more."""
    pid, containers = service
    target = find_target(pid)
    objects = read(target)
    heads = [objects.memory.data(at, 48) for at in containers]

    class Emptied:
        """The process as it would be: nothing in any table."""

        regions = target.regions

        def used(self, region: Region) -> list[tuple[int, int]]:
            raise AssertionError("nothing is copied as a whole")

        def read_into(self, buffer: memoryview, address: int) -> int:
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    read_containers_again(objects, Emptied())
    assert [objects.memory.data(at, 48) for at in containers] == heads


def test_a_look_reads_them_again(service: tuple[int, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that was copied while it moved still holds what is in it."""
    pid, (listeners, *_) = service

    def torn(memory: Memory, layout: object) -> Objects:
        objects = find_objects(memory, layout)  # type: ignore[arg-type]
        memory.put(listeners + objects.layout("PyListObject.ob_item"), (8 * 4096).to_bytes(8, "little"))
        return objects

    monkeypatch.setattr("leakharness.live.look.find_objects", torn)
    found = look(pid)
    assert found.reached > found.objects - COUNT


@pytest.mark.parametrize("emptied", [1, 9])
def test_a_registry_that_was_emptied_during_the_copy_is_no_other_build(
    service: tuple[int, list[int]], monkeypatch: pytest.MonkeyPatch, emptied: int
) -> None:
    """The process is read again; what is so each time is refused."""
    pid, _ = service
    looks = []

    def seen(graph: object, *_: object) -> object:
        looks.append(1)
        found = reachable(graph)  # type: ignore[arg-type]
        return found[:0] if len(looks) <= emptied else found

    monkeypatch.setattr("leakharness.live.look.reachable", seen)
    if emptied == 1:
        assert look(pid).fits
    else:
        with pytest.raises(UsageError, match="does not fit this build"):
            look(pid)
    assert len(looks) == min(emptied + 1, MISFIT_ATTEMPTS)
