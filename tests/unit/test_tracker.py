"""What the measured process counts with: the tracker, and what single objects weigh."""

from __future__ import annotations

import array
import collections
import dataclasses
import gc
import sys
import typing
from collections.abc import Callable
from typing import Any

import pytest

from leakharness.worker.tracker import MOST_LABELS, OTHER_LABELS, Label, TestObject, Tracker, Untrackable, self_test
from leakharness.worker.weight import malloc_chunk, weigh


class Thing:
    pass


class Slotted:
    __slots__ = ("__weakref__", "value")


class Bare:
    __slots__ = ("value",)


class Sub(list):  # type: ignore[type-arg]
    pass


class SubInt(int):
    pass


class SubStr(str):
    pass


class Many:
    def __init__(self) -> None:
        for i in range(40):
            setattr(self, f"a{i}", i % 5)


class Pair(typing.NamedTuple):
    a: int


@dataclasses.dataclass(slots=True)
class Data:
    a: int = 1


def filled() -> Thing:
    thing = Thing()
    thing.value = 1  # type: ignore[attr-defined]
    return thing


def with_dict() -> Thing:
    thing = filled()
    vars(thing)["x"] = 2
    return thing


ONE = int("1")
KINDS: dict[str, Callable[[], Any]] = {
    "list": list,
    "list of three": lambda: [1, 2, 3],
    "list of a thousand": lambda: [None] * 1000,
    "bytearray": lambda: bytearray(3),
    "large bytearray": lambda: bytearray(100_000),
    "empty bytearray": bytearray,
    "bytes": lambda: bytes(700 + ONE),
    "dict": dict,
    "dict of one": lambda: {"a": 1},
    "dict of a hundred": lambda: dict.fromkeys(range(100)),
    "set": set,
    "set of five": lambda: set(range(5)),
    "set of a hundred": lambda: set(range(100)),
    "frozenset": lambda: frozenset(range(30)),
    "tuple": lambda: (1, 2, [].append)[:2],
    "str": lambda: "x" * (90 + ONE),
    "long str": lambda: "x" * (900 + ONE),
    "int": lambda: 10**30 + ONE,
    "float": lambda: 0.5 + ONE,
    "object": object,
    "instance": Thing,
    "instance with an attribute": filled,
    "instance with a dict": with_dict,
    "instance with forty attributes": Many,
    "instance with slots": Slotted,
    "list subclass": Sub,
    "list subclass, filled": lambda: Sub([1, 2, 3]),
    "int subclass": lambda: SubInt(2**70),
    "str subclass": lambda: SubStr("x" * 99),
    "dict subclass": collections.Counter,
    "deque": collections.deque,
    "array": lambda: array.array("i", range(10)),
    "exception": ValueError,
    "function": lambda: lambda: 0,
}
COUNT = 200


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="counts allocator blocks")
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_what_the_interpreter_counts(kind: str) -> None:
    """Against the interpreter's own counts: as many blocks and listed objects as making two hundred of them adds."""
    make = KINDS[kind]
    box: list[Any] = [None] * COUNT
    for _ in range(3):
        box[:] = [make() for _ in range(COUNT)]
        box[:] = [None] * COUNT
    spare: list[Any] = [[[], {}, 1.5 * i, (i,), (i, i), (i, i, i)] for i in range(300)]  # empties the free lists
    gc.collect()
    blocks, objects = sys.getallocatedblocks(), len(gc.get_objects())
    for i in range(COUNT):
        box[i] = make()
    blocks, objects = sys.getallocatedblocks() - blocks, len(gc.get_objects()) - objects
    weight = weigh(box[0])
    assert blocks / COUNT == pytest.approx(weight.blocks, abs=0.2)
    assert objects / COUNT == pytest.approx(weight.objects, abs=0.2)
    assert len(spare) == 300


@pytest.mark.parametrize("make", [Thing, filled, Many, Sub])
def test_weighing_changes_nothing(make: Callable[[], Any]) -> None:
    """No dict is made by looking (on 3.11 and 3.12, asking for __dict__ would)."""
    things = [make() for _ in range(COUNT)]
    for _ in range(2):
        gc.collect()
        before = sys.getallocatedblocks()
        for thing in things:
            weigh(thing)
        after = sys.getallocatedblocks()
    assert after - before < COUNT / 2


def test_weighing_runs_no_code_of_the_program() -> None:
    """Not __sizeof__, not __getattribute__, not a property."""

    class Trap(dict):  # type: ignore[type-arg]
        def __sizeof__(self) -> int:
            raise AssertionError

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    weigh(Trap(a=1))


@pytest.mark.parametrize(
    ("asked", "chunk"), [(1, 32), (24, 32), (25, 48), (734, 752), (8000, 8016), (200_000, 200_704)]
)
def test_malloc_chunks(asked: int, chunk: int) -> None:
    """Eight bytes of overhead, multiples of sixteen, at least 32; whole pages where the chunk is mapped by itself."""
    assert malloc_chunk(asked) == chunk


