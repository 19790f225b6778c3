"""The numbers of a flat JSON array, read by numpy: all numbers of a piece of text at once, eight digits in one word.

The words are as wide as eight digits, so a number takes a dozen operations on whole columns, and columns that nobody
asked for take none. numpy gives up the interpreter's lock in each of them, so threads parse pieces side by side.
Text of any other form than V8's and ours (spaces, signs, numbers of more than sixteen digits) goes through numpy's own
parser, which checks it too.
"""

from __future__ import annotations

import mmap
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from leakharness.errors import SnapshotError
from leakharness.heap.v8_scan import columns_by, scanner_for
from leakharness.heap.v8_sections import drop_pages

__all__ = ["columns_in", "in_pieces", "numbers_in", "rows_of"]

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
_Parsed = TypeVar("_Parsed")

# Text parsed at a time; what is made of it on the way takes some ten times as much and is to stay in the cache
CHUNK_BYTES = 512 << 10
_MOST_THREADS = 4
_SEARCHED_FOR_LINES = 4096
_DIGITS = 8  # in a word
_COMMA, _LINE, _ZERO, _NINE = 44, 10, 48, 57
_PADDING = b"\0" * _DIGITS  # the word of the last number begins in the text and ends behind it
_ZEROS = np.uint64(0x3030303030303030)


def rows_of(
    text: mmap.mmap, span: tuple[int, int], what: str, rows: int, width: int, wanted: Sequence[int], *, to_limit: bool
) -> Iterator[tuple[int, list[Ints]]]:
    """Pieces of a flat array as (index of the first row, its ``wanted`` columns). ``what`` names the array in errors.

    ``to_limit``: a number of 64 bits without a sign (Julia's index of an unknown element) is read as the largest with
    one. Raises `SnapshotError` where the text is not ``rows`` rows of ``width`` whole numbers.
    """
    done, carry = 0, np.empty(0, np.int64)
    for piece, columns in _parsed(text, span, width, wanted, to_limit=to_limit):
        if isinstance(columns, list) and not len(carry):
            found, count = columns, len(columns[0])
        else:
            values = numbers_in(piece, to_limit=to_limit) if isinstance(columns, list) else columns
            if len(values) and int(values.min()) < 0:
                raise SnapshotError(f"is corrupt: a negative or too large number among its {what}")
            values = np.concatenate([carry, values]) if len(carry) else values
            count = len(values) // width
            table = values[: count * width].reshape(count, width)
            found = [np.ascontiguousarray(table[:, column]) for column in wanted]
            carry = values[count * width :]
        if done + count > rows:
            raise SnapshotError(f"is corrupt: more {what} than the {rows} its header counts")
        if count:
            yield done, found
        done += count
    if done != rows or len(carry):
        raise SnapshotError(f"is truncated or corrupt: {done} of {rows} {what} are there")


def _parsed(
    text: mmap.mmap, span: tuple[int, int], width: int, wanted: Sequence[int], *, to_limit: bool
) -> Iterator[tuple[bytes, list[Ints] | Ints]]:
    """Each piece with its columns, or all its numbers where its rows are not told apart by lines; a few pieces are
    parsed ahead."""

    scanner = scanner_for(text)

    def parse(piece: bytes) -> list[Ints] | Ints:
        columns = None if scanner is None else columns_by(scanner, piece, width, wanted)
        if columns is None:
            columns = columns_in(piece, width, wanted)
        return numbers_in(piece, to_limit=to_limit) if columns is None else columns

    return in_pieces(text, span, parse)


def in_pieces(
    text: mmap.mmap, span: tuple[int, int], parse: Callable[[bytes], _Parsed]
) -> Iterator[tuple[bytes, _Parsed]]:
    """Each piece of a flat array and what ``parse`` makes of it, in a few threads ahead of who asks."""
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[bytes, Future[_Parsed]]] = deque()
        for piece in _pieces(text, span[0] + 1, span[1] - 1):
            waiting.append((piece, pool.submit(parse, piece)))
            if len(waiting) > threads + 1:
                piece, found = waiting.popleft()
                yield piece, found.result()
        while waiting:
            piece, found = waiting.popleft()
            yield piece, found.result()


def _pieces(text: mmap.mmap, start: int, end: int) -> Iterator[bytes]:
    """The text between two offsets in pieces that end before a comma; where lines begin with one, they end with a
    line."""
    by_lines = text.find(b"\n,", start, min(end, start + _SEARCHED_FOR_LINES)) >= 0
    at = start
    while at < end:
        stop = min(at + CHUNK_BYTES, end)
        if stop < end:
            comma = text.rfind(b"\n,", at, stop) + 1 if by_lines else 0
            comma = comma or text.rfind(b",", at, stop)
            if comma < 0:
                raise SnapshotError(f"is corrupt at byte {at}: numbers were expected")
            stop = comma
        yield text[at:stop]
        drop_pages(text, at, stop)
        at = stop + 1


