"""Forked copies of the measured process: each answers, or is gone by a deadline, whatever the program does with
SIGCHLD; and the wait for a capture that another process writes ends as well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leakharness.errors import LeakHarnessError, NotJudged
from leakharness.measure.capture_file import wait_for_capture
from leakharness.measure.worker_process import WorkerProcess
from leakharness.worker.fork import CAN_FORK, CopyFailed, answer_of_copy, ask_copy, reap, start_copy
from leakharness.worker.protocol import DESCRIBE, SelfTest

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="this platform cannot fork")


@pytest.fixture(params=[signal.SIG_DFL, signal.SIG_IGN], ids=["as usual", "SIGCHLD ignored"])
def _children_signal(request: pytest.FixtureRequest) -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, request.param)
    yield
    signal.signal(signal.SIGCHLD, before)


def children() -> list[str]:
    """Pids of this thread's children, ended ones included."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def hang() -> bytes:
    time.sleep(600)
    return b""


def die() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


@pytest.mark.usefixtures("_children_signal")
def test_a_copy_answers_and_is_gone() -> None:
    """Also an answer that is longer than a pipe holds."""
    assert ask_copy(lambda: b"x" * 300_000 + b"\n", 20.0) == b"x" * 300_000 + b"\n"
    assert children() == []


@pytest.mark.usefixtures("_children_signal")
def test_a_copy_that_hangs_is_ended_at_its_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(CopyFailed, match=r"did not answer within 0\.3 s") as caught:
        ask_copy(hang, 0.3)
    assert caught.value.late
    assert time.monotonic() - began < 8
    assert children() == []


def test_what_a_copy_gives_comes_back_as_what_was_asked_for() -> None:
    """One line of the codec; a copy that gives something else has failed, and says what it gave."""
    assert answer_of_copy(SelfTest, lambda: SelfTest("it forgets"), 20.0) == SelfTest("it forgets")
    with pytest.raises(CopyFailed, match=r"gave no answer that can be read: .*fault"):
        answer_of_copy(SelfTest, lambda: {"default": 1}, 20.0)  # type: ignore[arg-type,return-value]


def test_a_copy_that_cannot_be_made_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise OSError("no more processes")

    monkeypatch.setattr("leakharness.worker.fork._quiet_fork", full)
    with pytest.raises(CopyFailed, match="could not be made: no more processes"):
        answer_of_copy(SelfTest, lambda: SelfTest(None), 20.0)


def test_a_copy_that_is_killed_says_by_what() -> None:
    with pytest.raises(CopyFailed, match="crashed by SIGKILL"):
        ask_copy(die, 20.0)
    assert children() == []


def test_a_copy_that_is_killed_where_nobody_can_know_how() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(CopyFailed, match="ended without an answer"):
            ask_copy(die, 20.0)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_copy_that_another_waits_for_is_gone_all_the_same() -> None:
    """A program that waits for every child takes the status away."""
    pid = start_copy(lambda: True)
    os.waitpid(pid, 0)
    assert reap(pid, 5.0) is None


def test_the_wait_for_a_capture_ends_with_its_writer(tmp_path: Path) -> None:
    """A writer that was killed and that nobody waits for is a zombie, and not alive."""
    writer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    writer.kill()
    began = time.monotonic()
    try:
        with pytest.raises(LeakHarnessError, match="has been killed"):
            wait_for_capture(tmp_path / "capture", writer.pid, 60.0)
        assert time.monotonic() - began < 20
    finally:
        writer.wait(10)
    with pytest.raises(LeakHarnessError, match="has been killed"):
        wait_for_capture(tmp_path / "capture", writer.pid, 60.0)


def test_the_wait_for_a_capture_has_a_deadline(tmp_path: Path) -> None:
    """Also where the writer lives on."""
    with pytest.raises(LeakHarnessError, match=r"not written within 0\.2 s"):
        wait_for_capture(tmp_path / "capture", os.getpid(), 0.2)


@pytest.mark.slow
def test_a_stopped_process_that_reads_no_command_is_hung() -> None:
    """A command that is longer than the pipe holds must not wait for ever, either."""
    with WorkerProcess(sys.executable, deadline=time.monotonic() + 60) as worker:
        worker.request(DESCRIBE, [])
        os.kill(worker.pid, signal.SIGSTOP)
        worker.set_deadline(time.monotonic() + 0.5)
        with pytest.raises(NotJudged, match="hung: no answer before --timeout while asking"):
            worker.request(DESCRIBE, ["x" * 300_000], doing="asking")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="since 3.13 such a process can fork")
def test_no_copy_is_made_beside_sub_interpreters() -> None:
    """It would hang for ever, in C."""
    code = (
        "import _xxsubinterpreters as interpreters\n"
        "from leakharness.worker.fork import ask_copy\n"
        "kept = interpreters.create()\n"
        "try: print(ask_copy(lambda: b'made\\n', 5.0))\n"
        "except OSError as exc: print(exc, flush=True)\n"
        "interpreters.destroy(kept)\n"
        "print(ask_copy(lambda: b'made\\n', 5.0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    refused = "a process with sub-interpreters cannot fork before Python 3.13: the copy would hang"
    assert done.stdout.splitlines() == [refused, "b'made\\n'"]
