"""Folders for a while in TMPDIR, and the ones of processes that could not remove theirs.

A process that is killed by SIGKILL leaves its folder, with raw captures of hundreds of MiB. The folder's name says
whose it is: the machine and PID namespace, the PID, and when that process started, so that a PID that is used again is
not taken for its owner. The next process that makes a folder removes those without one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from leakharness.errors import UsageError

__all__ = ["process_start", "remove_orphans", "scratch", "scratch_folder"]

NAME = re.compile(r"leakharness-(?P<place>[0-9a-f]{8})-(?P<pid>[0-9]{1,10})-(?P<started>[0-9]{1,20})-\w+")
MOST_REMOVED = 64
"""Folders removed by one process, so that a full TMPDIR does not delay its measurement for minutes."""
START_FIELD = 19
"""Place of ``starttime`` among the fields of /proc/PID/stat behind the command's name (proc(5): field 22 of all)."""


def scratch_folder() -> Path:
    """A new folder for this user alone, which the caller removes. Raises UsageError where there can be none."""
    try:
        _remove_orphans_once()
        started = process_start(os.getpid()) or 0
        return Path(tempfile.mkdtemp(prefix=f"leakharness-{_place()}-{os.getpid()}-{started}-"))
    except OSError as exc:
        raise UsageError(f"no temporary folder can be made: {exc}; set TMPDIR to a folder with room") from None


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """:func:`scratch_folder`, removed at the end."""
    folder = scratch_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_orphans(parent: Path) -> int:
    """Remove the folders in ``parent`` that :func:`scratch_folder` of this user made here and whose owner has ended;
    returns how many. Follows no symbolic link. What cannot be removed stays."""
    removed = 0
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            found = NAME.fullmatch(entry.name)
            if found is None or found["place"] != _place() or removed == MOST_REMOVED:
                continue
            with contextlib.suppress(OSError):
                is_ours = entry.is_dir(follow_symlinks=False) and _owner(entry) == _user()
                if is_ours and not _lives(int(found["pid"]), int(found["started"])):
                    shutil.rmtree(entry.path, ignore_errors=True)
                    removed += 1
    return removed


@cache
def _remove_orphans_once() -> None:
    remove_orphans(Path(tempfile.gettempdir()))


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _owner(entry: os.DirEntry[str]) -> int:
    return entry.stat(follow_symlinks=False).st_uid


def _lives(pid: int, started: int) -> bool:
    """Whether the process that had this PID, and started then, is still there."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's: the PID is used again, but that it was ever ours is not certain
        return True
    now = process_start(pid)
    return started == 0 or now is None or now == started


def process_start(pid: int) -> int | None:
    """Clock ticks from the machine's start to the process's; None where /proc does not tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[START_FIELD])
    except (OSError, ValueError, IndexError):
        return None


@cache
def _place() -> str:
    """This machine since its start, and the PID namespace: a PID means something only in there, and TMPDIR may be
    shared with other containers and machines."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]
