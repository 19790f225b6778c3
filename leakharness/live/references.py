"""Which tracked object refers to which, and under what name."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from leakharness.heap.capture_tables import Edges
from leakharness.heap.graph import EDGE_KINDS
from leakharness.live.dicts import SPLIT, Strings, entries_of, key_columns, ragged, value_base
from leakharness.live.objects import HEAP_TYPE, Objects

__all__ = ["Edges", "References"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

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
DEEPEST_BASES = 60
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
            ("traceback", "__traceback__", PROPERTY),
            ("context", "__context__", PROPERTY),
            ("cause", "__cause__", PROPERTY),
        )
    ),
    "function": (
        *((f"PyFunctionObject.func_{n}", f"__{n}__", PROPERTY) for n in ("defaults", "kwdefaults", "dict")),
        *(
            (f"PyFunctionObject.func_{n}", f"__{n}__", INTERNAL)
            for n in ("globals", "builtins", "code", "closure", "module", "annotations")
        ),
    ),
    "type": tuple(
        (f"PyTypeObject.tp_{name}", f"__{name}__", PROPERTY if name == "dict" else INTERNAL)
        for name in ("dict", "mro", "bases", "base")
    ),
}  # fmt: skip
"""Fields of static types whose members are no ``PyMemberDef``: (offset, name, edge kind) by the type's own name."""
CLOSED = ("cell", "function", "type", "module", "list", "tuple", "dict", "set", "frozenset")
"""Types (and what derives from them) whose struct has no further owned reference worth a name."""


