"""Which project a scenario's file belongs to, and so the folder that a command about it works in."""

from __future__ import annotations

from pathlib import Path

__all__ = ["project_of"]

MARKS = ("pyproject.toml", "setup.py", "setup.cfg", ".git")
"""What lies in the folder of a project."""
SCENARIOS = "scenarios"


def project_of(file: Path) -> tuple[Path, bool]:
    """The folder of the project that ``file`` belongs to, and whether a file there says that it is one.

    The nearest folder above it that is marked as a project. Where none is, the file's own folder, or what lies above
    it where that folder is called ``scenarios``.
    """
    folder = file.resolve().parent
    for place in (folder, *folder.parents):
        if any((place / mark).exists() for mark in MARKS):
            return place, True
    return (folder.parent if folder.name == SCENARIOS else folder), False
