"""Names for the references of the types that need their own way: dicts, functions, frames, futures, caches, ...

No code of the program runs: everything is read through descriptors that C defines, from a block of objects of one type
at a time.
"""

from __future__ import annotations

import importlib
import itertools
import sys
import types
import weakref
from array import array
from collections.abc import Callable
from operator import is_not
from typing import Any

from leakharness.worker.capture.columns import ADDED, HIDDEN, Columns
from leakharness.worker.capture.type_plans import (
    CONTEXT,
    FAMILIES,
    INTERNAL,
    PROPERTY,
    TYPE_SUBCLASS,
    WEAK,
    Plan,
    type_dict,
    type_flags,
    type_mro,
)
from leakharness.worker.unpatched import gc

__all__ = ["CO_OPTIMIZED", "READS_LOCALS_CLEANLY", "Block", "EdgeNames"]

READS_LOCALS_CLEANLY = sys.version_info >= (3, 13)
"""From 3.13 on ``f_locals`` is a view; before, reading it leaves references in the frame (PEP 667)."""
LOCALS_IN_FRAME_OBJECT = sys.version_info < (3, 11)
"""On 3.10 a generator refers to a frame object that has its locals; later on, to the locals themselves."""
CO_OPTIMIZED = 1
"""Code flag (Include/cpython/code.h): locals live in the frame; only then is ``f_locals`` a dict of ours to
read."""
CO_VARARGS, CO_VARKEYWORDS = 4, 8
"""Code flags: there is a variable for ``*``, for ``**``."""
_GENERATOR_PARTS: dict[type, tuple[Callable[[Any], Any], ...]] = {
    kind: tuple(type_dict(kind)[prefix + part].__get__ for part in ("_code", "_frame", awaited))
    for kind, prefix, awaited in (
        (types.GeneratorType, "gi", "_yieldfrom"),
        (types.CoroutineType, "cr", "_await"),
        (types.AsyncGeneratorType, "ag", "_await"),
    )
}
_module_dict: Callable[[Any], dict[str, Any]] = type_dict(types.ModuleType)["__dict__"].__get__


class Block:
    """Objects of one type with consecutive node numbers."""

    __slots__ = ("first", "members", "plan")

    def __init__(self, first: int, members: list[Any], plan: Plan) -> None:
        self.first = first
        self.members = members
        self.plan = plan


