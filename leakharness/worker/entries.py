"""The counter ``entries``: how much the containers and buffers of this process hold, by ``len``.

A list that grows inside what it has over-allocated shows no object, no block and no byte; its length shows it. The
containers that matter are the old ones, and those are frozen (``gc.freeze``), so that the collector does not list them
any more. Their addresses are noted before it freezes them, and each reading reads the lengths from there, as one
process reads another's memory (process_vm_readv(2)): an address that is gone gives an error, not a crash. Nothing is
held, no reference is counted, and no ``__len__`` of the program runs.

Where in an object its length, its type and its reference count stand is found out on objects of known length, not
taken from a table of versions.
"""

from __future__ import annotations

import atexit
import collections
import io
import itertools
import operator
import sys
import types
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any

try:
    from _queue import SimpleQueue
except ImportError:  # it is optional (Lib/queue.py)
    SimpleQueue = None  # type: ignore[assignment,misc]

from leakharness.worker.protocol import GrownContainer, GrownContainers
from leakharness.worker.unpatched import gc, os

__all__ = ["Entries", "is_container", "length"]

WORD = 8
IOV_MAX = 1024
"""Pieces of memory that one call may read (Linux, UIO_MAXIOV)."""
CHUNK = 30_000
"""Objects whose referents are asked for at once."""
MOST_REFERENCES = 1 << 32
"""No object has more references: an immortal one's count has 32 bits, and 2**32 of 8 bytes each are 32 GiB. Memory that
went and is used for something else, a float or a pointer, has more in that word nearly always."""
LONGEST = 1 << 44
"""No container or buffer is that long: 16 TiB, of bytes. An address in that word is larger."""
SAMPLE_LENGTHS = (3, 5, 6)
"""Lengths of the objects on which the places are found out: no other word of them takes all three values."""
MOST_GROWN = 40
"""Containers that have grown which are named, the most grown first."""
FAMILIES: tuple[tuple[type, Callable[[int], Any]], ...] = (
    (list, lambda n: [None] * n),
    (dict, lambda n: dict.fromkeys(range(n))),
    (set, lambda n: _thinned(set(range(n + 2)))),
    (collections.deque, lambda n: collections.deque(range(n))),
    (bytearray, lambda n: bytearray(n)),
    (array, lambda n: array("q", range(n))),
    (io.BytesIO, lambda n: _written(io.BytesIO(), bytes(n))),
    (io.StringIO, lambda n: _written(io.StringIO(), "x" * n)),
    (SimpleQueue, lambda n: _queued(n)),
)
"""The containers and buffers, and how to make one of a given length."""
UNTRACKED = (dict, bytearray)
"""Those that the collector may not list: a dict of plain values (until 3.13), and what cannot refer to anything."""
EXIT_CALLBACKS = "atexit"
"""The type of a row that is the interpreter's own list of exit callbacks; its address is 0."""
MOST_TUPLES = 200_000
"""Tuples that the collector does not list which are looked into: a program with more of them keeps its data there."""
LISTS, DICTS = 1 << 25, 1 << 29
"""Py_TPFLAGS_LIST_SUBCLASS, Py_TPFLAGS_DICT_SUBCLASS (Include/object.h)."""
READY = 1 << 12
"""Py_TPFLAGS_READY: a type without it has no MRO."""

_flags: Callable[[type], int] = type.__dict__["__flags__"].__get__
_mro: Callable[[type], tuple[type, ...] | None] = type.__dict__["__mro__"].__get__


class _Layout:
    """Where the words of one family of containers are: reference count, type, length; and those noted of it."""

    __slots__ = ("before", "len", "name", "pieces", "types", "width", "words")

    def __init__(self, base: type, length_at: int) -> None:
        self.name = base.__name__
        self.len: Callable[[Any], int] | None = getattr(base, "__len__", None)
        self.width = length_at // WORD + 1
        self.pieces = array("Q")
        """(address, bytes) of each container: what process_vm_readv takes."""
        self.words = array("q")
        """What was read last: ``width`` words of each container."""
        self.types = array("q")
        self.before = array("q")
        """Length of each at the baseline; -1 where it was made later."""

    @property
    def lengths(self) -> array[int]:
        return self.words[self.width - 1 :: self.width]


