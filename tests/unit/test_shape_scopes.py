"""The shape read from source must be what the compiler makes of it: names, captures, cells and nesting."""

from __future__ import annotations

import ast
import asyncio
import collections
import contextlib
import dataclasses
import functools
import inspect
import sys
import types
import typing
import unittest.mock
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakharness.shape.model import Shape, shape_of_code, walk, without_comprehensions
from leakharness.shape.read import module_shape, shape_of_source

Facts = tuple[int, str, tuple[str, ...], tuple[str, ...]]
INLINES_COMPREHENSIONS = sys.version_info >= (3, 12)


OWN_CELLS = ("__classdict__", "__conditional_annotations__")
"""Cells of classes that the compiler makes for PEP 695 and PEP 649."""


def facts(shape: Shape) -> list[Facts]:
    """(line, name, captures, cells) of every scope but the module, comprehensions inlined on both sides."""
    scopes = [scope for path, scope in walk(without_comprehensions(shape)) if path]
    return sorted((s.line, s.name, s.captures, tuple(c for c in s.cells if c not in OWN_CELLS)) for s in scopes)


def compiled(text: str) -> Shape:
    return shape_of_code(compile(text, "<test>", "exec", dont_inherit=True))


def function(text: str) -> Shape:
    """The shape of the first function of ``text``."""
    return shape_of_source(text, module_shape(text).children[0].line)


SNIPPETS = {
    "closure": "def f(a):\n    b = 1\n    def g(): return a, b\n    return g\n",
    "passes through": "def f(a):\n    def g():\n        def h(): return a\n        return h\n    return g\n",
    "shadowed": "def f(a):\n    def g(a):\n        return lambda: a\n    return g\n",
    "nonlocal": "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return g\n",
    "nonlocal unused": "def f():\n    n = 0\n    def g():\n        nonlocal n\n    return g\n",
    "global stops": "def f():\n    global x\n    x = 1\n    def g(): return x\n    return g\n",
    "class is no scope for methods": ("def f(a):\n    class C:\n        a = 1\n        def m(self): return a\n"),
    "class reads outer": "def f(a):\n    class C:\n        b = a\n    return C\n",
    "super": (
        "class C:\n    def m(self):\n        return super().m()\n    def n(self):\n        return lambda: super\n"
    ),
    "class cell in closure": ("class C:\n    def m(self):\n        def g(): return __class__\n        return g\n"),
    "mangled": "class _C:\n    def m(self, __a):\n        __b = __a\n        return lambda: (__a, __b)\n",
    "default outside": "def f(a):\n    def g(x=a, *, y=lambda: a): return x\n    return g\n",
    "decorator outside": "def f(a, d):\n    @d(lambda: a)\n    def g(): return 1\n    return g\n",
    "comprehension": "def f(a, rows):\n    return [[lambda: (a, x) for x in r] for r in rows]\n",
    "generator expression": "def f(a, rows):\n    return (x + a for x in rows)\n",
    "iterable outside": "def f(a):\n    return list(x for x in a)\n",
    "walrus": "def f(rows):\n    any((hit := x) for x in rows)\n    return lambda: hit\n",
    "walrus global": "def f(rows):\n    global hit\n    any((hit := x) for x in rows)\n",
    "except name": "def f():\n    try: pass\n    except OSError as e:\n        return lambda: e\n",
    "match": (
        "def f(v):\n    match v:\n        case {'k': k, **rest}: return lambda: (k, rest)\n"
        "        case [a, *b] as c: return lambda: (a, b, c)\n"
    ),
    "annotation captures": "def f(T):\n    def g(x: T) -> T:\n        y: T\n        return x\n    return g\n",
    "future annotation does not": "from __future__ import annotations\n"
    "def f(T):\n    def g(x: T) -> T:\n        y: T\n        return x\n    return g\n",
    "import binds": (
        "def f():\n    import os.path as p, sys\n    from a import b as c\n    return lambda: (p, sys, c)\n"
    ),
    "for and with bind": (
        "def f(xs):\n    for i, (j, *k) in xs:\n        with i as w: pass\n    return lambda: (i, j, k, w)\n"
    ),
    "del binds": "def f():\n    x = 1\n    def g(): return x\n    del x\n    return g\n",
    "async": (
        "async def f(a):\n    async def g():\n        await a\n        return [x async for x in a]\n    return g\n"
    ),
}


