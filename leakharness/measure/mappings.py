"""Which memory mapping the resident size grows in, and whether it can go on: read from outside, by Linux's
``/proc/PID/smaps`` (proc_pid_smaps(5)).

Pages that are touched for the first time come to an end with the mapping that they lie in; an arena that an allocator
of its own cuts into pieces for ever looks the same until then. So the end is worked out: if it can be reached, it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leakharness.units import signed_size, size

__all__ = ["Growing", "Mapping", "grown", "in_words", "mappings_of", "parsed"]

HEADER = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+\s*(.*)")
FIELD = re.compile(r"(Rss|Private_Dirty|Shared_Dirty|Swap): +(\d+) ")
KIB = 1024
SHARED = ("/memfd:", "/dev/shm/", "/SYSV")
"""Names of mappings that are no file on a disk (memfd_create(2), shm_overview(7), sysvipc(7))."""
SHOWN = 3
"""Mappings that a sentence names, those that grow most."""
LEAST_SHARE = 0.05
"""Of the growth that a mapping must have to be named."""


@dataclass(frozen=True)
class Mapping:
    """One mapping; ``resident`` and ``dirty`` in bytes. What is dirty cannot be read again from a file."""

    start: int
    end: int
    shared: bool
    name: str
    resident: int = 0
    dirty: int = 0

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def kind(self) -> str:
        """What it is, in words."""
        if self.name == "[heap]":
            return "malloc's heap"
        if self.name.startswith("[stack"):
            return "the main thread's stack"
        if self.name.startswith(SHARED):
            return f"shared memory {self.name.removesuffix(' (deleted)')}"
        if self.name.startswith("/") and not self.name.startswith(
            "/dev/zero"
        ):  # which anonymous shared memory is called
            return f"the file {self.name}"
        return f"{'shared' if self.shared else 'private'} anonymous memory"


@dataclass(frozen=True)
class Growing:
    """A mapping that has grown: bytes of dirty and of all resident pages that came since the baseline."""

    mapping: Mapping
    dirty: int
    resident: int

    @property
    def untouched(self) -> int:
        """Bytes that can still become resident."""
        return max(0, self.mapping.size - self.mapping.resident)


def mappings_of(pid: int) -> str | None:
    """The text of ``/proc/PID/smaps``, or None where it cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def parsed(text: str) -> list[Mapping]:
    """The mappings of such a text, by address."""
    found: list[Mapping] = []
    start, end, shared, name, sizes = (
        0,
        0,
        False,
        "",
        dict.fromkeys(("Rss", "Private_Dirty", "Shared_Dirty", "Swap"), 0),
    )

    def close() -> None:
        if end:
            swap = sizes["Swap"]
            dirty = sizes["Private_Dirty"] + sizes["Shared_Dirty"] + swap
            found.append(Mapping(start, end, shared, name, sizes["Rss"] + swap, dirty))

    for line in text.splitlines():
        field = FIELD.match(line)
        if field is not None:
            sizes[field[1]] = int(field[2]) * KIB
            continue
        header = HEADER.match(line)
        if header is not None:
            close()
            start, end, shared, name = int(header[1], 16), int(header[2], 16), header[3][3] == "s", header[4].strip()
            sizes = dict.fromkeys(sizes, 0)
    close()
    return found


def grown(before: Sequence[Mapping], after: Sequence[Mapping]) -> list[Growing]:
    """The mappings that have grown, most first. What has been cut in two or has become longer is the same mapping."""
    rows = []
    for mapping in after:
        earlier = [old for old in before if old.start < mapping.end and mapping.start < old.end]
        whole = max((old.size for old in earlier), default=1)
        # One that was cut in pieces: each piece had its share.
        share = min(1.0, mapping.size / whole)
        dirty = mapping.dirty - int(share * sum(old.dirty for old in earlier))
        resident = mapping.resident - int(share * sum(old.resident for old in earlier))
        if dirty > 0 or resident > 0:
            rows.append(Growing(mapping, dirty, resident))
    return sorted(rows, key=lambda row: -max(row.dirty, row.resident))


def in_words(rows: Iterable[Growing], runs: int) -> str:
    """Where the resident size has grown, and by how much a run."""
    named = list(rows)
    total = sum(max(0, row.resident) for row in named)
    parts = [
        f"{row.mapping.kind} at {row.mapping.start:#x} ({size(row.mapping.size)}) "
        f"{signed_size(row.resident / max(1, runs))} a run"
        for row in named[:SHOWN]
        if row.resident >= LEAST_SHARE * total
    ]
    return ", ".join(parts)
