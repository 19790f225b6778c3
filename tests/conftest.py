"""Shared by all tests: the command line as a user starts it, and scenario files made of a few lines."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from leakharness import RunResult

# No deadlines: a busy machine is no bug. In CI the same examples every time; at a desk, new ones.
settings.register_profile("leakharness", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("leakharness")

HEADER = "from __future__ import annotations\nfrom leakharness import Run, Scenario\n"
TIMEOUT_S = 120.0
OLDEST = (3, 10)


def installed_pythons() -> list[str]:
    """This interpreter, and the newest one that pyenv has of each other version from 3.10 on."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    newest: dict[tuple[int, ...], tuple[tuple[int, ...], Path]] = {}
    for path in root.glob("versions/3.*/bin/python"):
        numbers = path.parents[1].name.split(".")
        if not all(number.isdigit() for number in numbers):
            continue  # a pre-release, another implementation, a free-threaded build
        version = tuple(map(int, numbers))
        newest[version[:2]] = max(newest.get(version[:2], (version, path)), (version, path))
    others = [path for minor, (_, path) in sorted(newest.items()) if OLDEST <= minor != sys.version_info[:2]]
    return [sys.executable, *map(str, others)]


ASKED = os.environ.get("LEAKHARNESS_PYTHONS", "")
PYTHONS = (
    installed_pythons() if ASKED == "pyenv" else [path for path in ASKED.split(os.pathsep) if path] or [sys.executable]
)
"""Interpreters to measure in: this one, or a list like PATH's in LEAKHARNESS_PYTHONS, or what pyenv has ("pyenv")."""


def grown_by(result: RunResult) -> dict[str, float]:
    """What grows, by counter, a run."""
    return {row.counter: row.per_run for row in result.growth if row.grows}


def printed_json(script: str, python: str = sys.executable) -> Any:
    """What a script prints that finds this package, and no other of the tool's, in ``python``."""
    done = subprocess.run(
        [python, "-c", script],
        capture_output=True,
        text=True,
        env=clean_environment(PYTHONPATH=str(Path(__file__).parents[1])),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pytest_configure(config: pytest.Config) -> None:
    """Compile the tool, and what pytest rewrites of its plugins, once for all processes that the tests start. Where
    Python is told to write no bytecode (PYTHONDONTWRITEBYTECODE), each of them would do so anew: most of a second."""
    if not sys.dont_write_bytecode or hasattr(config, "workerinput"):
        return
    writes = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as empty:
        for words in (
            ("compileall", "-q", str(root / "leakharness"), str(root / "scenarios")),
            ("pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "--rootdir", empty, empty),
        ):
            subprocess.run([sys.executable, "-m", *words], env=writes, capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="session", autouse=True)
def _inner_sessions_without_hypothesis() -> Iterator[None]:
    """The pytest sessions that tests start have no test of hypothesis, whose plugin takes longer to start than all the
    rest of pytest. Set once this process has read it, so that it stays as it is here and in xdist's workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")
        yield


@dataclass(frozen=True)
class Answer:
    """What a finished command left."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; fails where there is anything else, or it is not as its schema says."""
        return checked_document(self.stdout)


def checked_document(text: str) -> Any:
    """A document that a command has printed or stored, which is as the schema that it names says."""
    document = json.loads(text)
    name = schema_of(document)
    if name is not None:
        validator_of(name).validate(document)
    return document


def schema_of(document: Any) -> str | None:
    """The name of the schema in the documentation that a printed document names; None where it names none."""
    named = document.get("schema") if isinstance(document, dict) else None
    match = re.fullmatch(r"leakharness\.([a-z-]+)/\d+", named) if isinstance(named, str) else None
    return match[1] if match else None


@functools.cache
def validator_of(name: str) -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    path = Path(__file__).parent.parent / "docs" / "reference" / "schemas" / f"{name}.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_bytes()))


def clean_environment(**more: str) -> dict[str, str]:
    """This environment without what would change the tool's answers."""
    dropped = ("PYTHONPATH", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "GLIBC_TUNABLES", "PYTHONSAFEPATH")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "TERM": "xterm", **more}


def run_cli(folder: Path, *words: str, env: Mapping[str, str] | None = None, timeout: float = TIMEOUT_S) -> Answer:
    """``python -m leakharness WORDS`` in a fresh process, started from ``folder``."""
    done = subprocess.run(
        [sys.executable, "-m", "leakharness", *words],
        cwd=folder,
        env=clean_environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., Answer]:
    """The command line, started from this test's own folder."""

    def start(*words: str, env: Mapping[str, str] | None = None, timeout: float = TIMEOUT_S) -> Answer:
        return run_cli(tmp_path, *words, env=env, timeout=timeout)

    return start


@pytest.fixture
def quick_cli(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Answer]]:
    """The same in this process, which is quicker: the measured process is one of its own anyway."""
    from leakharness.__main__ import main

    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def start(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["leakharness", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code or 0
        assert isinstance(code, int)
        return Answer(code, *capfd.readouterr())

    yield start
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def scenario_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a scenario file into this test's folder: the import line, and the body given."""

    def write(body: str, name: str = "case.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + textwrap.dedent(body), encoding="utf-8")
        return path

    return write