@pytest.mark.parametrize(
    ("obj", "cure"),
    [
        (3, "track an object that owns it"),
        (True, "track an object that owns it"),
        (None, "track an object that owns it"),
        ((), "track an object that owns it"),
        (b"", "track an object that owns it"),
        ("", "track an object that owns it, or an instance of a subclass: class TrackedStr(str): pass"),
        ({}, "track an object that owns it, or an instance of a subclass: class TrackedDict(dict): pass"),
        ([], "track an object that owns it, or an instance of a subclass: class TrackedList(list): pass"),
        (object(), "track an object that owns it, or an instance of a subclass: class TrackedObject(object): pass"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) or not value else "",
)
def test_an_object_that_cannot_be_tracked_gets_a_cure_that_works(obj: Any, cure: str) -> None:
    """The message names the type and what to do; nothing is counted."""
    tracker = Tracker()
    with pytest.raises(Untrackable) as caught:
        tracker.track(obj)
    assert str(caught.value).endswith(f"{type(obj).__qualname__} cannot be weakly referenced; {cure}")
    assert tracker.born == 0
    if ": class " in cure:
        spell = cure.partition("subclass: ")[2]
        space: dict[str, Any] = {}
        exec(spell, space)
        tracker.track(next(value for name, value in space.items() if name.startswith("Tracked"))())


@pytest.mark.parametrize("kind", [Data, Bare])
def test_what_cannot_be_weakly_referenced_is_counted_by_its_type(kind: type) -> None:
    """Births since the baseline, and who of them is alive, the frozen ones and the newest ones included."""
    tracker = Tracker()
    old = kind()
    tracker.track(old)
    tracker.set_baseline()
    kept = [kind() for _ in range(5)]
    for item in kept:
        tracker.track(item)
    del item
    tracker.track(kind())
    name = kind.__qualname__
    assert tracker.by_label() == {name: {"born": 6, "retained": 5}}
    assert [(type(item), label) for item, label in tracker.survivors()] == [(kind, name)] * 5
    assert tracker.notes() == [f"{name}: counted by type: cannot be weakly referenced"]
    gc.unfreeze()
    try:
        tracker.note_frozen(everything=True)
        gc.freeze()
        kept.append(kind())
        assert tracker.by_label()[name]["retained"] == 6
    finally:
        gc.unfreeze()
    kept.clear()
    assert tracker.by_label()[name]["retained"] == 0


def test_beyond_a_thousand_labels_they_share_one() -> None:
    """And the tracker knows what a label weighs: it is no growth of the program."""
    for _ in range(2):  # 3.10 gives functions caches of their own at their 1,024th call: they are there the second time
        tracker = Tracker()
        gc.collect()
        objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
        own, own_blocks = tracker.own_objects(), tracker.own_blocks()
        for number in range(MOST_LABELS + 200):
            tracker.track(Thing(), f"session {number}")
        gc.collect()  # as a reading does: else it would count what lies in free lists
        more_objects, more_blocks = len(gc.get_objects()) - objects, sys.getallocatedblocks() - blocks
    assert more_objects == pytest.approx(tracker.own_objects() - own, abs=3)
    assert more_blocks == pytest.approx(tracker.own_blocks() - own_blocks, abs=20)
    rows = tracker.by_label()
    assert len(rows) == MOST_LABELS + 1
    assert rows[OTHER_LABELS] == {"born": 200, "retained": 0}


def test_births_and_deaths_by_label() -> None:
    """Counted under the label, or the type's name; retained are those that are alive."""
    tracker = Tracker()
    one, two = Thing(), Thing()
    tracker.track(one)
    tracker.track(two, "second")
    tracker.set_baseline()
    tracker.track(Thing())
    three = Thing()
    tracker.track(three, "third")
    assert tracker.by_label() == {"Thing": {"born": 1, "retained": 0}, "third": {"born": 1, "retained": 1}}
    assert (tracker.born, tracker.alive) == (4, 3)
    assert [label for _, label in tracker.survivors()] == ["third"]
    del one, two
    assert tracker.alive == 1
    del three
    assert tracker.alive == 0


def test_the_tracker_knows_its_own_weight() -> None:
    """What it adds to the census for a thousand live objects is what it says it adds."""
    tracker = Tracker()
    kept = [Thing() for _ in range(1000)]
    tracker.track(kept[0])
    gc.collect()
    objects, own = len(gc.get_objects()), tracker.own_objects()
    blocks, own_blocks = sys.getallocatedblocks(), tracker.own_blocks()
    for thing in kept[1:]:
        tracker.track(thing)
    assert len(gc.get_objects()) - objects == tracker.own_objects() - own
    assert sys.getallocatedblocks() - blocks == pytest.approx(tracker.own_blocks() - own_blocks, abs=20)


def test_the_self_test_passes_and_leaves_nothing() -> None:
    """A sound tracker has no fault, and the canaries are in no label."""
    tracker = Tracker()
    assert self_test(tracker) is None
    assert tracker.by_label() == {}


@pytest.mark.parametrize(
    ("died", "fault"),
    [
        (lambda self: None, "counted 6 of 3 held canaries as alive"),
        (lambda self: setattr(self, "dead", self.dead + 2), "counted 0 of 3 held canaries as alive"),
    ],
)
def test_the_self_test_finds_a_tracker_that_cannot_count(
    died: Callable[[Any], None], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose finalizers never count, and one that counts a death twice."""
    monkeypatch.setattr(Label, "_died", died)
    assert fault in str(self_test(Tracker()))


def test_an_object_of_the_self_test_can_be_tracked() -> None:
    """It has a __weakref__ and nothing else."""
    assert TestObject.__slots__ == ("__weakref__",)
