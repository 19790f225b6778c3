"""Rows of a session's checks: by what a leak is known again."""

from __future__ import annotations

import pytest

from leakharness.pytest_plugin.rows import SMALL_BYTES, row_from


def counters_of(**per_run: float) -> list[str]:
    growth = [{"counter": name, "per_run": figure, "grows": True} for name, figure in per_run.items()]
    growth.append({"counter": "fds", "per_run": 0.0, "grows": False})
    return list(row_from("test_it", "FAIL", {"growth": growth}, 1.0).counters)


@pytest.mark.parametrize("name", ["malloc_bytes", "mapped_bytes", "rss"])
def test_bytes_that_follow_entries_are_not_what_a_leak_is_known_by(name: str) -> None:
    """A list's buffer grows in steps; more than that, or bytes alone, are a finding of their own."""
    assert counters_of(entries=1.0, **{name: SMALL_BYTES - 1.0}) == ["entries"]
    assert counters_of(entries=1.0, **{name: float(SMALL_BYTES)}) == ["entries", name]
    assert counters_of(**{name: 8.0}) == [name]
