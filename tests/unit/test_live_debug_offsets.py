"""``_Py_DebugOffsets``: what a build says of itself is compared with the table, or taken where it may move."""

from __future__ import annotations

import re
from typing import cast

import numpy as np
import pytest

from leakharness.errors import UsageError
from leakharness.live.debug_offsets import COOKIE, OTHER_NAMES, SECTIONS, STRUCTS, checked
from leakharness.live.layouts import layout_of
from leakharness.live.memory import Memory

PLACE = 0x7000
VERSIONS = sorted(SECTIONS)


class Runtime:
    """A memory that has nothing but the start of ``_PyRuntime``, as the table of that version has it."""

    def __init__(self, version: tuple[int, int], changed: dict[str, int] | None = None, free_threaded: int = 0) -> None:
        offsets = {**layout_of(version).offsets, **(changed or {})}
        self.words = {PLACE: COOKIE, PLACE + 8: (version[0] << 24) + (version[1] << 16), PLACE + 16: free_threaded}
        at = PLACE + 24
        for section, fields in SECTIONS[version].items():
            for field in fields.split():
                name = OTHER_NAMES.get(f"{section}.{field}", f"{STRUCTS.get(section, '')}.{field}")
                self.words[at] = offsets.get(name, 0)
                if (section, field) == ("gc", "collecting"):
                    self.words[at] = offsets["PyInterpreterState.collecting"]
                at += 8

    def places_of(self, value: int) -> np.ndarray:
        return np.array([at for at, word in self.words.items() if word == value], np.uint64)

    def word(self, address: int) -> int:
        return self.words.get(address, 0)

    def as_memory(self) -> Memory:
        return cast(Memory, self)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_build_that_agrees_is_read_by_the_table(version: tuple[int, int]) -> None:
    """And each version tells at least thirty of its fields."""
    layout = layout_of(version)
    assert checked(Runtime(version).as_memory(), layout, "it") == layout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("field", ["PyListObject.ob_item", "PyTypeObject.tp_flags", "_PyInterpreterFrame.previous"])
def test_a_build_with_other_objects_is_refused(version: tuple[int, int], field: str) -> None:
    """Its figure and the table's are both told."""
    layout = layout_of(version)
    says = re.escape(f"({field} at 4096, not {layout.offsets[field]}): it cannot be read")
    with pytest.raises(UsageError, match=says):
        checked(Runtime(version, {field: 4096}).as_memory(), layout, "it")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_moves_between_patch_releases_is_taken_as_the_build_has_it(version: tuple[int, int]) -> None:
    """What it does not tell of the struct that has moved is left out, not guessed."""
    layout = layout_of(version)
    found = checked(Runtime(version, {"PyInterpreterState.sysdict": 4096}).as_memory(), layout, "it")
    assert found("PyInterpreterState.sysdict") == 4096
    assert found("PyInterpreterState.modules") == layout("PyInterpreterState.modules")
    assert found.get("PyInterpreterState.static_types") is None
    assert found("PyThreadState.context") == layout("PyThreadState.context")


def test_what_the_build_says_of_itself_is_refused_where_it_does_not_fit() -> None:
    """Without a GIL, of another version than its file says, or none at all."""
    layout = layout_of((3, 14))
    with pytest.raises(UsageError, match="it is a free-threaded build"):
        checked(Runtime((3, 14), free_threaded=1).as_memory(), layout, "it")
    with pytest.raises(UsageError, match=r"its file is of CPython 3\.14 and its memory of 3\.13"):
        checked(Runtime((3, 13)).as_memory(), layout, "it")
    nothing = Runtime((3, 14))
    nothing.words.clear()
    with pytest.raises(UsageError, match="no _Py_DebugOffsets in its memory"):
        checked(nothing.as_memory(), layout, "it")
    assert checked(nothing.as_memory(), layout_of((3, 12)), "it") == layout_of((3, 12))
