"""The process that `leakharness.watch` starts to write a snapshot of its service, which it reads from outside.

usage: python -m leakharness.live.snapshot_process PID FILE    exit code 2 and one line where it cannot
"""

from __future__ import annotations

import contextlib
import os
import sys

from leakharness.errors import LeakHarnessError, UsageError
from leakharness.heap import v8
from leakharness.live.doctor import room
from leakharness.live.look import look

__all__ = ["main"]

BEHIND = 10
"""Added to its niceness: the service goes first."""


def main(pid: int, path: str) -> int:
    """Look at ``pid`` and write what was found to ``path``; the exit code."""
    with contextlib.suppress(OSError):
        os.nice(BEHIND)
    try:
        enough = room(pid)
        if enough.works is False:
            raise UsageError(enough.text)
        v8.write(look(pid).graph, path)
    except LeakHarnessError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