class References:
    """Collects the edges of all objects; ``names`` are the strings that they use."""

    def __init__(self, objects: Objects, strings: Strings) -> None:
        self.objects, self.strings = objects, strings
        self.names: dict[str, int] = {"": 0}
        self._parts: list[Edges] = []
        self._base_names = [self._bases(int(kind)) for kind in objects.types]
        self._by_type: dict[int, Ints] = {}
        order = np.argsort(objects.type, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(objects.type[order])) + 1):
            self._by_type[int(objects.type[members[0]])] = members

    def name(self, text: str) -> int:
        """Number of a string."""
        return self.names.setdefault(text, len(self.names))

    def of_family(self, *families: str) -> Ints:
        """Objects whose type is, or derives from, one of the static types of these names."""
        found = [self._by_type[kind] for kind, bases in enumerate(self._base_names) if not bases.isdisjoint(families)]
        return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def collect(self) -> Edges:
        """Every edge between two tracked objects."""
        self._fields()
        self._sequences()
        self._sets()
        self._instances()
        self._dicts()
        self._closures()
        parts = self._parts
        return Edges(
            *(
                np.concatenate([getattr(part, column) for part in parts])
                for column in ("source", "target", "name", "kind")
            )
        )

    # -- adding

    def _add(self, source: Ints, value: Words, name: Ints | int, kind: int) -> None:
        target = self.objects.number(value)
        known = target >= 0
        names = np.broadcast_to(np.asarray(name, np.int64), source.shape)[known]
        self._parts.append(Edges(source[known], target[known], names, np.full(int(known.sum()), kind, np.int64)))

    def _bases(self, kind: int) -> set[str]:
        """Names of the static types that a type is or derives from."""
        memory, layout = self.objects.memory, self.objects.layout
        found: set[str] = set()
        for _ in range(DEEPEST_BASES):
            if not kind:
                break
            if not memory.word(kind + layout("PyTypeObject.tp_flags")) & HEAP_TYPE:
                found.add(memory.c_string(memory.word(kind + layout("PyTypeObject.tp_name"))))
            kind = memory.word(kind + layout("PyTypeObject.tp_base"))
        return found

    # -- by kind of object

    def _fields(self) -> None:
        """Declared members and known fields by name; what else is a reference is named by the type of its target."""
        memory, layout = self.objects.memory, self.objects.layout
        weaklist = memory.read(self.objects.types + np.uint64(layout("PyTypeObject.tp_weaklistoffset"))).astype(
            np.int64
        )
        for kind, members in self._by_type.items():
            bases = self._base_names[kind]
            named = self._members(int(self.objects.types[kind]))
            for family, fields in FIELDS.items():
                if family in bases:
                    named.update(
                        {layout.offsets[field]: (name, edge) for field, name, edge in fields if field in layout.offsets}
                    )
            address = self.objects.address[members]
            for offset, (name, edge) in named.items():
                self._add(members, memory.read(address + np.uint64(offset)), self.name(name), edge)
            if bases.isdisjoint(CLOSED):
                skip = {*named, int(weaklist[kind])}
                is_weak = any("weakref" in base or "weakproxy" in base for base in bases)
                for offset in range(16, min(int(self.objects.basic[kind]), 1024), 8):
                    if offset not in skip:
                        self._unnamed(members, memory.read(address + np.uint64(offset)), weak=is_weak and offset == 16)

    def _unnamed(self, members: Ints, values: Words, *, weak: bool) -> None:
        target = self.objects.number(values)
        known = np.flatnonzero(target >= 0)
        for kind in np.unique(self.objects.type[target[known]]).tolist():
            which = known[self.objects.type[target[known]] == kind]
            short = self.objects.c_name[kind].rpartition(".")[2]
            name = self.name("<referent>" if weak else f"<{short}>")
            self._add(members[which], values[which], name, WEAK if weak else INTERNAL)

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
                if (
                    memory.word(at + layout("PyMemberDef.type")) & 0xFFFFFFFF in OBJECT_MEMBERS
                    and 16 <= offset < 1 << 16
                ):
                    found.setdefault(offset, (memory.c_string(name), PROPERTY))
                at += 40  # sizeof(PyMemberDef)
            kind = memory.word(kind + layout("PyTypeObject.tp_base")) if kind else 0
        return found

    def _sequences(self) -> None:
        memory, layout = self.objects.memory, self.objects.layout
        for family, in_place in (("list", False), ("tuple", True)):
            members = self.of_family(family)
            address = self.objects.address[members]
            count = memory.read(address + np.uint64(16)).astype(np.int64)
            start = address + np.uint64(layout("PyTupleObject.ob_item"))
            if not in_place:
                start = memory.read(address + np.uint64(layout("PyListObject.ob_item")))
            self._items(members, start, count)

    def _items(self, members: Ints, start: Words, count: Ints) -> None:
        fits = (count > 0) & (count < MOST_ITEMS)
        last = start + np.where(fits, (count - 1) * 8, 0).astype(np.uint64)
        fits &= self.objects.memory.index(last) - self.objects.memory.index(start) == count - 1
        which, position = ragged(np.where(fits, count, 0))
        value = self.objects.memory.read(start[which] + position.astype(np.uint64) * np.uint64(8))
        self._add(members[which], value, position, ELEMENT)

    def _sets(self) -> None:
        """Entries are (key, hash) (Include/cpython/setobject.h)."""
        memory, layout = self.objects.memory, self.objects.layout
        members = self.of_family("set", "frozenset")
        address = self.objects.address[members]
        table = memory.read(address + np.uint64(layout("PySetObject.table")))
        size = memory.read(address + np.uint64(layout("PySetObject.mask"))).astype(np.int64) + 1
        fits = (
            (size > 0)
            & (size < MOST_ITEMS)
            & (memory.index(table + (np.maximum(size, 1) * 16 - 8).astype(np.uint64)) >= 0)
        )
        which, position = ragged(np.where(fits, size, 0))
        value = memory.read(table[which] + position.astype(np.uint64) * np.uint64(16))
        self._add(members[which], value, position, ELEMENT)

    def _instances(self) -> None:
        """Attributes: a dict where the type says, values beside the object from 3.11 on."""
        memory, layout = self.objects.memory, self.objects.layout
        place = memory.read(self.objects.types + np.uint64(layout("PyTypeObject.tp_dictoffset"))).astype(np.int64)
        for kind, members in self._by_type.items():
            address = self.objects.address[members]
            if int(self.objects.flags[kind]) & MANAGED_DICT and layout.version >= (3, 11):
                self._managed(kind, members, address)
            elif 0 < place[kind] < 1 << 16 and self._base_names[kind].isdisjoint(("type", "module", "function")):
                value = memory.read(address + np.uint64(place[kind]))
                self._add(members, value, self.name("__dict__"), INTERNAL)

    def _managed(self, kind: int, members: Ints, address: Words) -> None:
        """3.11: values and dict 4 and 3 words in front; 3.12: one word for either; 3.13: values behind the object."""
        memory, version = self.objects.memory, self.objects.layout.version
        spaces = memory.read(address - np.uint64(24))
        if version == (3, 11):
            values = memory.read(address - np.uint64(32))
        elif version == (3, 12):
            is_values = (spaces & np.uint64(1)) != 0
            values, spaces = np.where(is_values, spaces + np.uint64(1), 0), np.where(is_values, 0, spaces)
        else:
            inline = bool(int(self.objects.flags[kind]) & INLINE_VALUES)
            values = address + np.uint64(int(self.objects.basic[kind])) if inline else np.zeros(len(address), np.uint64)
            valid = (memory.read(values) >> np.uint64(24)) & np.uint64(0xFF)  # PyDictValues.valid
            values = np.where(valid == 1, values, np.uint64(0))
        self._add(members, spaces, self.name("__dict__"), INTERNAL)
        layout = self.objects.layout
        keys = memory.word(int(self.objects.types[kind]) + layout("PyHeapTypeObject.ht_cached_keys"))
        if not keys:
            return
        first, count, table = key_columns(memory, layout, np.array([keys], np.uint64))
        if table[0] != SPLIT or count[0] > 64:
            return
        has = values != 0
        for position in range(int(count[0])):
            text = self.strings(memory.word(int(first[0]) + 16 * position)) or "<str>"
            value = memory.read(values[has] + np.uint64(value_base(layout) + 8 * position))
            self._add(members[has], value, self.name(text), PROPERTY)

    def _dicts(self) -> None:
        """A key of a namespace is a name; any other only where that very string stands in loaded code."""
        members = self.of_family("dict")
        entries = entries_of(self.objects.memory, self.objects.layout, self.objects.address[members])
        spaces = np.isin(members, self._namespaces())
        keys, inverse = np.unique(entries.key, return_inverse=True)
        in_code = self._strings_of_code()
        in_space = np.zeros(len(keys), np.bool_)
        in_space[inverse[spaces[entries.which]]] = True
        shown = in_space | np.isin(keys, in_code)
        other = self.name("<key>")
        names = np.full(len(keys), other, np.int64)
        for at in np.flatnonzero(shown).tolist():
            text = self.strings(int(keys[at]))
            names[at] = self.name(text) if text is not None and text.replace(".", "_").isidentifier() else other
        plain = np.isin(keys, in_code)[inverse] | spaces[entries.which]
        named = np.where(plain, names[inverse], other)
        self._add(members[entries.which], entries.value, named, PROPERTY)
        self._add(members[entries.which], entries.key, other, PROPERTY)

    def _namespaces(self) -> Ints:
        """Dicts that an object, a type, a module or a function has for its attributes."""
        number = self.name("__dict__")
        found = [part.target[part.name == number] for part in self._parts if len(part.kind) and part.kind[0] != ELEMENT]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def _strings_of_code(self) -> Words:
        """Addresses of the names and constants of all code objects."""
        memory, layout = self.objects.memory, self.objects.layout
        codes = np.unique(
            memory.read(
                self.objects.address[self.of_family("function")] + np.uint64(layout("PyFunctionObject.func_code"))
            )
        )
        found = [np.zeros(0, np.uint64)]
        for field in ("co_names", "co_consts", "co_localsplusnames", "co_varnames"):
            offset = layout.get(f"PyCodeObject.{field}")
            if offset is not None:
                tuples = np.unique(memory.read(codes + np.uint64(offset)))
                count = memory.read(tuples + np.uint64(16)).astype(np.int64)
                which, position = ragged(np.where((count > 0) & (count < 1 << 20), count, 0))
                start = tuples[which] + np.uint64(layout("PyTupleObject.ob_item"))
                found.append(memory.read(start + position.astype(np.uint64) * np.uint64(8)))
        return np.unique(np.concatenate(found))

    def _closures(self) -> None:
        """From a function to its cells, by the names of its code's free variables."""
        memory, layout = self.objects.memory, self.objects.layout
        members = self.of_family("function")
        address = self.objects.address[members]
        closure = memory.read(address + np.uint64(layout("PyFunctionObject.func_closure")))
        has = closure != 0
        code = memory.read(address[has] + np.uint64(layout("PyFunctionObject.func_code")))
        by_code: defaultdict[int, list[int]] = defaultdict(list)
        for at, key in enumerate(code.tolist()):
            by_code[key].append(at)
        members, closure = members[has], closure[has]
        for key, places in by_code.items():
            which = np.array(places, np.int64)
            for position, text in enumerate(self.free_variables(key)):
                item = np.uint64(layout("PyTupleObject.ob_item") + 8 * position)
                self._add(members[which], memory.read(closure[which] + item), self.name(text), CONTEXT)

    def free_variables(self, code: int) -> list[str]:
        """Names of the free variables of a code object: the last of its local names (3.11 and later)."""
        memory, layout = self.objects.memory, self.objects.layout
        direct = layout.get("PyCodeObject.co_freevars")
        if direct is not None:
            names = memory.word(code + direct)
            first, last = 0, memory.word(names + 16)
        else:
            names = memory.word(code + layout("PyCodeObject.co_localsplusnames"))
            last = memory.word(names + 16)
            free = memory.word((code + layout("PyCodeObject.co_nfreevars")) & ~7)
            shift = 32 if layout("PyCodeObject.co_nfreevars") % 8 else 0
            first = last - ((free >> shift) & 0xFFFFFFFF)
        item = layout("PyTupleObject.ob_item")
        if not 0 <= first <= last < 1 << 16:
            return []
        return [self.strings(memory.word(names + item + 8 * place)) or "?" for place in range(first, last)]
