"""Python 3.10: no opcode caches for the harness's own functions.

That version makes a cache, of one or two allocator blocks, when a code object starts for the 1,024th time
(Python/ceval.c, ``OPCACHE_MIN_RUNS``; gone in 3.11). What counts is called a few times in every reading: over some
hundred readings one function after the other gets its cache, and ``blocks`` creeps upwards in a program that does
nothing. A code object whose count of starts is beyond that number never gets one.
"""

from __future__ import annotations

import types
from collections.abc import Iterator

from leakharness.worker.unpatched import gc, os

__all__ = ["keep_own_code_without"]

STARTS_FOR_A_CACHE = 1024
"""``OPCACHE_MIN_RUNS`` of Python 3.10."""
INT = 4
PROBE_STARTS = 7, 11
"""How often a function is called whose count of starts is looked for: no other field of it goes from 7 to 18."""


def keep_own_code_without() -> int:
    """Raise the count of starts of each code object of this package that has no cache yet. Returns how many there were;
    0 where the count is not found in a code object, as on any other version."""
    try:
        import ctypes
    except ImportError:
        return 0
    at = _place_of_the_count(ctypes)
    if at is None:
        return 0
    raised = 0
    for code in _own_code():
        starts = ctypes.c_int.from_address(id(code) + at)
        if 0 <= starts.value < STARTS_FOR_A_CACHE:
            starts.value = STARTS_FOR_A_CACHE
            raised += 1
    return raised


def _place_of_the_count(ctypes: types.ModuleType) -> int | None:
    """Where in a code object the count of its starts is, in bytes; found out on a function that was called so often."""

    def probe() -> None:
        return

    seen = []
    for calls in PROBE_STARTS:
        for _ in range(calls):
            probe()
        memory = ctypes.string_at(id(probe.__code__), types.CodeType.__basicsize__)
        seen.append(memoryview(memory).cast("i").tolist())
    first, both = PROBE_STARTS[0], sum(PROBE_STARTS)
    places = [place for place, values in enumerate(zip(*seen, strict=True)) if values == (first, both)]
    return places[0] * INT if len(places) == 1 else None


def _own_code() -> Iterator[types.CodeType]:
    """The code of every function of this package that is loaded, and of what is defined in it."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    waiting = [obj.__code__ for obj in gc.get_objects() if type(obj) is types.FunctionType]
    seen: set[int] = set()
    while waiting:
        code = waiting.pop()
        if id(code) not in seen and code.co_filename.startswith(package):
            seen.add(id(code))
            yield code
            waiting += [const for const in code.co_consts if type(const) is types.CodeType]
