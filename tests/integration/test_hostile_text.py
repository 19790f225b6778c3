"""Names, labels and texts of exceptions that steer a terminal, that rich reads as markup or that UTF-8 cannot hold:
each leaves the verdict as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HEAD = """
import os
from leakharness import Run, Scenario
scenario = Scenario("hostile")
class Payload: pass
kept = []
"""
QUICK = ("--iters", "10", "--batches", "3", "--snapshots", "never")
COMMAND = (sys.executable, "-m", "leakharness", "run", "hostile.py", *QUICK)


def written(folder: Path, body: str) -> None:
    (folder / "hostile.py").write_text(HEAD + textwrap.dedent(body))


def asked(folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *options], cwd=folder, capture_output=True, timeout=120, check=False)


def test_an_exception_whose_text_is_no_utf_8(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        @scenario.mode("plain", must="PASS", default=True, abort="raise")
        def plain(run: Run) -> None:
            raise ValueError("cannot read " + os.fsdecode(b"caf\\xe9.txt"))
        """,
    )
    done = asked(tmp_path)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr.decode()
    assert b"caf\\udce9.txt" in done.stdout
    (report,) = (tmp_path / "reports").glob("*/")
    assert "caf\\udce9.txt" in json.dumps(json.loads((report / "run.json").read_bytes())).replace("\\\\", "\\")


@pytest.mark.slow
def test_a_label_and_a_crash_that_are_no_utf_8(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        @scenario.mode("leak", must="FAIL", default=True, abort="none")
        def leak(run: Run) -> None:
            kept.append(run.track(Payload(), label=os.fsdecode(b"caf\\xe9") + "\\x1b[31m\\n::error::x"))
        @scenario.mode("crash", abort="none")
        def crash(run: Run) -> None:
            raise ValueError(os.fsdecode(b"caf\\xe9") + "\\x1b[31m\\n::error::x")
        """,
    )
    for mode, code in (("leak", 1), ("crash", 3)):
        done = asked(tmp_path, "--mode", mode)
        assert (done.returncode, b"leakharness" in done.stdout) == (code, True), done.stderr.decode()
        for said in (done.stdout, done.stderr):
            assert b"\x1b" not in said
            assert not [line for line in said.splitlines() if line.lstrip().startswith(b"::")]


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
@pytest.mark.parametrize("mode", ["x[/b]", "[red]y", "e\x1b[31mvil"])
def test_a_name_of_a_mode_that_looks_like_markup(mode: str, tmp_path: Path) -> None:
    """On a terminal, where progress is drawn."""
    import pty

    written(
        tmp_path,
        f"""
        @scenario.mode({mode!r}, must="PASS", default=True, abort="none")
        def plain(run: Run) -> None: pass
        """,
    )
    parent, child = pty.openpty()
    process = subprocess.Popen(COMMAND, cwd=tmp_path, stdout=child, stderr=child)
    os.close(child)
    said = b""
    try:
        while part := os.read(parent, 65_536):
            said += part
    except OSError:  # EIO: nobody has the other end any more
        pass
    os.close(parent)
    assert process.wait(60) == 0, said.decode()
    assert b"Traceback" not in said
    assert b"\x1b[31mvil" not in said
    assert mode.replace("\x1b", "\\x1b").encode() in said
