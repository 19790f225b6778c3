"""Python frames in a copy of memory: their variables by name and the line that they are at.

Formats: Objects/lnotab_notes.txt (3.10), InternalDocs/code_objects.md (3.11 and later: "location table").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakharness.live.dicts import Strings
from leakharness.live.layouts import Layout
from leakharness.live.memory import Memory

__all__ = ["Code", "Codes", "Frame", "stack_of"]

Words = npt.NDArray[np.uint64]

DEEPEST_STACK = 2_000
"""Frames of one thread that are read: more is a recursion, whose inner frames say the same."""
MOST_VARIABLES = 2_000
LONGEST_TABLE = 1 << 20
"""Bytes of a line table beyond which the word that says so is torn."""
UNIT = 2
"""Bytes of an instruction (Include/cpython/code.h, _Py_CODEUNIT)."""
TAGS = ~3
"""The low two bits of a reference on the stack are flags from 3.14 on (Include/internal/pycore_stackref.h)."""
LONG_FORM, NO_COLUMNS, NO_LOCATION = 14, 13, 15
"""Kinds of entries of a location table with a signed line difference, and the one without a line."""
ONE_LINE = range(10, 13)


@dataclass(frozen=True)
class Code:
    """A code object: ``variables`` are the names of its local slots in their order."""

    address: int
    name: str
    file: str
    first_line: int
    variables: tuple[str, ...]
    table: bytes


@dataclass(frozen=True)
class Frame:
    """A frame of a thread: ``variables`` are (name, address of the value)."""

    code: Code
    line: int
    globals: int
    variables: tuple[tuple[str, int], ...]


class Codes:
    """Code objects by address, read once each."""

    def __init__(self, memory: Memory, layout: Layout, strings: Strings) -> None:
        self._memory, self._layout, self._strings = memory, layout, strings
        self._known: dict[int, Code | None] = {}

    def __call__(self, address: int) -> Code | None:
        """The code object at ``address``, None where there is none."""
        if address not in self._known:
            self._known[address] = self._read(address)
        return self._known[address]

    def addresses(self) -> list[int]:
        """Addresses of the code objects read so far."""
        return [address for address, code in self._known.items() if code is not None]

    def _read(self, address: int) -> Code | None:
        memory, layout = self._memory, self._layout
        kind = memory.word(address + 8)
        if not kind or memory.c_string(memory.word(kind + layout("PyTypeObject.tp_name"))) != "code":
            return None
        return Code(
            address,
            self._strings(memory.word(address + layout("PyCodeObject.co_name"))) or "?",
            self._strings(memory.word(address + layout("PyCodeObject.co_filename")), 1000) or "?",
            memory.half(address + layout("PyCodeObject.co_firstlineno")),
            tuple(self._variables(address)),
            self._bytes(memory.word(address + layout("PyCodeObject.co_linetable"))),
        )

    def _variables(self, address: int) -> list[str]:
        """Locals, then cells, then free variables: one tuple from 3.11 on, three before."""
        fields = ("co_localsplusnames", "co_varnames", "co_cellvars", "co_freevars")
        found: list[str] = []
        for field in fields:
            offset = self._layout.get(f"PyCodeObject.{field}")
            if offset is not None:
                found += self.texts(self._memory.word(address + offset))
        return found[:MOST_VARIABLES]

    def texts(self, address: int) -> list[str]:
        """The texts in a tuple of str."""
        count = self._memory.word(address + 16)
        if not 0 < count <= MOST_VARIABLES:
            return []
        first = address + self._layout("PyTupleObject.ob_item")
        return [self._strings(self._memory.word(first + 8 * place)) or "?" for place in range(count)]

    def _bytes(self, address: int) -> bytes:
        """The contents of a bytes object (Include/cpython/bytesobject.h)."""
        count = self._memory.word(address + 16)
        return self._memory.data(address + 32, count) if 0 < count <= LONGEST_TABLE else b""

    def frame_of(self, address: int) -> Frame | None:
        """The frame of a frame object."""
        if self._layout.version < (3, 11):
            return self.frame_at(address)
        return self.frame_at(self._memory.word(address + self._layout("PyFrameObject.f_frame")))

    def frame_at(self, at: int) -> Frame | None:
        """The frame at ``at``: before 3.11 a frame object, later what the interpreter has for one."""
        memory, layout = self._memory, self._layout
        old = layout.version < (3, 11)
        code = self(memory.word(at + layout("PyFrameObject.f_code" if old else "_PyInterpreterFrame.code")) & TAGS)
        if code is None:
            return None
        if old:
            offset = memory.signed_half(at + layout("PyFrameObject.f_lasti")) * UNIT
        else:
            first = code.address + layout("PyCodeObject.code")
            offset = memory.word(at + layout("_PyInterpreterFrame.instruction")) - first
        lead = "PyFrameObject" if old else "_PyInterpreterFrame"
        slots = at + layout("PyFrameObject.f_localsplus" if old else "_PyInterpreterFrame.localsplus")
        values = ((name, memory.word(slots + 8 * place) & TAGS) for place, name in enumerate(code.variables))
        variables = tuple((name, value) for name, value in values if value)
        return Frame(
            code, line_of(code, offset, layout.version), memory.word(at + layout(f"{lead}.f_globals")), variables
        )


def line_of(code: Code, offset: int, version: tuple[int, int]) -> int:
    """Line of the instruction at ``offset`` bytes; that of the definition where the table does not say."""
    if offset < 0:
        return code.first_line
    return _line_before_311(code, offset) if version < (3, 11) else _line(code, offset)


def _line_before_311(code: Code, offset: int) -> int:
    line, end, answer = code.first_line, 0, code.first_line
    for at in range(0, len(code.table) - 1, 2):
        step, delta = code.table[at], code.table[at + 1]
        start, end = end, end + step
        if delta != 128:  # -128: these instructions have no line
            line += delta - 256 if delta > 127 else delta
        if start <= offset < end:
            return line if delta != 128 else answer
        answer = line
    return code.first_line


def _line(code: Code, offset: int) -> int:
    table, at, line, end = code.table, 0, code.first_line, 0
    while at < len(table):
        head = table[at]
        kind, end = (head >> 3) & 15, end + ((head & 7) + 1) * UNIT
        at += 1
        if kind in (LONG_FORM, NO_COLUMNS):
            value, shift = 0, 0
            for byte in table[at:]:
                value |= (byte & 63) << shift
                shift += 6
                if not byte & 64:
                    break
            line += -(value >> 1) if value & 1 else value >> 1
        elif kind in ONE_LINE:
            line += kind - ONE_LINE.start
        if offset < end:
            return line if kind != NO_LOCATION else code.first_line
        while at < len(table) and table[at] < 128:  # only the first byte of an entry has the high bit
            at += 1
    return code.first_line


def stack_of(memory: Memory, layout: Layout, codes: Codes, thread: int) -> list[Frame]:
    """Frames of a thread (address of its PyThreadState), innermost first; what is no Python frame is left out."""
    if (3, 11) <= layout.version < (3, 13):
        at = memory.word(memory.word(thread + layout("PyThreadState.cframe")) + layout("CFrame.current_frame"))
    else:
        at = memory.word(thread + layout("PyThreadState.frame"))
    previous = layout("PyFrameObject.f_back" if layout.version < (3, 11) else "_PyInterpreterFrame.previous")
    found: list[Frame] = []
    for _ in range(DEEPEST_STACK):
        if not at:
            break
        frame = codes.frame_at(at)
        if frame is not None:
            found.append(frame)
        at = memory.word(at + previous)
    return found
