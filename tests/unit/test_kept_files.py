"""What stays of reports and snapshots: the latest, where nobody named a folder, and nothing is deleted elsewhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from leakharness.store import SNAP_DIR, keep_latest, make_snapshot_folder


def report(folder: Path, name: str, minute: int) -> Path:
    """A report of ``name``, written in that minute."""
    place = folder / f"{name}-20260101-00{minute:02}00"
    place.mkdir(parents=True)
    (place / "run.json").write_text("{}")
    os.utime(place, (minute, minute))
    return place


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def written(folder: Path, name: str, count: int, keep: int) -> None:
    for minute in range(count):
        keep_latest(report(folder, name, minute), keep)


def test_the_latest_of_each_kind_stay(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    written(folder, "case-production", 5, keep=2)
    written(folder, "case-certificate", 1, keep=2)
    assert names(folder) == [
        "case-certificate-20260101-000000",
        "case-production-20260101-000300",
        "case-production-20260101-000400",
    ]


@pytest.mark.parametrize("keep", [0, 9])
def test_all_stay_where_that_is_asked_for(keep: int, tmp_path: Path) -> None:
    written(tmp_path / "reports", "case", 5, keep)
    assert len(names(tmp_path / "reports")) == 5


def test_a_folder_that_was_there_is_its_owners(tmp_path: Path) -> None:
    """With reports of before in it, which may be committed: nothing goes, and git sees them."""
    folder = tmp_path / "reports"
    report(folder, "case", 59)
    written(folder, "case", 5, keep=2)
    assert len(names(folder)) == 6
    assert not (folder / ".gitignore").exists()


def test_without_the_file_that_says_so_nothing_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    written(folder, "case", 2, keep=2)
    (folder / ".gitignore").write_text("*\n")  # the owner's own
    for minute in range(2, 5):
        keep_latest(report(folder, "case", minute), 2)
    assert len(names(folder)) == 5


def test_git_sees_the_files_that_are_no_reports(tmp_path: Path) -> None:
    """A manifest of hotspots lies in that folder, too, and is committed."""
    written(tmp_path / "reports", "case", 1, keep=2)
    (tmp_path / "reports" / "hotspots.json").write_text("{}")
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    seen = subprocess.run([*git, "status", "--porcelain", "-uall"], capture_output=True, text=True, check=True)
    assert seen.stdout.split() == ["??", "reports/hotspots.json"]


def snapshot(folder: Path, label: str, pid: int, minute: int) -> None:
    (folder / f"{label}-{pid}-20260101T00{minute:02}00Z.heapsnapshot").touch()


@pytest.mark.parametrize(("keep", "left"), [(2, {"11", "12"}), (0, {"10", "11", "12"})])
def test_snapshots_of_the_latest_measurements_stay(
    keep: int, left: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of one measurement together, by when its last was written; what has another name stays."""
    monkeypatch.chdir(tmp_path)
    for place in (Path(SNAP_DIR) / "case", tmp_path / "named"):
        place.mkdir(parents=True)
        for pid, minute in ((12, 4), (10, 1), (11, 3)):
            snapshot(place, "baseline", pid, minute)
            snapshot(place, "batch-1", pid, minute + 1)
        (place / "mine.heapsnapshot").touch()
        make_snapshot_folder(place, keep)
    found = {
        path.name.split("-")[-2] for path in (Path(SNAP_DIR) / "case").iterdir() if path.name != "mine.heapsnapshot"
    }
    assert found == left
    assert (Path(SNAP_DIR) / "case" / "mine.heapsnapshot").exists()
    assert len(list((tmp_path / "named").iterdir())) == 7
