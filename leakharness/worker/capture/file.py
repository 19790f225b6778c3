"""The raw capture file: named sections of raw columns, written by the measured process, read by
``heap/ingest.py``.

Layout: ``MAGIC``, then any number of sections, each an 8-byte ASCII key, an 8-byte little-endian length and
that many bytes. Sections of one key belong together in the order in which they come. The last one is ``meta``
(JSON); a file without it is truncated. Words are 8 bytes in the machine's own byte order (both sides are one
machine).
"""

from __future__ import annotations

import struct
from array import array
from typing import Any, BinaryIO

from leakharness.worker.unpatched import json, os

__all__ = ["HARNESS_PREFIX", "MAGIC", "SCENARIO_PREFIX", "CaptureFile", "is_harness_module", "short_path"]

MAGIC = b"LHCAPT01"
HARNESS_PREFIX = "leakharness"
SCENARIO_PREFIX = "leakharness.scenarios"
"""Scenarios that come with the package are measured code, not part of the harness."""
_HEADER = struct.Struct("<8sQ")
_LIBRARY_MARKS = ("/site-packages/", "/dist-packages/")


class CaptureFile:
    """Writes sections to ``path`` by a temporary name; :meth:`commit` puts the whole file there at once, mode
    0600."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._part = f"{path}.{os.getpid()}.part"
        descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self._file.write(MAGIC)

    def add(self, key: str, payload: bytes) -> None:
        self._file.write(_HEADER.pack(key.encode("ascii"), len(payload)))
        self._file.write(payload)

    def add_words(self, key: str, rows: array[int] | list[int]) -> None:
        """Signed 8-byte integers."""
        self.add(key, array("q", rows).tobytes())

    def add_json(self, key: str, value: Any) -> None:
        self.add(key, json.dumps(value).encode("utf-8", "surrogatepass"))

    def commit(self, meta: dict[str, Any]) -> None:
        self.add_json("meta", meta)
        self._file.close()
        os.replace(self._part, self.path)

    def discard(self) -> None:
        try:
            self._file.close()
        finally:
            try:
                os.unlink(self._part)
            except OSError:
                pass


def is_harness_module(name: object) -> bool:
    """Whether a module of that name is part of the harness (which no snapshot shows)."""
    if type(name) is not str:
        return False
    for prefix, answer in ((SCENARIO_PREFIX, False), (HARNESS_PREFIX, True)):
        if name == prefix or name.startswith(prefix + "."):
            return answer
    return False


def short_path(path: str, cwd: str, library: str) -> str:
    """``path`` relative to ``cwd`` where it is below it, else without the directory of the (standard)
    library."""
    if cwd and path.startswith(cwd + os.sep):
        relative = path[len(cwd) + 1 :]
        if "/site-packages/" not in relative:
            return relative
    for mark in _LIBRARY_MARKS:
        _, found, tail = path.rpartition(mark)
        if found:
            return tail
    if library and path.startswith(library + os.sep):
        return path[len(library) + 1 :]
    return path
