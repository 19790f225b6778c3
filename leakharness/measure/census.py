"""Which types grow, from the counts of two readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leakharness.model import Family

LIBRARY = ("_asyncio.", "asyncio.", "collections.", "functools.", "weakref.")
"""Types of the standard library's machinery: a program's types say more about a leak."""
OWN_SHARE = 0.1
"""but not where they are rarer than this share of the most frequent type: they came by the way."""


def suspects(census: Sequence[tuple[int, Mapping[str, tuple[int, int]]]]) -> list[str]:
    """Types that came to stay: the program's before the built-in ones, where they are not much rarer than these;
    the most frequent first."""
    rows = families(census, top=50)
    least = OWN_SHARE * max((f.count_per_run for f in rows), default=0.0)
    own = [f.type for f in rows if _is_own(f.type) and f.count_per_run >= least]
    return own + [f.type for f in rows if f.type not in own]


def _is_own(name: str) -> bool:
    return "." in name and not name.startswith(LIBRARY)


def families(census: Sequence[tuple[int, Mapping[str, tuple[int, int]]]], top: int = 20) -> tuple[Family, ...]:
    """Types by how many more there are for every run, between the first census and the last."""
    if len(census) < 2:
        return ()
    (first_runs, first), (last_runs, last) = census[0], census[-1]
    runs = last_runs - first_runs
    if runs <= 0:
        return ()
    rows = []
    for name, (count, size) in last.items():
        more = count - first.get(name, (0, 0))[0]
        if more > 0:
            rows.append(Family(name, more / runs, size / max(1, count) * more / runs))
    return tuple(sorted(rows, key=lambda f: (-f.count_per_run, f.type))[:top])
