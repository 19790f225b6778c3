"""References that no object of the heap holds: each object's reference count less the references to it that the heap
shows. What is left is held by C code, or by a frame that runs. Standard library only.

A C function that forgets a ``Py_DECREF`` of a long-lived object makes no object, no block and no byte. CPython's own
test suite sees it by ``sys.gettotalrefcount``, which only debug builds have; this sees it on any build, and says of
which object. Everything happens in a forked copy: it thaws the heap, by which the measured process tells what is new.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import types
from array import array
from collections.abc import Iterable
from operator import add, ne, not_, sub
from typing import Any

from leakharness.worker.capture.object_ids import ids_of
from leakharness.worker.capture.type_plans import (
    HEAP_TYPE,
    OBJECT_DTYPES,
    TYPE_SUBCLASS,
    type_dict,
    type_flags,
    type_mro,
    type_name,
)
from leakharness.worker.codec import decode, encode
from leakharness.worker.fork import CAN_FORK, CopyFailed, answer_of_copy
from leakharness.worker.protocol import ReferencesAnswer, UnownedReferences
from leakharness.worker.type_cache import CLEAR_TYPE_CACHE
from leakharness.worker.unpatched import gc, os

__all__ = ["ReferenceReader", "why_not"]

COPY_SECONDS = 60.0
"""How long a copy may take to look at every object; it is killed then, and no other is asked."""
MOST_ROWS = 50
"""Objects that are reported one by one, the largest changes first."""
SINGLETONS = frozenset(
    id(item)
    for item in (
        *(None, True, False, Ellipsis, NotImplemented, (), "", b""),
        *range(-5, 257),
        *map(chr, range(256)),
        *(bytes((byte,)) for byte in range(256)),
    )
)
"""What the interpreter itself makes once and uses everywhere: before 3.12 its counts move with every instruction."""
CODE_LIKE = frozenset(
    map(
        id,
        (
            *(types.FunctionType, types.BuiltinFunctionType, types.CellType, types.FrameType, types.CodeType),
            *(types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType),
            *(types.GetSetDescriptorType, types.MemberDescriptorType, property, staticmethod, classmethod),
        ),
    )
)
"""Types (by id) whose names and texts are left out: most strings of a process, and nobody passes them to C."""
DEALLOC_OFFSET = 48
"""Of ``tp_dealloc`` in PyTypeObject (Include/cpython/object.h), behind PyVarObject, name and two sizes; 64 bits."""
TP_ALLOC = 47
"""``Py_tp_alloc`` in Include/typeslots.h."""
PROBE_SECONDS = 2.0
MOST_PROBED = 8
"""Types, the most frequent first, of which an instance is made to die, and how long that may take."""


def why_not() -> str | None:
    """Why references cannot be counted here, or None."""
    if not hasattr(sys, "getrefcount") or sys.implementation.name != "cpython":
        return "this interpreter counts no references"
    if "t" in getattr(sys, "abiflags", ""):
        return "the free-threaded build keeps some reference counts in each thread, where they cannot be read"
    return None if CAN_FORK else "they are counted in a forked copy, and this platform cannot fork"


class ReferenceReader:
    """Compares the references that no object holds with those at the mark, object by object."""

    def __init__(self) -> None:
        self._failed = why_not() or ""
        self._file = -1
        """Opened with the first mark, which is before the baseline: a process that is never asked has no descriptor
        for it."""
        self._marking = True
        row = UnownedReferences(0, "", 0)
        decode(ReferencesAnswer, encode(ReferencesAnswer(0, 0, (row,), (row,))))  # what that keeps is there from now on

    def forget(self) -> None:
        """The next :meth:`read` makes a new mark."""
        self._marking = True

    def read(self) -> ReferencesAnswer:
        """What has changed since the mark; the first makes one."""
        if self._failed:
            return ReferencesAnswer(failed=self._failed)
        try:
            if self._file < 0:
                self._file = _nameless_file()
            # The stack is the same whether it marks or compares: what a running frame holds is held by no object.
            return answer_of_copy(ReferencesAnswer, self._answer, COPY_SECONDS)
        except (CopyFailed, OSError) as exc:
            self._failed = str(exc)
            return ReferencesAnswer(failed=self._failed)
        finally:
            self._marking = False

    def close(self) -> None:
        """Give the descriptor back. Safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._marking = True

    def _answer(self) -> ReferencesAnswer:
        """In the copy."""
        new = set(map(id, gc.get_objects()))  # those of the baseline are frozen, and not listed before they are thawed
        items, counts = _unowned()
        return self._write(items, counts) if self._marking else self._compare(items, counts, new)

    def _write(self, items: list[Any], counts: dict[int, int]) -> ReferencesAnswer:
        """Numbers in a file without a name: the measured process keeps nothing of the program's."""
        held = list(map(items.__getitem__, counts))
        sizes = [(id(item), len(item)) for item in items if type(item) is dict]
        parts = (
            ids_of(items),
            ids_of(held),
            ids_of(list(map(type, held))),
            array("q", counts.values()).tobytes(),
            array("q", itertools.chain.from_iterable(sizes)).tobytes(),
        )
        text = array("q", map(len, parts)).tobytes() + b"".join(parts)
        os.ftruncate(self._file, 0)
        while text:
            text = text[os.pwrite(self._file, text, os.fstat(self._file).st_size) :]
        return ReferencesAnswer()

    def _compare(self, items: list[Any], counts: dict[int, int], new: set[int]) -> ReferencesAnswer:
        """``new``: what may be where another object was at the mark."""
        mark = _Mark(self._file)
        rows = _changes(mark, list(map(items.__getitem__, counts)), list(counts.values()))
        there = set(mark.ids).difference(_on_the_stack(), new) if rows else set()
        rows = [(item, more) for item, more in rows if id(item) in there]
        kept = sorted((row for row in rows if row[1] > 0 and _deallocates_itself(row[0])), key=lambda row: -row[1])
        kept = [row for at, row in enumerate(kept) if at >= MOST_PROBED or _is_kept_by_its_instances(row[0])]
        types = [UnownedReferences(id(item), f"the type {type_name(item)}", more) for item, more in kept]
        types += [
            UnownedReferences(id(item), f"{item!r} of NumPy", more)
            for item, more in rows
            if more > 0 and _is_builtin_dtype(item)
        ]
        noted = {row.address for row in types}
        rows = [(item, more) for item, more in rows if id(item) not in noted]
        uses = _uses_as_key([item for item, more in rows if more > 0 and type(item) is str], items, mark)
        found = [
            UnownedReferences(id(item), type_name(type(item)), more - uses.get(id(item), 0))
            for item, more in rows
            if more < 0 or more > uses.get(id(item), 0)
        ]
        found.sort(key=lambda row: -abs(row.more))
        return ReferencesAnswer(
            sum(row.more for row in found if row.more > 0),
            -sum(row.more for row in found if row.more < 0),
            tuple(found[:MOST_ROWS]),
            tuple(types[:MOST_ROWS]),
        )


