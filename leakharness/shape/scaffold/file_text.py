"""The text of a scaffolded file: its head, and the modes closure-inline, closure-extracted and production."""

from __future__ import annotations

import re

from leakharness.shape.model import ScopePath
from leakharness.shape.scaffold.copied_body import CopiedBody, Lines
from leakharness.shape.scaffold.names import renamed
from leakharness.shape.scaffold.plan import ScaffoldPlan

__all__ = ["ScenarioFile"]


class ScenarioFile(Lines):
    """One generated file."""

    def __init__(self, plan: ScaffoldPlan) -> None:
        super().__init__()
        self.plan = plan
        self.copied = CopiedBody(plan, self)

    def text(self) -> str:
        self._inline()
        self._extracted()
        self._production()
        body, self.lines = self.lines, []
        self._head(body)
        return "\n".join([*self.lines, *body]).rstrip("\n") + "\n"

    def _head(self, body: list[str]) -> None:
        used = "\n".join(body)
        target = self.plan.suspect.target
        self.line(0, f'"""{self.plan.name}: what closures keep after an aborted run.')
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
        self.line(1, f'"{self.plan.name}",')
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
        word = "async def" if self.plan.is_async else "def"
        if self.plan.is_copy:
            copied = renamed(self.plan.suspect.qualname.rpartition(".")[2], is_function=True)
            self.line(0, f"{word} {copied}(run: Run) -> Any:")
            self.line(1, '"""The original\\\'s shape."""')
            self.copied.write((), 1)
            self._mode("closure-inline", "FAIL")
            self.line(0, f"{word} closure_inline(run: Run) -> None:")
            self.line(1, '"""The shape before the fix, and what its caller keeps of it."""')
            self._drive(copied)
        else:
            self._mode("closure-inline", "FAIL")
            self.line(0, f"{word} closure_inline(run: Run) -> None:")
            self.line(1, '"""The shape before the fix."""')
            self.copied.write((), 1)
        self._raise_at_end(1)

    def _mode(self, name: str, must: str, default: str = "") -> None:
        self.line(0)
        self.line(0)
        self.line(0, f'@scenario.mode("{name}", must="{must}"{default}, abort="{self.plan.abort}")')

    def _drive(self, copied: str) -> None:
        comment = "  # FILL IN: what the original's caller does with it"
        if self.plan.root.kind == "generator":
            self.line(1, f"for given in {copied}(run):{comment}")
            self.line(2, "keep(given)")
        elif self.plan.root.kind == "async generator":
            self.line(1, f"async for given in {copied}(run):{comment}")
            self.line(2, "keep(given)")
        else:
            self.line(1, f"keep({'await ' if self.plan.is_async else ''}{copied}(run)){comment}")

    def _raise_at_end(self, indent: int) -> None:
        if not self.plan.is_async:
            self.line(indent, 'raise RuntimeError("aborted")  # FILL IN: where and how the original is aborted')

    def _extracted(self) -> None:
        closures = self.plan.extractable()
        for path in closures:
            self._extracted_function(path)
        word = "async def" if self.plan.is_async else "def"
        self.lines += ["", ""]
        self.line(0, f'@scenario.mode("closure-extracted", must="PASS", default=True, abort="{self.plan.abort}")')
        self.line(0, f"{word} closure_extracted(run: Run) -> None:")
        self.line(1, '"""The shape of the fix: nothing is captured, and what was registered is taken back."""')
        share = max(len(self.plan.tracked), 1)
        size = "run.scope_bytes" if share == 1 else f"run.scope_bytes // {share}"
        for name in self.plan.tracked:
            self.line(1, f'{self.plan.named(name)}: Any = run.track(Payload({size}), "{name}")')
        if self.plan.needs_wedged:
            self.line(1, "wedged = run.wedged()")
        owner = "wedged" if self.plan.needs_wedged else ""
        names = []
        for path in closures:
            given = ", ".join([self._extracted_name(path), *map(self.plan.named, self.plan.given_to(path))])
            names.append(f"call_{self.plan.label(path)}")
            self.line(1, f"{names[-1]} = functools.partial({given})")
            self.line(1, f"{owner}.add_done_callback({names[-1]})" if owner else f"keep({names[-1]})")
        used = {name for path in closures for name in self.plan.given_to(path)}
        others = [self.plan.named(name) for name in self.plan.tracked if name not in used]
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
        if self.plan.abort == "cancel":
            self.line(2, "await asyncio.wait([wedged])")
        elif self.plan.abort == "raise":
            self.line(2, 'raise RuntimeError("aborted")')
        else:
            self.line(2, "await asyncio.sleep(0)")

    def _extracted_name(self, path: ScopePath) -> str:
        return f"extracted_{self.plan.label(path)}"

    def _extracted_function(self, path: ScopePath) -> None:
        given = [self.plan.named(name) for name in self.plan.given_to(path)]
        parameters = ", ".join([*(f"{name}: Any" for name in given), "*given: Any"])
        self.lines += ["", ""]
        self.line(0, f"def {self._extracted_name(path)}({parameters}) -> None:")
        self.line(1, '"""FILL IN: what the closure did, with what it needs as arguments."""')
        self.line(1, f"use({', '.join([*given, '*given'])})")

    def _production(self) -> None:
        word = "async def" if self.plan.is_async else "def"
        self.lines += ["", ""]
        self.line(0, '@scenario.mode("production", must="PASS", abort="none", needs_target=True)')
        self.line(0, f"{word} production(run: Run) -> None:")
        self.line(1, '"""The real function, imported."""')
        self.line(1, "function = run.target()")
        self.line(1, "# FILL IN: call it as its users do, abort it, and track what must go away; until then this")
        self.line(1, "# mode is not judged, and cannot pass by doing nothing.")
        self.line(1, 'raise NotImplementedError(f"FILL IN: call {function!r}, abort it, track what must die")')


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
