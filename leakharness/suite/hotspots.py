"""The manifest of the test files that bloat a shared worker, merged from traces. Pure, but for reading files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakharness.documents import HotspotsDocument, read_document, validated
from leakharness.errors import UsageError

__all__ = ["LIMIT", "MIN_DELTA_KB", "Hotspot", "Manifest", "merge", "read_manifest", "suite_files"]

SCHEMA = "leakharness.hotspots/1"
LIMIT = 64
"""Files in a manifest: each costs a process start, so the list must stay short."""
MIN_DELTA_KB = 32_768
"""KiB that a file must leave behind to be listed: less than a pytest process of its own weighs is not worth one."""
ISOLATED = "isolated-"
"""What the lanes of isolated files are called; the others are shared."""
TEST_FILES = ("test_*.py", "*_test.py")
"""pytest's default ``python_files``."""


@dataclass(frozen=True)
class Hotspot:
    """One file: the most that it left behind in a worker (KiB), how much of that by its import, where seen."""

    file: str
    delta_kb: int
    import_kb: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """Files to isolate, largest first, and what else the traces say."""

    files: tuple[Hotspot, ...]
    shared_peak_kb: int
    """Highest resident size of a shared worker in these traces, KiB."""
    traced: int
    """How many files were traced: those that ran, and those over the limit by their import alone."""
    untraced: tuple[str, ...] = ()
    min_delta_kb: int = MIN_DELTA_KB
    limit: int = LIMIT

    def document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "min_delta_kb": self.min_delta_kb,
            "limit": self.limit,
            "shared_peak_kb": self.shared_peak_kb,
            "traced": self.traced,
            "files": [
                {"file": h.file, "delta_kb": h.delta_kb, "import_kb": h.import_kb, "sources": list(h.sources)}
                for h in self.files
            ],
            "untraced": list(self.untraced),
        }


def merge(
    traces: Sequence[tuple[str, Iterable[Mapping[str, Any]]]],
    *,
    min_delta_kb: int = MIN_DELTA_KB,
    limit: int = LIMIT,
    test_files: Iterable[str] = (),
) -> Manifest:
    """The manifest of ``(source name, rows)`` traces.

    In one worker of one run a file's rows add up; over workers, shards and runs the largest counts, and every source
    in which the file was over the limit is kept. ``test_files`` are those that should have been traced. A file that
    was imported and never ran to its end (its worker died) is listed where its import alone is over the limit.
    Raises UsageError for a trace without a row: it says nothing, not that no file is heavy.
    """
    left: dict[tuple[str, str], list[int]] = {}
    peak = 0
    ran: set[str] = set()
    for source, rows in traces:
        seen = False
        for row in rows:
            seen = True
            key = (row["file"], f"{source}:{row['lane']}")
            delta, imported = left.setdefault(key, [0, 0])
            grown = int(row["delta_rss_bytes"])
            left[key] = [delta + grown, imported + (grown if row["phase"] == "collect" else 0)]
            if not row["lane"].startswith(ISOLATED):
                peak = max(peak, int(row["peak_rss_bytes"]))
            if row["tests"]:
                ran.add(row["file"])
        if not seen:
            raise UsageError(f"{source}: the trace is empty; make one with pytest --leak-trace=FILE, or leave it out")
    files: dict[str, list[tuple[int, int, str]]] = {}
    for (name, source), (delta, imported) in left.items():
        if delta // 1024 >= min_delta_kb:
            files.setdefault(name, []).append((delta // 1024, imported // 1024, source))
    hotspots = [
        Hotspot(name, *max(found)[:2], tuple(sorted(source for _, _, source in found))) for name, found in files.items()
    ]
    hotspots.sort(key=lambda h: (-h.delta_kb, h.file))
    traced = ran | files.keys()
    collected = {name for name, _ in left}
    untraced = sorted((set(test_files) | collected) - traced)
    return Manifest(tuple(hotspots[:limit]), peak // 1024, len(traced), tuple(untraced), min_delta_kb, limit)


def suite_files(root: Path, folders: Iterable[str]) -> list[str]:
    """Every test file in ``folders`` (relative to ``root``), by pytest's default names."""
    found: set[str] = set()
    for folder in folders:
        place = root / folder
        for pattern in TEST_FILES:
            for path in place.rglob(pattern):
                if not any(part.startswith(".") for part in path.relative_to(root).parts):
                    found.add(path.relative_to(root).as_posix())
    return sorted(found)


def read_manifest(path: Path) -> Manifest:
    """A manifest that ``hotspots update`` wrote. Raises UsageError."""
    advice = "; write it with leakharness hotspots update"
    try:
        raw = read_document(path, "a manifest")
        document = validated(HotspotsDocument, raw, f"{path}: not a manifest ({SCHEMA})")
    except UsageError as exc:
        raise UsageError(f"{exc}{advice}") from None
    files = tuple(
        Hotspot(row["file"], row["delta_kb"], row.get("import_kb", 0), tuple(row.get("sources", ())))
        for row in document["files"]
    )
    return Manifest(
        files,
        document.get("shared_peak_kb", 0),
        document.get("traced", 0),
        tuple(document.get("untraced", ())),
        document.get("min_delta_kb", MIN_DELTA_KB),
        document.get("limit", LIMIT),
    )
