"""A core dump (ELF, as gcore and the kernel write it) as memory that can be read (elf(5), core(5))."""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from leakharness.errors import UsageError
from leakharness.live.process import Region, version_of

__all__ = ["CoreFile", "find_core"]

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
CORE, X86_64 = 4, 62
"""e_type ET_CORE, e_machine EM_X86_64."""
LOAD, NOTE = 1, 4
WRITE, READ, EXECUTE = 2, 4, 1
FILES, STATUS = 0x46494C45, 1
"""Types of notes: NT_FILE (which files are mapped where), NT_PRSTATUS (a thread; its process id is at byte 32)."""
PID_AT = 32
MOST_SEGMENTS = 0xFFFF
LARGEST_NOTES = 64 << 20


@dataclass(frozen=True)
class _Piece:
    """Where the bytes of a stretch of addresses lie: in a file, from ``offset`` on."""

    start: int
    end: int
    path: Path
    offset: int


@dataclass(frozen=True)
class CoreFile:
    """A core dump: its process id, version and regions, and where their bytes are.

    What the dump leaves out (read-only pages of files) is read from those files, where they are at hand.
    """

    path: Path
    pid: int
    version: tuple[int, int]
    regions: tuple[Region, ...]
    pieces: tuple[_Piece, ...] = field(repr=False)

    @contextmanager
    def opened(self) -> Iterator[_Opened]:
        """Its memory, to be read."""
        opened = _Opened(self)
        try:
            yield opened
        finally:
            opened.close()


class _Opened:
    def __init__(self, core: CoreFile) -> None:
        self.regions = core.regions
        self._pieces = core.pieces
        self._starts = [piece.start for piece in core.pieces]
        self._descriptors: dict[Path, int] = {}
        self._opening = Lock()  # several threads read

    def used(self, region: Region) -> list[tuple[int, int]]:
        return [(region.start, region.end)]

    def read_into(self, buffer: memoryview, address: int) -> int:
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address >= self._pieces[at].end:
            return 0
        piece = self._pieces[at]
        with self._opening:
            if piece.path not in self._descriptors:
                self._descriptors[piece.path] = os.open(piece.path, os.O_RDONLY)
        room = min(len(buffer), piece.end - address)
        return os.preadv(self._descriptors[piece.path], [buffer[:room]], piece.offset + address - piece.start)

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)


def find_core(path: Path) -> CoreFile:
    """Read what a core dump says of itself. Raises UsageError, in one line, for what is none or is cut."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEADER.size)
            total = os.fstat(file.fileno()).st_size
            if len(head) < HEADER.size or head[:4] != b"\x7fELF":
                raise UsageError(f"{path}: not a core dump: it is no ELF file")
            _, kind, machine, _, _, table, _, _, _, width, count, *_ = HEADER.unpack(head)
            if kind != CORE or machine != X86_64:
                raise UsageError(f"{path}: not a core dump of an x86-64 process")
            if width != SEGMENT.size or count >= MOST_SEGMENTS:
                raise UsageError(f"{path}: a core dump of a form that is not read here ({count} segments)")
            file.seek(table)
            rows = file.read(width * count)
            if len(rows) < width * count:
                raise UsageError(f"{path}: the core dump is cut: write it again, there may have been no room")
            segments = [SEGMENT.unpack_from(rows, number * width) for number in range(count)]
            notes = []
            for segment in segments:
                if segment[0] == NOTE and segment[5] <= LARGEST_NOTES:
                    file.seek(segment[2])
                    notes += _notes(file.read(segment[5]))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    return _core(path, segments, notes, total)


def _notes(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + 12 <= len(data):
        name, size, kind = struct.unpack_from("<III", data, at)
        at += 12 + (name + 3) // 4 * 4
        found.append((kind, data[at : at + size]))
        at += (size + 3) // 4 * 4
    return found


def _core(path: Path, segments: list[tuple[int, ...]], notes: list[tuple[int, bytes]], total: int) -> CoreFile:
    files = next((_mapped_files(data) for kind, data in notes if kind == FILES), [])
    pid = next((int.from_bytes(data[PID_AT : PID_AT + 4], "little") for kind, data in notes if kind == STATUS), 0)
    regions, pieces = [], []
    for kind, flags, offset, start, _, in_file, in_memory, _ in segments:
        if kind != LOAD or start % 8 or in_memory % 8:
            continue
        name, file_offset = next(
            ((name, at + start - first) for first, last, at, name in files if first <= start < last), ("", 0)
        )
        access = "".join(letter if flags & bit else "-" for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE)))
        regions.append(Region(start, start + in_memory, access, name))
        there = max(0, min(in_file, total - offset))
        if there:
            pieces.append(_Piece(start, start + there, path, offset))
        elif name and Path(name).is_file():
            pieces.append(_Piece(start, start + in_memory, Path(name), file_offset))
    known = {region.start for region in regions}
    for start, end, offset, name in files:  # read-only pages may be left out altogether
        if (
            start not in known
            and not any(region.start <= start < region.end for region in regions)
            and Path(name).is_file()
        ):
            regions.append(Region(start, end, "r--", name))
            pieces.append(_Piece(start, end, Path(name), offset))
    version = version_of([name for *_, name in files], f"{path}: the process")
    regions.sort(key=lambda region: region.start)
    pieces.sort(key=lambda piece: piece.start)
    return CoreFile(path, pid, version, tuple(regions), tuple(pieces))


def _mapped_files(data: bytes) -> list[tuple[int, int, int, str]]:
    """NT_FILE: count, page size, then (start, end, offset in pages) each, then the names."""
    if len(data) < 16:
        return []
    count, page = struct.unpack_from("<QQ", data)
    if count * 24 + 16 > len(data):
        return []
    names = data[16 + count * 24 :].split(b"\0")
    found = []
    for number, name in zip(range(count), names, strict=False):
        start, end, offset = struct.unpack_from("<QQQ", data, 16 + number * 24)
        found.append((start, end, offset * page, name.decode("utf-8", "replace")))
    return found
