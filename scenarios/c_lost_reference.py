"""A C function that forgets to give a reference back.

Why it leaks. Most functions of Python's C API return a new reference, which the caller must give back by
``Py_DECREF``. Where an extension forgets it, mostly on the way out of an error or beside an early return, the object
that was asked for can never die. If it is made anew in each run, it is leaked as any other object is. If it has been
there all along, a configuration, a module, a class, then nothing more is there after the run than before: no object,
no block, no byte. Only its reference count rises, by one a run, and the day on which it should go (a reload, the end
of a sub-interpreter, a test that replaces it) it stays, with all that it holds. On builds without immortal objects
the count of ``None`` may even overflow.

Here the extension is ctypes, so that no compiler is needed: ``PyObject_GetAttrString`` returns a new reference, and
with ``c_void_p`` for its result ctypes hands over the bare address and leaves the reference to the caller.

The fix: give it back, ``Py_DecRef(address)``; or declare the result ``py_object``, and ctypes owns it.
"""

from __future__ import annotations

import ctypes
from typing import Any

from leakharness import Run, Scenario

scenario = Scenario("c-lost-reference", summary="a C function keeps a reference to an object that is there all along")

get_attribute: Any = ctypes.PyDLL(None).PyObject_GetAttrString
get_attribute.argtypes, get_attribute.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
give_back: Any = ctypes.PyDLL(None).Py_DecRef
give_back.argtypes, give_back.restype = [ctypes.c_void_p], None


class Config:
    """Read once, at the start of the service."""


class Service:
    """What every request looks its configuration up in."""

    config = Config()


@scenario.mode("closure-extracted", must="PASS", default=True, abort="none")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: what was got is given back."""
    address = get_attribute(Service, b"config")
    give_back(address)


@scenario.mode("closure-inline", must="FAIL", abort="none")
def closure_inline(run: Run) -> None:
    """The shape before the fix: the address is looked at, and the reference forgotten."""
    get_attribute(Service, b"config")
