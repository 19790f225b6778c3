"""Watch the ends of objects' lives in a service: what should have died and has not is counted, and shown in snapshots.

For those who can change the service. Standard library only; nothing else of this package is imported until a snapshot
is written.

    from leakharness import watch

    watch.install("/var/tmp/heaps", rss_limit=1 << 30)
    ...
    watch.watch(session, "closed session")     # at the end of its life: it should die now
    watch.retained()                           # {"closed session": 3}: alive after the grace period
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter
from typing import Any

__all__ = [
    "GRACE_SECONDS",
    "allow_attach",
    "counters",
    "gauges",
    "install",
    "retained",
    "snapshot",
    "uninstall",
    "watch",
]

GRACE_SECONDS = 5.0
"""How long a watched object may live on before it counts as retained: a collection, a last callback, a retry."""


_Entry = tuple["weakref.ref[Any]", float, str]
"""(reference, end of its grace period by the monotonic clock, label)."""
_entries: list[_Entry] = []
_clock = time.monotonic
_sweeping = threading.Lock()
_SWEEP = 4096
"""Entries from which on the dead ones are dropped, and so many more each time: a callback at each object's death would
cost as much again as watching it."""
_watched = 0
read_from_outside = False
"""Whether `allow_attach` was called for any process: then snapshots are written from outside."""
_sweep_at = _SWEEP


def watch(obj: Any, label: str = "", grace: float = GRACE_SECONDS) -> None:
    """Say that ``obj`` is at the end of its life. Alive after ``grace`` seconds, it counts as retained under ``label``.

    Keeps no reference to it and calls nothing of it. Raises TypeError for what cannot be weakly referenced.
    """
    _entries.append((weakref.ref(obj), _clock() + grace, label))
    if len(_entries) > _sweep_at:
        _sweep()


def _sweep() -> None:
    """Drop what has died. Others may append meanwhile; whoever comes while one sweeps goes on without."""
    global _watched, _sweep_at
    if not _sweeping.acquire(blocking=False):
        return
    try:
        count = len(_entries)
        alive = [entry for entry in _entries[:count] if entry[0]() is not None]
        _entries[:count] = alive
        _watched += count - len(alive)
        _sweep_at = 2 * len(alive) + _SWEEP
    finally:
        _sweeping.release()


def retained() -> dict[str, int]:
    """Objects alive after their grace period, by label. What is garbage in a cycle counts until it is collected."""
    return dict(Counter(label for _, _, label in _overdue()))


def counters() -> dict[str, int]:
    """Plain figures for a metrics page: watched in all, waiting for their end, retained."""
    late = len(_overdue())
    return {"watched": _watched + len(_entries), "waiting": len(_entries) - late, "retained": late}


def _overdue() -> list[_Entry]:
    _sweep()
    now = _clock()
    return [entry for entry in list(_entries) if entry[1] < now and entry[0]() is not None]


def targets() -> list[tuple[Any, str]]:
    """(object, label) of what is retained: for a snapshot."""
    found = [(reference(), label) for reference, _, label in _overdue()]
    return [(obj, label or type(obj).__qualname__) for obj, label in found if obj is not None]


def allow_attach(pid: int | None = None) -> bool:
    """Let another process (of the same user; ``pid``, or any) read this one where the kernel restricts that (Yama).

    Then ``leakharness live look`` works from outside, and the triggers of `install` start a process that writes the
    snapshot from there (without ``pid``): the service is neither stopped nor forked, and its memory is not doubled.
    Where that process cannot read it, a forked copy writes as before. Returns whether the kernel knows the request
    (prctl(2), PR_SET_PTRACER); without Yama nothing has to be allowed, and elsewhere than on Linux it is False, too.
    """
    global read_from_outside
    import ctypes
    import sys

    read_from_outside = pid is None
    if not sys.platform.startswith("linux"):
        return False
    request, anyone = 0x59616D61, ctypes.c_ulong(-1).value
    return bool(ctypes.CDLL(None).prctl(request, ctypes.c_ulong(anyone if pid is None else pid), 0, 0, 0) == 0)


def gauges() -> list[str]:
    """Offer ``leakharness_retained{label}`` to prometheus_client and opentelemetry; the names of those installed."""
    from leakharness.watch import metrics

    return metrics.register(retained)


def install(
    directory: str | os.PathLike[str],
    *,
    signal: int | None = -1,
    rss_limit: int | None = None,
    every: float | None = None,
    threshold: int | None = None,
    keep: int = 3,
) -> None:
    """Write a snapshot into ``directory`` when it is time for one.

    At ``signal`` (SIGUSR2; None for none; only in the main thread), when resident memory passes ``rss_limit`` bytes
    (then a quarter more each time), ``every`` so many seconds, and when ``threshold`` more objects are retained than at
    the snapshot before. The newest ``keep`` stay. A snapshot is written by a forked copy; the service stands still for
    the fork alone. After `allow_attach` a process of its own reads the service from outside: nothing stands still.

    Raises OSError where the directory cannot be made, ValueError where the signal is set outside the main thread.
    """
    from leakharness.watch import triggers

    triggers.install(os.fspath(directory), signal, triggers.When(rss_limit, every, threshold), keep)


def uninstall() -> None:
    """Undo `install`: the signal's handler is the one before, the thread ends. Watched objects stay watched."""
    from leakharness.watch import triggers

    triggers.uninstall()


def snapshot(reason: str = "asked") -> str | None:
    """Write a snapshot now, into the directory of `install`. Returns its path; None while one is being written, or
    without a directory."""
    from leakharness.watch import triggers

    return triggers.snapshot(reason)
