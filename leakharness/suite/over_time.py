"""What the snapshots of a lane say one by one: bytes and objects of each family, and the modules that were loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leakharness.suite.loaded_modules import modules_in

__all__ = ["OverTime", "spread"]

MOST_SNAPSHOTS = 6
"""Snapshots read to see how a family grew: evenly spread over the lane, first and last among them."""


class OverTime:
    """Snapshots by their file, each read once."""

    def __init__(self) -> None:
        self._families: dict[Path, dict[tuple[str, str], tuple[int, int]]] = {}
        self._modules: dict[Path, set[str]] = {}
        self.of_node = False
        """Whether the files read last are V8's."""

    def reading(self, path: Path, key: tuple[str, str]) -> tuple[int, int]:
        """Shallow bytes and objects of a (kind, type) in one snapshot."""
        self._read(path)
        return self._families[path].get(key, (0, 0))

    def modules(self, path: Path) -> set[str]:
        """The modules that one snapshot shows as loaded."""
        self._read(path)
        return self._modules[path]

    def _read(self, path: Path) -> None:
        if path in self._families:
            return
        from leakharness.heap import v8
        from leakharness.heap.families import Families

        graph = v8.read(path, edges=None)
        families = Families(graph)
        figures = zip(families.size.tolist(), families.count.tolist(), strict=True)
        self._families[path] = dict(zip(families.all_keys(), figures, strict=True))
        self._modules[path] = modules_in(graph)
        self.of_node = graph.of_v8


def spread(paths: Sequence[Path]) -> list[Path]:
    """At most MOST_SNAPSHOTS of them, first and last included, evenly spread."""
    if len(paths) <= MOST_SNAPSHOTS:
        return list(paths)
    last = len(paths) - 1
    return [paths[round(i * last / (MOST_SNAPSHOTS - 1))] for i in range(MOST_SNAPSHOTS)]
