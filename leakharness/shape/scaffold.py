"""Writing a scenario file that has the lexical shape of a suspect function.

The file is a beginning, not a proof: payloads and registries are stand-ins, and ``# FILL IN`` marks what
only a person knows. It runs at once all the same: closure-inline leaks what the original's closures
capture, because something that outlives the run gets the closures; closure-extracted gives the same
objects to functions at module scope, and takes the registration back.
"""

from __future__ import annotations

import builtins
import keyword
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from leakharness.errors import OptionError
from leakharness.shape.model import HandOver, Parameter, Step, walk
from leakharness.shape.model import Path as ScopePath
from leakharness.shape.suspect import Suspect

__all__ = ["scaffold", "write_scaffold"]

LINE_LENGTH = 100
FORMAT_TIMEOUT_S = 30
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
CATCHES = (
    "LookupError",
    "ValueError",
    "OSError",
    "TypeError",
    "RuntimeError",
    "ArithmeticError",
    "Exception",
)
"""What stands in for an exception class of the original, one after the other: a handler catches another
than the last.
"""


def write_scaffold(suspect: Suspect, name: str, folder: Path, *, force: bool = False) -> Path:
    """Write ``folder/NAME.py`` and return its path. Raises OptionError where it exists (without
    ``force``).
    """
    text = scaffold(suspect, name)
    file = folder / f"{name.replace('-', '_')}.py"
    if file.exists() and not force:
        raise OptionError(f"{file} exists: choose another name, or overwrite it with --force")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(_formatted(text, file), encoding="utf-8")
    return file


