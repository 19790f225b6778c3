"""Causal confirmation: cut the edge that is said to hold the objects, in a forked copy, and see what dies.

The measured process is never changed. In the child the holders are looked up again among what refers to the
targets, the named reference is removed from each, the collector runs, and the targets' weak references are
counted. Code of the program may run in the copy (finalizers, ``close()`` of a suspended coroutine), with its
output closed.
"""

from __future__ import annotations

import re
import sys
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from leakharness.worker.capture.columns import HIDDEN
from leakharness.worker.capture.type_plans import (
    HEAP_TYPE,
    TYPE_SUBCLASS,
    takes_weak_references,
    type_dict,
    type_flags,
    type_mro,
    type_name,
)
from leakharness.worker.fork import CAN_FORK, CopyFailed, answer_of_copy
from leakharness.worker.protocol import CutAnswer, WithoutKnown
from leakharness.worker.unpatched import gc, os, signal, time

__all__ = ["confirm", "read_without"]

MAX_DEPTH = 12
"""Steps from a target back along references until a holder must have been met."""
MAX_BEHIND = 200_000
"""Objects met on the way back; beyond that the search has left the leak and is in the program at large."""
FEW = 20
"""Objects up to which the collector's own search for referrers is the faster one."""
CUT_ROUNDS = 3
"""Collections after the cut: an object freed in one may release what only the next one finds."""
COPY_SECONDS = 60.0
"""How long a copy may take to be rid of the known leaks and be counted; it is killed then."""
IN_USE = re.compile(rb"# bytes in allocated blocks\s*=\s*([\d,]+)")
PIPE_BYTES = 1 << 20
ERROR_KEPT = 300
"""Characters of an exception's text that the answer repeats."""


def confirm(
    targets: Callable[[], Iterable[Any]],
    holders: Sequence[dict[str, str]],
    timeout: float = 30.0,
) -> CutAnswer:
    """Cut the described references in a forked copy and count which targets that frees.

    ``targets()`` yields the retained tracked objects, or (object, label) pairs of them. Each of ``holders``
    describes references to cut, as the keys of a retainer path's edge:

    - ``kind``: ``context`` (a closure cell or a local of a suspended frame), ``element`` (a position in a
      list, deque or set) or ``property`` (an attribute, a dict key, a callback, ``__traceback__``);
    - ``name``: the variable, attribute or key as the graph has it; ignored for ``element``;
    - ``holder``: the node that the reference goes out from, as the graph names it: a type
      (``_asyncio.Future``), ``function on_done (jobs.py:88)``, ``coroutine run (jobs.py:12)`` (the place in
      brackets is not compared).

    Only references that lead to a target are cut: a dict ``registry`` elsewhere stays as it is.

    All of them are cut, as objects may be held more than once; ``timeout`` is in seconds.

    Its sentence says it in words: "cutting it freed 250 of 250". Where that is not possible, ``error`` says why.
    """
    started = time.monotonic()
    if not CAN_FORK:
        return _answer(0, 0, 0, started, "this platform cannot fork, and the measured process is never changed")

    def cut() -> CutAnswer:
        become_quiet()
        try:
            return _cut_and_count(targets, holders, started)
        except BaseException as error:
            return _answer(0, 0, 0, started, f"{type(error).__name__}: {error}"[:ERROR_KEPT])

    try:
        return answer_of_copy(CutAnswer, cut, timeout)
    except CopyFailed as error:
        return _answer(0, 0, 0, started, str(error))


def _answer(
    total: int,
    freed: int,
    cut: int,
    started: float,
    error: str | None,
    uncut: Iterable[str] = (),
) -> CutAnswer:
    sentence = f"cutting it freed {freed} of {total}" if error is None else f"not confirmed: {error}"
    if error is None and not cut:
        nothing = "nothing tracked is retained, and only tracked objects can be counted: use run.track()"
        missing = f"the reference was not found in the copy ({'; '.join(uncut)})" if uncut else nothing
        sentence = f"not confirmed: {missing}"
    return CutAnswer(total, freed, cut, tuple(uncut), time.monotonic() - started, error, sentence)


