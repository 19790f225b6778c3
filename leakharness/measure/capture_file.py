"""Waiting for a raw capture that a forked copy of another process writes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from leakharness.errors import LeakHarnessError

__all__ = ["wait_for_capture"]

POLL_S = 0.005


def wait_for_capture(raw: Path, writer: int | None, seconds: float) -> None:
    """Wait until the capture is in place, which appears whole or not at all.

    ``writer``: the process that writes it, which need not be a child of this one; None where nothing is known of it.
    Raises LeakHarnessError where that process could not write it, or was killed, or has not after ``seconds``.
    """
    error = raw.with_name(raw.name + ".error")
    end = time.monotonic() + seconds
    while not raw.exists():
        if error.exists():
            raise LeakHarnessError(f"the snapshot failed: {error.read_text(errors='replace').strip()}")
        if writer is not None and _is_gone(writer) and not raw.exists() and not error.exists():
            raise LeakHarnessError("the snapshot failed: the copy that was writing it has been killed")
        if time.monotonic() > end:
            raise LeakHarnessError(f"the snapshot was not written within {seconds:g} s")
        time.sleep(POLL_S)


def _is_gone(pid: int) -> bool:
    """Whether the process has ended, reaped or not: a process that nobody waits for stays as a zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except OSError:  # another system without /proc, or another owner: it is there
        return False
