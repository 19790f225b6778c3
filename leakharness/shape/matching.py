"""Which scope of the original is which of the fixture, and the same for variables.

Scopes are matched by name first and by structure where the fixture renamed; variables by what is done with them in
matched scopes.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from leakharness.shape.model import ScopePath, Shape, walk

__all__ = ["FUNCTIONS", "Matching", "Tree", "Variable"]

Variable = tuple[ScopePath, str]
"""A variable: the scope that holds it, and its name."""
FUNCTIONS = ("function", "async function", "generator", "async generator", "lambda")
"""Kinds of scope that are functions: one may stand for another of them."""
SAME_SCOPE_SCORE = 4.0
"""Weight of an equal kind of scope when scopes are matched; one for each capture, parameter or child that
differs.
"""


class Tree:
    """A shape with its scopes by path, and the variable that each name in a scope stands for."""

    def __init__(self, root: Shape) -> None:
        self.scopes: dict[ScopePath, Shape] = dict(walk(root))

    def label(self, path: ScopePath) -> str:
        names = [self.scopes[path[:depth]].name for depth in range(len(path) + 1)]
        return ".".join(names)

    def own(self, path: ScopePath) -> list[str]:
        """The variables that the scope itself holds; what the root captures counts as its own."""
        scope = self.scopes[path]
        names = [parameter.name for parameter in scope.parameters] + list(scope.locals)
        if not path:
            names += scope.captures
        if "__class__" in scope.cells:
            names.append("__class__")
        return list(dict.fromkeys(names))

    def variable(self, path: ScopePath, name: str) -> Variable:
        """What ``name``, seen from the scope at ``path``, stands for."""
        scope = self.scopes[path]
        while path and (name in scope.captures or name not in self.own(path)):
            path = path[:-1]
            scope = self.scopes[path]
            if scope.kind == "class" and name != "__class__" and path:
                path, scope = path[:-1], self.scopes[path[:-1]]
        return path, name

    def captured(self, path: ScopePath) -> list[Variable]:
        return [self.variable(path[:-1], name) for name in self.scopes[path].captures] if path else []

    def function_of(self, variable: Variable) -> ScopePath | None:
        """The nested function that a variable names by its ``def``, if it is one."""
        path, name = variable
        for number, child in enumerate(self.scopes[path].children):
            if child.name == name and child.kind != "lambda":
                return (*path, number)
        return None


class Matching:
    """Which scope of the original is which of the fixture, and the same for variables."""

    def __init__(self, fixture: Shape, suspect: Shape, ignore: frozenset[str]) -> None:
        self.fixture = Tree(fixture)
        self.suspect = Tree(suspect)
        self.ignore = ignore
        self.pairs: dict[ScopePath, ScopePath] = {}
        self.variables: dict[Variable, Variable] = {}
        self._pair((), ())
        self.back = {f: s for s, f in self.pairs.items()}
        for s_path, f_path in self.pairs.items():
            self._match_variables(s_path, f_path)
        self.variables_back = {f: s for s, f in self.variables.items()}

    def _pair(self, s_path: ScopePath, f_path: ScopePath) -> None:
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

    def _match_variables(self, s_path: ScopePath, f_path: ScopePath) -> None:
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

    def _roles(self, tree: Tree, path: ScopePath, name: str) -> frozenset[tuple[str, ScopePath]]:
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

    def _match_functions(
        self, s_path: ScopePath, f_path: ScopePath, theirs: dict[str, Any], ours: dict[str, Any]
    ) -> None:
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
