"""The columns that name references: (source, target, name) rows, and the texts and keys that they point to.

Names do not depend on the order in which a type visits its references: the reader matches these rows with the raw
references that the walk has written.
"""

from __future__ import annotations

import itertools
import types
from array import array
from collections.abc import Sequence
from operator import not_
from typing import Any

from leakharness.worker.capture.file import CaptureFile
from leakharness.worker.capture.object_ids import ids_of

__all__ = ["ADDED", "CHUNK", "HIDDEN", "IN_CODE", "TEXT", "Columns"]

CHUNK = 3_000
"""Objects per call of ``gc.get_referents``: enough to hide the call, and so few that what they refer to is still
in the processor's cache when it is looked at again (.53 s for a million objects, .57 s with 30,000 a call)."""
ADDED = 1 << 8
"""Flag beside an edge kind: the collector does not report this reference, so the reader adds it."""
TEXT = 1 << 9
"""Flag beside an edge kind: no edge, but a text that belongs to the node (a function's name, a code's
file)."""
IN_CODE = 1 << 10
"""Flag beside an edge kind of keyed references: their keys are no names by themselves, so that one is shown only where
the same string stands in loaded code."""
HIDDEN = "[*]"
"""In place of a string key that is not shown."""
KEY_LIMIT = 100
"""Longer string keys are data rather than names, and are redacted."""


class Columns:
    """Rows of names on their way to the file. ``values`` lets values of dict keys in."""

    # No __dict__: the walk leaves it out, and must not be met again as a dict.
    __slots__ = (
        "_keys",
        "_lines",
        "_loose",
        "_names",
        "_out",
        "_plain_keys",
        "_texts",
        "_values",
        "names_in_code",
        "namespaces",
    )

    def __init__(self, out: CaptureFile, *, values: bool) -> None:
        self._out = out
        self._values = values
        self._names: dict[str, int] = {}
        self._keys: dict[int, Any] = {}
        self._plain_keys: dict[int, Any] = {}
        self._texts: dict[int, str] = {}
        self._loose = (array("q"), array("q"), array("q"), array("q"))
        self._lines = (array("q"), array("q"), array("q"))
        self.namespaces: set[int] = set()
        """Ids of the dicts whose keys are names: of modules, classes, instances, keyword arguments."""
        self.names_in_code: set[str] = set()
        """Every string that stands in a loaded code object, as a name or a constant."""

    def _name(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    def column(self, first: int, name: str, kind: int, values: list[Any]) -> None:
        """One reference of the same name from each of the nodes that begin with ``first``."""
        self._out.add_words("colrow", [first, len(values), self._name(name), kind])
        self._out.add("coldst", ids_of(values))

    def text_column(self, first: int, name: str, values: list[Any]) -> None:
        """A text that belongs to each of the nodes that begin with ``first``."""
        self._texts.update((id(value), value) for value in values if type(value) is str)
        self.column(first, name, TEXT, values)

    def edge(self, source: int, target: Any, name: str, kind: int) -> None:
        """One reference."""
        for column, value in zip(self._loose, (source, id(target), self._name(name), kind), strict=True):
            column.append(value)

    def keyed(self, sources: array[int], lengths: list[int], keys: list[Any], values: list[Any], kind: int) -> None:
        """References named by objects: ``lengths[i]`` of them from node ``sources[i]``."""
        known = self._plain_keys if kind & IN_CODE else self._keys
        strings = keys if _are_texts(keys) else [key for key in keys if type(key) is str]
        known.update(zip(map(id, strings), strings, strict=True))
        if self._values and len(strings) < len(keys):
            plain = [key for key in keys if type(key) in (int, float, bool, bytes)]
            known.update(zip(map(id, plain), plain, strict=True))
        self._out.add_words("keyrow", [len(sources), len(keys), kind])
        self._out.add_words("keysrc", sources)
        self._out.add_words("keylen", lengths)
        self._out.add("keykey", ids_of(keys))
        self._out.add("keydst", ids_of(values))

    def attributes(self, first: int, spaces: list[dict[str, Any]], kind: int) -> None:
        """References named by the keys of ``spaces``, the attributes of one node each from ``first`` on."""
        self._keyed_dicts(range(first, first + len(spaces)), spaces, kind)

    def dicts(self, first: int, dicts: list[dict[Any, Any]], kind: int) -> None:
        """References of the dicts themselves, which are the nodes from ``first`` on. Call it once `namespaces` is
        complete."""
        is_space = list(map(self.namespaces.__contains__, map(id, dicts)))
        numbers = range(first, first + len(dicts))
        for which, flag in ((is_space, 0), (list(map(not_, is_space)), IN_CODE)):
            some = list(itertools.compress(dicts, which))
            if some:
                self._keyed_dicts(list(itertools.compress(numbers, which)), some, kind | flag)

    def _keyed_dicts(self, sources: Sequence[int], dicts: list[dict[Any, Any]], kind: int) -> None:
        for start in range(0, len(dicts), CHUNK):
            some = dicts[start : start + CHUNK]
            self.keyed(
                array("q", sources[start : start + CHUNK]),
                list(map(dict.__len__, some)),
                list(itertools.chain.from_iterable(map(dict.keys, some))),
                list(itertools.chain.from_iterable(map(dict.values, some))),
                kind,
            )

    def line(self, source: int, code: types.CodeType, line: int | None) -> None:
        """The line of code at which a frame or generator stands."""
        for column, value in zip(self._lines, (source, id(code), line or code.co_firstlineno), strict=True):
            column.append(value)

    @property
    def key_texts(self) -> list[str]:
        """Strings that are keys: a dict whose keys are all strings does not report them to the collector."""
        keys = itertools.chain(self._keys.values(), self._plain_keys.values())
        return [key for key in keys if type(key) is str]

    def write(self) -> None:
        """Write what was gathered: keys, texts, single references and lines."""
        shown = self._shown_plain_keys()
        keys = [*self._keys.values(), *shown]
        self._out.add("keyid", ids_of(keys))
        self._out.add("keytext", _joined([self._key_text(key) for key in keys]))
        self._out.add("keycode", ids_of(shown))
        texts = list(self._texts.values())
        self._out.add("textid", ids_of(texts))
        self._out.add("texttext", _joined([text.replace("\n", " ") for text in texts]))
        for key, column in zip(("edgesrc", "edgedst", "edgename", "edgekind"), self._loose, strict=True):
            self._out.add_words(key, column)
        for key, column in zip(("linesrc", "linecode", "lineno"), self._lines, strict=True):
            self._out.add_words(key, column)
        self._out.add_json("names", list(self._names))

    def _shown_plain_keys(self) -> list[Any]:
        """Keys of dicts that are no namespace: those whose text stands in loaded code, or all where values were asked
        for. No other leaves the process."""
        if self._values:
            return list(self._plain_keys.values())
        return [key for key in self._plain_keys.values() if key in self.names_in_code]

    def _key_text(self, key: Any) -> str:
        if self._values:
            return repr(key)[:KEY_LIMIT] if type(key) is not str else key[:KEY_LIMIT].replace("\n", " ")
        if len(key) <= KEY_LIMIT and key.replace(".", "_").isidentifier():
            return str(key)
        return HIDDEN


def _are_texts(items: list[Any]) -> bool:
    """Whether all are exact strings."""
    return ids_of(list(map(type, items))) == ids_of([str]) * len(items)


def _joined(texts: list[str]) -> bytes:
    return "\n".join(texts).encode("utf-8", "surrogatepass")
