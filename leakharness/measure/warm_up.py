"""When a warm-up is over: the counters stand still, or grow evenly past the usual bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from leakharness.model import Reading

WARM_UP_SIZES = (1, 4, 5, 10, 20, 40, 50)
"""Runs between two looks during warm-up; the last size repeats."""
WARM_UP_RUNS = 600
"""Runs of a full warm-up: more than the 512 entries at which rings of recent errors and regex caches are bounded."""
WARM_UP_RUNS_310 = 1_100
"""The same for CPython 3.10, which gives each function caches of its own (two blocks) at its 1,024th call
(Python/ceval.c, OPCACHE_MIN_RUNS): after fewer runs they would come in the middle of the measurement."""
OPCODE_CACHES = f"on 3.10 functions get caches at their 1,024th call: use --warmup {WARM_UP_RUNS_310}"
COUNTED_RUNS = 300
"""Runs that are made before the time counts: whatever counts them has then passed 256, from where on CPython gives each
number a block of its own (a rise of one or two blocks that comes once)."""
WARM_UP_SECONDS = 0.3
"""Time of a full warm-up where runs are slow."""
WARM_UP_RUNS_LIMIT = 2_500
WARM_UP_SECONDS_LIMIT = 1.2
"""Budget of a warm-up whose counters have not come to rest, and do not simply grow by the same every run."""
LINEAR_SECONDS = 0.4
LINEAR_MEMORY_BYTES = 64 * 2**20
"""Growth by the same every run is a leak, or a cache of the program that is not full yet and shows no bound:
most have 2,048 entries at the most. It is followed that far where that is cheap."""
WARM_UP_MEMORY_BYTES = 512 * 2**20
WARM_UP_OBJECTS = 100_000
"""A warm-up that leaves this much behind ends: it is leaking, and the machine is not ours to fill."""
LINEAR = 0.02
"""Relative difference between two paces that counts as the same pace."""


def _sizes() -> Iterator[int]:
    yield from WARM_UP_SIZES
    while True:
        yield WARM_UP_SIZES[-1]


def _exact(reading: Reading) -> list[int]:
    names = ("tracked", "fds", "threads", "children", "tasks", "objects", "blocks")
    return [reading.counters[name] - reading.declared.get(name, 0) for name in names if name in reading.counters]


def _at_rest(warm_up: Sequence[Reading]) -> bool:
    """Whether nothing exact rose over the last two looks."""
    if len(warm_up) < 3:
        return False
    before, now = _exact(warm_up[-3]), _exact(warm_up[-1])
    return all(b <= a for a, b in zip(before, now, strict=False))


def _linear(warm_up: Sequence[Reading]) -> bool:
    """Whether what still rises does so at one pace, over the last three looks: waiting would change nothing."""
    if len(warm_up) < 4:
        return False
    last = warm_up[-4:]
    steps = [
        [(b - a) / (two.runs - one.runs) for a, b in zip(_exact(one), _exact(two), strict=False)]
        for one, two in itertools.pairwise(last)
    ]
    return all(max(paces) - min(paces) <= LINEAR * max(1.0, *map(abs, paces)) for paces in zip(*steps, strict=False))
