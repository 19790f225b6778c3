"""The copied function of a scaffold: variables, nested functions and steps, in the order of the original."""

from __future__ import annotations

from collections.abc import Callable

from leakharness.shape.model import HandOver, ScopePath, Step
from leakharness.shape.scaffold.names import (
    arguments_text,
    bare,
    caught_class,
    parameters_text,
    tuple_text,
    variable_of,
)
from leakharness.shape.scaffold.plan import Block, ScaffoldPlan, nested

__all__ = ["CopiedBody", "Lines"]

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


class Lines:
    """Lines of Python, each with its indentation in steps of four."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, indent: int, text: str = "") -> None:
        self.lines.append("    " * indent + text if text else "")


class CopiedBody:
    """Writes functions of the original, as ``plan`` has them, to ``out``. Each nested one is written once."""

    def __init__(self, plan: ScaffoldPlan, out: Lines) -> None:
        self.plan = plan
        self.lines = out.lines
        self.line: Callable[..., None] = out.line
        self.defined: set[ScopePath] = set()

    def write(self, path: ScopePath, indent: int) -> None:
        """Everything in a function: variables, what it names, then its steps in order."""
        start = len(self.lines)
        scope = self.plan.scopes[path]
        if not path:
            self._root_variables(indent)
        else:
            self._inner_variables(path, indent)
        if path or self.plan.leaks:
            fallback: set[ScopePath] = set()
        else:
            fallback = self._fallback(indent)
        self._blocks(nested(scope.steps), path, indent, fallback, is_last=True)
        returns = [step for step in scope.steps if step.hand_over and step.hand_over.to == "return"]
        if returns and not self.lines[-1].lstrip().startswith("return"):
            self.line(indent, "return None")
        if len(self.lines) == start:
            self.line(indent, "pass")

    def _root_variables(self, indent: int) -> None:
        functions = self.plan.own_functions(())
        share = max(len(self.plan.tracked), 1)
        size = "run.scope_bytes" if share == 1 else f"run.scope_bytes // {share}"
        if self.plan.tracked:
            self.line(indent, "# FILL IN: payloads that weigh and refer as the original's objects do")
        for name in self.plan.root.variables:
            if name in functions:
                continue
            made = f'run.track(Payload({size}), "{name}")' if name in self.plan.tracked else "Payload()"
            self.line(indent, f"{self.plan.named(name)}: Any = {made}")
        if self.plan.needs_wedged:
            self.line(indent, "wedged = run.wedged()  # FILL IN: what the original waits for")
        names = [self.plan.named(name) for name in self.plan.root.variables if name not in functions]
        if names:
            self.line(indent, f"use({', '.join(names)})")

    def _inner_variables(self, path: ScopePath, indent: int) -> None:
        scope = self.plan.scopes[path]
        released = [step.name for step in scope.steps if step.kind == "release" and step.name in scope.captures]
        if released:
            self.line(indent, f"nonlocal {', '.join(dict.fromkeys(map(self.plan.named, released)))}")
        functions = self.plan.own_functions(path)
        own = [name for name in scope.locals if name not in functions]
        for name in own:
            self.line(indent, f"{self.plan.named(name)}: Any = Payload()")
        names = [self.plan.captured_name(path, name) for name in scope.captures] + [
            self.plan.named(name) for name in own
        ]
        if "__class__" in names:
            names.remove("__class__")
            self.line(indent, "use(__class__)  # type: ignore[name-defined]")
        if names:
            self.line(indent, f"use({', '.join(dict.fromkeys(names))})")

    def _fallback(self, indent: int) -> set[ScopePath]:
        """Nothing that is handed over keeps anything: the closures that the harness holds in its place; none where no
        closure captures anything."""
        closures: set[ScopePath] = {
            (number,)
            for number, child in enumerate(self.plan.root.children)
            if not child.is_comprehension
            and self.plan.keeps((number,))
            and child.name in self.plan.function_names.values()
        }
        if closures:
            return closures
        # A hold planted here would make this arm FAIL whatever the original does: a control that shows nothing.
        self.line(indent, "# FILL IN: keep them as the original does. No closure of it keeps anything, so this arm")
        self.line(indent, "# leaks nothing until then, and no PASS of the others counts.")
        return set()

    def _blocks(
        self,
        blocks: list[Block],
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

    def _section(self, block: Block, path: ScopePath, indent: int, fallback: set[ScopePath]) -> None:
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
            caught = caught_class(name, free)
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
            name = self.plan.named(step.name)
            self.line(indent + 1, f"del {name}" if step.name in self.plan.functions else f"{name} = None")

    def _await(self, step: Step, path: ScopePath, indent: int) -> None:
        if not path and step is self.plan.abort_line:
            self.line(indent, "await asyncio.wait([wedged])  # the abort comes here; FILL IN: where in the original")
        else:
            self.line(indent, "await asyncio.sleep(0)")

    def _define(self, path: ScopePath, indent: int, fallback: set[ScopePath]) -> None:
        scope = self.plan.scopes[path]
        if path in self.defined:
            return
        self.defined.add(path)
        if path in self.plan.function_names:
            if scope.kind == "class":
                self._class(path, indent)
            else:
                self._function(path, indent)
            if path in fallback:
                name = self.plan.function_names[path]
                self.line(indent, f"run.hold({name})  # FILL IN: what keeps it in the original")
            return
        if self.plan.handed.get(path, 0) == 1:
            return  # written where it is handed over
        if self.plan.handed.get(path, 0) > 1:
            self.line(indent, f"{variable_of(path)}: Any = {self._expression(path)}")
        else:
            holder = "use" if not self.plan.is_only_leak(path) else "run.hold"
            comment = "" if holder == "use" else "  # FILL IN: what keeps it in the original"
            self.line(indent, f"{holder}({bare(self._expression(path))}){comment}")

    def _function(self, path: ScopePath, indent: int) -> None:
        scope = self.plan.scopes[path]
        self.line(0)
        for step in reversed(self.plan.decorators(path)):
            assert step.hand_over is not None
            along = ", ".join(self.plan.named(name) for name in step.hand_over.along)
            if step.hand_over.to == "@wraps":
                self.line(indent, f"@functools.wraps({along or 'use'})")
            else:
                self.line(indent, f"@REGISTRY.{step.hand_over.to[1:]}" + (f"({along})" if along else ""))
        word = "async def" if scope.is_async else "def"
        in_class = self.plan.scopes[path[:-1]].kind == "class"
        parameters = parameters_text(scope.parameters, typed=True)
        is_static = in_class and (not scope.parameters or scope.parameters[0].kind.startswith("keyword"))
        if is_static:
            self.line(indent, "@staticmethod")
        result = "None" if in_class and scope.name in ("__init__", "__init_subclass__") else "Any"
        self.line(indent, f"{word} {self.plan.function_names[path]}({parameters}) -> {result}:")
        start = len(self.lines)
        self.write(path, indent + 1)
        if len(self.lines) == start:
            self.line(indent + 1, "pass")
        self.line(0)

    def _class(self, path: ScopePath, indent: int) -> None:
        scope = self.plan.scopes[path]
        self.line(0)
        for step in reversed(self.plan.decorators(path)):
            assert step.hand_over is not None
            self.line(indent, f"@REGISTRY.{step.hand_over.to[1:]}")
        self.line(indent, f"class {self.plan.function_names[path]}:")
        self.line(indent + 1, f'"""Stands for the original\'s {scope.name}."""')
        inner = {name for child in scope.children for name in child.captures}
        direct = [name for name in scope.captures if name not in inner]
        if direct:
            self.line(0)
            self.line(indent + 1, f"use({', '.join(map(self.plan.named, direct))})")
        self._blocks(nested(scope.steps), path, indent + 1, set(), is_last=True)
        self.line(0)

    def _hand_over(self, step: Step, path: ScopePath, indent: int, is_last: bool) -> None:
        hand = step.hand_over
        assert hand is not None
        if hand.to.startswith("@"):
            return  # written with the function
        if hand.function[:-1] == path:
            self._define(hand.function, indent, set())  # a branch of the original may hand it over earlier
        given = self._reference(hand, step.name)
        values = ", ".join([given, *(self.plan.named(name) for name in hand.along)])
        if hand.to == "return":
            value = self._given_value(step)
            if not is_last or self.plan.scopes[path].kind == "async generator":
                is_taken = bool(self.plan.leaks) and step is self.plan.leaks[-1]
                condition = "run.index >= 0" if is_taken else "run.index < 0"
                self.line(indent, f"if {condition}:  # FILL IN: when the original returns here")
                indent += 1
            self.line(indent, f"return {value}")
        elif hand.to == "[...] =":
            self.line(indent, f'REGISTRY["{hand.name}"] = {tuple_text(values, hand)}')
        elif hand.to == "global =":
            self.line(indent, "global global_name")
            self.line(indent, f"global_name = {tuple_text(values, hand)}")
        elif hand.to.endswith(" ="):
            self.line(indent, f"REGISTRY{hand.to} {tuple_text(values, hand)}")
        else:
            self.line(indent, self._call(hand, values if hand.along else bare(given), path))

    def _given_value(self, step: Step) -> str:
        """What is returned or yielded: the function, with what goes along in a tuple."""
        assert step.hand_over is not None
        given = self._reference(step.hand_over, step.name)
        along = [self.plan.named(name) for name in step.hand_over.along]
        return f"({', '.join([given, *along])})" if along else given

    def _call(self, hand: HandOver, values: str, path: ScopePath) -> str:
        owner = "wedged" if not path and self.plan.is_on_wedged(hand) else "REGISTRY"
        ignored = "  # type: ignore[misc]" if hand.to == "__init__" else ""
        return f"{owner}.{hand.to}({values}){ignored}"

    def _reference(self, hand: HandOver, name: str) -> str:
        path = hand.function
        if path not in self.plan.function_names:
            return self._expression(path) if self.plan.handed.get(path, 0) == 1 else variable_of(path)
        text = self.plan.function_names[path]
        if not name.endswith("()"):
            return text
        return f"{text}({arguments_text(self.plan.called_parameters(path))})"

    def _expression(self, path: ScopePath) -> str:
        """A lambda or comprehension that names what the original's names, with what is nested in it."""
        scope = self.plan.scopes[path]
        parts = [self.plan.captured_name(path, name) for name in scope.captures]
        for step in scope.steps:
            if step.kind == "define" and step.child is not None:
                inner = (*path, step.child)
                if self.plan.handed.get(inner, 0) != 1:
                    parts.append(self._expression(inner))
            elif step.kind == "await":
                parts.append("await asyncio.sleep(0)")
            elif step.hand_over is not None and step.hand_over.to.isidentifier():
                given = self._reference(step.hand_over, step.name)
                along = [self.plan.named(name) for name in step.hand_over.along]
                parts.append(f"REGISTRY.{step.hand_over.to}({', '.join([given, *along])})")
        if scope.kind == "lambda":
            parameters = parameters_text(scope.parameters, typed=False)
            return f"lambda{' ' if parameters else ''}{parameters}: use({bare(', '.join(parts))})"
        targets = [self.plan.named(name) for name in scope.locals]
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
