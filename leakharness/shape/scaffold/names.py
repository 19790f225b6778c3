"""Names and parameter lists in a scaffolded file: those of the original where the file can use them."""

from __future__ import annotations

import builtins
import keyword

from leakharness.shape.model import HandOver, Parameter, ScopePath

__all__ = ["arguments_text", "bare", "caught_class", "parameters_text", "renamed", "tuple_text", "variable_of"]

TAKEN = frozenset(
    [
        "Any",
        "AsyncIterator",
        "Callable",
        "KEPT",
        "NOTHING",
        "Payload",
        "REGISTRY",
        "Registry",
        "Run",
        "Scenario",
        "asyncio",
        "closure_extracted",
        "closure_inline",
        "contextlib",
        "functools",
        "global_name",
        "keep",
        "nothing",
        "production",
        "run",
        "scenario",
        "use",
        "wedged",
        # names that linters refuse
        "I",
        "O",
        "l",
        # names that the generated code calls
        "BaseException",
        "Exception",
        "RuntimeError",
        "bytearray",
        "callable",
        "object",
    ]
)
"""Names that the generated file uses itself; a variable of the original of such a name gets a ``_``."""


def tuple_text(values: str, hand: HandOver) -> str:
    return f"({values})" if hand.along else values


def bare(expression: str) -> str:
    """A generator expression that is a call's only argument needs no parentheses of its own."""
    is_generator = expression.startswith("(") and " for " in expression and expression.endswith(")")
    return expression[1:-1] if is_generator and _closes_at_end(expression) else expression


def _closes_at_end(expression: str) -> bool:
    depth = 0
    for position, letter in enumerate(expression):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return position == len(expression) - 1
    return False


def variable_of(path: ScopePath) -> str:
    return "function_" + "_".join(str(number + 1) for number in path)


def renamed(name: str, *, is_function: bool = False) -> str:
    """A name that the file can use for one of the original; linters want no ``_`` before a variable in
    use.
    """
    if name == "__class__":
        return "owner_class"
    is_dunder = name.startswith("__") and name.endswith("__")
    stripped = name if is_function or is_dunder else name.lstrip("_")
    if not stripped or stripped[0].isdigit():
        stripped = f"name{stripped}"
    if stripped in TAKEN or keyword.iskeyword(stripped) or stripped != name:
        return stripped + "_"
    return stripped


def parameters_text(parameters: tuple[Parameter, ...], *, typed: bool) -> str:
    kind: dict[str, list[str]] = {}
    has_default = False
    for parameter in parameters:
        text = renamed(parameter.name) + (": Any" if typed else "")
        names = [renamed(name) for name in parameter.default_names]
        positional = parameter.kind.startswith("positional")
        if names or (has_default and positional):
            has_default = has_default or positional
            value = names[0] if len(names) == 1 else f"({', '.join(names)})" if names else "None"
            text += f" = {value}" if typed else f"={value}"
        kind.setdefault(parameter.kind, []).append(text)
    parts = [*kind.get("positional-only", []), *(["/"] if "positional-only" in kind else [])]
    parts += kind.get("positional", [])
    if "*" in kind or "keyword-only" in kind:
        parts += [f"*{text}" for text in kind.get("*", [""])]
    parts += kind.get("keyword-only", [])
    parts += [f"**{text}" for text in kind.get("**", [])]
    return ", ".join(parts)


def arguments_text(parameters: tuple[Parameter, ...]) -> str:
    """What a call must give: None for each parameter that needs a value."""
    given = ["None" for parameter in parameters if parameter.kind.startswith("positional")]
    named = [f"{renamed(parameter.name)}=None" for parameter in parameters if parameter.kind == "keyword-only"]
    return ", ".join(given + named)


def caught_class(name: str, free: list[str]) -> str:
    """The class a handler catches: the original's where it is built in, else a stand-in no other handler
    has.
    """
    last = name.rpartition(".")[2]
    if not name or last == "BaseException":
        return "BaseException"
    if last == "CancelledError":
        return "asyncio.CancelledError"
    known = getattr(builtins, name, None)
    if isinstance(known, type) and issubclass(known, Exception) and name in [*free, name]:
        chosen = known.__name__  # not an alias of it
    else:
        chosen = free[0] if free else "Exception"
    if chosen in free:
        free.remove(chosen)
    return chosen
