"""The ids of all items of a list at once, as raw words: its own pointer buffer, copied out by ctypes."""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Callable
from typing import Any

__all__ = ["POINTER_BYTES", "ids_of"]

POINTER_BYTES = ctypes.sizeof(ctypes.c_void_p)
_ITEMS = list.__basicsize__ - 2 * POINTER_BYTES
"""Offset of ``ob_item`` in PyListObject: a PyVarObject, then ``ob_item``, then ``allocated``
(Include/cpython/listobject.h)."""


def _ids_by_buffer(items: list[Any]) -> bytes:
    if not items:
        return b""
    buffer = ctypes.c_void_p.from_address(id(items) + _ITEMS).value
    return ctypes.string_at(buffer, len(items) * POINTER_BYTES)  # type: ignore[arg-type]


def _ids_by_call(items: list[Any]) -> bytes:
    return array("Q", map(id, items)).tobytes()


def _buffer_can_be_read() -> bool:
    if sys.implementation.name != "cpython" or POINTER_BYTES != 8:
        return False
    probe = [object() for _ in range(9)]
    return _ids_by_buffer(probe) == _ids_by_call(probe)


ids_of: Callable[[list[Any]], bytes] = _ids_by_buffer if _buffer_can_be_read() else _ids_by_call
"""The ids of all items of an exact list, as raw 8-byte words."""
