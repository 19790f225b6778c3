"""Lines of source around what a result names: functions on retainer paths, where these are registered, and where memory
is allocated. Read when a result is made, for the files may be gone or changed when it is shown."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from leakharness.model import Excerpt, RunResult
from leakharness.places import functions_in
from leakharness.units import MIB

__all__ = ["Sources", "excerpts_of", "library_folders", "with_excerpts"]

AROUND = 2
"""Lines shown before and after the one that counts."""
LONGEST_LINE = 200
LARGEST_SOURCE = 2 * MIB
MOST_PLACES = 40
"""Functions and sites of one result that are shown with their source: a report stays small."""
MOST_REGISTRATIONS = 4
LAMBDA = "<lambda>"
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


Place = tuple[str, int]
"""A name, and a line."""


@dataclass(frozen=True)
class _File:
    lines: Sequence[str] = ()
    scopes: Mapping[Place, ast.AST] = field(default_factory=dict)
    """What encloses each function, by its name and every line on which it may be said to begin."""
    changed: float = 0.0
    """Seconds since 1970."""


NO_FILE = _File()


class Sources:
    """Python sources, each read once. A relative name is looked for in each of ``folders``; where ``within`` is given,
    only files in one of these folders are read."""

    def __init__(self, folders: Sequence[Path], within: Sequence[Path] | None = None) -> None:
        self._folders = folders
        self._within = None if within is None else [folder.resolve() for folder in within]
        self._read: dict[Path, _File] = {}

    def function(self, name: str, file: str, line: int) -> _File:
        """The file in which a function of that name begins on that line; without lines where there is none."""
        return next((known for known in self._named(file) if (name, line) in known.scopes), NO_FILE)

    def file(self, file: str) -> _File:
        """The first file of that name; without lines where there is none."""
        return next(self._named(file), NO_FILE)

    def _named(self, file: str) -> Iterator[_File]:
        for folder in self._folders:
            known = self._at(folder / file)  # an absolute name is itself
            if known.lines:
                yield known

    def _at(self, path: Path) -> _File:
        if path not in self._read:
            self._read[path] = self._parsed(path)
        return self._read[path]

    def _parsed(self, path: Path) -> _File:
        try:
            real = path.resolve()
            allowed = self._within is None or any(real.is_relative_to(folder) for folder in self._within)
            if not allowed or real.suffix != ".py" or not real.is_file() or real.stat().st_size > LARGEST_SOURCE:
                return NO_FILE
            text, changed = real.read_bytes().decode("utf-8", "replace"), real.stat().st_mtime
        except (OSError, ValueError, RuntimeError):  # a loop of links
            return NO_FILE
        try:
            scopes = _scopes(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            scopes = {}
        return _File(text.splitlines(), scopes, changed)


def with_excerpts(result: RunResult, sources: Sources) -> RunResult:
    """``result`` with the source of what it names."""
    sites = [(str(site["file"]), int(site["line"])) for site in result.allocations]
    return replace(result, excerpts=tuple(excerpts_of((row.path for row in result.retainers), sites, sources)))


def excerpts_of(
    paths: Iterable[Sequence[str]], sites: Iterable[tuple[str, int]], sources: Sources, since: float | None = None
) -> Iterator[Excerpt]:
    """The source of the functions that ``paths`` name, of the lines on which these are registered, and of allocation
    ``sites``; nothing for what is not in ``sources``. ``since``: seconds since 1970 at which the result was made; what
    is newer is said to have changed."""
    functions = list(dict.fromkeys(place for path in paths for place in functions_in(path)))[:MOST_PLACES]
    for name, file, line in functions:
        own = name.rpartition(".")[2]
        known = sources.function(own, file, line)
        if known is NO_FILE:
            continue
        yield from _around("function", file, line, known, [line], since)
        for lines in _near(_registrations(known.scopes[own, line], own)):
            yield from _around("registration", file, line, known, lines, since)
    for file, line in list(dict.fromkeys(sites))[: MOST_PLACES - len(functions)]:
        yield from _around("allocation", file, line, sources.file(file), [line], since)


def library_folders(python: str, version: str) -> list[Path]:
    """Where the packages and the standard library of an interpreter are, as far as its place tells: a result names
    their files without these folders. ``version`` as in ``3.12.1``."""
    name = f"python{'.'.join(version.split('.')[:2])}"
    prefixes = [Path(python).parent.parent]
    try:
        settings = (prefixes[0] / "pyvenv.cfg").read_text("utf-8", "replace").splitlines()
    except OSError:
        settings = []
    prefixes += [
        Path(line.partition("=")[2].strip()).parent for line in settings if line.split("=")[0].strip() == "home"
    ]
    libraries = [prefix / library / name for prefix in prefixes for library in ("lib", "lib64")]
    return [*(library / "site-packages" for library in libraries), *libraries]


def _around(
    of: Literal["function", "registration", "allocation"],
    file: str,
    line: int,
    known: _File,
    hits: Sequence[int],
    since: float | None,
) -> Iterator[Excerpt]:
    """The lines from the first of ``hits`` to the last, and those around them; none where the file has no such line."""
    lines = known.lines
    if not 1 <= hits[0] <= hits[-1] <= len(lines):
        return
    first, last = max(1, hits[0] - AROUND), min(len(lines), hits[-1] + AROUND)
    while not lines[first - 1].strip() and first < hits[0]:
        first += 1
    while not lines[last - 1].strip() and last > hits[-1]:
        last -= 1
    shown = tuple(text[:LONGEST_LINE] for text in lines[first - 1 : last])
    yield Excerpt(of, file, line, first, shown, tuple(hits), since is not None and known.changed > since)


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


def _registrations(scope: ast.AST, name: str) -> list[int]:
    """Lines on which a function of that name is passed on or stored by the scope that defines it."""
    return sorted(set(_uses(scope, name)))[:MOST_REGISTRATIONS]


def _scopes(tree: ast.Module) -> dict[Place, ast.AST]:
    """The module, class or function around each function of ``tree``. A decorated one begins at its first decorator
    or at its ``def``, by the version of Python."""
    found: dict[Place, ast.AST] = {}
    todo: list[tuple[ast.AST, ast.AST]] = [(tree, tree)]
    while todo:
        node, scope = todo.pop()
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = min([inner.lineno, *(decorator.lineno for decorator in inner.decorator_list)])
                found.update({(inner.name, line): scope for line in range(first, inner.lineno + 1)})
            elif isinstance(inner, ast.Lambda):
                found[LAMBDA, inner.lineno] = scope
            todo.append((inner, inner if isinstance(inner, SCOPES) else scope))
    return found


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
