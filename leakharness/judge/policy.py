"""The numbers and rules that decide a verdict, each with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RULES", "Rule"]

SEGMENTS = 5
"""Equal stretches of the series, each of which must leave something behind. Five in a row by chance, for a floor
that only wobbles: (4/21)(4/17)(4/13)(4/9)(1) of 20 readings, under one in a hundred, before any other test."""
FLAT_TAIL = 0.5
"""Share of the series, at its end, that must be flat before a series that rose earlier is called steady,"""
FLAT_GAPS = 3.0
"""and how many times the mean distance of the rises before: a leak that strikes at random pauses so long by chance
once in twenty times,"""
FLAT_BATCHES = 30
"""but this many batches without a rise are enough in any case."""
FADING = 0.8
"""Share of the warm-up's pace, or of the first half's, below which a rise fades: a cache that fills, not a leak."""
WIDEST = 0.8
"""Runs measured over the time constant of a store that fills with keys at random, from which on such a store is a
plausible explanation of an uneven rise: the last two fifths of it then rise by 62 % (exp(-0.6 x 0.8)) of the first
two, and 55 % (1 - exp(-0.8)) of all its keys have been seen. A larger store is out of sight of any measurement."""
SLOWS = 1.5
"""Standard errors by which a rise must slow to be called slowing: half of that happens to a leak at random too often
(one look in three), twice as much lets a store of 3,000 keys pass for a leak after 30 batches."""
SLIGHT = 0.05
"""Runs measured over the time constant below which a slow-down says nothing: a store of more than twenty times the
runs is larger than any plausible one, and a few objects that come late in one reading look like it."""
SURE = 2.5
"""Standard errors by which a plausible store must be excluded: one look in 160 gets it wrong by chance."""
UNEVEN_BATCHES = 30
"""A leak adds the same in every batch. What rises unevenly may as well be a cache whose keys come at random, and
that slows too little to be seen in a short series: it is called a leak after this many batches at the earliest."""
EVEN = 0.01
"""Relative difference of two batches' rises that still counts as the same: table growth, a stray object or two."""
EVEN_EVENTS = 10
"""One object in N runs gives batches of k and k + 1. So many batches, and so many objects, before such a series is
called even: keys at random do the same by chance, in one series of a thousand of this length."""
AGREES = 0.05 + 1e-9
"""Relative difference of the median batch's pace and the whole's within which they agree; the last digit keeps a
series that lies just there on one side, whatever the size of its batches."""
NEARLY_FULL = 64.0
"""What a store of keys at random may still take, in the counter's unit, or in blocks of the usual size where that is
bytes, for it to count as full once no more runs can be made: its last keys come ever more rarely. A leak that strikes
at random looks so in one series of 160 at most (SURE), and only where it left fewer than a hundred objects in all."""
EXCLUDED = 3.0
"""Standard errors by which the line through a series must be less steep than a leak, for there to be none: a noise that
hides one lets another that is added to it be seen. Of 250 series with an object a run beside a slot whose content is
exchanged, 0 to 2,000 objects, 14 passed without this, one at 2.5."""
SWING_FACTOR = 2.0
"""A rise must exceed this many times what the series has given back at some time: its own noise."""
LASTING = 10
"""Equal stretches, each of which must leave something behind, for a rise within the swings to be no noise: by chance
one series in three million does so (1/10!), and a saw's teeth do not."""
LASTING_BATCHES = 40
"""Batches from which on a series can be cut into so many stretches."""
EARLIER_MEMORY = 2.0
"""The pace of the warm-up counts until the measurement has lasted this many times as long: by then it shows itself
whether it slows, and a few chance events of a short warm-up must not stand against it for ever."""
EARLIER_FASTER = 4.0
"""Times as fast as the measurement that a counter rose in the warm-up, from where on a series that slows needs no more
certainty to be a store of keys at random (their last ones come ever more rarely) than that of :data:`SLOWS`."""
SWING_MEMORY = 2.0
"""A rise that began after N batches may be the next tooth of a saw that was seen there, until it has lasted this many
times N."""
FIRST_RUNS = 10
"""Runs at the beginning of a warm-up whose rises and falls say nothing of later: everything is built there."""
DOUBLING_STEPS = 4
"""Steps that each double, in size and in distance, for them to be a store that grows and not steps by chance: three
sizes that follow from the first, and two distances."""
LEAST_DOUBLED, MOST_DOUBLED = 1.6, 2.6
"""How often a step, and its distance, may contain the one before: a store with a fixed part doubles a little less, and
an allocator rounds."""
SMALL_STEP = 20.0
"""A rise of less than this part of the largest is no step: of four that double, the first is an eighth of the last."""
BESIDE_STEPS = 0.25
"""What may come beside the steps, as a share of them: else the series is judged as any other."""
HOLDS_BYTES = 512
"""The most that one entry, object or block takes of a table (or of a small object): steps of no more than that for
each of them that came meanwhile are the tables of a store that these counters show, and judge."""
SHOWN = ("entries", "objects", "blocks")
"""Counters that show what a container of Python's holds."""
RECENT = 0.25
"""Share of the distance of the last two steps within which growth was going on: later it may have stopped."""
KIB = 1024
MALLOC_FLOOR_BYTES = 2 * KIB
"""Rise of malloc's bytes below which it is forgiven: a chunk may be handed out up to 16 bytes larger than asked for,
and tables of the program's bookkeeping double now and then (steps of 500 to 2,000 bytes on clean code)."""
MAPPED_FLOOR_BYTES = 256 * KIB
"""Address space outside malloc grows by whole arenas of the small-object allocator (1 MiB), and by thread stacks."""
RSS_FLOOR_BYTES = 512 * KIB
"""Resident size alone: twice the largest step of one batch that was seen on code without a leak."""
CHILDREN_FLOOR_BYTES = 2 * 1024 * KIB
"""Resident size of all children together: what a pool's interpreters touch by and by (some 200 KiB each)."""
STRAY_FLOORS = 4.0
"""At the end of the budget, a rise of an inexact counter up to this many floors, that did not come in every stretch,
is forgiven: a few tables doubled."""
STRAY_BYTES_A_RUN = 1.0
"""At the end of the budget, one step of an inexact counter up to so many floors, and below this a run over the whole,
is forgiven however few the batches: glibc now and then takes a page more for the same chunks, of 16 bytes or more."""
CONTROL_FACTOR = 3.0
"""A rise must exceed this many times that of the control, the same loop with an empty body."""
LARGEST_LEAK = 10**9
"""A batch. What hides a leak of this size hides any."""
USUAL_BLOCK_BYTES = 64
"""Of the small-object allocator: dicts, lists and tuples of Python objects take 56 to 72."""
DRAINED_SHARE = 0.5
"""Entries of containers that go for each old object that dies, from which on something is drained: one each where a
list or dict gives its items back, none where a full cache takes a new one for an old one."""
MAPPED_SHARE = 0.5
"""Resident size cannot grow for ever inside address space that does not: at least this share must be new."""


