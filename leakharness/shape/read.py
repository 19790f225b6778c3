"""From source text to `Shape`: Python's own scoping rules, applied to the syntax tree.

Written out rather than taken from `symtable`, whose answer depends on the interpreter it runs in (3.12 and
later inline comprehensions there): a fixture and a revision are compared alike wherever the tool runs. The
rules are those of the language reference, section 4.2 "Naming and binding"; the tests hold them against what
the compiler makes of the standard library.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from leakharness.shape.model import HandOver, Parameter, ScopePath, Shape, Step
from leakharness.shape.scope_visitor import ScopeVisitor
from leakharness.shape.scopes import (
    TYPE_PARAMETERS,
    RawStep,
    Scope,
    all_scopes,
    keeping_functions,
    resolve,
    variables_among,
)

__all__ = ["FunctionNode", "module_shape", "shape_of_node", "shape_of_source"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
TAKES_BACK = ("remove", "discard", "unregister", "deregister", "unsubscribe", "disconnect", "detach", "del")
"""Beginnings of the names of calls that undo a registration."""


def module_shape(text: str, filename: str = "<source>") -> Shape:
    """The shape of a whole module. Raises SyntaxError (with ``filename``) where the text is not Python."""
    return _finished(_analysed(ast.parse(text, filename)))


def shape_of_source(text: str, line: int, filename: str = "<source>") -> Shape:
    """The shape of the function or class whose ``def`` (or first decorator) stands on ``line`` of a
    module.
    """
    root = _analysed(ast.parse(text, filename))
    for scope in all_scopes(root):
        if scope.line == line and isinstance(scope.node, FunctionNode):
            return _finished(scope)
    raise LookupError(f"{filename}:{line}: no function starts here")


def shape_of_node(tree: ast.Module, node: ast.AST) -> Shape:
    """The shape of ``node``, a function or class of ``tree``; names are resolved in the whole of the
    module.
    """
    for scope in all_scopes(_analysed(tree)):
        if scope.node is node:
            return _finished(scope)
    raise LookupError("the node is not a scope of this tree")


def _analysed(tree: ast.Module) -> Scope:
    root = Scope("module", "<module>", 0, None, tree)
    ScopeVisitor(root, _has_future_annotations(tree)).block(tree.body)
    for scope in all_scopes(root):
        resolve(scope)
    return root


def _finished(scope: Scope) -> Shape:
    """The frozen shape of ``scope``; paths start at it."""
    paths: dict[Scope, ScopePath] = {}
    _number(scope, (), paths)
    return _frozen(scope, paths)


def _visible_children(scope: Scope) -> list[Scope]:
    """Its child scopes, with those that only hold type parameters replaced by what is in them."""
    found: list[Scope] = []
    for child in scope.children:
        found += _visible_children(child) if child.kind == TYPE_PARAMETERS else [child]
    return found


def _number(scope: Scope, path: ScopePath, paths: dict[Scope, ScopePath]) -> None:
    paths[scope] = path
    for number, child in enumerate(_visible_children(scope)):
        _number(child, (*path, number), paths)


def _frozen(scope: Scope, paths: dict[Scope, ScopePath]) -> Shape:
    children = _visible_children(scope)
    taken = {parameter.name for parameter in scope.parameters}
    hidden = scope.global_names | scope.nonlocal_names | taken
    return Shape(
        kind=scope.kind,
        name=scope.name,
        line=scope.line,
        parameters=tuple(_with_known_defaults(parameter, scope) for parameter in scope.parameters),
        locals=tuple(name for name in scope.bound if name not in hidden),
        cells=tuple(sorted(scope.cells)),
        captures=tuple(sorted(scope.free)),
        steps=tuple(step for raw in scope.steps for step in _steps(raw, scope, children, paths)),
        children=tuple(_frozen(child, paths) for child in children),
    )


def _with_known_defaults(parameter: Parameter, scope: Scope) -> Parameter:
    names = variables_among(parameter.default_names, scope.parent)
    return Parameter(parameter.name, parameter.kind, names)


def _steps(raw: RawStep, scope: Scope, children: list[Scope], paths: dict[Scope, ScopePath]) -> Iterator[Step]:
    if raw.handed is None:
        child = children.index(raw.child) if raw.child in children else None
        yield Step(raw.kind, raw.line, raw.name, child)
        return
    for reference in raw.handed.references:
        for function, called, also in keeping_functions(reference, scope):
            if function not in paths:
                continue
            along = tuple(dict.fromkeys([*variables_among((*raw.handed.along, *also), scope)]))
            name = function.name + ("()" if called else "")
            hand_over = HandOver(paths[function], name, raw.handed.to, raw.handed.receiver, along)
            kind = "take back" if raw.handed.to.startswith(TAKES_BACK) else "hand over"
            yield Step(kind, raw.line, name, None, hand_over)


def _has_future_annotations(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )
