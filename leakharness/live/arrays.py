"""Arrays of addresses: distinct values, sequences laid end to end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["distinct", "ragged"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


def ragged(lengths: Ints) -> tuple[Ints, Ints]:
    """(which, position): number of the sequence and position in it, for sequences of these lengths."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def distinct(values: Words) -> Words:
    """The distinct values, sorted. By sorting: numpy's table of hashes is slower than that for addresses."""
    found = np.sort(values)
    return found[np.concatenate([[True], found[1:] != found[:-1]])] if len(found) else found
