"""Sequences laid end to end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ragged"]

Ints = npt.NDArray[np.int64]


def ragged(lengths: Ints) -> tuple[Ints, Ints]:
    """(which, position): number of the sequence and position in it, for sequences of these lengths."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
