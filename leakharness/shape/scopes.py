"""The scopes of a module while they are read, and what a name in one of them stands for.

Mutable, one `Scope` for each function, class, lambda and comprehension: `scope_visitor` fills them from the syntax
tree, `read` turns them into a frozen `Shape`. How a name is looked up follows the language reference, section 4.2
"Naming and binding".
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from leakharness.shape.model import COMPREHENSIONS, Parameter

__all__ = [
    "TYPE_PARAMETERS",
    "HandedOver",
    "RawStep",
    "Reference",
    "Scope",
    "all_scopes",
    "keeping_functions",
    "resolve",
    "variables_among",
]

TYPE_PARAMETERS = "type parameters"
"""Kind of the scope that PEP 695 puts around a generic function, class or alias."""
CALLS_THAT_KEEP = frozenset(["class", "async function", "generator", "async generator", "generator expression"])
"""Kinds whose call gives an object that keeps the scope: an instance its methods, a coroutine its frame."""


@dataclass(eq=False)
class Reference:
    """A mention of what may be a nested function: a name to look up, or the scope itself (a lambda)."""

    target: str | Scope
    called: bool = False
    along: tuple[str, ...] = ()


@dataclass(eq=False)
class HandedOver:
    """Nested functions given to something that may keep them; ``to`` and ``along`` as in `model.HandOver`."""

    to: str
    receiver: str
    references: list[Reference]
    along: tuple[str, ...]


@dataclass(eq=False)
class RawStep:
    """A `model.Step` whose scopes have no paths yet."""

    kind: str
    line: int
    name: str = ""
    child: Scope | None = None
    handed: HandedOver | None = None


@dataclass(eq=False)
class Scope:
    """One scope. ``bound`` and ``used`` are the names it assigns and reads, in order; ``free`` and ``cells`` are known
    once `resolve` has seen it. ``functions`` are the nested functions that a name of it may stand for.
    """

    kind: str
    name: str
    line: int
    parent: Scope | None
    node: ast.AST
    parameters: list[Parameter] = field(default_factory=list)
    bound: dict[str, None] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    global_names: set[str] = field(default_factory=set)
    nonlocal_names: set[str] = field(default_factory=set)
    free: set[str] = field(default_factory=set)
    cells: set[str] = field(default_factory=set)
    functions: dict[str, list[Reference]] = field(default_factory=dict)
    steps: list[RawStep] = field(default_factory=list)
    children: list[Scope] = field(default_factory=list)

    @property
    def is_comprehension(self) -> bool:
        return self.kind in COMPREHENSIONS.values() or self.kind == "generator expression"

    @property
    def own(self) -> set[str]:
        """Names this scope itself holds, which inner scopes can capture (a class's names they cannot)."""
        if self.kind == "module":
            return set()
        if self.kind == "class":
            return {"__class__"}
        return set(self.bound) - self.global_names - self.nonlocal_names


def all_scopes(scope: Scope) -> Iterator[Scope]:
    yield scope
    for child in scope.children:
        yield from all_scopes(child)


def resolve(scope: Scope) -> None:
    """Mark each name that ``scope`` takes from an enclosing function as free on the way up, and as a cell
    there.
    """
    wanted = [name for name in scope.used if name not in scope.bound] + sorted(scope.nonlocal_names)
    for name in wanted:
        if name in scope.global_names:
            continue
        way = [scope]
        outer = scope.parent
        while outer is not None and name not in outer.own and not _is_global_in(outer, name):
            way.append(outer)
            outer = outer.parent
        if outer is not None and name in outer.own:
            outer.cells.add(name)
            for inner in way:
                inner.free.add(name)


def _is_global_in(scope: Scope, name: str) -> bool:
    return scope.kind != "class" and name in scope.global_names


def functions_meant(
    reference: Reference, scope: Scope | None, seen: frozenset[str] = frozenset()
) -> list[tuple[Scope, bool, tuple[str, ...]]]:
    """The nested functions that ``reference`` may stand for: (scope, was it called, variables bound with
    it).
    """
    if isinstance(reference.target, Scope):
        return [(reference.target, reference.called, reference.along)]
    name = reference.target
    if scope is None or scope.kind != "class" or name not in scope.bound:
        while scope is not None and name not in scope.own:
            scope = scope.parent
    if scope is None or name in seen:
        return []
    return [
        (function, called or reference.called, (*reference.along, *along))
        for meant in scope.functions.get(name, [])
        for function, called, along in functions_meant(meant, scope, seen | {name})
    ]


def keeping_functions(reference: Reference, scope: Scope) -> list[tuple[Scope, bool, tuple[str, ...]]]:
    """Those of `functions_meant` that whoever gets the object keeps: not what a plain function's call gives."""
    return [item for item in functions_meant(reference, scope) if not item[1] or item[0].kind in CALLS_THAT_KEEP]


def variables_among(names: Iterable[str], scope: Scope | None) -> tuple[str, ...]:
    """Those of ``names`` that are variables of ``scope`` or of a function around it, and no nested
    function.
    """
    found = []
    for name in names:
        holder = scope
        while holder is not None and name not in holder.own:
            holder = holder.parent
        if holder is not None and not keeping_functions(Reference(name), holder):
            found.append(name)
    return tuple(dict.fromkeys(found))
