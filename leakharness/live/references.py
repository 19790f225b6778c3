"""Which object refers to which, and under what name: fields, items, attributes, entries of dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from leakharness.heap.arrays import distinct
from leakharness.heap.graph import EDGE_KINDS
from leakharness.live.arrays import in_parts, positions, ragged
from leakharness.live.dicts import SPLIT, Strings, entries_of, key_columns, value_base
from leakharness.live.objects import HAVE_GC, HEAP_TYPE, Objects

__all__ = ["CONTEXT", "ELEMENT", "INTERNAL", "POSITIONS", "PROPERTY", "WEAK", "References"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

CONTEXT, ELEMENT, PROPERTY, INTERNAL, WEAK = (
    EDGE_KINDS.index(kind) for kind in ("context", "element", "property", "internal", "weak")
)
MANAGED_DICT, INLINE_VALUES = 1 << 4, 1 << 2
"""Include/object.h: from 3.11 and from 3.13 on."""
MOST_ITEMS = 1 << 28
"""Items of one container beyond which the words that say so are torn."""
OBJECT_MEMBERS = (6, 16)
"""Include/structmember.h: T_OBJECT, T_OBJECT_EX."""
MOST_MEMBERS = 500
MOST_ATTRIBUTES = 64
"""Attributes whose values lie beside the object (SHARED_KEYS_MAX_SIZE is 30)."""
DEEPEST_BASES = 60
ROUNDS = 8
"""How deep containers that the collector does not track are followed: a dict of texts in a tuple in a dict."""
KEY = "[*]"
"""Name of a dict's key that is data."""
AT_ONCE = 1 << 17
"""Objects, or items of containers, that are looked at together: what is made meanwhile stays small beside the copy."""
POSITIONS = -1
"""In place of names: each is called by its position among those of its source."""
LEFT_OUT = ("NoneType", "bool", "ellipsis", "NotImplementedType")
"""Types with a fixed number of objects: everything refers to them."""
_FUTURE = (
    ("_asyncio.fut_loop", "_loop", PROPERTY),
    ("_asyncio.fut_callback0", "_callbacks", PROPERTY),
    ("_asyncio.fut_context0", "_callbacks context", INTERNAL),
    ("_asyncio.fut_callbacks", "_callbacks", PROPERTY),
)
FIELDS = {
    "cell": (("PyCellObject.ob_ref", "cell_contents", PROPERTY),),
    "method": (("PyMethodObject.im_func", "__func__", PROPERTY), ("PyMethodObject.im_self", "__self__", PROPERTY)),
    "builtin_function_or_method": (("PyCFunctionObject.m_self", "__self__", PROPERTY),),
    "module": (("PyModuleObject.md_dict", "__dict__", INTERNAL),),
    "traceback": (
        ("PyTracebackObject.tb_next", "tb_next", PROPERTY),
        ("PyTracebackObject.tb_frame", "tb_frame", PROPERTY),
    ),
    "BaseException": tuple(
        (f"PyBaseExceptionObject.{field}", name, kind)
        for field, name, kind in (
            ("dict", "__dict__", INTERNAL),
            ("args", "args", PROPERTY),
            ("notes", "__notes__", PROPERTY),
            ("traceback", "__traceback__", PROPERTY),
            ("context", "__context__", PROPERTY),
            ("cause", "__cause__", PROPERTY),
        )
    ),
    "function": (
        *((f"PyFunctionObject.func_{n}", f"__{n}__", PROPERTY) for n in ("defaults", "kwdefaults", "dict")),
        *(
            (f"PyFunctionObject.func_{n}", f"__{n}__", INTERNAL)
            for n in ("globals", "builtins", "code", "closure", "module", "annotations", "annotate", "typeparams")
        ),
    ),
    "type": tuple(
        (f"PyTypeObject.tp_{name}", f"__{name}__", PROPERTY if name == "dict" else INTERNAL)
        for name in ("dict", "mro", "bases", "base", "subclasses")
    ),
    "_asyncio.Future": _FUTURE,
    "_asyncio.Task": _FUTURE,
    "functools._lru_cache_wrapper": (("_lru_cache.func", "func", PROPERTY), ("_lru_cache.cache", "<cache>", INTERNAL)),
    "ContextVar": (("PyContextVar.var_default", "default", PROPERTY),),
    "code": tuple(
        (f"PyCodeObject.{name}", name, INTERNAL)
        for name in ("co_consts", "co_names", "co_localsplusnames", "co_varnames", "co_linetable", "co_exceptiontable")
    ),
}  # fmt: skip
"""Fields of static types whose members are no ``PyMemberDef``: (offset, name, edge kind) by the type's own name."""
BY_TARGET = (("_asyncio.Task", "coroutine", "_coro"), ("_asyncio.Task", "generator", "_coro"))
"""Fields told by what they lead to, as their offset changes: (type, type of the target, name)."""
CLOSED = (
    "cell", "function", "type", "module", "list", "tuple", "dict", "set", "frozenset", "code", "str", "bytes", "int",
    "float", "bytearray", "functools._lru_cache_wrapper", "ContextVar",
)  # fmt: skip
"""Types (and what derives from them) whose struct has no further owned reference worth a name."""