@pytest.mark.parametrize("text", SNIPPETS.values(), ids=SNIPPETS.keys())
def test_scoping_rule_is_that_of_the_compiler(text: str) -> None:
    """Each rule of name resolution gives what compile() gives."""
    assert facts(module_shape(text)) == facts(compiled(text))


@pytest.mark.skipif(not INLINES_COMPREHENSIONS, reason="type parameters are syntax of 3.12")
def test_type_parameters_are_captured_like_variables() -> None:
    """PEP 695: a function that names its own type parameter captures it; the scope that holds it is not
    shown.
    """
    shape = module_shape("def f[T](x: T):\n    return lambda: (x, T)\n")
    assert [(path, s.name, s.captures) for path, s in walk(shape)][1:] == [
        ((0,), "f", ("T",)),
        ((0, 0), "<lambda>", ("T", "x")),
    ]


STDLIB = [asyncio, collections, contextlib, dataclasses, functools, inspect, typing, unittest.mock]


WRITE_AN_ANNOTATE = {("dataclasses.py", "_make_annotate_function"), ("typing.py", "__new__")}
"""From 3.14 on: functions that define an ``__annotate__`` by hand, which looks like the compiler's."""


def stdlib_files() -> list[Path]:
    files = [Path(str(module.__file__)) for module in STDLIB]
    return sorted({*files, *Path(str(asyncio.__file__)).parent.glob("*.py")})


@pytest.mark.slow
def test_hundreds_of_library_functions_have_the_captures_the_compiler_gives_them() -> None:
    """Every code object of these modules, recursively: co_freevars and co_cellvars of source and code
    agree.
    """
    seen = 0
    for file in stdlib_files():
        text = file.read_text(encoding="utf-8")
        ours = set(facts(module_shape(text, str(file))))
        for fact in facts(compiled(text)):
            if fact[1].startswith("<generic parameters") or ".type_params" in fact[2]:
                continue  # the compiler's own helpers for PEP 695
            if (file.name, fact[1]) in WRITE_AN_ANNOTATE:
                continue
            is_type_alias = INLINES_COMPREHENSIONS and file.name == "typing.py" and len(fact[1]) < 6
            assert fact in ours or is_type_alias, (file, fact)
            seen += 1
    assert seen > 1500


NAMES = st.sampled_from(["a", "b", "c", "__d"])


def indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


@st.composite
def blocks(draw: st.DrawFn, depth: int = 0) -> list[str]:
    """Random statements that bind, name, declare and nest; some are not valid Python."""
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        name, other = draw(NAMES), draw(NAMES)
        simple = [
            f"{name} = {other}",
            f"use({name})",
            f"nonlocal {name}",
            f"global {name}",
            f"f = lambda {name}={other}: ({name}, {draw(NAMES)})",
            f"use([{name} for {name} in {other}])",
            f"use({{{draw(NAMES)}: ({other} := {name}) for {name} in {draw(NAMES)}}})",
            f"use((lambda: {name}) for {other} in {draw(NAMES)} if {name})",
            f"del {name}",
            f"for {name} in {other}: use({draw(NAMES)})",
            f"import {name}",
        ]
        kind = draw(st.integers(0, len(simple) + (2 if depth < 3 else -1)))
        if kind < len(simple):
            lines.append(simple[kind])
            continue
        body = indented(draw(blocks(depth=depth + 1)))
        heads = [
            f"def {name}({other}, *, e={draw(NAMES)}):",
            f"class {name}:",
            f"async def {name}(*{other}):",
        ]
        lines += [heads[kind - len(simple)], *body]
    return lines


