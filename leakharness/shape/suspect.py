"""Finding the source of ``MODULE:QUALNAME[@REV]`` without importing anything.

Importing the code under suspicion runs it, and may start threads, read configuration or fail. So modules are
looked up step by step on the search path, names are followed through ``from x import y`` in the text, and a
revision's text comes from ``git show``.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from leakharness.errors import OptionError
from leakharness.shape.model import Shape
from leakharness.shape.read import FunctionNode, shape_of_node

__all__ = ["Module", "Suspect", "Target", "find_module", "find_suspect", "parse_target", "search_path"]

MOST_HOPS = 10
"""Re-exports followed before giving up: more than any package has, fewer than an import cycle."""
GIT_TIMEOUT_S = 30
PYTHON_TIMEOUT_S = 30
SOURCE_ROOTS = ("", "src/", "lib/", "python/")
"""Where a repository's packages live, tried in order before the whole tree of the revision is searched."""


@dataclass(frozen=True)
class Target:
    """``module:qualname`` and, where one was given, the git revision to read it from."""

    module: str
    qualname: str
    rev: str | None = None

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}" + (f"@{self.rev}" if self.rev else "")


@dataclass(frozen=True)
class Module:
    """A module's text and where it came from; ``is_package`` says how its relative imports count."""

    name: str
    path: str
    text: str
    is_package: bool


@dataclass(frozen=True)
class Suspect:
    """A function found in source: what was asked for, the module it really lives in, its node and its
    shape.
    """

    target: Target
    module: Module
    qualname: str
    node: FunctionNode
    shape: Shape

    @property
    def where(self) -> str:
        """``path:line``, with the revision if there is one."""
        rev = f"{self.target.rev}:" if self.target.rev else ""
        return f"{rev}{self.module.path}:{self.shape.line}"


def parse_target(text: str) -> Target:
    """``module:qualname[@REV]``. Raises OptionError for anything else."""
    module, colon, rest = text.partition(":")
    qualname, at, rev = rest.partition("@")
    parts = [*module.split("."), *qualname.replace("<locals>", "locals").split(".")]
    if not colon or (at and not rev) or not all(part.isidentifier() for part in parts):
        raise OptionError(
            f"{text!r} names no function: write it as package.module:function, package.module:Class.method "
            "or package.module:function@REVISION"
        )
    return Target(module, qualname, rev or None)


def search_path(python: str | None = None, root: Path | None = None) -> list[str]:
    """Where modules are looked up: the project at ``root`` [cwd] and its src/, then the path of ``python``
    [this one].
    """
    root = root or Path.cwd()
    return [str(root), str(root / "src"), *(sys.path if python is None else _path_of(python))]


