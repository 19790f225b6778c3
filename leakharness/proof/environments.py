"""Environments to measure in: one for each set of requirements, built once, by uv or by venv and pip.

An environment is named by a digest of all that went into it. It is used again only where that digest says all
there is to say: exact pins, a commit, the files of a wheel folder. Anything that may mean something else tomorrow
(``pyzmq>=25``, a URL, a path) is built anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from leakharness.errors import NotJudged, OptionError
from leakharness.measure.worker_process import run_step

__all__ = ["Recipe", "build", "cache_folder", "checkout", "clean_environment", "installed"]

BUILD_TIMEOUT_S = 900.0
"""Seconds for one step of a build: compiling a package from its source distribution takes minutes."""
QUESTION_TIMEOUT_S = 60.0
FINISHED = "leakharness-recipe.json"
"""Written last: a build that was interrupted is not taken for a whole one."""
DROPPED_VARIABLES = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",
)
"""Variables that would let packages of another environment in."""
EXACT_PIN = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w.,\s-]*\])?\s*===?\s*[\w.!+-]+")
LAST_LINES = 4
"""Lines of a failed build that its error repeats."""
LIST_PACKAGES = (
    "import json; from importlib.metadata import distributions; "
    "print(json.dumps({d.metadata['Name']: d.version for d in distributions() if d.metadata['Name']}))"
)


@dataclass(frozen=True)
class Recipe:
    """What an environment is made of. ``project`` is a source tree to install, ``commit`` the git object that it
    was checked out from; ``wheels`` a folder to install from instead of any index."""

    python: str
    requirements: tuple[str, ...] = ()
    project: Path | None = None
    commit: str | None = None
    wheels: Path | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether the same recipe gives the same environment tomorrow, its indirect requirements aside."""
        return all(map(EXACT_PIN.fullmatch, self.requirements)) and (self.project is None or self.commit is not None)

    def digest(self) -> str:
        """A name for the environment. A wheel folder counts by the name, size and time of each of its files."""
        files = sorted(self.wheels.iterdir()) if self.wheels else []
        parts = [
            os.path.realpath(self.python),
            self.python,
            self.commit or "",
            *self.requirements,
            *(f"{file}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def build(recipe: Recipe, folder: Path) -> str:
    """The interpreter of the environment that ``recipe`` describes, in a folder of its own below ``folder``.

    Raises OptionError for a wheel folder that is not there, NotJudged with the installer's last lines where the
    environment cannot be built.
    """
    if recipe.wheels is not None and not recipe.wheels.is_dir():
        raise OptionError(f"--wheels {recipe.wheels}: no such folder")
    place = folder / recipe.digest()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_name(place.name + ".lock")):
        if not (recipe.is_repeatable and (place / FINISHED).is_file()):
            shutil.rmtree(place, ignore_errors=True)
            _make(recipe, place)
            text = json.dumps({"python": recipe.python, "requirements": recipe.requirements, "commit": recipe.commit})
            (place / FINISHED).write_text(text, encoding="utf-8")
    return str(_python_in(place))


def cache_folder() -> Path:
    """Where environments are kept for the next time, by the platform's custom."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "leakharness" / "environments"


def clean_environment(*import_paths: Path) -> dict[str, str]:
    """This process's variables without those that let other packages in. ``import_paths`` come first there."""
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED_VARIABLES}
    if import_paths:
        kept["PYTHONPATH"] = os.pathsep.join(map(str, import_paths))
    kept["PYTHONNOUSERSITE"] = "1"
    return kept


def installed(python: str) -> dict[str, str]:
    """Names and versions of what is installed there. Raises NotJudged where the interpreter does not answer."""
    text = _step([python, "-c", LIST_PACKAGES], timeout=QUESTION_TIMEOUT_S)
    found: dict[str, str] = json.loads(text)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def checkout(repository: Path, commit: str, folder: Path) -> Path:
    """The tree of ``commit`` in the new folder ``folder``, as a clone that borrows the repository's objects.

    A clone and not a work tree: git keeps a list of the latter in the repository itself, and one would be left
    there whenever the tool is killed. Nothing is written to the repository. Raises NotJudged.
    """
    quiet = ["git", "-c", "advice.detachedHead=false"]
    _step([*quiet, "clone", "--quiet", "--shared", "--no-checkout", str(repository), str(folder)])
    _step([*quiet, "-C", str(folder), "checkout", "--quiet", "--detach", commit])
    return folder


def _make(recipe: Recipe, place: Path) -> None:
    """Create the environment and install into it, by uv, or by venv and pip where uv is absent or fails."""
    things = [*recipe.requirements, *([str(recipe.project)] if recipe.project else [])]
    offline = ["--no-index", "--find-links", str(recipe.wheels)] if recipe.wheels else []
    uv = shutil.which("uv")
    if uv is not None:
        with contextlib.suppress(NotJudged):  # uv does not read pip's configuration: pip may know an index it does not
            _step([uv, "venv", "--quiet", "--python", recipe.python, str(place)])
            if things:
                target = ["--python", str(_python_in(place))]
                _step([uv, "pip", "install", "--quiet", *target, *offline, *things])
            return
        shutil.rmtree(place, ignore_errors=True)
    _step([recipe.python, "-m", "venv", "--without-pip", str(place)])
    if things:
        _step([*_pip(recipe.python, place), "install", "--quiet", *offline, *things])


def _pip(python: str, place: Path) -> list[str]:
    """The pip of ``python``, told to install into ``place`` (pip 22.3 can), which is faster than one of its own."""
    theirs = [python, "-m", "pip", "--disable-pip-version-check", "--python", str(_python_in(place))]
    try:
        _step([*theirs, "--version"])
    except NotJudged:
        _step([str(_python_in(place)), "-m", "ensurepip"])
        return [str(_python_in(place)), "-m", "pip", "--disable-pip-version-check"]
    return theirs


def _python_in(place: Path) -> Path:
    return place / "Scripts" / "python.exe" if os.name == "nt" else place / "bin" / "python"


def _step(command: Sequence[str], *, timeout: float = BUILD_TIMEOUT_S, env: Mapping[str, str] | None = None) -> str:
    """Run one command and return its output. Raises NotJudged with its last lines."""
    said = shlex.join(command)
    try:
        done = run_step(command, env=dict(env or clean_environment()), timeout=timeout)
    except subprocess.TimeoutExpired:
        raise NotJudged(f"`{said}` was not done after {timeout:g} s") from None
    except OSError as exc:
        raise NotJudged(f"`{said}` cannot be started: {exc.strerror or exc}") from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise NotJudged(f"`{said}` failed (exit {done.returncode}): " + " | ".join(lines[-LAST_LINES:]))
    return done.stdout


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process builds an environment; the others wait for it. Without fcntl there is no lock."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
