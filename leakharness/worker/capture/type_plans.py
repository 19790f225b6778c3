"""How the references of one type get their names, without running a line of the program's code.

Everything goes through descriptors that C defines (``MemberDescriptorType``, ``GetSetDescriptorType``), taken
from the ``__dict__`` of a class in the MRO: never ``getattr``, ``repr``, ``==`` or ``hash`` of an object of
the program.
"""

from __future__ import annotations

import collections
import functools
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from leakharness.worker.unpatched import gc

__all__ = [
    "CONTEXT",
    "ELEMENT",
    "FAMILIES",
    "INTERNAL",
    "OBJECT_DTYPES",
    "PROPERTY",
    "READY",
    "WEAK",
    "Plan",
    "PlanBook",
    "takes_weak_references",
    "type_dict",
    "type_mro",
    "type_name",
]

CONTEXT, ELEMENT, PROPERTY, INTERNAL, WEAK = 0, 1, 2, 3, 6
"""Edge kinds, numbered as in V8's ``edge_types`` (see ``heap/graph.py``)."""

FAMILIES = (
    "other", "dict", "list", "tuple", "deque", "set", "cell", "function", "code", "module", "type", "frame",
    "generator", "weakref", "future", "lru_cache", "hamt", "contextvar", "ndarray",
)  # fmt: skip
"""Kinds of type that need their own naming; the number of one is its index."""

Getter = Callable[[Any], Any]

_type_mro: Callable[[type], tuple[type, ...] | None] = type.__dict__["__mro__"].__get__
_weak_offset: Callable[[type], int] = type.__dict__["__weakrefoffset__"].__get__
_type_proxy: Callable[[type], Any] = type.__dict__["__dict__"].__get__
_type_module: Callable[[type], Any] = type.__dict__["__module__"].__get__
_type_qualname: Callable[[type], Any] = type.__dict__["__qualname__"].__get__
type_flags: Callable[[type], int] = type.__dict__["__flags__"].__get__
type_itemsize: Callable[[type], int] = type.__dict__["__itemsize__"].__get__
type_basicsize: Callable[[type], int] = type.__dict__["__basicsize__"].__get__