class EdgeNames:
    """Gives names to the references of walked blocks. ``gentle`` reads nothing that would change an object."""

    def __init__(self, columns: Columns, *, gentle: bool) -> None:
        self._columns = columns
        self._gentle = gentle
        self.codes: dict[int, types.CodeType] = {}
        """The code objects met, by id."""
        partial = getattr(sys.modules.get("functools"), "partial", None)
        self._partial = partial if isinstance(partial, type) else None
        self._special: dict[str, Callable[[Block], None]] = {
            "dict": self._dicts,
            "function": self._functions,
            "module": self._modules,
            "frame": self._frames,
            "generator": self._generators,
            "weakref": self._weakrefs,
            "future": self._futures,
            "lru_cache": self._lru_caches,
            "hamt": self._context_variables,
            "contextvar": self._contextvars,
        }

    def of(self, block: Block) -> None:
        """Name what the objects of ``block`` refer to. Dicts come last: which of them are namespaces is known only when
        all others have been named."""
        plan = block.plan
        family = FAMILIES[plan.family]
        if family == "code":
            self.codes.update(zip(map(id, block.members), block.members, strict=True))
        if any(base is self._partial for base in type_mro(type(block.members[0]))):
            self._namespaces(self._partial, "keywords", block.members)
        if family in self._special:
            self._special[family](block)
        if plan.attributes is not None:
            self._attributes(block, plan.attributes)
        if family != "code":
            for name, kind, getter in plan.columns:
                self._columns.column(block.first, name, kind, _read(getter, block.members))

    def _dicts(self, block: Block) -> None:
        self._columns.dicts(block.first, block.members, PROPERTY)

    def _attributes(self, block: Block, getter: Callable[[Any], Any]) -> None:
        found = _read(getter, block.members)
        self._columns.column(block.first, "__dict__", INTERNAL, found)
        self._columns.namespaces.update(map(id, found))
        empty: dict[str, Any] = {}
        self._columns.attributes(block.first, [item if type(item) is dict else empty for item in found], PROPERTY)

    def _namespaces(self, kind: type | None, name: str, members: list[Any]) -> None:
        """The member ``name`` of ``kind``, which C defines, is a namespace."""
        getter = type_dict(kind)[name].__get__ if kind is not None else id
        self._columns.namespaces.update(map(id, _read(getter, members)))

    def _functions(self, block: Block) -> None:
        members = block.members
        for name in ("__globals__", "__kwdefaults__", *([] if self._gentle else ["__dict__"])):
            self._namespaces(types.FunctionType, name, members)
        self._columns.text_column(
            block.first, "__qualname__", _read(types.FunctionType.__dict__["__qualname__"].__get__, members)
        )
        if not self._gentle:
            self._columns.column(
                block.first, "__dict__", PROPERTY, _read(types.FunctionType.__dict__["__dict__"].__get__, members)
            )
        closures = list(map(types.FunctionType.__dict__["__closure__"].__get__, members))
        picked = list(map(is_not, closures, itertools.repeat(None)))
        codes = map(types.FunctionType.__dict__["__code__"].__get__, itertools.compress(members, picked))
        cells = list(itertools.compress(closures, picked))
        names = list(map(types.CodeType.__dict__["co_freevars"].__get__, codes))
        sources = array("q", itertools.compress(range(block.first, block.first + len(members)), picked))
        self._columns.keyed(
            sources,
            list(map(len, cells)),
            list(itertools.chain.from_iterable(names)),
            list(itertools.chain.from_iterable(cells)),
            CONTEXT | ADDED,
        )

    def _modules(self, block: Block) -> None:
        spaces = _read(_module_dict, block.members)
        self._columns.namespaces.update(map(id, spaces))
        names = [dict.get(space, "__name__") if type(space) is dict else None for space in spaces]
        self._columns.text_column(block.first, "__name__", names)

    def _frames(self, block: Block) -> None:
        for source, frame in enumerate(block.members, block.first):
            code = frame.f_code
            self.codes[id(code)] = code
            self._columns.namespaces.update((id(frame.f_globals), id(frame.f_builtins)))
            self._columns.line(source, code, frame.f_lineno)
            self._columns.edge(source, code, "f_code", INTERNAL)
            self._columns.edge(source, frame.f_globals, "f_globals", INTERNAL)
            self._columns.edge(source, frame.f_builtins, "f_builtins", INTERNAL)
            referents = gc.get_referents(frame)
            self._columns.edge(source, frame.f_back, "f_back", PROPERTY)
            if not self._gentle or READS_LOCALS_CLEANLY:
                self._variables(source, frame, referents)

    def _generators(self, block: Block) -> None:
        parts = _GENERATOR_PARTS[type(block.members[0])]
        for source, generator in enumerate(block.members, block.first):
            code, frame, awaited = (part(generator) for part in parts)
            self.codes[id(code)] = code
            self._columns.edge(source, code, "gi_code", INTERNAL)
            self._columns.edge(source, awaited, "awaiting", PROPERTY)
            self._columns.line(source, code, code.co_firstlineno if frame is None else frame.f_lineno)
            if frame is not None and (not self._gentle or READS_LOCALS_CLEANLY):
                referents = gc.get_referents(generator)
                if LOCALS_IN_FRAME_OBJECT:
                    self._columns.edge(source, frame, "gi_frame", INTERNAL)
                    self._variables(source, frame, gc.get_referents(frame), ADDED)
                else:
                    self._variables(source, frame, referents)

    def _variables(self, source: int, frame: types.FrameType, referents: list[Any], flag: int = 0) -> None:
        """Name the locals among ``referents``; a variable that inner functions share is in a cell."""
        if not frame.f_code.co_flags & CO_OPTIMIZED:
            self._columns.edge(source, frame.f_globals, "f_locals", INTERNAL)
            return
        cells = [item for item in referents if type(item) is types.CellType]
        contents = {id(inner): cell for cell in cells for inner in gc.get_referents(cell)}
        direct = set(map(id, referents))
        keywords = _keywords_variable(frame.f_code)
        for name, value in frame.f_locals.items():
            if name == keywords:
                self._columns.namespaces.add(id(value))
            if id(value) in direct:
                self._columns.edge(source, value, name, CONTEXT | flag)
            elif id(value) in contents:
                self._columns.edge(source, contents[id(value)], name, CONTEXT | flag)

    def _weakrefs(self, block: Block) -> None:
        targets = list(map(weakref.ReferenceType.__call__, block.members))
        self._columns.column(block.first, "<referent>", WEAK | ADDED, targets)

    def _futures(self, block: Block) -> None:
        for getter in (g for g in (_callback_getter(base) for base in type_mro(type(block.members[0]))) if g):
            for source, callbacks in enumerate(_read(getter, block.members), block.first):
                for callback in callbacks if type(callbacks) is list else ():
                    function, context = callback if type(callback) is tuple and len(callback) == 2 else (callback, None)
                    self._columns.edge(source, function, "_callbacks", PROPERTY)
                    self._columns.edge(source, context, "_callbacks context", INTERNAL)
            break
        for source, future in enumerate(block.members, block.first):
            for item in gc.get_referents(future):
                if type(item) is list and item and type(item[0]) is tuple:  # all callbacks but the first
                    self._columns.edge(source, item, "_callbacks", PROPERTY)

    def _lru_caches(self, block: Block) -> None:
        """The entries come first (key, result, key, ...), then the cache's dict, then its parts."""
        spaces = _read(block.plan.attributes, block.members) if block.plan.attributes else []
        own = set(map(id, spaces))
        for source, cached in enumerate(block.members, block.first):
            referents = gc.get_referents(cached)
            tables = [i for i, item in enumerate(referents) if type(item) is dict and id(item) not in own]
            if not tables:
                continue
            table = referents[tables[-1]]
            self._columns.edge(source, table, "<cache>", INTERNAL)
            keys = set(map(id, dict.keys(table)))
            for item in referents[: tables[-1]]:
                if not type_flags(type(item)) & TYPE_SUBCLASS:
                    name = "<cached key>" if id(item) in keys else "<cached result>"
                    self._columns.edge(source, item, name, PROPERTY)

    def _context_variables(self, block: Block) -> None:
        # Builtin, and not imported in a process whose C code alone has set a variable (decimal, warnings on 3.14).
        variable = importlib.import_module("_contextvars").ContextVar
        name_of = variable.__dict__["name"].__get__
        for source, node in enumerate(block.members, block.first):
            referents = gc.get_referents(node)
            for value, key in itertools.pairwise(referents):
                if type(key) is variable and type(value) is not variable:
                    name = name_of(key)
                    self._columns.edge(source, value, name if type(name) is str else HIDDEN, CONTEXT)

    def _contextvars(self, block: Block) -> None:
        for source, variable in enumerate(block.members, block.first):
            for value in gc.get_referents(variable):
                if type(value) is not str:
                    self._columns.edge(source, value, "default", PROPERTY)


def _keywords_variable(code: types.CodeType) -> str | None:
    """The name of the variable that ``**`` fills."""
    if not code.co_flags & CO_VARKEYWORDS:
        return None
    place = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & CO_VARARGS)
    return code.co_varnames[place]


def _read(getter: Callable[[Any], Any], members: list[Any]) -> list[Any]:
    """``getter`` of every member, None where the attribute is not set."""
    try:
        return list(map(getter, members))
    except (AttributeError, TypeError, ValueError):
        return [_read_one(getter, member) for member in members]


def _read_one(getter: Callable[[Any], Any], member: Any) -> Any:
    try:
        return getter(member)
    except (AttributeError, TypeError, ValueError):
        return None


def _callback_getter(base: type) -> Callable[[Any], Any] | None:
    found = type_dict(base).get("_callbacks")
    return found.__get__ if type(found) is types.GetSetDescriptorType else None
