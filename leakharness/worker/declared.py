"""What a scenario keeps on purpose (``wedged``, ``hold``): by identity, and only as far as it is new."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from leakharness.worker.unpatched import gc
from leakharness.worker.weight import BLOCK_LIMIT_BYTES, Weight, malloc_chunk, weigh

__all__ = ["Declared"]

NOTHING = Weight(0, 0, 0, 0, 0)


class Declared:
    """Objects kept on purpose: what they weigh by themselves is no growth.

    Each is excused once, however often it is held, with what it weighs when it is first counted: what it grows by
    later (a table, attributes) is not declared. What was there before the baseline adds nothing, so holding it excuses
    nothing.
    """

    def __init__(self) -> None:
        self.wedged: list[Any] = []
        self.held: list[Any] = []
        self._arrived: list[Any] = []
        self._held_weight = NOTHING

    def wedge(self, future: Any) -> None:
        """Keep a future that the harness has made for this call, and nobody else knows yet.

        In asyncio's debug mode it has a list of the frames that made it: ours, which say nothing.
        """
        origin = _origin_of(future)
        if origin:
            origin.clear()
        self.wedged.append(future)

    def hold(self, obj: Any) -> None:
        """Keep ``obj``, which may be held already, and may have been there all the time."""
        self._arrived.append(obj)

    def count_arrived(self) -> None:
        """Weigh what has been held since the last call. To be called before the heap is unfrozen: what is frozen was
        there at the baseline."""
        if not self._arrived:
            return
        known = {id(obj) for kept in (self.wedged, self.held) for obj in kept}
        young: set[int] | None = None
        for obj in self._arrived:
            if id(obj) in known:
                continue
            known.add(id(obj))
            self.held.append(obj)
            if gc.is_tracked(obj):
                young = set(map(id, gc.get_objects())) if young is None else young
                if id(obj) not in young:
                    continue
            self._held_weight = _sum((self._held_weight, weigh(obj)))
        self._arrived = []

    def weight(self) -> Weight:
        """What the declared objects weigh by themselves."""
        futures = len(self.wedged)
        origin = _origin_of(self.wedged[0]) if futures else None
        beside = NOTHING if origin is None else weigh(origin)
        each = _sum((weigh(self.wedged[0]), beside)) if futures else NOTHING
        objects = sum(map(gc.is_tracked, self.wedged)) + futures * beside.objects
        wedged = Weight(objects, futures * each.blocks, futures * each.small_bytes, futures * each.malloc_bytes, 0)
        return _sum((wedged, self._held_weight))

    def containers(self) -> tuple[Any, ...]:
        """The lists that keep them."""
        return (self.wedged, self.held, self._arrived)

    def own_weight(self) -> Weight:
        """What the lists weigh that keep them: the harness's own."""
        tables = [sys.getsizeof(table) - sys.getsizeof([]) for table in (self.wedged, self.held, self._arrived)]
        large = sum(malloc_chunk(size) for size in tables if size > BLOCK_LIMIT_BYTES)
        return Weight(0, sum(1 for size in tables if size), 0, large, 0)


def _origin_of(future: Any) -> list[Any] | None:
    """The frames that asyncio's debug mode has noted for it."""
    return getattr(future, "_source_traceback", None)


def _sum(weights: Iterable[Weight]) -> Weight:
    return Weight(*map(sum, zip(*weights, strict=True)))
