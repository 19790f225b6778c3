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

from leakharness.errors import ScenarioError, UnknownScenario

__all__ = ["ScenarioOutline", "ScenarioRef", "all_scenarios", "declared_in", "declared_twice", "find", "find_declared"]

ENTRY_POINT_GROUP = "leakharness.scenarios"


@dataclass(frozen=True)
class ScenarioRef:
    """Where a scenario is declared. ``name`` is None for a file whose names cannot be read from its text."""

    name: str | None
    path: Path
    line: int
    origin: str
    """``./scenarios``, ``packaged``, ``entry point`` or ``file``."""


def find(reference: str, cwd: Path | None = None) -> ScenarioRef:
    """Resolve ``NAME``, ``path/to/file.py`` or ``path/to/file.py::name``.

    Raises UnknownScenario for what is not there, ScenarioError for a name that is declared in two places.
    """
    cwd = cwd or Path.cwd()
    file, _, name = reference.partition("::")
    if file.endswith(".py") or "/" in file or "\\" in file:
        return _in_file(cwd / file, name or None, reference)
    unread: list[ScenarioError] = []
    everything = all_scenarios(cwd, unread)
    matches = [found for found in everything if found.name == reference]
    if not matches:
        if unread:  # it may be in there
            raise unread[0]
        known = ", ".join(sorted({found.name for found in everything if found.name})) or "none"
        raise UnknownScenario(
            f"no scenario {reference!r} in ./scenarios ({cwd / 'scenarios'}), in this package or in installed ones; "
            f"there are: {known}"
        )
    if len(matches) > 1:
        raise ScenarioError(declared_twice(matches))
    return matches[0]


def declared_twice(places: Sequence[ScenarioRef]) -> str:
    """What is wrong with one name in several places."""
    where = " and ".join(f"{found.path}:{found.line}" for found in places)
    return f"scenario {places[0].name!r} is declared twice: {where}; rename one, or name the file"


def all_scenarios(cwd: Path | None = None, unread: list[ScenarioError] | None = None) -> list[ScenarioRef]:
    """Every scenario that can be named from here, ./scenarios first. A copy of a packaged file counts once.

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
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as exc:
        raise ScenarioError(f"{path}:{exc.lineno or 1}: {exc.msg}") from None
    except (OSError, ValueError, RecursionError, MemoryError) as exc:
        raise ScenarioError(f"{path}: cannot be read: {exc}") from None
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node.func) == "Scenario":
            named = [k.value for k in node.keywords if k.arg == "name"]
            first = node.args[0] if node.args else (named[0] if named else None)
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.append(ScenarioRef(first.value, path, node.lineno, origin))
    return sorted(found, key=lambda f: f.line)


def _called(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


INLINE = "closure-inline"
"""The mode that copies the function as it was when it leaked, by convention."""


@dataclass(frozen=True)
class ScenarioOutline:
    """A scenario as its file declares it: modes by name, each with its function's name and what it must
    give.
    """

    name: str
    file: Path
    mimics: str | None
    target: str | None
    modes: dict[str, tuple[str, str | None]]

    def mode_to_compare(self) -> str:
        """closure-inline; else the first mode that must FAIL; else the first one."""
        if INLINE in self.modes:
            return INLINE
        failing = [name for name, (_, must) in self.modes.items() if must == "FAIL"]
        if not self.modes:
            raise ScenarioError(f"{self.file}: scenario {self.name!r} declares no mode")
        return (failing or list(self.modes))[0]


def find_declared(spec: str, folders: list[Path]) -> ScenarioOutline:
    """The scenario that ``spec`` names: a name looked up in ``folders``, a file, or ``file::name``."""
    place, _, name = spec.partition("::")
    file = Path(place)
    if file.suffix == ".py":
        found = declared_in(file)
        if name:
            found = [declared for declared in found if declared.name == name]
    else:
        files = sorted(path for folder in folders for path in folder.glob("*.py"))
        found = [declared for path in files for declared in declared_in(path) if declared.name == spec]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnknownScenario(f"no scenario {spec!r}: neither a file nor declared in {', '.join(map(str, folders))}")
    names = ", ".join(f"{declared.file}::{declared.name}" for declared in found)
    raise UnknownScenario(f"{spec!r} names {len(found)} scenarios; choose one of {names}")


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), str(file))
    except OSError as error:
        raise UnknownScenario(f"{file}: cannot be read ({error.strerror})") from None
    except SyntaxError as error:
        raise ScenarioError(f"{file}:{error.lineno}: not Python: {error.msg}") from None


def declared_in(file: Path) -> list[ScenarioOutline]:
    """All scenarios that ``file`` declares, in order."""
    tree = _parsed(file)
    found = []
    for node in tree.body:
        variable, call = _declaration(node)
        if call is not None and call.args and isinstance(call.args[0], ast.Constant):
            words = {keyword.arg: keyword.value for keyword in call.keywords}
            modes = {mode: (function.name, must) for mode, function, must in _modes(tree, variable)}
            mimics, target = _text(words.get("mimics")), _text(words.get("target"))
            found.append(ScenarioOutline(str(call.args[0].value), file, mimics, target, modes))
    return found


def _declaration(node: ast.stmt) -> tuple[str, ast.Call | None]:
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == "Scenario":
        variable = next((target.id for target in targets if isinstance(target, ast.Name)), "")
        return variable, value
    return "", None


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _modes(tree: ast.Module, variable: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, str | None]]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"{variable}.mode":
                words = {keyword.arg: keyword.value for keyword in decorator.keywords}
                name = _text(decorator.args[0] if decorator.args else words.get("name"))
                if name is not None:
                    yield name, node, _text(words.get("must"))
