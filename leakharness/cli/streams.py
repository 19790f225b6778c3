"""The tool's own standard streams. Closed, full, or with nobody at the other end, they change no verdict."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["unfailing"]


@contextlib.contextmanager
def unfailing() -> Iterator[None]:
    """Standard output and error that can always be written to. What cannot be written is lost; of standard output,
    that is said on standard error, unless its reader has gone away by itself."""
    _fill_gaps()
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _steady(sys.stdout, "stdout"), _steady(sys.stderr, "stderr")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = kept


def _fill_gaps() -> None:
    """Point closed descriptors at the null device, or the next file that is opened would be a standard stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _steady(stream: TextIO | None, name: str) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if not isinstance(raw, io.RawIOBase):
        return stream  # somebody's own: it has nothing below that could fail
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Steady(raw, name)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=bool(getattr(stream, "line_buffering", False) or getattr(stream, "write_through", False)),
    )


class _Steady(io.RawIOBase):
    """A raw stream whose writes do not fail: after the first that does, nothing more is written."""

    def __init__(self, raw: io.RawIOBase, name: str) -> None:
        self._raw = raw
        self._name = name
        self._lost = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int | None:
        if not self._lost:
            try:
                return self._raw.write(data)
            except OSError as exc:
                self._lost = True
                if self._name == "stdout" and not isinstance(exc, BrokenPipeError):
                    print(f"leakharness: the answer is lost: stdout: {exc.strerror or exc}", file=sys.stderr)
        return len(data)
