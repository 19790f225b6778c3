"""What a scaffold decides before it writes: what is tracked, what keeps the closures, where the abort comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from leakharness.shape.model import HandOver, Parameter, ScopePath, Step, walk
from leakharness.shape.scaffold.names import renamed, variable_of
from leakharness.shape.suspect import Suspect

__all__ = ["Block", "ScaffoldPlan", "nested"]


@dataclass
class Block:
    """Steps with their nesting: a plain step, or a with/try block of sections (kind, name of the step,
    steps).
    """

    step: Step
    sections: list[tuple[str, str, list[Block]]] = field(default_factory=list)


def nested(steps: tuple[Step, ...]) -> list[Block]:
    top: list[Block] = []
    stack: list[tuple[Block | None, list[Block]]] = [(None, top)]
    for step in steps:
        block, into = stack[-1]
        if step.kind in ("try", "with", "async with"):
            opened = Block(step, [(step.kind, step.name, [])])
            into.append(opened)
            stack.append((opened, opened.sections[0][2]))
        elif step.kind in ("except", "else", "finally") and block is not None:
            block.sections.append((step.kind, step.name, []))
            stack[-1] = (block, block.sections[-1][2])
        elif step.kind == "end":
            stack.pop()
        else:
            into.append(Block(step))
    return top


def reachable(blocks: list[Block]) -> Iterator[Step]:
    """Plain steps that a run executes where nothing fails: all but those in exception handlers."""
    for block in blocks:
        if not block.sections:
            yield block.step
        for kind, _, inner in block.sections:
            if kind != "except":
                yield from reachable(inner)


class ScaffoldPlan:
    """The decisions for one file, read from the suspect's shape."""

    def __init__(self, suspect: Suspect, name: str) -> None:
        self.suspect = suspect
        self.root = suspect.shape
        self.name = name
        self.scopes = dict(walk(self.root))
        self.blocks = nested(self.root.steps)
        self.functions = frozenset(scope.name for path, scope in self.scopes.items() if path and scope.kind != "lambda")
        self.function_names = self._function_names()
        self.tracked = self._tracked()
        self.handed = self._handed_counts()
        self.leaks = [step for step in reachable(self.blocks) if self.is_leak(step)]
        self.is_copy = "generator" in self.root.kind or any(
            step.hand_over is not None and step.hand_over.to == "return" for step in self.root.steps
        )
        self.abort_line = self._abort_await()

    def _function_names(self) -> dict[ScopePath, str]:
        """The name of each nested function in the generated file; a second one of the same name gets a
        number.
        """
        found: dict[ScopePath, str] = {}
        for path, scope in self.scopes.items():
            if not path or scope.name.startswith("<"):
                continue
            siblings = [found[other] for other in found if other[:-1] == path[:-1]]
            name = self.named(scope.name)
            number = 2
            while name in siblings:
                name, number = f"{self.named(scope.name)}_{number}", number + 1
            found[path] = name
        return found

    def own_functions(self, path: ScopePath) -> set[str]:
        scope = self.scopes[path]
        return {child.name for child in scope.children if not child.name.startswith("<")}

    def _tracked(self) -> list[str]:
        """The root's variables, functions apart, that an inner scope captures or that go along with a
        closure.
        """
        functions = self.own_functions(())
        captured = {
            name
            for path, scope in self.scopes.items()
            if path and not scope.is_comprehension
            for name in scope.captures
        }
        along = {
            name
            for scope in self.scopes.values()
            for step in scope.steps
            if step.hand_over
            for name in step.hand_over.along
        }
        held = captured | along
        chosen = [name for name in self.root.variables if name in held and name not in functions]
        return chosen or [name for name in self.root.variables if name not in functions][:1]

    def _handed_counts(self) -> dict[ScopePath, int]:
        counts: dict[ScopePath, int] = {}
        for scope in self.scopes.values():
            for step in scope.steps:
                if step.hand_over is not None:
                    counts[step.hand_over.function] = counts.get(step.hand_over.function, 0) + 1
        return counts

    def keeps(self, path: ScopePath, seen: frozenset[ScopePath] = frozenset()) -> bool:
        """Does keeping this function keep a tracked object?"""
        if path in seen or path not in self.scopes:
            return False
        scope = self.scopes[path]
        captures = set(scope.captures)
        if scope.kind == "class":  # its body is over; its methods stay
            captures = {name for child in scope.children for name in child.captures}
        if captures & set(self.tracked):
            return True
        siblings = [other for other in self.scopes if len(other) == 1 and self.scopes[other].name in captures]
        return any(self.keeps(other, seen | {path}) for other in siblings)

    def is_leak(self, step: Step) -> bool:
        """Whether this hand-over keeps a tracked object after the run."""
        hand = step.hand_over
        if hand is None or step.kind == "take back" or hand.to == "@wraps":
            return False
        if step.name.endswith("()") and self.scopes[hand.function].kind == "async function":
            suspended = any(inner.kind == "await" for inner in self.scopes[hand.function].steps)
            return suspended and self.keeps(hand.function)
        return bool(hand.along) or self.keeps(hand.function)

    def _abort_await(self) -> Step | None:
        """The await at which the run is aborted: the last one that is reached with a closure registered."""
        if self.root.kind != "async function" or self.is_copy:
            return None
        steps = list(reachable(self.blocks))
        first = next((number for number, step in enumerate(steps) if step in self.leaks), 0)
        after = [step for step in steps[first:] if step.kind == "await"]
        return after[-1] if after else None

    @property
    def is_async(self) -> bool:
        return self.root.is_async

    @property
    def abort(self) -> str:
        """What the modes say: ``raise``, ``cancel`` or ``none``."""
        if not self.is_async:
            return "raise"
        return "cancel" if self.abort_line is not None else "none"

    @property
    def needs_wedged(self) -> bool:
        """Whether the file asks for ``run.wedged()``: to wait for it, or to register on it."""
        return self.abort_line is not None or (
            self.is_async and any(self.is_on_wedged(step.hand_over) for step in self.root.steps)
        )

    def is_on_wedged(self, hand: HandOver | None) -> bool:
        return self.is_async and hand is not None and hand.to == "add_done_callback" and not hand.along

    def named(self, name: str) -> str:
        """What a variable or function of the original is called in the file."""
        return renamed(name, is_function=name in self.functions)

    def captured_name(self, path: ScopePath, name: str) -> str:
        """What ``name``, captured by the scope at ``path``, is called in the generated file."""
        if name == "__class__" and any(self.scopes[path[:d]].kind == "class" for d in range(len(path))):
            return "__class__"
        return self.named(name)

    def decorators(self, path: ScopePath) -> list[Step]:
        steps = self.scopes[path[:-1]].steps
        return [
            step
            for step in steps
            if step.hand_over is not None and step.hand_over.function == path and step.hand_over.to.startswith("@")
        ]

    def called_parameters(self, path: ScopePath) -> tuple[Parameter, ...]:
        scope = self.scopes[path]
        if scope.kind != "class":
            return scope.parameters
        made = [child for child in scope.children if child.name in ("__init__", "__new__")]
        return made[0].parameters[1:] if made else ()

    def is_only_leak(self, path: ScopePath) -> bool:
        if self.leaks or len(path) != 1 or self.scopes[path].is_comprehension:
            return False
        return self.keeps(path) and not any(self.keeps(other) for other in self.function_names if len(other) == 1)

    @property
    def keeps_nothing(self) -> bool:
        """Whether no closure of it, lambdas and comprehensions included, keeps anything: the file has its variables and
        its steps, and leaks nothing by itself."""
        return not self.leaks and not any(self.keeps(path) for path in self.scopes if path)

    def extractable(self) -> list[ScopePath]:
        """Top level closures, lambdas included, that keep something tracked."""
        return [
            (number,)
            for number, child in enumerate(self.root.children)
            if not child.is_comprehension and child.kind != "class" and self.given_to((number,))
        ]

    def given_to(self, path: ScopePath) -> list[str]:
        """The tracked variables that keeping this function keeps."""
        along = {
            name
            for step in self.root.steps
            if step.hand_over is not None and step.hand_over.function == path
            for name in step.hand_over.along
        }
        held = along | set(self.scopes[path].captures)
        return [name for name in self.tracked if name in held]

    def label(self, path: ScopePath) -> str:
        if path in self.function_names:
            return self.function_names[path].strip("_") or "function"
        return variable_of(path)
