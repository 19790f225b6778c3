"""Memory mappings as Linux lists them, and what their growth says. The texts are cut from real ones."""

from __future__ import annotations

import pytest

from leakharness.judge.verdict import Assessment
from leakharness.measure.mappings import grown, in_words, parsed
from leakharness.measure.resident import ResidentSize

MIB = 2**20


def smaps(*rows: tuple[int, int, str, str, int, int]) -> str:
    """(start, end, permissions, name, resident kB, dirty kB) as /proc/PID/smaps has them."""
    return "".join(
        f"{start:x}-{end:x} {perms} 00000000 00:00 0                          {name}\n"
        f"Size:               {(end - start) // 1024} kB\nRss:                 {rss} kB\nPss:  7 kB\n"
        f"Shared_Clean:          0 kB\nShared_Dirty:          0 kB\nPrivate_Clean:    {rss - dirty} kB\n"
        f"Private_Dirty:       {dirty} kB\nSwap:                  0 kB\nVmFlags: rd wr mr mw me ac sd\n"
        for start, end, perms, name, rss, dirty in rows
    )


ARENA = (0x7F0000000000, 0x7F0000000000 + 4096 * MIB)
KINDS = {
    "[heap]": ("rw-p", "malloc's heap"),
    "[stack]": ("rw-p", "the main thread's stack"),
    "": ("rw-p", "private anonymous memory"),
    "/dev/zero (deleted)": ("rw-s", "shared anonymous memory"),
    "/memfd:x (deleted)": ("rw-s", "shared memory /memfd:x"),
    "/SYSV00000000 (deleted)": ("rw-s", "shared memory /SYSV00000000"),
    "/dev/shm/psm_1": ("rw-s", "shared memory /dev/shm/psm_1"),
    "/srv/a b.bin": ("rw-s", "the file /srv/a b.bin"),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_mapping_has_its_words(name: str) -> None:
    permissions, words = KINDS[name]
    (mapping,) = parsed(smaps((0x1000, 0x3000, permissions, name, 8, 4)))
    assert (mapping.kind, mapping.size, mapping.resident, mapping.dirty) == (words, 8192, 8192, 4096)


def test_what_grew_is_named_with_its_figure_the_most_first() -> None:
    """A mapping that became longer is the same one; one that is new has grown from nothing; one that shrank has not."""
    before = parsed(smaps((0x1000, 0x9000, "rw-p", "[heap]", 4, 4), (*ARENA, "rw-p", "", 100, 100)))
    after = parsed(
        smaps(
            (0x1000, 0xF000, "rw-p", "[heap]", 24, 24),
            (*ARENA, "rw-p", "", 3300, 3300),
            (0x100000, 0x200000, "rw-p", "", 400, 400),
        )
    )
    rows = grown(before, after)
    assert [row.resident // 1024 for row in rows] == [3200, 400, 20]
    assert in_words(rows, 50) == (
        "private anonymous memory at 0x7f0000000000 (4 GiB) +64 KiB a run, "
        "private anonymous memory at 0x100000 (1 MiB) +8 KiB a run"
    )
    assert grown(after, before) == []


def test_a_mapping_that_was_cut_in_two_has_not_grown() -> None:
    """By mprotect of its middle, say."""
    before = parsed(smaps((0x10000, 0x20000, "rw-p", "", 32, 32)))
    after = parsed(smaps((0x10000, 0x18000, "rw-p", "", 16, 16), (0x18000, 0x20000, "r--p", "", 16, 16)))
    assert grown(before, after) == []


OPEN = Assessment("undecided", (), "rss", resident_open=True)


@pytest.mark.parametrize(
    ("size_mib", "dirty", "followed", "fate"),
    [
        (4096, True, True, "goes on"),
        (4096, True, False, "ends"),
        (200, True, True, "ends"),
        (4096, False, True, "evictable"),
    ],
    ids=["an arena", "an arena, not followed yet", "a buffer that fills within the budget", "a file that is read"],
)
def test_where_the_pages_lie_decides(size_mib: int, dirty: bool, followed: bool, fate: str) -> None:
    """64 KiB a run in 10,000 runs: 200 MiB are full then, 4 GiB are not."""
    end = ARENA[0] + size_mib * MIB
    texts = [smaps((ARENA[0], end, "rw-p", "", n * 64, n * 64 * dirty)) for n in (250, 300)]
    resident = ResidentSize(1, 10_000, lambda pid: texts.pop(0))
    assert resident.explained(OPEN, 250, followed=followed) is None
    found = resident.explained(OPEN, 300, followed=followed)
    assert found is not None
    assert found.fate == fate
    assert "+64 KiB a run" in found.why


def test_nothing_is_read_until_it_is_asked_for() -> None:
    """Nor where there are no such files."""
    steady = Assessment("steady", (), "every counter stands still")
    assert ResidentSize(1, 10, lambda pid: pytest.fail("read")).explained(steady, 1, followed=True) is None
    assert ResidentSize(1, 10, lambda pid: None).explained(OPEN, 1, followed=True) is None
