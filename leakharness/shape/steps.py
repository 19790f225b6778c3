"""What scopes do, in order: the steps of the original beside those of the fixture, and both as text."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

from leakharness.shape.matching import FUNCTIONS, Matching
from leakharness.shape.model import ScopePath, Shape, Step

__all__ = ["Item", "Token", "aligned", "fixture_tokens", "parameters_text", "scope_text", "step_text", "suspect_tokens"]

Token = tuple[Any, ...]
"""What a step is to the comparison: equal tokens are the same step."""
Item = tuple[Token, Step]


def aligned(theirs: list[Item], mine: list[Item]) -> Iterator[tuple[Item | None, Item | None]]:
    matcher = SequenceMatcher(None, [t for t, _ in theirs], [t for t, _ in mine], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            yield from zip(theirs[i1:i2], mine[j1:j2], strict=True)
        else:
            yield from ((item, None) for item in theirs[i1:i2])
            yield from ((None, item) for item in mine[j1:j2])


def suspect_tokens(matching: Matching, path: ScopePath) -> list[Item]:
    found: list[Item] = []
    for step in matching.suspect.scopes[path].steps:
        if step.hand_over is not None:
            if step.hand_over.function in matching.pairs:
                found.append((_hand_token(step, step.hand_over.function), step))
        elif step.kind == "release":
            found.append((("release", matching.suspect.variable(path, step.name)), step))
        elif step.kind != "define":
            found.append(((step.kind,), step))
    return found


def fixture_tokens(matching: Matching, path: ScopePath) -> list[Item]:
    found: list[Item] = []
    for step in matching.fixture.scopes[path].steps:
        if step.hand_over is not None:
            original = matching.back.get(step.hand_over.function)
            if original is not None:
                found.append((_hand_token(step, original), step))
        elif step.kind == "release":
            variable = matching.fixture.variable(path, step.name)
            if step.name not in matching.ignore:
                found.append((("release", matching.variables_back.get(variable, ("fixture", variable))), step))
        elif step.kind != "define":
            found.append(((step.kind,), step))
    return found


def _hand_token(step: Step, original: ScopePath) -> Token:
    assert step.hand_over is not None
    return step.kind, original, step.hand_over.to, step.name.endswith("()")


def scope_text(scope: Shape) -> str:
    words = {
        "function": "def",
        "async function": "async def",
        "generator": "def*",
        "async generator": "async def*",
    }
    name = scope.name if scope.kind in words or scope.kind == "class" else ""
    text = " ".join(part for part in (words.get(scope.kind, scope.kind), name) if part)
    if scope.kind in FUNCTIONS:
        text += f"({parameters_text(scope)})"
    return text + (f" [{', '.join(scope.captures)}]" if scope.captures else "")


def parameters_text(scope: Shape) -> str:
    stars = {"*": "*", "**": "**"}
    return ", ".join(stars.get(parameter.kind, "") + parameter.name for parameter in scope.parameters)


def step_text(step: Step) -> str:
    if step.hand_over is None:
        return f"{step.kind} {step.name}".rstrip()
    hand = step.hand_over
    along = f", along with {', '.join(hand.along)}" if hand.along else ""
    if hand.to.endswith("="):
        return f"{hand.receiver}{hand.to if hand.to != '[...] =' else '[...] ='} {hand.name}{along}"
    if hand.to in ("return", "yield"):
        return f"{hand.to} {hand.name}{along}"
    if hand.to.startswith("@"):
        return f"{hand.to} {hand.name}{along}"
    receiver = f"{hand.receiver}." if hand.receiver else ""
    return f"{receiver}{hand.to}({hand.name}{along})"
