"""Which strings stand in loaded code: names, and constants however deep in tuples and frozen sets.

A key of a dict may be data (a token, a user's name) or a name that the program's code uses; only what is in the code
anyway may be written. Reads what C defines and runs no code of the program.
"""

from __future__ import annotations

import itertools
import re
import types
from collections.abc import Iterable, Mapping
from operator import is_

__all__ = ["shown_thread_names", "strings_of_code"]

_CODE = types.CodeType.__dict__
_STORED = tuple(_CODE[name].__get__ for name in ("co_names", "co_consts"))
_COMPUTED = (_CODE["co_varnames"].__get__,)
"""From 3.11 on reading it makes a tuple, which the code object then keeps."""
DEEPEST = 20
"""Levels of tuples in tuples that are looked into: the compiler nests a literal as deep as the source does, but code
may be made by hand."""


def strings_of_code(codes: Iterable[types.CodeType], *, gentle: bool) -> set[str]:
    """The strings of ``codes``. ``gentle`` reads nothing that would change a code object: then the names of local
    variables are missing where the interpreter keeps them in another form."""
    listed = list(codes)
    readers = _STORED if gentle else _STORED + _COMPUTED
    found: set[str] = set()
    level = [part for reader in readers for part in map(reader, listed)]
    for _ in range(DEEPEST):
        items = list(itertools.chain.from_iterable(level))
        kinds = list(map(type, items))
        found.update(itertools.compress(items, map(is_, kinds, itertools.repeat(str))))
        nested = [item for item, kind in zip(items, kinds, strict=True) if kind is tuple or kind is frozenset]
        level = list({id(item): item for item in nested}.values())
        if not level:
            break
    return found


_COUNTED_NAME = re.compile(r"(.*?)((?:[-_ ][0-9]{1,6}){0,3})(?: \(([^()]*)\))?", re.DOTALL)
"""``Thread-1 (work)``, ``ThreadPoolExecutor-0_0``, ``worker 7``: a name, numbers, and in brackets the target's name
(``threading._newname``)."""
_FORMAT = re.compile(r"[%{].*", re.DOTALL)
HIDDEN_THREAD = "*"


def shown_thread_names(threads: Mapping[str, str], in_code: set[str]) -> dict[str, str]:
    """The name of each thread as far as it stands in loaded code, apart from numbers; what does not is ``*``."""
    parts = {name: _COUNTED_NAME.fullmatch(name) for name in threads.values() if name not in in_code}
    stems = {match[1] for match in parts.values() if match}
    known = {stem for stem in stems if stem in in_code or _begins_a_format(stem, in_code)}
    shown = {name: _shown_thread_name(match, in_code, known) for name, match in parts.items()}
    return {key: shown.get(name, name) for key, name in threads.items()}


def _begins_a_format(stem: str, in_code: set[str]) -> bool:
    """Whether a constant is ``stem``, a separator and then what is filled in."""
    alike = (text for text in in_code if text.startswith(stem))
    return bool(stem) and any(_FORMAT.sub("", text).rstrip("-_ ") == stem for text in alike)


def _shown_thread_name(match: re.Match[str] | None, in_code: set[str], known: set[str]) -> str:
    if match is None:
        return HIDDEN_THREAD
    stem, number, target = match.groups()
    shown = f"{stem if stem in known else HIDDEN_THREAD}{number}"
    return shown if target is None else f"{shown} ({target if target in in_code else HIDDEN_THREAD})"
