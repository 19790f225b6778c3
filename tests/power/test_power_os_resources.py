"""Resources that are no object, no block and no descriptor: found with their exact number, or silent."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness import run
from leakharness.worker.os_resources import NOT_COUNTED
from leakharness.worker.shared_segments import SharedSegments

SCENES = Path(__file__).parent / "scenes" / "os_resources.py"
LEAKY = {
    "memfd": ("unlinked_bytes", 16_384.0),
    "deleted": ("unlinked_bytes", 16_384.0),
    "left": ("temp_files", 2.0),
    "shared": ("shm_bytes", 16_384.0),
    "sysv": ("shm_bytes", 16_384.0),
    "inotify": ("watches", 1.0),
    "epoll": ("watches", 0.05),
    "lock": ("locks", 1.0),
    "timer": ("timers", 1.0),
    "unread": ("unread_bytes", 10.0),
    "other-loop": ("tasks", 1.0),
    "interpreter": ("interpreters", 0.2),
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they are read from Linux's /proc")


@pytest.fixture(autouse=True)
def _leave_no_shared_memory() -> Iterator[None]:
    """The process that explains a leak is killed once it has; the system keeps what its runs made."""
    yield
    for path in (
        *Path("/dev/shm").glob(f"leakharness-test-{os.getpid()}-*"),
        Path(f"/dev/shm/leakharness-measuring-{os.getpid()}"),
    ):
        path.unlink(missing_ok=True)
    for row in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
        number, size, creator = int(row.split()[1]), row.split()[3], row.split()[4]
        if size == "16384" and not Path(f"/proc/{creator}").exists():
            ctypes.CDLL(None).shmctl(number, 0, None)  # IPC_RMID


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAKY)
def test_each_resource_is_counted(name: str) -> None:
    """FAIL, with what the twin leaves behind in a run."""
    result = run(f"{SCENES}::{name}", "leaky", snapshots="never")
    assert result.verdict == "FAIL", result.reason
    counter, number = LEAKY[name]
    grown = grown_by(result)
    assert grown.get(counter) == pytest.approx(number, rel=0.1 if number < 1 else 0.001), grown


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LEAKY if name != "interpreter"])  # CPython 3.12's own leaks
def test_what_is_given_back_is_silent(name: str) -> None:
    """PASS, and what nobody looks at is named."""
    result = run(f"{SCENES}::{name}", "clean", snapshots="never")
    assert result.verdict == "PASS", result.reason
    assert result.blind.keys() == set(NOT_COUNTED)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["multiprocessing", "both", "clean", "neighbour"])
def test_shared_memory_of_another_measurement_is_not_this_one_s(mode: str) -> None:
    """What this process made is counted by itself; what nobody is known to have made is not, beside another one."""
    result = run(f"{SCENES.parent / 'neighbour_segments.py'}::segments", mode, snapshots="never")
    if mode in ("multiprocessing", "both"):
        assert result.verdict == "FAIL", result.reason
        assert grown_by(result)["shm_bytes"] == 8192
    else:
        assert result.verdict == "PASS", result.reason


def test_the_mark_of_a_measurement_that_was_killed_is_removed_by_the_next() -> None:
    mark = Path(f"/dev/shm/leakharness-measuring-{2**22 + 1}")  # no PID is as high (proc(5), pid_max)
    mark.touch()
    try:
        segments = SharedSegments()
        subprocess.run(["cp", SCENES, f"/dev/shm/leakharness-test-{os.getpid()}-mark"], check=True)
        segments.bytes_left()
        segments.close()
        assert not mark.exists()
    finally:
        mark.unlink(missing_ok=True)
