"""When a watched service writes a snapshot of itself: a signal, its size, the clock, what is retained."""

from __future__ import annotations

import os
import signal as signals
import sys
import threading
import time
from typing import Any, NamedTuple

__all__ = ["When", "install", "snapshot", "uninstall"]

POLL_SECONDS = 1.0
QUIET_SECONDS = 30.0
"""At least so long between two snapshots that nobody asked for: writing one costs a core for seconds."""
LIMIT_STEP = 1.25
SNAPSHOT_SECONDS = 600.0
"""After that the copy that writes is killed."""
SUFFIX, FROM_OUTSIDE = ".heapcapture", ".heapsnapshot"
"""Names of files: what a copy of the process writes, and what is written from outside."""


class When(NamedTuple):
    """``rss_limit`` in bytes, ``every`` in seconds, ``threshold`` in objects; None: not for that."""

    rss_limit: int | None
    every: float | None
    threshold: int | None


class _Installed:
    def __init__(self, directory: str, keep: int) -> None:
        self.directory, self.keep = directory, keep
        self.sequence = 0
        self.writing = threading.Lock()
        self.ended = threading.Event()
        self.asked = threading.Event()
        self.signal: int | None = None
        self.before: Any = None


_installed: _Installed | None = None


def install(directory: str, signal: int | None, when: When, keep: int) -> None:
    """See :func:`leakharness.watch.install`."""
    global _installed
    uninstall()
    os.makedirs(directory, mode=0o700, exist_ok=True)
    new = _Installed(directory, max(1, keep))
    number = getattr(signals, "SIGUSR2", None) if signal == -1 else signal
    if number is not None:
        # The handler only sets a flag: what it interrupts may hold any lock.
        new.before = signals.signal(number, lambda *_: new.asked.set())
        new.signal = number
    _installed = new
    threading.Thread(target=_run, args=(new, when), name="leakharness-watch", daemon=True).start()


def uninstall() -> None:
    """See :func:`leakharness.watch.uninstall`."""
    global _installed
    old, _installed = _installed, None
    if old is None:
        return
    old.ended.set()
    old.asked.set()
    if old.signal is not None and threading.current_thread() is threading.main_thread():
        signals.signal(old.signal, old.before if old.before is not None else signals.SIG_DFL)


def snapshot(reason: str) -> str | None:
    """See :func:`leakharness.watch.snapshot`."""
    place = _installed
    if place is None or not place.writing.acquire(blocking=False):
        return None
    try:
        return _write(place, reason)
    finally:
        place.writing.release()


def _write(place: _Installed, reason: str) -> str | None:
    from leakharness import watch
    from leakharness.worker.capture.snapshot import snapshot as capture
    from leakharness.worker.fork import reap

    place.sequence += 1
    stamp = time.strftime("%Y%m%d.%H%M%S")
    stem = os.path.join(place.directory, f"Heap.{stamp}.{os.getpid()}.0.{place.sequence:03d}")
    if watch.read_from_outside and _from_outside(stem + FROM_OUTSIDE, reason):
        _prune(place)
        return stem + FROM_OUTSIDE
    path = stem + SUFFIX
    try:
        child = capture(path, targets=watch.targets)
        if child is not None:
            reap(child, SNAPSHOT_SECONDS)
    except Exception as error:  # a service must not fall for its snapshot
        print(f"leakharness.watch: no snapshot ({reason}): {error}", file=sys.stderr)
        return None
    _prune(place)
    if not os.path.exists(path):
        print(f"leakharness.watch: no snapshot ({reason}): the copy failed", file=sys.stderr)
        return None
    return path


def _from_outside(path: str, reason: str) -> bool:
    """Whether a process of its own has written the snapshot: this one runs on, and is not copied."""
    import subprocess

    if not sys.executable:
        return False
    command = [sys.executable, "-m", "leakharness.live.snapshot_process", str(os.getpid()), path]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": paths},
            timeout=SNAPSHOT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = str(error)
    else:
        if done.returncode == 0 and os.path.exists(path):
            return True
        why = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    print(f"leakharness.watch: not read from outside ({reason}), a copy writes instead: {why}", file=sys.stderr)
    return False


def _prune(place: _Installed) -> None:
    own = f".{os.getpid()}.0."
    names = sorted(
        name for name in os.listdir(place.directory) if name.endswith((SUFFIX, FROM_OUTSIDE)) and own in name
    )
    for name in names[: -place.keep]:
        try:
            os.unlink(os.path.join(place.directory, name))
        except OSError:
            pass


def _run(place: _Installed, when: When) -> None:
    """The thread: looks at the clock, the size and the retained objects once a second, and at once at the signal."""
    from leakharness import watch

    last = begin = time.monotonic()
    limit, seen = when.rss_limit, 0
    while not place.ended.is_set():
        asked = place.asked.wait(POLL_SECONDS)
        if place.ended.is_set():
            return
        now = time.monotonic()
        late = watch.counters()["retained"]
        quiet = now - last < QUIET_SECONDS and last != begin
        reason = None
        if asked:
            place.asked.clear()
            reason = "signal"
        elif quiet:
            continue
        elif limit is not None and _resident() > limit:
            reason, limit = "rss", int(limit * LIMIT_STEP)
        elif when.threshold is not None and late >= seen + when.threshold:
            reason = "retained"
        elif when.every is not None and now - last >= when.every:
            reason = "every"
        if reason is not None:
            last, seen = now, late
            snapshot(reason)


def _resident() -> int:
    """Resident memory in bytes; 0 where the platform does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
