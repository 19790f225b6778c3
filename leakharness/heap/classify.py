"""What kind of growth it is: a retained module graph, runtime objects, native memory, or ambiguous.

Pure tables, first match wins. A name is triage; retainers and dominators are proof. Names that module graphs
and runtime objects both use (``dict``, ``list``, ``Object``) are ambiguous until a path settles it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "AMBIGUOUS",
    "BY_DOMINATORS",
    "BY_NAME",
    "BY_RETAINERS",
    "MODULE_GRAPH",
    "NATIVE",
    "RUNTIME_OBJECTS",
    "SOURCE_LENGTH",
    "TEXTS",
    "Classification",
    "classify_dominated",
    "classify_growth",
    "classify_name",
    "classify_path",
]

MODULE_GRAPH, RUNTIME_OBJECTS, NATIVE, AMBIGUOUS = "module-graph", "runtime-objects", "native", "ambiguous"
BY_NAME, BY_RETAINERS, BY_DOMINATORS = "by name", "by retainers", "by dominators"

DECIDING_SHARE = 0.6  # of the classified growth that one class must have to name the whole; less is ambiguous


@dataclass(frozen=True)
class Classification:
    """A class of growth and the evidence it rests on (`BY_NAME`, `BY_RETAINERS` or `BY_DOMINATORS`)."""

    kind: str
    evidence: str


TEXTS = frozenset({"string", "concatenated string", "sliced string"})
_SOURCE = re.compile(r"\bimport\b|\bexport\b|\brequire\(|__vite_|sourceMappingURL")
SOURCE_LENGTH = 200
"""Characters from which on a text may be a module's source."""

# Class, node kinds ("" for any), patterns of which one must match the whole name.
_NAME_TABLE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    # Python: what an import leaves behind
    (
        MODULE_GRAPH,
        "",
        (
            r"(module|type|code)( .+)?|\((module|type|code|function)\)|abc\.ABCMeta|enum\.Enum(Type|Meta)",
            r"(_?frozen_)?importlib\..+|_frozen_importlib(_external)?\..+|zipimport\..+",
            r"staticmethod|classmethod|property|(getset|member|wrapper|method|classmethod)_descriptor",
            r"builtin_function_or_method|re\.Pattern|sre_.+|linecache\..+|_?ast\..+|tokenize\..+",
            r"_pytest\.(assertion|python|fixtures|nodes|mark|config|doctest|main)\..+",
        ),
    ),
    # Python: what a program makes while it runs
    (
        RUNTIME_OBJECTS,
        "",
        (
            r"(coroutine|generator|async_generator|frame)( .+)?|traceback|cell|method",
            r"_?asyncio\..+|concurrent\..+|_?threading\..+|_thread\..+|queue\..+|contextvars\..+",
            r"_?socket\..+|_?ssl\..+|sqlite3\..+|sqlalchemy\..+|unittest\.mock\..+|_?io\..+",
            r"bytearray|memoryview|array\.array|mmap\.mmap|collections\.deque|weakref\..+",
            r"functools\.(partial|_lru_cache_wrapper)|(\w+\.)*\w*(Error|Exception|Warning)",
        ),
    ),
    # V8: transformed sources, module records, contexts, bytecode, descriptor arrays, property maps
    (MODULE_GRAPH, "code|object shape", (r".*",)),
    (
        MODULE_GRAPH,
        "",
        (
            r"system / (Module|SourceTextModule|Script|ScopeInfo|SharedFunctionInfo|Bytecode).*",
            r"system / (Descriptor|Map\b|Feedback|PropertyCell|PrototypeInfo|Transition).*",
            r"system / UncompiledData.*",
            r"Module|SourceTextModule|SyntheticModule|ModuleWrap|ModuleJob|ModuleMap|Script|ContextifyScript",
        ),
    ),
    (MODULE_GRAPH, "array", (r"\((bytecode|descriptor array|map descriptors)\)",)),
    # V8: memory outside its heap
    (NATIVE, "", (r"system / (JSArrayBufferData|ExternalString.*|Managed.*|Foreign)",)),
    (NATIVE, "native", (r".*",)),
    # V8: what a program makes while it runs
    (
        RUNTIME_OBJECTS,
        "",
        (
            r"(Shared)?ArrayBuffer|Buffer|Uint8Array|Map|Set|WeakMap|Promise|Timeout|Immediate|Timer\w*",
            r"\w*(Socket|Server|Stream|Handle|Wrap|Emitter|Request|Response)\w*",
            r"\w*(Statement|Database|Cache|Mock)\w*",
        ),
    ),
)
_NAME_RULES = tuple(
    (growth, frozenset(kinds.split("|")) if kinds else None, re.compile("|".join(patterns), re.DOTALL))
    for growth, kinds, patterns in _NAME_TABLE
)

# Names that both sides use, whatever their kind.
_AMBIGUOUS_PYTHON = ("dict", "list", "tuple", "set", "frozenset", "str", "bytes", "int", "float", "function")
_AMBIGUOUS_V8 = ("Object", "Array", "Function", "(array)", "(string)", "(closure)")
_AMBIGUOUS_NAMES = frozenset({*_AMBIGUOUS_PYTHON, *_AMBIGUOUS_V8})

# A user's own class: qualified in Python, capitalised and an object in V8.
_OWN_CLASS = re.compile(r"[A-Za-z_][\w.]*\.(<locals>\.)?[A-Z]\w*|[A-Z][A-Za-z0-9_$]{2,}")

