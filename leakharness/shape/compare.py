"""Does the fixture still have the lexical shape of the function it copies?

Two trees are matched by name first and by structure where the fixture renamed; what is left over is a
difference. Each says what it can do to the proof: *hide* the leak (the fixture keeps less than the real
function, so its PASS says nothing), *fake* one (it keeps more), or nothing. Python closures keep only what
they name, so the answer is lexical.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from leakharness.shape.matching import Matching, Tree, Variable
from leakharness.shape.model import ScopePath, Shape, Step, without_comprehensions
from leakharness.shape.steps import (
    Token,
    aligned,
    fixture_tokens,
    parameters_text,
    scope_text,
    step_text,
    suspect_tokens,
)

__all__ = ["Comparison", "Difference", "Effect", "Row", "compare"]

Effect = Literal["hides", "fakes", "harmless"]

SUSPENDS = ("await", "yield", "yield from", "async for", "async with")
EFFECT_OF_MISSING: dict[str, tuple[Effect, str]] = {
    "hand over": ("hides", "nothing gets to keep the closure"),
    "take back": ("fakes", "the original takes the registration back"),
    "release": ("fakes", "the fixture keeps what the original lets go of"),
    "finally": ("fakes", "the original may clean up there"),
    "with": ("fakes", "the original may clean up when it leaves the block"),
}
EFFECT_OF_EXTRA: dict[str, tuple[Effect, str]] = {
    "hand over": ("fakes", "something keeps a closure that the original gives to nobody"),
    "take back": ("hides", "the fixture takes back what the original leaves registered"),
    "release": ("hides", "the fixture lets go of what the original keeps"),
    "finally": ("hides", "the fixture may clean up what the original does not"),
    "with": ("hides", "the fixture may clean up what the original does not"),
}


@dataclass(frozen=True)
class Difference:
    """One difference: in which scope of the original, what, and what it does to the proof (``effect``,
    ``why``).
    """

    effect: Effect
    where: str
    what: str
    why: str
    suspect_line: int = 0
    fixture_line: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the side by side view: the original's text, the fixture's, and whether they agree."""

    depth: int
    suspect: str
    fixture: str
    same: bool


@dataclass(frozen=True)
class Comparison:
    """The answer. ``names`` maps each variable and function the fixture renamed: (original, fixture)."""

    differences: tuple[Difference, ...]
    names: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]

    @property
    def verdict(self) -> Literal["SAME", "DRIFTED"]:
        return "DRIFTED" if any(difference.effect != "harmless" for difference in self.differences) else "SAME"

    @property
    def can_hide(self) -> bool:
        """True where some difference lets a leak of the original pass unseen."""
        return any(difference.effect == "hides" for difference in self.differences)


def compare(fixture: Shape, suspect: Shape, *, ignore: Iterable[str] = ()) -> Comparison:
    """Compare ``fixture`` with ``suspect``, the original. ``ignore``: variables of the fixture that are the
    harness's.
    """
    if not suspect.has_steps or not fixture.has_steps:
        fixture, suspect = without_comprehensions(fixture), without_comprehensions(suspect)
    matching = Matching(fixture, suspect, frozenset(ignore))
    differences = list(_scope_differences(matching))
    for s_path, f_path in sorted(matching.pairs.items()):
        differences += _kind_differences(matching, s_path, f_path)
        differences += _capture_differences(matching, s_path, f_path)
        differences += _variable_differences(matching, s_path, f_path)
        differences += _step_differences(matching, s_path, f_path)
    order = {"hides": 0, "fakes": 1, "harmless": 2}
    differences.sort(key=lambda difference: order[difference.effect])
    return Comparison(tuple(differences), matching.renamed(), tuple(_rows(matching, (), 0)))


def _scope_differences(matching: Matching) -> Iterator[Difference]:
    for path, scope in matching.suspect.scopes.items():
        if path and path not in matching.pairs and path[:-1] in matching.pairs:
            where = matching.suspect.label(path[:-1])
            what = f"{scope_text(scope)} is missing"
            if scope.is_comprehension:
                yield Difference("harmless", where, what, "it lives no longer than its expression", scope.line)
            else:
                yield Difference("hides", where, what, "what it captures cannot leak in the fixture", scope.line)
    for path, scope in matching.fixture.scopes.items():
        if path and path not in matching.back and path[:-1] in matching.back:
            where = matching.suspect.label(matching.back[path[:-1]])
            what = f"{scope_text(scope)} is only in the fixture"
            kept = set(scope.captures) - matching.ignore and not scope.is_comprehension
            effect: Effect = "fakes" if kept and _is_given_away(matching.fixture, path) else "harmless"
            why = "it can keep what the original does not" if effect == "fakes" else "it keeps nothing"
            yield Difference(effect, where, what, why, 0, scope.line)


