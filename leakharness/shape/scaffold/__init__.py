"""Writing a scenario file that has the lexical shape of a suspect function.

The file is a beginning, not a proof: payloads and registries are stand-ins, and ``# FILL IN`` marks what
only a person knows. It runs at once all the same: closure-inline leaks what the original's closures
capture, because something that outlives the run gets the closures; closure-extracted gives the same
objects to functions at module scope, and takes the registration back.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from leakharness.errors import OptionError
from leakharness.shape.scaffold.file_text import ScenarioFile
from leakharness.shape.scaffold.plan import ScaffoldPlan
from leakharness.shape.suspect import Suspect

__all__ = ["keeps_nothing", "scaffold", "write_scaffold", "write_text"]

FORMAT_TIMEOUT_S = 30


def write_scaffold(suspect: Suspect, name: str, folder: Path, *, force: bool = False) -> Path:
    """Write ``folder/NAME.py`` and return its path. Raises OptionError where it exists (without
    ``force``).
    """
    return write_text(scaffold(suspect, name), name, folder, force=force)


def keeps_nothing(suspect: Suspect, name: str) -> bool:
    """Whether the scaffold of ``suspect`` leaks nothing before it is filled in: no closure keeps anything."""
    return ScaffoldPlan(suspect, name).keeps_nothing


def write_text(text: str, name: str, folder: Path, *, force: bool) -> Path:
    """Write ``folder/NAME.py``, formatted, and return its path. Raises OptionError where it exists (without
    ``force``).
    """
    file = folder / f"{name.replace('-', '_')}.py"
    if file.exists() and not force:
        raise OptionError(f"{file} exists: choose another name, or overwrite it with --force")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(_formatted(text, file), encoding="utf-8")
    return file


def _formatted(text: str, file: Path) -> str:
    """``text`` as ruff formats it for the project that ``file`` is in; as it is where there is no ruff."""
    beside = Path(sys.executable).with_name("ruff")
    ruff = str(beside) if beside.exists() else shutil.which("ruff")
    if ruff is None:
        return text
    command = [ruff, "format", "--stdin-filename", str(file.resolve()), "-"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=FORMAT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return text
    return done.stdout.decode() or text


def scaffold(suspect: Suspect, name: str) -> str:
    """The text of a scenario called ``name`` with the shape of ``suspect``. Raises OptionError for a
    class.
    """
    if not name.replace("-", "_").isidentifier():
        raise OptionError(f"{name!r} is no name for a scenario: use letters, digits and '-', as in embedded-run")
    if suspect.shape.kind == "class":
        raise OptionError(f"{suspect.target} is a class: name the method that leaks, {suspect.qualname}.METHOD")
    return ScenarioFile(ScaffoldPlan(suspect, name)).text()