def become_quiet() -> None:
    """The copy may run finalizers of the program: their output and signals must not reach anybody."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cut_and_count(
    targets: Callable[[], Iterable[Any]], holders: Sequence[dict[str, str]], started: float
) -> CutAnswer:
    gc.disable()
    gc.unfreeze()
    watched, done, uncut = _cut_all(targets, [_Edge(row) for row in holders])
    for _ in range(CUT_ROUNDS):
        gc.collect()
    freed, total = sum(reference() is None for reference in watched), len(watched)
    return _answer(total, freed, done, started, None, sorted(uncut))


def read_without(
    targets: Callable[[], Iterable[Any]],
    holders: Sequence[dict[str, str]],
    count: Callable[[], dict[str, int]],
    alive: Callable[[], int],
    timeout: float = COPY_SECONDS,
) -> WithoutKnown:
    """The counters of a forked copy in which the targets, and all that hangs on them, are gone: ``holders`` are cut
    as by :func:`confirm`, and what still stands in a plain container is taken out of it.

    Counted, not estimated: what is left in the copy is what the program would hold without these leaks.
    """
    if not CAN_FORK:
        return WithoutKnown({}, 0, error="this platform cannot fork, and the measured process is never changed")

    def cut() -> WithoutKnown:
        become_quiet()
        try:
            return _read_cut(targets, [_Edge(row) for row in holders], count, alive)
        except BaseException as error:
            return WithoutKnown({}, 0, error=f"{type(error).__name__}: {error}"[:ERROR_KEPT])

    try:
        return answer_of_copy(WithoutKnown, cut, timeout)
    except CopyFailed as error:
        return WithoutKnown({}, 0, error=str(error))


def _read_cut(
    targets: Callable[[], Iterable[Any]],
    edges: list[_Edge],
    count: Callable[[], dict[str, int]],
    alive: Callable[[], int],
) -> WithoutKnown:
    gc.disable()
    gc.unfreeze()
    _rehearse()
    for _ in range(CUT_ROUNDS):
        gc.collect()
    small, malloc = small_bytes_in_use(), count().get("malloc_bytes", 0)
    watched, _, _ = _cut_all(targets, edges)
    for _ in range(CUT_ROUNDS):
        gc.collect()
    _take_out(watched)
    watched.clear()
    gc.collect()
    counters = count()
    return WithoutKnown(counters, alive(), small - small_bytes_in_use(), malloc - counters.get("malloc_bytes", 0))


def small_bytes_in_use() -> int:
    """Bytes of allocated blocks of the small-object allocator, as ``sys._debugmallocstats`` prints them (obmalloc.c);
    0 where it has none. For a forked copy: it writes to descriptor 2."""
    if not hasattr(sys, "_debugmallocstats"):
        return 0
    receive, send = os.pipe()
    try:
        os.set_blocking(receive, False)
        os.set_blocking(send, False)  # more than the pipe takes is not wanted
        os.dup2(send, 2)
        sys._debugmallocstats()
        text = os.read(receive, PIPE_BYTES)
    except BlockingIOError:
        return 0
    finally:
        os.close(receive)
        os.close(send)
    found = IN_USE.search(text)
    return int(found[1].replace(b",", b"")) if found else 0


class _Dummy:
    __slots__ = ("__weakref__",)


def _rehearse() -> None:
    """Cut something of no interest: on 3.10 each function keeps a frame of its first call, which must not count."""
    holder = [_Dummy()]
    watched, _, _ = _cut_all(holder.copy, [_Edge({"kind": "element", "holder": "list"})])
    _take_out(watched)


def _take_out(watched: list[Any]) -> None:
    """Take what is still alive out of every plain container that holds it."""
    alive = {id(item): item for item in (reference() for reference in watched) if item is not None}
    if not alive:
        return
    for holder in _referrers(list(alive.values())):
        if holder is alive:
            continue
        if type(holder) is dict:
            _delete(holder, [key for key, value in dict.items(holder) if id(value) in alive or id(key) in alive])
        elif type(holder) in (list, deque, set):
            _cut_elements(holder, alive)


def _cut_all(targets: Callable[[], Iterable[Any]], edges: list[_Edge]) -> tuple[list[Any], int, set[str]]:
    """Cut what there is to cut. Whatever this looks at is let go on return, or it would hold the targets
    itself."""
    program = set(map(id, gc.get_objects()))  # all that is made from here on is ours
    alive = [item[0] if type(item) is tuple and len(item) == 2 else item for item in targets()]
    watched = [weakref.ref(item) for item in alive if takes_weak_references(type(item))]
    behind = {id(item): item for item in alive}
    front, done, uncut = alive, 0, set()
    waiting = list(edges)
    for _ in range(MAX_DEPTH):
        for edge in waiting[:]:
            count, reasons = edge.cut_in(front, behind)
            done += count
            uncut |= reasons
            if count or reasons:
                waiting.remove(edge)
        if not waiting or not front or len(behind) > MAX_BEHIND:
            break
        front = [item for item in _referrers(front) if id(item) in program and id(item) not in behind]
        front = [item for item in front if type(item) is not types.ModuleType]
        behind.update(zip(map(id, front), front, strict=True))
    uncut |= {f"{edge}: nothing of the kind leads to a target" for edge in waiting}
    return watched, done, uncut


def _referrers(items: list[Any]) -> list[Any]:
    """What refers to any of ``items``. ``gc.get_referrers`` compares each reference with each of them in turn.

    Modules are not asked: that puts what ``_asyncio`` has on its free list there once more (3.12, ``fi_freelist``), and
    the next collection would go round in it for ever.
    """
    if len(items) <= FEW:
        return gc.get_referrers(*items)
    wanted = set(map(id, items))
    return [
        item
        for item in gc.get_objects()
        if type(item) is not types.ModuleType and not wanted.isdisjoint(map(id, gc.get_referents(item)))
    ]


class _Edge:
    """One row of ``holders``."""

    __slots__ = ("kind", "name", "role", "where")

    def __init__(self, row: dict[str, str]) -> None:
        self.kind = row["kind"]
        self.name = row.get("name", "")
        self.role, _, self.where = row["holder"].partition(" (")[0].rpartition(" ")

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {f'{self.role} {self.where}'.strip()}"

    def cut_in(self, candidates: list[Any], behind: dict[int, Any]) -> tuple[int, set[str]]:
        """Cut this reference from those of ``candidates`` that have it. Returns how many, and why not
        others."""
        done, reasons = 0, set()
        for holder in candidates:
            if self.fits(holder):
                try:
                    done += _cut(holder, self, behind)
                except _CannotCut as error:
                    reasons.add(f"{self}: {error}")
                except Exception as error:  # code of the program may run here, in the copy
                    reasons.add(f"{self}: {type(error).__name__}")
        return done, reasons

    def fits(self, holder: Any) -> bool:
        """Whether ``holder`` is what the row describes. Looks at types and code objects only."""
        kind = type(holder)
        if self.role == "":
            return type_name(kind) == self.where
        if self.role == "type":
            return type_flags(kind) & TYPE_SUBCLASS != 0 and type_name(holder) == self.where
        return type_name(kind) == self.role and _name_of_code(holder) == self.where


class _CannotCut(Exception):
    pass


def _name_of_code(holder: Any) -> str | None:
    if type(holder) is types.FunctionType:
        return _unnested(holder.__qualname__)
    for attribute in ("gi_code", "cr_code", "ag_code", "f_code"):
        getter = type_dict(type(holder)).get(attribute)
        if getter is not None:
            code = getter.__get__(holder)
            return _unnested(getattr(code, "co_qualname", code.co_name))
    return None


def _unnested(name: str) -> str:
    return name.rpartition("<locals>.")[2]


def _cut(holder: Any, edge: _Edge, behind: dict[int, Any]) -> int:
    """Remove the references of ``edge`` from ``holder`` that lead to something in ``behind``. Returns how
    many."""
    kind = type(holder)
    if edge.kind == "context":
        return _cut_variable(holder, edge.name, behind)
    if edge.kind == "element":
        return _cut_elements(holder, behind)
    if kind is types.CellType:
        return _clear_cell(holder, behind)
    if kind is types.FunctionType and edge.name in ("__defaults__", "__kwdefaults__"):
        setattr(holder, edge.name, None)
        return 1
    if type_flags(kind) & TYPE_SUBCLASS:
        return _cut_from_dict(type_dict(holder), edge.name, behind)
    if issubclass(kind, dict):
        return _cut_from_dict(holder, edge.name, behind)
    if edge.name == "_callbacks":
        return _cut_callbacks(holder, behind)
    if edge.name.startswith("<cache"):
        holder.cache_clear()
        return 1
    if kind.__name__ == "partial" and edge.name in ("func", "args", "keywords"):
        holder.__setstate__((len, (), {}, None))
        return 1
    return _cut_attribute(holder, edge.name, behind)


def _cut_variable(holder: Any, name: str, behind: dict[int, Any]) -> int:
    kind = type(holder)
    if kind is types.FunctionType:
        names = holder.__code__.co_freevars
        if name not in names or not holder.__closure__:
            return 0
        return _clear_cell(holder.__closure__[names.index(name)], behind)
    if kind is types.FrameType:
        holder.clear()
        return 1
    if kind in (types.GeneratorType, types.CoroutineType):
        holder.close()
        return 1
    if kind is types.AsyncGeneratorType:
        try:
            holder.aclose().send(None)
        except StopIteration:
            pass
        return 1
    raise _CannotCut(f"a variable in a {type_name(kind)} cannot be cut alone")


def _clear_cell(cell: Any, behind: dict[int, Any]) -> int:
    if not any(id(item) in behind for item in gc.get_referents(cell)):
        return 0
    del cell.cell_contents
    return 1


def _cut_elements(holder: Any, behind: dict[int, Any]) -> int:
    kind = type(holder)
    base: Any = next((base for base in (list, deque, set) if issubclass(kind, base)), None)
    if base is None:
        raise _CannotCut(f"a {type_name(kind)} cannot be changed; cut what holds it")
    items = list(base.__iter__(holder))
    kept = [item for item in items if id(item) not in behind]
    base.clear(holder)
    (base.update if base is set else base.extend)(holder, kept)
    return len(items) - len(kept)


def _cut_from_dict(holder: dict[Any, Any], name: str, behind: dict[int, Any]) -> int:
    """By key, or for a key that was not written (``<int>``, ``[*]`` for a string) and an object that is the key
    (``<key>``) by what it leads to."""
    if not name.startswith("<") and name != HIDDEN:
        value = dict.get(holder, name)
        if value is None or id(value) not in behind:
            return 0
        return _delete(holder, [name])
    doomed = [
        key
        for key, value in dict.items(holder)
        if (id(key) in behind if name == "<key>" else id(value) in behind and _hidden_name(key) == name)
    ]
    return _delete(holder, doomed)


def _hidden_name(key: Any) -> str:
    return HIDDEN if type(key) is str else f"<{type(key).__name__}>"


def _delete(holder: dict[Any, Any], keys: list[Any]) -> int:
    """Delete entries, and give back the table that they had. A class's dict must be changed through the class, which
    remembers what it has looked up."""
    if not keys:
        return 0
    owner = next((item for item in gc.get_referrers(holder) if type_flags(type(item)) & TYPE_SUBCLASS), None)
    owned = owner is not None and type_dict(owner) is holder
    base: Any = OrderedDict if issubclass(type(holder), OrderedDict) else dict
    for key in keys:
        type.__delattr__(owner, key) if owned else base.__delitem__(holder, key)
    if type(holder) is dict and len(keys) > 1 and not owned:
        left = dict(holder)
        holder.clear()
        holder.update(left)
    return len(keys)


def _cut_callbacks(holder: Any, behind: dict[int, Any]) -> int:
    callbacks = [item[0] for item in holder._callbacks or () if id(item[0]) in behind]
    return sum(holder.remove_done_callback(callback) for callback in callbacks)


def _cut_attribute(holder: Any, name: str, behind: dict[int, Any]) -> int:
    for base in type_mro(type(holder)):
        member = type_dict(base).get(name)
        if type(member) is types.GetSetDescriptorType or (
            type(member) is types.MemberDescriptorType and not type_flags(base) & HEAP_TYPE
        ):
            member.__set__(holder, None)  # __traceback__, __context__, tb_next: None is their empty value
            return 1
        if type(member) is types.MemberDescriptorType:
            member.__delete__(holder)
            return 1
    space = object.__getattribute__(holder, "__dict__")
    return _cut_from_dict(space, name, behind) if type(space) is dict else 0