def _changes(mark: _Mark, held: list[Any], counts: list[int]) -> list[tuple[Any, int]]:
    """Of which of these objects, with so many references that no object holds, there are more than at the mark, or more
    that were given away (negative). In a function of its own: what a variable of the caller's holds is left out."""
    before = mark.unowned(held)
    rows = []
    for item, count, was in itertools.compress(zip(held, counts, before, strict=True), list(map(ne, counts, before))):
        raised = max(0, count) - max(0, was)
        given = max(0, -count) - max(0, -was)
        if raised > 0 or given > 0:
            rows.append((item, raised if raised > 0 else -given))
    return rows


def _is_kept_by_its_instances(kind: type) -> bool:
    """Whether an instance that dies keeps its reference to its type, tried with one in a copy of this copy; True where
    the copy does not survive that: an instance of nothing but zeros is more than some deallocators bear."""
    try:
        return answer_of_copy(bool, lambda: _one_dies(kind), PROBE_SECONDS)
    except CopyFailed:
        return True


def _one_dies(kind: type) -> bool:
    """Whether the type has more references afterwards. Whatever the deallocator does hits this process alone."""
    import faulthandler
    import resource

    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    slot, drop = ctypes.pythonapi.PyType_GetSlot, ctypes.pythonapi.Py_DecRef
    slot.argtypes, slot.restype = [ctypes.py_object, ctypes.c_int], ctypes.c_void_p
    drop.argtypes, drop.restype = [ctypes.c_void_p], None
    allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_ssize_t)(slot(kind, TP_ALLOC) or 0)
    before = sys.getrefcount(kind)
    drop(allocate(kind, 0))
    return sys.getrefcount(kind) > before


class _Usual:
    """Has the deallocator that the interpreter gives to classes."""


