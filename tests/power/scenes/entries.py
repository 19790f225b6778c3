"""Growth inside what a container or buffer has over-allocated: each kind beside a twin that holds as much, and no more.

Everything is large before the first run, so that in the runs that are made no table is ever made larger: no object, no
block and no byte shows.
"""

from __future__ import annotations

import array
import collections
import contextvars
import io
import queue
from collections.abc import Callable, Iterable
from typing import Any

from leakharness import Run, Scenario

LARGE = 400_000
"""Entries at the beginning. The tables are grown by one more, and then have room for thousands."""
ROOM = 100
"""Entries of a ring: what it may hold at the most."""


class Liar(dict[int, Any]):
    """A dict that says it is empty."""

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return False


class Slotted:
    """Keeps a buffer in a slot."""

    __slots__ = ("samples",)

    def __init__(self) -> None:
        self.samples = array.array("B", bytes(LARGE))
        self.samples.append(0)


def _grown_list() -> list[Any]:
    grown: list[Any] = [None] * LARGE
    grown.append(None)
    return grown


def _in_a_closure() -> Callable[[], None]:
    buffer = bytearray(LARGE)
    buffer.append(0)

    def log() -> None:
        buffer.append(1)

    return log


def _dict_with_room(kind: Callable[[Iterable[tuple[int, Any]]], Any]) -> Any:
    return kind((key, None) for key in range(50_000))  # a table of 2**17 places, which takes 87,381


EVENTS = _grown_list()
QUEUE: queue.Queue[None] = queue.Queue()
LIAR = _dict_with_room(Liar)
SEEN = _dict_with_room(lambda rows: {key for key, _ in rows})
COUNTS: collections.Counter[int] = _dict_with_room(collections.Counter)
PLAIN = _dict_with_room(dict)
SLOTTED = Slotted()
LOG = _in_a_closure()
STREAM = io.BytesIO()
STREAM.write(bytes(LARGE))
STREAM.write(b"x")
VAR: contextvars.ContextVar[collections.deque[int]] = contextvars.ContextVar("recent")
VAR.set(collections.deque([0] * LARGE))
RING = [None] * ROOM
WORK: list[Any] = _grown_list()


def _ten_to(add: Callable[[int], Any]) -> Callable[[Run], None]:
    def leaky(run: Run) -> None:
        for i in range(10):
            add(10 * run.index + i)

    return leaky


def _set_key(mapping: Any) -> Callable[[int], None]:
    return lambda i: mapping.__setitem__(100_000 + i, None)


LEAKS: dict[str, Callable[[int], Any]] = {
    "list": lambda _: EVENTS.append(None),
    "dict": _set_key(PLAIN),
    "lying-dict": _set_key(LIAR),
    "set": lambda i: SEEN.add(100_000 + i),
    "counter": _set_key(COUNTS),
    "array-in-slot": lambda _: SLOTTED.samples.append(1),
    "bytearray-in-closure": lambda _: LOG(),
    "bytesio": lambda _: STREAM.write(b"x"),
    "deque-in-contextvar": lambda _: VAR.get().append(0),
    "queue": lambda _: QUEUE.put(None),
}


def _fill_in_place(run: Run) -> None:
    RING[run.index % ROOM] = run.index  # type: ignore[call-overload]


def _clear(run: Run) -> None:
    WORK.extend((None,) * 50)
    del WORK[LARGE:]


def _swap(run: Run) -> None:
    global WORK
    WORK = [None] * (run.index % 7)


def _bounded(run: Run) -> None:
    recent = VAR.get()
    recent.append(0)
    recent.popleft()


CLEAN: dict[str, Callable[[Run], None]] = {
    "list": _fill_in_place,
    "dict": lambda run: PLAIN.update({run.index % 100: run.index}),
    "set": lambda run: SEEN.add(run.index % 100),
    "counter": lambda run: COUNTS.update((run.index % 100,)),
    "bytearray-in-closure": _clear,
    "queue": _swap,
    "deque-in-contextvar": _bounded,
}

for _name, _add in LEAKS.items():
    _scenario = globals()[f"scenario_{_name}"] = Scenario(_name, summary=f"ten entries a run: {_name}")
    _clean = CLEAN.get(_name, lambda run: None)
    _scenario.mode("leaky", must="FAIL", abort="none")(_ten_to(_add))
    _scenario.mode("clean", must="PASS", default=True, abort="none")(_clean)
