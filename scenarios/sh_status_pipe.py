"""A pipe of which one end is never closed: sh 1.12.2.

Why it leaks. Every command that ``sh`` starts gets a pipe through which the child tells its session id; the
parent reads the number and goes on. The reading end was never closed. A descriptor that is a bare number
belongs to no object: no collection closes it and no heap snapshot shows it. After a thousand commands the
process is out of descriptors (``EMFILE``), far away from the code that lost them.

The fix (sh 1.12.3, amoffat/sh #337): close the end that was read. Wrapping it in a file object and a ``with``
block makes it impossible to forget.

Real code::

    leakharness prove sh-status-pipe --before sh==1.12.2 --after sh==1.12.3 --target sh:Command
"""

from __future__ import annotations

import os
from typing import Any

from leakharness import Run, Scenario

# Few warm-up runs: the runs before the baseline lose descriptors too, and there are not many.
scenario = Scenario("sh-status-pipe", summary="one end of a pipe a command stays open", warmup=20)


def session_of_child(write_end: int) -> None:
    """The child's part: it tells its number, and its end is closed with it."""
    os.write(write_end, b"4711")
    os.close(write_end)


@scenario.setup
def serve(run: Run) -> None:
    """For ``production``: the installed sh."""
    global true
    if run.mode == "production":
        true = run.target()("true")


true: Any = None


@scenario.mode("closure-extracted", must="PASS", default=True, abort="none")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: what was opened is closed by the same block."""
    read_end, write_end = os.pipe()
    session_of_child(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        int(pipe.read())


@scenario.mode("closure-inline", must="FAIL", abort="none")
def closure_inline(run: Run) -> None:
    """The shape before the fix: the number is read, and its end forgotten."""
    read_end, write_end = os.pipe()
    session_of_child(write_end)
    int(os.read(read_end, 80))


@scenario.mode("production", must="PASS", abort="none", needs={"sh": "pip install sh"}, needs_target=True)
def production(run: Run) -> None:
    """The installed sh: one command."""
    true()
