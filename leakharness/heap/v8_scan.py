"""The numbers of a flat JSON array by one loop over its bytes: for `compiled`, which makes it several times as fast as
numpy's whole columns, and worth its start on large files alone."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.heap.compiled import compiled

__all__ = ["columns_by", "into_stores", "scan", "scanner_for", "store_picker"]

Ints = npt.NDArray[np.int64]

Picked = tuple[int, npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int32]]

COMPILED_FROM = 128 << 20
"""Bytes of a file from which on loading numba (.3 s) and its code costs less than it saves."""
MOST_DIGITS = 16


def scanner_for(text: mmap.mmap) -> Callable[..., int] | None:
    """`scan` compiled, where that pays for this file or numba is loaded anyway; else None."""
    return compiled(scan) if len(text) >= COMPILED_FROM or "numba" in sys.modules else None


def store_picker(
    scanner: Callable[..., int], width: int, fields: Sequence[int], limits: Sequence[int], inner: npt.NDArray[np.bool_]
) -> Callable[[bytes], Picked | None]:
    """For a piece of the edges, ``width`` numbers each: how many there are, and of those that lead to an ``inner`` node
    which they are, their kinds and the nodes that they lead to; None where `columns_by` says so, or where an edge is
    outside the ``limits`` (see `into_stores`). ``fields`` are the columns of kind and target.
    """
    pick = compiled(into_stores)
    bounds = np.array(limits, np.int64)

    def picked(piece: bytes) -> Picked | None:
        columns = columns_by(scanner, piece, width, fields)
        if columns is None or pick is None:
            return None
        kinds, ends = columns
        which = np.empty(len(kinds), np.int32)
        count = pick(kinds, ends, bounds, inner, which)
        if count < 0:
            return None
        which = which[:count].copy()
        return len(kinds), which, kinds[which].astype(np.uint8), (ends[which] // limits[2]).astype(np.int32)

    return picked


def columns_by(scanner: Callable[..., int], piece: bytes, width: int, wanted: Sequence[int]) -> list[Ints] | None:
    """The ``wanted`` columns of a piece of whole rows, ``width`` numbers each; None where the text is anything else,
    spaced otherwise, or has longer numbers than this reads."""
    place = np.full(width, -1)
    place[list(wanted)] = np.arange(len(wanted))
    found = np.empty((len(wanted), len(piece) // (2 * width) + 1), np.int64)
    rows = scanner(np.frombuffer(piece, np.uint8), place, found)
    return [column[:rows] for column in found] if rows >= 0 else None


def scan(text: Any, place: Any, found: Any) -> int:
    """Put column ``c`` of each row into row ``place[c]`` of ``found``, unless that is negative. Returns how many rows
    there are, or -1 where the text is not whole rows of numbers, a comma between two, a line's end before some commas.

    Long because numba compiles one function: a flat loop over the bytes.
    """
    width, end, at, row, column = len(place), len(text), 0, 0, 0
    byte = 0
    while at < end:
        value, length = 0, 0
        while at < end:
            byte = int(text[at])
            if byte < 48 or byte > 57:
                break
            value = value * 10 + (byte - 48)
            length += 1
            at += 1
        if length == 0 or length > MOST_DIGITS:
            return -1
        if place[column] >= 0:
            found[place[column], row] = value
        column += 1
        if column == width:
            column = 0
            row += 1
        if at < end and byte == 10:
            at += 1
            if at < end:
                byte = int(text[at])
        if at < end:
            if byte != 44 or at + 1 == end:
                return -1
            at += 1
    return row if column == 0 else -1


def into_stores(kinds: Any, ends: Any, limits: Any, inner: Any, which: Any) -> int:
    """Put the numbers of the edges that lead to an ``inner`` node into ``which``. Returns how many there are, or -1
    where a kind or an end is not below the first or second of the ``limits``, or an end is not the place of a node:
    a multiple of the third."""
    count = 0
    width = limits[2]
    for edge in range(len(ends)):
        end = ends[edge]
        if kinds[edge] >= limits[0] or end >= limits[1]:
            return -1
        node = end // width
        if node * width != end:
            return -1
        if inner[node]:
            which[count] = edge
            count += 1
    return count
