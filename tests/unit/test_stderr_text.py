"""What a measured process wrote to stderr, without the texts of exceptions from outside the scenario's folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from leakharness.measure.stderr_text import without_foreign_texts

OWN = "/srv/scenarios"
SECRET = "alice-4711"


def traceback(file: str, last: str) -> str:
    return f'Traceback (most recent call last):\n  File "{file}", line 3, in f\n    raise x\n    ^^^^^^^\n{last}'


@pytest.mark.parametrize(
    ("file", "last", "shown"),
    [
        (f"{OWN}/a.py", f"KeyError: '{SECRET}'", True),
        (f"{OWN}/../lib.py", f"KeyError: '{SECRET}'", False),
        (f"{OWN}/.venv/lib/python3/site-packages/x.py", f"lib.Error: {SECRET}", False),
        ("/lib/x.py", f"lib.Error: first\nsecond {SECRET}\n  third {SECRET}", False),
        ("/lib/x.py", f"ModuleNotFoundError: No module named '{SECRET}'", True),
        ("<string>", f"ValueError: {SECRET}", False),
    ],
)
def test_a_text_is_shown_where_the_own_folder_raised_it(file: str, last: str, shown: bool) -> None:
    """The type, the place and the lines around stay."""
    text = f"starting\n{traceback(file, last)}\n\nFatal Python error: Aborted"
    found = without_foreign_texts(text, OWN)
    assert (SECRET in found) is shown
    kind = last.partition(":")[0]
    for kept in ("starting", f'File "{file}", line 3, in f', "raise x", kind, "Fatal Python error: Aborted"):
        assert kept in found
    assert ("--values" in found) is not shown


def test_what_is_printed_and_what_crashes_is_left_alone() -> None:
    crash = 'Fatal Python error: Segmentation fault\n\nThread 0x1 (most recent call first):\n  File "/a.py", line 1'
    text = f"about to die: x\n{crash}"
    assert without_foreign_texts(text, OWN) == text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no groups")
def test_chains_threads_and_groups_as_python_writes_them(tmp_path: Path) -> None:
    """Made by this Python: a library's errors as cause, in a thread, in a group."""
    (tmp_path / "own").mkdir()
    (tmp_path / "lib.py").write_text(f"def f():\n    raise KeyError({SECRET!r}.upper())\n")
    (tmp_path / "own" / "scene.py").write_text(
        "import sys, threading\nsys.path.insert(0, '..')\nimport lib\n"
        "t = threading.Thread(target=lib.f); t.start(); t.join()\n"
        "errors = []\n"
        "try: lib.f()\nexcept KeyError as exc:\n    errors.append(exc)\n"
        "try: raise RuntimeError('own words') from errors[0]\nexcept RuntimeError as exc:\n    errors.append(exc)\n"
        "raise ExceptionGroup('own group', errors)\n"
    )
    done = subprocess.run([sys.executable, "scene.py"], cwd=tmp_path / "own", capture_output=True, text=True)
    assert done.stderr.count(SECRET.upper()) >= 2
    found = without_foreign_texts(
        done.stderr.replace('File "scene.py"', f'File "{tmp_path}/own/scene.py"'), str(tmp_path / "own")
    )
    assert SECRET.upper() not in found
    assert "own words" in found
    assert found.count("KeyError: (its text") >= 2