def _path_of(python: str) -> list[str]:
    command = [python, "-c", "import json, sys; print(json.dumps(sys.path))"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PYTHON_TIMEOUT_S, check=True)
        return [str(entry) for entry in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise OptionError(f"--python {python}: this interpreter does not run ({error})") from None


def find_module(name: str, path: Sequence[str]) -> Module:
    """The text of module ``name``. Raises OptionError where it is not found, or has no source."""
    spec: ModuleSpec | None = None
    places: Sequence[str] | None = path
    done: list[str] = []
    for part in name.split("."):
        done.append(part)
        # By its last part: for a dotted name a namespace package would look its parent up in sys.modules.
        spec = PathFinder.find_spec(part, places) if places is not None else None
        if spec is None:
            raise OptionError(
                f"module {name!r}: {'.'.join(done)!r} is not on the search path. Run this in the project's "
                "folder, or name the interpreter that has it with --python"
            )
        places = _folders(spec)
    assert spec is not None
    if spec.origin is None or not spec.origin.endswith(".py"):
        kind = spec.origin or "a namespace package"
        raise OptionError(f"module {name!r} has no Python source ({kind}): its lexical shape cannot be read from it")
    return _module(name, spec.origin, Path(spec.origin).read_bytes())


def _folders(spec: ModuleSpec) -> list[str] | None:
    """Where the submodules of a package are. A namespace package's own list asks for its parent to be
    imported.
    """
    places = spec.submodule_search_locations
    if places is None:
        return None
    return list(getattr(places, "_path", None) or places)


def _module(name: str, path: str, raw: bytes) -> Module:
    return Module(name, path, _decoded(raw, path), Path(path).name == "__init__.py")


def _decoded(raw: bytes, path: str) -> str:
    """Source text by its coding cookie (PEP 263), with plain newlines."""
    from importlib.util import decode_source

    try:
        return decode_source(raw)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: not readable as Python source ({error})") from None


def find_suspect(target: Target, path: Sequence[str], root: Path | None = None) -> Suspect:
    """The function or class that ``target`` names, following re-exports. Raises OptionError where there is
    none.
    """
    find = _finder(target, path, root or Path.cwd())
    name, qualname = target.module, target.qualname
    for _ in range(MOST_HOPS):
        module = find(name)
        tree = _parsed(module)
        node = _node_of(tree, qualname)
        if node is not None:
            return Suspect(target, module, qualname, node, shape_of_node(tree, node))
        origin = _imported_from(tree, module, qualname, find)
        if origin is None:
            known = ", ".join(_function_names(tree)[:12]) or "none"
            raise OptionError(f"{target}: {module.path} defines no function {qualname!r}. Functions there: {known}")
        name, qualname = origin
    raise OptionError(f"{target}: more than {MOST_HOPS} re-exports; name the module that defines it")


def _parsed(module: Module) -> ast.Module:
    try:
        return ast.parse(module.text, module.path)
    except SyntaxError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        raise OptionError(
            f"{module.path}:{error.lineno}: not Python {version} ({error.msg}): run leakharness with the "
            "version it is for"
        ) from None


def _finder(target: Target, path: Sequence[str], root: Path) -> Callable[[str], Module]:
    if target.rev is None:
        return lambda name: find_module(name, path)
    rev = target.rev
    return lambda name: _module_of_revision(name, rev, path, root)


def _node_of(tree: ast.Module, qualname: str) -> FunctionNode | None:
    body: Iterable[ast.AST] = tree.body
    node: FunctionNode | None = None
    for part in qualname.split("."):
        if part == "<locals>":
            continue
        named = [item for item in _definitions(body) if item.name == part and not _is_overload(item)]
        if not named:
            return None
        node = named[-1]
        body = node.body
    return node


def _definitions(
    body: Iterable[ast.AST],
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Functions and classes defined in ``body`` itself, also under if, try, with and loops."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
        elif not isinstance(node, ast.expr):
            yield from _definitions(ast.iter_child_nodes(node))


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    names = [ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list]
    return "overload" in names or "setter" in names


def _function_names(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in _definitions(tree.body):
        if isinstance(node, ast.ClassDef):
            names += [
                f"{node.name}.{item.name}" for item in _definitions(node.body) if not isinstance(item, ast.ClassDef)
            ]
        else:
            names.append(node.name)
    return list(dict.fromkeys(names))


def _imported_from(
    tree: ast.Module, module: Module, qualname: str, find: Callable[[str], Module]
) -> tuple[str, str] | None:
    """Where the first part of ``qualname`` is imported from: (module, qualname there), or None."""
    first, dot, rest = qualname.partition(".")
    stars: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        source = _absolute(node, module)
        for alias in node.names:
            if (alias.asname or alias.name) == first:
                return source, alias.name + dot + rest
            if alias.name == "*":
                stars.append(source)
    for source in stars:
        try:
            there = _parsed(find(source))
        except OptionError:
            continue
        if _node_of(there, first) is not None:
            return source, qualname
    return None


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    keep = len(parts) - node.level + (1 if module.is_package else 0)
    return ".".join([*parts[: max(keep, 0)], *([node.module] if node.module else [])])


def _module_of_revision(name: str, rev: str, path: Sequence[str], root: Path) -> Module:
    """The text of ``name`` as it was in ``rev``: of the repository its file is in now, else of the one at
    ``root``.
    """
    try:
        now: Path | None = Path(find_module(name, path).path).resolve()
    except OptionError:
        now = None
    for folder in [*([now.parent] if now else []), root]:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if top is None:
            continue
        repository = Path(top.decode().strip()).resolve()
        if _git(repository, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}") is None:
            raise OptionError(f"{repository} has no revision {rev!r}: fetch it, or name another")
        for relative in _candidates(name, rev, repository, now):
            raw = _git(repository, "show", f"{rev}:{relative}")
            if raw is not None:
                return _module(name, relative, raw)
        raise OptionError(f"module {name!r} is not in revision {rev!r} of {repository}")
    raise OptionError(f"module {name!r} at {rev!r}: neither its file nor {root} is in a git repository")


def _candidates(name: str, rev: str, repository: Path, now: Path | None) -> Iterator[str]:
    if now is not None and now.is_relative_to(repository):
        yield now.relative_to(repository).as_posix()
    slashed = name.replace(".", "/")
    ends = [f"{slashed}.py", f"{slashed}/__init__.py"]
    for source_root in SOURCE_ROOTS:
        yield from (source_root + end for end in ends)
    listing = _git(repository, "ls-tree", "-r", "-z", "--name-only", rev) or b""
    files = [file for file in listing.decode(errors="replace").split("\0") if file]
    found = [file for file in files if any(file.endswith("/" + end) for end in ends)]
    yield from sorted(found, key=lambda file: (file.count("/"), file))


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, or None where it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
