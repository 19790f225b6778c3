"""What a build of CPython says of its own structs: ``_Py_DebugOffsets``, at the start of ``_PyRuntime`` from 3.13 on.

Include/internal/pycore_debug_offsets.h (3.13: pycore_runtime.h). Where it has a field of the table, it must agree: a
build with other objects or frames is refused. Fields of the interpreter's and the thread's state move between patch
releases; those are taken as the build has them.
"""

from __future__ import annotations

from leakharness.errors import UsageError
from leakharness.live.layouts import Layout
from leakharness.live.memory import Memory

__all__ = ["SINCE", "checked"]

SINCE = (3, 13)
COOKIE = int.from_bytes(b"xdebugpy", "little")
WORD = 8
INTERPRETER = (
    "size id next threads_head {main}gc imports_modules sysdict builtins ceval_gil gil_runtime_state "
    "gil_runtime_state_enabled gil_runtime_state_locked gil_runtime_state_holder {after}"
)
CODE = "size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds co_code_adaptive"
UNICODE = "size state length asciiobject_size"
COMMON = {
    "runtime_state": "size finalizing interpreters_head",
    "tuple_object": "size ob_item ob_size",
    "list_object": "size ob_item ob_size",
    "dict_object": "size ma_keys ma_values",
    "float_object": "size ob_fval",
    "long_object": "size lv_tag ob_digit",
    "bytes_object": "size ob_size ob_sval",
    "pyobject": "size ob_type",
    "type_object": "size tp_name tp_repr tp_flags",
    "set_object": "size used table mask",
}
FRAME_314 = "size previous executable instr_ptr localsplus owner stackpointer tlbc_index"
THREAD = "size prev next interp current_frame {more}thread_id native_thread_id datastack_chunk status {after}"
INTERPRETER_314 = INTERPRETER.format(main="threads_main ", after="code_object_generation tlbc_generation")
SECTIONS: dict[tuple[int, int], dict[str, str]] = {
    (3, 13): {
        "runtime_state": COMMON["runtime_state"],
        "interpreter_state": INTERPRETER.format(main="", after=""),
        "thread_state": THREAD.format(more="", after=""),
        "interpreter_frame": "size previous executable instr_ptr localsplus owner",
        "code_object": CODE,
        **{name: COMMON[name] for name in ("pyobject", "type_object", "tuple_object", "list_object")},
        **{name: COMMON[name] for name in ("dict_object", "float_object", "long_object", "bytes_object")},
        "unicode_object": UNICODE,
        "gc": "size collecting",
    },
    (3, 14): {
        "runtime_state": COMMON["runtime_state"],
        "interpreter_state": INTERPRETER_314,
        "thread_state": THREAD.format(more="", after=""),
        "interpreter_frame": FRAME_314,
        "code_object": f"{CODE} co_tlbc",
        **{name: COMMON[name] for name in ("pyobject", "type_object", "tuple_object", "list_object", "set_object")},
        **{name: COMMON[name] for name in ("dict_object", "float_object", "long_object", "bytes_object")},
        "unicode_object": UNICODE,
        "gc": "size collecting",
        "gen_object": "size gi_name gi_iframe gi_frame_state",
    },
    (3, 15): {
        "runtime_state": COMMON["runtime_state"],
        "interpreter_state": INTERPRETER_314,
        "thread_state": THREAD.format(
            more="base_frame last_profiled_frame last_profiled_frame_seq ",
            after="holds_gil gil_requested current_exception exc_state",
        ),
        "err_stackitem": "exc_value",
        "interpreter_frame": FRAME_314,
        "code_object": f"{CODE} co_tlbc",
        "pyobject": COMMON["pyobject"],
        "type_object": f"{COMMON['type_object']} tp_basicsize tp_dictoffset",
        "heap_type_object": "size ht_cached_keys",
        **{name: COMMON[name] for name in ("tuple_object", "list_object", "set_object", "dict_object")},
        **{name: COMMON[name] for name in ("float_object", "long_object", "bytes_object")},
        "unicode_object": f"{UNICODE} compactunicodeobject_size",
        "gc": "size collecting frame generation_stats_size generation_stats",
        "gen_object": "size gi_name gi_iframe gi_frame_state",
    },
}
"""Sections and their fields in the order of the header; each is one word."""
STRUCTS = {
    "runtime_state": "_PyRuntimeState",
    "interpreter_state": "PyInterpreterState",
    "thread_state": "PyThreadState",
    "interpreter_frame": "_PyInterpreterFrame",
    "code_object": "PyCodeObject",
    "type_object": "PyTypeObject",
    "heap_type_object": "PyHeapTypeObject",
    "tuple_object": "PyTupleObject",
    "list_object": "PyListObject",
    "set_object": "PySetObject",
    "dict_object": "PyDictObject",
    "unicode_object": "PyASCIIObject",
    "gen_object": "PyGenObject",
}
"""Section -> struct of the table; what the two call alike is compared."""
OTHER_NAMES = {
    "runtime_state.interpreters_head": "_PyRuntimeState.interpreters",
    "interpreter_state.threads_head": "PyInterpreterState.threads",
    "interpreter_state.imports_modules": "PyInterpreterState.modules",
    "thread_state.current_frame": "PyThreadState.frame",
    "interpreter_frame.executable": "_PyInterpreterFrame.code",
    "interpreter_frame.instr_ptr": "_PyInterpreterFrame.instruction",
    **{
        f"code_object.{name}": f"PyCodeObject.co_{name}"
        for name in ("filename", "name", "qualname", "linetable", "firstlineno", "localsplusnames", "localspluskinds")
    },
    "code_object.co_code_adaptive": "PyCodeObject.code",
    "unicode_object.asciiobject_size": "sizeof.PyASCIIObject",
    "unicode_object.compactunicodeobject_size": "sizeof.PyCompactUnicodeObject",
}
MOVING = ("PyInterpreterState.", "PyThreadState.", "_PyRuntimeState.")
"""Structs of the table that may differ between patch releases."""


