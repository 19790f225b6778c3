"""Does the fixture still have the lexical shape of the function it copies?

Two trees are matched by name first and by structure where the fixture renamed; what is left over is a
difference. Each says what it can do to the proof: *hide* the leak (the fixture keeps less than the real
function, so its PASS says nothing), *fake* one (it keeps more), or nothing. Python closures keep only what
they name, so the answer is lexical.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from leakharness.shape.model import Path, Shape, Step, walk, without_comprehensions

__all__ = ["Comparison", "Difference", "Effect", "Row", "compare"]

Effect = Literal["hides", "fakes", "harmless"]
Variable = tuple[Path, str]
"""A variable: the scope that holds it, and its name."""
Token = tuple[Any, ...]
"""What a step is to the comparison: equal tokens are the same step."""

SUSPENDS = ("await", "yield", "yield from", "async for", "async with")
FUNCTIONS = ("function", "async function", "generator", "async generator", "lambda")
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
SAME_SCOPE_SCORE = 4.0
"""Weight of an equal kind of scope when scopes are matched; one for each capture, parameter or child that
differs.
"""


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
    matching = _Matching(fixture, suspect, frozenset(ignore))
    differences = list(_scope_differences(matching))
    for s_path, f_path in sorted(matching.pairs.items()):
        differences += _kind_differences(matching, s_path, f_path)
        differences += _capture_differences(matching, s_path, f_path)
        differences += _variable_differences(matching, s_path, f_path)
        differences += _step_differences(matching, s_path, f_path)
    order = {"hides": 0, "fakes": 1, "harmless": 2}
    differences.sort(key=lambda difference: order[difference.effect])
    return Comparison(tuple(differences), matching.renamed(), tuple(_rows(matching, (), 0)))


class _Tree:
    """A shape with its scopes by path, and the variable that each name in a scope stands for."""

    def __init__(self, root: Shape) -> None:
        self.scopes: dict[Path, Shape] = dict(walk(root))

    def label(self, path: Path) -> str:
        names = [self.scopes[path[:depth]].name for depth in range(len(path) + 1)]
        return ".".join(names)

    def own(self, path: Path) -> list[str]:
        """The variables that the scope itself holds; what the root captures counts as its own."""
        scope = self.scopes[path]
        names = [parameter.name for parameter in scope.parameters] + list(scope.locals)
        if not path:
            names += scope.captures
        if "__class__" in scope.cells:
            names.append("__class__")
        return list(dict.fromkeys(names))

    def variable(self, path: Path, name: str) -> Variable:
        """What ``name``, seen from the scope at ``path``, stands for."""
        scope = self.scopes[path]
        while path and (name in scope.captures or name not in self.own(path)):
            path = path[:-1]
            scope = self.scopes[path]
            if scope.kind == "class" and name != "__class__" and path:
                path, scope = path[:-1], self.scopes[path[:-1]]
        return path, name

    def captured(self, path: Path) -> list[Variable]:
        return [self.variable(path[:-1], name) for name in self.scopes[path].captures] if path else []

    def function_of(self, variable: Variable) -> Path | None:
        """The nested function that a variable names by its ``def``, if it is one."""
        path, name = variable
        for number, child in enumerate(self.scopes[path].children):
            if child.name == name and child.kind != "lambda":
                return (*path, number)
        return None


class _Matching:
    """Which scope of the original is which of the fixture, and the same for variables."""

    def __init__(self, fixture: Shape, suspect: Shape, ignore: frozenset[str]) -> None:
        self.fixture = _Tree(fixture)
        self.suspect = _Tree(suspect)
        self.ignore = ignore
        self.pairs: dict[Path, Path] = {}
        self.variables: dict[Variable, Variable] = {}
        self._pair((), ())
        self.back = {f: s for s, f in self.pairs.items()}
        for s_path, f_path in self.pairs.items():
            self._match_variables(s_path, f_path)
        self.variables_back = {f: s for s, f in self.variables.items()}

    def _pair(self, s_path: Path, f_path: Path) -> None:
        self.pairs[s_path] = f_path
        theirs = list(enumerate(self.suspect.scopes[s_path].children))
        ours = list(enumerate(self.fixture.scopes[f_path].children))
        scored = sorted(
            (-_likeness(mine, theirs_), abs(i - j), i, j)
            for i, theirs_ in theirs
            for j, mine in ours
            if _can_pair(mine, theirs_)
        )
        taken_s: set[int] = set()
        taken_f: set[int] = set()
        for _, _, i, j in scored:
            if i not in taken_s and j not in taken_f:
                taken_s.add(i)
                taken_f.add(j)
                self._pair((*s_path, i), (*f_path, j))

    def _match_variables(self, s_path: Path, f_path: Path) -> None:
        theirs = {name: self._roles(self.suspect, s_path, name) for name in self.suspect.own(s_path)}
        ours = {name: self._roles(self.fixture, f_path, name) for name in self.fixture.own(f_path)}
        self._match_functions(s_path, f_path, theirs, ours)

        def settle(accept: Any) -> None:
            for s_name in list(theirs):
                best = [(accept(s_name, f_name), f_name) for f_name in ours]
                best = [item for item in best if item[0] > 0]
                if best:
                    f_name = max(best, key=lambda item: item[0])[1]
                    self.variables[s_path, s_name] = f_path, f_name
                    del theirs[s_name], ours[f_name]

        settle(lambda s, f: s == f and theirs[s] == ours[f])
        settle(lambda s, f: bool(theirs[s]) and theirs[s] == ours[f] and s not in ours and f not in theirs)
        settle(lambda s, f: s == f)
        settle(lambda s, f: len(theirs[s] & ours[f]) / max(len(theirs[s] | ours[f]), 1))
        for name in self.ignore & ours.keys():
            del ours[name]
        settle(lambda s, f: not theirs[s] and not ours[f])

    def _roles(self, tree: _Tree, path: Path, name: str) -> frozenset[tuple[str, Path]]:
        """What is done with this variable in matched scopes (named by the original's paths): how renames
        are seen.
        """
        variable = path, name
        found = set()
        for inner, scope in tree.scopes.items():
            original = inner if tree is self.suspect else self.back.get(inner)
            if inner[: len(path)] != path or original not in self.pairs or scope.is_comprehension:
                continue
            if variable in tree.captured(inner):
                found.add(("captured", original))
            if any(tree.variable(inner[:-1], n) == variable for p in scope.parameters for n in p.default_names):
                found.add(("default", original))
            for step in scope.steps:
                names = step.hand_over.along if step.hand_over else (step.name,) * (step.kind == "release")
                if any(tree.variable(inner, named) == variable for named in names):
                    found.add((f"{step.kind} in", original))
        return frozenset(found)

    def _match_functions(self, s_path: Path, f_path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
        """A variable that names a nested function follows the function; it matches nothing else."""
        for s_name in list(theirs):
            function = self.suspect.function_of((s_path, s_name))
            if function is None:
                continue
            del theirs[s_name]
            mine = self.pairs.get(function)
            if mine is not None and self.fixture.scopes[mine].name in ours:
                self.variables[s_path, s_name] = f_path, self.fixture.scopes[mine].name
        for f_name in list(ours):
            if self.fixture.function_of((f_path, f_name)) is not None:
                del ours[f_name]

    def renamed(self) -> tuple[tuple[str, str], ...]:
        """(original, fixture) of what has another name, in order; variables that nothing captures
        included.
        """
        names = {
            (s_name, f_name): None for (_, s_name), (_, f_name) in sorted(self.variables.items()) if s_name != f_name
        }
        for s_path, f_path in sorted(self.pairs.items()):
            pair = self.suspect.scopes[s_path].name, self.fixture.scopes[f_path].name
            if s_path and pair[0] != pair[1] and not any(name.startswith("<") for name in pair):
                names.setdefault(pair)
        return tuple(names)


def _can_pair(mine: Shape, theirs: Shape) -> bool:
    return mine.kind == theirs.kind or (mine.kind in FUNCTIONS and theirs.kind in FUNCTIONS)


def _likeness(mine: Shape, theirs: Shape) -> float:
    """How likely ``mine`` is the copy of ``theirs``: a shared name decides, then what is in it."""
    score = SAME_SCOPE_SCORE if mine.kind == theirs.kind else 0.0
    if mine.name == theirs.name and not mine.name.startswith("<"):
        score += 10 * SAME_SCOPE_SCORE
    score += len(set(mine.captures) & set(theirs.captures))
    score -= abs(len(mine.captures) - len(theirs.captures))
    score -= abs(len(mine.parameters) - len(theirs.parameters)) / 2
    score -= abs(len(mine.children) - len(theirs.children))
    kinds = [step.kind for step in mine.steps], [step.kind for step in theirs.steps]
    return score + SequenceMatcher(None, *kinds, autojunk=False).ratio()


def _scope_differences(matching: _Matching) -> Iterator[Difference]:
    for path, scope in matching.suspect.scopes.items():
        if path and path not in matching.pairs and path[:-1] in matching.pairs:
            where = matching.suspect.label(path[:-1])
            what = f"{_header(scope)} is missing"
            if scope.is_comprehension:
                yield Difference("harmless", where, what, "it lives no longer than its expression", scope.line)
            else:
                yield Difference("hides", where, what, "what it captures cannot leak in the fixture", scope.line)
    for path, scope in matching.fixture.scopes.items():
        if path and path not in matching.back and path[:-1] in matching.back:
            where = matching.suspect.label(matching.back[path[:-1]])
            what = f"{_header(scope)} is only in the fixture"
            kept = set(scope.captures) - matching.ignore and not scope.is_comprehension
            effect: Effect = "fakes" if kept and _is_given_away(matching.fixture, path) else "harmless"
            why = "it can keep what the original does not" if effect == "fakes" else "it keeps nothing"
            yield Difference(effect, where, what, why, 0, scope.line)


def _is_given_away(tree: _Tree, path: Path) -> bool:
    return any(
        step.kind == "hand over" and step.hand_over is not None and step.hand_over.function == path
        for scope in tree.scopes.values()
        for step in scope.steps
    )


def _kind_differences(matching: _Matching, s_path: Path, f_path: Path) -> Iterator[Difference]:
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    where = matching.suspect.label(s_path)
    if theirs.kind != mine.kind:
        plain = {theirs.kind, mine.kind} <= {"function", "lambda"}
        effect: Effect = "harmless" if plain else "hides"
        why = "both keep what they name" if plain else "another kind of frame is kept, and for another time"
        what = f"the original is {_a(theirs.kind)}, the fixture {_a(mine.kind)}"
        yield Difference(effect, where, what, why, theirs.line, mine.line)
    if s_path and [p.kind for p in theirs.parameters] != [p.kind for p in mine.parameters]:
        what = f"parameters ({_parameters(theirs)}) became ({_parameters(mine)})"
        yield Difference("harmless", where, what, "parameters are given by the caller", theirs.line, mine.line)


def _a(kind: str) -> str:
    return ("an " if kind[0] in "aeiou" else "a ") + kind


def _capture_differences(matching: _Matching, s_path: Path, f_path: Path) -> Iterator[Difference]:
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


def _default_differences(matching: _Matching, s_path: Path, f_path: Path) -> Iterator[Difference]:
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    wanted = [matching.suspect.variable(s_path[:-1], name) for p in theirs.parameters for name in p.default_names]
    present = [matching.fixture.variable(f_path[:-1], name) for p in mine.parameters for name in p.default_names]
    where = matching.suspect.label(s_path)
    yield from _held_differences(
        matching, wanted, present, where, "keeps {} by a default value", theirs.line, mine.line
    )


def _held_differences(
    matching: _Matching,
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


def _variable_differences(matching: _Matching, s_path: Path, f_path: Path) -> Iterator[Difference]:
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


def _is_kept_as_frame(tree: _Tree, path: Path) -> bool:
    return any(
        step.kind == "hand over"
        and step.hand_over is not None
        and step.hand_over.function == path
        and step.name.endswith("()")
        for scope in tree.scopes.values()
        for step in scope.steps
    )


def _step_differences(matching: _Matching, s_path: Path, f_path: Path) -> Iterator[Difference]:
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    if not (theirs.has_steps and mine.has_steps):
        return
    where = matching.suspect.label(s_path)
    s_tokens, f_tokens = _suspect_tokens(matching, s_path), _fixture_tokens(matching, f_path)
    missing: list[tuple[Token, Step]] = []
    extra: list[tuple[Token, Step]] = []
    for s_item, f_item in _aligned(s_tokens, f_tokens):
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
        text = _step_text(step)
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
        yield Difference(effect, where, f"{_step_text(step)}: only in the fixture", why, 0, step.line)


def _why_less(kind: str) -> str:
    return "the abort cannot come there" if kind in SUSPENDS else "the way out of the function differs"


def _why_more(kind: str) -> str:
    return "the abort may come there instead" if kind in SUSPENDS else "the way out of the function differs"


def _along_differences(
    matching: _Matching, s_path: Path, f_path: Path, theirs: Step, mine: Step
) -> Iterator[Difference]:
    if theirs.hand_over is None or mine.hand_over is None:
        return
    wanted = [matching.suspect.variable(s_path, name) for name in theirs.hand_over.along]
    present = [matching.fixture.variable(f_path, name) for name in mine.hand_over.along]
    how = f"gives {{}} along with {theirs.hand_over.name}"
    where = matching.suspect.label(s_path)
    yield from _held_differences(matching, wanted, present, where, how, theirs.line, mine.line)


Item = tuple[Token, Step]


def _aligned(theirs: list[Item], mine: list[Item]) -> Iterator[tuple[Item | None, Item | None]]:
    matcher = SequenceMatcher(None, [t for t, _ in theirs], [t for t, _ in mine], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            yield from zip(theirs[i1:i2], mine[j1:j2], strict=True)
        else:
            yield from ((item, None) for item in theirs[i1:i2])
            yield from ((None, item) for item in mine[j1:j2])


def _suspect_tokens(matching: _Matching, path: Path) -> list[Item]:
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


def _fixture_tokens(matching: _Matching, path: Path) -> list[Item]:
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


def _hand_token(step: Step, original: Path) -> Token:
    assert step.hand_over is not None
    return step.kind, original, step.hand_over.to, step.name.endswith("()")


def _rows(matching: _Matching, s_path: Path, depth: int) -> Iterator[Row]:
    f_path = matching.pairs[s_path]
    theirs, mine = matching.suspect.scopes[s_path], matching.fixture.scopes[f_path]
    yield Row(depth, _header(theirs), _header(mine), not _has_captures_apart(matching, s_path, f_path))
    if theirs.has_steps and mine.has_steps:
        s_tokens, f_tokens = _suspect_tokens(matching, s_path), _fixture_tokens(matching, f_path)
        for s_item, f_item in _aligned(s_tokens, f_tokens):
            left, right = (_step_text(item[1]) if item else "" for item in (s_item, f_item))
            yield Row(depth + 1, left, right, s_item is not None and f_item is not None)
    for number, child in enumerate(theirs.children):
        if (*s_path, number) in matching.pairs:
            yield from _rows(matching, (*s_path, number), depth + 1)
        else:
            yield Row(depth + 1, _header(child), "", False)
    for number, child in enumerate(mine.children):
        if (*f_path, number) not in matching.back:
            yield Row(depth + 1, "", _header(child), False)


def _has_captures_apart(matching: _Matching, s_path: Path, f_path: Path) -> bool:
    return any(
        difference.effect != "harmless"
        for found in (_capture_differences, _kind_differences)
        for difference in found(matching, s_path, f_path)
    )


def _header(scope: Shape) -> str:
    words = {
        "function": "def",
        "async function": "async def",
        "generator": "def*",
        "async generator": "async def*",
    }
    name = scope.name if scope.kind in words or scope.kind == "class" else ""
    text = " ".join(part for part in (words.get(scope.kind, scope.kind), name) if part)
    if scope.kind in FUNCTIONS:
        text += f"({_parameters(scope)})"
    return text + (f" [{', '.join(scope.captures)}]" if scope.captures else "")


def _parameters(scope: Shape) -> str:
    stars = {"*": "*", "**": "**"}
    return ", ".join(stars.get(parameter.kind, "") + parameter.name for parameter in scope.parameters)


def _step_text(step: Step) -> str:
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