def _by_kind(kinds: Numbers, first: int) -> Iterator[tuple[int, Numbers]]:
    """(kind, numbers of its objects in their order), for objects of these kinds that are numbered from ``first`` on."""
    if not len(kinds):
        return
    narrow = kinds.astype(np.uint16) if int(kinds.max()) < 1 << 16 else kinds  # sorted digit by digit
    order = np.argsort(narrow, kind="stable").astype(np.int32)
    ends = np.cumsum(np.bincount(kinds)).tolist()
    for kind, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if begin < end:
            yield kind, order[begin:end] + np.int32(first)


class _Part:
    """References of one kind: from ``source`` to ``target``. A target of -1 is no object; one below leads to an address
    where none is known yet, the one in ``unknown`` at its place: -2 to the first of them, -3 to the second.
    """

    __slots__ = ("kind", "name", "source", "target", "unknown")

    def __init__(
        self, objects: Objects, source: Ints | Numbers, value: Words, name: Ints | Numbers | int, kind: int
    ) -> None:
        self.source: Numbers = source.astype(np.int32, copy=False)
        self.name: Numbers | int = name if isinstance(name, int) else name.astype(np.int32, copy=False)
        self.kind = kind
        self.target = objects.number(value)
        place = np.flatnonzero(self.target < 0)
        value = value[place]
        self.unknown: Words = distinct(value)
        """Many refer to one: a short text, a small number."""
        self.target[place] = -2 - np.searchsorted(self.unknown, value)

    def find(self, objects: Objects, since: int) -> None:
        """Look again among the objects from number ``since`` on; what is none of them is no object."""
        if len(self.unknown):
            place = np.flatnonzero(self.target < -1)
            self.target[place] = objects.number(self.unknown, since)[-2 - self.target[place]]
            self.unknown = np.zeros(0, np.uint64)

    def keep(self, which: Ints | Bools) -> None:
        """Only those at ``which`` positions, in that order. All must have been looked for."""
        if isinstance(self.name, int) and self.name == POSITIONS:
            self.name = self.names()
        self.source, self.target = self.source[which], self.target[which]
        self.name = self.name if isinstance(self.name, int) else self.name[which]

    def names(self) -> Numbers | int:
        """The name of each, or of all."""
        return positions(self.source) if isinstance(self.name, int) and self.name == POSITIONS else self.name


