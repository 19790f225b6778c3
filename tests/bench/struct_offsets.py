# ruff: noqa: E501 - one struct a line
"""Offsets of CPython's structs, as the compiler sees them: the figures of ``leakharness/live/layouts.py``.

usage: struct_offsets.py INCLUDE_DIR...    one column an include folder (``.../include/python3.12``)

Needs a C compiler and the internal headers (``internal/pycore_*.h``) that come with a development install. A field
that a version has not got is shown as ``-``. Prints rows for the table; structs of C modules without a header
(``_asyncio``, ``_functools``, ``collections.deque``) are typed by hand from their source files.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HEADERS = (
    "internal/pycore_runtime.h", "internal/pycore_interp.h", "internal/pycore_frame.h", "internal/pycore_dict.h",
    "internal/pycore_context.h", "internal/pycore_hamt.h", "internal/pycore_gc.h", "internal/pycore_interpframe_structs.h",
    "internal/pycore_interp_structs.h", "internal/pycore_runtime_structs.h", "frameobject.h", "structmember.h",
    "internal/pycore_unionobject.h",
)  # fmt: skip
FIELDS = """
PyTypeObject tp_name tp_basicsize tp_itemsize tp_flags tp_members tp_base tp_dict tp_dictoffset tp_weaklistoffset tp_mro tp_bases tp_cache tp_subclasses
PyHeapTypeObject ht_name ht_qualname ht_slots ht_cached_keys ht_module
PyTupleObject ob_item
PyListObject ob_item allocated
PyDictObject ma_used ma_keys ma_values
PyDictKeysObject|struct@_dictkeysobject dk_refcnt dk_size dk_log2_size dk_log2_index_bytes dk_kind dk_nentries dk_indices
PyDictValues|struct@_dictvalues capacity size valid values
PySetObject used mask table
PyCellObject ob_ref
PyMethodObject im_func im_self
PyCFunctionObject m_self m_module
PyFunctionObject func_globals func_builtins func_name func_qualname func_code func_defaults func_kwdefaults func_closure func_doc func_dict func_module func_annotations func_annotate func_typeparams
PyCodeObject co_flags co_argcount co_nlocals co_consts co_names co_localsplusnames co_localspluskinds co_varnames co_freevars co_cellvars co_filename co_name co_qualname co_firstlineno co_linetable co_exceptiontable co_nlocalsplus co_ncellvars co_nfreevars co_stacksize co_code co_code_adaptive
PyBaseExceptionObject dict args notes traceback context cause
PyTracebackObject tb_next tb_frame tb_lineno
PyFrameObject|struct@_frame f_back f_frame f_lineno f_code f_builtins f_globals f_locals f_valuestack f_stackdepth f_lasti f_localsplus f_state f_trace f_extra_locals f_locals_cache f_overwritten_fast_locals _f_frame_data
struct@_PyInterpreterFrame f_executable f_code previous f_func f_funcobj f_globals f_builtins f_locals frame_obj instr_ptr prev_instr stacktop stackpointer owner localsplus
PyGenObject gi_frame gi_code gi_name gi_qualname gi_exc_state gi_frame_state gi_iframe
PyModuleObject md_dict
PyWeakReference wr_object wr_callback
PyContext ctx_prev ctx_vars
PyContextVar var_name var_default
PyHamtObject h_root
PyASCIIObject length state
PyLongObject ob_digit long_value
PyMemberDef name type offset flags
struct@pyruntimestate interpreters.head gc
struct@_is threads.head tstate_head next modules imports.modules codec_search_path codec_error_registry codec_search_cache codecs.search_path codecs.error_registry codecs.search_cache sysdict builtins dict gc gc.collecting
struct@_ts next interp frame cframe current_frame thread_id native_thread_id context dict exc_info
struct@_cframe|_PyCFrame current_frame
PyUnicodeObject data
PyCompactUnicodeObject utf8
"""
SIZES = "PyASCIIObject PyCompactUnicodeObject PyUnicodeObject PyGC_Head PyTypeObject PyHeapTypeObject PyMemberDef PyMemberDescrObject PyGetSetDescrObject PyDictObject PyByteArrayObject"


def offsets(include: str, program: str) -> dict[str, int]:
    """``Struct.field`` -> offset in bytes, of the fields that the headers of ``include`` know."""
    base = Path(include)
    headers = [name for name in HEADERS if (base / name).exists()]
    lines = ["#define Py_BUILD_CORE 1", '#include "Python.h"', *(f'#include "{name}"' for name in headers)]
    lines += ["#include <stdio.h>", "#include <stddef.h>", "int main(void){"]
    rows: dict[int, str] = {}

    def add(name: str, expression: str) -> None:
        lines.append(f'printf("{name} %zu\\n", (size_t)({expression}));')
        rows[len(lines)] = name

    for line in FIELDS.split("\n"):
        if line:
            structs, *names = line.split()
            for name in names:
                for struct in structs.split("|"):
                    add(
                        f"{structs.split('|')[0].replace('struct@', '')}.{name}",
                        f"offsetof({struct.replace('@', ' ')}, {name})",
                    )
    for name in SIZES.split():
        add(f"sizeof({name})", f"sizeof({name})")
    lines.append("return 0;}")
    while True:
        source = "\n".join(lines)
        command = [
            "gcc",
            "-w",
            "-fmax-errors=0",
            "-x",
            "c",
            "-",
            f"-I{base}",
            f"-I{base}/internal",
            "-o",
            "/tmp/struct_offsets.out",
        ]
        done = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
        if done.returncode == 0:
            break
        bad = {int(number) for number in re.findall(r"^<stdin>:(\d+):", done.stderr, re.MULTILINE)} & set(rows)
        if not bad or all(not lines[number - 1] for number in bad):
            raise SystemExit(done.stderr[:3000])
        for number in bad:
            lines[number - 1] = ""
    text = subprocess.run([program], text=True, capture_output=True, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        columns = [offsets(include, f"{folder}/offsets") for include in sys.argv[1:]]
    names = list(dict.fromkeys(name for column in columns for name in column))
    for name in names:
        print(f"{name:48}" + "".join(f"{column.get(name, '-'):>8}" for column in columns))


if __name__ == "__main__":
    main()