@given(blocks())
@settings(max_examples=300, deadline=None)
def test_random_nesting_resolves_as_the_compiler_resolves_it(body: list[str]) -> None:
    """The compiler is the oracle; what it refuses is not compared. Nor are, from 3.12 on, which inlines comprehensions,
    cells and the names that comprehensions bind: it leaves cells in the function around them that nothing captures
    any more, and takes a free variable of that function for such a cell where both have one name."""
    text = "\n".join(["class K:", "    def outer(a, __d):", *indented(indented(body))]) + "\n"
    try:
        theirs = compiled(text)
    except SyntaxError:
        return
    ours, wanted = facts(module_shape(text)), facts(theirs)
    if INLINES_COMPREHENSIONS:
        inlined = names_of_inlined_comprehensions(text)
        assert without(inlined, ours) == without(inlined, wanted)
    else:
        assert ours == wanted


def names_of_inlined_comprehensions(text: str) -> set[str]:
    """What list, set and dict comprehensions bind."""
    comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp)
    return {
        name.id
        for node in ast.walk(ast.parse(text))
        if isinstance(node, comprehensions)
        for clause in node.generators
        for name in ast.walk(clause.target)
        if isinstance(name, ast.Name)
    }


def without(names: set[str], rows: list[Facts]) -> list[tuple[int, str, tuple[str, ...]]]:
    """Line, name and free variables of each row, the latter without ``names``."""
    return [(line, name, tuple(one for one in free if one not in names)) for line, name, free, _ in rows]


def test_a_code_object_gives_names_parameters_and_kinds() -> None:
    """Where there is no source, captures, parameters, locals and kinds come from the code object."""

    def outer(a: int, /, b: int, *rest: int, c: int = 1, **more: int) -> object:
        local = a + b

        async def later() -> None:
            print(local, rest)

        return later, (x + c for x in more)

    shape = shape_of_code(outer.__code__)
    assert [(p.name, p.kind) for p in shape.parameters] == [
        ("a", "positional-only"),
        ("b", "positional"),
        ("c", "keyword-only"),
        ("rest", "*"),
        ("more", "**"),
    ]
    assert [(child.kind, child.captures) for child in shape.children] == [
        ("async function", ("local", "rest")),
        ("generator expression", ("c",)),
    ]
    assert set(shape.locals) == {"local", "later"}
    assert not shape.has_steps


def test_kinds_of_code_and_source_agree() -> None:
    """def, async def, generators, lambdas and classes are told apart alike in text and in code."""
    text = (
        "def f():\n"
        "    async def a(): pass\n"
        "    def g(): yield 1\n"
        "    async def ag(): yield 1\n"
        "    class C: pass\n"
        "    h = lambda: 0\n"
        "    i = (x for x in a)\n"
    )
    kinds = [scope.kind for _, scope in walk(module_shape(text))]
    assert kinds == [scope.kind for _, scope in walk(compiled(text))]


def steps(text: str) -> list[str]:
    """The steps of the first function, ``define`` left out, as short text."""
    found = []
    for step in function(text).steps:
        if step.hand_over is not None:
            along = "".join(f" +{name}" for name in step.hand_over.along)
            found.append(f"{step.kind} {step.name} -> {step.hand_over.to}{along}")
        elif step.kind != "define":
            found.append(f"{step.kind} {step.name}".strip())
    return found


HAND_OVERS = {
    "a method call": ("t.add_done_callback(g)", ["hand over g -> add_done_callback"]),
    "with arguments": ("loop.call_later(1, g, a)", ["hand over g -> call_later +a"]),
    "a keyword": ("register(callback=g)", ["hand over g -> register"]),
    "a lambda": ("xs.append(lambda: a)", ["hand over <lambda> -> append"]),
    "a partial": ("register(functools.partial(g, a))", ["hand over g -> register +a"]),
    "a named partial": ("p = partial(g, a)\n    register(p)", ["hand over g -> register +a"]),
    "an alias": ("h = g\n    register(h)", ["hand over g -> register"]),
    "an attribute": ("a.handler = g", ["hand over g -> .handler ="]),
    "an item": ("a['k'] = g", ["hand over g -> [...] ="]),
    "a return": ("return g", ["hand over g -> return"]),
    "a tuple returned": ("return g, a", ["hand over g -> return +a"]),
    "a coroutine": ("loop.create_task(co(a))", ["hand over co() -> create_task +a"]),
    "an instance": ("register(C(a))", ["hand over C() -> register +a"]),
    "a generator expression": ("register(x for x in a)", ["hand over <genexpr> -> register"]),
    "in a list": ("register([g, 1])", ["hand over g -> register"]),
    "finalize": ("weakref.finalize(a, g)", ["hand over g -> finalize +a"]),
    "taken back": ("t.remove_done_callback(g)", ["take back g -> remove_done_callback"]),
    "called, not handed over": ("register(g(a))", []),
    "used up at once": ("sorted(a, key=g)", []),
    "a variable is no function": ("register(a)", []),
}


