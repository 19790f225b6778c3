"""The lexical shape of a function: what its closures can keep, and in which order it does what matters.

A Python closure keeps exactly the variables it names, so the shape of a leak is lexical: the tree of nested
functions and what each captures. `Shape` is that tree as frozen values, the same on every interpreter (a list
comprehension is a scope of its own here, though 3.12 and later inline it). `leakharness.shape.read` reads
it from source text, `shape_of_code` from a code object, where names and captures are known and the order of
steps is not.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = [
    "COMPREHENSIONS",
    "HandOver",
    "Parameter",
    "ScopePath",
    "Shape",
    "Step",
    "shape_of_code",
    "walk",
    "without_comprehensions",
]

ScopePath = tuple[int, ...]
"""Where a nested scope stands in a tree: child numbers from the root; ``()`` is the root itself."""

COMPREHENSIONS = {
    "<listcomp>": "list comprehension",
    "<setcomp>": "set comprehension",
    "<dictcomp>": "dict comprehension",
}
"""Scopes that die with the expression they are part of, by the name their code object has."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; ``default_names`` are the variables of the enclosing function that its default value
    names.
    """

    name: str
    kind: str  # "positional-only", "positional", "*", "keyword-only" or "**"
    default_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HandOver:
    """A nested function given to something that may keep it.

    ``to`` is the name called (``add_done_callback``), or ``.attr =``, ``[...] =``, ``return``, ``yield``,
    ``@decorator``; ``along`` are the variables given in the same breath, which are kept as long as the
    function is.
    """

    function: ScopePath
    name: str
    to: str
    receiver: str = ""
    along: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a function does, in source order.

    ``kind``: ``await``, ``yield``, ``yield from``, ``async for``, ``async with``, ``with``, ``try``,
    ``except``, ``else``, ``finally``, ``end`` (of the block), ``define`` (a nested scope), ``hand over``,
    ``release`` (``del x`` or ``x = None``).
    """

    kind: str
    line: int
    name: str = ""
    child: int | None = None
    hand_over: HandOver | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """One scope and all scopes in it.

    ``captures`` are its free variables (``co_freevars``), ``cells`` those of its own variables that inner
    scopes capture (``co_cellvars``), ``locals`` its variables that are not parameters, in order of first
    binding. ``has_steps`` is False where the shape was read from a code object: then ``steps`` are unknown,
    not empty.
    """

    kind: str
    name: str
    line: int
    parameters: tuple[Parameter, ...] = ()
    locals: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    captures: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    children: tuple[Shape, ...] = ()
    has_steps: bool = True

    @property
    def variables(self) -> tuple[str, ...]:
        """All names that hold an object while it runs: parameters, locals, and what it captures itself."""
        names = [parameter.name for parameter in self.parameters]
        return tuple(dict.fromkeys([*names, *self.locals, *self.captures]))

    @property
    def is_async(self) -> bool:
        return self.kind.startswith("async")

    @property
    def is_comprehension(self) -> bool:
        return self.kind in COMPREHENSIONS.values()


def walk(shape: Shape, path: ScopePath = ()) -> Iterator[tuple[ScopePath, Shape]]:
    """Each scope of the tree with its path, a parent before its children."""
    yield path, shape
    for number, child in enumerate(shape.children):
        yield from walk(child, (*path, number))


def without_comprehensions(shape: Shape) -> Shape:
    """The same tree with list, set and dict comprehensions inlined, as 3.12 and later compile them.

    Their variables become locals of the scope around them, and a variable that only they capture is no cell.
    Paths in hand-overs are not renumbered, so this is for trees read from code objects.
    """
    own: list[str] = list(shape.locals)
    cells: list[str] = list(shape.cells)
    children: list[Shape] = []
    for child in map(without_comprehensions, shape.children):
        if child.is_comprehension:
            own += child.locals
            cells += child.cells
            children += child.children
        else:
            children.append(child)
    captured = {name for child in children for name in child.captures}
    return replace(
        shape,
        locals=tuple(dict.fromkeys(own)),
        cells=tuple(sorted({name for name in cells if name in captured or name == "__class__"})),
        children=tuple(children),
    )


DEFERRED_ANNOTATIONS = "__annotate__"
"""The compiler's function that evaluates annotations, from 3.14 on (PEP 649): none that the source has."""


def shape_of_code(code: types.CodeType) -> Shape:
    """The shape of compiled code: captures, variables and nesting are exact, steps and hand-overs are
    unknown.

    A class body is told from a function by its flags: the compiler gives functions ``CO_NEWLOCALS``.
    """
    count = code.co_argcount + code.co_kwonlyargcount
    has_args = bool(code.co_flags & inspect.CO_VARARGS)
    has_kwargs = bool(code.co_flags & inspect.CO_VARKEYWORDS)
    parameters = _parameters_of_code(code, count, has_args, has_kwargs)
    names = {parameter.name for parameter in parameters}
    others = [name for name in (*code.co_varnames, *code.co_cellvars) if name not in names]
    return Shape(
        kind=_kind_of_code(code),
        name=code.co_name,
        line=code.co_firstlineno,
        parameters=parameters,
        locals=tuple(dict.fromkeys(name for name in others if name != "__class__")),
        cells=tuple(sorted(code.co_cellvars)),
        captures=tuple(sorted(code.co_freevars)),
        children=tuple(
            shape_of_code(const)
            for const in code.co_consts
            if isinstance(const, types.CodeType) and const.co_name != DEFERRED_ANNOTATIONS
        ),
        has_steps=False,
    )


def _parameters_of_code(code: types.CodeType, count: int, has_args: bool, has_kwargs: bool) -> tuple[Parameter, ...]:
    names = code.co_varnames
    parameters = []
    for position, name in enumerate(names[:count]):
        if position < code.co_posonlyargcount:
            kind = "positional-only"
        else:
            kind = "positional" if position < code.co_argcount else "keyword-only"
        parameters.append(Parameter(name, kind))
    if has_args:
        parameters.append(Parameter(names[count], "*"))
    if has_kwargs:
        parameters.append(Parameter(names[count + has_args], "**"))
    return tuple(parameters)


def _kind_of_code(code: types.CodeType) -> str:
    if code.co_name in COMPREHENSIONS:
        return COMPREHENSIONS[code.co_name]
    if code.co_name == "<genexpr>":
        return "generator expression"
    if code.co_name == "<lambda>":
        return "lambda"
    if code.co_flags & inspect.CO_ASYNC_GENERATOR:
        return "async generator"
    if code.co_flags & inspect.CO_COROUTINE:
        return "async function"
    if code.co_flags & inspect.CO_GENERATOR:
        return "generator"
    if not code.co_flags & inspect.CO_NEWLOCALS:
        return "module" if code.co_name == "<module>" else "class"
    return "function"
