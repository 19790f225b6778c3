"""Child processes: daemons that detach, and memory that lives in a child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from leakharness import Run, Scenario

KEPT: list[Any] = []


def _daemon(seconds: str) -> None:
    """A double fork with a session of its own: its parent is gone at once."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", seconds])
        os._exit(0)
    os.waitpid(pid, 0)


daemon = Scenario("daemon", summary="a daemon in every tenth run")


@daemon.mode("leaky", must="FAIL", abort="none")
def daemon_leaky(run: Run) -> None:
    if run.index % 10 == 0:
        _daemon("611")


@daemon.mode("clean", must="PASS", default=True, abort="none")
def daemon_clean(run: Run) -> None:
    if run.index % 10 == 0:
        _daemon("0")


background = Scenario("background", summary="a command in the background of a shell")


@background.mode("leaky", must="FAIL", abort="none")
def background_leaky(run: Run) -> None:
    if run.index % 10 == 0:
        subprocess.run(["sh", "-c", "sleep 611 > /dev/null 2>&1 &"], check=True)


@background.mode("clean", must="PASS", default=True, abort="none")
def background_clean(run: Run) -> None:
    if run.index % 10 == 0:
        subprocess.run(["sh", "-c", "true > /dev/null 2>&1 &"], check=True)


ended = Scenario("ended", summary="a child that nobody waits for")


@ended.mode("leaky", must="FAIL", abort="none")
def ended_leaky(run: Run) -> None:
    if run.index % 10 == 0:
        pid = os.fork()
        if pid == 0:
            os._exit(0)


@ended.mode("clean", must="PASS", default=True, abort="none")
def ended_clean(run: Run) -> None:
    if run.index % 10 == 0:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


worker = Scenario("worker", summary="two children that answer; one of them keeps 64 KiB of each question")
SERVE = """
import sys
kept = []
for line in sys.stdin:
    kept.append(b"x" * 65536) if line == "keep\\n" else None
    print("done", flush=True)
"""


@worker.setup
def started() -> Any:
    for _ in range(2):
        KEPT.append(
            subprocess.Popen([sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    yield
    for process in KEPT:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def _ask(question: str) -> None:
    for process in KEPT:
        process.stdin.write(question)
        process.stdin.flush()
        process.stdout.readline()


@worker.mode("leaky", must="FAIL", abort="none")
def worker_leaky(run: Run) -> None:
    _ask("keep\n")


@worker.mode("clean", must="PASS", default=True, abort="none")
def worker_clean(run: Run) -> None:
    _ask("forget\n")
