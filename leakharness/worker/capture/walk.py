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

import itertools
import sys
import types
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from operator import is_, not_
from typing import Any

from leakharness.worker.capture.columns import ADDED, CHUNK, Columns
from leakharness.worker.capture.edge_names import Block, EdgeNames
from leakharness.worker.capture.file import CaptureFile
from leakharness.worker.capture.loaded_names import strings_of_code
from leakharness.worker.capture.object_ids import POINTER_BYTES, ids_of
from leakharness.worker.capture.type_plans import (
    FAMILIES,
    HAVE_GC,
    INTERNAL,
    OBJECT_DTYPES,
    PROPERTY,
    READY,
    Plan,
    PlanBook,
    type_basicsize,
    type_dict,
    type_flags,
    type_mro,
    type_name,
)
from leakharness.worker.unpatched import gc, os

__all__ = ["Walk"]

LEAF_TYPES: dict[int, type] = {id(kind): kind for kind in (str, int, float, complex, bool, bytes, type(None))}
"""Types (by id) whose objects refer to nothing and run no code of the program; exact types only."""
MANAGED = 1 << 3 | 1 << 4
"""Py_TPFLAGS_MANAGED_WEAKREF, Py_TPFLAGS_MANAGED_DICT."""
_TYPE_PARTS: tuple[tuple[str, int, Callable[[type], Any]], ...] = (
    ("__dict__", PROPERTY, type_dict),
    ("__mro__", INTERNAL, type_mro),
    ("__bases__", INTERNAL, type.__dict__["__bases__"].__get__),
    ("__base__", INTERNAL, type.__dict__["__base__"].__get__),
)


class Walk:
    """One capture: :meth:`run` it once. ``gentle`` reads nothing that would change an object (for
    stop-the-world)."""

    # No __dict__: the walk leaves itself out, and must not be met again as a dict.
    __slots__ = (
        "_blocks",
        "_book",
        "_columns",
        "_fence",
        "_found",
        "_frozen",
        "_gentle",
        "_items",
        "_marker",
        "_out",
        "_rows",
        "_types",
        "_walked",
        "nodes",
        "running",
    )

    def __init__(self, out: CaptureFile, *, gentle: bool, values: bool) -> None:
        self._out = out
        self._gentle = gentle
        self._columns = Columns(out, values=values)
        self._book = PlanBook(gentle)
        self._blocks: list[Block] = []
        self._rows = array("q")
        self._types: dict[int, type] = dict(LEAF_TYPES)
        self._found: dict[int, Any] = {}
        self._walked = 0
        self._marker: list[Any] = []
        self._fence: list[Any] = []
        self._frozen = 0
        self._items = (array("q"), array("q"))
        self.nodes = 0
        self.running: list[types.CodeType] = []
        """Code that runs now, to which nothing in the heap may refer (that of a script). Set it in ``seeds``."""

    @property
    def namespaces(self) -> set[int]:
        """Ids of the dicts whose keys are names; those that only the caller knows may be added."""
        return self._columns.namespaces

    @property
    def names_in_code(self) -> set[str]:
        """Every string that stands in loaded code, once the walk is done."""
        return self._columns.names_in_code

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
        self._write_texts(self._columns.key_texts)
        self._columns.write()
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
        for own_type in (Walk, Columns):
            groups.pop(id(own_type), None)
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
        block = Block(self.nodes, members, plan)
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
        """Of a module only its namespace where the process lives on: on 3.12 ``_asyncio`` shows its list of free
        iterators, which then holds each of them twice, and every later collection goes round in it for ever."""
        if self._gentle:
            chunk = [[vars(item)] if type(item) is types.ModuleType else item for item in chunk]
        fenced: list[Any] = [self._fence] * (2 * len(chunk))
        fenced[0::2] = chunk
        flat = gc.get_referents(*fenced)
        self._out.add("raw", ids_of(flat))
        self._find(flat)

    # -- references that the collector does not report; what they lead to must be walked too

    def _code(self, block: Block) -> None:
        for name, kind, getter in block.plan.columns:
            values = list(map(getter, block.members))
            self._columns.column(block.first, name, kind | ADDED, values)
            self._find(values)
            if name in ("co_filename", "co_name", "co_qualname"):
                self._columns.text_column(block.first, name, values)
        self._out.add_words("code", [block.first, len(block.members)])
        lines = map(types.CodeType.__dict__["co_firstlineno"].__get__, block.members)
        self._out.add_words("codeline", array("q", lines))

    def _type_parts(self, block: Block) -> None:
        self._types.update(zip(map(id, block.members), block.members, strict=True))
        for name, kind, getter in _TYPE_PARTS:
            values = [getter(member) if type_flags(member) & READY else None for member in block.members]
            if name == "__dict__":
                self.namespaces.update(map(id, values))
            self._columns.column(block.first, name, kind | ADDED, values)
            self._find(values)

    def _arrays(self, block: Block) -> None:
        """A numpy array is nothing to the collector: neither its items nor the array or buffer that it is a view of."""
        kind = next(base for base in type_mro(type(block.members[0])) if type_name(base) == "numpy.ndarray")
        base, dtype, shape = (type_dict(kind)[name].__get__ for name in ("base", "dtype", "shape"))
        owners = list(map(base, block.members))
        self._columns.column(block.first, "base", PROPERTY | ADDED, owners)
        self._find(owners)
        for source, array_ in enumerate(block.members, block.first):
            if type_name(type(dtype(array_))) in OBJECT_DTYPES:
                items = [type_dict(kind)["tolist"](array_)]  # of the base class: calls nothing of the program
                for _ in shape(array_):
                    items = list(itertools.chain.from_iterable(items))
                self._items[0].extend((source, len(items)))
                self._items[1].frombytes(ids_of(items))
                self._find(items)

    def _name_everything(self) -> None:
        names = EdgeNames(self._columns, gentle=self._gentle)
        is_dict = FAMILIES.index("dict")
        for block in self._blocks:
            if block.plan.family != is_dict:
                names.of(block)
        codes = [*names.codes.values(), *self.running]
        self._columns.names_in_code = strings_of_code(codes, gentle=self._gentle)
        for block in self._blocks:
            if block.plan.family == is_dict:
                names.of(block)

    # -- tables

    def _write_tables(self) -> None:
        self._out.add("block", self._rows.tobytes())
        for key, column in zip(("itemrow", "itemdst"), self._items, strict=True):
            self._out.add_words(key, column)
        rows = [(address, type_name(kind), self._book.of(kind).family) for address, kind in self._types.items()]
        self._out.add_json("types", rows)

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


def _header_bytes(kind: type) -> int:
    """Bytes in front of an object that ``__sizeof__`` does not count: the collector's two words, and from
    3.11 on two more for a dict or weak references that the interpreter manages (Objects/typeobject.c,
    _PyType_PreHeaderSize)."""
    flags = type_flags(kind)
    words = (2 if flags & HAVE_GC else 0) + (2 if flags & MANAGED and sys.version_info >= (3, 11) else 0)
    return words * POINTER_BYTES


def _exhaust(calls: Iterator[Any]) -> None:
    """Run through ``calls`` without a step of the interpreter for each."""
    deque(calls, maxlen=0)