@dataclass(frozen=True)
class Rule:
    """How one counter is judged."""

    counter: str
    floor: float = 0.0
    patience: int = 0
    """Batches without a rise before an earlier rise counts as over, where these are more than :data:`FLAT_TAIL` and
    :data:`FLAT_GAPS` ask for (three at the least)."""
    alone: bool = True
    """Whether this counter may call a leak when no other does (and no more trusted one contradicts)."""
    sparse: bool = False
    """Whether it is judged by the readings that have it; any other is not judged where one of them lacks it."""
    tables: bool = False
    """Whether it counts the memory of tables, which double: see :mod:`leakharness.judge.doubling`."""
    turns: int = EVEN_EVENTS
    """Batches of k or k + 1 by turns that are even enough. Five where the counter never moves on code without a leak:
    twelve tracked objects in 250 runs are a leak of one run in twenty."""


RULES: tuple[Rule, ...] = (
    Rule("tracked", patience=8, turns=SEGMENTS),
    Rule("fds", patience=8, turns=SEGMENTS),
    Rule("threads", patience=8, turns=SEGMENTS),
    Rule("children", patience=8, turns=SEGMENTS),
    Rule("tasks", patience=8, turns=SEGMENTS),
    Rule("interpreters", patience=8, turns=SEGMENTS),
    Rule("watches", patience=8, turns=SEGMENTS),
    Rule("locks", patience=8, turns=SEGMENTS),
    Rule("timers", patience=8, turns=SEGMENTS),
    Rule("temp_files", patience=8, turns=SEGMENTS),
    Rule("unlinked_bytes", patience=8, tables=True, turns=SEGMENTS),
    Rule("shm_bytes", patience=8, tables=True, turns=SEGMENTS),
    Rule("unread_bytes", patience=8, turns=SEGMENTS),
    Rule("objects", patience=5),
    Rule("references", patience=5, turns=SEGMENTS, sparse=True),
    Rule("given_away", patience=5, turns=SEGMENTS, sparse=True),
    Rule("entries", patience=5),
    Rule("blocks"),
    Rule("malloc_bytes", floor=MALLOC_FLOOR_BYTES, tables=True),
    Rule("mapped_bytes", floor=MAPPED_FLOOR_BYTES, tables=True),
    Rule("rss", floor=RSS_FLOOR_BYTES, alone=False),
    Rule("children_rss", floor=CHILDREN_FLOOR_BYTES, sparse=True),
)


HOLDERS = ("tracked", "objects", "blocks")
"""Counters of what may hold references that the heap does not show; where one grows, it explains these."""
_FLOORS = {rule.counter: rule.floor for rule in RULES}