def _formatted(text: str, file: Path) -> str:
    """``text`` as ruff formats it for the project that ``file`` is in; as it is where there is no ruff."""
    beside = Path(sys.executable).with_name("ruff")
    ruff = str(beside) if beside.exists() else shutil.which("ruff")
    if ruff is None:
        return text
    command = [ruff, "format", "--stdin-filename", str(file.resolve()), "-"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=FORMAT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return text
    return done.stdout.decode() or text


def scaffold(suspect: Suspect, name: str) -> str:
    """The text of a scenario called ``name`` with the shape of ``suspect``. Raises OptionError for a
    class.
    """
    if not name.replace("-", "_").isidentifier():
        raise OptionError(f"{name!r} is no name for a scenario: use letters, digits and '-', as in embedded-run")
    if suspect.shape.kind == "class":
        raise OptionError(f"{suspect.target} is a class: name the method that leaks, {suspect.qualname}.METHOD")
    return _File(suspect, name).text()


@dataclass
class _Block:
    """Steps with their nesting: a plain step, or a with/try block of sections (kind, name of the step,
    steps).
    """

    step: Step
    sections: list[tuple[str, str, list[_Block]]] = field(default_factory=list)


def _nested(steps: tuple[Step, ...]) -> list[_Block]:
    top: list[_Block] = []
    stack: list[tuple[_Block | None, list[_Block]]] = [(None, top)]
    for step in steps:
        block, into = stack[-1]
        if step.kind in ("try", "with", "async with"):
            opened = _Block(step, [(step.kind, step.name, [])])
            into.append(opened)
            stack.append((opened, opened.sections[0][2]))
        elif step.kind in ("except", "else", "finally") and block is not None:
            block.sections.append((step.kind, step.name, []))
            stack[-1] = (block, block.sections[-1][2])
        elif step.kind == "end":
            stack.pop()
        else:
            into.append(_Block(step))
    return top


def _reachable(blocks: list[_Block]) -> Iterator[Step]:
    """Plain steps that a run executes where nothing fails: all but those in exception handlers."""
    for block in blocks:
        if not block.sections:
            yield block.step
        for kind, _, inner in block.sections:
            if kind != "except":
                yield from _reachable(inner)


class _File:
    """One generated file: decides what is tracked, what keeps the closures and where the abort comes,
    then writes.
    """

    def __init__(self, suspect: Suspect, name: str) -> None:
        self.suspect = suspect
        self.root = suspect.shape
        self.name = name
        self.scopes = dict(walk(self.root))
        self.blocks = _nested(self.root.steps)
        self.lines: list[str] = []
        self.functions = frozenset(scope.name for path, scope in self.scopes.items() if path and scope.kind != "lambda")
        self.function_names = self._function_names()
        self.tracked = self._tracked()
        self.handed = self._handed_counts()
        self.leaks = [step for step in _reachable(self.blocks) if self._is_leak(step)]
        self.is_copy = "generator" in self.root.kind or any(
            step.hand_over is not None and step.hand_over.to == "return" for step in self.root.steps
        )
        self.abort_line = self._abort_await()
        self.defined: set[ScopePath] = set()

    # decisions

    def _function_names(self) -> dict[ScopePath, str]:
        """The name of each nested function in the generated file; a second one of the same name gets a
        number.
        """
        found: dict[ScopePath, str] = {}
        for path, scope in self.scopes.items():
            if not path or scope.name.startswith("<"):
                continue
            siblings = [found[other] for other in found if other[:-1] == path[:-1]]
            name = self._named(scope.name)
            number = 2
            while name in siblings:
                name, number = f"{self._named(scope.name)}_{number}", number + 1
            found[path] = name
        return found

    def _own_functions(self, path: ScopePath) -> set[str]:
        scope = self.scopes[path]
        return {child.name for child in scope.children if not child.name.startswith("<")}

    def _tracked(self) -> list[str]:
        """The root's variables, functions apart, that an inner scope captures or that go along with a
        closure.
        """
        functions = self._own_functions(())
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

    def _keeps(self, path: ScopePath, seen: frozenset[ScopePath] = frozenset()) -> bool:
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
        return any(self._keeps(other, seen | {path}) for other in siblings)

    def _is_leak(self, step: Step) -> bool:
        hand = step.hand_over
        if hand is None or step.kind == "take back" or hand.to == "@wraps":
            return False
        if step.name.endswith("()") and self.scopes[hand.function].kind == "async function":
            suspended = any(inner.kind == "await" for inner in self.scopes[hand.function].steps)
            return suspended and self._keeps(hand.function)
        return bool(hand.along) or self._keeps(hand.function)

    def _abort_await(self) -> Step | None:
        """The await at which the run is aborted: the last one that is reached with a closure registered."""
        if self.root.kind != "async function" or self.is_copy:
            return None
        steps = list(_reachable(self.blocks))
        first = next((number for number, step in enumerate(steps) if step in self.leaks), 0)
        after = [step for step in steps[first:] if step.kind == "await"]
        return after[-1] if after else None

    @property
    def is_async(self) -> bool:
        return self.root.is_async

    @property
    def abort(self) -> str:
        if not self.is_async:
            return "raise"
        return "cancel" if self.abort_line is not None else "none"

    @property
    def needs_wedged(self) -> bool:
        return self.abort_line is not None or (
            self.is_async and any(self._is_on_wedged(step.hand_over) for step in self.root.steps)
        )

    def _is_on_wedged(self, hand: HandOver | None) -> bool:
        return self.is_async and hand is not None and hand.to == "add_done_callback" and not hand.along

    def _named(self, name: str) -> str:
        """What a variable or function of the original is called in the file."""
        return _renamed(name, is_function=name in self.functions)

    # writing

    def text(self) -> str:
        self._inline()
        self._extracted()
        self._production()
        body, self.lines = self.lines, []
        self._head(body)
        return "\n".join([*self.lines, *body]).rstrip("\n") + "\n"

    def line(self, indent: int, text: str = "") -> None:
        self.lines.append("    " * indent + text if text else "")

    def _head(self, body: list[str]) -> None:
        used = "\n".join(body)
        target = self.suspect.target
        self.line(0, f'"""{self.name}: what closures keep after an aborted run.')
        self.line(0)
        self.line(0, "Made with the lexical shape of")
        self.line(0, f"{target}.")
        self.line(0, "FILL IN: what leaks, what keeps it, and what the fix changed.")
        self.line(0, '"""')
        self.line(0)
        self.line(0, "from __future__ import annotations")
        self.line(0)
        if re.search(r"\basyncio\.(sleep|wait|CancelledError)\b", used):
            self.line(0, "import asyncio")
        self.line(0, "import contextlib")
        if "functools." in used:
            self.line(0, "import functools")
        has_nothing = "in nothing()" in used
        self.line(0, f"from collections.abc import {'AsyncIterator, Callable' if has_nothing else 'Callable'}")
        self.line(0, "from typing import Any")
        self.line(0)
        self.line(0, "from leakharness import Run, Scenario")
        self.line(0)
        self.line(0, "scenario = Scenario(")
        self.line(1, f'"{self.name}",')
        self.line(1, 'summary="FILL IN: what leaks here, in one line",')
        self.line(1, f'mimics="{target}",')
        self.line(1, f'target="{target.module}:{target.qualname}",')
        self.line(0, ")")
        self.line(0)
        for text in HEAD.strip("\n").split("\n"):
            self.line(0, text)
        if has_nothing:
            for text in NOTHING_ASYNC.strip("\n").split("\n"):
                self.line(0, text)
        if "global_name" in used:
            self.line(0)
            self.line(0, "global_name: Any = None")
        if "in NOTHING" in used:
            self.line(0)
            self.line(0, "NOTHING: list[Any] = []")
        self.line(0)
        self.line(0)

    def _inline(self) -> None:
        word = "async def" if self.is_async else "def"
        if self.is_copy:
            copied = _renamed(self.suspect.qualname.rpartition(".")[2], is_function=True)
            self.line(0, f"{word} {copied}(run: Run) -> Any:")
            self.line(1, '"""The original\\\'s shape."""')
            self._body((), 1)
            self._mode("closure-inline", "FAIL")
            self.line(0, f"{word} closure_inline(run: Run) -> None:")
            self.line(1, '"""The shape before the fix, and what its caller keeps of it."""')
            self._drive(copied)
        else:
            self._mode("closure-inline", "FAIL")
            self.line(0, f"{word} closure_inline(run: Run) -> None:")
            self.line(1, '"""The shape before the fix."""')
            self._body((), 1)
        self._raise_at_end(1)

    def _mode(self, name: str, must: str, default: str = "") -> None:
        self.line(0)
        self.line(0)
        self.line(0, f'@scenario.mode("{name}", must="{must}"{default}, abort="{self.abort}")')

    def _drive(self, copied: str) -> None:
        comment = "  # FILL IN: what the original's caller does with it"
        if self.root.kind == "generator":
            self.line(1, f"for given in {copied}(run):{comment}")
            self.line(2, "keep(given)")
        elif self.root.kind == "async generator":
            self.line(1, f"async for given in {copied}(run):{comment}")
            self.line(2, "keep(given)")
        else:
            self.line(1, f"keep({'await ' if self.is_async else ''}{copied}(run)){comment}")

    def _raise_at_end(self, indent: int) -> None:
        if not self.is_async:
            self.line(indent, 'raise RuntimeError("aborted")  # FILL IN: where and how the original is aborted')

    def _body(self, path: ScopePath, indent: int) -> None:
        """Everything in a function: variables, what it names, then its steps in order."""
        start = len(self.lines)
        scope = self.scopes[path]
        if not path:
            self._root_variables(indent)
        else:
            self._inner_variables(path, indent)
        if path or self.leaks:
            fallback: set[ScopePath] = set()
        else:
            fallback = self._fallback(indent)
        self._blocks(_nested(scope.steps), path, indent, fallback, is_last=True)
        returns = [step for step in scope.steps if step.hand_over and step.hand_over.to == "return"]
        if returns and not self.lines[-1].lstrip().startswith("return"):
            self.line(indent, "return None")
        if len(self.lines) == start:
            self.line(indent, "pass")

    def _root_variables(self, indent: int) -> None:
        functions = self._own_functions(())
        share = max(len(self.tracked), 1)
        size = "run.scope_bytes" if share == 1 else f"run.scope_bytes // {share}"
        if self.tracked:
            self.line(indent, "# FILL IN: payloads that weigh and refer as the original's objects do")
        for name in self.root.variables:
            if name in functions:
                continue
            made = f'run.track(Payload({size}), "{name}")' if name in self.tracked else "Payload()"
            self.line(indent, f"{self._named(name)}: Any = {made}")
        if self.needs_wedged:
            self.line(indent, "wedged = run.wedged()  # FILL IN: what the original waits for")
        names = [self._named(name) for name in self.root.variables if name not in functions]
        if names:
            self.line(indent, f"use({', '.join(names)})")

    def _inner_variables(self, path: ScopePath, indent: int) -> None:
        scope = self.scopes[path]
        released = [step.name for step in scope.steps if step.kind == "release" and step.name in scope.captures]
        if released:
            self.line(indent, f"nonlocal {', '.join(dict.fromkeys(map(self._named, released)))}")
        functions = self._own_functions(path)
        own = [name for name in scope.locals if name not in functions]
        for name in own:
            self.line(indent, f"{self._named(name)}: Any = Payload()")
        names = [self._captured_name(path, name) for name in scope.captures] + [self._named(name) for name in own]
        if "__class__" in names:
            names.remove("__class__")
            self.line(indent, "use(__class__)  # type: ignore[name-defined]")
        if names:
            self.line(indent, f"use({', '.join(dict.fromkeys(names))})")

    def _captured_name(self, path: ScopePath, name: str) -> str:
        """What ``name``, captured by the scope at ``path``, is called in the generated file."""
        if name == "__class__" and any(self.scopes[path[:d]].kind == "class" for d in range(len(path))):
            return "__class__"
        return self._named(name)

    def _fallback(self, indent: int) -> set[ScopePath]:
        """Nothing that is handed over keeps anything: the harness holds a closure, or the objects, in its
        place.
        """
        closures: set[ScopePath] = {
            (number,)
            for number, child in enumerate(self.root.children)
            if not child.is_comprehension and self._keeps((number,)) and child.name in self.function_names.values()
        }
        if closures:
            return closures
        if self.tracked:
            held = ", ".join(self._named(name) for name in self.tracked)
            self.line(indent, f"run.hold([{held}])  # FILL IN: what keeps them in the original")
        return set()

    # steps

    def _blocks(
        self,
        blocks: list[_Block],
        path: ScopePath,
        indent: int,
        fallback: set[ScopePath],
        is_last: bool = False,
    ) -> None:
        start = len(self.lines)
        pending = ""
        for number, block in enumerate(blocks):
            last = is_last and number == len(blocks) - 1
            if block.sections:
                self._section(block, path, indent, fallback)
            elif block.step.kind == "take back" and block.step.hand_over is not None:
                self.line(indent, "if run.index < 0:  # FILL IN: when the original takes it back")
                self._hand_over(block.step, path, indent + 1, False)
            elif block.step.kind == "hand over" and block.step.hand_over is not None:
                if block.step.hand_over.to == "yield":
                    pending = self._given_value(block.step)
                else:
                    self._hand_over(block.step, path, indent, last)
            elif block.step.kind == "yield":
                self.line(indent, f"yield {pending}" if pending else "yield Payload()")
                pending = ""
            else:
                self._plain(block.step, path, indent, fallback)
        if len(self.lines) == start and not is_last:
            self.line(indent, "pass")

    def _section(self, block: _Block, path: ScopePath, indent: int, fallback: set[ScopePath]) -> None:
        kind = block.step.kind
        if kind != "try":
            items = 1
            inner = block.sections[0][2]
            while len(inner) == 1 and inner[0].step.kind == kind and inner[0].sections:
                items, inner = items + 1, inner[0].sections[0][2]
            self.line(indent, f"{kind} {', '.join(['contextlib.nullcontext()'] * items)}:")
            self._blocks(inner, path, indent + 1, fallback)
            return
        free = list(CATCHES)
        for section, name, inner in block.sections:
            if section != "except":
                self.line(indent, f"{section}:")
                self._blocks(inner, path, indent + 1, fallback)
                continue
            caught = _caught(name, free)
            self.line(indent, f"except {caught}:")
            is_passed_on = caught in ("BaseException", "asyncio.CancelledError")
            if inner or not is_passed_on:
                self._blocks(inner, path, indent + 1, fallback)
            if is_passed_on and not self.lines[-1].lstrip().startswith("return"):
                self.line(indent + 1, "raise")

    def _plain(self, step: Step, path: ScopePath, indent: int, fallback: set[ScopePath]) -> None:
        if step.kind == "define" and step.child is not None:
            self._define((*path, step.child), indent, fallback)
        elif step.kind == "await":
            self._await(step, path, indent)
        elif step.kind == "yield from":
            self.line(indent, "yield from ()")
        elif step.kind == "async for":
            self.line(indent, "async for _ in nothing():")
            self.line(indent + 1, "pass")
        elif step.kind == "release":
            self.line(indent, "if run.index < 0:  # FILL IN: when the original lets go of it")
            name = self._named(step.name)
            self.line(indent + 1, f"del {name}" if step.name in self.functions else f"{name} = None")

    def _await(self, step: Step, path: ScopePath, indent: int) -> None:
        if not path and step is self.abort_line:
            self.line(indent, "await asyncio.wait([wedged])  # the abort comes here; FILL IN: where in the original")
        else:
            self.line(indent, "await asyncio.sleep(0)")

    def _define(self, path: ScopePath, indent: int, fallback: set[ScopePath]) -> None:
        scope = self.scopes[path]
        if path in self.defined:
            return
        self.defined.add(path)
        if path in self.function_names:
            if scope.kind == "class":
                self._class(path, indent)
            else:
                self._function(path, indent)
            if path in fallback:
                name = self.function_names[path]
                self.line(indent, f"run.hold({name})  # FILL IN: what keeps it in the original")
            return
        if self.handed.get(path, 0) == 1:
            return  # written where it is handed over
        if self.handed.get(path, 0) > 1:
            self.line(indent, f"{_variable_of(path)}: Any = {self._expression(path)}")
        else:
            holder = "use" if not self._is_only_leak(path) else "run.hold"
            comment = "" if holder == "use" else "  # FILL IN: what keeps it in the original"
            self.line(indent, f"{holder}({_bare(self._expression(path))}){comment}")

    def _is_only_leak(self, path: ScopePath) -> bool:
        if self.leaks or len(path) != 1 or self.scopes[path].is_comprehension:
            return False
        return self._keeps(path) and not any(self._keeps(other) for other in self.function_names if len(other) == 1)

    def _function(self, path: ScopePath, indent: int) -> None:
        scope = self.scopes[path]
        self.line(0)
        for step in reversed(self._decorators(path)):
            assert step.hand_over is not None
            along = ", ".join(self._named(name) for name in step.hand_over.along)
            if step.hand_over.to == "@wraps":
                self.line(indent, f"@functools.wraps({along or 'use'})")
            else:
                self.line(indent, f"@REGISTRY.{step.hand_over.to[1:]}" + (f"({along})" if along else ""))
        word = "async def" if scope.is_async else "def"
        in_class = self.scopes[path[:-1]].kind == "class"
        parameters = _parameters(scope.parameters, typed=True)
        is_static = in_class and (not scope.parameters or scope.parameters[0].kind.startswith("keyword"))
        if is_static:
            self.line(indent, "@staticmethod")
        result = "None" if in_class and scope.name in ("__init__", "__init_subclass__") else "Any"
        self.line(indent, f"{word} {self.function_names[path]}({parameters}) -> {result}:")
        start = len(self.lines)
        self._body(path, indent + 1)
        if len(self.lines) == start:
            self.line(indent + 1, "pass")
        self.line(0)

    def _decorators(self, path: ScopePath) -> list[Step]:
        steps = self.scopes[path[:-1]].steps
        return [
            step
            for step in steps
            if step.hand_over is not None and step.hand_over.function == path and step.hand_over.to.startswith("@")
        ]

    def _class(self, path: ScopePath, indent: int) -> None:
        scope = self.scopes[path]
        self.line(0)
        for step in reversed(self._decorators(path)):
            assert step.hand_over is not None
            self.line(indent, f"@REGISTRY.{step.hand_over.to[1:]}")
        self.line(indent, f"class {self.function_names[path]}:")
        self.line(indent + 1, f'"""Stands for the original\'s {scope.name}."""')
        inner = {name for child in scope.children for name in child.captures}
        direct = [name for name in scope.captures if name not in inner]
        if direct:
            self.line(0)
            self.line(indent + 1, f"use({', '.join(map(self._named, direct))})")
        self._blocks(_nested(scope.steps), path, indent + 1, set(), is_last=True)
        self.line(0)

    def _hand_over(self, step: Step, path: ScopePath, indent: int, is_last: bool) -> None:
        hand = step.hand_over
        assert hand is not None
        if hand.to.startswith("@"):
            return  # written with the function
        if hand.function[:-1] == path:
            self._define(hand.function, indent, set())  # a branch of the original may hand it over earlier
        given = self._reference(hand, step.name)
        values = ", ".join([given, *(self._named(name) for name in hand.along)])
        if hand.to == "return":
            value = self._given_value(step)
            if not is_last or self.scopes[path].kind == "async generator":
                is_taken = bool(self.leaks) and step is self.leaks[-1]
                condition = "run.index >= 0" if is_taken else "run.index < 0"
                self.line(indent, f"if {condition}:  # FILL IN: when the original returns here")
                indent += 1
            self.line(indent, f"return {value}")
        elif hand.to == "[...] =":
            self.line(indent, f'REGISTRY["{hand.name}"] = {_tuple(values, hand)}')
        elif hand.to == "global =":
            self.line(indent, "global global_name")
            self.line(indent, f"global_name = {_tuple(values, hand)}")
        elif hand.to.endswith(" ="):
            self.line(indent, f"REGISTRY{hand.to} {_tuple(values, hand)}")
        else:
            self.line(indent, self._call(hand, values if hand.along else _bare(given), path))

    def _given_value(self, step: Step) -> str:
        """What is returned or yielded: the function, with what goes along in a tuple."""
        assert step.hand_over is not None
        given = self._reference(step.hand_over, step.name)
        along = [self._named(name) for name in step.hand_over.along]
        return f"({', '.join([given, *along])})" if along else given

    def _call(self, hand: HandOver, values: str, path: ScopePath) -> str:
        owner = "wedged" if not path and self._is_on_wedged(hand) else "REGISTRY"
        ignored = "  # type: ignore[misc]" if hand.to == "__init__" else ""
        return f"{owner}.{hand.to}({values}){ignored}"

    def _reference(self, hand: HandOver, name: str) -> str:
        path = hand.function
        if path not in self.function_names:
            return self._expression(path) if self.handed.get(path, 0) == 1 else _variable_of(path)
        text = self.function_names[path]
        if not name.endswith("()"):
            return text
        return f"{text}({_arguments(self._called_parameters(path))})"

    def _called_parameters(self, path: ScopePath) -> tuple[Parameter, ...]:
        scope = self.scopes[path]
        if scope.kind != "class":
            return scope.parameters
        made = [child for child in scope.children if child.name in ("__init__", "__new__")]
        return made[0].parameters[1:] if made else ()

    def _expression(self, path: ScopePath) -> str:
        """A lambda or comprehension that names what the original's names, with what is nested in it."""
        scope = self.scopes[path]
        parts = [self._captured_name(path, name) for name in scope.captures]
        for step in scope.steps:
            if step.kind == "define" and step.child is not None:
                inner = (*path, step.child)
                if self.handed.get(inner, 0) != 1:
                    parts.append(self._expression(inner))
            elif step.kind == "await":
                parts.append("await asyncio.sleep(0)")
            elif step.hand_over is not None and step.hand_over.to.isidentifier():
                given = self._reference(step.hand_over, step.name)
                along = [self._named(name) for name in step.hand_over.along]
                parts.append(f"REGISTRY.{step.hand_over.to}({', '.join([given, *along])})")
        if scope.kind == "lambda":
            parameters = _parameters(scope.parameters, typed=False)
            return f"lambda{' ' if parameters else ''}{parameters}: use({_bare(', '.join(parts))})"
        targets = [self._named(name) for name in scope.locals]
        parts += targets
        loops = [step.kind for step in scope.steps if step.kind == "async for"]
        source = (
            " ".join(
                f"async for {target} in nothing()" for target in [", ".join(targets) or "_", *"_" * 9][: len(loops)]
            )
            or f"for {', '.join(targets) or '_'} in NOTHING"
        )
        element = f"use({', '.join(parts)})"
        brackets = {"list comprehension": "[]", "generator expression": "()"}.get(scope.kind, "{}")
        value = f"{element}: None" if scope.kind == "dict comprehension" else element
        return f"{brackets[0]}{value} {source}{brackets[1]}"

    # the other modes

    def _extracted(self) -> None:
        closures = self._extractable()
        for path in closures:
            self._extracted_function(path)
        word = "async def" if self.is_async else "def"
        self.lines += ["", ""]
        self.line(0, f'@scenario.mode("closure-extracted", must="PASS", default=True, abort="{self.abort}")')
        self.line(0, f"{word} closure_extracted(run: Run) -> None:")
        self.line(1, '"""The shape of the fix: nothing is captured, and what was registered is taken back."""')
        share = max(len(self.tracked), 1)
        size = "run.scope_bytes" if share == 1 else f"run.scope_bytes // {share}"
        for name in self.tracked:
            self.line(1, f'{self._named(name)}: Any = run.track(Payload({size}), "{name}")')
        if self.needs_wedged:
            self.line(1, "wedged = run.wedged()")
        owner = "wedged" if self.needs_wedged else ""
        names = []
        for path in closures:
            given = ", ".join([self._extracted_name(path), *map(self._named, self._given(path))])
            names.append(f"call_{self._label(path)}")
            self.line(1, f"{names[-1]} = functools.partial({given})")
            self.line(1, f"{owner}.add_done_callback({names[-1]})" if owner else f"keep({names[-1]})")
        used = {name for path in closures for name in self._given(path)}
        others = [self._named(name) for name in self.tracked if name not in used]
        if others:
            self.line(1, f"use({', '.join(others)})")
        self.line(1, "try:")
        self._abort_of_extracted()
        self.line(1, "finally:  # FILL IN: how the fix takes the registration back")
        for name in names if owner else []:
            self.line(2, f"{owner}.remove_done_callback({name})")
        if not (names and owner):
            self.line(2, "KEPT.clear()")

    def _abort_of_extracted(self) -> None:
        if self.abort == "cancel":
            self.line(2, "await asyncio.wait([wedged])")
        elif self.abort == "raise":
            self.line(2, 'raise RuntimeError("aborted")')
        else:
            self.line(2, "await asyncio.sleep(0)")

    def _extractable(self) -> list[ScopePath]:
        """Top level closures, lambdas included, that keep something tracked."""
        return [
            (number,)
            for number, child in enumerate(self.root.children)
            if not child.is_comprehension and child.kind != "class" and self._given((number,))
        ]

    def _given(self, path: ScopePath) -> list[str]:
        """The tracked variables that keeping this function keeps."""
        along = {
            name
            for step in self.root.steps
            if step.hand_over is not None and step.hand_over.function == path
            for name in step.hand_over.along
        }
        held = along | set(self.scopes[path].captures)
        return [name for name in self.tracked if name in held]

    def _label(self, path: ScopePath) -> str:
        if path in self.function_names:
            return self.function_names[path].strip("_") or "function"
        return _variable_of(path)

    def _extracted_name(self, path: ScopePath) -> str:
        return f"extracted_{self._label(path)}"

    def _extracted_function(self, path: ScopePath) -> None:
        given = [self._named(name) for name in self._given(path)]
        parameters = ", ".join([*(f"{name}: Any" for name in given), "*given: Any"])
        self.lines += ["", ""]
        self.line(0, f"def {self._extracted_name(path)}({parameters}) -> None:")
        self.line(1, '"""FILL IN: what the closure did, with what it needs as arguments."""')
        self.line(1, f"use({', '.join([*given, '*given'])})")

    def _production(self) -> None:
        word = "async def" if self.is_async else "def"
        self.lines += ["", ""]
        self.line(0, '@scenario.mode("production", must="PASS", abort="none", needs_target=True)')
        self.line(0, f"{word} production(run: Run) -> None:")
        self.line(1, '"""The real function, imported."""')
        self.line(1, "function = run.target()")
        self.line(1, "# FILL IN: call it as its users do, abort it, and track what must go away; until then this")
        self.line(1, "# mode is not judged, and cannot pass by doing nothing.")
        self.line(1, 'raise NotImplementedError(f"FILL IN: call {function!r}, abort it, track what must die")')


def _tuple(values: str, hand: HandOver) -> str:
    return f"({values})" if hand.along else values


def _bare(expression: str) -> str:
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


def _variable_of(path: ScopePath) -> str:
    return "function_" + "_".join(str(number + 1) for number in path)


def _renamed(name: str, *, is_function: bool = False) -> str:
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


def _parameters(parameters: tuple[Parameter, ...], *, typed: bool) -> str:
    kind: dict[str, list[str]] = {}
    has_default = False
    for parameter in parameters:
        text = _renamed(parameter.name) + (": Any" if typed else "")
        names = [_renamed(name) for name in parameter.default_names]
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


def _arguments(parameters: tuple[Parameter, ...]) -> str:
    """What a call must give: None for each parameter that needs a value."""
    given = ["None" for parameter in parameters if parameter.kind.startswith("positional")]
    named = [f"{_renamed(parameter.name)}=None" for parameter in parameters if parameter.kind == "keyword-only"]
    return ", ".join(given + named)


def _caught(name: str, free: list[str]) -> str:
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


HEAD = '''
KEPT: list[object] = []


class Payload:
    """Stands for an object of the original: so many bytes, and no references."""

    def __init__(self, size_bytes: int = 0) -> None:
        self.data = bytearray(size_bytes)


class Registry:
    """Stands for what the original hands its functions to. FILL IN the real one."""

    def __init__(self, *given: Any, **named: Any) -> None:
        keep(given, named)

    def __getattr__(self, name: str) -> Callable[..., Callable[..., Any]]:
        return keep

    def __setattr__(self, name: str, value: object) -> None:
        keep(value)

    def __setitem__(self, key: object, value: object) -> None:
        keep(value)


def keep(*given: Any) -> Callable[..., Any]:
    """Keep ``given`` for ever, a coroutine as a started one; also serves as decorator."""
    for item in given:
        if type(item).__name__ == "coroutine":
            with contextlib.suppress(StopIteration):
                item.send(None)
    KEPT.append(given)
    function: Callable[..., Any] = given[0] if given and callable(given[0]) else keep
    return function


def use(*objects: object) -> Any:
    """Does nothing: a closure keeps what it names, and this names it."""


REGISTRY = Registry()
'''

NOTHING_ASYNC = '''


async def nothing() -> AsyncIterator[Any]:
    """An asynchronous iteration that ends at once."""
    for item in list[Any]():
        yield item
'''
