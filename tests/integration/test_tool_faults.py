"""Whatever happens to the tool itself is one line on stderr and an exit code that is no verdict."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, resource
import leakharness.__main__ as main
def fails():
    {body}
main._run = fails
main.main()
"""


def said(body: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-c", PROGRAM.format(body=body)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise MemoryError", "out of memory, nothing was judged"),
        ("return bytearray(1 << 60)", "out of memory, nothing was judged"),
        (f"raise OSError({errno.ENOSPC}, 'No space left on device', '/x')", "No space left on device: /x"),
        (f"raise OSError({errno.EMFILE}, 'Too many open files')", "Too many open files"),
    ],
)
def test_what_is_used_up_is_said(body: str, words: str, tmp_path: Path) -> None:
    done = said(body, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_limit_of_the_address_space(tmp_path: Path) -> None:
    """The allocation that fails is a real one, and the message needs little itself."""
    limit = "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))"
    done = said(f"{limit}; kept = []\n    while True: kept.append(bytearray(1 << 20))", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "out of memory" in done.stderr


@pytest.mark.parametrize("text", ["own", "two\nlines \x1b[31m", "\udce9"])
def test_a_fault_of_ours_is_one_line_and_a_file(text: str, tmp_path: Path) -> None:
    done = said(f"raise ZeroDivisionError({text!r})", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    (file,) = tmp_path.iterdir()
    assert f"ZeroDivisionError: {text.split()[0].encode('ascii', 'backslashreplace').decode()}" in done.stderr
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert "in fails" in file.read_text()
