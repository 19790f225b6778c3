"""Stores of the program of which the scenario says at how many entries they stop growing."""

from __future__ import annotations

import functools
import sys
from typing import Any

from leakharness.errors import ScenarioError
from leakharness.worker.entries import is_container, length
from leakharness.worker.protocol import BoundedStores, Container

__all__ = ["bounded_stores"]

LRU_CACHE = type(functools.lru_cache(maxsize=1)(lambda: None))


def bounded_stores(bounds: dict[str, int]) -> BoundedStores:
    """How many entries each has now, ``{"module:attribute": bound}``. Raises ScenarioError for one that is not there or
    has no length."""
    return BoundedStores(tuple(Container(name, _size(name), bound) for name, bound in bounds.items()))


def _size(name: str) -> int:
    module, _, attributes = name.partition(":")
    store: Any = sys.modules.get(module)
    if store is None:
        raise ScenarioError(f"bounded names {name!r}, and no module {module!r} is loaded")
    try:
        for attribute in attributes.split("."):
            store = getattr(store, attribute)
        if type(store) is LRU_CACHE:
            return int(store.cache_info().currsize)
        return length(store) if is_container(store) else len(store)
    except (AttributeError, TypeError) as exc:
        raise ScenarioError(f"bounded names {name!r}: {exc}") from None
