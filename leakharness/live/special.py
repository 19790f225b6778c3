"""References of the types whose structs say more than an array or a table: closures, suspended frames, deques, caches.

Layouts that have no header are from Modules/_collectionsmodule.c (deque), Modules/_functoolsmodule.c (lru_cache),
Modules/_asynciomodule.c (Future, Task) and Python/hamt.c; they are the same in 3.10 to 3.15 as far as they are used.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from leakharness.live.dicts import entries_of
from leakharness.live.frames import Codes
from leakharness.live.references import CONTEXT, ELEMENT, INTERNAL, PROPERTY, References

__all__ = ["collect_special"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

TAGS = np.uint64(0xFFFF_FFFF_FFFF_FFFC)
"""The low two bits of a reference on the stack are flags from 3.14 on (Include/internal/pycore_stackref.h)."""
GENERATORS = ("generator", "coroutine", "async_generator")
CLEARED = {(3, 11): 1, (3, 12): 1, (3, 13): 1, (3, 14): 1, (3, 15): 5}
"""State of a generator's frame from which on it has no variables (pycore_frame.h, FRAME_COMPLETED, FRAME_CLEARED)."""
MOST_ON_STACK = 200
MOST_BLOCKS = 100_000
BLOCK_LENGTH = 64
"""Items of a block of a deque (Modules/_collectionsmodule.c, BLOCKLEN)."""
TREE_WIDTH = 32
"""Branches of a node (Python/hamt.c, HAMT_ARRAY_NODE_SIZE)."""


def collect_special(references: References, codes: Codes) -> None:
    """Add what `References.collect` does not read."""
    _closures(references, codes)
    _suspended(references, codes)
    _frame_objects(references, codes)
    _deques(references)
    _lru_caches(references)
    _context_trees(references)


def _closures(references: References, codes: Codes) -> None:
    """From a function to its cells, by the names of its code's free variables, which are the last."""
    memory, layout = references.objects.memory, references.objects.layout
    members = references.of_family("function")
    address = references.objects.address[members]
    closure = memory.read(address + np.uint64(layout("PyFunctionObject.func_closure")))
    code = memory.read(address + np.uint64(layout("PyFunctionObject.func_code")))
    count = memory.read(closure + np.uint64(16))
    for which, at in _by_value(code, closure != 0):
        found = codes(at)
        size = int(count[which[0]])
        if found is None or not 0 < size <= len(found.variables):
            continue
        for position, text in enumerate(found.variables[-size:]):
            item = np.uint64(layout("PyTupleObject.ob_item") + 8 * position)
            references.add(members[which], memory.read(closure[which] + item), references.name(text), CONTEXT)


def _by_value(values: Words, wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[Ints, int]]:
    """(positions, value) of each distinct value among the ``wanted`` ones."""
    at = np.flatnonzero(wanted)
    at = at[np.argsort(values[at], kind="stable")]
    if len(at):
        for part in np.split(at, np.flatnonzero(np.diff(values[at])) + 1):
            yield part, int(values[part[0]])


def _suspended(references: References, codes: Codes) -> None:
    """Variables of generators and coroutines that wait, and what they wait for, which is on top of their stack."""
    memory, layout = references.objects.memory, references.objects.layout
    members = references.of_family(*GENERATORS)
    address = references.objects.address[members]
    if layout.version < (3, 11):
        frame = memory.read(address + np.uint64(layout("PyGenObject.gi_frame")))
        references.add(members, frame, references.name("gi_frame"), INTERNAL)
        alive, locals_at = frame != 0, np.uint64(layout("PyFrameObject.f_localsplus"))
        code = memory.read(frame + np.uint64(layout("PyFrameObject.f_code")))
    else:
        frame = address + np.uint64(layout("PyGenObject.gi_iframe"))
        state_at = address + np.uint64(layout("PyGenObject.gi_frame_state"))
        state = (memory.read(state_at & ~np.uint64(7)) >> ((state_at & np.uint64(7)) * np.uint64(8))).astype(np.uint8)
        alive = state.astype(np.int8) < CLEARED[layout.version]
        locals_at = np.uint64(layout("_PyInterpreterFrame.localsplus"))
        code = memory.read(frame + np.uint64(layout("_PyInterpreterFrame.code"))) & TAGS
        references.add(members, code, references.name("gi_code"), INTERNAL)
    for which, at in _by_value(code, alive):
        found = codes(at)
        if found is not None:
            first = frame[which] + locals_at
            _variables(references, members[which], first, found.variables)
            _stack(references, members[which], frame[which], first, len(found.variables))


def _variables(references: References, members: Ints, first: Words, names: tuple[str, ...]) -> None:
    for place, text in enumerate(names):
        value = references.objects.memory.read(first + np.uint64(8 * place)) & TAGS
        references.add(members, value, references.name(text), CONTEXT)


def _stack(references: References, members: Ints, frame: Words, first: Words, variables: int) -> None:
    memory, layout = references.objects.memory, references.objects.layout
    top = layout.get("_PyInterpreterFrame.stacktop")
    if layout.version < (3, 11):
        at = frame + np.uint64(layout("PyFrameObject.f_stackdepth"))
        depth = (memory.read(at) & np.uint64(0xFFFF_FFFF)).astype(np.int64)
    elif top is not None:
        at = frame + np.uint64(top)
        word = memory.read(at & ~np.uint64(7)) >> ((at & np.uint64(7)) * np.uint64(8))
        depth = (word & np.uint64(0xFFFF_FFFF)).astype(np.int64) - variables
    else:
        end = memory.read(frame + np.uint64(layout("_PyInterpreterFrame.stackpointer")))
        depth = (end.astype(np.int64) - first.astype(np.int64)) // 8 - variables
    depth = np.where((depth > 0) & (depth < MOST_ON_STACK), depth, 0)
    for place in range(int(depth.max(initial=0))):
        which = depth > place
        value = memory.read(first[which] + np.uint64(8 * (variables + place))) & TAGS
        last = depth[which] == place + 1
        for name, part in (("awaiting", last), ("<stack>", ~last)):
            references.add(members[which][part], value[part], references.name(name), PROPERTY)


