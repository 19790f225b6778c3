"""The text of a scenario file that holds what a snapshot showed to be held, in the way in which it was held."""

from __future__ import annotations

import keyword
from typing import Protocol

from leakharness.errors import OptionError

__all__ = ["HoldingFacts", "scaffold_holding"]

CONTAINERS = {
    "list": ("list[object] = []", "{0}.append({1})", "{0}.remove({1})"),
    "dict": ("dict[int, object] = {{}}", "{0}[run.index] = {1}", "{0}.pop(run.index)"),
    "set": ("set[object] = set()", "{0}.add({1})", "{0}.discard({1})"),
    "deque": ("collections.deque[object] = collections.deque()", "{0}.append({1})", "{0}.remove({1})"),
}
"""Kind of a registry -> its declaration, how something gets in and how it gets out again."""


class HoldingFacts(Protocol):
    """What is read from the snapshot: see ``leakharness.heap.holders.Holding``."""

    @property
    def type(self) -> str: ...
    @property
    def sentence(self) -> str: ...
    @property
    def closure(self) -> str: ...
    @property
    def variable(self) -> str: ...
    @property
    def captured(self) -> tuple[str, ...]: ...
    @property
    def holder(self) -> str: ...
    @property
    def attribute(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def registry(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def future(self) -> bool: ...


def scaffold_holding(facts: HoldingFacts, name: str, snapshot: str) -> str:
    """The text of scenario ``name``. Raises OptionError for what is no name of a scenario."""
    if not name.replace("-", "_").isidentifier():
        raise OptionError(f"{name!r} is no name for a scenario: use letters, digits and '-', as in embedded-run")
    return _Text(facts, name, snapshot).text()


def _safe(text: str, otherwise: str) -> str:
    return text if text.isidentifier() and not keyword.iskeyword(text) else otherwise


class _Text:
    def __init__(self, facts: HoldingFacts, name: str, snapshot: str) -> None:
        self.facts, self.name, self.snapshot = facts, name, snapshot
        self.type = _safe(facts.type.rpartition(".")[2], "Held")
        self.registry = _safe(facts.registry, "KEPT")
        self.kind = facts.kind if facts.kind in CONTAINERS else "list"
        self.closure = _safe(facts.closure, "")
        self.variable = _safe(facts.variable, "held")
        self.others = [_safe(name, "other") for name in facts.captured if name != facts.variable]

    def text(self) -> str:
        parts = [self._head(), self._stand_ins(), self._mode(leaks=True), self._mode(leaks=False)]
        return "\n\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        quoted = self.facts.sentence.replace("\\", "/").replace('"', "'")
        owner = f"{self.facts.owner}.{self.facts.registry}" if self.facts.registry else "?"
        lines = [
            f'"""{self.name}: what a snapshot of the running process showed to be kept.',
            "",
            f"{quoted}",
            f"Read from {self.snapshot}.",
            "FILL IN: which function registers it, and what the fix changes.",
            '"""',
            "",
            "from __future__ import annotations",
            "",
            *(["import asyncio", ""] if self.facts.future else []),
            *(["import collections", ""] if self.kind == "deque" and not self.facts.future else []),
            "from leakharness import Run, Scenario",
            "",
            "scenario = Scenario(",
            f'    "{self.name}",',
            f'    summary="{self.type} stays in {owner}: FILL IN after what",',
            '    # FILL IN: mimics="module:function" that registers it',
            ")",
        ]
        return "\n".join(lines)

    def _stand_ins(self) -> str:
        lines = [
            f"class {self.type}:",
            f'    """Stands for {self.facts.type}. FILL IN the real one, or its parts that weigh."""',
            "",
            "    def __init__(self, size: int) -> None:",
            "        self.payload = bytes(size)",
        ]
        if self._by_attribute:
            lines += ["", "", f"class {self.facts.holder}:", f"    {self.facts.attribute}: {self.type}"]
        if not self.facts.future:
            declared = CONTAINERS[self.kind][0].format()
            lines += ["", "", f"{self.registry}: {declared}"]
        return "\n".join(lines)

    @property
    def _by_attribute(self) -> bool:
        return bool(not self.closure and _safe(self.facts.holder, "") and _safe(self.facts.attribute, ""))

    def _mode(self, *, leaks: bool) -> str:
        word, must = ("inline", '"FAIL"') if leaks else ("extracted", '"PASS", default=True')
        head = "async def" if self.facts.future else "def"
        abort = "cancel" if self.facts.future else "raise"
        doc = "As it is held in the process." if leaks else "FILL IN: the shape of the fix; here it is taken back."
        lines = [
            f'@scenario.mode("closure-{word}", must={must}, abort="{abort}")',
            f"{head} closure_{word}(run: Run) -> None:",
            f'    """{doc}"""',
            *(f"    {line}" for line in self._body()),
        ]
        kept = self._kept
        if self.facts.future:
            wait = ["provider = run.wedged()", f"provider.add_done_callback({kept})"]
            waits = ["await asyncio.sleep(3600)  # FILL IN: where the run waits when it is abandoned"]
            ends = waits if leaks else _finally(waits, f"provider.remove_done_callback({kept})")
        else:
            _, add, remove = CONTAINERS[self.kind]
            wait = [add.format(self.registry, kept)]
            crash = ['raise RuntimeError("aborted")  # FILL IN: where and how the run ends']
            ends = crash if leaks else _finally(crash, remove.format(self.registry, kept))
        return "\n".join([*lines, *(f"    {line}" for line in [*wait, *ends])])

    @property
    def _kept(self) -> str:
        return self.closure or ("on_done" if self.facts.future else "holder" if self._by_attribute else self.variable)

    def _body(self) -> list[str]:
        made = f"{self.variable} = run.track({self.type}(run.scope_bytes))"
        if self.closure or self.facts.future:
            others = [f"{name} = object()  # FILL IN what it is" for name in self.others]
            names = ", ".join([self.variable, *self.others])
            return [made, *others, "", f"def {self._kept}(*_: object) -> object:", f"    return {names}", ""]
        if self._by_attribute:
            return [
                f"holder = {self.facts.holder}()",
                f"holder.{self.facts.attribute} = run.track({self.type}(run.scope_bytes))",
            ]
        return [made]


def _finally(body: list[str], last: str) -> list[str]:
    return ["try:", *(f"    {line}" for line in body), "finally:", f"    {last}"]
