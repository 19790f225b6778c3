"""``functools.lru_cache`` on a method caches ``self``.

Why it leaks. The decorator runs once, when the class is made: there is one cache for all instances, and
``self`` is part of its key. Every instance that was ever asked is held by the cache, for as long as the class
lives. With ``maxsize=None`` (or ``functools.cache``) for ever; with a bound, the last so many instances,
whatever they weigh. Linters know it as B019.

The fix: a cache that belongs to the instance and dies with it: ``functools.cached_property``, or the function
at module level with only what it needs as arguments.
"""

from __future__ import annotations

from functools import cache, cached_property

from leakharness import Run, Scenario

scenario = Scenario("lru-cache-method", summary="a cache on a method keeps every instance in its keys")


class RowsInClassCache:
    """A report whose method is cached: the cache's key holds the report."""

    def __init__(self, size: int) -> None:
        self.rows = bytes(size)

    @cache  # noqa: B019
    def total(self) -> int:
        return len(self.rows)


class RowsInOwnCache:
    """The same report; what was computed is kept in the report."""

    def __init__(self, size: int) -> None:
        self.rows = bytes(size)

    @cached_property
    def total(self) -> int:
        return len(self.rows)


@scenario.mode("closure-extracted", must="PASS", default=True, abort="none")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: the cache is the instance's own."""
    report = run.track(RowsInOwnCache(run.scope_bytes))
    assert report.total == report.total


@scenario.mode("closure-inline", must="FAIL", abort="none")
def closure_inline(run: Run) -> None:
    """The shape before the fix: the cache is the class's."""
    report = run.track(RowsInClassCache(run.scope_bytes))
    assert report.total() == report.total()
