"""What the objects of a heap that is read from outside are called: as a capture calls them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leakharness.live.dicts import KEY_WIDTH, Strings, entries_of
from leakharness.live.frames import Codes
from leakharness.live.objects import HEAP_TYPE, Objects
from leakharness.live.references import References
from leakharness.worker.capture.file import short_path

__all__ = ["Names"]

Ints = npt.NDArray[np.int64]


class Names:
    """Names of types and nodes: functions, generators and frames with file and line, modules and types by their own."""

    def __init__(
        self, objects: Objects, references: References, strings: Strings, codes: Codes, directory: str
    ) -> None:
        self.strings = strings
        self._objects, self._references, self._codes = objects, references, codes
        self._memory, self._layout, self._directory, self._library = objects.memory, objects.layout, directory, ""
        self._short: dict[str, str] = {}
        self._types: list[str] = []
        self._own: dict[int, int] = {}
        self._alike: dict[str, list[int]] = {}
        self._name_types_and_modules()
        library = self.text_in(self.space("os"), "__file__", 1000) or ""
        self._library = library.rpartition("/")[0]
        self._name_code()

    def modules(self) -> list[str]:
        """Names of all modules."""
        return list(self._alike)

    def spaces(self, module: str) -> list[int]:
        """Addresses of the dicts of all modules of that name: each interpreter has its own."""
        return [self._space_of(node) for node in self._alike.get(module, ())]

    def space(self, module: str) -> int:
        """Address of the dict of a module, 0 for none."""
        return next(iter(self.spaces(module)), 0)

    def _space_of(self, node: int) -> int:
        return self._memory.word(int(self._objects.address[node]) + self._layout("PyModuleObject.md_dict"))

    def name_of(self, kind: int) -> str:
        """Name of a type by its number in `Objects`."""
        while len(self._types) <= kind:
            self._types.append(self.type_name(int(self._objects.types[len(self._types)])))
        return self._types[kind]

    def of_nodes(self) -> npt.NDArray[np.int32]:
        """The name of each object, as a number of `References`."""
        numbers = [self._references.name(self.name_of(kind)) for kind in range(len(self._objects.types))]
        found = self._objects.by_kind(np.array(numbers, np.int32))
        found[np.fromiter(self._own.keys(), np.int64)] = np.fromiter(self._own.values(), np.int32)
        return found

    def _name_types_and_modules(self) -> None:
        number = self._references.name
        for node in self._references.of_family("type").tolist():
            self._own[node] = number(f"type {self.type_name(int(self._objects.address[node]))}")
        for node in self._references.of_family("module").tolist():
            text = self.text_in(self._space_of(node), "__name__") or "?"
            self._alike.setdefault(text, []).append(node)
            self._own[node] = number(f"module {text}")

    def _name_code(self) -> None:
        """Functions, and what is suspended in one. Many share a code: each is read once."""
        layout = self._layout
        nodes = self._references.of_family("function")
        fields = [layout("PyFunctionObject.func_code"), layout("PyFunctionObject.func_qualname")]
        self._name_alike(nodes, fields, "function")
        for family in ("generator", "coroutine", "async_generator"):
            nodes = self._references.of_family(family)
            code = layout.get("PyGenObject.gi_code")
            if code is None:
                code = layout("PyGenObject.gi_iframe") + layout("_PyInterpreterFrame.code")
            self._name_suspended(nodes, code, family)
        for node in self._references.of_family("frame").tolist():
            frame = self._codes.frame_of(int(self._objects.address[node]))
            if frame is not None:
                text = f"frame {frame.code.name} ({self.short(frame.code.file)}:{frame.line})"
                self._own[node] = self._references.name(text)

    def _name_alike(self, nodes: Ints, fields: list[int], kind: str) -> None:
        address = self._objects.address[nodes]
        pairs, inverse = np.unique(
            np.stack([self._memory.read(address + np.uint64(field)) for field in fields]), axis=1, return_inverse=True
        )
        numbers = []
        for code, name in pairs.T.tolist():
            qualname = (self.strings(name, 300) or "?").rpartition("<locals>.")[2]
            numbers.append(self._references.name(f"{kind} {qualname} ({self.place(code & ~3)})"))
        found = np.array(numbers, np.int64)[inverse.reshape(-1)] if numbers else np.zeros(0, np.int64)
        self._own.update(zip(nodes.tolist(), found.tolist(), strict=True))

    def _name_suspended(self, nodes: Ints, code: int, kind: str) -> None:
        """Generators and coroutines, with the line that each is at; many wait in the same place."""
        layout, memory = self._layout, self._memory
        address = self._objects.address[nodes]
        if layout.version < (3, 11):
            frame = memory.read(address + np.uint64(layout("PyGenObject.gi_frame")))
            at = memory.read(frame + np.uint64(layout("PyFrameObject.f_lasti"))) & np.uint64(0xFFFF_FFFF)
        else:
            frame = address + np.uint64(layout("PyGenObject.gi_iframe"))
            at = memory.read(frame + np.uint64(layout("_PyInterpreterFrame.instruction")))
        columns = [
            memory.read(address + np.uint64(code)),
            memory.read(address + np.uint64(layout("PyGenObject.gi_qualname"))),
            at,
        ]
        triples, first, inverse = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
        numbers = []
        for (of, name, _), place in zip(triples.T.tolist(), first.tolist(), strict=True):
            qualname = (self.strings(name, 300) or "?").rpartition("<locals>.")[2]
            found = self._codes.frame_at(int(frame[place])) if frame[place] else None
            where = self.place(of & ~3) if found is None else f"{self.short(found.code.file)}:{found.line}"
            numbers.append(self._references.name(f"{kind} {qualname} ({where})"))
        texts = np.array(numbers, np.int64)[inverse.reshape(-1)] if numbers else np.zeros(0, np.int64)
        self._own.update(zip(nodes.tolist(), texts.tolist(), strict=True))

    def place(self, code: int) -> str:
        """``file:line`` of a code object's definition."""
        found = self._codes(code)
        return "?:0" if found is None else f"{self.short(found.file)}:{found.first_line}"

    def short(self, file: str) -> str:
        """A path as captures show it."""
        if file not in self._short:
            self._short[file] = short_path(file, self._directory, self._library)
        return self._short[file]

    def text_in(self, space: int, key: str, width: int = KEY_WIDTH) -> str | None:
        """The text under ``key`` in a dict of the process, of at most ``width`` characters."""
        value = self.value_in(space, key)
        return self.strings(value, width) if value else None

    def value_in(self, space: int, key: str) -> int:
        """The address under ``key`` in a dict of the process, 0 where there is none."""
        if not space:
            return 0
        entries = entries_of(self._memory, self._layout, np.array([space], np.uint64))
        pairs = zip(entries.key.tolist(), entries.value.tolist(), strict=True)
        return next((value for name, value in pairs if self.strings(name) == key), 0)

    def type_name(self, kind: int) -> str:
        """``module.qualname`` without ``builtins``, as in a capture."""
        memory, layout = self._memory, self._layout
        c_name = memory.c_string(memory.word(kind + layout("PyTypeObject.tp_name")))
        if not memory.word(kind + layout("PyTypeObject.tp_flags")) & HEAP_TYPE:
            return c_name
        qualname = self.strings(memory.word(kind + layout("PyHeapTypeObject.ht_qualname")), 300) or c_name
        module = self.text_in(memory.word(kind + layout("PyTypeObject.tp_dict")), "__module__")
        return qualname if module in (None, "builtins") else f"{module}.{qualname}"
