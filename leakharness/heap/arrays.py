"""Distinct values of arrays of addresses and numbers, and numbers in little room."""

from __future__ import annotations

from array import array
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["distinct", "numbered", "packed"]

Number = TypeVar("Number", bound=np.generic)


def distinct(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The distinct values, sorted. By sorting: numpy's table of hashes (``np.unique`` from 2.3 on) takes several times
    as long for addresses and for what is nearly distinct."""
    found = np.sort(values)
    return found[np.concatenate([[True], found[1:] != found[:-1]])] if len(found) else found


def numbered(values: npt.NDArray[Number]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """(first place of each distinct value in their order, number of each one's value): `np.unique` with its indices,
    in half of the memory."""
    order = np.argsort(values, kind="stable").astype(np.int32)
    sorted_ = values[order]
    new = np.ones(len(values), np.bool_)
    np.not_equal(sorted_[1:], sorted_[:-1], out=new[1:])
    del sorted_
    number = np.empty(len(values), np.int32)
    number[order] = np.cumsum(new, dtype=np.int32) - 1
    return order[new], number


def packed(numbers: npt.NDArray[np.signedinteger[Any]]) -> array[int]:
    """Numbers of nodes or edges as a sequence of plain integers, at four bytes each; a list has forty."""
    found = array("i")
    found.frombytes(np.ascontiguousarray(numbers, np.int32).data.cast("B"))
    return found