_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_GENERATORS = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)
_ARRAY = "numpy.ndarray"
OBJECT_DTYPES = ("numpy.dtypes.ObjectDType", "numpy.dtype[object_]")
"""Type names of the dtype of arrays of objects: numpy 1.25 and later, and before."""
_HAMT_NODES = ("hamt_bitmap_node", "hamt_array_node", "hamt_collision_node")  # Python/hamt.c
HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: made at run time, and so listed by the collector."""
TYPE_SUBCLASS = 1 << 31
"""Py_TPFLAGS_TYPE_SUBCLASS: instances are types. (``isinstance`` would ask the object for ``__class__``.)"""
HAVE_GC = 1 << 14
"""Py_TPFLAGS_HAVE_GC."""
READY = 1 << 12
"""Py_TPFLAGS_READY: a static type without it has no dict and no MRO yet, and on 3.10 and 3.11 asking it for its bases
ends the process. C modules may show such types (``_testcapi`` does)."""
_DICT_MEMBERS = ("__dict__", "__weakref__")


def type_dict(kind: type) -> dict[str, Any]:
    """The real dict behind ``kind.__dict__``; an empty one where the type is not `READY`."""
    found: list[dict[str, Any]] = gc.get_referents(_type_proxy(kind))
    return found[0] if found else {}


def takes_weak_references(kind: type) -> bool:
    """Whether instances of ``kind`` can be weakly referenced."""
    return bool(_weak_offset(kind))


def type_mro(kind: type) -> tuple[type, ...]:
    """The classes in which attributes of ``kind`` are looked up; none where the type is not `READY`."""
    return _type_mro(kind) or ()


def type_name(kind: type) -> str:
    """Module-qualified name; ``builtins.`` is dropped."""
    try:
        module, qualname = _type_module(kind), _type_qualname(kind)
    except Exception:  # a class may delete its __module__
        module, qualname = None, _type_qualname(kind)
    if type(module) is not str or module == "builtins":
        return str(qualname)
    return f"{module}.{qualname}"


class Plan(NamedTuple):
    """What to read from objects of one type. ``attributes`` gives an instance's dict; ``columns`` are fixed
    names."""

    family: int
    attributes: Getter | None
    columns: tuple[tuple[str, int, Getter], ...]
    sizeof: Getter | None
    constant_size: bool
    own_sizeof: bool


def _getter(kind: type, name: str) -> Getter | None:
    """The C-level descriptor ``name`` of ``kind`` itself, bound for use as a function of the object."""
    found: Any = type_dict(kind).get(name)
    return found.__get__ if type(found) in _DESCRIPTORS else None


def _columns(kind: type, names: dict[str, int]) -> tuple[tuple[str, int, Getter], ...]:
    found = ((name, edge, _getter(kind, name)) for name, edge in names.items())
    return tuple((name, edge, getter) for name, edge, getter in found if getter is not None)


_FUNCTION = {
    "__code__": INTERNAL,
    "__globals__": INTERNAL,
    "__builtins__": INTERNAL,
    "__name__": INTERNAL,
    "__qualname__": INTERNAL,
    "__doc__": INTERNAL,
    "__module__": INTERNAL,
    "__closure__": INTERNAL,
    "__defaults__": PROPERTY,
    "__kwdefaults__": PROPERTY,
}
_EXCEPTION = dict.fromkeys(("__traceback__", "__context__", "__cause__", "args"), PROPERTY)
_TRACEBACK = dict.fromkeys(("tb_frame", "tb_next"), PROPERTY)
_BUILTIN = {"__self__": PROPERTY, "__module__": INTERNAL}
_FUTURE = dict.fromkeys(("_loop", "_result", "_exception", "_source_traceback"), PROPERTY)
_TASK = dict.fromkeys(("_coro", "_fut_waiter"), PROPERTY)
_CODE = dict.fromkeys(
    ("co_consts", "co_names", "co_filename", "co_name", "co_qualname", "co_linetable", "co_exceptiontable"),
    INTERNAL,
)


class PlanBook:
    """The plan of every type met, by the type's id. ``gentle`` leaves out reads that would change the
    object."""

    def __init__(self, gentle: bool) -> None:
        self._gentle = gentle
        self._plans: dict[int, Plan] = {}
        asyncio_c = sys.modules.get("_asyncio")
        self._future = getattr(asyncio_c, "Future", None)
        self._task = getattr(asyncio_c, "Task", None)
        self._families = _family_of_base()
        if isinstance(self._future, type):
            self._families[id(self._future)] = FAMILIES.index("future")
        if isinstance(self._task, type):
            self._families[id(self._task)] = FAMILIES.index("future")

    def of(self, kind: type) -> Plan:
        plan = self._plans.get(id(kind))
        if plan is None:
            plan = self._plans[id(kind)] = self._make(kind)
        return plan

    def _make(self, kind: type) -> Plan:
        mro = type_mro(kind)
        family = next((self._families[id(base)] for base in mro if id(base) in self._families), 0)
        sizeof, constant, own_sizeof = _sizeof(kind, mro)
        if type_name(kind) in _HAMT_NODES and not type_flags(kind) & HEAP_TYPE:
            family = FAMILIES.index("hamt")
        elif any(not type_flags(base) & HEAP_TYPE and type_name(base) == _ARRAY for base in mro):
            family = FAMILIES.index("ndarray")
        name = FAMILIES[family]
        columns: list[tuple[str, int, Getter]] = []
        attributes: Getter | None = None
        if name == "function":
            columns += _columns(types.FunctionType, _FUNCTION)
        elif name == "code":
            columns += _columns(types.CodeType, _CODE)
        elif name == "module":
            columns += _columns(types.ModuleType, {"__dict__": INTERNAL})
        elif name not in ("type", "frame", "generator", "cell"):
            attributes = self._instance_dict(mro)
            columns += _members(mro)
            columns += self._extra_columns(mro)
        return Plan(family, attributes, tuple(columns), sizeof, constant, own_sizeof)

    def _extra_columns(self, mro: tuple[type, ...]) -> list[tuple[str, int, Getter]]:
        found: list[tuple[str, int, Getter]] = []
        for base in mro:
            if base is BaseException:
                found += _columns(base, _EXCEPTION)
            elif base is types.TracebackType:
                found += _columns(base, _TRACEBACK)
            elif base is types.BuiltinFunctionType:
                found += _columns(base, _BUILTIN)
            elif base is self._future:
                found += _columns(base, _FUTURE)
            elif base is self._task:
                found += _columns(base, {**_FUTURE, **_TASK})
        return found

    def _instance_dict(self, mro: tuple[type, ...]) -> Getter | None:
        for base in mro:
            getter = _getter(base, "__dict__")
            if getter is not None:
                # On 3.11 and 3.12 reading it would give a plain instance a dict it did not have.
                return None if self._gentle and (3, 11) <= sys.version_info < (3, 13) else getter
        return None


def _family_of_base() -> dict[int, int]:
    bases: list[tuple[type, str]] = [
        (dict, "dict"),
        (list, "list"),
        (tuple, "tuple"),
        (collections.deque, "deque"),
        (set, "set"),
        (frozenset, "set"),
        (types.CellType, "cell"),
        (types.FunctionType, "function"),
        (types.CodeType, "code"),
        (types.ModuleType, "module"),
        (type, "type"),
        (types.FrameType, "frame"),
        *((kind, "generator") for kind in _GENERATORS),
        (weakref.ReferenceType, "weakref"),
        (type(functools.lru_cache(maxsize=1)(len)), "lru_cache"),
    ]
    contextvars = sys.modules.get("_contextvars")
    if contextvars is not None:
        bases.append((contextvars.ContextVar, "contextvar"))
    return {id(base): FAMILIES.index(family) for base, family in bases}


def _members(mro: tuple[type, ...]) -> list[tuple[str, int, Getter]]:
    """``__slots__`` and the members that C types declare."""
    found: list[tuple[str, int, Getter]] = []
    for base in mro:
        for name, member in type_dict(base).items():
            if type(member) is types.MemberDescriptorType and type(name) is str and name not in _DICT_MEMBERS:
                found.append((name, PROPERTY, member.__get__))
    return found


def _sizeof(kind: type, mro: tuple[type, ...]) -> tuple[Getter | None, bool, bool]:
    """``(function, constant, own)``: the first ``__sizeof__`` that C defines; whether it gives all objects of
    the type the same size (it is object's, and the type has no items); whether the program defines one of its
    own."""
    own = False
    for base in mro:
        found = type_dict(base).get("__sizeof__")
        if type(found) is types.MethodDescriptorType:
            return found, base is object and type_itemsize(kind) == 0, own
        own = own or found is not None
    return None, True, own
