"""Bad lines through a real process: whatever an interpreter answers, the result is NOT_JUDGED with one sentence."""

from __future__ import annotations

import stat
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import run_cli

import leakharness
from leakharness.model import RunResult

PROXY = """\
#!{python}
'''Starts the interpreter with the same arguments and hands its answers on, but for the one to OP.'''
import os, subprocess, sys

worker = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
lines = iter(worker.stdout.readline, b"")
out = sys.stdout.buffer

def say(data):
    out.write(data)
    out.flush()

say(next(lines))
for command in sys.stdin.buffer:
    worker.stdin.write(command)
    worker.stdin.flush()
    line = next(lines, b"")
    if command.startswith(b'["OP"'):
        CHANGE
    say(line)
worker.kill()
"""
BAD = {
    "garbled": "line = bytes(range(256)) + b'\\n'",
    "empty": "line = b'\\n'",
    "not UTF-8": "line = line.replace(b'objects', b'obj\\xffects')",
    "nested 100,000 deep": "line = b'[' * 100_000 + b']' * 100_000 + b'\\n'",
    "an object nested 100,000 deep": "line = b'{\"a\":' * 100_000 + b'1' + b'}' * 100_000 + b'\\n'",
    "the answer to another question": 'line = b\'{"to":"census","answer":{"census":{}}}\\n\'',
    "a negative count": "line = line.replace(b'\"tracked_alive\":', b'\"tracked_alive\":-1')",
    "a count that is a text": 'line = line.replace(b\'"collected":\', b\'"collected":"x","b":\')',
    "a number of 10,000 digits": "line = line.replace(b'\"collected\":', b'\"collected\":' + b'9' * 10_000)",
    "NaN": 'line = line.replace(b\'"collected":\', b\'"collected":NaN,"b":\')',
    "two answers in one line": "line = line.rstrip() + line",
    "70 MB without an end": "say(b'[' + b'1,' * 35_000_000); line = b'1]\\n'",
    "a failure of no kind": 'line = b\'{"to":"read","failure":{"kind":"bug","reason":"x"}}\\n\'',
    "a failure with escape codes": 'line = b\'{"to":"read","failure":{"kind":"x\\\\u001b[2J","reason":"x"}}\\n\'',
}
DEAD = {
    "in the middle of a line": ("say(line[:30]); worker.kill(); os._exit(3)", ("no valid answer", "exit code 3")),
    "before its answer": ("worker.kill(); os._exit(0)", ("ended by itself with exit code 0",)),
    "by a signal": ("worker.kill(); os.kill(os.getpid(), 11)", ("crashed by SIGSEGV",)),
    "its output closed": ("worker.kill(); os.close(1); os._exit(4)", ("exit code 4",)),
}


def lying_interpreter(folder: Path, op: str, change: str) -> Path:
    """An executable for --python that answers wrongly when it is asked for ``op``."""
    path = folder / "python"
    text = textwrap.dedent(PROXY).replace("{python}", sys.executable).replace("OP", op)
    path.write_text(text.replace("CHANGE", change), "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario whose run does nothing."""
    path = tmp_path_factory.mktemp("quick") / "nothing.py"
    path.write_text(
        "from leakharness import Run, Scenario\n"
        "scenario = Scenario('nothing')\n"
        "@scenario.mode('clean', must='PASS', abort='none', default=True)\n"
        "def clean(run: Run) -> None: pass\n",
        "utf-8",
    )
    return path


def measured(quick: Path, folder: Path, op: str, change: str) -> RunResult:
    python = lying_interpreter(folder, op, change)
    return leakharness.run(str(quick), python=str(python), iters=5, warmup=0, snapshots="never", timeout=30)


def is_one_sentence(reason: str) -> bool:
    return reason.isprintable() and len(reason) < 500 and "Traceback" not in reason


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_a_wrong_reading_is_not_judged_in_one_sentence(change: str, quick: Path, tmp_path: Path) -> None:
    """The sentence says that the answer was not valid, in which step, and what to look for."""
    result = measured(quick, tmp_path, "read", change)
    assert result.verdict == "NOT_JUDGED"
    assert result.reason.startswith("the measured process gave no valid answer while "), result.reason
    assert result.reason.endswith("find what writes to a descriptor by its number")
    assert is_one_sentence(result.reason), result.reason


@pytest.mark.parametrize(("change", "says"), DEAD.values(), ids=DEAD.keys())
def test_a_process_that_ends_while_it_answers_is_not_judged(
    change: str, says: tuple[str, ...], quick: Path, tmp_path: Path
) -> None:
    """How it ended, and while what was done."""
    result = measured(quick, tmp_path, "read", change)
    assert result.verdict == "NOT_JUDGED"
    assert any(part in result.reason for part in says), result.reason
    assert "while " in result.reason
    assert is_one_sentence(result.reason)


@pytest.mark.parametrize("op", ["load", "start", "freeze", "baseline", "runs", "self_test", "finish"])
def test_a_garbled_answer_to_any_question_is_not_judged(op: str, quick: Path, tmp_path: Path) -> None:
    """From the first question to the last: a PASS rests on every one of them."""
    result = measured(quick, tmp_path, op, BAD["garbled"])
    assert (result.verdict, "no valid answer" in result.reason) == ("NOT_JUDGED", True), result.reason


def test_the_proxy_alone_changes_nothing(quick: Path, tmp_path: Path) -> None:
    """Without any change the proxy measures as the interpreter does: what the tests above see is the change."""
    assert measured(quick, tmp_path, "read", "pass").verdict == "PASS"


def test_the_command_exits_with_3_and_one_line(quick: Path, tmp_path: Path) -> None:
    """No traceback reaches the user."""
    python = lying_interpreter(tmp_path, "read", BAD["garbled"])
    words = ("--python", str(python), "--iters", "5", "--warmup", "0", "--snapshots", "never")
    answer = run_cli(tmp_path, "run", str(quick), *words)
    assert answer.code == 3, answer.stderr
    assert "Traceback" not in answer.stdout + answer.stderr
    assert "gave no valid answer while" in answer.stdout
