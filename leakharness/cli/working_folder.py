"""The folder that a command works in: the project's of the file that it was asked about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leakharness.cli.measuring import Given

if TYPE_CHECKING:
    from leakharness.scenario.find import ScenarioRef

__all__ = ["in_project"]

PATH_OPTIONS = ("report_dir", "snap_dir", "python")
"""Options of the table that name a place, from where the command was started."""


def in_project(found: Sequence[ScenarioRef], given: Given) -> tuple[list[ScenarioRef], Given]:
    """Go on in the project that the files belong to, as if the command had been started in its folder: its options, its
    modules, its folders for reports and snapshots. Returns what was found and given, as it is named from there.

    Nothing is changed for scenarios that were named by name, or where the command was started in that project: then its
    folder is on the import path as well. Only nobody works in the root of the file system: a command that has no other
    place works in the user's cache. Raises UsageError where that cannot be made.
    """
    from dataclasses import replace

    from leakharness.scenario.project import project_of

    here = Path.cwd()
    asked = [ref for ref in found if ref.origin == "file"]
    projects = {project_of(ref.path) for ref in asked} if len(asked) == len(found) else set()
    root, marked = next(iter(projects)) if len(projects) == 1 else (here, False)
    if root.parent == root or not (marked or here.parent == here):
        root = here
    if here.is_relative_to(root) and here.parent != here:
        if here != root:
            _let_import_from(root)
        return list(found), given
    if root.parent == root:
        root = _place_of_nobody()
    given = given._replace(
        rest={
            name: os.path.abspath(os.path.expanduser(value)) if name in PATH_OPTIONS and value is not None else value
            for name, value in given.rest.items()
        }
    )
    moved = [replace(ref, path=ref.path.absolute(), elsewhere=True) for ref in found]
    os.chdir(root)
    if not given.silent:
        import typer

        from leakharness.printable import for_terminal

        typer.echo(f"leakharness: in {for_terminal(str(root))}: paths are from there", err=True)
    return moved, given


def _let_import_from(root: Path) -> None:
    """After the current folder, measured processes look for modules in ``root``."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*paths, str(root)]))


def _place_of_nobody() -> Path:
    from leakharness.errors import UsageError
    from leakharness.proof.environments import cache_folder

    place = cache_folder().with_name("work")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"{place}: {exc.strerror or exc}; start the command in a folder of your own") from None
    return place
