"""Taking a reading: settle first, then count. The harness leaves itself out of what it counts."""

from __future__ import annotations

import collections
import functools
import itertools
import sys
import weakref
from collections.abc import Callable
from typing import Any

from leakharness.worker.capture.type_plans import HEAP_TYPE, takes_weak_references, type_flags
from leakharness.worker.codec import decode, encode
from leakharness.worker.counters import Counters, count_objects
from leakharness.worker.fork import CAN_FORK, CopyFailed, answer_of_copy
from leakharness.worker.protocol import (
    ClearedAnswer,
    Container,
    CopyCounts,
    Frozen,
    GrownContainers,
    LabelCount,
    ReadingAnswer,
    ReleaseTimes,
    Retention,
)
from leakharness.worker.recorder import ScenarioRecorder
from leakharness.worker.tracker import Tracker
from leakharness.worker.type_cache import CLEAR_TYPE_CACHE
from leakharness.worker.unpatched import gc, time

__all__ = ["CounterReader"]

SETTLE_ROUNDS = 50
"""Upper bound of settle rounds; a program that never stands still is read as it is."""
LARGE = 1 << 20
"""Added to numbers that are kept between readings: one that passes 256 would be a block of its own from then on."""
FIRST_PAUSE_S = 0.001
LOOP_TURNS = 3
"""Event-loop turns per settle round: a callback, the task that it wakes, and that task's own callbacks."""
NEWEST = 20_000
"""Objects of a growing type that are explained: all that a few hundred runs leave behind, as a rule."""
FAMILY_LIMIT = 200
"""Types of a census that are reported, largest first."""
COPY_SECONDS = 30.0
"""How long a forked copy may take to empty containers, collect and count; it is killed then."""
OWN_PREFIX = "leakharness."
LRU_CACHE = type(functools.lru_cache(maxsize=1)(lambda: None))


