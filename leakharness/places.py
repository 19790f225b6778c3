"""How the steps of a retainer path name the place of a function. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["functions_in"]

FUNCTION = re.compile(r"([\w.<>]+) \(([^()]+\.py):(\d{1,7})\)")
"""As in ``on_settled (scenarios/embedded_run.py:97) closure cell 'transcript'``."""


def functions_in(steps: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """(name, file, line) of each function that these steps of paths name, in their order."""
    for step in steps:
        for name, file, line in FUNCTION.findall(step):
            yield name, file, int(line)
