"""The results of a proof, one by one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["arms_of_proof"]

Document = Mapping[str, Any]


def arms_of_proof(proof: Document) -> list[tuple[str, Document]]:
    """All results of a proof, each with what it stands for: ``before 1`` where a side was measured more than once."""
    rows = [
        (f"{side} {at}" if len(proof[side]["arms"]) > 1 else side, arm)
        for side in ("before", "after")
        for at, arm in enumerate(proof[side]["arms"], 1)
    ]
    return [*rows, *(("control", arm) for arm in proof["controls"])]
