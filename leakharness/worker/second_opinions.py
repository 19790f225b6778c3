"""Second opinions, in a forked copy of the measured process: objgraph's chain of referrers to one retained object,
and guppy3's count of its type. Asked where the measured environment has them; they never decide."""

from __future__ import annotations

import importlib
import importlib.util
import io
import re
import sys
import types
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any

from leakharness.worker.capture.columns import HIDDEN
from leakharness.worker.capture.loaded_names import strings_of_code
from leakharness.worker.codec import encode
from leakharness.worker.exception_text import text_of
from leakharness.worker.fork import start_copy
from leakharness.worker.protocol import GuppyOpinion, ObjgraphOpinion, Opinions
from leakharness.worker.unpatched import gc, open, os, signal

__all__ = ["ask"]

SECONDS = 20
"""The copy ends itself after this long: a huge heap is not worth more to a second opinion."""
WITHOUT_GUPPY = (3, 15)
"""guppy3 has no wheel from here on, and its source does not build."""
FAILED_KEPT = 200
"""Characters of what went wrong in one of them."""
MOST_DEPTH = 25
GRAPH_DEPTH = 4
GRAPH_WIDTH = 6
"""Steps back, and referrers of one object, in objgraph's picture: more cannot be read."""


def ask(path: str, targets: Callable[[], Iterable[tuple[Any, str]]]) -> int | None:
    """Fork, and let the copy write :class:`leakharness.worker.protocol.Opinions` to ``path``. Returns its pid, or
    None where neither package is there."""
    present = [name for name in ("objgraph", "guppy") if importlib.util.find_spec(name) is not None]
    return start_copy(_write, path, targets, present) if present else None


def _write(path: str, targets: Callable[[], Iterable[tuple[Any, str]]], present: list[str]) -> bool:
    """In the copy. An alarm ends it after :data:`SECONDS`."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    gc.unfreeze()
    gc.disable()
    found = list(targets())
    opinions = Opinions()
    if found and "objgraph" in present:
        try:
            opinions = opinions._replace(objgraph=_objgraph(found))
        except Exception as exc:
            opinions = opinions._replace(objgraph=ObjgraphOpinion(failed=_failed(exc)))
    if found and "guppy" in present:
        try:
            opinions = opinions._replace(guppy=_guppy(found))
        except Exception as exc:
            opinions = opinions._replace(guppy=GuppyOpinion(failed=_failed(exc)))
    if "guppy" not in present and sys.version_info >= WITHOUT_GUPPY:
        opinions = opinions._replace(guppy=GuppyOpinion(absent="there is none for this interpreter"))
    with open(path + ".tmp", "wb") as file:
        file.write(encode(opinions))
    os.replace(path + ".tmp", path)
    return True


def _failed(exc: Exception) -> str:
    return f"{type(exc).__name__}: {text_of(exc)}"[:FAILED_KEPT]


def _objgraph(found: list[tuple[Any, str]]) -> ObjgraphOpinion:
    """The types along the shortest chain from a module to the first retained object."""
    objgraph = importlib.import_module("objgraph")
    target = found[-1][0]
    ignore = {id(found), *map(id, found), id(found[-1])}
    chain = objgraph.find_backref_chain(target, objgraph.is_proper_module, max_depth=MOST_DEPTH, extra_ignore=ignore)
    names = [f"{type(obj).__module__}.{type(obj).__qualname__}".replace("builtins.", "") for obj in chain]
    holders = {
        type(obj).__qualname__
        for obj in gc.get_referrers(target)
        if id(obj) not in ignore and type(obj).__name__ not in ("frame", "list_iterator")
    }
    return ObjgraphOpinion(tuple(names), tuple(sorted(holders)), _graph(objgraph, target, ignore))


def _graph(objgraph: Any, target: Any, ignore: set[int]) -> str:
    """objgraph's own picture of what refers to ``target``, as dot; types and names only, no values."""
    text = io.StringIO()
    objgraph.show_backrefs(
        [target], max_depth=GRAPH_DEPTH, too_many=GRAPH_WIDTH, output=text, extra_ignore=[*ignore, id(text), id(ignore)]
    )
    functions = [item for item in gc.get_objects() if type(item) is types.FunctionType]
    return without_values(text.getvalue(), strings_of_code((item.__code__ for item in functions), gentle=False))


def without_values(dot: str, in_code: AbstractSet[str] = frozenset()) -> str:
    """Labels of objgraph are a type, a line break and a value: keep the type. A key of a dict that is an identifier is
    a label without a type, on an edge of weight 2: keep what stands in loaded code."""
    dot = re.sub(r'label="((?:[^"\\]|\\[^n])*)\\n(?:[^"\\]|\\.)*"', r'label="\1"', dot)
    return re.sub(
        r'label="([^"]*)",weight=2\]',
        lambda match: match[0] if match[1] in in_code else f'label="{HIDDEN}",weight=2]',
        dot,
    )


def _guppy(found: list[tuple[Any, str]]) -> GuppyOpinion:
    """How many objects of the retained object's type guppy3 counts, and their bytes."""
    heapy = importlib.import_module("guppy").hpy()
    kind = type(found[-1][0])
    family = heapy.heap() & heapy.Type(kind)
    return GuppyOpinion(kind.__qualname__, int(family.count), int(family.size))
