"""Gathers what a page shows beside the stored results: source lines that they lack, dominator trees, calibrations.

A stored result may come from anywhere, and a page is made to be shown to others. So of the files that a result names
only Python sources are read, and only those below the current folder, of this package and of this interpreter; of
snapshots only what ``leakharness dominators`` prints.
"""

from __future__ import annotations

import sysconfig
from calendar import timegm
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import strptime
from typing import Any

from leakharness.documents import parsed, read_bytes, validated
from leakharness.errors import LeakHarnessError, UsageError
from leakharness.excerpts import Sources, excerpts_of
from leakharness.model import Excerpt
from leakharness.page_documents import CalibrateDocument
from leakharness.report.material import Material, stored_excerpts
from leakharness.units import MIB, size

__all__ = ["CALIBRATION", "calibrations_in", "dominator_document", "gathered"]

CALIBRATION = "calibration.json"
LARGEST_SNAPSHOT = 200 * MIB
MOST_HEAPS = 6
"""Trees that one page may take, so that it stays small and is made soon."""
HEAP_TOP, HEAP_LEVELS, HEAP_LEAST = 12, 12, 0.003
"""Of a dominator tree: bars below one, levels, and the share of the heap below which a bar is left out."""

Document = Mapping[str, Any]


def gathered(documents: Sequence[Document], folder: Path | None = None, *, heaps: bool = True) -> Material:
    """What the files at hand have on ``documents``; calibrations are looked for in ``folder``; without ``heaps`` no
    snapshot is read. What cannot be read is left out."""
    results = list(_results(documents))
    trees, problems = _heaps(results) if heaps else ({}, {})
    calibrations = calibrations_in(folder) if folder is not None else {}
    return Material(_excerpts(results), trees, problems, calibrations)


def calibrations_in(folder: Path) -> dict[str, Document]:
    """The newest stored calibration of each scenario in a folder of reports."""
    found: dict[str, Document] = {}
    for path in sorted(folder.glob(f"*/{CALIBRATION}"), key=lambda path: path.parent.name):
        try:
            document = parsed(read_bytes(path, "a calibration"), str(path))
            calibration = validated(CalibrateDocument, document, str(path))
        except UsageError:
            continue
        found[calibration["scenario"]] = calibration
    return found


def dominator_document(snapshot: Path) -> dict[str, Any]:
    """The dominator tree of ``snapshot`` as ``dominators --json`` has it, but for what is below several objects of one
    type: what all of them hold. Raises SnapshotError."""
    from leakharness.heap import v8
    from leakharness.heap.dominator_rows import dominator_rows
    from leakharness.heap.dominators import dominators, retained_sizes

    graph = v8.read(snapshot)
    tree = dominators(graph)
    retained = retained_sizes(graph, tree)
    rows = dominator_rows(graph, tree, retained, top=HEAP_TOP, levels=HEAP_LEVELS, least=HEAP_LEAST, folded=True)
    return {"reachable_bytes": int(retained[0]), "rows": [row.document() for row in rows]}


def _results(documents: Sequence[Document]) -> Iterator[Document]:
    """The run documents in these documents."""
    for document in documents:
        if "controls" in document:
            for side in ("before", "after"):
                yield from document[side]["arms"]
            yield from document["controls"]
        elif "arms" in document:
            yield from document["arms"]
        elif "results" in document:
            yield from _results(document["results"])
        elif "mode" in document:
            yield document


def _excerpts(results: Sequence[Document]) -> tuple[Excerpt, ...]:
    """The source that the files at hand have on those results that were stored without it."""
    own = Path(__file__).parent
    paths = sysconfig.get_paths()
    libraries = [Path(paths[key]) for key in ("stdlib", "purelib")]
    sources = Sources([Path.cwd(), *libraries], within=[Path.cwd(), own, *libraries])
    found: dict[Excerpt, None] = {}
    for result in results:
        if not stored_excerpts(result):
            began = _seconds(result.get("started", ""))
            sites = [(site["file"], site["line"]) for site in result.get("allocations", ())]
            held = (row["path"] for row in result["retainers"])
            since = None if began is None else began + 1
            found.update(dict.fromkeys(excerpts_of(held, sites, sources, since)))
    return tuple(found)


def _heaps(results: Sequence[Document]) -> tuple[dict[str, Document], dict[str, str]]:
    """The dominator tree of each result's last snapshot, and why there is none where one was written."""
    heaps: dict[str, Document] = {}
    problems: dict[str, str] = {}
    for name in dict.fromkeys(result["snapshots"][-1] for result in results if result.get("snapshots")):
        path = Path(name)
        try:
            if path.suffix != ".heapsnapshot" or not path.is_file():
                problems[name] = "it is not at hand"
            elif path.stat().st_size > LARGEST_SNAPSHOT:
                problems[name] = f"{size(path.stat().st_size)} are too many for a page: see `leakharness dominators`"
            elif len(heaps) == MOST_HEAPS:
                problems[name] = "see `leakharness dominators`: there are as many trees on this page as it takes"
            else:
                heaps[name] = dominator_document(path)
        except (LeakHarnessError, OSError, ValueError) as exc:
            problems[name] = str(exc)
    return heaps, problems


def _seconds(started: str) -> float | None:
    """Seconds since 1970 of a stored time; None for what is none."""
    try:
        return float(timegm(strptime(started, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None
