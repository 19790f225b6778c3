"""Caches that a program made itself: a plain container in an object that says how large it may become.

Nothing proves such a bound, so what is found here is only a reason to make more runs: a cache stops at its bound, and
a leak beside an attribute of a telling name does not. For a forked copy only: it empties what it finds, and reading
the attributes of an instance gives it a dict on 3.11 and 3.12.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator
from typing import Any

from leakharness.worker.capture.type_plans import HEAP_TYPE, READY, type_dict, type_flags, type_mro, type_name
from leakharness.worker.protocol import Container
from leakharness.worker.unpatched import gc

__all__ = ["empty_declared"]

TELLING = re.compile(r"max|limit|capacity|bound|size", re.IGNORECASE)
"""Attributes whose whole number may be a bound."""
LARGEST = 1_000_000
"""No cache of a program's is larger; a larger number is one of bytes."""
CONTAINERS: tuple[Any, ...] = (collections.OrderedDict, dict, list, collections.deque, set)
"""Most special first: each is emptied by its own ``clear``, never by one of a subclass."""

_Getter = Callable[[Any], Any]


def empty_declared(least: int) -> list[Container]:
    """Empty every such container of at least ``least`` entries that is below its bound. Returns what they were."""
    rows = []
    for name, container, base, bound in list(_declared(least)):
        rows.append(Container(name, base.__len__(container), bound))
        base.clear(container)
    return rows


def _declared(least: int) -> Iterator[tuple[str, Any, Any, int]]:
    getters: dict[int, tuple[_Getter | None, Any, list[int]]] = {}
    for obj in gc.get_objects():
        kind = type(obj)
        if not type_flags(kind) & HEAP_TYPE or not type_flags(kind) & READY:
            continue
        if id(kind) not in getters:
            mro = type_mro(kind)
            numbers = [number for base in mro for number in _numbers(type_dict(base))]
            getters[id(kind)] = (_dict_getter(mro), _base_of(mro), numbers)
        getter, base, numbers = getters[id(kind)]
        space = getter(obj) if getter is not None else None
        if type(space) is not dict:
            continue
        numbers = [*numbers, *_numbers(space)]
        if not numbers:
            continue
        held = [(obj, base)] if base is not None else []
        held += [(value, _base_of(type_mro(type(value)))) for value in dict.values(space)]
        for container, its_base in held:
            if its_base is None:
                continue
            size = its_base.__len__(container)
            above = [number for number in numbers if number > size]
            if size >= least and above:
                yield type_name(kind), container, its_base, min(above)


def _numbers(space: dict[str, Any]) -> list[int]:
    return [
        value
        for name, value in dict.items(space)
        if type(value) is int and 0 < value <= LARGEST and type(name) is str and TELLING.search(name)
    ]


def _base_of(mro: tuple[type, ...]) -> Any:
    return next((base for base in CONTAINERS if any(kind is base for kind in mro)), None)


def _dict_getter(mro: tuple[type, ...]) -> _Getter | None:
    for base in mro:
        found = type_dict(base).get("__dict__")
        if found is not None and type(found).__name__ == "getset_descriptor":
            getter: _Getter = found.__get__
            return getter
    return None