def _is_given_away(tree: Tree, path: ScopePath) -> bool:
    return any(
        step.kind == "hand over" and step.hand_over is not None and step.hand_over.function == path
        for scope in tree.scopes.values()
        for step in scope.steps
    )


def _kind_differences(matching: Matching, s_path: ScopePath, f_path: ScopePath) -> Iterator[Difference]:
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    where = matching.suspect.label(s_path)
    if theirs.kind != mine.kind:
        plain = {theirs.kind, mine.kind} <= {"function", "lambda"}
        effect: Effect = "harmless" if plain else "hides"
        why = "both keep what they name" if plain else "another kind of frame is kept, and for another time"
        what = f"the original is {_a(theirs.kind)}, the fixture {_a(mine.kind)}"
        yield Difference(effect, where, what, why, theirs.line, mine.line)
    if s_path and [p.kind for p in theirs.parameters] != [p.kind for p in mine.parameters]:
        what = f"parameters ({parameters_text(theirs)}) became ({parameters_text(mine)})"
        yield Difference("harmless", where, what, "parameters are given by the caller", theirs.line, mine.line)


def _a(kind: str) -> str:
    return ("an " if kind[0] in "aeiou" else "a ") + kind


def _capture_differences(matching: Matching, s_path: ScopePath, f_path: ScopePath) -> Iterator[Difference]:
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    if not s_path:
        return
    where = matching.suspect.label(s_path)
    lines = theirs.line, mine.line
    passing = theirs.is_comprehension
    wanted = matching.suspect.captured(s_path)
    present = matching.fixture.captured(f_path)
    why_less = "a closure keeps only what it names: the fixture cannot leak it"
    why_more = "the fixture keeps what the original does not"
    if passing:
        why_less = why_more = "a comprehension lives no longer than its expression"
    for variable in wanted:
        twin = matching.variables.get(variable)
        if twin is None or twin not in present:
            text = f"does not capture {variable[1]}" + _alias(variable[1], twin)
            yield Difference("harmless" if passing else "hides", where, text, why_less, *lines)
    images = {matching.variables.get(variable) for variable in wanted}
    for variable in present:
        if variable not in images and variable[1] not in matching.ignore:
            yield Difference(
                "harmless" if passing else "fakes",
                where,
                f"captures {variable[1]}, the original does not",
                why_more,
                *lines,
            )
    yield from _default_differences(matching, s_path, f_path)


def _default_differences(matching: Matching, s_path: ScopePath, f_path: ScopePath) -> Iterator[Difference]:
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    wanted = [matching.suspect.variable(s_path[:-1], name) for p in theirs.parameters for name in p.default_names]
    present = [matching.fixture.variable(f_path[:-1], name) for p in mine.parameters for name in p.default_names]
    where = matching.suspect.label(s_path)
    yield from _held_differences(
        matching, wanted, present, where, "keeps {} by a default value", theirs.line, mine.line
    )


def _held_differences(
    matching: Matching,
    wanted: Sequence[Variable],
    present: Sequence[Variable],
    where: str,
    how: str,
    s_line: int,
    f_line: int,
) -> Iterator[Difference]:
    images = {matching.variables.get(variable) for variable in wanted}
    for variable in wanted:
        if matching.variables.get(variable) not in present:
            what = f"the original {how.format(variable[1])}, the fixture does not"
            yield Difference("hides", where, what, "the fixture keeps less", s_line, f_line)
    for variable in present:
        if variable not in images and variable[1] not in matching.ignore:
            what = f"the fixture {how.format(variable[1])}, the original does not"
            yield Difference("fakes", where, what, "the fixture keeps more", s_line, f_line)


def _alias(name: str, twin: Variable | None) -> str:
    if twin is None:
        return " (the fixture has no variable for it)"
    return f" (here: {twin[1]})" if twin[1] != name else ""


def _variable_differences(matching: Matching, s_path: ScopePath, f_path: ScopePath) -> Iterator[Difference]:
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    where = matching.suspect.label(s_path)
    if theirs.kind == "class":
        return
    missing = [
        name
        for name in matching.suspect.own(s_path)
        if (s_path, name) not in matching.variables
        and matching.suspect.function_of((s_path, name)) is None
        and not name.startswith(".")
    ]
    if missing:
        kept = "generator" in theirs.kind or _is_kept_as_frame(matching.suspect, s_path)
        effect: Effect = "hides" if kept else "harmless"
        why = "a suspended frame keeps all its locals" if kept else "no closure keeps it; only a kept frame would"
        yield Difference(effect, where, f"has no local for {', '.join(missing)}", why, theirs.line, mine.line)
    used = set(matching.variables.values())
    extra = [
        name
        for name in matching.fixture.own(f_path)
        if (f_path, name) not in used
        and name not in matching.ignore
        and not name.startswith(("_", "."))
        and matching.fixture.function_of((f_path, name)) is None
    ]
    if extra:
        what = f"has further locals: {', '.join(extra)}"
        yield Difference("harmless", where, what, "no closure keeps them", theirs.line, mine.line)