class _Mark:
    """What was written at the mark: the addresses of all objects, the counts that are not 0, the sizes of dicts."""

    def __init__(self, file: int) -> None:
        words = array("q", os.pread(file, os.fstat(file).st_size, 0))
        parts, start = [], 5
        for size in words[:5]:
            parts.append(words[start : start + size // 8])
            start += size // 8
        self.ids, held, kinds, counts, sizes = parts
        self._held = dict(zip(zip(held, kinds, strict=True), counts, strict=True))
        self.dict_sizes = dict(zip(sizes[0::2], sizes[1::2], strict=True))

    def unowned(self, items: list[Any]) -> list[int]:
        """The count of each object that was there, which was of the same type; else 0."""
        there = zip(map(id, items), map(id, map(type, items)), strict=True)
        return list(map(self._held.get, there, itertools.repeat(0)))


def _nameless_file() -> int:
    """A descriptor that this process and its copies share, and nothing else can open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("leakharness")
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix="leakharness-")
    os.unlink(path)
    return descriptor


def _unowned() -> tuple[list[Any], dict[int, int]]:
    """Every object that the collector lists and what these refer to; and of those where it is not 0, by position,
    how many references none of them holds. For a forked copy only: it thaws the heap, and touches every count."""
    gc.disable()
    CLEAR_TYPE_CACHE()
    gc.unfreeze()
    items = gc.get_objects()
    referents = _walk(items)
    shown = list(map(sys.getrefcount, items))
    # These lists held a reference for every reference that the heap shows: without them, an object's count falls by
    # exactly so many, and no table of edges is needed.
    del referents
    counts = list(map(sys.getrefcount, items))
    alone = next(map(sys.getrefcount, [object()]))
    counts = list(map(sub, map(add, counts, counts), shown))
    held = list(itertools.compress(range(len(items)), map(ne, counts, itertools.repeat(alone))))
    # No comprehension with a variable of this function: its cell would be among the items, and held by this frame,
    # which shows it to nobody.
    return items, dict(zip(held, map(sub, map(counts.__getitem__, held), itertools.repeat(alone)), strict=True))


def _walk(items: list[Any]) -> list[list[Any]]:
    """The referents of all that is known, level by level; what is met for the first time is added to ``items``."""
    known = set(SINGLETONS)
    code_like = list(map(CODE_LIKE.__contains__, map(id, map(type, items))))
    plain = list(itertools.compress(items, map(not_, code_like)))
    referents = [gc.get_referents(*itertools.compress(items, code_like))]
    array_type = _numpy_array()
    while plain:
        found = gc.get_referents(*plain)
        if array_type is not None:
            found += _held_by_arrays(plain, array_type)
        referents.append(found)
        untracked = list(itertools.filterfalse(gc.is_tracked, found))  # the others are listed
        met = dict(zip(map(id, untracked), untracked, strict=True))
        new = met.keys() - known
        plain = list(map(met.__getitem__, new))
        known |= new
        items += plain
    return referents


def _of_numpy(name: str) -> Any:
    """What NumPy has by that name, where the program has imported it."""
    return vars(sys.modules.get("numpy", sys)).get(name)


def _numpy_array() -> type | None:
    """The type of NumPy's arrays, where the program has imported it."""
    kind = _of_numpy("ndarray")
    return kind if type(kind) is type and not type_flags(kind) & HEAP_TYPE else None


def _is_builtin_dtype(item: Any) -> bool:
    """Whether ``item`` is one of NumPy's own dtypes, which are there once and for ever: ``numpy.empty`` of NumPy 2
    loses a reference to that of its default type in each call (multiarraymodule.c, array_empty)."""
    dtype = _of_numpy("dtype")
    if not isinstance(dtype, type) or dtype not in type_mro(type(item)) or "isbuiltin" not in type_dict(dtype):
        return False
    builtin: int = type_dict(dtype)["isbuiltin"].__get__(item)
    return builtin == 1


def _held_by_arrays(items: list[Any], kind: type) -> list[Any]:
    """What the arrays among ``items`` refer to, of which the collector is told nothing: the array that each is a view
    of, its dtype, and its items where they are objects."""
    kinds = {found for found in set(map(type, items)) if kind in type_mro(found)}
    arrays = [item for item in items if type(item) in kinds] if kinds else []
    base, dtype, shape = (type_dict(kind)[name].__get__ for name in ("base", "dtype", "shape"))
    held = [*map(base, arrays), *map(dtype, arrays)]
    for array_ in arrays:
        if type_name(type(dtype(array_))) in OBJECT_DTYPES:
            found = [type_dict(kind)["tolist"](array_)]  # of the base class: calls nothing of the program
            for _ in shape(array_):
                found = list(itertools.chain.from_iterable(found))
            held += found
    return held


def _deallocates_itself(item: Any) -> bool:
    """Whether ``item`` is a type of an extension that has a deallocator of its own, which must then give back each
    instance's reference to the type. Many do not since types are made at run time (3.8, bpo-35810), and nothing is
    lost by it: such a type lives as long as its module."""
    if not type_flags(type(item)) & TYPE_SUBCLASS or not type_flags(item) & HEAP_TYPE:
        return False
    usual = _deallocator(_Usual)
    # The usual one leaves it to that of the base where the base was made at run time, too (Objects/typeobject.c,
    # subtype_dealloc).
    base = next((base for base in type_mro(item) if _deallocator(base) != usual), None)
    return base is not None and bool(type_flags(base) & HEAP_TYPE)


def _deallocator(kind: type) -> int | None:
    return ctypes.c_void_p.from_address(id(kind) + DEALLOC_OFFSET).value


def _on_the_stack() -> set[int]:
    """The addresses of what the harness's own frames hold: made anew for every question, where something else was."""
    held: set[int] = set()
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        held.update(map(id, frame.f_locals.values()))
        frame = frame.f_back
    return held


def _uses_as_key(texts: list[str], items: Iterable[Any], mark: _Mark) -> dict[int, int]:
    """How often each of these strings, by its address, is a key of a dict that is new or has grown since the mark: of
    those the collector is not told where all keys are strings."""
    uses = dict.fromkeys(map(id, texts), 0)
    if uses:
        for item in items:
            if type(item) is dict and len(item) > mark.dict_sizes.get(id(item), 0):
                for key in item:
                    if id(key) in uses:
                        uses[id(key)] += 1
    return uses
