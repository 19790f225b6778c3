"""A function's source is found by its name, and nothing is imported on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from leakharness.errors import OptionError
from leakharness.shape import find_function
from leakharness.shape.suspect import Target, find_module, parse_target, search_path

BOOM = "raise RuntimeError('imported')\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose every module raises when it is imported."""
    files = {
        "pkg/__init__.py": BOOM + "from .inner import attempt as tried, Runner\nfrom .star import *\n",
        "pkg/inner.py": BOOM
        + "from typing import overload\n"
        + "@overload\ndef attempt(a: int) -> None: ...\n"
        + "@overload\ndef attempt(a: str) -> None: ...\n"
        + "def attempt(a):\n    def g(): return a\n    return g\n"
        + "class Runner:\n    if True:\n        async def run(self): return lambda: self\n"
        + "    @property\n    def size(self): return lambda: self\n"
        + "    @size.setter\n    def size(self, value): pass\n",
        "pkg/star.py": BOOM + "def starred(x): return lambda: x\n",
        "pkg/loop.py": "from .loop2 import f\n",
        "pkg/loop2.py": "from .loop import f\n",
        "src/other/deep/mod.py": BOOM + "def f(): pass\n",
        "broken.py": "def f(:\n",
        "latin.py": "# coding: latin-1\ndef f(): return 'é'\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1" if name == "latin.py" else "utf-8")
    return tmp_path


FOUND = {
    "plain, the implementation and not an overload": ("pkg.inner:attempt", "pkg/inner.py", 7),
    "through a re-export under another name": ("pkg:tried", "pkg/inner.py", 7),
    "through a star import": ("pkg:starred", "pkg/star.py", 2),
    "a method, under if": ("pkg:Runner.run", "pkg/inner.py", 12),
    "a property, the getter": ("pkg:Runner.size", "pkg/inner.py", 13),
    "nested": ("pkg.inner:attempt.<locals>.g", "pkg/inner.py", 8),
    "in a namespace package under src": ("other.deep.mod:f", "src/other/deep/mod.py", 2),
    "with a coding cookie": ("latin:f", "latin.py", 2),
}


@pytest.mark.parametrize(("target", "file", "line"), FOUND.values(), ids=FOUND.keys())
def test_a_function_is_found(project: Path, target: str, file: str, line: int) -> None:
    """By module and qualified name, through packages that would fail if they were imported."""
    suspect = find_function(target, root=project)
    assert Path(suspect.module.path) == project / file
    assert suspect.shape.line == line


def test_nothing_was_imported(project: Path) -> None:
    """Looking a package up leaves sys.modules as it was."""
    before = set(sys.modules)
    find_function("other.deep.mod:f", root=project)
    find_function("pkg:tried", root=project)
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in ("pkg", "other")}


REFUSED = {
    "no colon": ("pkg.inner", "names no function"),
    "empty revision": ("pkg:f@", "names no function"),
    "no module": ("nosuch.deep:f", "'nosuch' is not on the search path"),
    "no submodule": ("pkg.nosuch:f", "'pkg.nosuch' is not on the search path"),
    "no function": ("pkg.inner:nosuch", "Functions there: attempt, Runner.run, Runner.size"),
    "no method": ("pkg.inner:Runner.nosuch", "defines no function 'Runner.nosuch'"),
    "no source": ("math:sqrt", "math"),
    "a namespace package": ("other:f", "has no Python source"),
    "a cycle of imports": ("pkg.loop:f", "re-exports"),
    "broken source": ("broken:f", r"broken.py:1: not Python 3\.\d+"),
}


@pytest.mark.parametrize(("target", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_found_says_why(project: Path, target: str, message: str) -> None:
    """A usage error, exit code 2, that names what and where."""
    with pytest.raises(OptionError, match=message) as caught:
        find_function(target, root=project)
    assert caught.value.exit_code == 2


def test_targets_are_parsed() -> None:
    """module:qualname, with a revision that may be anything git takes."""
    assert parse_target("a.b:C.m") == Target("a.b", "C.m")
    assert parse_target("a:f@HEAD~2") == Target("a", "f", "HEAD~2")
    assert parse_target("a:f@HEAD@{1}").rev == "HEAD@{1}"
    assert str(parse_target("a:f@v1.0")) == "a:f@v1.0"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def history(tmp_path: Path) -> tuple[Path, str]:
    """A repository with a src layout: the first commit has a closure, the second moved it to module scope."""
    file = tmp_path / "src" / "svc" / "attempt.py"
    file.parent.mkdir(parents=True)
    (file.parent / "__init__.py").write_text(BOOM)
    git(tmp_path, "init", "-q")
    file.write_text("def attempt(big):\n    def done(): return big\n    return done\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "leaks")
    first = git(tmp_path, "rev-parse", "HEAD")
    file.write_text("def done(): return 1\ndef attempt(big):\n    return done\n")
    git(tmp_path, "commit", "-qam", "fixed")
    return tmp_path, first


def test_a_revision_is_read_from_git(history: tuple[Path, str]) -> None:
    """The function as it was before the fix; the working tree is not touched."""
    root, first = history
    now = find_function("svc.attempt:attempt", root=root)
    before = find_function(f"svc.attempt:attempt@{first}", root=root)
    assert [child.captures for child in now.shape.children] == []
    assert [child.captures for child in before.shape.children] == [("big",)]
    assert before.where == f"{first}:src/svc/attempt.py:1"
    assert git(root, "status", "--porcelain") == ""


def test_a_revision_is_read_where_the_file_is_gone(history: tuple[Path, str]) -> None:
    """A module deleted since is found in the tree of the revision, wherever it was."""
    root, first = history
    git(root, "mv", "src/svc", "elsewhere")
    git(root, "commit", "-qm", "moved")
    moved = git(root, "rev-parse", "HEAD")
    git(root, "rm", "-rq", "elsewhere")
    assert find_function(f"svc.attempt:attempt@{first}", root=root).module.path == "src/svc/attempt.py"
    with pytest.raises(OptionError, match=r"'svc.attempt' is not in revision"):
        find_function(f"svc.attempt:attempt@{moved}", root=root)


def test_a_revision_that_is_not_there(history: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Unknown revisions and folders that are no repository are usage errors."""
    root, _ = history
    with pytest.raises(OptionError, match=r"has no revision 'nosuch'"):
        find_function("svc.attempt:attempt@nosuch", root=root)
    plain = tmp_path_factory.mktemp("plain")
    (plain / "alone.py").write_text("def f(): pass\n")
    with pytest.raises(OptionError, match=r"in a git repository"):
        find_function("alone:f@HEAD", root=plain)


def test_the_path_of_another_interpreter_is_asked_of_it() -> None:
    """--python: its sys.path, not ours; one that does not run is a usage error."""
    assert find_module("json.decoder", search_path(sys.executable)).name == "json.decoder"
    with pytest.raises(OptionError, match=r"--python /no/python: this interpreter does not run"):
        search_path("/no/python")
