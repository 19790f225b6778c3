"""The only writer of reports/ and of the snapshot folders. Everything is written aside and renamed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from leakharness.errors import UsageError
from leakharness.model import Certificate, RunResult
from leakharness.printable import encodable

SNAP_DIR = ".tmp/leakharness"
"""Where snapshots go that nobody named a place for, a folder for each scenario."""

__all__ = [
    "SNAP_DIR",
    "keep_latest",
    "make_snapshot_folder",
    "new_folder",
    "snapshot_path",
    "write_atomically",
    "write_certificate",
    "write_report",
]

OURS = "# leakharness keeps the latest reports here and hides them from git: delete this file to keep them all\n"
"""The first line of the file that says so."""
STAMPED = re.compile(r"(.+)-\d{8}-\d{6}(-\d+)?")
"""The name of a report's folder: what it is of, and when it was written."""
SNAPSHOT = re.compile(r".+-(\d+)-(\d{8}T\d{6}Z)\.heapsnapshot")
DRAW_SECONDS = 20.0
"""How long graphviz may take for a picture."""
PRIVATE = 0o600
"""Reports and snapshots name the types, attributes and files of a program: for their owner only."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary name beside ``path`` and rename it: never half a file. Raises UsageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as exc:
        raise UsageError(f"{path}: cannot be written: {exc.strerror or exc}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, PRIVATE)
        os.replace(name, path)
    except OSError as exc:
        raise UsageError(f"{path}: cannot be written: {exc.strerror or exc}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def write_report(result: RunResult, folder: Path) -> Path:
    """``run.json`` and ``report.md`` in a new folder of ``folder``. Returns the new folder. Raises UsageError."""
    from leakharness.report.document import to_json
    from leakharness.report.markdown import run_report

    with new_folder(folder, f"{result.scenario}-{result.mode}") as place:
        write_atomically(place / "run.json", to_json(result.document(), indent=True))
        write_atomically(place / "report.md", encodable(run_report(result)).encode())
        if result.backrefs_dot:
            write_atomically(place / "backrefs.dot", encodable(result.backrefs_dot).encode())
            _draw(place / "backrefs.dot")
    return place


def write_certificate(certificate: Certificate, document: Mapping[str, Any], folder: Path) -> Path:
    """``certificate.json`` (the sealed ``document``) and ``report.md`` in a new folder, which it returns. Raises
    UsageError."""
    from leakharness.report.document import to_json
    from leakharness.report.markdown import certificate_report

    with new_folder(folder, f"{certificate.scenario}-certificate") as place:
        write_atomically(place / "certificate.json", to_json(document, indent=True))
        write_atomically(place / "report.md", encodable(certificate_report(certificate)).encode())
    return place


def make_snapshot_folder(folder: Path, keep: int) -> None:
    """Make ``folder`` for one more measurement's snapshots. Where it lies in the default place, that place hides itself
    from git, and the snapshots of ``keep`` measurements stay (0: all): they are large, and nobody asked for that
    folder. One that was named is its owner's."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = Path.cwd() / SNAP_DIR / ".gitignore"
    if not folder.resolve().is_relative_to(mark.parent.resolve()):
        return
    if not mark.exists():
        write_atomically(mark, b"*\n")
    latest: dict[str, str] = {}
    found = [(match[1], match[2], path) for path in folder.iterdir() if (match := SNAPSHOT.fullmatch(path.name))]
    for pid, stamp, _ in found:
        latest[pid] = max(stamp, latest.get(pid, ""))
    gone = set(sorted(latest, key=latest.__getitem__)[: max(0, len(latest) - keep)]) if keep else set()
    for pid, _, path in found:
        if pid in gone:
            with contextlib.suppress(OSError):  # another measurement may tidy up as well
                path.unlink()


def keep_latest(place: Path, keep: int) -> None:
    """Of the reports beside ``place``, which has just been written, keep the ``keep`` latest of the same scenario and
    kind (0: all). Only in a folder that was made for the first of them: a file there hides them from git then, and
    without that file nothing is ever deleted."""
    folder = place.parent
    mark = folder / ".gitignore"
    with contextlib.suppress(OSError, UsageError):
        if not mark.exists() and [path.name for path in folder.iterdir()] == [place.name]:
            write_atomically(mark, f"{OURS}/*/\n/.gitignore\n".encode())
        this = STAMPED.fullmatch(place.name)
        if this is None or not keep or not mark.read_text(encoding="utf-8").startswith(OURS):
            return
        alike = [path for path in folder.iterdir() if (match := STAMPED.fullmatch(path.name)) and match[1] == this[1]]
        alike.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        for path in alike[: max(0, len(alike) - keep)]:
            shutil.rmtree(path, ignore_errors=True)


def snapshot_path(folder: Path, label: str, pid: int) -> Path:
    """``LABEL-PID-TIME.heapsnapshot``; TIME is UTC to the second, and sorts."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return folder / f"{label}-{pid}-{stamp}.heapsnapshot"


def _draw(dot: Path) -> None:
    """Draw ``dot`` as svg beside it, where graphviz is installed."""
    program = shutil.which("dot")
    if program is None:
        return
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [program, "-Tsvg", str(dot), "-o", str(dot.with_suffix(".svg"))], timeout=DRAW_SECONDS, check=False
        )


@contextlib.contextmanager
def new_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder in ``parent`` to write a report into. Where that fails, nothing of it is left."""
    was_there = parent.is_dir()
    place = None
    try:
        place = _made_folder(parent, name)
        yield place
    except BaseException:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _made_folder(parent: Path, name: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    base = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    for attempt in range(1000):
        place = parent / (f"{base}-{stamp}" + (f"-{attempt}" if attempt else ""))
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as exc:
            raise UsageError(f"--report-dir {parent}: {exc.strerror or exc}") from None
        return place
    raise UsageError(f"--report-dir {parent}: too many reports of {base} in one second")
