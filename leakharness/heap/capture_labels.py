"""What the nodes of a raw capture are called: functions and frames with file and line, modules, types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leakharness.heap.capture_tables import Edges, Ints, Tables
from leakharness.worker.capture.columns import TEXT
from leakharness.worker.capture.file import short_path
from leakharness.worker.capture.type_plans import FAMILIES

__all__ = ["Labels", "harness_code", "labels_of"]


@dataclass(frozen=True)
class Labels:
    """The name of each node (a number of `Strings`), and the texts it was made from, by column and node."""

    of_node: Ints
    texts: dict[str, dict[int, str]]


def labels_of(tables: Tables, hints: Edges) -> Labels:
    """What each node is called: its type, or what a function, frame, module or type is."""
    found: Ints = tables.type_string.copy()
    texts = _texts_by_name(tables)
    codes = _code_places(tables, texts)
    for node, place in codes.items():
        found[node] = tables.strings(f"code {place}")
    _name_functions(tables, found, hints, texts.get("__qualname__", {}), codes)
    for node, name in texts.get("__name__", {}).items():
        found[node] = tables.strings(f"module {name}")
    for node in np.flatnonzero(tables.is_family("type")).tolist():
        found[node] = tables.strings(f"type {tables.type_names.get(int(tables.ids[node]), '?')}")
    lines = zip(
        tables.words("linesrc").tolist(),
        tables.nodes_of(tables.words("linecode")).tolist(),
        tables.words("lineno").tolist(),
        strict=True,
    )
    for node, code, line in lines:
        kind = tables.type_names[int(tables.type_id[node])]
        place = codes.get(code, "? (?:0)").rpartition(":")[0]
        found[node] = tables.strings(f"{kind} {place}:{line})")
    return Labels(found, texts)


def _texts_by_name(tables: Tables) -> dict[str, dict[int, str]]:
    """Text columns: name of the column -> node -> text."""
    rows = tables.rows("colrow", 4)
    names = tables.json("names")
    ends = np.cumsum(rows[:, 1])
    found: dict[str, dict[int, str]] = {}
    for (first, length, name, kind), end in zip(rows.tolist(), ends.tolist(), strict=True):
        if kind & TEXT:
            ids = tables.column_ids[end - length : end].tolist()
            column = found.setdefault(names[name], {})
            column.update((first + i, tables.text(address)) for i, address in enumerate(ids))
    return found


def _code_nodes(tables: Tables) -> list[int]:
    return [first + i for first, length in tables.rows("code", 2).tolist() for i in range(length)]


def harness_code(tables: Tables, labels: Labels) -> list[int]:
    """The code objects of the harness itself; its scenarios are the program's."""
    files, package = labels.texts.get("co_filename", {}), str(tables.meta["package"])
    own = {
        path
        for path in set(files.values())
        if path.startswith(package + "/") and not path.startswith(package + "/scenarios/")
    }
    return [node for node in _code_nodes(tables) if files.get(node) in own]


def _code_places(tables: Tables, texts: dict[str, dict[int, str]]) -> dict[int, str]:
    """Node of a code object -> ``name (file:line)``."""
    files, names = texts.get("co_filename", {}), texts.get("co_qualname") or texts.get("co_name", {})
    lines = tables.words("codeline").tolist()
    nodes = _code_nodes(tables)
    cwd, library = (str(tables.meta[key]) for key in ("cwd", "library"))
    short = {path: short_path(path, cwd, library) for path in set(files.values())}
    return {
        node: f"{_unnested(names[node])} ({short[files[node]]}:{line})" for node, line in zip(nodes, lines, strict=True)
    }


def _name_functions(tables: Tables, found: Ints, hints: Edges, names: dict[int, str], codes: dict[int, str]) -> None:
    which = (hints.name == tables.strings("__code__")) & (hints.target >= 0)
    which &= tables.family[hints.source] == FAMILIES.index("function")
    for node, code in zip(hints.source[which].tolist(), hints.target[which].tolist(), strict=True):
        place = codes.get(code, "? (?:0)").partition(" (")[2]
        found[node] = tables.strings(f"function {_unnested(names.get(node, '?'))} ({place}")


def _unnested(qualname: str) -> str:
    """``outer.<locals>.inner`` is known by ``inner``."""
    return qualname.rpartition("<locals>.")[2]
