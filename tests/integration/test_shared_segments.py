"""The marks that measurements leave in /dev/shm, so that others know of them: gone with the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leakharness.measure.worker_process import WorkerProcess
from leakharness.worker.shared_segments import FOLDER, MARK, SharedSegments

pytestmark = pytest.mark.skipif(not os.path.isdir(FOLDER), reason="named segments are files there on Linux only")


def mark_of(pid: int) -> Path:
    return Path(FOLDER, f"{MARK}{pid}")


def test_a_process_that_is_killed_leaves_no_mark() -> None:
    """The tool kills each measured process when it has its answers: that one has no time to remove anything."""
    worker = WorkerProcess(sys.executable)
    with worker:
        mark = mark_of(worker.pid)
        mark.touch()
    assert not mark.exists()


def test_marks_without_an_owner_go_where_the_next_measurement_begins() -> None:
    """Those of a tool that was killed itself."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    mark = mark_of(ended.pid)
    mark.touch()
    segments = SharedSegments()
    try:
        assert not mark.exists()
        assert mark_of(os.getpid()).exists()
    finally:
        segments.close()
    assert not mark_of(os.getpid()).exists()
