"""Walks every object of the process and writes nodes, sizes, references and names as raw columns.

Standard library only, and only C functions per object where there may be a million of them. The two tricks:
``gc.get_referents(a, S, b, S, ...)`` gives the referents of 30,000 objects in one call, where ``S`` is a list
that holds nothing but a marker, so the markers in the answer are the boundaries; and the ids of all items of
a list are its own pointer buffer, copied out by ctypes.

Objects are written in blocks of one type, so that names can be read for a whole block at a time. Names do not
depend on the order in which a type visits its references: they are written as (source, target, name) and
matched with the raw references by the reader.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import sys
import types
import weakref
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from operator import is_, is_not, not_
from typing import Any

from leakharness.worker.capture.file import CaptureFile
from leakharness.worker.capture.names import (
    CONTEXT,
    FAMILIES,
    HAVE_GC,
    INTERNAL,
    PROPERTY,
    READY,
    TYPE_SUBCLASS,
    WEAK,
    Plan,
    PlanBook,
    type_basicsize,
    type_dict,
    type_flags,
    type_mro,
    type_name,
)

__all__ = ["ADDED", "CO_OPTIMIZED", "READS_LOCALS_CLEANLY", "TEXT", "Walk", "ids_of"]

CHUNK = 3_000
"""Objects per call of ``gc.get_referents``: enough to hide the call, and so few that what they refer to is still
in the processor's cache when it is looked at again (.53 s for a million objects, .57 s with 30,000 a call)."""
ADDED = 1 << 8
"""Flag beside an edge kind: the collector does not report this reference, so the reader adds it."""
TEXT = 1 << 9
"""Flag beside an edge kind: no edge, but a text that belongs to the node (a function's name, a code's
file)."""
KEY_LIMIT = 100
"""Longer string keys are data rather than names, and are redacted."""
LEAF_TYPES: dict[int, type] = {id(kind): kind for kind in (str, int, float, complex, bool, bytes, type(None))}
"""Types (by id) whose objects refer to nothing and run no code of the program; exact types only."""
_POINTER = ctypes.sizeof(ctypes.c_void_p)
_ITEMS = list.__basicsize__ - 2 * _POINTER
"""Offset of ``ob_item`` in PyListObject: a PyVarObject, then ``ob_item``, then ``allocated``
(Include/cpython/listobject.h)."""


def _ids_by_buffer(items: list[Any]) -> bytes:
    if not items:
        return b""
    buffer = ctypes.c_void_p.from_address(id(items) + _ITEMS).value
    return ctypes.string_at(buffer, len(items) * _POINTER)  # type: ignore[arg-type]


def _ids_by_call(items: list[Any]) -> bytes:
    return array("Q", map(id, items)).tobytes()


def _buffer_can_be_read() -> bool:
    if sys.implementation.name != "cpython" or _POINTER != 8:
        return False
    probe = [object() for _ in range(9)]
    return _ids_by_buffer(probe) == _ids_by_call(probe)


ids_of: Callable[[list[Any]], bytes] = _ids_by_buffer if _buffer_can_be_read() else _ids_by_call
"""The ids of all items of an exact list, as raw 8-byte words."""


class _Block:
    """Objects of one type with consecutive node numbers."""

    __slots__ = ("first", "members", "plan")

    def __init__(self, first: int, members: list[Any], plan: Plan) -> None:
        self.first = first
        self.members = members
        self.plan = plan


