"""Finding a scenario and the mode function that copies the suspect, in the text of a scenario file.

Nothing is imported: ``NAME = Scenario("name", mimics=...)`` and ``@NAME.mode("mode")`` are read from the
syntax tree. The harness's own additions to a copy (``run.track``, ``run.hold``, calls of functions that do
nothing) are taken out, so that what is compared is the function that the fixture stands for.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

from leakharness.errors import UnknownScenario, did_you_mean
from leakharness.scenario.outline import ScenarioOutline, parsed
from leakharness.shape.model import Shape
from leakharness.shape.read import FunctionNode, shape_of_node

__all__ = ["Fixture", "read_fixture"]


@dataclass(frozen=True)
class Fixture:
    """The copy: its shape without what the harness added, and ``ignore``, the variables that hold the
    harness's objects.
    """

    declared: ScenarioOutline
    mode: str
    function: str
    line: int
    shape: Shape
    ignore: frozenset[str]


def read_fixture(declared: ScenarioOutline, mode: str | None, suspect_name: str) -> Fixture:
    """The copy that ``mode`` runs: its function, or the module level function named like the suspect that it
    calls.
    """
    mode = mode or declared.mode_to_compare()
    if mode not in declared.modes:
        raise UnknownScenario(
            f"{declared.file}: scenario {declared.name!r} has no mode {mode!r}; it has {', '.join(declared.modes)}"
            f"{did_you_mean(mode, declared.modes)}"
        )
    tree = parsed(declared.file)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    node = functions[declared.modes[mode][0]]
    last = suspect_name.rpartition(".")[2]
    for name in _called_in(node) & {last, f"{last}_"} & functions.keys():
        node = functions[name]
    cleaned = _without_harness(tree, node)
    return Fixture(declared, mode, node.name, node.lineno, *cleaned)


def _called_in(node: ast.AST) -> set[str]:
    calls = [item for item in ast.walk(node) if isinstance(item, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)}


def _without_harness(tree: ast.Module, node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[Shape, frozenset[str]]:
    position = tree.body.index(node)
    tree = copy.deepcopy(tree)
    copied = tree.body[position]
    assert isinstance(copied, ast.FunctionDef | ast.AsyncFunctionDef)
    run = _take_run(copied)
    ignore = frozenset(_harness_variables(copied, run))
    copied.body = [_Strip(run, _idle_functions(tree)).visit(statement) for statement in copied.body]
    copied.decorator_list = []
    found: FunctionNode = copied
    return shape_of_node(tree, found), ignore


def _take_run(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Remove the parameter that the harness fills, and return its name."""
    args = node.args
    positional = args.posonlyargs or args.args
    if not positional:
        return ""
    return positional.pop(0).arg


def _harness_variables(node: ast.AST, run: str) -> Iterator[str]:
    """Variables bound to what ``run.wedged()`` or ``run.hold(...)`` gives."""
    for item in ast.walk(node):
        if isinstance(item, ast.Assign | ast.AnnAssign) and _run_method(item.value, run) in (
            "wedged",
            "hold",
        ):
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _run_method(node: ast.AST | None, run: str) -> str:
    """``hold`` where ``node`` is ``run.hold(...)``; nothing where it is no call of the harness's."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        owner = node.func.value
        if isinstance(owner, ast.Name) and owner.id == run:
            return node.func.attr
    return ""


def _idle_functions(tree: ast.Module) -> frozenset[str]:
    """Functions of the file that do nothing, and so keep nothing of what they are given."""
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not node.decorator_list
        and all(
            isinstance(item, ast.Pass) or (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
            for item in node.body
        )
    )


class _Strip(ast.NodeTransformer):
    """``run.track(x)`` and ``run.hold(x)`` become ``x``; a call of an idle function becomes its arguments."""

    def __init__(self, run: str, idle: frozenset[str]) -> None:
        self.run = run
        self.idle = idle

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_kept_by_harness = _run_method(node, self.run) in ("track", "hold") and bool(node.args)
        self.generic_visit(node)
        if is_kept_by_harness:
            return node.args[0]
        if isinstance(node.func, ast.Name) and node.func.id in self.idle:
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            return ast.copy_location(ast.Tuple(elts=values, ctx=ast.Load()), node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """``run`` itself, captured or not, is the harness's."""
        if node.id == self.run and isinstance(node.ctx, ast.Load):
            return ast.copy_location(ast.Constant(value=None), node)
        return node
