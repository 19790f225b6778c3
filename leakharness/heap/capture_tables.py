"""The tables of a raw capture (``worker/capture/file.py``): its columns, its nodes and what they are called by."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.worker.capture.file import MAGIC
from leakharness.worker.capture.type_plans import FAMILIES

__all__ = ["Bools", "Broken", "Edges", "Strings", "Tables", "joined", "repeated", "sections_of"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_HEADER = struct.Struct("<8sQ")


class Broken(Exception):
    pass


def sections_of(raw: bytes) -> dict[str, list[memoryview]]:
    if raw[: len(MAGIC)] != MAGIC:
        raise Broken("it does not start like one")
    view, at, found = memoryview(raw), len(MAGIC), {}  # type: ignore[var-annotated]
    while at < len(raw):
        if at + _HEADER.size > len(raw):
            raise Broken("it is truncated")
        key, length = _HEADER.unpack_from(raw, at)
        at += _HEADER.size
        if length > len(raw) - at:
            raise Broken("it is truncated")
        found.setdefault(key.rstrip(b"\0").decode("ascii"), []).append(view[at : at + length])
        at += length
    if "meta" not in found:
        raise Broken("it is truncated")
    return found


def repeated(values: Ints, lengths: Ints, total: int) -> Ints:
    """``np.repeat`` for lengths that come from a file: they must add up before anything is made of them."""
    if len(values) != len(lengths) or np.any((lengths < 0) | (lengths > total)) or int(lengths.sum()) != total:
        raise Broken("its columns do not add up")
    return np.repeat(values, lengths)


class Strings:
    """Interned strings of the graph."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))

    def many(self, texts: list[str]) -> Ints:
        return np.fromiter(map(self, texts), np.int64, len(texts))


@dataclass
class Edges:
    """Edges by source node, target node, name (string number or position) and kind."""

    source: Ints
    target: Ints
    name: Ints
    kind: Ints

    def take(self, which: Bools | Ints) -> Edges:
        return Edges(self.source[which], self.target[which], self.name[which], self.kind[which])


def joined(parts: list[Edges]) -> Edges:
    return Edges(
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.name for part in parts]),
        np.concatenate([part.kind for part in parts]),
    )


class Tables:
    """One capture: nodes (``ids``, ``type_id``, ``size``, ``family``) in the order of the file, and its name tables."""

    def __init__(self, sections: dict[str, list[memoryview]]) -> None:
        self._sections = sections
        self.meta: dict[str, Any] = dict(self.json("meta"))
        self.strings = Strings()
        self.strings("")
        self._load_nodes()
        self._load_tables()

    # -- reading columns

    def words(self, key: str) -> Ints:
        parts = self._sections.get(key, [])
        if any(len(part) % 8 for part in parts):
            raise Broken(f"column {key!r} is cut")
        return np.concatenate([np.frombuffer(part, np.int64) for part in parts]) if parts else np.zeros(0, np.int64)

    def json(self, key: str) -> Any:
        return json.loads(bytes(self._sections[key][0]).decode("utf-8", "surrogatepass"))

    def _text_table(self, name: str) -> tuple[Ints, list[str]]:
        ids = self.words(name + "id")
        text = bytes(self._sections[name + "text"][0]).decode("utf-8", "surrogatepass")
        texts = text.split("\n") if len(ids) else []
        if len(texts) != len(ids):
            raise Broken(f"table {name!r} does not add up")
        return ids, [item.encode("utf-8", "replace").decode() for item in texts]

    def rows(self, key: str, width: int) -> Ints:
        return self.words(key).reshape(-1, width)

    # -- nodes

    def _load_nodes(self) -> None:
        inner, blocks = self.words("node"), self.rows("block", 5)
        block_of = repeated(np.arange(len(blocks)), blocks[:, 1], len(inner))
        size = blocks[:, 2][block_of]
        size[np.flatnonzero(size < 0)] = self.words("size")
        size += blocks[:, 3][block_of]
        self.referring = np.flatnonzero(blocks[:, 4][block_of] == 1)
        texts, first_text = np.unique(self.words("str"), return_index=True)
        leaves, first = np.unique(self.words("leaf"), return_index=True)
        kind_of_text = np.full(len(texts), self.meta["text_type"], np.int64)
        self.ids = np.concatenate([inner, texts, leaves])
        self.type_id = np.concatenate([blocks[:, 0][block_of], kind_of_text, self.words("leaftype")[first]])
        self.size = np.concatenate([size, self.words("strsize")[first_text], self.words("leafsize")[first]])
        self.count = len(self.ids)
        self._order = np.argsort(self.ids, kind="stable")
        self._sorted = self.ids[self._order]
        if self.count and np.any(self._sorted[1:] == self._sorted[:-1]):
            raise Broken("a node occurs twice")

    def _load_tables(self) -> None:
        rows = self.json("types")
        self.type_names = {int(address): str(name) for address, name, _ in rows}
        families = {int(address): int(family) for address, _, family in rows}
        kinds, inverse = np.unique(self.type_id, return_inverse=True)
        self.family = np.array([families[kind] for kind in kinds.tolist()], np.int64)[inverse]
        self.kinds, self.kind_of = kinds, inverse
        names = [self.type_names[kind] for kind in kinds.tolist()]
        self.type_string = self.strings.many(names)[inverse] if names else np.zeros(0, np.int64)
        self.name_numbers = self.strings.many([str(name) for name in self.json("names")])
        text_ids, texts = self._text_table("text")
        self.text_of: dict[int, str] = dict(zip(text_ids.tolist(), texts, strict=True))
        self.column_ids = self.words("coldst")
        ids, texts = self._sorted_table("key")
        self.key_ids, self.key_numbers = ids, self.strings.many(texts)

    def _sorted_table(self, name: str) -> tuple[Ints, list[str]]:
        ids, texts = self._text_table(name)
        order = np.argsort(ids, kind="stable")
        return ids[order], [texts[i] for i in order.tolist()]

    def text(self, address: int) -> str:
        return self.text_of.get(address, "?")

    def short(self, kind: int) -> str:
        """Name of a type without its module."""
        return self.type_names[kind].rpartition(".")[2]

    def named_kinds(self) -> list[tuple[int, str]]:
        """(id, full name) of every type that has a node, in the order of `kinds`."""
        return [(kind, self.type_names[kind]) for kind in self.kinds.tolist()]

    def nodes_of(self, ids: Ints) -> Ints:
        """Node numbers of ``ids``; -1 for what is no node."""
        if not self.count:
            return np.full(len(ids), -1, np.int64)
        at = np.searchsorted(self._sorted, ids)
        at[at == self.count] = 0
        return np.where(self._sorted[at] == ids, self._order[at], -1)

    def is_family(self, *names: str) -> Bools:
        return np.isin(self.family, [FAMILIES.index(name) for name in names])