def _frame_objects(references: References, codes: Codes) -> None:
    """Frame objects that somebody keeps: a traceback, a debugger; on 3.10 those of generators, too."""
    memory, layout = references.objects.memory, references.objects.layout
    members = references.of_family("frame")
    address = references.objects.address[members]
    references.add(
        members, memory.read(address + np.uint64(layout("PyFrameObject.f_back"))), references.name("f_back"), PROPERTY
    )
    if layout.version < (3, 11):
        frame, lead, first = address, "PyFrameObject.f_", address + np.uint64(layout("PyFrameObject.f_localsplus"))
    else:
        frame = memory.read(address + np.uint64(layout("PyFrameObject.f_frame")))
        lead, first = "_PyInterpreterFrame.", frame + np.uint64(layout("_PyInterpreterFrame.localsplus"))
    code = memory.read(frame + np.uint64(layout(lead + "code"))) & TAGS
    for name in ("globals", "builtins"):
        value = memory.read(
            frame + np.uint64(layout("PyFrameObject.f_" + name if layout.version < (3, 11) else lead + "f_" + name))
        )
        references.add(members, value, references.name("f_" + name), INTERNAL)
    for which, at in _by_value(code, code != 0):
        found = codes(at)
        if found is not None:
            _variables(references, members[which], first[which], found.variables)
            if layout.version < (3, 11):
                _stack(references, members[which], frame[which], first[which], len(found.variables))


def _deques(references: References) -> None:
    """Blocks of 64 items, from the left one (Modules/_collectionsmodule.c)."""
    memory, layout = references.objects.memory, references.objects.layout
    members = references.of_family("collections.deque")
    address = references.objects.address[members]
    left = memory.read(address + np.uint64(16)).astype(np.int64)
    block = memory.read(address + np.uint64(layout("deque.leftblock")))
    index = memory.read(address + np.uint64(layout("deque.leftindex"))).astype(np.int64)
    position = np.zeros(len(members), np.int64)
    for _ in range(MOST_BLOCKS):
        some = np.flatnonzero((left > 0) & (left < 1 << 40) & (block != 0) & (index >= 0) & (index < BLOCK_LENGTH))
        if not len(some):
            return
        count = np.minimum(left[some], BLOCK_LENGTH - index[some])
        _block(references, members[some], block[some], index[some], count, position[some])
        position[some] += count
        left[some] -= count
        block[some] = memory.read(block[some] + np.uint64(layout("deque.rightlink")))
        index[some] = 0
        left[np.setdiff1d(np.arange(len(left)), some, assume_unique=True)] = 0


def _block(references: References, members: Ints, block: Words, index: Ints, count: Ints, position: Ints) -> None:
    which = np.repeat(np.arange(len(members)), count)
    step = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    at = block[which] + (
        np.uint64(references.objects.layout("deque.data")) + ((index[which] + step) * 8).astype(np.uint64)
    )
    references.add(members[which], references.objects.memory.read(at), position[which] + step, ELEMENT)


def _lru_caches(references: References) -> None:
    """The dict has links of the cache's list as values, which have key and result; without a limit, the results."""
    memory, layout = references.objects.memory, references.objects.layout
    members = references.of_family("functools._lru_cache_wrapper")
    address = references.objects.address[members]
    entries = entries_of(memory, layout, memory.read(address + np.uint64(layout("_lru_cache.cache"))))
    kinds = memory.read(entries.value + np.uint64(8))
    links = [int(kind) for kind in np.unique(kinds) if "lru_list_elem" in memory.c_string(memory.word(int(kind) + 24))]
    is_link = np.isin(kinds, np.array(links, np.uint64))
    result = memory.read(entries.value + np.uint64(layout("_lru_cache.result")))
    value = np.where(is_link, result, entries.value)
    references.add(members[entries.which], value, references.name("<cached result>"), PROPERTY)
    references.add(members[entries.which], entries.key, references.name("<cached key>"), PROPERTY)


def _context_trees(references: References) -> None:
    """Nodes of the trees of context variables: a value is named by its variable."""
    memory, layout = references.objects.memory, references.objects.layout
    for family, first in (
        ("hamt_bitmap_node", layout("hamt.b_array")),
        ("hamt_collision_node", layout("hamt.b_array")),
        ("hamt_array_node", layout("hamt.a_array")),
    ):
        members = references.of_family(family)
        address = references.objects.address[members]
        if family == "hamt_array_node":
            references.items(members, address + np.uint64(first), np.full(len(members), TREE_WIDTH, np.int64))
            continue
        count = memory.read(address + np.uint64(16)).astype(np.int64)
        count = np.where((count > 0) & (count <= 2 * TREE_WIDTH), count // 2, 0)
        which = np.repeat(np.arange(len(members)), count)
        step = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        at = address[which] + np.uint64(first) + (step * 16).astype(np.uint64)
        key, value = memory.read(at), memory.read(at + np.uint64(8))
        for part, variable in _by_value(key, key != 0):
            text = references.strings(memory.word(variable + layout("PyContextVar.var_name")))
            references.add(members[which[part]], value[part], references.name(text or "<node>"), CONTEXT)
        branch = key == 0
        references.add(members[which[branch]], value[branch], references.name("<node>"), INTERNAL)
        references.add(members[which], key, references.name("<key>"), INTERNAL)
