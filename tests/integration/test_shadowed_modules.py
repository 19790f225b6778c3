"""Files of the current folder, or of PYTHONPATH, that are called like modules of the standard library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = """
from leakharness import Run, Scenario
scenario = Scenario("plain")
@scenario.mode("plain", must="PASS", default=True, abort="none")
def plain(run: Run) -> None: pass
"""
QUICK = ("--iters", "10", "--batches", "3", "--snapshots", "never")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plain.py").write_text(SCENARIO)
    for name in ("json", "types", "queue", "numpy", "typer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    return tmp_path


def asked(folder: Path, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    command = [*command, "run", "plain.py", *QUICK]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_the_current_folder_hides_no_standard_module(folder: Path) -> None:
    """Neither from the tool, which imports nothing there, nor from the harness in the measured process."""
    done = asked(folder, [str(Path(sys.executable).parent / "leakharness")])
    assert (done.returncode, done.stdout[:4]) == (0, "PASS"), done.stderr
    (folder / "types.py").unlink()  # with it, `python -m` does not even find its own runpy
    done = asked(folder, [sys.executable, "-m", "leakharness"])
    assert (done.returncode, done.stdout[:4]) == (0, "PASS"), done.stderr


def test_a_hidden_standard_module_on_the_path_is_named(folder: Path) -> None:
    """A usage error in one line that names the file, and does not blame the interpreter's version."""
    command = [sys.executable, "-I", "-m", "leakharness"]  # the tool itself does not look at PYTHONPATH
    done = asked(folder, command, PYTHONPATH=str(folder))
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert "json.py, on PYTHONPATH, stands in for the standard module json" in done.stderr
    assert "not a Python" not in done.stderr
