"""From a syntax tree to `Scope`s: what each scope binds, uses and does, in the order of the compiler."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from typing import Any

from leakharness.shape.model import COMPREHENSIONS, Parameter
from leakharness.shape.scopes import TYPE_PARAMETERS, HandedOver, RawStep, Reference, Scope

__all__ = ["ScopeVisitor", "dotted"]

LETS_GO = frozenset((
    "all", "any", "callable", "cast", "dict", "frozenset", "getattr", "hasattr", "id", "isinstance", "iscoroutine",
    "iscoroutinefunction", "issubclass", "join", "len", "list", "max", "min", "next", "print", "repr", "set",
    "sort", "sorted", "str", "sum", "super", "tuple", "type",
))  # fmt: skip
"""Calls that are done with a function, or have used a generator up, when they return: no registration."""
IN_CLASS_ONLY = frozenset(["staticmethod", "classmethod", "property", "setter", "getter", "deleter", "overload"])
"""Decorators of methods that keep nothing beyond the class the method is in."""


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a chain of attributes and calls, for display; ``…`` for what is no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{dotted(node.func)}()"
    if isinstance(node, ast.Subscript):
        return f"{dotted(node.value)}[]"
    return "…"


def _callee(node: ast.expr) -> tuple[str, str]:
    """(receiver, name) of what is called; the name is an identifier, ``call`` for what has none."""
    receiver, _, last = dotted(node).rpartition(".")
    name = last.rstrip("()[]")
    return receiver, name if name.isidentifier() else "call"


DEFERS_ANNOTATIONS = sys.version_info >= (3, 14)
"""Whether the compiler evaluates annotations in functions of their own, as they are asked for."""


class ScopeVisitor(ast.NodeVisitor):
    """Fills one `Scope` after the other. Children are visited in the order in which the compiler compiles
    them.
    """

    def __init__(self, scope: Scope, future_annotations: bool) -> None:
        self.scope = scope
        self.future_annotations = future_annotations
        self.private = ""
        self.made: dict[ast.AST, Scope] = {}

    # names

    def _mangled(self, name: str) -> str:
        if not self.private or not name.startswith("__") or name.endswith("__"):
            return name
        return f"_{self.private}{name}"

    def _bind(self, name: str) -> None:
        self.scope.bound.setdefault(self._mangled(name))

    def _use(self, name: str) -> None:
        name = self._mangled(name)
        self.scope.used.setdefault(name)
        if name == "super" and self.scope.kind not in ("class", "module"):
            self.scope.used.setdefault("__class__")

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use(node.id)
        else:
            self._bind(node.id)

    def visit_Global(self, node: ast.Global) -> None:
        self.scope.global_names.update(map(self._mangled, node.names))

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.scope.nonlocal_names.update(map(self._mangled, node.names))

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name != "*":
                self._bind(alias.asname or alias.name.split(".")[0])

    visit_ImportFrom = visit_Import

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.generic_visit(node)
        if node.name is not None:
            self._bind(node.name)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest is not None:
            self._bind(node.rest)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        inner = self.scope
        while self.scope.is_comprehension and self.scope.parent is not None:
            self.scope.nonlocal_names.add(self._mangled(node.target.id))
            self.scope = self.scope.parent
        holder = self.scope
        self._bind(node.target.id)
        self.scope = inner
        if holder.kind == "module" or self._mangled(node.target.id) in holder.global_names:
            while inner is not holder and inner.parent is not None:
                inner.nonlocal_names.discard(self._mangled(node.target.id))
                inner.global_names.add(self._mangled(node.target.id))
                inner = inner.parent

    # scopes

    def block(self, body: Iterable[ast.AST]) -> None:
        for node in body:
            self.visit(node)

    def _enter(self, kind: str, name: str, node: ast.AST, line: int) -> Scope:
        child = Scope(kind, name, line, self.scope, node)
        self.scope.children.append(child)
        self.made[node] = child
        self.scope = child
        return child

    def _leave(self, child: Scope) -> None:
        assert child.parent is not None
        self.scope = child.parent

    def _enter_type_parameters(self, node: ast.AST, name: str) -> Scope | None:
        parameters = getattr(node, "type_params", None)
        if not parameters:
            return None
        scope = self._enter(TYPE_PARAMETERS, f"<generic parameters of {name}>", ast.Pass(), node.lineno)  # type: ignore[attr-defined]
        for parameter in parameters:
            self._bind(parameter.name)
            self.generic_visit(parameter)
        return scope

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.block(node.decorator_list)
        self._defaults(node.args)
        generic = self._enter_type_parameters(node, node.name)
        self._annotations(node)
        outer = self.scope
        kind = "async function" if isinstance(node, ast.AsyncFunctionDef) else "function"
        line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        child = self._enter(kind, node.name, node, line)
        self._parameters(node.args)
        self.block(node.body)
        self.scope = outer
        if generic is not None:
            self._leave(generic)
        self._bind(node.name)
        self._defined(node.name, child, node)

    visit_FunctionDef = _function
    visit_AsyncFunctionDef = _function

    def _defined(self, name: str, child: Scope, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.scope.functions.setdefault(self._mangled(name), []).append(Reference(child))
        self._step("define", node, child.name, child)
        for decorator in reversed(node.decorator_list):
            called = isinstance(decorator, ast.Call)
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            receiver, last = _callee(target)
            if last in IN_CLASS_ONLY:
                continue
            along = self._names_in([*decorator.args, *decorator.keywords]) if called else ()  # type: ignore[attr-defined]
            self._hand_over(f"@{last}", receiver, [Reference(child)], along, decorator)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.block(node.decorator_list)
        generic = self._enter_type_parameters(node, node.name)
        self.block([*node.bases, *node.keywords])
        outer, private = self.scope, self.private
        line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        child = self._enter("class", node.name, node, line)
        self.private = node.name.lstrip("_")
        self.block(node.body)
        self.scope, self.private = outer, private
        if generic is not None:
            self._leave(generic)
        self._bind(node.name)
        self._defined(node.name, child, node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._defaults(node.args)
        child = self._enter("lambda", "<lambda>", node, node.lineno)
        self._parameters(node.args)
        self.visit(node.body)
        self._leave(child)
        self._step("define", node, child.name, child)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        name = {
            ast.ListComp: "<listcomp>",
            ast.SetComp: "<setcomp>",
            ast.DictComp: "<dictcomp>",
            ast.GeneratorExp: "<genexpr>",
        }[type(node)]
        first, *others = node.generators
        self.visit(first.iter)
        child = self._enter(COMPREHENSIONS.get(name, "generator expression"), name, node, node.lineno)
        self._generator(first)
        for generator in others:
            self.visit(generator.iter)
            self._generator(generator)
        self.block([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self._leave(child)
        self._step("define", node, child.name, child)

    visit_ListComp = _comprehension
    visit_SetComp = _comprehension
    visit_DictComp = _comprehension
    visit_GeneratorExp = _comprehension

    def _generator(self, generator: ast.comprehension) -> None:
        if generator.is_async:
            self._step("async for", generator.target)
        self.visit(generator.target)
        self.block(generator.ifs)

    def visit_TypeAlias(self, node: ast.AST) -> None:
        """``type X = ...`` evaluates lazily, in a scope of its own that is of no interest here."""
        self.visit(node.name)  # type: ignore[attr-defined]
        scope = self._enter(TYPE_PARAMETERS, "<type alias>", ast.Pass(), node.lineno)  # type: ignore[attr-defined]
        for parameter in node.type_params:  # type: ignore[attr-defined]
            self._bind(parameter.name)
        self.visit(node.value)  # type: ignore[attr-defined]
        self._leave(scope)

    # parameters and annotations

    def _parameters(self, args: ast.arguments) -> None:
        positional = [*args.posonlyargs, *args.args]
        defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
        defaults += args.defaults
        found: list[tuple[ast.arg, str, ast.expr | None]] = []
        for position, (arg, default) in enumerate(zip(positional, defaults, strict=True)):
            kind = "positional-only" if position < len(args.posonlyargs) else "positional"
            found.append((arg, kind, default))
        found += [
            (arg, "keyword-only", default) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
        ]
        if args.vararg is not None:
            found.append((args.vararg, "*", None))
        if args.kwarg is not None:
            found.append((args.kwarg, "**", None))
        for arg, kind, default in found:
            names = self._names_in([default]) if default is not None else ()
            self.scope.parameters.append(Parameter(self._mangled(arg.arg), kind, names))
            self._bind(arg.arg)

    def _defaults(self, args: ast.arguments) -> None:
        self.block(args.defaults)
        self.block(default for default in args.kw_defaults if default is not None)

    def _annotations(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        args = node.args
        every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        said = [*(arg.annotation for arg in every if arg is not None), node.returns]
        self._evaluated_annotations([annotation for annotation in said if annotation is not None], node)

    def _evaluated_annotations(self, annotations: list[ast.expr], node: ast.AST) -> None:
        """Where they stand, or, from 3.14 on, in a scope of their own that is of no interest here (PEP 649)."""
        if self.future_annotations or not annotations:
            return
        if not DEFERS_ANNOTATIONS:
            self.block(annotations)
            return
        scope = self._enter(TYPE_PARAMETERS, "<annotations>", ast.Pass(), node.lineno)  # type: ignore[attr-defined]
        self.block(annotations)
        self._leave(scope)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
        if node.simple or node.value is not None or not isinstance(node.target, ast.Name):
            self.visit(node.target)
        if not (DEFERS_ANNOTATIONS and self.scope.kind not in ("class", "module")):  # a local's is never evaluated
            self._evaluated_annotations([node.annotation], node)
        if node.value is not None:
            self._assigned([node.target], node.value, node)

    # steps

    def _step(self, kind: str, node: ast.AST, name: str = "", child: Scope | None = None) -> None:
        self.scope.steps.append(RawStep(kind, getattr(node, "lineno", 0), name, child))

    def _hand_over(
        self, to: str, receiver: str, references: list[Reference], along: tuple[str, ...], node: ast.AST
    ) -> None:
        if references:
            handed = HandedOver(to, receiver, references, along)
            self.scope.steps.append(RawStep("hand over", getattr(node, "lineno", 0), handed=handed))

    def visit_Await(self, node: ast.Await) -> None:
        self.visit(node.value)
        self._step("await", node)

    def visit_Yield(self, node: ast.Yield) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._hand_over("yield", "", self._references(node.value), self._beside(node.value), node)
        self._step("yield", node)
        self._is_generator()

    def visit_YieldFrom(self, node: ast.YieldFrom) -> None:
        self.visit(node.value)
        self._step("yield from", node)
        self._is_generator()

    def _is_generator(self) -> None:
        kinds = {"function": "generator", "async function": "async generator"}
        self.scope.kind = kinds.get(self.scope.kind, self.scope.kind)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._hand_over("return", "", self._references(node.value), self._beside(node.value), node)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        if isinstance(node, ast.AsyncFor):
            self._step("async for", node)
        self.visit(node.target)
        self.block([*node.body, *node.orelse])

    visit_AsyncFor = visit_For

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            self._step("with" if isinstance(node, ast.With) else "async with", node)
            if item.optional_vars is not None:
                self.visit(item.optional_vars)
        self.block(node.body)
        for _ in node.items:
            self._step("end", node)

    visit_AsyncWith = visit_With

    def _try(self, node: Any) -> None:
        self._step("try", node)
        self.block(node.body)
        for handler in node.handlers:
            if handler.type is not None:
                self.visit(handler.type)
            self._step("except", handler, _type_names(handler.type))
            if handler.name is not None:
                self._bind(handler.name)
            self.block(handler.body)
        if node.orelse:
            self._step("else", node.orelse[0])
            self.block(node.orelse)
        if node.finalbody:
            self._step("finally", node.finalbody[0])
            self.block(node.finalbody)
        self._step("end", node)

    visit_Try = _try
    visit_TryStar = _try  # 3.11 and later: the class is not there to be named on 3.10

    def visit_Delete(self, node: ast.Delete) -> None:
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._step("release", node, self._mangled(target.id))

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        if isinstance(node.value, ast.Constant) and node.value.value is None:
            for target in node.targets:
                if isinstance(target, ast.Name) and self._is_held(target.id):
                    self._step("release", node, self._mangled(target.id))
        self.block(node.targets)
        self._assigned(node.targets, node.value, node)

    def _is_held(self, name: str) -> bool:
        name = self._mangled(name)
        return name in self.scope.bound or name in self.scope.nonlocal_names

    def _assigned(self, targets: list[ast.expr], value: ast.expr, node: ast.AST) -> None:
        """``name = lambda: …`` gives the function a name; ``obj.attr = fn`` and ``obj[key] = fn`` hand it
        over.
        """
        references = self._references(value)
        if not references:
            return
        for target in targets:
            if isinstance(target, ast.Name) and self._mangled(target.id) not in self.scope.global_names:
                is_name_of_it = not isinstance(value, ast.Tuple | ast.List | ast.Dict | ast.Set)
                if is_name_of_it and not any(r.target == self._mangled(target.id) for r in references):
                    self.scope.functions.setdefault(self._mangled(target.id), []).extend(references)
            elif isinstance(target, ast.Attribute):
                self._hand_over(f".{target.attr} =", dotted(target.value), references, self._beside(value), node)
            elif isinstance(target, ast.Subscript):
                self._hand_over("[...] =", dotted(target.value), references, self._beside(value), node)
            elif isinstance(target, ast.Name):
                self._hand_over("global =", target.id, references, self._beside(value), node)

    def visit_Call(self, node: ast.Call) -> None:
        self.visit(node.func)
        self.block([*node.args, *node.keywords])
        receiver, last = _callee(node.func)
        if last in LETS_GO or last.startswith("partial"):
            return
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        references = [reference for value in values for reference in self._references(value)]
        if references:
            self._hand_over(last, receiver, references, self._names_in(values), node)

    def _references(self, node: ast.expr) -> list[Reference]:
        """What in ``node`` may be a nested function that whoever gets ``node`` gets too."""
        if isinstance(node, ast.Name):
            return [Reference(self._mangled(node.id))]
        if isinstance(node, ast.Lambda | ast.GeneratorExp):
            return [Reference(self.made[node])]
        if isinstance(node, ast.Call):
            return self._references_of_call(node)
        parts: list[ast.expr] = []
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = node.elts
        elif isinstance(node, ast.Dict):
            parts = node.values
        elif isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.BoolOp):
            parts = node.values
        elif isinstance(node, ast.Starred | ast.NamedExpr):
            parts = [node.value]
        return [reference for part in parts for reference in self._references(part)]

    def _references_of_call(self, node: ast.Call) -> list[Reference]:
        if dotted(node.func).rpartition(".")[2].startswith("partial"):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            along = self._names_in(values)
            found = [reference for value in values for reference in self._references(value)]
            return [Reference(reference.target, reference.called, (*reference.along, *along)) for reference in found]
        if isinstance(node.func, ast.Name):
            return [Reference(self._mangled(node.func.id), called=True, along=self._names_in(node.args))]
        return []

    def _beside(self, value: ast.expr) -> tuple[str, ...]:
        """Variables that stand in the same tuple, list, set or dict as the function."""
        if isinstance(value, ast.Dict):
            parts = value.values
        else:
            parts = value.elts if isinstance(value, ast.Tuple | ast.List | ast.Set) else []
        return self._names_in(part for part in parts if isinstance(part, ast.Name))

    def _names_in(self, values: Iterable[ast.AST]) -> tuple[str, ...]:
        """Variables named in ``values``, outside of lambdas and comprehensions there."""
        found: dict[str, None] = {}
        stack = list(reversed(list(values)))
        while stack:
            node = stack.pop()
            if isinstance(node, ast.Name):
                found.setdefault(self._mangled(node.id))
            elif node not in self.made:
                stack += reversed(list(ast.iter_child_nodes(node)))
        return tuple(found)


def _type_names(node: ast.expr | None) -> str:
    if node is None:
        return ""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return ", ".join(dotted(part) for part in parts)
