"""Finding scenarios by name or file, without importing them.

A scenario may import what only the measured interpreter has, so the tool reads names from the source text; the
declaration itself is checked in the measured process, which reports mistakes with file and line.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from leakharness.errors import ScenarioError, UnknownScenario, did_you_mean
from leakharness.scenario.outline import ScenarioOutline, called_name, outlines_in, parsed

__all__ = ["ScenarioRef", "all_scenarios", "declared_twice", "find", "find_outline"]

ENTRY_POINT_GROUP = "leakharness.scenarios"


@dataclass(frozen=True)
class ScenarioRef:
    """Where a scenario is declared. ``name`` is None for a file whose names cannot be read from its text."""

    name: str | None
    path: Path
    line: int
    origin: str
    """``./scenarios``, ``packaged``, ``entry point`` or ``file``."""
    elsewhere: bool = False
    """Whether the command was started outside of the folder that it works in: then a path from there is no use."""


def find(reference: str, cwd: Path | None = None) -> ScenarioRef:
    """Resolve ``NAME``, ``path/to/file.py`` or ``path/to/file.py::name``.

    Raises UnknownScenario for what is not there, ScenarioError for a name that is declared in two places.
    """
    cwd = cwd or Path.cwd()
    file, _, name = reference.partition("::")
    if file.endswith(".py") or "/" in file or "\\" in file:
        return _in_file(cwd / file, name or None, reference)
    matches = [found for found in all_scenarios(cwd, [], holding=reference) if found.name == reference]
    if not matches:
        unread: list[ScenarioError] = []
        everything = all_scenarios(cwd, unread)
        matches = [found for found in everything if found.name == reference]  # whose file has the name in pieces
        if not matches and unread:  # it may be in there
            raise unread[0]
        if not matches:
            names = sorted({found.name for found in everything if found.name})
            known = (", ".join(names) or "none") + did_you_mean(reference, names)
            raise UnknownScenario(
                f"no scenario {reference!r} in ./scenarios ({cwd / 'scenarios'}), in this package or in installed "
                f"ones; there are: {known}"
            )
    if len(matches) > 1:
        raise ScenarioError(declared_twice(matches))
    return matches[0]


def find_outline(reference: str, cwd: Path | None = None) -> ScenarioOutline:
    """What the scenario that `find` finds declares in its text: its modes and what it mimics. Raises what `find` does,
    and ScenarioError for one that is not declared at module level.
    """
    ref = find(reference, cwd)
    outlines = outlines_in(ref.path)
    named = [outline for outline in outlines if ref.name in (None, outline.name)]
    if not named and ref.line == 0:  # asked for by a name that the file's text does not have
        known = ", ".join(outline.name for outline in outlines) or "none"
        raise UnknownScenario(f"no scenario {ref.name!r} in {ref.path}; there are: {known}")
    if not named:
        raise ScenarioError(
            f"{ref.path}:{ref.line}: scenario {ref.name!r} is not declared as NAME = Scenario(...) at module level, so "
            "its modes cannot be read from the text"
        )
    return named[0]


def declared_twice(places: Sequence[ScenarioRef]) -> str:
    """What is wrong with one name in several places."""
    where = " and ".join(f"{found.path}:{found.line}" for found in places)
    return f"scenario {places[0].name!r} is declared twice: {where}; rename one, or name the file"


def all_scenarios(
    cwd: Path | None = None, unread: list[ScenarioError] | None = None, *, holding: str = ""
) -> list[ScenarioRef]:
    """Every scenario that can be named from here, ./scenarios first. A copy of a packaged file counts once.

    ``holding``: of the files alone whose text has this somewhere, which is quicker than to parse all of them.
    Raises ScenarioError for a file that is no Python; where ``unread`` is given, that error goes there instead.
    """
    cwd = cwd or Path.cwd()
    found: list[ScenarioRef] = []
    seen: set[Path] = set()
    for path, origin in _files(cwd):
        real = path.resolve()
        if real in seen or _is_copy(path, found):
            continue
        seen.add(real)
        if not _holds(path, holding):
            continue
        try:
            found += _declared(path, origin)
        except ScenarioError as exc:
            if unread is None:
                raise
            unread.append(exc)
    return found


def packaged_folder() -> Path:
    """The scenarios that come with the package: inside it when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "scenarios"
    return inside if inside.is_dir() else package.parent / "scenarios"


def _files(cwd: Path) -> Iterator[tuple[Path, str]]:
    for folder, origin in ((cwd / "scenarios", "./scenarios"), (packaged_folder(), "packaged")):
        if folder.is_dir():
            for path in sorted(folder.glob("*.py")):
                if not path.name.startswith("_"):
                    yield path, origin
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            spec = importlib.util.find_spec(entry.value.partition(":")[0])
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin), "entry point"


def _holds(path: Path, text: str) -> bool:
    """Whether a file may hold the text. One that cannot be read may: its parser says why."""
    try:
        return text.encode(errors="replace") in path.read_bytes()
    except OSError:
        return True


def _is_copy(path: Path, found: Iterable[ScenarioRef]) -> bool:
    """Whether the same file, to the byte, was found under the same name: an installed copy of a checkout's."""
    twins = {other.path for other in found if other.path.name == path.name}
    return any(twin.read_bytes() == path.read_bytes() for twin in twins)


def _in_file(path: Path, name: str | None, reference: str) -> ScenarioRef:
    if not path.is_file():
        raise UnknownScenario(f"no scenario file {path} (asked for as {reference!r})")
    declared = _declared(path, "file")
    first: dict[str | None, ScenarioRef] = {}
    for found in declared:
        twin = first.setdefault(found.name, found)
        if twin is not found and name in (None, found.name):
            raise ScenarioError(f"{path}:{found.line}: scenario {found.name!r} is declared twice (line {twin.line})")
    if name is not None:
        named = [found for found in declared if found.name == name]
        return named[0] if named else ScenarioRef(name, path, 0, "file")
    if len(declared) == 1:
        return declared[0]
    if len(declared) > 1:
        names = ", ".join(str(found.name) for found in declared)
        raise ScenarioError(f"{path}: several scenarios here ({names}): say which with {reference}::NAME")
    return ScenarioRef(None, path, 0, "file")


def _declared(path: Path, origin: str) -> list[ScenarioRef]:
    """``Scenario("name", …)`` calls in a file's text, in order."""
    tree = parsed(path)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called_name(node.func) == "Scenario":
            named = [k.value for k in node.keywords if k.arg == "name"]
            first = node.args[0] if node.args else (named[0] if named else None)
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.append(ScenarioRef(first.value, path, node.lineno, origin))
    return sorted(found, key=lambda f: f.line)
