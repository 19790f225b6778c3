"""Containers that moved to a larger table while the memory of a process was copied."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from leakharness.live.containers_again import read_containers_again
from leakharness.live.layouts import layout_of
from leakharness.live.look import look
from leakharness.live.memory import Memory
from leakharness.live.objects import Objects, find_objects
from leakharness.live.process import Target, find_target

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
    """Each container is as it is now, wherever its head said that the table was; a table that is where nothing was
    copied leaves it as it was."""
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
