"""What a file of V8 tells beside its objects: who made it, where objects were allocated and when, what is detached."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from leakharness.errors import SnapshotError
from leakharness.heap.graph import HeapGraph
from leakharness.heap.v8_sections import mapped, named_errors, sections_of

__all__ = ["DETACHED", "AllocationSite", "TimeLine", "allocation_sites", "producer_of", "time_line"]

DETACHED = 2
"""V8's number in the column ``detachedness`` for a node that no document holds any more."""
_FRAMES_SHOWN = 6
_SITES_SHOWN = 3
_TOKEN = re.compile(rb"\d+|[\[\]]")

# Producer, and texts of which one is among the strings of its files and of no other's; the first match counts.
_TELLING: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("Hermes", re.compile(r"HermesInternal|\(hermes\).*")),
    ("Deno", re.compile(r"ext:core/.*|Deno")),
    ("Node", re.compile(r"Node / .*|node:internal/bootstrap/.*|NodeError")),
    ("Chrome", re.compile(r"Window \(global.*|Window / .*|blink::.*|HTMLDocument")),
    (
        "V8, embedder unknown",
        re.compile(r"system / .*|\((Stack|Strong|Eternal) roots?( list)?\)|\(Bootstrapper\)|\(Builtins\)"),
    ),
)


def producer_of(graph: HeapGraph) -> str:
    """Who made a file that is not ours, as far as it shows: Node, Chrome, Julia, ..., or ``unknown``."""
    if any(kind.startswith("jl_") for kind in graph.node_kinds):
        return "Julia"
    found = {name for text in graph.strings for name, pattern in _TELLING if pattern.fullmatch(text)}
    return next((name for name, _ in _TELLING if name in found), "unknown")


@dataclass(frozen=True)
class AllocationSite:
    """How many objects were allocated by which call stack, innermost frame first."""

    count: int
    frames: tuple[str, ...]


def allocation_sites(path: Path | str, graph: HeapGraph, nodes: Sequence[int]) -> list[AllocationSite]:
    """The call stacks that allocated most of ``nodes``, from the trace tree of the file that ``graph`` was read from;
    empty where it has none (Chrome and Node write one while allocations are tracked)."""
    if graph.trace_node is None or not graph.trace_node.any():
        return []
    counts = Counter(number for number in graph.trace_node[np.asarray(nodes, np.int64)].tolist() if number)
    with mapped(Path(path)) as text, named_errors(Path(path)):
        sections = sections_of(text)
        if "trace_tree" not in sections or "trace_function_infos" not in sections:
            return []
        fields = orjson.loads(text[slice(*sections["snapshot"])])["meta"].get("trace_function_info_fields", [])
        infos = _rows(text[slice(*sections["trace_function_infos"])], fields)
        above, function = _tree(text[slice(*sections["trace_tree"])])
    found = []
    for number, count in counts.most_common(_SITES_SHOWN):
        frames: list[str] = []
        while number in function and len(frames) < _FRAMES_SHOWN:
            frames.append(_frame(graph.strings, infos, function[number]))
            number = above[number]
        found.append(AllocationSite(count, tuple(frame for frame in frames if frame)))
    return found


def _rows(text: bytes, fields: Any) -> list[dict[str, int]]:
    values = orjson.loads(text)
    if not isinstance(fields, list) or not fields or not all(isinstance(value, int) for value in values):
        raise SnapshotError("is corrupt: its functions cannot be used")
    width = len(fields)
    return [
        dict(zip(fields, values[at : at + width], strict=True)) for at in range(0, len(values) // width * width, width)
    ]


def _tree(text: bytes) -> tuple[dict[int, int], dict[int, int]]:
    """Parent and function of each node of a trace tree: ``id, function, count, size, [children]``, one after the
    other, nested as deep as the stacks were."""
    above: dict[int, int] = {}
    function: dict[int, int] = {}
    parents, numbers = [0], list[int]()
    for token in _TOKEN.finditer(text):
        part = token[0]
        if part == b"[":
            if len(numbers) >= 4:
                node, of = numbers[-4], numbers[-3]
                above[node], function[node] = parents[-1], of
                parents.append(node)
            else:
                parents.append(parents[-1])
            numbers = []
        elif part == b"]":
            parents = parents[:-1] or [0]
            numbers = []
        else:
            numbers.append(int(part))
    return above, function


def _frame(strings: list[str], infos: list[dict[str, int]], number: int) -> str:
    if not 0 <= number < len(infos):
        return ""
    info = infos[number]

    def text(field: str) -> str:
        place = info.get(field, -1)
        return strings[place] if 0 <= place < len(strings) else ""

    name, script, line = text("name") or "(anonymous)", text("script_name"), info.get("line", 0)
    return f"{name} ({script}:{line})" if script else "" if name in ("(root)", "(anonymous)") else name


@dataclass(frozen=True)
class TimeLine:
    """When the objects that are alive were allocated: seconds since the first sample, and the bytes of those that came
    between it and the one before."""

    seconds: tuple[float, ...]
    alive_bytes: tuple[int, ...]


def time_line(path: Path | str, graph: HeapGraph) -> TimeLine | None:
    """The time line of a file's ``samples``; None where it has none."""
    with mapped(Path(path)) as text, named_errors(Path(path)):
        sections = sections_of(text)
        if "samples" not in sections:
            return None
        values = orjson.loads(text[slice(*sections["samples"])])
    if len(values) < 2 or len(values) % 2 or not all(isinstance(value, int) for value in values):
        return None
    times, ids = np.array(values[::2], np.int64), np.array(values[1::2], np.int64)
    place = np.searchsorted(np.maximum.accumulate(ids), graph.node_id.astype(np.int64))
    born = (place < len(ids)) & (place > 0)
    alive = np.bincount(place[born], weights=graph.self_size[born], minlength=len(ids))
    seconds = ((times - times[0]) / 1e6).tolist()
    return TimeLine(tuple(seconds), tuple(alive.astype(np.int64).tolist()))
