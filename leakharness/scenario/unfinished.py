"""Places of a scenario file that ``leakharness new`` has left to its user."""

from __future__ import annotations

__all__ = ["FILL_IN", "marked_lines"]

FILL_IN = "FILL IN"
"""What marks a place of a scaffold that only its user can write."""


def marked_lines(text: str) -> list[int]:
    """Numbers of the lines with that mark."""
    return [number for number, line in enumerate(text.splitlines(), 1) if FILL_IN in line]
