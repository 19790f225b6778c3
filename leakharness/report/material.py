"""What a page shows beside the stored results. Plain values; who reads files fills them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leakharness.model import Excerpt

__all__ = ["Material", "Shown", "shown", "stored_excerpts"]

Place = tuple[str, int]
"""A file as a result names it, and a line."""


@dataclass(frozen=True)
class Material:
    """``excerpts``: source that the files at hand have on results that were stored without it. ``heaps``: the dominator
    tree of a snapshot, by its path as a result names it (``dominators --json``); ``heap_problems``: why there is none.
    ``calibrations``: by scenario (``calibrate --json``)."""

    excerpts: tuple[Excerpt, ...] = ()
    heaps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    heap_problems: Mapping[str, str] = field(default_factory=dict)
    calibrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """The source of one result by what it is of: functions and allocations at a place, and where the function that is
    defined at a place is passed on."""

    sources: Mapping[Place, Excerpt] = field(default_factory=dict)
    registrations: Mapping[Place, list[Excerpt]] = field(default_factory=dict)


def stored_excerpts(result: Mapping[str, Any]) -> list[Excerpt]:
    """Those that a stored result has of its own."""
    return [
        Excerpt(row["of"], row["file"], row["line"], row["first"], tuple(row["lines"]), tuple(row["hits"]))
        for row in result.get("excerpts", ())
        if row["hits"]
    ]


def shown(result: Mapping[str, Any], material: Material) -> Shown:
    """The excerpts for ``result``: its own, else those of ``material``."""
    return _by_place(stored_excerpts(result) or material.excerpts)


def _by_place(excerpts: Iterable[Excerpt]) -> Shown:
    sources: dict[Place, Excerpt] = {}
    registrations: dict[Place, list[Excerpt]] = {}
    for excerpt in excerpts:
        place = (excerpt.file, excerpt.line)
        if excerpt.of == "registration":
            registrations.setdefault(place, []).append(excerpt)
        elif excerpt.of == "function" or place not in sources:
            sources[place] = excerpt
    return Shown(sources, registrations)
