"""Gathers what a page shows beside the stored results: source lines, dominator trees, calibrations.

A stored result may come from anywhere, and a page is made to be shown to others. So of the files that a result names
only Python sources are read, and only those below the current folder, of this package and of this interpreter; of
snapshots only what ``leakharness dominators`` prints.
"""

from __future__ import annotations

import ast
import sysconfig
from calendar import timegm
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import strptime
from typing import Any

from leakharness.documents import parsed, read_bytes, validated
from leakharness.errors import LeakHarnessError, UsageError
from leakharness.page_documents import CalibrateDocument
from leakharness.report.material import Excerpt, Material
from leakharness.report.retainer_tree import places_in
from leakharness.units import MIB, size

__all__ = ["CALIBRATION", "calibrations_in", "dominator_document", "gathered"]

CALIBRATION = "calibration.json"
AROUND = 2
"""Lines shown before and after the one that counts."""
LONGEST_LINE = 200
LARGEST_SOURCE = 2 * MIB
LARGEST_SNAPSHOT = 200 * MIB
MOST_PLACES = 200
MOST_REGISTRATIONS = 4
MOST_HEAPS = 6
"""What one page may take of each, so that it stays small and is made soon."""
HEAP_TOP, HEAP_LEVELS, HEAP_LEAST = 12, 12, 0.003
"""Of a dominator tree: bars below one, levels, and the share of the heap below which a bar is left out."""

Document = Mapping[str, Any]
Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def gathered(documents: Sequence[Document], folder: Path | None = None, *, heaps: bool = True) -> Material:
    """What the files at hand have on ``documents``; calibrations are looked for in ``folder``; without ``heaps`` no
    snapshot is read. What cannot be read is left out."""
    results = list(_results(documents))
    files = _Files()
    sources: dict[tuple[str, int], Excerpt] = {}
    registrations: dict[tuple[str, int], tuple[Excerpt, ...]] = {}
    for result in results:
        began = _seconds(result.get("started", ""))
        closures = dict.fromkeys(places_in(result["retainers"]))
        wanted = [(file, line) for _, file, line in closures]
        for name, file, line in closures:
            lines = files.registrations(file, name.rpartition(".")[2], line)
            shown = [files.excerpt(file, began, *near) for near in _near(lines)]
            registrations[file, line] = tuple(excerpt for excerpt in shown if excerpt is not None)
        wanted += [(site["file"], site["line"]) for site in result.get("allocations", ())]
        for place in wanted[: max(0, MOST_PLACES - len(sources))]:
            excerpt = files.excerpt(place[0], began, place[1])
            if excerpt is not None:
                sources[place] = excerpt
    trees, problems = _heaps(results) if heaps else ({}, {})
    return Material(sources, registrations, trees, problems, calibrations_in(folder) if folder is not None else {})


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


def _near(lines: Sequence[int]) -> Iterator[list[int]]:
    """``lines``, those together that one excerpt shows."""
    group: list[int] = []
    for line in lines:
        if group and line - group[-1] > 2 * AROUND:
            yield group
            group = []
        group.append(line)
    if group:
        yield group


class _Files:
    """The sources that may be shown, each read once."""

    def __init__(self) -> None:
        ours = Path(__file__).resolve().parent
        paths = sysconfig.get_paths()
        self._roots = [Path.cwd().resolve(), ours, *(Path(paths[key]).resolve() for key in ("stdlib", "purelib"))]
        self._read: dict[str, tuple[list[str], float]] = {}
        self._trees: dict[str, ast.Module | None] = {}

    def excerpt(self, file: str, began: float | None, *hits: int) -> Excerpt | None:
        """The lines from the first of ``hits`` to the last, and those around them; None where the file is not to be
        shown, or has no such line."""
        lines, changed = self._lines(file)
        if not 1 <= hits[0] <= hits[-1] <= len(lines):
            return None
        first = max(1, hits[0] - AROUND)
        shown = tuple(text[:LONGEST_LINE] for text in lines[first - 1 : hits[-1] + AROUND])
        return Excerpt(file, hits, first, shown, began is not None and changed > began + 1)

    def registrations(self, file: str, name: str, line: int) -> list[int]:
        """Lines on which the function ``name``, defined at ``line``, is passed on or stored by the one around it."""
        if file not in self._trees:
            try:
                self._trees[file] = ast.parse("\n".join(self._lines(file)[0]))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                self._trees[file] = None
        tree = self._trees[file]
        for outer in ast.walk(tree) if tree is not None else ():
            if any(isinstance(inner, Function) and _is_at(inner, name, line) for inner in ast.iter_child_nodes(outer)):
                return sorted(set(_uses(outer, name)))[:MOST_REGISTRATIONS]
        return []

    def _lines(self, file: str) -> tuple[list[str], float]:
        """The lines of ``file``, and when it was changed; none where it is not to be shown."""
        if file not in self._read:
            self._read[file] = ([], 0.0)
            path = Path(file)
            try:
                real = path.resolve()
                allowed = any(real.is_relative_to(root) for root in self._roots)
                if allowed and real.suffix == ".py" and real.stat().st_size <= LARGEST_SOURCE:
                    text = read_bytes(real, "a source").decode("utf-8", "replace")
                    self._read[file] = (text.splitlines(), real.stat().st_mtime)
            except (UsageError, OSError, ValueError):
                pass
        return self._read[file]


def _is_at(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str, line: int) -> bool:
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return function.name == name and first <= line <= function.lineno


def _uses(outer: ast.AST, name: str) -> Iterator[int]:
    for node in ast.walk(outer):
        if isinstance(node, ast.Call):
            values: list[ast.expr] = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Assign) and not all(isinstance(target, ast.Name) for target in node.targets):
            values = [node.value]
        else:
            continue
        if any(isinstance(value, ast.Name) and value.id == name for value in values):
            yield node.lineno
