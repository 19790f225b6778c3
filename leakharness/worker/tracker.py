"""Counting tracked objects by ``weakref.finalize``, without holding any of them.

The tracker also knows its own weight, so that the counters can leave it out: every live tracked object costs a
``finalize``, its ``_Info`` and a ``weakref.ref`` (three objects that the collector lists), plus one int.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from typing import Any

from leakharness.worker.capture.type_plans import HAVE_GC, takes_weak_references, type_flags
from leakharness.worker.unpatched import gc
from leakharness.worker.weight import BLOCK_LIMIT_BYTES, malloc_chunk

__all__ = ["FINALIZE_BLOCKS", "FINALIZE_OBJECTS", "Label", "TestObject", "Tracker", "Untrackable"]

FINALIZE_OBJECTS = 3
"""Objects listed by the collector for each live ``weakref.finalize``: itself, its ``_Info``, its ``ref``."""
FINALIZE_BLOCKS = 4
"""Allocator blocks for each live ``weakref.finalize``: the three above and its index (an int above 256)."""
SMALL_INTS = 260
"""Indexes that CPython has as cached ints; used up at the start, so that every index counts one block."""


MOST_LABELS = 1_000
"""Labels that are told apart. One a run would be the harness's own growth."""
OTHER_LABELS = "(other labels)"
SELF_TEST_LABEL = "leakharness self-test"
LABEL_OBJECTS, LABEL_BLOCKS = 2, 2
"""A label and its bound method (or its reference to a type); its numbers and its name are counted apart."""
OWN_NAME_REFERENCES = 3
"""References to a label's name that nobody else has: the label's, the table's key, and the one that asks."""
LARGEST_CACHED = 256
"""Integers up to this one are no blocks of their own."""


class Untrackable(TypeError):
    """An object that can neither be weakly referenced nor found among all objects was given to ``run.track``."""

    def __init__(self, obj: Any) -> None:
        kind = type(obj)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if "__slots__" in vars(kind) and hasattr(kind, "__dataclass_fields__"):
            cure = "give the dataclass weakref_slot=True (3.11+), or drop slots=True"
        elif "__slots__" in vars(kind) and not kind.__itemsize__:
            cure = "add '__weakref__' to its __slots__"
        elif _subclass_is_trackable(kind):
            cure = (
                "track an object that owns it, or an instance of a subclass: "
                f"class Tracked{kind.__name__.capitalize()}({kind.__qualname__}): pass"
            )
        else:
            cure = "track an object that owns it"
        super().__init__(f"run.track: {name} cannot be weakly referenced; {cure}")


def _subclass_is_trackable(kind: type) -> bool:
    """Whether ``class X(kind): pass`` gives weakly referenceable instances: not of int, tuple, bytes, bool."""
    try:
        return bool(type("Probe", (kind,), {}).__weakrefoffset__)
    except TypeError:
        return False