def columns_in(piece: bytes, width: int, wanted: Sequence[int]) -> list[Ints] | None:
    """The ``wanted`` columns of rows as V8 writes them, ``width`` numbers in a line and a comma before each further
    line; None where the text is anything else, or has longer numbers than this reads."""
    text = np.frombuffer(piece + _PADDING, np.uint8)
    marks = np.flatnonzero(text[: len(piece)] < _ZERO)
    lines, rest = divmod(len(marks) + 1, width + 1)
    if not lines or rest or int(text.max()) > _NINE:
        return None
    table = np.append(marks, len(piece)).reshape(lines, width + 1)
    ends = table[:, width - 1]
    first = np.concatenate([np.full(1, -1), table[:-1, width]])
    inside = text[: len(piece)]
    well_formed = (
        bool((text[ends] == _LINE).all())
        and bool((table[:, width] == ends + 1).all())  # no blank before the comma, and the last line ends the piece
        and int(np.count_nonzero(inside == _COMMA)) == len(marks) - lines
    )
    if not well_formed:
        return None
    found = []
    before = first
    for column in range(width):
        if (table[:, column] - before < 2).any():  # no digit between two marks
            return None
        if column in wanted:
            values = _values(text, before + 1, table[:, column])
            if values is None:
                return None
            found.append((column, values))
        before = table[:, column]
    by_column = dict(found)
    return [by_column[column] for column in wanted]


def numbers_in(piece: bytes, *, to_limit: bool = False) -> Ints:
    """All numbers of a piece. Raises `SnapshotError` where something else is in it; see `rows_of`."""
    if not piece.strip():
        return np.empty(0, np.int64)
    text = np.frombuffer(piece + _PADDING, np.uint8)
    marks = np.flatnonzero(text[: len(piece)] < _ZERO)
    if int(text.max()) <= _NINE and bool((text[marks] == _COMMA).all()):
        edges = np.concatenate([np.full(1, -1), marks, np.full(1, len(piece))])
        if int(np.diff(edges).min()) > 1:
            values = _values(text, edges[:-1] + 1, edges[1:])
            if values is not None:
                return values
    return _by_numpy(piece, to_limit=to_limit)


def _values(text: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> Ints | None:
    """The numbers whose digits are from ``starts`` to ``ends``; None where one is longer than two words."""
    length = ends - starts
    longest = int(length.max())
    if longest == 1:
        return text[starts].astype(np.int64) - _ZERO
    words = np.ndarray((len(text) - _DIGITS + 1,), "<u8", text, strides=(1,))
    if longest <= _DIGITS:
        return _word(words[starts], length)
    if longest > 2 * _DIGITS:
        return None
    values = _word(words[np.maximum(starts, ends - _DIGITS)], np.minimum(length, _DIGITS))
    long = np.flatnonzero(length > _DIGITS)
    values[long] += 10**_DIGITS * _word(words[starts[long]], length[long] - _DIGITS)
    return values


def _word(words: Words, length: Ints) -> Ints:
    """The value of the first ``length`` characters of each word, its lowest byte the first: pairs of digits, then of
    those, then of four are put together within the word. Changes both arguments."""
    words ^= _ZEROS
    length = (_DIGITS - length) * 8
    words <<= length.view(np.uint64)  # what follows the number is dropped, and zeros come before it
    for factor, bits, mask in _STEPS:
        words *= factor
        words >>= bits
        words &= mask
    return words.view(np.int64)


_STEPS = tuple(
    (np.uint64(factor), np.uint64(bits), np.uint64(mask))
    for factor, bits, mask in (
        ((10 << 8) + 1, 8, 0x00FF00FF00FF00FF),
        ((100 << 16) + 1, 16, 0x0000FFFF0000FFFF),
        ((10_000 << 32) + 1, 32, 0x00000000FFFFFFFF),
    )
)


def _by_numpy(piece: bytes, *, to_limit: bool) -> Ints:
    values: Any
    try:
        with warnings.catch_warnings():
            # older numpy only warns of text that is no number
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(piece, np.int64, sep=",")
    except (ValueError, DeprecationWarning):
        values = None
    wrong = values is None or len(values) != piece.count(b",") + 1
    if wrong or values is None or (not to_limit and int(values.max()) == np.iinfo(np.int64).max):
        raise SnapshotError("is corrupt: something other than whole numbers among its numbers")
    found: Ints = values
    return found
