"""Looks at a process again and again: a row an interval, and a lane of snapshots that is bounded in files and bytes."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from leakharness.errors import UsageError
from leakharness.heap import v8
from leakharness.heap.snapshot_names import parse_name
from leakharness.live.history import Growth, Seen, growth, started
from leakharness.live.look import Look, look
from leakharness.live.process import resident_bytes, status_of
from leakharness.scratch import process_start

__all__ = ["Limits", "Tick", "watch"]

FAMILIES_SHOWN = 3


@dataclass(frozen=True)
class Limits:
    """``every`` seconds between looks, at most ``count`` of them (None: until the process ends), and what the lane may
    hold: ``keep`` snapshots and ``most_bytes`` in all. The first and the last always stay.
    """

    every: float
    count: int | None
    keep: int
    most_bytes: int


@dataclass(frozen=True)
class Tick:
    """One look: resident memory in bytes, what has grown since the look before, and who holds what grows fastest."""

    number: int
    time: float
    rss_bytes: int
    objects: int
    grown: tuple[Growth, ...]
    holder: str


def watch(pid: int, lane: Path, limits: Limits, *, wait: Callable[[int, float], None] | None = None) -> Iterator[Tick]:
    """Look at ``pid`` every so often until it ends. Raises UsageError where it cannot be looked at at all."""
    identity, number = started(pid), 0
    before: Seen | None = None
    while limits.count is None or number < limits.count:
        begin = time.monotonic()
        try:
            if started(pid) != identity:
                return
            found = look(pid)
        except UsageError:
            if number and not _is_alive(pid, identity):
                return
            raise
        number += 1
        now = time.time()
        grown = growth(found.families, before, now)
        before = Seen(now, {f.type: (f.count + f.untracked, f.shallow_bytes) for f in found.families})
        path = lane / time.strftime(f"Heap.%Y%m%d.%H%M%S.{pid}.0.{number:03d}.heapsnapshot", time.localtime(now))
        v8.write(found.graph, path)
        _prune(lane, pid, limits)
        yield Tick(
            number, now, resident_bytes(pid), found.objects, tuple(grown[:FAMILIES_SHOWN]), _holder(found, grown)
        )
        if limits.count is None or number < limits.count:
            (wait or _until_ended)(pid, max(0.0, limits.every - (time.monotonic() - begin)))


def _until_ended(pid: int, seconds: float) -> None:
    """Wait so long, or until the process has ended, where Linux tells that (5.3 and later)."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        time.sleep(seconds)
        return
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)


def _is_alive(pid: int, identity: int) -> bool:
    return process_start(pid) == identity and not status_of(pid).get("State", "Z").startswith("Z")


def _holder(found: Look, grown: list[Growth]) -> str:
    """The retainer sentence of the type of the program that grows fastest; empty where none does."""
    from leakharness.heap.wording import sentence

    own = {family.type for family in found.program_families()}
    fastest = next((row for row in grown if row.type in own and row.count_delta > 0), None)
    if fastest is None:
        return ""
    groups = found.retainers(found.nodes_of(fastest.type))
    return sentence(groups[0]) if groups else ""


def _prune(lane: Path, pid: int, limits: Limits) -> None:
    """Drop snapshots between the first and the last until the lane keeps its limits: every second one, oldest first."""
    while True:
        named = [
            (name.time, name.sequence, path)
            for path in lane.iterdir()
            if (name := parse_name(path)) and name.pid == pid
        ]
        paths = [path for *_, path in sorted(named)]
        size = sum(path.stat().st_size for path in paths)
        if len(paths) <= 2 or (len(paths) <= limits.keep and size <= limits.most_bytes):
            return
        for path in paths[1:-1:2]:
            path.unlink(missing_ok=True)
