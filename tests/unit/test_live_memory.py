"""The copy of a process's memory: addresses as positions, and a second copy in the pages of the first."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from leakharness.live import memory as module
from leakharness.live.memory import Memory
from leakharness.live.process import Region

PAGE = 4096


class Pages:
    """A process as (start, pages): what each page holds, None for one that was never written."""

    def __init__(self, mappings: dict[int, list[int | None]], readonly: Sequence[int] = ()) -> None:
        self.mappings = mappings
        self.regions = tuple(
            Region(
                start,
                start + len(pages) * PAGE,
                *(("r--p", "/lib/libpython3.12.so") if start in readonly else ("rw-p", "")),
            )
            for start, pages in sorted(mappings.items())
        )
        self.asked: list[int] = []

    def used(self, region: Region) -> Sequence[tuple[int, int]]:
        return [
            (region.start + place * PAGE, region.start + (place + 1) * PAGE)
            for place, page in enumerate(self.mappings[region.start])
            if page is not None
        ]

    def read_into(self, buffer: memoryview, address: int) -> int:
        self.asked.append(address)
        start = max(start for start in self.mappings if start <= address)
        page = self.mappings[start][(address - start) // PAGE]
        assert page is not None, "read where nothing was written"
        buffer[:PAGE] = np.full(PAGE // 8, page, np.uint64).tobytes()
        return PAGE


def words_of(pages: Pages) -> dict[int, int]:
    return {
        start + place * PAGE + 8 * (place % 500): page or 0
        for start, held in pages.mappings.items()
        for place, page in enumerate(held)
    }


def drawn(dice: random.Random) -> Pages:
    return Pages(
        {
            ((1 + number) << 24) - dice.choice([0, 0, 1, 9]) * PAGE: [
                dice.choice([None, dice.randrange(1, 1 << 60)]) for _ in range(dice.randint(1, 40))
            ]
            for number in range(6)
            if dice.random() < 0.7 or number == 0
        }
    )


def test_a_word_is_found_by_its_address_alone_or_with_others() -> None:
    """At both ends of each mapping and between them; elsewhere it is zero."""
    pages = Pages({0x10000: [1, None, 3], 0x20000: [4], 0x21000: [5]})
    memory = Memory(pages)
    wanted = {
        0: 0,
        0xFFF8: 0,
        0x10000: 1,
        0x11000: 0,
        0x12FF8: 3,
        0x13000: 0,
        0x20FF8: 4,
        0x21000: 5,
        0x22000: 0,
        2**64 - 8: 0,
    }
    assert memory.read(np.array(list(wanted), np.uint64)).tolist() == list(wanted.values())
    assert [memory.word(address) for address in wanted] == list(wanted.values())
    assert memory.places_of(4).tolist() == list(range(0x20000, 0x21000, 8))
    memory.release()
    assert memory.read(np.array(list(wanted), np.uint64)).tolist() == [0] * len(wanted)


@pytest.mark.parametrize("tail", [1, 1 << 20])
def test_a_second_copy_in_the_pages_of_the_first_has_nothing_of_it(tail: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mappings that come, go, grow and shrink between the two, and pages that are given back."""
    monkeypatch.setattr(module, "SPARE", PAGE)
    monkeypatch.setattr(module, "TAIL", tail)
    for seed in range(100):
        dice = random.Random(seed)
        first, second = drawn(dice), drawn(dice)
        memory = Memory(second, Memory(first, spare=True))
        expected = words_of(second)
        assert memory.read(np.array(list(expected), np.uint64)).tolist() == list(expected.values()), seed
        assert [memory.word(address) for address in expected] == list(expected.values()), seed


@pytest.mark.parametrize("room", [True, False])
def test_what_nobody_may_write_is_not_copied_again(room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a process is held, the constants of its libraries would only make that longer; where they can be written
    since, or go into other pages, they are copied."""
    monkeypatch.setattr(module, "SPARE", PAGE)
    monkeypatch.setattr(module, "TAIL", 1)
    mappings: dict[int, list[int | None]] = {0x10000: [1], 0x20000: [2], 0x30000: [3]}
    more: dict[int, list[int | None]] = {} if room else {1 << 40: [4] * 9}
    first, second = Pages(mappings, [0x20000, 0x30000]), Pages({**mappings, **more}, [0x20000])
    memory = Memory(second, Memory(first, spare=True), spare=True)
    assert (0x20000 in second.asked) == (not room)
    assert {0x10000, 0x30000} <= set(second.asked)
    assert [memory.word(address) for address in mappings] == [1, 2, 3]


def test_a_second_copy_is_where_the_first_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the room of a neighbour, where the pages are yet to be had from the kernel; what has grown beyond its own
    room goes elsewhere."""
    monkeypatch.setattr(module, "SPARE", PAGE)
    mappings: dict[int, list[int | None]] = {0x10000: [1], 0x13000: [2], 0x15000: [3]}
    first = Memory(Pages(mappings), spare=True)
    assert Memory(Pages(mappings), first).first.tolist() == first.first.tolist()
    grown = {**mappings, 0x15000: [3] * 20}
    memory = Memory(Pages(grown), first)
    assert memory.first.tolist()[:2] == first.first.tolist()[:2]
    assert [memory.word(address) for address in (*mappings, 0x15000 + 19 * PAGE)] == [1, 2, 3, 3]
