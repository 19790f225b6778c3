"""From raw captures to proof: heap snapshots on disk, and who holds what is retained.

This is the edge between the measured process, which writes raw captures, and the pure heap analysis.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakharness.errors import LeakHarnessError
from leakharness.model import Reading, Retainer
from leakharness.runner import Asker, Evidence, Measurement, suspects
from leakharness.store import snapshot_path

if TYPE_CHECKING:
    from leakharness.heap.ingest import Capture

__all__ = ["Snapshots", "retainers_of"]

CAPTURE_TIMEOUT_S = 120.0
"""How long a forked copy may take to write one capture."""
POLL_S = 0.005


class Snapshots:
    """Takes snapshots of a measured process, and turns them into files and retainers, beside the measurement.

    ``folder`` None keeps no file: the one capture that explains a FAIL is then analysed and thrown away.
    """

    def __init__(self, folder: Path | None, *, always: bool) -> None:
        self._folder = folder
        self._always = always and folder is not None
        self._raw = Path(tempfile.mkdtemp(prefix="leakharness-"))
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._written: list[Future[str | None]] = []
        self._last: tuple[str, Path] | None = None
        self._lock = threading.Lock()
        self.problems: list[str] = []

    def reading(self, worker: Asker, reading: Reading) -> None:
        """Called after each reading: take the baseline's and each batch's snapshot, if they are wanted."""
        if self._always:
            self._take(worker, reading.label, [])

    def suspected(self, worker: Asker, measurement: Measurement) -> None:
        """Called when growth is found, before it is confirmed: this is the heap to explain."""
        if not (self._always and self._last is not None and measurement.tracked):
            self._take(worker, measurement.readings[-1].label, suspects(measurement.census))

    def explain(self, measurement: Measurement) -> Evidence:
        """All retained tracked objects (or the fastest growing family) and what holds them."""
        assert self._last is not None
        label, raw = self._last
        try:
            capture = self._capture(raw)
            if self._folder is not None and not self._always:
                self._written.append(
                    self._pool.submit(self._write, raw, label, measurement.hello.get("pid", 0), capture)
                )
            changes: dict[str, Any] = {"retainers": retainers_of(capture)}
        except (LeakHarnessError, ImportError) as exc:
            self.problems.append(f"no retainers: {exc}")
            return Evidence()
        changes.update(_classified(measurement, capture))
        return Evidence(changes)

    def files(self) -> tuple[str, ...]:
        """Wait for the snapshot files; their paths, oldest first."""
        paths = []
        for job in self._written:
            try:
                path = job.result()
            except LeakHarnessError as exc:
                self.problems.append(str(exc))
                continue
            if path is not None:
                paths.append(path)
        self._written.clear()
        return tuple(paths)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._raw, ignore_errors=True)

    @contextlib.contextmanager
    def closing(self) -> Iterator[Snapshots]:
        try:
            yield self
        finally:
            self.close()

    def _take(self, worker: Asker, label: str, types: list[str]) -> None:
        raw = self._raw / f"{label}-{time.monotonic_ns()}.capture"
        worker.ask("snapshot", str(raw), types, doing=f"forking the snapshot of {label}")
        self._last = (label, raw)
        if self._always:
            self._written.append(self._pool.submit(self._write, raw, label, worker.pid, None))

    def _capture(self, raw: Path) -> Capture:
        from leakharness.heap.ingest import load_capture

        _wait_for(raw)
        with self._lock:
            return load_capture(raw)

    def _write(self, raw: Path, label: str, pid: int, capture: Capture | None) -> str | None:
        from leakharness.heap import v8

        assert self._folder is not None
        if capture is None:
            capture = self._capture(raw)
        path = snapshot_path(self._folder, label, pid)
        path.parent.mkdir(parents=True, exist_ok=True)
        v8.write(capture.graph, path)
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def retainers_of(capture: Capture) -> tuple[Retainer, ...]:
    """Every target of the capture, grouped by the way it is held."""
    from leakharness.heap.explain import explain, sentence

    groups = explain(capture.graph, capture.targets, capture.labels)
    return tuple(
        Retainer(
            target=group.target,
            count=group.count,
            retained_bytes=group.retained_bytes,
            path=tuple(group.path),
            fingerprint=group.fingerprint,
            sentence=sentence(group),
            also=tuple(group.also_held_by),
        )
        for group in groups
    )


def _classified(measurement: Measurement, capture: Capture) -> Mapping[str, Any]:
    return {}


def _wait_for(raw: Path) -> None:
    """Wait until the forked copy has written its capture. Raises LeakHarnessError where it could not."""
    error = raw.with_name(raw.name + ".error")
    end = time.monotonic() + CAPTURE_TIMEOUT_S
    while not raw.exists():
        if error.exists():
            raise LeakHarnessError(f"the snapshot failed: {error.read_text(errors='replace').strip()}")
        if time.monotonic() > end:
            raise LeakHarnessError(f"the snapshot was not written within {CAPTURE_TIMEOUT_S:g} s")
        time.sleep(POLL_S)