class CounterReader:
    """Readings of this process around the runs of one mode."""

    def __init__(self, counters: Counters, tracker: Tracker, recorder: ScenarioRecorder, loop: Any) -> None:
        self._counters = counters
        self._tracker = tracker
        self._recorder = recorder
        self._loop = loop
        self._entries = counters.entries
        self._objects_at_baseline = 0
        self._collected_at_baseline = 0
        self._settled: tuple[int, ...] = ()
        self._unfrozen = self._frozen = -1
        self._frozen_at_baseline = 0
        self._counts_frozen = True

    def rehearse(self) -> None:
        """Call once what is called between readings: 3.10 keeps a frame of each function that has run, and a cache of
        one that has run often. With a few objects: to walk a whole heap takes longer than all the rest of a start."""
        few = [self, {}, [], type(self), CounterReader.rehearse]
        self.census(sizes=True, of=few)
        self.newest_of([], of=few)
        encode(ReadingAnswer({}, 0, {"": LabelCount(0, 0)}, {}, 0, {"": (0, 0)}))
        decode(ReleaseTimes, encode(ReleaseTimes(0, 0.0, 0)))
        if sys.version_info[:2] == (3, 10):
            from leakharness.worker.opcode_caches import keep_own_code_without

            keep_own_code_without()

    def freeze(self, collect: bool = True) -> Frozen:
        """Collect, and freeze what is there: later collections and counts then cost only what is new.

        Returns the bounded containers that are not full yet. Without ``collect`` nothing is walked, whatever the size
        of the heap, and none are returned: garbage that is there stays, and frozen objects are not counted, so that
        one that takes the place of a frozen one counts as one more.
        """
        self._turn_loop()
        self._recorder.declared.count_arrived()
        self._unfrozen = -1
        self._counts_frozen = collect
        if not collect:
            self._tracker.note_frozen(everything=False)
            gc.freeze()
            return Frozen({})
        gc.unfreeze()
        gc.collect()
        gc.collect()
        bounded = _bounded_containers()
        capture = sys.modules.get("leakharness.worker.capture.snapshot")
        if capture is not None:
            capture.remember_thread_locals()
        self._entries.note(self._own_containers())
        self._tracker.note_frozen(everything=True)
        self._counters.note_freeze()
        gc.freeze()
        return Frozen(bounded)

    def baseline(self, grace: float) -> ReadingAnswer:
        """From here on births, retained objects and collected garbage are counted. Takes the first reading."""
        self._settle(grace)
        self._tracker.set_baseline()
        self._entries.set_baseline()
        self._objects_at_baseline = self._count_objects()
        self._frozen_at_baseline = self._frozen
        self._collected_at_baseline = _collected()
        return self.read(grace)

    def read(self, grace: float, deep: bool = False, census: bool = False) -> ReadingAnswer:
        """Settle, then read every counter. ``grace``: seconds to wait for what still falls. ``deep``: collect the
        frozen part of the heap as well (garbage that was alive at the baseline). ``census``: count types as well."""
        self._counters.reap()
        self._recorder.declared.count_arrived()
        if deep:
            gc.unfreeze()
        self._settle(grace)
        if deep:
            self._freeze_again()
        own, declared = self._recorder.declared.own_weight(), self._recorder.declared.weight()
        return ReadingAnswer(
            counters=self.counters(),
            tracked_alive=self._tracker.alive,
            tracked={label: LabelCount(**row) for label, row in self._tracker.by_label().items()},
            declared={
                "objects": declared.objects,
                "entries": declared.entries,
                "blocks": declared.blocks,
                "malloc_bytes": declared.malloc_bytes,
                "mapped_bytes": declared.small_bytes,
                "rss": declared.small_bytes + declared.malloc_bytes + own.malloc_bytes,
            },
            collected=_collected() - self._collected_at_baseline,
            census=self.census() if census else {},
        )

    def counters(self) -> dict[str, int]:
        """Every counter as it is now, without what is the harness's own."""
        own = self._recorder.declared.own_weight()
        own_blocks = self._tracker.own_blocks() + own.blocks
        own_malloc = self._tracker.own_malloc_bytes() + own.malloc_bytes
        values = self._counters.read()
        values["objects"] = self._count_objects() - self._objects_at_baseline
        if self._counts_frozen:
            values["given_back"] = self._frozen_at_baseline - self._frozen
        if "blocks" in values:
            values["blocks"] -= own_blocks
        if "malloc_bytes" in values:
            values["malloc_bytes"] -= own_malloc
        if not self._entries.missing:
            values["entries"], values["drained"] = self._entries.total_and_drained(self._own_containers())
        return values

    def grown_containers(self, asked: list[int]) -> GrownContainers:
        """The containers of the program that have more entries than at the baseline, and those at these addresses."""
        return self._entries.grown(asked)

    def census(self, *, sizes: bool = False, of: list[Any] | None = None) -> dict[str, tuple[int, int]]:
        """Objects born since the freeze and still alive, or those of ``of``: ``{type: (count, shallow bytes)}``; bytes
        if ``sizes``."""
        counts: dict[str, list[int]] = {}
        names: dict[int, str] = {}
        declared = self._recorder.declared
        kept_on_purpose = {id(obj) for obj in itertools.chain(declared.wedged, declared.held)}
        for obj in gc.get_objects() if of is None else of:
            if id(obj) in kept_on_purpose:
                continue
            kind = type(obj)
            name = names.get(id(kind))
            if name is None:
                name = names[id(kind)] = _type_name(kind)
            if name.startswith(OWN_PREFIX):
                continue
            row = counts.get(name)
            if row is None:
                row = counts[name] = [0, 0]
            row[0] += 1
            if sizes:
                row[1] += _shallow_bytes(obj, kind)
        self._leave_out_harness(counts)
        top = sorted(counts.items(), key=lambda item: (-item[1][0], item[0]))[:FAMILY_LIMIT]
        return {name: (count, size) for name, (count, size) in top if count > 0}

    def newest_of(self, types: list[str], most: int = NEWEST, of: list[Any] | None = None) -> list[tuple[Any, str]]:
        """The newest objects of the first of ``types`` that has any since the freeze, or in ``of``. For a forked child
        only."""
        objects = [(obj, _type_name(type(obj))) for obj in (gc.get_objects() if of is None else of)]
        for wanted in types:
            found = [row for row in objects if row[1] == wanted]
            if found:
                return found[-most:]
        return []

    def newest_in(self, grown: list[list[int]], most: int = NEWEST) -> list[tuple[Any, str]]:
        """What came into these containers, (address, entries that came). For a forked child only."""
        from leakharness.worker.grown_entries import newest_entries

        return [(obj, _type_name(type(obj))) for obj in newest_entries([(row[0], row[1]) for row in grown], most)]

    def all_of(self, types: list[str]) -> list[tuple[Any, str]]:
        """Every object of the classes ``types`` that can be weakly referenced, builtin ones left out. For a forked
        child only."""
        rows = [(obj, _type_name(type(obj))) for obj in gc.get_objects() if type_flags(type(obj)) & HEAP_TYPE]
        return [row for row in rows if row[1] in types and takes_weak_references(type(row[0]))]

    def retention(self) -> Retention:
        """Tracked objects that are alive, and the bounded containers in which they stay."""
        from leakharness.worker.bounded_retention import retention

        return retention(self._tracker, _find_bounded, self._counters.readers.get("malloc_bytes"))

    def growth_after_clearing(self, before: dict[str, int]) -> ClearedAnswer:
        """In a forked copy, empty the bounded containers that have grown since ``before``, where one is not full yet,
        and count again. Tells whether they, and nothing else, account for the growth."""
        if not CAN_FORK:
            return ClearedAnswer()
        gc.unfreeze()
        growing = [
            (obj, size, bound, name)
            for obj, size, bound, name in _find_bounded()
            if size > before.get(str(id(obj)), 0) and (size < bound or str(id(obj)) in before)
        ]
        rows = tuple(
            Container(name, size, bound, size - before.get(str(id(obj)), 0), str(id(obj)) not in before)
            for obj, size, bound, name in growing
        )

        def empty() -> tuple[Container, ...]:
            _clear(growing)
            return rows

        answer = self._in_copy(empty) if any(row.size < row.bound for row in rows) else ClearedAnswer()
        growing.clear()
        self._freeze_again()
        return answer

    def growth_after_clearing_declared(self, least: int) -> ClearedAnswer:
        """The same for containers of the program with at least ``least`` entries, in objects that say how large they
        may become (``bounded_caches.py``). The heap stays as it is."""
        if not CAN_FORK:
            return ClearedAnswer()
        from leakharness.worker.bounded_caches import empty_declared

        gc.unfreeze()
        answer = self._in_copy(lambda: tuple(empty_declared(least)))
        self._freeze_again()
        return answer

    def _in_copy(self, clear: Callable[[], tuple[Container, ...]]) -> ClearedAnswer:
        """In a forked copy, ``clear()`` and count again; empty where the copy failed."""
        tracker = self._tracker

        def cleared() -> ClearedAnswer:
            gc.collect()
            before = counted()
            containers = clear()
            for _ in range(3):
                gc.collect()
            objects, blocks, entries = (was - now for was, now in zip(before, counted(), strict=True))
            known = None if self._entries.missing else entries
            return ClearedAnswer(containers, CopyCounts(tracker.alive, objects, blocks, known))

        def counted() -> tuple[int, int, int]:
            objects = count_objects() - tracker.own_objects()
            blocks = sys.getallocatedblocks() - tracker.own_blocks()
            return objects, blocks, 0 if self._entries.missing else self._entries.total(self._own_containers())

        try:
            return answer_of_copy(ClearedAnswer, cleared, COPY_SECONDS)
        except CopyFailed:
            return ClearedAnswer()

    def _freeze_again(self) -> None:
        """Freeze what is new as well: from here on only its address tells how long a container is."""
        self._entries.note(self._own_containers(), untracked=False)
        self._tracker.note_frozen(everything=True)
        self._counters.note_freeze()
        given_back = self._frozen_at_baseline - self._frozen
        gc.freeze()
        self._unfrozen = -1
        self._frozen_at_baseline = gc.get_freeze_count() + given_back
        gc.collect()  # costs nothing now, and empties the free lists: what was noted with would count as blocks

    def _own_containers(self) -> tuple[Any, ...]:
        """Containers of the harness. No list: that would be one more of them."""
        return (*self._recorder.declared.containers(), *self._tracker.containers())

    def _settle(self, grace: float) -> None:
        """Event-loop turns and collections until the counts stand still, and longer while they are above the last
        reading's: a thread or a transport that is on its way out must not count as leaked."""
        deadline = time.monotonic() + grace
        pause = FIRST_PAUSE_S
        last: tuple[int, ...] = ()
        for _ in range(SETTLE_ROUNDS):
            self._turn_loop()
            CLEAR_TYPE_CACHE()
            gc.collect()
            now = self._standing()
            if now == last:
                falling = any(a > b for a, b in zip(now[1:], self._settled[1:], strict=False))
                left = deadline - time.monotonic()
                if not falling or left <= 0:
                    break
                self.pause(min(pause, left))
                pause *= 2
            last = now
        self._settled = last

    def _standing(self) -> tuple[int, ...]:
        """What must stand still. All but the first, the objects, may also fall by themselves a little later."""
        return (LARGE + len(gc.get_objects()), LARGE + self._tracker.alive, *self._counters.read_small())

    def _count_objects(self) -> int:
        """Objects that the collector knows, without the tracker's.

        ``gc.get_freeze_count`` walks the frozen heap (Modules/gcmodule.c, gc_list_size), so it is asked again only
        where the number of objects beside it has moved since: as long as that stands still, the frozen ones can only
        have become fewer, which is no growth.
        """
        unfrozen = LARGE + len(gc.get_objects())
        if unfrozen != self._unfrozen:
            self._unfrozen, self._frozen = unfrozen, gc.get_freeze_count() if self._counts_frozen else 0
        return unfrozen - LARGE + self._frozen - self._tracker.own_objects()

    def _turn_loop(self) -> None:
        if self._loop is not None:
            for _ in range(LOOP_TURNS):
                self._loop.call_soon(self._loop.stop)
                self._loop.run_forever()

    def pause(self, seconds: float) -> None:
        """Let time pass, with the event loop turning where there is one."""
        if self._loop is None:
            time.sleep(seconds)
        else:
            self._loop.call_later(seconds, self._loop.stop)
            self._loop.run_forever()

    def _leave_out_harness(self, counts: dict[str, list[int]]) -> None:
        alive = self._tracker.finalized_alive
        for kind in (weakref.finalize, getattr(weakref.finalize, "_Info", None), weakref.ref):
            row = counts.get(_type_name(kind)) if kind is not None else None
            if row is not None:
                row[0] -= alive