class References:
    """Collects the references of all objects; ``names`` are the strings that they use.

    What a tracked object refers to and the collector does not track (texts, numbers, dicts and tuples of such) is
    added to the objects on the way.
    """

    def __init__(self, objects: Objects, strings: Strings) -> None:
        self.objects, self.strings = objects, strings
        self.names: dict[str, int] = {"": 0}
        self._parts: list[_Part] = []
        self._base_names: list[set[str]] = []
        self._by_type: dict[int, Numbers] = {}
        self._rounds: list[dict[int, Numbers]] = []
        self._in_code: Words = np.zeros(0, np.uint64)
        self._round = (0, len(objects))
        self._group()

    def name(self, text: str) -> int:
        """Number of a string."""
        return self.names.setdefault(text, len(self.names))

    def of_family(self, *families: str) -> Ints:
        """Objects of the present round whose type is, or derives from, one of the static types of these names."""
        found = [members for kind, members in self._by_type.items() if not self._bases_of(kind).isdisjoint(families)]
        return np.sort(np.concatenate(found)).astype(np.int64) if found else np.zeros(0, np.int64)

    def groups(self) -> Iterator[tuple[set[str], int, Numbers]]:
        """(names of the static types it derives from, its number, its objects), for each type of the round; of many
        objects again and again, `AT_ONCE` at a time."""
        for kind, members in self._by_type.items():
            for begin in range(0, len(members), AT_ONCE):
                yield self._bases_of(kind), kind, members[begin : begin + AT_ONCE]

    def all_groups(self) -> Iterator[tuple[set[str], int, Numbers]]:
        """The same for all objects, in whatever round they came."""
        for kind, members in (group for groups in self._rounds for group in groups.items()):
            for begin in range(0, len(members), AT_ONCE):
                yield self._bases_of(kind), kind, members[begin : begin + AT_ONCE]

    def bases(self) -> list[set[str]]:
        """Names of the static types that each type derives from, by its number."""
        return [self._bases_of(kind) for kind in range(len(self.objects.types))]

    def collect(self) -> None:
        """Read what the tracked objects refer to."""
        self._fields()
        self._instances()
        self._containers()

    def follow(self, further: Callable[[References], None]) -> None:
        """Take in the untracked objects that were found, and what they refer to; ``further`` adds what is not read
        here."""
        for _ in range(ROUNDS):
            waiting = [part for part in self._parts if len(part.unknown)]
            first = len(self.objects)
            self.objects.add(np.concatenate([np.zeros(0, np.uint64), *(part.unknown for part in waiting)]))
            for part in waiting:
                part.find(self.objects, first)
            if len(self.objects) == first:
                return
            self._round = (first, len(self.objects))
            self._group()
            self._containers()
            further(self)
            if len(self.of_family("code", "type")):
                self._fields()

    def counts(self) -> Ints:
        """How many references each object has. Drops those whose target is no object, or is one of `LEFT_OUT`."""
        left_out = np.array([name in LEFT_OUT for name in self.objects.c_name], np.bool_)
        found = np.zeros(len(self.objects), np.int64)
        for part in self._parts:
            known = part.target >= 0
            known[known] = ~left_out[self.objects.kind[part.target[known]]]
            if not known.all():
                part.keep(known)
            np.add.at(found, part.source, 1)
        return found

    def take(self) -> Iterator[tuple[Numbers, Numbers, Numbers | int, int]]:
        """(source, target, name, kind) of all references by part, sources ascending within each. Each part is given
        away: afterwards there are none."""
        self._parts.reverse()
        while self._parts:
            part = self._parts.pop()
            if np.any(part.source[1:] < part.source[:-1]):
                part.keep(np.argsort(part.source, kind="stable"))
            yield part.source, part.target, part.names(), part.kind

    def add(self, source: Ints | Numbers, value: Words, name: Ints | Numbers | int, kind: int) -> None:
        """References from the objects ``source`` to what lies at the addresses ``value``."""
        known = value != 0
        if not known.all():
            if isinstance(name, int) and name == POSITIONS:
                name = positions(source)
            source, value = source[known], value[known]
            name = name if isinstance(name, int) else name[known]
        if len(source):
            self._parts.append(_Part(self.objects, source, value, name, kind))

    def _group(self) -> None:
        """Sort the objects of the present round by type."""
        first, last = self._round
        self._by_type = dict(_by_kind(self.objects.kind[first:last], first))
        self._rounds.append(self._by_type)

    def _bases_of(self, kind: int) -> set[str]:
        while len(self._base_names) <= kind:
            self._base_names.append(self._bases(int(self.objects.types[len(self._base_names)])))
        return self._base_names[kind]

    def _bases(self, kind: int) -> set[str]:
        """Names of the types of C that a type is or derives from."""
        memory, layout = self.objects.memory, self.objects.layout
        found: set[str] = set()
        for _ in range(DEEPEST_BASES):
            if not kind:
                break
            name = memory.c_string(memory.word(kind + layout("PyTypeObject.tp_name")))
            # A class of Python code has its bare name there; only what C declares has the module in it.
            if "." in name or not memory.word(kind + layout("PyTypeObject.tp_flags")) & HEAP_TYPE:
                found.add(name.removeprefix("_contextvars.").removeprefix("contextvars."))
            kind = memory.word(kind + layout("PyTypeObject.tp_base"))
        return found

    # -- by kind of object

    def _fields(self) -> None:
        """Declared members and known fields by name; what else is a reference is named by the type of its target."""
        memory, layout = self.objects.memory, self.objects.layout
        for bases, kind, members in self.groups():
            named = self._members(int(self.objects.types[kind]))
            for family, fields in FIELDS.items():
                if family in bases:
                    named.update(
                        {layout.offsets[field]: (name, edge) for field, name, edge in fields if field in layout.offsets}
                    )
            address = self.objects.address[members]
            for offset, (name, edge) in named.items():
                self.add(members, memory.read(address + np.uint64(offset)), self.name(name), edge)
            if bases.isdisjoint(CLOSED) and self.objects.flags[kind] & HAVE_GC:
                told_elsewhere = (
                    memory.word(int(self.objects.types[kind]) + layout(f"PyTypeObject.tp_{field}"))
                    for field in ("weaklistoffset", "dictoffset")
                )
                skip = {*named, *told_elsewhere}
                is_weak = any("weakref" in base or "weakproxy" in base for base in bases)
                for offset in range(16, min(int(self.objects.basic[kind]), 1024), 8):
                    if offset not in skip:
                        self._unnamed(
                            bases, members, memory.read(address + np.uint64(offset)), is_weak and offset == 16
                        )

    def _unnamed(self, bases: set[str], members: Numbers, values: Words, weak: bool) -> None:
        target = self.objects.number(values)
        known = np.flatnonzero(target >= 0)
        for kind in np.unique(self.objects.kind[target[known]]).tolist():
            which = known[self.objects.kind[target[known]] == kind]
            short = self.objects.c_name[kind].rpartition(".")[2]
            told = next((name for base, kind_, name in BY_TARGET if base in bases and kind_ == short), None)
            name = self.name("<referent>" if weak else told or f"<{short}>")
            self.add(members[which], values[which], name, WEAK if weak else PROPERTY if told else INTERNAL)

    def _members(self, kind: int) -> dict[int, tuple[str, int]]:
        """``__slots__`` and members declared in C, through all bases: offset -> (name, edge kind)."""
        memory, layout = self.objects.memory, self.objects.layout
        found: dict[int, tuple[str, int]] = {}
        for _ in range(DEEPEST_BASES):
            at = memory.word(kind + layout("PyTypeObject.tp_members")) if kind else 0
            for _ in range(MOST_MEMBERS if at else 0):
                name = memory.word(at + layout("PyMemberDef.name"))
                offset = memory.word(at + layout("PyMemberDef.offset"))
                if not name:
                    break
                is_object = memory.half(at + layout("PyMemberDef.type")) in OBJECT_MEMBERS
                if is_object and 16 <= offset < 1 << 16:
                    text = memory.c_string(name)
                    found.setdefault(offset, (text, INTERNAL if text == "__dict__" else PROPERTY))
                at += 40  # sizeof(PyMemberDef)
            kind = memory.word(kind + layout("PyTypeObject.tp_base")) if kind else 0
        return found

    def _containers(self) -> None:
        self._sequences()
        self._sets()
        self._dicts()

    def _sequences(self) -> None:
        memory, layout = self.objects.memory, self.objects.layout
        for family, in_place in (("list", False), ("tuple", True)):
            all_ = self.of_family(family)
            for members in (all_[begin : begin + AT_ONCE] for begin in range(0, len(all_), AT_ONCE)):
                address = self.objects.address[members]
                count = memory.read(address + np.uint64(16)).astype(np.int64)
                start = address + np.uint64(layout("PyTupleObject.ob_item"))
                if not in_place:
                    start = memory.read(address + np.uint64(layout("PyListObject.ob_item")))
                self.items(members, start, count)

    def items(self, members: Ints, start: Words, count: Ints) -> None:
        """Arrays of references: ``count`` of them at ``start``, by position."""
        fits = (count > 0) & (count < MOST_ITEMS)
        last = start + np.where(fits, (count - 1) * 8, 0).astype(np.uint64)
        fits &= self.objects.memory.index(last) - self.objects.memory.index(start) == count - 1
        count = np.where(fits, count, 0)
        for some in in_parts(count, AT_ONCE):
            which, position = ragged(count[some])
            value = self.objects.memory.read(start[some][which] + position.astype(np.uint64) * np.uint64(8))
            self.add(members[some][which], value, POSITIONS, ELEMENT)

    def _sets(self) -> None:
        """Entries are (key, hash) (Include/cpython/setobject.h)."""
        memory, layout = self.objects.memory, self.objects.layout
        members = self.of_family("set", "frozenset")
        address = self.objects.address[members]
        table = memory.read(address + np.uint64(layout("PySetObject.table")))
        size = memory.read(address + np.uint64(layout("PySetObject.mask"))).astype(np.int64) + 1
        fits = (size > 0) & (size < MOST_ITEMS)
        fits &= memory.index(table + (np.maximum(size, 1) * 16 - 8).astype(np.uint64)) >= 0
        which, position = ragged(np.where(fits, size, 0))
        value = memory.read(table[which] + position.astype(np.uint64) * np.uint64(16))
        filled = value != 0
        self.add(members[which[filled]], value[filled], POSITIONS, ELEMENT)

    def _instances(self) -> None:
        """Attributes: a dict where the type says, values beside the object from 3.11 on."""
        memory, layout = self.objects.memory, self.objects.layout
        for bases, kind, members in self.groups():
            address = self.objects.address[members]
            place = memory.word(int(self.objects.types[kind]) + layout("PyTypeObject.tp_dictoffset"))
            if int(self.objects.flags[kind]) & MANAGED_DICT and layout.version >= (3, 11):
                self._managed(kind, members, address)
            elif 0 < place < 1 << 16 and bases.isdisjoint(("type", "module", "function")):
                value = memory.read(address + np.uint64(place))
                self.add(members, value, self.name("__dict__"), INTERNAL)

    def _managed(self, kind: int, members: Numbers, address: Words) -> None:
        values, spaces = self._values(kind, address)
        self.add(members, spaces, self.name("__dict__"), INTERNAL)
        names = self._attributes(kind)
        if names:
            has = values != 0
            for position, text in enumerate(names):
                value = self.objects.memory.read(
                    values[has] + np.uint64(value_base(self.objects.layout) + 8 * position)
                )
                self.add(members[has], value, self.name(text), PROPERTY)

    def _values(self, kind: int, address: Words) -> tuple[Words, Words]:
        """(values beside each object, its dict), 0 where it has none.

        3.11: values and dict 4 and 3 words in front; 3.12: one word for either; 3.13: values behind the object.
        """
        memory, version = self.objects.memory, self.objects.layout.version
        spaces = memory.read(address - np.uint64(24))
        if version == (3, 11):
            return memory.read(address - np.uint64(32)), spaces
        if version == (3, 12):
            is_values = (spaces & np.uint64(1)) != 0
            return np.where(is_values, spaces + np.uint64(1), 0), np.where(is_values, 0, spaces)
        inline = bool(int(self.objects.flags[kind]) & INLINE_VALUES)
        values = address + np.uint64(int(self.objects.basic[kind])) if inline else np.zeros(len(address), np.uint64)
        valid = (memory.read(values) >> np.uint64(24)) & np.uint64(0xFF)  # PyDictValues.valid
        return np.where(valid == 1, values, np.uint64(0)), spaces

    def _attributes(self, kind: int) -> list[str]:
        """Names of the values beside the objects of a type, in their order."""
        memory, layout = self.objects.memory, self.objects.layout
        keys = memory.word(int(self.objects.types[kind]) + layout("PyHeapTypeObject.ht_cached_keys"))
        if not keys:
            return []
        first, count, table = key_columns(memory, layout, np.array([keys], np.uint64))
        if table[0] != SPLIT or count[0] > MOST_ATTRIBUTES:
            return []
        return [self.strings(memory.word(int(first[0]) + 16 * position)) or KEY for position in range(int(count[0]))]

    def attribute(self, address: int, name: str) -> int:
        """Address of one attribute of an object with attributes of its own, 0 for none."""
        node = int(self.objects.number(np.array([address], np.uint64))[0])
        if node < 0:
            return 0
        memory, layout, kind = self.objects.memory, self.objects.layout, int(self.objects.kind[node])
        space = memory.word(address + memory.word(int(self.objects.types[kind]) + layout("PyTypeObject.tp_dictoffset")))
        if int(self.objects.flags[kind]) & MANAGED_DICT and layout.version >= (3, 11):
            values, spaces = self._values(kind, np.array([address], np.uint64))
            names, space = self._attributes(kind), int(spaces[0])
            if values[0] and name in names:
                return memory.word(int(values[0]) + value_base(layout) + 8 * names.index(name))
        entries = entries_of(memory, layout, np.array([space], np.uint64))
        pairs = zip(entries.key.tolist(), entries.value.tolist(), strict=True)
        return next((value for key, value in pairs if self.strings(key) == name), 0)

    def _dicts(self) -> None:
        """A key of a namespace is a name; any other only where that very string stands in loaded code."""
        members = self.of_family("dict")
        entries = entries_of(self.objects.memory, self.objects.layout, self.objects.address[members])
        spaces = np.isin(members, self._namespaces())
        keys, inverse = np.unique(entries.key, return_inverse=True)
        in_code = np.isin(keys, self._in_code)
        in_space = np.zeros(len(keys), np.bool_)
        in_space[inverse[spaces[entries.which]]] = True
        other = self.name(KEY)
        names = np.full(len(keys), other, np.int64)
        for at in np.flatnonzero(in_space | in_code).tolist():
            text = self.strings(int(keys[at]))
            names[at] = other if text is None else self.name(text)
        shown = in_code[inverse] | spaces[entries.which]
        self.add(members[entries.which], entries.value, np.where(shown, names[inverse], other), PROPERTY)
        self.add(members[entries.which], entries.key, self.name("<key>"), PROPERTY)

    def _namespaces(self) -> Numbers:
        """Dicts that an object, a type, a module or a function has for its attributes."""
        numbers = {self.name("__dict__"), self.name("__kwdefaults__"), self.name("__globals__")}
        found = [
            part.target
            for part in self._parts
            if part.kind != ELEMENT and isinstance(part.name, int) and part.name in numbers
        ]
        return np.unique(np.concatenate([np.zeros(0, np.int32), *found]))

    def read_code(self, running: list[int]) -> None:
        """Learn which texts stand in loaded code: that of all functions, what is defined in it, and ``running``."""
        memory, layout = self.objects.memory, self.objects.layout
        address = self.objects.address[self.of_family("function")]
        codes = memory.read(address + np.uint64(layout("PyFunctionObject.func_code")))
        new = distinct(np.concatenate([codes, np.array(running, np.uint64)]))
        found, known = [np.zeros(0, np.uint64)], new
        kind = memory.read(new[:1] + np.uint64(8))
        while len(new):
            for field in ("co_names", "co_consts", "co_localsplusnames", "co_varnames"):
                offset = layout.get(f"PyCodeObject.{field}")
                if offset is not None:
                    found.append(self._in_tuples(distinct(memory.read(new + np.uint64(offset)))))
            inside = distinct(np.concatenate(found))
            inside = inside[memory.read(inside + np.uint64(8)) == kind]
            new = inside[~np.isin(inside, known)]
            known = np.concatenate([known, new])
        self._in_code = distinct(np.concatenate(found))

    def _in_tuples(self, tuples: Words) -> Words:
        memory = self.objects.memory
        count = memory.read(tuples + np.uint64(16)).astype(np.int64)
        which, position = ragged(np.where((count > 0) & (count < 1 << 20), count, 0))
        start = tuples[which] + np.uint64(self.objects.layout("PyTupleObject.ob_item"))
        return memory.read(start + position.astype(np.uint64) * np.uint64(8))
