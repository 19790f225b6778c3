"""Where the fields of CPython's structs lie: one column a version, each struct with its source file in CPython.

Offsets are in bytes, for 64-bit builds with the GIL; None where a version has no such field. The figures come from the
headers of each version by ``tests/bench/struct_offsets.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from leakharness.errors import UsageError

__all__ = ["VERSIONS", "Layout", "layout_of"]

VERSIONS = ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14), (3, 15))
"""The columns of the table."""

Column = tuple["int | None", ...]

# fmt: off
FIELDS: dict[str, tuple[str, dict[str, Column]]] = {
    # struct: (source in CPython, {field: offset in 3.10, 3.11, 3.12, 3.13, 3.14, 3.15})
    "PyTypeObject": ("Include/cpython/object.h, struct _typeobject", {
        "tp_name":               (  24,   24,   24,   24,   24,   24),
        "tp_basicsize":          (  32,   32,   32,   32,   32,   32),
        "tp_itemsize":           (  40,   40,   40,   40,   40,   40),
        "tp_flags":              ( 168,  168,  168,  168,  168,  168),
        "tp_weaklistoffset":     ( 208,  208,  208,  208,  208,  208),
        "tp_members":            ( 240,  240,  240,  240,  240,  240),
        "tp_base":               ( 256,  256,  256,  256,  256,  256),
        "tp_dict":               ( 264,  264,  264,  264,  264,  264),
        "tp_dictoffset":         ( 288,  288,  288,  288,  288,  288),
        "tp_bases":              ( 336,  336,  336,  336,  336,  336),
        "tp_mro":                ( 344,  344,  344,  344,  344,  344),
        "tp_subclasses":         ( 360,  360,  360,  360,  360,  360),
    }),
    "PyHeapTypeObject": ("Include/cpython/object.h, struct _heaptypeobject", {
        "ht_name":               ( 848,  848,  856,  856,  856,  864),
        "ht_slots":              ( 856,  856,  864,  864,  864,  872),
        "ht_qualname":           ( 864,  864,  872,  872,  872,  880),
        "ht_cached_keys":        ( 872,  872,  880,  880,  880,  888),
        "ht_module":             ( 880,  880,  888,  888,  888,  896),
    }),
    "PyTupleObject": ("Include/cpython/tupleobject.h", {
        "ob_item":               (  24,   24,   24,   24,   32,   32),
    }),
    "PyListObject": ("Include/cpython/listobject.h", {
        "ob_item":               (  24,   24,   24,   24,   24,   24),
        "allocated":             (  32,   32,   32,   32,   32,   32),
    }),
    "PyDictObject": ("Include/cpython/dictobject.h", {
        "ma_used":               (  16,   16,   16,   16,   16,   16),
        "ma_keys":               (  32,   32,   32,   32,   32,   32),
        "ma_values":             (  40,   40,   40,   40,   40,   40),
    }),
    "PyDictKeysObject": ("Include/internal/pycore_dict.h, struct _dictkeysobject; 3.10: Objects/dict-common.h", {
        "dk_size":               (   8, None, None, None, None, None),
        "dk_log2_size":          (None,    8,    8,    8,    8,    8),
        "dk_log2_index_bytes":   (None,    9,    9,    9,    9,    9),
        "dk_kind":               (None,   10,   10,   10,   10,   10),
        "dk_nentries":           (  32,   24,   24,   24,   24,   24),
        "dk_indices":            (  40,   32,   32,   32,   32,   32),
    }),
    "PyDictValues": ("Include/internal/pycore_dict.h, struct _dictvalues", {
        "capacity":              (None, None, None,    0,    0,    0),
        "valid":                 (None, None, None,    3,    3,    3),
        "values":                (None,    0,    0,    8,    8,    8),
    }),
    "PySetObject": ("Include/cpython/setobject.h", {
        "mask":                  (  32,   32,   32,   32,   32,   32),
        "table":                 (  40,   40,   40,   40,   40,   40),
    }),
    "PyCellObject": ("Include/cpython/cellobject.h", {
        "ob_ref":                (  16,   16,   16,   16,   16,   16),
    }),
    "PyMethodObject": ("Include/cpython/classobject.h", {
        "im_func":               (  16,   16,   16,   16,   16,   16),
        "im_self":               (  24,   24,   24,   24,   24,   24),
    }),
    "PyCFunctionObject": ("Include/cpython/methodobject.h", {
        "m_self":                (  24,   24,   24,   24,   24,   24),
        "m_module":              (  32,   32,   32,   32,   32,   32),
    }),
    "PyFunctionObject": ("Include/cpython/funcobject.h", {
        "func_globals":          (  16,   16,   16,   16,   16,   16),
        "func_builtins":         (  24,   24,   24,   24,   24,   24),
        "func_name":             (  32,   32,   32,   32,   32,   32),
        "func_qualname":         (  40,   40,   40,   40,   40,   40),
        "func_code":             (  48,   48,   48,   48,   48,   48),
        "func_defaults":         (  56,   56,   56,   56,   56,   56),
        "func_kwdefaults":       (  64,   64,   64,   64,   64,   64),
        "func_closure":          (  72,   72,   72,   72,   72,   72),
        "func_doc":              (  80,   80,   80,   80,   80,   80),
        "func_dict":             (  88,   88,   88,   88,   88,   88),
        "func_module":           ( 104,  104,  104,  104,  104,  104),
        "func_annotations":      ( 112,  112,  112,  112,  112,  112),
        "func_annotate":         (None, None, None, None,  120,  120),
        "func_typeparams":       (None, None,  120,  120,  128,  128),
    }),
    "PyCodeObject": ("Include/cpython/code.h", {
        "co_flags":              (  36,   48,   48,   48,   48,   48),
        "co_nlocals":            (  28,   80,   80,   80,   80,   80),
        "co_nlocalsplus":        (None,   76,   72,   72,   72,   72),
        "co_ncellvars":          (None,   88,   84,   84,   84,   84),
        "co_nfreevars":          (None,   92,   88,   88,   88,   88),
        "co_consts":             (  56,   24,   24,   24,   24,   24),
        "co_names":              (  64,   32,   32,   32,   32,   32),
        "co_localsplusnames":    (None,   96,   96,   96,   96,   96),
        "co_localspluskinds":    (None,  104,  104,  104,  104,  104),
        "co_varnames":           (  72, None, None, None, None, None),
        "co_freevars":           (  80, None, None, None, None, None),
        "co_cellvars":           (  88, None, None, None, None, None),
        "co_filename":           ( 104,  112,  112,  112,  112,  112),
        "co_name":               ( 112,  120,  120,  120,  120,  120),
        "co_qualname":           (None,  128,  128,  128,  128,  128),
        "co_firstlineno":        (  40,   72,   68,   68,   68,   68),
        "co_linetable":          ( 120,  136,  136,  136,  136,  136),
        "co_exceptiontable":     (None,   40,   40,   40,   40,   40),
        "code":                  (  48,  184,  192,  200,  208,  208),
    }),
    "PyBaseExceptionObject": ("Include/cpython/pyerrors.h, PyException_HEAD", {
        "dict":                  (  16,   16,   16,   16,   16,   16),
        "args":                  (  24,   24,   24,   24,   24,   24),
        "notes":                 (None,   32,   32,   32,   32,   32),
        "traceback":             (  32,   40,   40,   40,   40,   40),
        "context":               (  40,   48,   48,   48,   48,   48),
        "cause":                 (  48,   56,   56,   56,   56,   56),
    }),
    "PyTracebackObject": ("Include/cpython/traceback.h", {
        "tb_next":               (  16,   16,   16,   16,   16,   16),
        "tb_frame":              (  24,   24,   24,   24,   24,   24),
    }),
    "PyFrameObject": ("Include/internal/pycore_frame.h, struct _frame; 3.10: Include/cpython/frameobject.h", {
        "f_back":                (  24,   16,   16,   16,   16,   16),
        "f_frame":               (None,   24,   24,   24,   24,   24),
        "f_code":                (  32, None, None, None, None, None),
        "f_builtins":            (  40, None, None, None, None, None),
        "f_globals":             (  48, None, None, None, None, None),
        "f_locals":              (  56, None, None, None, None, None),
        "f_stackdepth":          (  80, None, None, None, None, None),
        "f_lasti":               (  96, None, None, None, None, None),
        "f_localsplus":          ( 352, None, None, None, None, None),
        "f_trace":               (  72,   32,   32,   32,   32,   32),
        "f_lineno":              ( 100,   40,   40,   40,   40,   40),
        "f_extra_locals":        (None, None, None,   48,   48,   48),
        "f_locals_cache":        (None, None, None,   56,   56,   56),
        "f_overwritten_fast_locals": (None, None, None, None,   64,   64),
    }),
    "_PyInterpreterFrame": ("Include/internal/pycore_frame.h; from 3.14 pycore_interpframe_structs.h", {
        "code":                  (None,   32,    0,    0,    0,    0),
        "previous":              (None,   48,    8,    8,    8,    8),
        "function":              (None,    0,   16,   16,   16,   16),
        "f_globals":             (None,    8,   24,   24,   24,   24),
        "f_builtins":            (None,   16,   32,   32,   32,   32),
        "f_locals":              (None,   24,   40,   40,   40,   40),
        "frame_obj":             (None,   40,   48,   48,   48,   48),
        "instruction":           (None,   56,   56,   56,   56,   56),
        "stacktop":              (None,   64,   64,   64, None, None),
        "stackpointer":          (None, None, None, None,   64,   64),
        "owner":                 (None,   69,   70,   70,   74,   74),
        "localsplus":            (None,   72,   72,   72,   80,   80),
    }),
    "PyGenObject": ("Include/cpython/genobject.h; from 3.14 pycore_interpframe_structs.h", {
        "gi_frame":              (  16, None, None, None, None, None),
        "gi_code":               (  24,   16, None, None, None, None),
        "gi_name":               (  40,   32,   24,   24,   24,   24),
        "gi_qualname":           (  48,   40,   32,   32,   32,   32),
        "gi_frame_state":        (None,   75,   67,   67,   67,   67),
        "gi_iframe":             (None,   80,   72,   72,   72,   72),
    }),
    "PyModuleObject": ("Include/internal/pycore_moduleobject.h; before 3.12 Objects/moduleobject.c", {
        "md_dict":               (  16,   16,   16,   16,   16,   16),
    }),
    "PyWeakReference": ("Include/cpython/weakrefobject.h, struct _PyWeakReference", {
        "wr_object":             (  16,   16,   16,   16,   16,   16),
        "wr_callback":           (  24,   24,   24,   24,   24,   24),
    }),
    "PyContext": ("Include/internal/pycore_context.h, struct _pycontextobject", {
        "ctx_prev":              (  16,   16,   16,   16,   16,   16),
        "ctx_vars":              (  24,   24,   24,   24,   24,   24),
    }),
    "PyContextVar": ("Include/internal/pycore_context.h, struct _pycontextvarobject", {
        "var_name":              (  16,   16,   16,   16,   16,   16),
        "var_default":           (  24,   24,   24,   24,   24,   24),
    }),
    "PyHamtObject": ("Include/internal/pycore_hamt.h", {
        "h_root":                (  16,   16,   16,   16,   16,   16),
    }),
    "PyASCIIObject": ("Include/cpython/unicodeobject.h", {
        "length":                (  16,   16,   16,   16,   16,   16),
        "state":                 (  32,   32,   32,   32,   32,   32),
    }),
    "PyMemberDef": ("Include/structmember.h; from 3.12 Include/descrobject.h", {
        "name":                  (   0,    0,    0,    0,    0,    0),
        "type":                  (   8,    8,    8,    8,    8,    8),
        "offset":                (  16,   16,   16,   16,   16,   16),
    }),
    # Structs without a header, from the source files named.
    "_asyncio": ("Modules/_asynciomodule.c, FutureObj_HEAD", {
        "fut_loop":              (  16,   16,   16,   16,   16,   16),
        "fut_callback0":         (  24,   24,   24,   24,   24,   24),
        "fut_context0":          (  32,   32,   32,   32,   32,   32),
        "fut_callbacks":         (  40,   40,   40,   40,   40,   40),
    }),
    "_lru_cache": ("Modules/_functoolsmodule.c, lru_cache_object, lru_list_elem", {
        "cache":                 (  72,   72,   72,   72,   72,   72),
        "func":                  (  88,   88,   88,   88,   88,   88),
        "key":                   (  40,   40,   40,   40,   40,   40),
        "result":                (  48,   48,   48,   48,   48,   48),
    }),
    "deque": ("Modules/_collectionsmodule.c, dequeobject, block", {
        "leftblock":             (  24,   24,   24,   24,   24,   24),
        "leftindex":             (  40,   40,   40,   40,   40,   40),
        "data":                  (   8,    8,    8,    8,    8,    8),
        "rightlink":             ( 520,  520,  520,  520,  520,  520),
    }),
    "hamt": ("Python/hamt.c, PyHamtNode_Bitmap, PyHamtNode_Array", {
        "b_array":               (  32,   32,   32,   32,   32,   32),
        "a_array":               (  16,   16,   16,   16,   16,   16),
    }),
    "_PyRuntimeState": ("Include/internal/pycore_runtime.h, interpreters.head", {
        "interpreters":          (  32,   40,   40,  632,  808,  936),
    }),
    "PyInterpreterState": ("Include/internal/pycore_interp.h, struct _is; from 3.14 pycore_interp_structs.h", {
        "next":                  (   0,    0,    0, 7264, 7272, 7264),
        "threads":               (   8,   16,   72, 7344, 7344, 7336),
        "modules":               ( 856,  888,  944, 7656, 7688, 7592),
        "sysdict":               ( 872,  904,  352, 7640, 7672, 7576),
        "builtins":              ( 880,  912,  360, 7648, 7680, 7584),
        "dict":                  (1344, 1400, 1720, 8448, 8496, 8448),
        "codec_search_path":     ( 912,  936, 1248, 7960, 8000, 7952),
        "codec_search_cache":    ( 920,  944, 1256, 7968, 8008, 7960),
        "codec_error_registry":  ( 928,  952, 1264, 7976, 8016, 7968),
        "collecting":            ( 816,  848,  312, 7600, 7600, 7512),
        "static_types":          (None, None, 373704, 182968, 180240, 180264),
        "extension_types":       (None, None, None, 192584, 189856, 190024),
    }),
    "static_type_state": ("Include/internal/pycore_typeobject.h, managed_static_type_state", {
        "type":                  (None, None,    0,    0,    0,    0),
        "tp_dict":               (None, None,   16,   24,   24,   24),
        "tp_subclasses":         (None, None,   24,   32,   32,   32),
    }),
    "PyThreadState": ("Include/cpython/pystate.h, struct _ts", {
        "next":                  (   8,    8,    8,    8,    8,    8),
        "frame":                 (  24, None, None,   72,   72,   72),
        "cframe":                (None,   56,   56, None, None, None),
        "thread_id":             ( 176,  152,  136,  152,  152,  176),
        "context":               ( 240,  224,  208,  208,  208,  232),
        "dict":                  ( 152,  128,  112,  128,  128,  152),
        "exc_info":              ( 144,  120,  104,  120,  120,  144),
    }),
    "CFrame": ("Include/cpython/pystate.h, _PyCFrame", {
        "current_frame":         (None,    8,    0, None, None, None),
    }),
    "sizeof": ("Include/cpython/unicodeobject.h, Include/internal/pycore_typeobject.h", {
        "PyASCIIObject":         (  48,   48,   40,   40,   40,   40),
        "PyCompactUnicodeObject": (  72,   72,   56,   56,   56,   56),
        "PyUnicodeObject":       (  80,   80,   64,   64,   64,   64),
        "static_type_state":     (None, None,   40,   48,   48,   48),
    }),
}
# fmt: on


@dataclass(frozen=True)
class Layout:
    """The offsets of one version of CPython: ``layout("PyListObject.ob_item")``."""

    version: tuple[int, int]
    offsets: dict[str, int]

    def __call__(self, field: str) -> int:
        """Offset of a field that the version has. Raises KeyError where it has not."""
        return self.offsets[field]

    def get(self, field: str) -> int | None:
        """Offset of a field, None where the version has no such field."""
        return self.offsets.get(field)

    def fields(self, struct: str) -> dict[str, int]:
        """All fields of a struct that the version has."""
        lead = struct + "."
        return {name[len(lead) :]: at for name, at in self.offsets.items() if name.startswith(lead)}


def layout_of(version: tuple[int, int]) -> Layout:
    """The layout of CPython ``version``. Raises UsageError for one that is not in the table."""
    if version not in VERSIONS:
        known = f"{_text(VERSIONS[0])} to {_text(VERSIONS[-1])}"
        raise UsageError(f"CPython {_text(version)}: its layout is not known here; {known} can be read")
    column = VERSIONS.index(version)
    found: dict[str, int] = {}
    for struct, (_, fields) in FIELDS.items():
        for field, offsets in fields.items():
            offset = offsets[column]
            if offset is not None:
                found[f"{struct}.{field}"] = offset
    return Layout(version, found)


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