@pytest.mark.parametrize(("call", "expected"), HAND_OVERS.values(), ids=HAND_OVERS.keys())
def test_where_a_nested_function_is_handed_to_something(call: str, expected: list[str]) -> None:
    """Each way to give a function away is seen, with what goes along; a mere call is none."""
    text = (
        "def f(a, t, loop, xs):\n"
        "    def g(*x): return a\n"
        "    async def co(*x): return a\n"
        "    class C:\n"
        "        def m(self): return a\n"
        f"    {call}\n"
    )
    assert steps(text) == expected


def test_a_decorator_is_a_hand_over() -> None:
    """``@app.on("x")`` gives the function to the application; staticmethod and property keep nothing more."""
    text = (
        "def f(app, a):\n    @app.on(a)\n    def g(): return a\n"
        "    class C:\n        @staticmethod\n        def m(): pass\n"
    )
    assert steps(text) == ["hand over g -> @on +a"]
    assert not [step for step in function(text).children[1].steps if step.kind == "hand over"]


def test_a_function_handed_over_by_itself_is_followed_through_its_closure() -> None:
    """A nested function that registers a sibling, or itself again, is seen from inside."""
    text = "def f(loop):\n    def tick():\n        loop.call_later(1, tick)\n    tick()\n"
    (step,) = [step for step in function(text).children[0].steps if step.hand_over]
    assert step.hand_over is not None
    assert step.hand_over.function == (0,)


def test_steps_come_in_the_order_of_the_source() -> None:
    """Suspensions, blocks and releases, nested as written."""
    text = (
        "async def f(a):\n"
        "    async with a as b:\n"
        "        await b\n"
        "    try:\n"
        "        async for x in a: pass\n"
        "    except (OSError, a.Error): raise\n"
        "    else: b = None\n"
        "    finally:\n"
        "        with a: del x\n"
    )
    assert steps(text) == [
        "async with",
        "await",
        "end",
        "try",
        "async for",
        "except OSError, a.Error",
        "else",
        "release b",
        "finally",
        "with",
        "release x",
        "end",
        "end",
    ]


def test_none_as_a_first_value_releases_nothing() -> None:
    """``x = None`` lets go only of what was bound before."""
    assert steps("def f():\n    x = None\n    x = g()\n    x = None\n") == ["release x"]


def test_default_values_keep_what_they_name() -> None:
    """``lambda x=a: x`` holds ``a`` without capturing it."""
    (inner,) = function("def f(a):\n    return lambda x=a, y=1: x\n").children
    assert inner.captures == ()
    assert [(p.name, p.default_names) for p in inner.parameters] == [("x", ("a",)), ("y", ())]


def test_a_function_is_found_by_its_line() -> None:
    """The line of a def, or of its first decorator, names it; another line is an error."""
    text = "import x\n\n@x.y\ndef f(a):\n    return lambda: a\n"
    assert shape_of_source(text, 3).name == "f"
    with pytest.raises(LookupError, match=r"<source>:9: no function starts here"):
        shape_of_source(text, 9)


def test_shapes_do_not_depend_on_the_interpreter() -> None:
    """A comprehension is a scope of its own here, also where the interpreter inlines it."""
    shape = function("def f(a, rows):\n    return [x + a for x in rows]\n")
    assert [(child.kind, child.locals, child.captures) for child in shape.children] == [
        ("list comprehension", ("x",), ("a",))
    ]
    assert shape.cells == ("a",)
    assert without_comprehensions(shape).cells == ()
    assert isinstance(compiled("0"), Shape)
    assert isinstance(compile("0", "", "exec"), types.CodeType)
