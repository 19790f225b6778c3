"""Every task of the project: `nox -s tests lint types docs build`. CI calls the same sessions.

`lint`, `types` and `docs` run in the environment that nox is installed in (extra `dev`); `tests` and `build` make
their own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "docs"]
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]
"""What the suite runs on. The classifiers of pyproject.toml name those on which it is green."""


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite, on each interpreter that is installed."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """Every other test that runs in the environment that nox is installed in: the twins of each detector, whole plugin
    sessions, proofs of published packages."""
    neighbours_only = "--ignore=tests/integration/test_plugin_neighbours.py"
    session.run(sys.executable, "-m", "pytest", "-n", "auto", "-m", "slow", neighbours_only, *session.posargs)


@nox.session
def neighbours(session: nox.Session) -> None:
    """``--leakcheck`` beside other plugins, in an environment that has them all."""
    session.install("-e", ".[test,neighbours]")
    session.run("pytest", "-m", "slow", "-p", "no:randomly", "tests/integration/test_plugin_neighbours.py")


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Rules, layout, dead code."""
    session.run(sys.executable, "-m", "ruff", "check", ".")
    session.run(sys.executable, "-m", "ruff", "format", "--check", ".")
    session.run(sys.executable, "-m", "vulture")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """mypy, strict."""
    session.run(sys.executable, "-m", "mypy")


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """The documentation, into site/; a warning is an error."""
    session.run(sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--clean")


@nox.session
def build(session: nox.Session) -> None:
    """Wheel and sdist into dist/, checked, and the wheel tried where nothing else of ours is installed."""
    dist = Path("dist")
    for old in dist.glob("leakharness-*"):
        old.unlink()
    session.install("build", "twine")
    session.run("python", "-m", "build", "--outdir", str(dist))
    session.run("twine", "check", "--strict", *map(str, sorted(dist.glob("leakharness-*"))))
    session.install("--force-reinstall", str(next(dist.glob("leakharness-*.whl"))))
    with session.chdir(session.create_tmp()):
        session.run("leakharness", "check", "embedded-run")