class Walk:
    """One capture: :meth:`run` it once. ``gentle`` reads nothing that would change an object (for
    stop-the-world)."""

    # No __dict__: the walk leaves itself out, and must not be met again as a dict.
    __slots__ = (
        "_blocks",
        "_book",
        "_fence",
        "_found",
        "_frozen",
        "_gentle",
        "_items",
        "_keys",
        "_lines",
        "_loose",
        "_marker",
        "_names",
        "_out",
        "_rows",
        "_texts",
        "_types",
        "_values",
        "_walked",
        "nodes",
    )

    def __init__(self, out: CaptureFile, *, gentle: bool, values: bool) -> None:
        self._out = out
        self._gentle = gentle
        self._values = values
        self._book = PlanBook(gentle)
        self._blocks: list[_Block] = []
        self._rows = array("q")
        self._types: dict[int, type] = dict(LEAF_TYPES)
        self._found: dict[int, Any] = {}
        self._walked = 0
        self._marker: list[Any] = []
        self._fence: list[Any] = []
        self._frozen = 0
        self._names: dict[str, int] = {}
        self._keys: dict[int, Any] = {}
        self._texts: dict[int, str] = {}
        self._loose = (array("q"), array("q"), array("q"), array("q"))
        self._items = (array("q"), array("q"))
        self._lines = (array("q"), array("q"), array("q"))
        self.nodes = 0

    # -- the walk

    def run(self, seeds: Callable[[], list[Any]]) -> None:
        """Write every object that the collector lists, what they refer to, and ``seeds()``."""
        level = gc.get_objects()
        # Made only now, so that neither is in the list; lists, so that the search for untracked objects
        # passes over them.
        self._marker = []
        self._fence = [self._marker]
        self._frozen = gc.get_freeze_count()
        if self._frozen:  # frozen objects are tracked and yet not listed: only ids can tell what is known
            self._found.update(zip(map(id, level), level, strict=True))
            self._walked = len(level)
        self._find(seeds())
        while level:
            self._write_level(level)
            level = self._next_level()
        self._name_everything()
        self._write_key_nodes()
        self._write_tables()

    def _find(self, candidates: list[Any]) -> None:
        """Write the leaves among ``candidates``, and remember what else the collector does not list."""
        untracked = candidates if self._frozen else list(itertools.filterfalse(gc.is_tracked, candidates))
        is_text = list(map(is_, map(type, untracked), itertools.repeat(str)))
        self._write_texts(list(itertools.compress(untracked, is_text)))
        new = list(itertools.compress(untracked, map(not_, is_text)))
        kinds = list(map(type, new))
        is_leaf = list(map(LEAF_TYPES.__contains__, array("Q", ids_of(kinds))))
        self._write_leaves(list(itertools.compress(new, is_leaf)), list(itertools.compress(kinds, is_leaf)))
        rest = list(itertools.compress(new, map(not_, is_leaf)))
        self._found.update(zip(map(id, rest), rest, strict=True))

    def _write_texts(self, texts: list[str]) -> None:
        """Most objects of a heap are strings: one type, whose own ``__sizeof__`` is four times as fast as asking
        ``sys.getsizeof``."""
        self._out.add("str", ids_of(texts))
        self._out.add("strsize", array("q", list(map(str.__sizeof__, texts))).tobytes())

    def _write_leaves(self, leaves: list[Any], kinds: list[type]) -> None:
        """Most untracked objects are numbers and strings, met again and again: the reader leaves out what it has."""
        self._out.add("leaf", ids_of(leaves))
        self._out.add("leaftype", ids_of(kinds))
        self._out.add("leafsize", array("q", list(map(sys.getsizeof, leaves))).tobytes())

    def _next_level(self) -> list[Any]:
        self._find(list(self._types.values()))
        level = list(itertools.islice(reversed(self._found.values()), len(self._found) - self._walked))
        self._walked = len(self._found)
        if self._frozen:  # what is young now and was not listed at the start was made by this walk
            young = set(map(id, gc.get_objects()))
            level = [item for item in level if id(item) not in young]
        return level

    def _write_level(self, level: list[Any]) -> None:
        groups: defaultdict[int, list[Any]] = defaultdict(list)
        _exhaust(map(list.append, map(groups.__getitem__, map(id, map(type, level))), level))
        self._leave_out_own(groups)
        referring: list[Any] = []
        for members in groups.values():
            kind = type(members[0])
            has_referents = type_flags(kind) & HAVE_GC != 0
            self._add_block(kind, members, has_referents)
            if has_referents:
                referring += members
        for start in range(0, len(referring), CHUNK):
            self._write_referents(referring[start : start + CHUNK])

    def _leave_out_own(self, groups: dict[int, list[Any]]) -> None:
        """The walk would meet its own marker through itself and, on 3.10, through its running frames."""
        groups.pop(id(Walk), None)
        frames = groups.get(id(types.FrameType))
        if frames is not None:
            own = set()
            frame: types.FrameType | None = sys._getframe()
            while frame is not None and frame.f_globals.get("__package__") == __package__:
                own.add(id(frame))
                frame = frame.f_back
            frames[:] = [item for item in frames if id(item) not in own]
            if not frames:
                del groups[id(types.FrameType)]

    def _add_block(self, kind: type, members: list[Any], has_referents: bool) -> None:
        self._types[id(kind)] = kind
        plan = self._book.of(kind)
        block = _Block(self.nodes, members, plan)
        self._blocks.append(block)
        size, header = self._write_sizes(kind, plan, members)
        self._rows.extend((id(kind), len(members), size, header, int(has_referents)))
        self._out.add("node", ids_of(members))
        self.nodes += len(members)
        family = FAMILIES[plan.family]
        if family == "code":
            self._code(block)
        elif family == "type":
            self._type_parts(block)
        elif family == "ndarray":
            self._arrays(block)

    def _write_sizes(self, kind: type, plan: Plan, members: list[Any]) -> tuple[int, int]:
        """(size, header) in bytes. The size is -1 where there is a column of sizes; it does not count the
        header, the words in front of an object that ``__sizeof__`` does not see."""
        sizeof = plan.sizeof
        if sizeof is None:
            return type_basicsize(kind), _header_bytes(kind)
        header = _header_bytes(kind) if plan.own_sizeof else sys.getsizeof(members[0]) - sizeof(members[0])
        if plan.constant_size:
            return sizeof(members[0]), header
        self._out.add("size", array("q", list(map(sizeof, members))).tobytes())
        return -1, header

    def _write_referents(self, chunk: list[Any]) -> None:
        fenced: list[Any] = [self._fence] * (2 * len(chunk))
        fenced[0::2] = chunk
        flat = gc.get_referents(*fenced)
        self._out.add("raw", ids_of(flat))
        self._find(flat)

    # -- references that the collector does not report; what they lead to must be walked too

    def _code(self, block: _Block) -> None:
        for name, kind, getter in block.plan.columns:
            values = list(map(getter, block.members))
            self._column(block, name, kind | ADDED, values)
            self._find(values)
            if name in ("co_filename", "co_name", "co_qualname"):
                self._text_column(block, name, values)
        self._out.add_words("code", [block.first, len(block.members)])
        lines = map(types.CodeType.__dict__["co_firstlineno"].__get__, block.members)
        self._out.add_words("codeline", array("q", lines))

    def _type_parts(self, block: _Block) -> None:
        self._types.update(zip(map(id, block.members), block.members, strict=True))
        for name, kind, getter in _TYPE_PARTS:
            values = [getter(member) if type_flags(member) & READY else None for member in block.members]
            self._column(block, name, kind | ADDED, values)
            self._find(values)

    def _arrays(self, block: _Block) -> None:
        """A numpy array is nothing to the collector: neither its items nor the array or buffer that it is a view of."""
        kind = next(base for base in type_mro(type(block.members[0])) if type_name(base) == "numpy.ndarray")
        base, dtype, shape = (type_dict(kind)[name].__get__ for name in ("base", "dtype", "shape"))
        owners = list(map(base, block.members))
        self._column(block, "base", PROPERTY | ADDED, owners)
        self._find(owners)
        for source, array_ in enumerate(block.members, block.first):
            if type_name(type(dtype(array_))) in _OBJECT_DTYPES:
                items = [type_dict(kind)["tolist"](array_)]  # of the base class: calls nothing of the program
                for _ in shape(array_):
                    items = list(itertools.chain.from_iterable(items))
                self._items[0].extend((source, len(items)))
                self._items[1].frombytes(ids_of(items))
                self._find(items)

    # -- names

    def _name_everything(self) -> None:
        special: dict[str, Callable[[_Block], None]] = {
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
        for block in self._blocks:
            plan = block.plan
            family = FAMILIES[plan.family]
            if family in special:
                special[family](block)
            if plan.attributes is not None:
                self._attributes(block, plan.attributes)
            if family != "code":
                for name, kind, getter in plan.columns:
                    self._column(block, name, kind, _read(getter, block.members))

    def _name(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    def _column(self, block: _Block, name: str, kind: int, values: list[Any]) -> None:
        """One reference of the same name from each object of ``block``."""
        self._out.add_words("colrow", [block.first, len(values), self._name(name), kind])
        self._out.add("coldst", ids_of(values))

    def _text_column(self, block: _Block, name: str, values: list[Any]) -> None:
        """A text that belongs to each object of ``block``."""
        self._texts.update((id(value), value) for value in values if type(value) is str)
        self._column(block, name, TEXT, values)

    def _edge(self, source: int, target: Any, name: str, kind: int) -> None:
        for column, value in zip(self._loose, (source, id(target), self._name(name), kind), strict=True):
            column.append(value)

    def _keyed(self, sources: array[int], lengths: list[int], keys: list[Any], values: list[Any], kind: int) -> None:
        """References named by objects: ``lengths[i]`` of them from node ``sources[i]``."""
        strings = keys if _are_texts(keys) else [key for key in keys if type(key) is str]
        self._keys.update(zip(map(id, strings), strings, strict=True))
        if self._values and len(strings) < len(keys):
            plain = [key for key in keys if type(key) in (int, float, bool, bytes)]
            self._keys.update(zip(map(id, plain), plain, strict=True))
        self._out.add_words("keyrow", [len(sources), len(keys), kind])
        self._out.add_words("keysrc", sources)
        self._out.add_words("keylen", lengths)
        self._out.add("keykey", ids_of(keys))
        self._out.add("keydst", ids_of(values))

    def _keyed_dicts(self, first: int, dicts: list[dict[Any, Any]], kind: int) -> None:
        for start in range(0, len(dicts), CHUNK):
            some = dicts[start : start + CHUNK]
            self._keyed(
                array("q", range(first + start, first + start + len(some))),
                list(map(dict.__len__, some)),
                list(itertools.chain.from_iterable(map(dict.keys, some))),
                list(itertools.chain.from_iterable(map(dict.values, some))),
                kind,
            )

    def _dicts(self, block: _Block) -> None:
        self._keyed_dicts(block.first, block.members, PROPERTY)

    def _attributes(self, block: _Block, getter: Callable[[Any], Any]) -> None:
        found = _read(getter, block.members)
        self._column(block, "__dict__", INTERNAL, found)
        empty: dict[str, Any] = {}
        self._keyed_dicts(block.first, [item if type(item) is dict else empty for item in found], PROPERTY)

    def _functions(self, block: _Block) -> None:
        members = block.members
        self._text_column(block, "__qualname__", _read(types.FunctionType.__dict__["__qualname__"].__get__, members))
        if not self._gentle:
            self._column(block, "__dict__", PROPERTY, _read(types.FunctionType.__dict__["__dict__"].__get__, members))
        closures = list(map(types.FunctionType.__dict__["__closure__"].__get__, members))
        picked = list(map(is_not, closures, itertools.repeat(None)))
        codes = map(types.FunctionType.__dict__["__code__"].__get__, itertools.compress(members, picked))
        cells = list(itertools.compress(closures, picked))
        names = list(map(types.CodeType.__dict__["co_freevars"].__get__, codes))
        sources = array("q", itertools.compress(range(block.first, block.first + len(members)), picked))
        self._keyed(
            sources,
            list(map(len, cells)),
            list(itertools.chain.from_iterable(names)),
            list(itertools.chain.from_iterable(cells)),
            CONTEXT | ADDED,
        )

    def _modules(self, block: _Block) -> None:
        spaces = _read(_module_dict, block.members)
        names = [dict.get(space, "__name__") if type(space) is dict else None for space in spaces]
        self._text_column(block, "__name__", names)

    def _frames(self, block: _Block) -> None:
        for source, frame in enumerate(block.members, block.first):
            code = frame.f_code
            self._line(source, code, frame.f_lineno)
            self._edge(source, code, "f_code", INTERNAL)
            self._edge(source, frame.f_globals, "f_globals", INTERNAL)
            self._edge(source, frame.f_builtins, "f_builtins", INTERNAL)
            referents = gc.get_referents(frame)
            self._edge(source, frame.f_back, "f_back", PROPERTY)
            if not self._gentle or READS_LOCALS_CLEANLY:
                self._variables(source, frame, referents)

    def _generators(self, block: _Block) -> None:
        parts = _GENERATOR_PARTS[type(block.members[0])]
        for source, generator in enumerate(block.members, block.first):
            code, frame, awaited = (part(generator) for part in parts)
            self._edge(source, code, "gi_code", INTERNAL)
            self._edge(source, awaited, "awaiting", PROPERTY)
            self._line(source, code, code.co_firstlineno if frame is None else frame.f_lineno)
            if frame is not None and (not self._gentle or READS_LOCALS_CLEANLY):
                referents = gc.get_referents(generator)
                if LOCALS_IN_FRAME_OBJECT:
                    self._edge(source, frame, "gi_frame", INTERNAL)
                    self._variables(source, frame, gc.get_referents(frame), ADDED)
                else:
                    self._variables(source, frame, referents)

    def _line(self, source: int, code: types.CodeType, line: int | None) -> None:
        for column, value in zip(self._lines, (source, id(code), line or code.co_firstlineno), strict=True):
            column.append(value)

    def _variables(self, source: int, frame: types.FrameType, referents: list[Any], flag: int = 0) -> None:
        """Name the locals among ``referents``; a variable that inner functions share is in a cell."""
        if not frame.f_code.co_flags & CO_OPTIMIZED:
            self._edge(source, frame.f_globals, "f_locals", INTERNAL)
            return
        cells = [item for item in referents if type(item) is types.CellType]
        contents = {id(inner): cell for cell in cells for inner in gc.get_referents(cell)}
        direct = set(map(id, referents))
        for name, value in frame.f_locals.items():
            if id(value) in direct:
                self._edge(source, value, name, CONTEXT | flag)
            elif id(value) in contents:
                self._edge(source, contents[id(value)], name, CONTEXT | flag)

    def _weakrefs(self, block: _Block) -> None:
        targets = list(map(weakref.ReferenceType.__call__, block.members))
        self._column(block, "<referent>", WEAK | ADDED, targets)

    def _futures(self, block: _Block) -> None:
        for getter in (g for g in (_callback_getter(base) for base in type_mro(type(block.members[0]))) if g):
            for source, callbacks in enumerate(_read(getter, block.members), block.first):
                for callback in callbacks if type(callbacks) is list else ():
                    function, context = callback if type(callback) is tuple and len(callback) == 2 else (callback, None)
                    self._edge(source, function, "_callbacks", PROPERTY)
                    self._edge(source, context, "_callbacks context", INTERNAL)
            break
        for source, future in enumerate(block.members, block.first):
            for item in gc.get_referents(future):
                if type(item) is list and item and type(item[0]) is tuple:  # all callbacks but the first
                    self._edge(source, item, "_callbacks", PROPERTY)

    def _lru_caches(self, block: _Block) -> None:
        """The entries come first (key, result, key, ...), then the cache's dict, then its parts."""
        spaces = _read(block.plan.attributes, block.members) if block.plan.attributes else []
        own = set(map(id, spaces))
        for source, cached in enumerate(block.members, block.first):
            referents = gc.get_referents(cached)
            tables = [i for i, item in enumerate(referents) if type(item) is dict and id(item) not in own]
            if not tables:
                continue
            table = referents[tables[-1]]
            self._edge(source, table, "<cache>", INTERNAL)
            keys = set(map(id, dict.keys(table)))
            for item in referents[: tables[-1]]:
                if not type_flags(type(item)) & TYPE_SUBCLASS:
                    name = "<cached key>" if id(item) in keys else "<cached result>"
                    self._edge(source, item, name, PROPERTY)

    def _context_variables(self, block: _Block) -> None:
        variable = sys.modules["_contextvars"].ContextVar
        name_of = variable.__dict__["name"].__get__
        for source, node in enumerate(block.members, block.first):
            referents = gc.get_referents(node)
            for value, key in itertools.pairwise(referents):
                if type(key) is variable and type(value) is not variable:
                    name = name_of(key)
                    self._edge(source, value, name if type(name) is str else "<str>", CONTEXT)

    def _contextvars(self, block: _Block) -> None:
        for source, variable in enumerate(block.members, block.first):
            for value in gc.get_referents(variable):
                if type(value) is not str:
                    self._edge(source, value, "default", PROPERTY)

    # -- tables

    def _write_key_nodes(self) -> None:
        """Strings that are keys only: a dict with string keys does not report them."""
        self._write_texts([key for key in self._keys.values() if type(key) is str])

    def _write_tables(self) -> None:
        self._out.add("block", self._rows.tobytes())
        keys = list(self._keys.values())
        self._out.add("keyid", ids_of(keys))
        self._out.add("keytext", _joined([self._key_text(key) for key in keys]))
        texts = list(self._texts.values())
        self._out.add("textid", ids_of(texts))
        self._out.add("texttext", _joined([text.replace("\n", " ") for text in texts]))
        for key, column in zip(("edgesrc", "edgedst", "edgename", "edgekind"), self._loose, strict=True):
            self._out.add_words(key, column)
        for key, column in zip(("itemrow", "itemdst"), self._items, strict=True):
            self._out.add_words(key, column)
        for key, column in zip(("linesrc", "linecode", "lineno"), self._lines, strict=True):
            self._out.add_words(key, column)
        self._out.add_json("names", list(self._names))
        rows = [(address, type_name(kind), self._book.of(kind).family) for address, kind in self._types.items()]
        self._out.add_json("types", rows)

    def _key_text(self, key: Any) -> str:
        if self._values:
            return repr(key)[:KEY_LIMIT] if type(key) is not str else key[:KEY_LIMIT].replace("\n", " ")
        if len(key) <= KEY_LIMIT and key.replace(".", "_").isidentifier():
            return str(key)
        return "<str>"

    @property
    def facts(self) -> dict[str, Any]:
        """What the reader must know beside the columns."""
        return {
            "marker": id(self._marker),
            "text_type": id(str),
            "fence": id(self._fence),
            "reversed": gc.get_referents([1.5, 2.5]) == [2.5, 1.5],
            "nodes": self.nodes,
            "frozen": self._frozen,
            "library": os.path.dirname(os.path.abspath(os.__file__)),
            "package": os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
        }


MANAGED = 1 << 3 | 1 << 4
"""Py_TPFLAGS_MANAGED_WEAKREF, Py_TPFLAGS_MANAGED_DICT."""
READS_LOCALS_CLEANLY = sys.version_info >= (3, 13)
"""From 3.13 on ``f_locals`` is a view; before, reading it leaves references in the frame (PEP 667)."""
LOCALS_IN_FRAME_OBJECT = sys.version_info < (3, 11)
"""On 3.10 a generator refers to a frame object that has its locals; later on, to the locals themselves."""
CO_OPTIMIZED = 1
"""Code flag (Include/cpython/code.h): locals live in the frame; only then is ``f_locals`` a dict of ours to
read."""

_OBJECT_DTYPES = ("numpy.dtypes.ObjectDType", "numpy.dtype[object_]")
"""Type names of the dtype of arrays of objects: numpy 1.25 and later, and before."""
_GENERATOR_PARTS: dict[type, tuple[Callable[[Any], Any], ...]] = {
    kind: tuple(type_dict(kind)[prefix + part].__get__ for part in ("_code", "_frame", awaited))
    for kind, prefix, awaited in (
        (types.GeneratorType, "gi", "_yieldfrom"),
        (types.CoroutineType, "cr", "_await"),
        (types.AsyncGeneratorType, "ag", "_await"),
    )
}
_TYPE_PARTS: tuple[tuple[str, int, Callable[[type], Any]], ...] = (
    ("__dict__", PROPERTY, type_dict),
    ("__mro__", INTERNAL, type_mro),
    ("__bases__", INTERNAL, type.__dict__["__bases__"].__get__),
    ("__base__", INTERNAL, type.__dict__["__base__"].__get__),
)
_module_dict: Callable[[Any], dict[str, Any]] = type_dict(types.ModuleType)["__dict__"].__get__


def _header_bytes(kind: type) -> int:
    """Bytes in front of an object that ``__sizeof__`` does not count: the collector's two words, and from
    3.11 on two more for a dict or weak references that the interpreter manages (Objects/typeobject.c,
    _PyType_PreHeaderSize)."""
    flags = type_flags(kind)
    words = (2 if flags & HAVE_GC else 0) + (2 if flags & MANAGED and sys.version_info >= (3, 11) else 0)
    return words * _POINTER


def _are_texts(items: list[Any]) -> bool:
    """Whether all are exact strings."""
    return ids_of(list(map(type, items))) == ids_of([str]) * len(items)


def _exhaust(calls: Iterator[Any]) -> None:
    """Run through ``calls`` without a step of the interpreter for each."""
    deque(calls, maxlen=0)


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


def _joined(texts: list[str]) -> bytes:
    return "\n".join(texts).encode("utf-8", "surrogatepass")