def _is_kept_as_frame(tree: Tree, path: ScopePath) -> bool:
    return any(
        step.kind == "hand over"
        and step.hand_over is not None
        and step.hand_over.function == path
        and step.name.endswith("()")
        for scope in tree.scopes.values()
        for step in scope.steps
    )


def _step_differences(matching: Matching, s_path: ScopePath, f_path: ScopePath) -> Iterator[Difference]:
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    if not (theirs.has_steps and mine.has_steps):
        return
    where = matching.suspect.label(s_path)
    s_tokens, f_tokens = suspect_tokens(matching, s_path), fixture_tokens(matching, f_path)
    missing: list[tuple[Token, Step]] = []
    extra: list[tuple[Token, Step]] = []
    for s_item, f_item in aligned(s_tokens, f_tokens):
        if f_item is None and s_item is not None:
            missing.append(s_item)
        elif s_item is None and f_item is not None:
            extra.append(f_item)
        elif s_item is not None and f_item is not None:
            yield from _along_differences(matching, s_path, f_path, s_item[1], f_item[1])
    yield from _moved_and_gone(where, missing, extra)


def _moved_and_gone(
    where: str, missing: list[tuple[Token, Step]], extra: list[tuple[Token, Step]]
) -> Iterator[Difference]:
    """Missing and extra steps; a token that is missing here and extra there has moved."""
    only_ends = all(step.kind == "end" for _, step in missing + extra)
    for token, step in missing:
        twin = next((item for item in extra if item[0] == token), None)
        if twin is not None:
            extra.remove(twin)
        if step.kind == "end" and not only_ends:
            continue
        text = step_text(step)
        if twin is not None:
            why = "what is registered, and when the abort comes, changed order"
            yield Difference("hides", where, f"{text}: moved", why, step.line, twin[1].line)
        else:
            effect, why = EFFECT_OF_MISSING.get(step.kind, ("hides", _why_less(step.kind)))
            yield Difference(effect, where, f"{text}: missing", why, step.line)
    for _, step in extra:
        if step.kind == "end" and not only_ends:
            continue
        effect, why = EFFECT_OF_EXTRA.get(step.kind, ("hides", _why_more(step.kind)))
        yield Difference(effect, where, f"{step_text(step)}: only in the fixture", why, 0, step.line)


def _why_less(kind: str) -> str:
    return "the abort cannot come there" if kind in SUSPENDS else "the way out of the function differs"


def _why_more(kind: str) -> str:
    return "the abort may come there instead" if kind in SUSPENDS else "the way out of the function differs"


def _along_differences(
    matching: Matching, s_path: ScopePath, f_path: ScopePath, theirs: Step, mine: Step
) -> Iterator[Difference]:
    if theirs.hand_over is None or mine.hand_over is None:
        return
    wanted = [matching.suspect.variable(s_path, name) for name in theirs.hand_over.along]
    present = [matching.fixture.variable(f_path, name) for name in mine.hand_over.along]
    how = f"gives {{}} along with {theirs.hand_over.name}"
    where = matching.suspect.label(s_path)
    yield from _held_differences(matching, wanted, present, where, how, theirs.line, mine.line)


def _rows(matching: Matching, s_path: ScopePath, depth: int) -> Iterator[Row]:
    f_path = matching.pairs[s_path]
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    yield Row(depth, scope_text(theirs), scope_text(mine), not _has_captures_apart(matching, s_path, f_path))
    if theirs.has_steps and mine.has_steps:
        s_tokens, f_tokens = suspect_tokens(matching, s_path), fixture_tokens(matching, f_path)
        for s_item, f_item in aligned(s_tokens, f_tokens):
            left, right = (step_text(item[1]) if item else "" for item in (s_item, f_item))
            yield Row(depth + 1, left, right, s_item is not None and f_item is not None)
    for number, child in enumerate(theirs.children):
        if (*s_path, number) in matching.pairs:
            yield from _rows(matching, (*s_path, number), depth + 1)
        else:
            yield Row(depth + 1, scope_text(child), "", False)
    for number, child in enumerate(mine.children):
        if (*f_path, number) not in matching.back:
            yield Row(depth + 1, "", scope_text(child), False)


def _has_captures_apart(matching: Matching, s_path: ScopePath, f_path: ScopePath) -> bool:
    return any(
        difference.effect != "harmless"
        for found in (_capture_differences, _kind_differences)
        for difference in found(matching, s_path, f_path)
    )
