"""A check in a forked copy of the pytest process: nothing but the check runs there, and nothing of it comes back
but the verdict. Under xdist that keeps the counters quiet: the copy has none of the worker's threads and messages.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import Any

from leakharness.errors import LeakHarnessError, NotJudged, UsageError
from leakharness.pytest_plugin.in_process import CheckOutcome, CheckTarget, Judge
from leakharness.worker.fork import quiet_fork

__all__ = ["CAN_FORK", "in_forked_copy"]

CAN_FORK = hasattr(os, "fork")
CHUNK_BYTES = 1 << 16


def in_forked_copy(judge: Judge, subject: CheckTarget, seconds: float) -> CheckOutcome:
    """:meth:`Judge.judge` in a forked copy, which is killed after ``seconds``.

    Raises NotJudged where the copy dies or hangs, and UsageError as the judge does.
    """
    judge.started()
    receive, send = os.pipe()
    child = quiet_fork()
    if child == 0:
        os.close(receive)
        _live(judge, subject, send)
    os.close(send)
    status = None
    try:
        text = _read_all(receive, time.monotonic() + seconds)
        if text is not None:
            _, status = os.waitpid(child, 0)
    finally:
        os.close(receive)
        if status is None:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            judge.close()
    if text is None:
        raise NotJudged(
            f"hung: no verdict within {seconds:g} s; raise timeout if it is only slow, or measure it in the worker "
            "itself with process='here' (a forked copy has no threads but its own)"
        )
    if not text:
        judge.close()
        raise NotJudged(f"the forked copy {_how(status or 0)} in the middle of the check")
    answer: dict[str, Any] = json.loads(text)
    if "error" in answer:
        error = UsageError(answer["error"]) if answer["kind"] == "usage" else NotJudged(answer["error"])
        raise error
    return CheckOutcome(answer["verdict"], answer["text"], answer["document"])


def _live(judge: Judge, subject: CheckTarget, send: int) -> None:
    """The copy's whole life. Does not return."""
    try:
        try:
            verdict = judge.judge(subject, alarm=False)
            said = {"verdict": verdict.verdict, "text": verdict.text, "document": dict(verdict.document)}
        except LeakHarnessError as exc:
            kind = "usage" if isinstance(exc, UsageError) else "not judged"
            said = {"error": str(exc), "kind": kind}
        except BaseException as exc:
            said = {"error": f"the check ended by {type(exc).__name__}: {exc}"[:500], "kind": "not judged"}
        text = json.dumps(said).encode()
        while text:
            text = text[os.write(send, text) :]
    finally:
        os._exit(0)


def _read_all(receive: int, deadline: float) -> bytes | None:
    """What comes until the other end is closed; None if that takes longer than ``deadline``."""
    parts: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([receive], [], [], left)[0]:
            return None
        part = os.read(receive, CHUNK_BYTES)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"crashed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit code {code}"
