"""The newest entries of containers that have grown: what came to stay. For a forked copy only: it holds what it gets.

No code of the program runs: entries are read by the builtin type's own iteration.
"""

from __future__ import annotations

import collections
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from leakharness.worker.unpatched import gc

__all__ = ["containers_at", "newest_entries"]

LEAST_SHARE = 0.5
"""Objects among the newest entries of a container, as a share of them, from which on they say what came to stay; else
they are numbers, texts or weak references."""
NEWEST: tuple[tuple[type, Callable[[Any, int], Iterator[Any]]], ...] = (
    (dict, lambda table, count: itertools.islice(reversed(dict.values(table)), count)),
    (list, lambda items, count: itertools.islice(list.__reversed__(items), count)),
    (collections.deque, lambda items, count: itertools.islice(collections.deque.__reversed__(items), count)),
    (set, lambda items, count: iter(set.copy(items))),
)
"""How to get the newest entries; a set has no order: all of them, and the old ones are left out."""


def newest_entries(grown: Sequence[tuple[int, int]], most: int) -> list[Any]:
    """What came into the containers at the addresses in ``grown``, (address, entries that came), since the baseline;
    ``most`` objects at the most."""
    young = set(map(id, gc.get_objects()))
    gc.unfreeze()
    holders = containers_at([address for address, _ in grown])
    found: dict[int, Any] = {}
    for address, count in grown:
        if address in holders:
            found.update((id(obj), obj) for obj in _came(holders[address], count, young))
    return list(found.values())[:most]


def containers_at(addresses: Iterable[int]) -> dict[int, Any]:
    """The containers of a heap that is not frozen, by address. For a forked copy only."""
    wanted = set(addresses)
    found = {id(obj): obj for obj in gc.get_objects() if id(obj) in wanted}
    missing = wanted - found.keys()
    if missing:  # a dict that the collector did not list, as it held plain values only
        for obj in gc.get_objects():
            if type(obj) is dict:
                found.update((id(value), value) for value in dict.values(obj) if id(value) in missing)
    return found


def _came(holder: Any, count: int, young: set[int]) -> list[Any]:
    kind = type(holder)
    mro = type.__dict__["__mro__"].__get__(kind)
    newest = next((read for base, read in NEWEST if any(one is base for one in mro)), None)
    if newest is None:
        return []
    entries = [entry for entry in newest(holder, count) if id(entry) in young and not _is_weak(entry)]
    return entries if len(entries) >= LEAST_SHARE * count else []


def _is_weak(entry: Any) -> bool:
    return any(base is weakref.ref for base in type.__dict__["__mro__"].__get__(type(entry)))
