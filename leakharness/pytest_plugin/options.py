"""The plugin's options: names, ini keys, defaults, and how one is looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    pass

__all__ = ["setting"]

MARKER = (
    "leakcheck(iters=, batches=, warmup=, max_runs=, max_seconds=, timeout=, fresh_fixtures=False, process=): the body "
    "of this test is run many times and must leave nothing behind (leakharness)."
)

SWITCHES: tuple[tuple[str, str, str], ...] = (
    ("--leakcheck", "leak_check", "check every selected test for leaks: its unmodified body is the run"),
)
VALUES: tuple[tuple[str, str, Any, str, str], ...] = (
    ("--leak-iters", "leak_iters", int, "N", "runs a batch [50]"),
    ("--leak-batches", "leak_batches", int, "N", "batches before the judge is asked [5]"),
    ("--leak-max-seconds", "leak_max_seconds", float, "S", "budget of an unclear test, in seconds [20]"),
    ("--leak-timeout", "leak_timeout", float, "S", "one check may take that long, in seconds [300]"),
    (
        "--leak-process",
        "leak_process",
        str,
        "HOW",
        "where test bodies are measured: here, or in a forked copy [auto: fork under xdist, else here]",
    ),
    ("--leak-target", "leak_target", str, "MODULE:ATTR", "what the production mode of scenarios imports"),
    ("--leak-snapshots", "leak_snapshots", str, "DIR", "every worker writes heap snapshots to DIR/LANE/"),
    ("--leak-snapshot-interval", "leak_snapshot_interval", float, "SECONDS", "time between two of them [30]"),
    ("--leak-isolate", "leak_isolate", str, "MANIFEST", "run the files of this manifest in processes of their own"),
)
"""(flag, ini key, type, metavar, help) of every option that takes a value."""


def setting(config: pytest.Config, key: str) -> Any:
    """The option ``key``: command line, else ini; None where neither says anything.

    Raises pytest.UsageError where the ini file's value is of the wrong type.
    """
    value = config.getoption(key, None)
    if value is not None:
        return value
    value = config.getini(key)
    if value in (None, "", False):
        return None
    kind = next((kind for _, name, kind, _, _ in VALUES if name == key), None)
    if kind is None or kind is str:
        return value
    try:
        return kind(value)
    except ValueError:
        raise pytest.UsageError(f"ini option {key} = {value!r}: a number is needed") from None
