"""Folders in TMPDIR whose process has ended are removed, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leakharness import scratch
from leakharness.errors import UsageError
from leakharness.scratch import remove_orphans, scratch_folder
from leakharness.store import SNAP_DIR, make_snapshot_folder

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch._remove_orphans_once.cache_clear()
    return tmp_path


def ended() -> int:
    """The PID of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def named(folder: Path, pid: int, started: int, place: str | None = None) -> Path:
    path = folder / f"leakharness-{place or scratch._place()}-{pid}-{started}-abc"
    path.mkdir()
    (path / "capture").write_text("x")
    return path


def test_a_folder_of_a_living_process_stays(folder: Path) -> None:
    mine = scratch_folder()
    assert mine.stat().st_mode & 0o777 == 0o700
    assert remove_orphans(folder) == 0
    assert mine.is_dir()


def test_what_has_no_living_owner_goes(folder: Path) -> None:
    """Its process has ended, or the PID is that of another process by now."""
    gone, used_again = named(folder, ended(), 5), named(folder, os.getpid(), 1)
    kept = scratch_folder()
    assert (gone.exists(), used_again.exists(), kept.exists()) == (False, False, True)


def test_what_may_be_somebody_elses_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another machine or container, of another user, of another name; a link and what it leads to; a file."""
    pid, target = ended(), folder / "target"
    target.mkdir()
    (target / "precious").write_text("x")
    link = folder / f"leakharness-{scratch._place()}-{pid}-7-link"
    link.symlink_to(target)
    inside = named(folder, pid, 9)
    (inside / "link").symlink_to(target)
    file = folder / f"leakharness-{scratch._place()}-{pid}-8-file"
    file.write_text("x")
    kept = [named(folder, pid, 5, place="0" * 8), folder / "leakharness-old", target / "precious", link, file]
    kept[1].mkdir()
    assert remove_orphans(folder) == 1
    assert all(path.exists() for path in kept)
    assert not inside.exists()
    theirs = named(folder, pid, 6)
    monkeypatch.setattr(scratch, "_user", lambda: os.getuid() + 1)
    assert remove_orphans(folder) == 0
    assert theirs.exists()


def test_no_room_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "missing"))
    with pytest.raises(UsageError, match=r"no temporary folder can be made: .*TMPDIR"):
        scratch_folder()


@pytest.mark.slow
def test_after_a_kill_the_next_run_removes_the_folder(tmp_path: Path) -> None:
    """SIGKILL while a mode is measured."""
    (tmp_path / "endless.py").write_text(
        "from leakharness import Run, Scenario\nimport time\nscenario = Scenario('endless')\n"
        "@scenario.mode('plain', default=True, abort='none')\n"
        "def plain(run: Run) -> None:\n    time.sleep(0.01)\n"
    )
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-m", "leakharness", "run", "endless.py", "--quiet"]
    process = subprocess.Popen([*command, "--iters", "5000"], cwd=tmp_path, env=env)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "tmp").glob("leakharness-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "tmp").glob("leakharness-*"))
    quick = [*command, "--iters", "5", "--batches", "2", "--warmup", "2", "--snapshots", "never"]
    subprocess.run(quick, cwd=tmp_path, env=env, timeout=60, check=False)
    assert list((tmp_path / "tmp").glob("leakharness-*")) == []


def test_the_default_folder_of_snapshots_hides_itself_from_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other: a folder that was named is its owner's, and a mark that was changed stays."""
    monkeypatch.chdir(tmp_path)
    make_snapshot_folder(Path("named/one"), 1)
    assert list(tmp_path.rglob(".gitignore")) == []
    for _ in range(2):
        make_snapshot_folder(Path(SNAP_DIR) / "one", 1)
    mark = tmp_path / SNAP_DIR / ".gitignore"
    assert mark.read_text() == "*\n"
    mark.write_text("mine")
    make_snapshot_folder(Path(SNAP_DIR) / "two", 1)
    assert mark.read_text() == "mine"
