"""What no object of the heap holds, in words: lost references, and objects that hang on C code alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from leakharness.measure.measurement import Measurement
from leakharness.model import HeldByC
from leakharness.units import number
from leakharness.worker.protocol import UnownedReferences

if TYPE_CHECKING:
    from leakharness.heap.ingest import Capture

__all__ = ["lost_references"]

MOST_OBJECTS = 5
"""Objects that are named, the largest changes first."""
WORTH_NAMING = 0.1
"""Share of the largest change below which an object is left out: what C code holds by the way."""


def lost_references(measurement: Measurement, capture: Capture) -> tuple[HeldByC, ...]:
    """The objects of which more references every run are held by no object, or given away; where each of them is."""
    found = measurement.assessment
    growing = {row.counter for row in found.growth if row.grows} if found is not None else set()
    rows = [row for row in measurement.references.rows if ("references" if row.more > 0 else "given_away") in growing]
    if not rows or not measurement.runs:
        return ()
    least = WORTH_NAMING * max(abs(row.more) for row in rows)
    named = [row for row in rows if abs(row.more) >= least][:MOST_OBJECTS]
    return tuple(_lost(row, _place(row, capture), measurement.runs) for row in named)


def _lost(row: UnownedReferences, path: Sequence[str], runs: int) -> HeldByC:
    a_run = row.more / runs
    what = f"{_signed(a_run)} {'reference' if abs(a_run) == 1 else 'references'} a run to {_called(row, path)}"
    why = (
        "that no object holds: a C function does not give it back"
        if row.more > 0
        else "given away without being owned; it ends in a crash"
    )
    return HeldByC(row.type, a_run, 0, f"{what}{' ' if row.more > 0 else ': '}{why}", tuple(path))


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else f"−{number(-value)}"


def _called(row: UnownedReferences, path: Sequence[str]) -> str:
    """By where it is, as far as one can write it in code, and its type."""
    kind = row.type.rpartition(".")[2]
    if not path:
        return f"a {row.type} that no module leads to"
    place = path[-2] if len(path) > 1 else path[0]
    return place if place.endswith(f" ({kind})") else f"{place} ({kind})"


def _place(row: UnownedReferences, capture: Capture) -> list[str]:
    """The retainer path to the object; empty where the capture does not show it."""
    from leakharness.heap.retainers import explain

    nodes = np.flatnonzero(capture.graph.node_id == row.address)
    if not len(nodes):
        return []
    groups = explain(capture.graph, [int(nodes[0])])
    return list(groups[0].path) if groups else []
