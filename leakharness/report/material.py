"""What a page shows beside the stored results. Plain values; who reads files fills them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Excerpt", "Material"]

Place = tuple[str, int]
"""A file as a result names it, and a line."""


@dataclass(frozen=True)
class Excerpt:
    """Lines of a source file, from ``first`` on; ``hits`` are those that count. ``changed``: the file is newer than
    the result that names it."""

    file: str
    hits: tuple[int, ...]
    first: int
    lines: tuple[str, ...]
    changed: bool = False


@dataclass(frozen=True)
class Material:
    """``registrations``: where the function that is defined at a place is passed on, by that place. ``heaps``: the
    dominator tree of a snapshot, by its path as a result names it (``dominators --json``); ``heap_problems``: why there
    is none. ``calibrations``: by scenario (``calibrate --json``)."""

    sources: Mapping[Place, Excerpt] = field(default_factory=dict)
    registrations: Mapping[Place, tuple[Excerpt, ...]] = field(default_factory=dict)
    heaps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    heap_problems: Mapping[str, str] = field(default_factory=dict)
    calibrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
