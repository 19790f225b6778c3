"""The judging process beside a pytest process: the same loop and judge as ``leakharness run``, driven over pipes.

One JSON line in starts a check; then the commands go out as JSON lines and the answers come in, and the last
line out is the verdict. Ends with its input.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from leakharness.errors import LeakHarnessError
from leakharness.measure.evidence import Snapshots
from leakharness.measure.known import forgive_framework, forgive_known, is_known, is_known_of_c
from leakharness.measure.loop import measure
from leakharness.measure.measurement import Measurement, Request, WorkerClient
from leakharness.model import Reading, RunResult
from leakharness.pytest_plugin.judge_messages import VERDICT, CheckOrder, CheckOutcome, JudgeSaid
from leakharness.pytest_plugin.timeout_signal import ringing_after
from leakharness.report.text import run_block
from leakharness.resolve import known_leaks, pyproject_options, resolve
from leakharness.scenario.declare import Known
from leakharness.worker.codec import decode, decode_answer, encode_command
from leakharness.worker.protocol import A, Failure, Question

__all__ = ["main"]


class _Pytest:
    """The pytest process at the other end of the pipes, as an WorkerClient."""

    def __init__(self, pid: int, answers: BinaryIO, commands: BinaryIO) -> None:
        self.pid = pid
        self._answers, self._commands = answers, commands

    def request(self, question: Question[A], *arguments: Any, doing: str = "") -> A:
        _send(self._commands, encode_command(question.op, arguments))
        line = self._answers.readline()
        if not line:
            raise SystemExit(0)  # the test was interrupted: nobody waits for a verdict
        return decode_answer(question, line, doing or question.op)


class _Observer:
    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def phase(self, name: str, done: int, total: int | None) -> None: ...
    def reading(self, worker: WorkerClient, reading: Reading) -> None: ...

    def suspected(self, worker: WorkerClient, measurement: Measurement) -> None:
        self._snapshots.suspected(worker, measurement)


def main() -> None:
    """Serve checks until the input ends."""
    answers, commands = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in answers:
        order = decode(CheckOrder, line)
        try:
            result = judge(order, _Pytest(order.pid, answers, commands))
            said = JudgeSaid(CheckOutcome(result.verdict, run_block(result), result.document()))
        except LeakHarnessError as exc:
            said = JudgeSaid(failure=Failure.of(exc))
        _send(commands, encode_command(VERDICT, (said,)))


def judge(order: CheckOrder, worker: WorkerClient) -> RunResult:
    """Measure what the order names, in the process behind ``worker``. Raises UsageError."""
    pyproject = pyproject_options(Path.cwd())
    plan = resolve(order.options, order.declared, pyproject, defaults={"snapshots": "on-fail"})
    plan = replace(plan, soak=None)  # of what pyproject.toml asks for commands, a suite would take its time a test
    known = [*known_leaks((), pyproject), *(Known(*entry) for entry in order.known)]
    snapshots = Snapshots(
        None,
        always=False,
        known=lambda measurement, retainer: is_known(known, retainer),
        framework=order.framework,
    )
    clock = ringing_after(plan.timeout, order.pid) if order.alarm else contextlib.nullcontext()
    with snapshots.closing(), clock:
        result = measure(
            Request(order.name, order.name, order.mode),
            plan,
            worker,
            _Observer(snapshots),
            explain=snapshots.explain,
            quick=order.quick,
        )
        result = replace(result, notes=result.notes + tuple(snapshots.problems))
        # An entry that matches nothing here may match in another test: nothing is said of it.
        matched = [
            entry
            for entry in known
            if any(is_known([entry], retainer) for retainer in result.retainers)
            or any(is_known_of_c([entry], row) for row in result.held_by_c)
        ]
        return replace(
            forgive_framework(forgive_known(result, matched)),
            reproduce=shlex.join(["pytest", order.nodeid, *(["--leakcheck"] if order.mode == "leakcheck" else [])]),
        )


def _send(stream: BinaryIO, line: bytes) -> None:
    stream.write(line)
    stream.flush()
