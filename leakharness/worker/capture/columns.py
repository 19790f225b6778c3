"""The columns that name references: (source, target, name) rows, and the texts and keys that they point to.

Names do not depend on the order in which a type visits its references: the reader matches these rows with the raw
references that the walk has written.
"""

from __future__ import annotations

import itertools
import types
from array import array
from typing import Any

from leakharness.worker.capture.file import CaptureFile
from leakharness.worker.capture.object_ids import ids_of

__all__ = ["ADDED", "CHUNK", "TEXT", "Columns"]

CHUNK = 3_000
"""Objects per call of ``gc.get_referents``: enough to hide the call, and so few that what they refer to is still
in the processor's cache when it is looked at again (.53 s for a million objects, .57 s with 30,000 a call)."""
ADDED = 1 << 8
"""Flag beside an edge kind: the collector does not report this reference, so the reader adds it."""
TEXT = 1 << 9
"""Flag beside an edge kind: no edge, but a text that belongs to the node (a function's name, a code's
file)."""
KEY_LIMIT = 100
"""Longer string keys are data rather than names, and are redacted."""


class Columns:
    """Rows of names on their way to the file. ``values`` lets values of dict keys in."""

    # No __dict__: the walk leaves it out, and must not be met again as a dict.
    __slots__ = ("_keys", "_lines", "_loose", "_names", "_out", "_texts", "_values")

    def __init__(self, out: CaptureFile, *, values: bool) -> None:
        self._out = out
        self._values = values
        self._names: dict[str, int] = {}
        self._keys: dict[int, Any] = {}
        self._texts: dict[int, str] = {}
        self._loose = (array("q"), array("q"), array("q"), array("q"))
        self._lines = (array("q"), array("q"), array("q"))

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
        strings = keys if _are_texts(keys) else [key for key in keys if type(key) is str]
        self._keys.update(zip(map(id, strings), strings, strict=True))
        if self._values and len(strings) < len(keys):
            plain = [key for key in keys if type(key) in (int, float, bool, bytes)]
            self._keys.update(zip(map(id, plain), plain, strict=True))
        self._out.add_words("keyrow", [len(sources), len(keys), kind])
        self._out.add_words("keysrc", sources)
        self._out.add_words("keylen", lengths)
        self._out.add("keykey", ids_of(keys))
        self._out.add("keydst", ids_of(values))

    def keyed_dicts(self, first: int, dicts: list[dict[Any, Any]], kind: int) -> None:
        """References named by the keys of ``dicts``, one of each node from ``first`` on."""
        for start in range(0, len(dicts), CHUNK):
            some = dicts[start : start + CHUNK]
            self.keyed(
                array("q", range(first + start, first + start + len(some))),
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
        return [key for key in self._keys.values() if type(key) is str]

    def write(self) -> None:
        """Write what was gathered: keys, texts, single references and lines."""
        keys = list(self._keys.values())
        self._out.add("keyid", ids_of(keys))
        self._out.add("keytext", _joined([self._key_text(key) for key in keys]))
        texts = list(self._texts.values())
        self._out.add("textid", ids_of(texts))
        self._out.add("texttext", _joined([text.replace("\n", " ") for text in texts]))
        for key, column in zip(("edgesrc", "edgedst", "edgename", "edgekind"), self._loose, strict=True):
            self._out.add_words(key, column)
        for key, column in zip(("linesrc", "linecode", "lineno"), self._lines, strict=True):
            self._out.add_words(key, column)
        self._out.add_json("names", list(self._names))

    def _key_text(self, key: Any) -> str:
        if self._values:
            return repr(key)[:KEY_LIMIT] if type(key) is not str else key[:KEY_LIMIT].replace("\n", " ")
        if len(key) <= KEY_LIMIT and key.replace(".", "_").isidentifier():
            return str(key)
        return "<str>"


def _are_texts(items: list[Any]) -> bool:
    """Whether all are exact strings."""
    return ids_of(list(map(type, items))) == ids_of([str]) * len(items)


def _joined(texts: list[str]) -> bytes:
    return "\n".join(texts).encode("utf-8", "surrogatepass")
