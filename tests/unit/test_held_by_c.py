"""What C code holds, from counts of blocks and references to sentences."""

from __future__ import annotations

import pytest

from leakharness.measure.held_by_c import STRAY_BLOCKS, more_blocks
from leakharness.worker.protocol import BlockCount, BlocksAnswer

RUNS = 100
BEFORE = BlocksAnswer((BlockCount("str", 64, 5_000, 10), BlockCount("int", 32, 900, 0), BlockCount("", 48, 700, 0)))


def after(*rows: tuple[str, int, int, int]) -> BlocksAnswer:
    """The census with so many more: (type, bytes, blocks, those that nothing refers to)."""
    old = {(row.type, row.size): row for row in BEFORE.rows}
    for kind, size, more, alone in rows:
        was = old.get((kind, size), BlockCount(kind, size, 0, 0))
        old[kind, size] = BlockCount(kind, size, was.blocks + more, was.alone + alone)
    return BlocksAnswer(tuple(old.values()))


def sentences(*rows: tuple[str, int, int, int]) -> list[str]:
    return [row.sentence for row in more_blocks(BEFORE, after(*rows), RUNS).by_c]


def test_objects_that_nothing_refers_to_are_kept_by_c_code() -> None:
    """By type, with their number a run and their size; a stray one or two does not spoil the number."""
    assert sentences(("int", 32, 501, 500)) == [
        "5 int a run of 32 bytes, referred to by nothing in the heap: C code keeps them"
    ]
    assert sentences(("str", 64, 102, 102)) == [
        "1 str a run of 64 bytes, referred to by nothing in the heap: C code keeps it"
    ]
    (row,) = more_blocks(BEFORE, after(("int", 32, 500, 500)), RUNS).by_c
    assert (row.type, row.count_per_run, row.bytes) == ("int", 5.0, 160.0)


def test_sizes_of_one_type_are_told_together() -> None:
    """A text of each run has another length."""
    assert sentences(("str", 64, 50, 50), ("str", 80, 50, 50)) == [
        "1 str a run of 64 to 80 bytes, referred to by nothing in the heap: C code keeps it"
    ]


def test_one_in_twenty_runs() -> None:
    """No whole number is made of it."""
    assert sentences(("str", 64, 5, 5))[0].startswith("0.05 str a run")


def test_what_the_heap_refers_to_is_no_work_of_c() -> None:
    """It is told where the class of the growth is explained."""
    found = more_blocks(BEFORE, after(("str", 64, 200, 1)), RUNS)
    assert (found.by_c, found.in_heap) == ((), "2 str of 64 bytes")


def test_blocks_without_an_object_are_told_where_nothing_else_explains_them() -> None:
    """A list that C code keeps has a table, which is no finding of its own."""
    assert sentences(("", 48, 300, 0)) == [
        "3 blocks a run of 48 bytes that hold no object: a C struct, or a container's table"
    ]
    assert len(sentences(("", 48, 100, 0), ("list", 64, 100, 100))) == 1


@pytest.mark.parametrize(("more", "told"), [(STRAY_BLOCKS, False), (STRAY_BLOCKS + 1, True)])
def test_a_few_stray_blocks_are_nothing(more: int, told: bool) -> None:
    """Of each type and size, some come and go by themselves."""
    assert bool(sentences(("float", 32, more, more))) == told
