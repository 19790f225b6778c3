"""Sequences laid end to end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["in_parts", "positions", "ragged"]

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]


def ragged(lengths: Ints) -> tuple[Ints, Ints]:
    """(which, position): number of the sequence and position in it, for sequences of these lengths."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def positions(which: Ints | Numbers) -> Numbers:
    """The position of each in its sequence, from the number of that: equal ones stand together."""
    new = np.ones(len(which), np.bool_)
    np.not_equal(which[1:], which[:-1], out=new[1:])
    first = np.flatnonzero(new).astype(np.int32)
    return np.arange(len(which), dtype=np.int32) - np.repeat(first, np.diff(first, append=len(which)))


def in_parts(lengths: Ints, most: int) -> Iterator[slice]:
    """The sequences of these lengths in stretches of about ``most`` items, and as many sequences."""
    ends = np.cumsum(lengths + 1)
    begin = 0
    while begin < len(lengths):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield slice(begin, end)
        begin = end
