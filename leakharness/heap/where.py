"""Which objects of a snapshot are meant: conditions on their name, kind, size and id."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from leakharness.errors import UsageError
from leakharness.heap.dominators import dominators, retained_sizes
from leakharness.heap.families import credited_sizes, family_names
from leakharness.heap.graph import HeapGraph
from leakharness.heap.v8_details import DETACHED

__all__ = ["selected"]

Ints = npt.NDArray[np.int64]

FIELDS = "name, kind, id, size, retained, edges, detached"
_TERM = re.compile(r"\s*(\w+)\s*(?:(=~|!~|~|>=|<=|!=|=|>|<)\s*(.*?))?\s*", re.DOTALL)
_SIZE = re.compile(r"([\d.]+)\s*(B|KiB|MiB|GiB)?", re.IGNORECASE)
_UNITS = {"b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_COMPARED: dict[str, Callable[[Ints, int], npt.NDArray[np.bool_]]] = {
    ">=": lambda values, limit: values >= limit,
    "<=": lambda values, limit: values <= limit,
    ">": lambda values, limit: values > limit,
    "<": lambda values, limit: values < limit,
    "=": lambda values, limit: values == limit,
    "!=": lambda values, limit: values != limit,
}


def selected(graph: HeapGraph, conditions: str) -> Ints:
    """The nodes that meet all conditions of a text such as ``name ~ ^Session and retained >= 1MiB``.

    ``~`` and ``!~`` compare ``name`` or ``kind`` with a regular expression that may match anywhere, ``=`` and ``!=``
    with a text; the other fields are numbers (`FIELDS`). Raises `UsageError` for what is none of it.
    """
    chosen = np.ones(graph.node_count, bool)
    for term in re.split(r"\s+and\s+", conditions.strip()):
        match = _TERM.fullmatch(term)
        if match is None or match[1] not in FIELDS.split(", "):
            raise UsageError(f"--where: {term!r} is no condition; write FIELD OP VALUE with a field of {FIELDS}")
        field, operator, value = match[1], match[2], match[3]
        if field == "detached" and operator is None:
            chosen &= graph.detachedness == DETACHED if graph.detachedness is not None else False
        elif field in ("name", "kind"):
            chosen &= _by_text(graph, field, operator, value, term)
        else:
            chosen &= _by_number(graph, field, operator, value, term)
    return np.flatnonzero(chosen)


def _by_text(graph: HeapGraph, field: str, operator: str | None, value: str, term: str) -> npt.NDArray[np.bool_]:
    try:
        pattern = re.compile(value if operator in ("~", "=~", "!~") else re.escape(value or ""))
    except re.error as error:
        raise UsageError(f"--where: {value!r} is no regular expression: {error}") from None
    matches = pattern.search if operator in ("~", "=~", "!~") else pattern.fullmatch
    if operator not in ("~", "=~", "!~", "=", "!="):
        raise UsageError(f"--where: {term!r} compares a text by {operator or 'nothing'}; use ~, !~, = or !=")
    if field == "kind":
        numbers, texts = graph.node_kind.astype(np.int64), list(graph.node_kinds)
    else:
        names, texts = family_names(graph)
        numbers = names.astype(np.int64)
    used, inverse = np.unique(numbers, return_inverse=True)
    found = np.array([bool(matches(texts[number])) for number in used.tolist()], bool)[inverse.reshape(-1)]
    return ~found if operator in ("!~", "!=") else found


def _by_number(graph: HeapGraph, field: str, operator: str | None, value: str, term: str) -> npt.NDArray[np.bool_]:
    amount = _SIZE.fullmatch(value or "")
    if operator not in _COMPARED or amount is None:
        raise UsageError(
            f"--where: {term!r} is no condition; compare {field} with a number (1MiB, 500) by >=, <, =, ..."
        )
    try:
        limit = int(float(amount[1]) * _UNITS[(amount[2] or "B").lower()]) if amount[2] else int(amount[1])
    except ValueError:
        raise UsageError(f"--where: {value!r} is no number") from None
    if field == "id":
        values = graph.node_id.astype(np.int64)
    elif field == "size":
        values = credited_sizes(graph)
    elif field == "edges":
        values = np.diff(graph.edge_start)
    elif field == "retained":
        values = retained_sizes(graph, dominators(graph))
    else:
        values = (
            graph.detachedness.astype(np.int64) if graph.detachedness is not None else np.zeros(graph.node_count, int)
        )
    return _COMPARED[operator](values, limit)
