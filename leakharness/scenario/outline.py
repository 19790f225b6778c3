"""What a scenario file declares, read from its text without importing it.

``NAME = Scenario("name", mimics=...)`` at module level and the functions decorated with ``@NAME.mode("mode")``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leakharness.errors import ScenarioError, UnknownScenario

__all__ = ["ScenarioOutline", "called_name", "outlines_in", "parsed"]

INLINE = "closure-inline"
"""The mode that copies the function as it was when it leaked, by convention."""


@dataclass(frozen=True)
class ScenarioOutline:
    """A scenario as its file declares it: modes by name, each with its function's name and what it must
    give.
    """

    name: str
    file: Path
    mimics: str | None
    target: str | None
    modes: dict[str, tuple[str, str | None]]

    def mode_to_compare(self) -> str:
        """closure-inline; else the first mode that must FAIL; else the first one."""
        if INLINE in self.modes:
            return INLINE
        failing = [name for name, (_, must) in self.modes.items() if must == "FAIL"]
        if not self.modes:
            raise ScenarioError(f"{self.file}: scenario {self.name!r} declares no mode")
        return (failing or list(self.modes))[0]


def parsed(file: Path) -> ast.Module:
    """The syntax tree of a scenario file. Raises UnknownScenario where there is none, ScenarioError where it is no
    Python.
    """
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except FileNotFoundError:
        raise UnknownScenario(f"no scenario file {file}") from None
    except SyntaxError as exc:
        raise ScenarioError(f"{file}:{exc.lineno or 1}: {exc.msg}") from None
    except (OSError, ValueError, RecursionError, MemoryError) as exc:
        raise ScenarioError(f"{file}: cannot be read: {exc}") from None


def outlines_in(file: Path) -> list[ScenarioOutline]:
    """All scenarios that ``file`` declares at module level, in order. Raises what `parsed` raises."""
    tree = parsed(file)
    found = []
    for node in tree.body:
        variable, call = _declaration(node)
        if call is not None:
            words = {keyword.arg: keyword.value for keyword in call.keywords}
            name = _text(call.args[0] if call.args else words.get("name"))
            if name is not None:
                modes = {mode: (function.name, must) for mode, function, must in _modes(tree, variable)}
                found.append(ScenarioOutline(name, file, _text(words.get("mimics")), _text(words.get("target")), modes))
    return found


def called_name(func: ast.expr) -> str:
    """The last name of what is called: ``Scenario`` of ``leakharness.Scenario(...)``."""
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _declaration(node: ast.stmt) -> tuple[str, ast.Call | None]:
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if isinstance(value, ast.Call) and called_name(value.func) == "Scenario":
        variable = next((target.id for target in targets if isinstance(target, ast.Name)), "")
        return variable, value
    return "", None


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _modes(tree: ast.Module, variable: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, str | None]]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"{variable}.mode":
                words = {keyword.arg: keyword.value for keyword in decorator.keywords}
                name = _text(decorator.args[0] if decorator.args else words.get("name"))
                if name is not None:
                    yield name, node, _text(words.get("must"))
