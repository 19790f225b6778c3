"""Root candidates of a heap that is read from outside: modules, what threads run, what the interpreter keeps.

The interpreter's state is found without symbols: the word that points to ``sys.__dict__`` and has the pointers to
``sys.modules`` and to ``builtins.__dict__`` at their distances. What does not lie so is not believed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leakharness.live.dicts import entries_of
from leakharness.live.frames import Codes, Frame, stack_of
from leakharness.live.names import Names
from leakharness.live.objects import Objects
from leakharness.live.references import INTERNAL, PROPERTY, References

__all__ = ["Roots"]

MOST_THREADS = 10_000
MOST_STATIC_TYPES = 220
"""Types of one of the interpreter's two tables (_Py_MAX_STATIC_BUILTIN_TYPES is 200 and more)."""
KEPT_BY_INTERPRETER = (
    ("sysdict", "builtins", "sys.__dict__"),
    ("builtins", "builtins", "builtins.__dict__"),
    ("dict", "registry", "interpreter dict"),
    ("codec_search_path", "registry", "codecs: search functions"),
    ("codec_search_cache", "registry", "codecs: found codecs"),
    ("codec_error_registry", "registry", "codecs: error handlers"),
)
"""Fields of PyInterpreterState, and how a capture names what they hold."""
KEPT_BY_THREAD = (("context", "context"), ("dict", "thread state dict"))


class Roots:
    """Root candidates as (name, node), most telling first."""

    def __init__(self, objects: Objects, references: References, names: Names, codes: Codes) -> None:
        self._objects, self._references, self._names, self._codes = objects, references, names, codes
        self._memory, self._layout = objects.memory, objects.layout
        self.found: list[tuple[str, int]] = []
        self._seen: set[int] = set()
        found = self._interpreters()
        self.interpreters = max(1, len(found))
        """How many interpreters the process has; one where none was found."""
        for number, (interpreter, modules) in enumerate(found or [(0, self._table_of(names.space("sys")))]):
            suffix = "" if number == 0 else f" of interpreter {number}"
            self._modules(modules, suffix)
            if interpreter:
                self._of_interpreter(interpreter, suffix)
        for node in references.of_family("module").tolist():
            if node not in self._seen:
                self.found.append(("module not in sys.modules", node))

    def _add(self, name: str, address: int) -> None:
        node = int(self._objects.number(np.array([address], np.uint64))[0]) if address else -1
        if node >= 0:
            self.found.append((name, node))
            self._seen.add(node)

    def _table_of(self, sysdict: int) -> int:
        """Address of ``sys.modules``."""
        return self._names.value_in(sysdict, "modules")

    def _modules(self, table: int, suffix: str) -> None:
        entries = entries_of(self._memory, self._layout, np.array([table], np.uint64))
        for key, value in zip(entries.key.tolist(), entries.value.tolist(), strict=True):
            text = self._names.strings(key)
            if text is not None:
                name = "builtins" if text == "builtins" else f"sys.modules[{text!r}]"
                self._add(name + suffix, value)

    def _interpreters(self) -> list[tuple[int, int]]:
        """(address of its state, address of its ``sys.modules``) of each interpreter, the main one first: that was the
        first, and new ones are put in front of the others (Python/pystate.c)."""
        at = {name: self._layout(f"PyInterpreterState.{name}") for name in ("sysdict", "modules", "builtins", "next")}
        builtins = set(self._names.spaces("builtins"))
        found = []
        for sysdict in self._names.spaces("sys"):
            table = self._table_of(sysdict)
            for place in (self._memory.places_of(sysdict) - np.uint64(at["sysdict"])).tolist():
                at_home = self._memory.word(place + at["builtins"]) in builtins
                if at_home and table and self._memory.word(place + at["modules"]) == table:
                    found.append((place, table))
                    break
        return sorted(found, key=lambda one: (self._memory.word(one[0] + at["next"]) != 0, one))

    def _of_interpreter(self, interpreter: int, suffix: str) -> None:
        for field, kind, text in KEPT_BY_INTERPRETER:
            name = f"{kind} {text}{suffix}" if kind == "registry" else f"{kind}{suffix}"
            offset = self._layout.get(f"PyInterpreterState.{field}")
            if offset is not None:
                self._add(name, self._memory.word(interpreter + offset))
        self._static_types(interpreter)
        names = self._thread_names()
        thread = self._memory.word(interpreter + self._layout("PyInterpreterState.threads"))
        for _ in range(MOST_THREADS):
            if not thread:
                return
            ident = self._memory.word(thread + self._layout("PyThreadState.thread_id"))
            self._of_thread(thread, names.get(ident, str(ident)))
            thread = self._memory.word(thread + self._layout("PyThreadState.next"))

    def _static_types(self, interpreter: int) -> None:
        """From 3.12 on the dicts of types that C declares are the interpreter's (pycore_typeobject.h)."""
        step = self._layout.get("sizeof.static_type_state")
        states: dict[int, int] = {}
        for field in ("static_types", "extension_types"):
            at = self._layout.get(f"PyInterpreterState.{field}")
            for number in range(MOST_STATIC_TYPES if step and at else 0):
                state = interpreter + (at or 0) + number * (step or 0)
                kind = self._memory.word(state + self._layout("static_type_state.type"))
                if kind:
                    states.setdefault(kind, state)
        for node in self._objects.add(np.array(list(states), np.uint64)).tolist():
            state = states[int(self._objects.address[node])]
            for part in ("dict", "subclasses"):
                space = self._memory.word(state + self._layout(f"static_type_state.tp_{part}"))
                edge = PROPERTY if part == "dict" else INTERNAL
                name = self._references.name(f"__{part}__")
                self._references.add(np.array([node]), np.array([space], np.uint64), name, edge)
            self.found.append(("static types", node))

    def _of_thread(self, thread: int, name: str) -> None:
        for frame in stack_of(self._memory, self._layout, self._codes, thread):
            for text, address in self._of_frame(frame, name):
                self._add(text, address)
        for field, text in KEPT_BY_THREAD:
            offset = self._layout.get(f"PyThreadState.{field}")
            if offset is not None:
                self._add(f"thread {name}: {text}", self._memory.word(thread + offset))

    def _of_frame(self, frame: Frame, thread: str) -> Iterator[tuple[str, int]]:
        """As a capture names them: ``thread NAME: function (file:line) local 'x'``."""
        place = f"thread {thread}: {frame.code.name} ({self._names.short(frame.code.file)}:{frame.line})"
        for name, address in frame.variables:
            yield f"{place} local {name!r}", address
        yield f"{place} globals", frame.globals

    def _thread_names(self) -> dict[int, str]:
        """Identifier of a thread -> its name, from ``threading._active``."""
        table = self._names.value_in(self._names.space("threading"), "_active")
        found: dict[int, str] = {}
        if table:
            entries = entries_of(self._memory, self._layout, np.array([table], np.uint64))
            for key, value in zip(entries.key.tolist(), entries.value.tolist(), strict=True):
                text = self._names.strings(self._references.attribute(value, "_name"))
                if text is not None:
                    found[self._memory.integer(key, self._layout)] = text
        return found