def _collected() -> int:
    """Objects that the cyclic collector has freed so far in this process."""
    return sum(generation["collected"] for generation in gc.get_stats())


def _bounded_containers() -> dict[str, int]:
    """Sizes of the bounded containers that are not full, by id."""
    return {str(id(obj)): size for obj, size, bound, _ in _find_bounded() if size < bound}


def _find_bounded() -> list[tuple[Any, int, int, str]]:
    """Every ``deque(maxlen=…)`` and ``lru_cache(maxsize=…)`` that the collector knows: (it, size, bound, name)."""
    found: list[tuple[Any, int, int, str]] = []
    for obj in gc.get_objects():
        kind = type(obj)
        if kind is collections.deque:
            if obj.maxlen is not None:
                found.append((obj, len(obj), obj.maxlen, f"deque(maxlen={obj.maxlen})"))
        elif kind is LRU_CACHE:
            info = obj.cache_info()
            if info.maxsize is not None:
                wrapped = getattr(obj, "__wrapped__", None)
                name = getattr(wrapped, "__qualname__", "?")
                found.append((obj, info.currsize, info.maxsize, f"lru_cache(maxsize={info.maxsize}) of {name}"))
    return found


def _clear(growing: list[tuple[Any, int, int, str]]) -> None:
    for obj, _, _, _ in growing:
        obj.clear() if isinstance(obj, collections.deque) else obj.cache_clear()
    growing.clear()


def _type_name(kind: Any) -> str:
    """``module.qualname`` without asking the type's own code."""
    module = type.__dict__["__dict__"].__get__(kind).get("__module__")
    qualname: str = type.__dict__["__qualname__"].__get__(kind)
    return qualname if module in (None, "builtins") or type(module) is not str else f"{module}.{qualname}"


def _shallow_bytes(obj: Any, kind: type) -> int:
    """Shallow size by the first C-level ``__sizeof__`` of the type, so that no code of the program runs."""
    for base in type.__dict__["__mro__"].__get__(kind):
        method = type.__dict__["__dict__"].__get__(base).get("__sizeof__")
        if type(method).__name__ == "method_descriptor":
            return int(method(obj)) + (16 if gc.is_tracked(obj) else 0)
    return sys.getsizeof(0)
