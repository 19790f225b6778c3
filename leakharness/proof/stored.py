"""Stored certificates and runs, gathered from folders or from the commits that brought them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from leakharness.documents import CheckDocument, RunDocument, parsed, read_document, validated
from leakharness.errors import UsageError
from leakharness.proof.revisions import SHORT, git
from leakharness.report.trend import Point, points_of

__all__ = ["from_folders", "from_git"]

KINDS: dict[str, Any] = {"leakharness.check/1": CheckDocument, "leakharness.run/1": RunDocument}
MARK = "\x01"
"""Begins the line of a commit in git's listing: no name of a file has it, for git quotes it there."""


def from_folders(paths: Sequence[Path]) -> tuple[list[Point], list[str]]:
    """The points in these files, and in all below these folders; and a note for each document that cannot be read.

    Raises UsageError for a path that is not there, and where nothing is found."""
    points: list[Point] = []
    notes: list[str] = []
    for file in _files(paths):
        try:
            points += _points(read_document(file, "a stored result"), "", "", "", str(file))
        except UsageError as exc:
            notes.append(f"left out: {exc}")
    return _some(points, notes, ", ".join(map(str, paths)))


def from_git(paths: Sequence[Path], cwd: Path) -> tuple[list[Point], list[str]]:
    """The points of all JSON files below these paths, at each commit that changed them, oldest first.

    Raises UsageError outside of a repository, and where nothing is found."""
    if git(["rev-parse", "--show-toplevel"], cwd) is None:
        raise UsageError(f"--from-git: {cwd} is not in a git work tree")
    where = ["--", *(str(path) for path in paths)]
    form = f"--format={MARK}%H %cI %s"
    names = ["--name-only", "--relative", "--diff-filter=AMR"]
    listed = git(["-c", "core.quotePath=false", "log", "--reverse", form, *names, *where], cwd) or ""
    points: list[Point] = []
    notes: list[str] = []
    commit = at = subject = ""
    for line in filter(None, listed.splitlines()):
        if line.startswith(MARK):
            commit, at, subject = (*line[len(MARK) :].split(" ", 2), "")[:3]
            continue
        text = git(["show", f"{commit}:./{line}"], cwd) if line.endswith(".json") else None
        if text is None:
            continue
        source = f"{commit[:SHORT]}:{line}"
        try:
            points += _points(parsed(text, source), at, commit[:SHORT], subject, source)
        except UsageError as exc:
            notes.append(f"left out: {exc}")
    return _some(points, notes, f"the commits that changed {', '.join(map(str, paths))}")


def _files(paths: Sequence[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted((*path.rglob("certificate.json"), *path.rglob("run.json")))
        elif path.is_file():
            yield path
        else:
            raise UsageError(f"{path}: no such file or folder")


def _points(document: Any, at: str, label: str, subject: str, source: str) -> list[Point]:
    """Those of one document; none for a document of another kind. Raises UsageError for one of ours that is broken."""
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or schema not in KINDS:
        return []
    checked: Any = validated(KINDS[schema], document, f"{source}: not as {schema} is written")
    return points_of(checked, at, label, subject, source)


def _some(points: list[Point], notes: list[str], where: str) -> tuple[list[Point], list[str]]:
    if not points:
        said = f" ({notes[0]})" if notes else ""
        raise UsageError(f"no certificate.json and no run.json with an arm that must PASS in {where}{said}")
    return points, notes