class Entries:
    """Lengths of the containers of this process: of those that the collector freezes, and of those that it lists.

    ``missing`` says why there is no such counter here, else it is empty.
    """

    __slots__ = ("_callbacks", "_interned", "_layouts", "_read", "missing")

    def __init__(self) -> None:
        self._layouts: dict[int, _Layout] = {}  # by the id of the builtin type: a metaclass may hash as it likes
        self._read: Callable[[_Layout], int] | None = None
        self._callbacks = 0
        self._interned = 0
        self.missing = self._prepare()

    def note(self, own: Iterable[Any], *, untracked: bool = True) -> None:
        """Call before ``gc.freeze()``: remember where the containers are that the collector lists, and, where
        ``untracked``, those that only their holders show. Those of the harness, ``own``, are left out."""
        if self.missing:
            return
        objects = gc.get_objects()
        self._interned = self._interned or _address_of_interned(objects)
        left_out = self._left_out(own)
        left_out.add(id(objects))
        found = self._sorted(objects)
        hidden = _untracked(objects) if untracked else {}
        known = {} if untracked else self._lengths_before()
        for family, layout in self._layouts.items():
            members = found.get(family, []) + hidden.get(family, [])
            rows = dict.fromkeys(address for address in map(id, members) if address not in left_out)
            types = dict(zip(map(id, members), map(id, map(type, members)), strict=True))
            if not untracked:  # what only its holders show stays noted: it is not looked for again
                kept = zip(layout.pieces[0::2], layout.types, strict=True)
                types = {**dict(kept), **types}
                rows = dict.fromkeys(itertools.chain(layout.pieces[0::2], rows))
            layout.pieces = array("Q", itertools.chain.from_iterable((row, layout.width * WORD) for row in rows))
            layout.types = array("q", map(types.__getitem__, rows))
            layout.words = array("q", bytes(WORD * layout.width * len(rows)))
            layout.before = array("q", (known.get(row, -1) for row in rows))

    def set_baseline(self) -> None:
        """From now on :meth:`grown` counts."""
        for layout in self._layouts.values():
            self._lengths_of(layout)
            layout.before = layout.lengths
        self._callbacks = _exit_callbacks()

    def total(self, own: Iterable[Any]) -> int:
        """Entries of all of them and of the interpreter's list of exit callbacks, of bytes in buffers one each, without
        those in ``own``."""
        return self.total_and_drained(own)[0]

    def total_and_drained(self, own: Iterable[Any]) -> tuple[int, int]:
        """The same, and by how many entries those that were there at the baseline are shorter now, the shorter ones
        alone."""
        young = self._sorted(gc.get_objects())
        left_out = self._left_out(own)
        total, drained = _exit_callbacks(), 0
        for family, layout in self._layouts.items():
            members = [obj for obj in young.get(family, ()) if id(obj) not in left_out]
            self._forget(layout, set(map(id, members)))
            if layout.len is not None:  # a new BytesIO shows by itself, as an object
                total += sum(map(layout.len, members))
            lengths = self._lengths_of(layout)
            total += sum(lengths)
            if lengths != layout.before:
                drained += sum(map(max, layout.before, lengths)) - sum(lengths)
        return total, drained

    def grown(self, asked: Sequence[int] = ()) -> GrownContainers:
        """The containers that were there at the baseline and have more entries now, the most grown first; and of those
        at the addresses ``asked``, each that was there, whether it has grown or not."""
        callbacks = _exit_callbacks()
        rows = [GrownContainer(0, EXIT_CALLBACKS, self._callbacks, callbacks)] if callbacks > self._callbacks else []
        wanted = set(asked)
        for layout in self._layouts.values():
            lengths = self._lengths_of(layout)
            if lengths == layout.before and not wanted:
                continue
            for address, before, now in zip(layout.pieces[0::2], layout.before, lengths, strict=True):
                if before >= 0 and (now > before or address in wanted):
                    rows.append(GrownContainer(address, layout.name, before, now))
        rows.sort(key=lambda row: row.before - row.now)
        return GrownContainers(
            tuple(row for place, row in enumerate(rows) if place < MOST_GROWN or row.address in wanted)
        )

    def _left_out(self, own: Iterable[Any]) -> set[int]:
        """The addresses of ``own`` and of what this counter is made of."""
        left_out = {id(obj) for obj in own}
        left_out.update((id(self._layouts), self._interned))
        for layout in self._layouts.values():
            left_out.update(map(id, (layout.pieces, layout.words, layout.types, layout.before)))
        return left_out

    def _lengths_before(self) -> dict[int, int]:
        """The length at the baseline of each container that is noted."""
        return {
            address: before
            for layout in self._layouts.values()
            for address, before in zip(layout.pieces[0::2], layout.before, strict=False)
        }

    def _lengths_of(self, layout: _Layout) -> array[int]:
        """Lengths as they are now. What died is forgotten: the place may be another's soon.

        The words of what died stay until something is written over them, and what is smaller than it was leaves some of
        them as they are: a type that is right is not enough.
        """
        while layout.pieces:
            bad = self._read(layout) if self._read is not None else -1
            if bad >= 0:  # no such memory any more
                self._forget(layout, {layout.pieces[2 * bad]})
                continue
            types = layout.words[1 :: layout.width]
            counts = layout.words[0 :: layout.width]
            lengths = layout.lengths
            if types == layout.types and not counts.count(0) and not _high_halves(counts) and not _high_halves(lengths):
                break
            rows = zip(layout.pieces[0::2], counts, types, layout.types, lengths, strict=True)
            self._forget(
                layout,
                {
                    place
                    for place, count, is_, was, length in rows
                    if is_ != was or not 0 < count < MOST_REFERENCES or not 0 <= length < LONGEST
                },
            )
            break
        return layout.lengths

    def _forget(self, layout: _Layout, places: set[int]) -> None:
        noted = layout.pieces[0::2]
        if not places or places.isdisjoint(noted):
            return
        stays = [place not in places for place in noted]
        width = layout.width
        layout.pieces = _compressed(layout.pieces, stays, 2)
        layout.types = _compressed(layout.types, stays, 1)
        layout.before = _compressed(layout.before, stays, 1)
        layout.words = _compressed(layout.words, stays, width)

    def _sorted(self, objects: list[Any]) -> dict[int, list[Any]]:
        """The containers among ``objects``, by the id of the builtin type that they are or inherit from."""
        kinds = list(map(type, objects))
        addresses = list(map(id, kinds))
        families: dict[int, int] = {}
        for address, kind in dict(zip(addresses, kinds, strict=True)).items():
            family = self._family(kind)
            if family is not None:
                families[address] = family
        found: dict[int, list[Any]] = {family: [] for family in self._layouts}
        contained = list(map(families.__contains__, addresses))
        for obj, address in zip(
            itertools.compress(objects, contained), itertools.compress(addresses, contained), strict=True
        ):
            found[families[address]].append(obj)
        return found

    def _family(self, kind: type) -> int | None:
        flags = _flags(kind)
        if flags & DICTS:
            return id(dict)
        if flags & LISTS:
            return id(list)
        if not flags & READY:
            return None
        return next((id(base) for base in _mro(kind) or () if id(base) in self._layouts), None)

    def _prepare(self) -> str:
        """Find out how to read. Returns why that cannot be done, or nothing."""
        if sys.implementation.name != "cpython":
            return "lengths of containers are read as CPython lays them out"
        if sys.platform != "linux":
            return "lengths of containers are read by process_vm_readv, which is Linux's"
        try:
            import ctypes
        except ImportError:
            return "ctypes is missing from this interpreter"
        try:
            self._read = _reader(ctypes)
        except AttributeError:
            return "the C library has no process_vm_readv"
        for base, make in FAMILIES:
            if base is None:
                continue
            samples = [make(length) for length in SAMPLE_LENGTHS]
            memory = [array("q", ctypes.string_at(id(sample), base.__basicsize__ // WORD * WORD)) for sample in samples]
            places = range(2, len(memory[0]))
            at = next((at for at in places if tuple(words[at] for words in memory) == SAMPLE_LENGTHS), None)
            if at is None and base is SimpleQueue:  # until 3.12 its items are in a list, which is counted
                continue
            if at is None or any(words[1] != id(base) for words in memory):
                return f"the length of a {base.__name__} is not where it is looked for"
            layout = self._layouts[id(base)] = _Layout(base, at * WORD)
            layout.pieces = array("Q", itertools.chain(*((id(sample), layout.width * WORD) for sample in samples)))
            layout.types = array("q", [id(base)] * len(samples))
            layout.words = array("q", bytes(WORD * layout.width * len(samples)))
            layout.before = array("q", SAMPLE_LENGTHS)
            if self._read(layout) >= 0 or tuple(layout.lengths) != SAMPLE_LENGTHS:
                return "process_vm_readv is not allowed here"
            layout.pieces, layout.types, layout.words, layout.before = array("Q"), array("q"), array("q"), array("q")
        return ""


def _address_of_interned(objects: Iterable[Any]) -> int:
    """Of the interpreter's table of interned strings, which the collector lists from 3.14 on, where no dict is left
    out; 0 before. Every new name would count twice: there, and where it is used."""
    if sys.version_info < (3, 14):
        return 0
    probe = sys.intern("leakharness: a name that only this table has")
    return next((id(obj) for obj in objects if type(obj) is dict and obj.get(probe) is probe), 0)


def _reader(ctypes: Any) -> Callable[[_Layout], int]:
    """A function that reads all of a layout's pieces into its words: the index of one that could not be read, or -1."""
    # PyDLL keeps the interpreter's lock: nothing changes while it reads.
    readv = ctypes.PyDLL(None, use_errno=True).process_vm_readv
    size_t, pointer = ctypes.c_ulong, ctypes.c_void_p
    readv.argtypes = (ctypes.c_int, pointer, size_t, pointer, size_t, size_t)
    readv.restype = ctypes.c_ssize_t
    into = array("Q", [0, 0])

    def read(layout: _Layout) -> int:
        count = len(layout.pieces) // 2
        size = layout.width * WORD
        words, pieces = layout.words.buffer_info()[0], layout.pieces.buffer_info()[0]
        local, pid = into.buffer_info()[0], os.getpid()
        for start in range(0, count, IOV_MAX):
            some = min(IOV_MAX, count - start)
            into[0], into[1] = words + start * size, some * size
            got: int = readv(pid, local, 1, pieces + start * 2 * WORD, some, 0)
            if got != some * size:
                return start + max(0, got) // size
        return -1

    return read


def _untracked(holders: Sequence[Any]) -> dict[int, list[Any]]:
    """Containers that the collector does not list, by their type's id, each once: those that ``holders`` refer to, also
    by a tuple or a dict that it does not list either.

    Modules are not asked: on 3.12 ``_asyncio`` shows the collector its list of free iterators, and objects that are
    free do not survive being referred to. What a module holds is in its dict, which the collector lists.
    """
    kinds = list(map(type, holders))
    addresses = list(map(id, kinds))
    others = {address for address, kind in dict(zip(addresses, kinds, strict=True)).items() if not _is_module(kind)}
    holders = list(itertools.compress(holders, map(others.__contains__, addresses)))
    found: dict[int, dict[int, Any]] = {id(kind): {} for kind in (*UNTRACKED, tuple)}
    while holders:
        deeper: list[Any] = []
        for start in range(0, len(holders), CHUNK):
            referents = gc.get_referents(*holders[start : start + CHUNK])
            kinds = list(map(type, referents))
            for kind in (*UNTRACKED, tuple):
                of_kind = itertools.compress(referents, map(operator.is_, kinds, itertools.repeat(kind)))
                hidden = {id(obj): obj for obj in itertools.filterfalse(gc.is_tracked, of_kind)}
                known = found[id(kind)]
                if kind is dict or (kind is tuple and len(known) < MOST_TUPLES):
                    deeper += [obj for address, obj in hidden.items() if address not in known]
                if kind is not tuple or len(known) < MOST_TUPLES:
                    known.update(hidden)
        holders = deeper
    return {kind: list(members.values()) for kind, members in found.items()}


def _exit_callbacks() -> int:
    """How many functions are registered with atexit."""
    count: Callable[[], int] | None = getattr(atexit, "_ncallbacks", None)
    return count() if count is not None else 0


def length(obj: Any) -> int:
    """``len`` of a container as its builtin type has it, 0 of anything else."""
    base = _container_base(type(obj))
    return int(base.__len__(obj)) if base is not None else 0


def is_container(obj: Any) -> bool:
    """Whether :func:`length` knows it."""
    return _container_base(type(obj)) is not None


def _container_base(kind: type) -> Any:
    flags = _flags(kind)
    if flags & DICTS:
        return dict
    if flags & LISTS:
        return list
    known = [base for base, _ in FAMILIES if base is not None and hasattr(base, "__len__")]
    return next((base for base in _mro(kind) or () if any(base is one for one in known)), None)


def _is_module(kind: type) -> bool:
    return bool(_flags(kind) & READY) and any(base is types.ModuleType for base in _mro(kind) or ())


def _high_halves(words: array[int]) -> bool:
    """Whether any of ``words`` is negative or has more than 32 bits; looks at no number, which would cost more."""
    high = memoryview(words).cast("B").cast("I")[1 if sys.byteorder == "little" else 0 :: 2].tobytes()
    return high.count(0) != len(high)


def _compressed(values: array[int], stays: Sequence[bool], width: int) -> array[int]:
    selectors = itertools.chain.from_iterable(itertools.repeat(stay, width) for stay in stays)
    return array(values.typecode, itertools.compress(values, selectors))


def _thinned(items: set[int]) -> set[int]:
    """Two fewer: a set also counts the places of those that went."""
    items.discard(0)
    items.discard(1)
    return items


def _queued(count: int) -> Any:
    waiting: Any = SimpleQueue()
    for _ in range(count + 1):
        waiting.put(None)
    waiting.get()
    return waiting


def _written(buffer: Any, content: Any) -> Any:
    buffer.write(content)
    buffer.seek(0)
    return buffer
