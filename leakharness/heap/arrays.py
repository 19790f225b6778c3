"""Distinct values of arrays of addresses and numbers."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["distinct"]

Number = TypeVar("Number", bound=np.generic)


def distinct(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The distinct values, sorted. By sorting: numpy's table of hashes (``np.unique`` from 2.3 on) takes several times
    as long for addresses and for what is nearly distinct."""
    found = np.sort(values)
    return found[np.concatenate([[True], found[1:] != found[:-1]])] if len(found) else found