class Label:
    """Births and deaths under one label."""

    __slots__ = ("born", "dead", "died", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.born = 0
        self.dead = 0
        self.died = self._died  # bound once: a bound method per object would be an object per object

    def _died(self) -> None:
        self.dead += 1

    @property
    def alive(self) -> int:
        return self.born - self.dead


class TypeLabel:
    """Births under one label, of a type whose instances cannot be weakly referenced: those that are alive are counted
    among all objects. ``frozen`` are those that were there when the heap was last frozen."""

    __slots__ = ("born", "frozen", "kind", "name")

    def __init__(self, name: str, kind: type) -> None:
        self.name = name
        self.kind = weakref.ref(kind)
        self.born = 0
        self.frozen = 0

    @property
    def alive(self) -> int:
        return sum(1 for _ in self.instances()) + (self.frozen if self.frozen and gc.get_freeze_count() else 0)

    def instances(self) -> Iterator[Any]:
        """Those that are not frozen."""
        kind = self.kind()
        return (obj for obj in gc.get_objects() if type(obj) is kind)


class Tracker:
    """Births, deaths and survivors by label. Holds names and numbers, never an object."""

    def __init__(self) -> None:
        self._labels: dict[str, Label | TypeLabel] = {}
        self._finalize = weakref.finalize
        self._baseline: dict[str, tuple[int, int]] = {}
        self._baseline_index = 0
        self._use_up_small_ints()

    def track(self, obj: Any, label: str | None = None) -> None:
        """Count ``obj`` under ``label`` [its type's name]. Raises Untrackable."""
        name = type(obj).__qualname__ if label is None else label
        entry = self._labels.get(name)
        if entry is None:
            entry = self._new_label(name, obj)
        if type(entry) is Label:
            try:
                self._finalize(obj, entry.died).atexit = False
            except TypeError:
                raise Untrackable(obj) from None
        entry.born += 1

    def _new_label(self, name: str, obj: Any) -> Label | TypeLabel:
        """The entry for the first object under a label; beyond :data:`MOST_LABELS` of them they share one. Raises
        Untrackable: of a builtin type there are too many others, and an atomic one is in no list of objects."""
        kind = type(obj)
        if not takes_weak_references(kind):
            if kind.__module__ == "builtins" or not type_flags(kind) & HAVE_GC:
                raise Untrackable(obj)
            for entry in self._labels.values():
                if type(entry) is TypeLabel and entry.kind() is kind:
                    return entry
            self._labels[name] = counted = TypeLabel(name, kind)
            return counted
        if len(self._labels) >= MOST_LABELS and name != SELF_TEST_LABEL:
            name = OTHER_LABELS
        found = self._labels.get(name)
        if found is None:
            found = self._labels[name] = Label(name)
        return found

    def note_frozen(self, *, everything: bool) -> None:
        """To be called just before the heap is frozen; ``everything``: it has been unfrozen before."""
        for entry in self._labels.values():
            if type(entry) is TypeLabel:
                young = sum(1 for _ in entry.instances())
                entry.frozen = young if everything else entry.frozen + young

    def notes(self) -> list[str]:
        """Which labels are counted in another way than the rest, and why."""
        return [
            f"{entry.name}: counted by type: cannot be weakly referenced"
            for entry in self._labels.values()
            if type(entry) is TypeLabel
        ]

    @property
    def alive(self) -> int:
        return sum(entry.alive for entry in self._labels.values())

    @property
    def born(self) -> int:
        return sum(entry.born for entry in self._labels.values())

    def set_baseline(self) -> None:
        """From now on :meth:`by_label` counts what was born, and is retained, since this moment."""
        self._baseline = {name: (entry.born, entry.alive) for name, entry in self._labels.items()}
        self._baseline_index = max((info.index for info in _registry().values()), default=0)

    def by_label(self) -> dict[str, dict[str, int]]:
        """``{label: {"born": n, "retained": n}}`` since the baseline, labels in order of appearance."""
        counts = {}
        for name, entry in self._labels.items():
            born, alive = self._baseline.get(name, (0, 0))
            counts[name] = {"born": entry.born - born, "retained": max(0, entry.alive - alive)}
        return {name: row for name, row in counts.items() if row["born"] or row["retained"]}

    def survivors(self) -> Iterator[tuple[Any, str]]:
        """Every tracked object that was born since the baseline and is alive, with its label.

        For a forked child only: the caller holds what it gets.
        """
        mine = {id(entry): entry.name for entry in self._labels.values()}
        for info in list(_registry().values()):
            owner = getattr(info.func, "__self__", None)
            if type(owner) is Label and id(owner) in mine and info.index > self._baseline_index:
                obj = info.weakref()
                if obj is not None:
                    yield obj, owner.name
        for entry in self._labels.values():
            if type(entry) is TypeLabel:
                retained = max(0, entry.alive - self._baseline.get(entry.name, (0, 0))[1])
                for obj in list(entry.instances())[-retained:] if retained else ():  # the newest stand last
                    yield obj, entry.name

    @property
    def finalized_alive(self) -> int:
        """Tracked objects that are alive and have a finalizer."""
        return sum(entry.alive for entry in self._labels.values() if type(entry) is Label)

    def own_objects(self) -> int:
        """Objects of the harness that the collector lists because objects are, or were, tracked."""
        return FINALIZE_OBJECTS * self.finalized_alive + LABEL_OBJECTS * len(self._labels)

    def own_blocks(self) -> int:
        """Allocator blocks of the harness because objects are, or were, tracked."""
        labels = list(self._labels.values())
        large = sum((entry.born > LARGEST_CACHED) + (getattr(entry, "dead", 0) > LARGEST_CACHED) for entry in labels)
        names = sum(sys.getrefcount(entry.name) <= OWN_NAME_REFERENCES for entry in labels)
        tables = [_table_bytes(), sys.getsizeof(self._labels) - sys.getsizeof({})]
        own = LABEL_BLOCKS * len(labels) + large + names
        return FINALIZE_BLOCKS * self.finalized_alive + own + sum(1 for size in tables if size > 0)

    def own_malloc_bytes(self) -> int:
        """Bytes of the tables of finalizers and labels where they are too large for the small-object allocator."""
        tables = [_table_bytes(), sys.getsizeof(self._labels) - sys.getsizeof({})]
        return sum(malloc_chunk(size) for size in tables if size > BLOCK_LIMIT_BYTES)

    def alive_by_label(self) -> dict[str, int]:
        """Tracked objects that are alive now, whenever they were born."""
        return {name: entry.alive for name, entry in self._labels.items() if entry.alive}

    def containers(self) -> list[Any]:
        """What grows because objects are tracked."""
        return [self._labels, self._baseline, _registry()]

    def _use_up_small_ints(self) -> None:
        for _ in range(SMALL_INTS):
            self._finalize(TestObject(), _nothing).detach()


class TestObject:
    """What the tracker is tested with, in every process: dropped ones must count as dead, held ones as alive."""

    __slots__ = ("__weakref__",)


def self_test(tracker: Tracker, count: int = 3) -> str | None:
    """Test ``tracker`` on objects whose fate is known. Returns what is wrong with it, or None.

    A tracker whose finalizers never count would call every fix a leak; one that counts too early would call
    every leak fixed. Either makes the whole measurement void.
    """
    label = SELF_TEST_LABEL
    held = [TestObject() for _ in range(count)]
    for item in held:
        tracker.track(item, label)
        tracker.track(TestObject(), label)
    del item
    gc.collect()
    entry = tracker._labels[label]
    alive_while_held, born = entry.alive, entry.born
    held.clear()
    gc.collect()
    alive_after = entry.alive
    del tracker._labels[label]
    if born != 2 * count or alive_while_held != count:
        return f"it counted {alive_while_held} of {count} held canaries as alive"
    if alive_after != 0:
        return f"it counted {alive_after} of {count} dropped canaries as alive"
    return None


def _registry() -> dict[Any, Any]:
    """``weakref.finalize``'s table of live finalizers (Lib/weakref.py); empty where it has another shape."""
    table = getattr(weakref.finalize, "_registry", None)
    return table if type(table) is dict else {}


def _table_bytes() -> int:
    """Bytes of the table of live finalizers beyond an empty dict's."""
    return max(0, sys.getsizeof(_registry()) - sys.getsizeof({}))


def _nothing() -> None:
    pass
