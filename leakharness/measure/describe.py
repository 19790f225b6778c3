"""What scenario files declare, read in a fresh process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leakharness.errors import NotJudged
from leakharness.measure.worker_process import WorkerProcess
from leakharness.options import DEFAULTS

__all__ = ["describe"]


def describe(paths: Sequence[Path], python: str) -> dict[str, Any]:
    """What the scenario files declare, read in a fresh process: ``{path: [scenario, …] or failure}``."""
    names = [str(path.resolve()) for path in paths]
    try:
        with WorkerProcess(python, deadline=time.monotonic() + DEFAULTS["timeout"]) as worker:
            found: dict[str, Any] = worker.ask("describe", {}, names, doing="reading the declarations")["files"]
    except NotJudged as exc:
        if len(paths) > 1:  # one file ended the process: the others are read without it
            return {name: answer for path in paths for name, answer in describe([path], python).items()}
        return {names[0]: {"failed": "not_judged", "reason": str(exc), "detail": exc.detail}}
    return found