_MODULE_PATH = re.compile(
    r"linecache\.cache|re\._cache|\b_cache \(dict\)|importlib|__spec__|_pytest\.|path_importer_cache"
    r"|\(closure\)\.shared\b|\(code\)"  # V8: sources, constants and templates, which a program's objects never hang on
)
_RUNTIME_PATH = re.compile(
    r"closure cell|local '|context '|_callbacks|\bTask\b|\bFuture\b|\[\*\]|\[<|value in WeakMap|listeners|_events"
)
# JavaScript: where loaders keep modules; what hangs below such an entry is the module's, unless it is in a store of it
_MODULE_RECORD = re.compile(
    r"(\b(module|Module)\w*|\b(require|cjs|esm|load)\w*Cache|\bevaluatedModules|\w*To(Module|Modules)\w*Map|\._cache"
    r"|\b_pathCache|\.children|\bModule(Wrap|Map|Job|LoadMap)?\.\w+|context '(\w*[mM]odule\w*|\w*[cC]jsParseCache)')"
    r"( \((Map|Object|Array)\))?(\[[^\]]*\])?"
)
_ROOT_LIST = re.compile(r"\([A-Z][\w+ -]*\)")  # V8's lists of roots: an entry of one is no store of the program
_ENTRY = re.compile(r"\[\*\]|value in WeakMap|listeners|_events")
# Python: what is an attribute of a class, a function or a code object came with it; what is an entry of such may not
_PART_OF_CODE = re.compile(r"(type|code|function|module) |staticmethod$|classmethod$|property$|abc\.|_abc")
_OWN_ENTRY = re.compile(r"(?<!__)(?<!co_consts)(?<!co_names)(?<!co_varnames)(\[\*\]|\[[^\]]*\])$|closure cell")
_COLLECTIONS = frozenset({"Array", "Map", "Set", "WeakMap", "WeakSet", "Object"})
_PARTS_OF_CODE = frozenset({"code", "closure", "object shape", "hidden"})


def classify_name(kind: str, name: str) -> str:
    """The class a node kind and name speak for; `AMBIGUOUS` where they may be either."""
    if name in _AMBIGUOUS_NAMES:
        return AMBIGUOUS
    if kind in TEXTS:  # named by what it says, which may be anything
        return MODULE_GRAPH if len(name) >= SOURCE_LENGTH and _SOURCE.search(name) else AMBIGUOUS
    for growth, kinds, pattern in _NAME_RULES:
        if (kinds is None or kind in kinds) and pattern.fullmatch(name):
            return growth
    if kind == "object" and _OWN_CLASS.fullmatch(name):
        return RUNTIME_OBJECTS
    return AMBIGUOUS


def classify_path(
    kind: str, name: str, path: Sequence[str], owner: str = "", *, in_place: bool = False
) -> Classification:
    """The class of a node with its retainer path: what the name says, else what holds it says.

    ``owner`` is the whole name of the nearest holder that is no container. ``in_place``: the node was there before and
    has become larger.
    """
    by_name = classify_name(kind, name)
    holders = " -> ".join(step for step in path[:-1] if not _ROOT_LIST.match(step))
    if _MODULE_PATH.search(holders):
        return Classification(MODULE_GRAPH, BY_RETAINERS)
    if by_name != AMBIGUOUS:
        return Classification(by_name, BY_NAME)
    records = list(_MODULE_RECORD.finditer(holders)) if path and not path[0].startswith("sys.modules") else []
    if records:  # a module of JavaScript: what a store of it holds came while it ran
        stored = _ENTRY.search(holders, records[-1].end())
        return Classification(RUNTIME_OBJECTS if stored else MODULE_GRAPH, BY_RETAINERS)
    if _PART_OF_CODE.match(owner) and not (path and _OWN_ENTRY.search(path[-2])):
        return Classification(MODULE_GRAPH, BY_RETAINERS)
    if in_place and name in _COLLECTIONS:  # it was there and has got entries
        return Classification(RUNTIME_OBJECTS, BY_RETAINERS)
    if (_ENTRY if kind in _PARTS_OF_CODE else _RUNTIME_PATH).search(holders):
        return Classification(RUNTIME_OBJECTS, BY_RETAINERS)
    if holders.startswith("sys.modules[") and len(path) <= 3:  # straight in a module's namespace
        return Classification(MODULE_GRAPH, BY_RETAINERS)
    return Classification(AMBIGUOUS, BY_RETAINERS)


def classify_dominated(kind: str, name: str, above: Sequence[tuple[str, str]]) -> Classification:
    """The class of a node from what dominates it: ``above`` are (kind, name) of its dominators, nearest first.

    The nearest that has a class of its own gives it; a module has everything below it, so it says nothing.
    """
    by_name = classify_name(kind, name)
    if by_name != AMBIGUOUS:
        return Classification(by_name, BY_NAME)
    for dominator_kind, dominator in above:
        found = classify_name(dominator_kind, dominator)
        if found != AMBIGUOUS and not dominator.startswith("module ") and dominator_kind != "synthetic":
            return Classification(found, BY_DOMINATORS)
    return Classification(AMBIGUOUS, BY_DOMINATORS)


def classify_growth(rows: Iterable[tuple[str, int]]) -> str:
    """The class of a whole: the one with at least `DECIDING_SHARE` of all the growth, else ambiguous.

    ``rows`` are (class, bytes grown). Growth of ambiguous names counts against every class.
    """
    weights: dict[str, int] = {}
    for kind, grown in rows:
        weights[kind] = weights.get(kind, 0) + max(0, grown)
    total = sum(weights.values())
    for kind, grown in weights.items():
        if kind != AMBIGUOUS and total and grown >= DECIDING_SHARE * total:
            return kind
    return AMBIGUOUS
