"""Numbers and sizes as people read them: the only formatter of either in this package.

Sizes are binary throughout (IEC 80000-13): 1 KiB is 1,024 bytes, as in ``free`` and in the kernel's files under /proc,
so that a figure of ours and one of theirs can be compared. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "KIB",
    "MIB",
    "duration",
    "in_bytes",
    "mebibytes",
    "number",
    "seconds_of",
    "signed",
    "signed_mebibytes",
    "signed_size",
    "size",
    "sparkline",
]

KIB = 1024
MIB = 1024 * KIB
BARS = "▁▂▃▄▅▆▇█"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def number(value: float) -> str:
    """``0.0123``, ``3.5``, ``1,250``: three digits below a hundred, whole and with separators from there on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def signed(value: float) -> str:
    """`number` with a plus sign where something was gained."""
    return ("+" if value > 0 else "") + number(value)


def size(count: float) -> str:
    """``512 B``, ``1.5 KiB``, ``477 MiB``: ``count`` bytes in the unit that leaves fewer than 1,024 of it."""
    unit = 0
    while unit < len(UNITS) - 1 and abs(count) >= KIB - 0.5:  # what is shown is rounded: 1,023.6 B would be 1,024 B
        count /= KIB
        unit += 1
    return f"{number(count)} {UNITS[unit]}"


def signed_size(count: float) -> str:
    """`size` with a plus sign where something was gained."""
    return ("+" if count > 0 else "") + size(count)


def in_bytes(name: str) -> bool:
    """Whether a counter, or a figure that is called after one, is in bytes."""
    return name.endswith(("_bytes", "rss"))


def mebibytes(count: float) -> str:
    """``54.0MiB``: one unit and one decimal, for figures that stand in a column or are read by a script."""
    return f"{count / MIB:.1f}MiB"


def signed_mebibytes(count: float) -> str:
    """`mebibytes` of a change, always with a sign."""
    return f"{count / MIB:+.1f}MiB"


DURATION_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float | None:
    """Seconds of a duration: ``30s``, ``1.5m``, ``2h``, ``1d``, or a bare number of seconds.

    None for anything else, and for what is not above zero.
    """
    unit = DURATION_UNITS.get(text[-1:])
    try:
        value = float(text[:-1] if unit is not None else text) * (unit or 1.0)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def duration(seconds: float) -> str:
    """``45 s``, ``10 min``, ``2 h 5 min``: rounded to what a person would say."""
    whole = round(seconds)
    if whole < 60:
        return f"{number(seconds)} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{round(whole / 60)} min"
    hours, rest = divmod(round(whole / 60), 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"


def sparkline(values: Sequence[float]) -> str:
    """One bar a value, from the lowest to the highest of them."""
    low, high = min(values, default=0), max(values, default=0)
    span = (high - low) or 1
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)