def checked(memory: Memory, layout: Layout, what: str) -> Layout:
    """The layout as this very build has it. Raises UsageError where it has other objects, other frames, no GIL, or is
    not the version that its file says; before 3.13, and for what the build does not tell, it is the table's."""
    if layout.version < SINCE:
        return layout
    place = _found(memory)
    version = ".".join(map(str, layout.version))
    if not place:
        raise UsageError(f"{what}: no _Py_DebugOffsets in its memory: this is no CPython {version} as it is published")
    build = memory.word(place + WORD) >> 16
    if (build >> 8, build & 0xFF) != layout.version:
        raise UsageError(f"{what}: its file is of CPython {version} and its memory of {build >> 8}.{build & 0xFF}")
    if memory.word(place + 2 * WORD):
        raise UsageError(f"{what} is a free-threaded build: its heap cannot be read from outside yet")
    told = _told(memory, place, layout)
    differing = {name: at for name, at in told.items() if layout.offsets[name] != at}
    fixed = [name for name in differing if not name.startswith(MOVING)]
    if fixed:
        one = fixed[0]
        raise UsageError(
            f"{what}: this build has another layout than CPython {version} ({one} at {differing[one]}, not "
            f"{layout.offsets[one]}): it cannot be read"
        )
    moved = {name.partition(".")[0] for name in differing}
    # Of a struct that has moved, what the build does not tell is not known: left out rather than guessed.
    kept = {name: at for name, at in layout.offsets.items() if name in told or name.partition(".")[0] not in moved}
    return Layout(layout.version, {**kept, **differing})


def _found(memory: Memory) -> int:
    """Address of ``_PyRuntime``, 0 for none: the cookie with a version of Python 3 behind it."""
    for place in memory.places_of(COOKIE).tolist():
        if memory.word(place + WORD) >> 24 == 3:
            return int(place)
    return 0


def _told(memory: Memory, place: int, layout: Layout) -> dict[str, int]:
    """Fields of the table that the build tells -> its offset for them."""
    at, found = place + 3 * WORD, {}
    gc = 0
    for section, fields in SECTIONS[layout.version].items():
        for field in fields.split():
            value = memory.word(at)
            at += WORD
            if (section, field) == ("interpreter_state", "gc"):
                gc = value
            if (section, field) == ("gc", "collecting"):
                found["PyInterpreterState.collecting"] = gc + value
            name = OTHER_NAMES.get(f"{section}.{field}", f"{STRUCTS.get(section, '')}.{field}")
            if name in layout.offsets:
                found[name] = value
    return found
