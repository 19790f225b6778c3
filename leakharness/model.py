"""The values that pass between the parts: plans, readings, growth, results. Frozen, typed, without behaviour
beyond turning into the documented JSON. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from leakharness.options import default_of
from leakharness.units import duration

__all__ = [
    "COUNTERS",
    "NATIVE_GROWTH",
    "BesideKnown",
    "Certificate",
    "CertificateVerdict",
    "Detectable",
    "Excerpt",
    "Family",
    "Growth",
    "GrowingContainer",
    "HeldByC",
    "Plan",
    "Reading",
    "Retainer",
    "RunResult",
    "Verdict",
]

Verdict = Literal["PASS", "FAIL", "NOT_JUDGED"]
CertificateVerdict = Literal["CERTIFIED", "LEAK", "INVALID", "NOT_JUDGED"]

EXIT_CODES: Mapping[str, int] = {"PASS": 0, "FAIL": 1, "NOT_JUDGED": 3, "CERTIFIED": 0, "LEAK": 1, "INVALID": 4}

COUNTERS: Mapping[str, str] = {
    "tracked": "tracked objects alive",
    "fds": "open descriptors",
    "threads": "OS threads",
    "children": "child processes",
    "tasks": "tasks of the event loop",
    "interpreters": "sub-interpreters",
    "watches": "inotify watches and epoll registrations",
    "locks": "locks of files",
    "timers": "POSIX timers",
    "temp_files": "files in the temporary folder",
    "unlinked_bytes": "bytes of open files without a name",
    "shm_bytes": "bytes of shared memory",
    "unread_bytes": "bytes unread in pipes and sockets",
    "objects": "objects the collector lists",
    "references": "references that no object holds",
    "given_away": "references given away by who did not own them",
    "entries": "entries of containers and buffers",
    "blocks": "allocator blocks",
    "malloc_bytes": "bytes in use by malloc",
    "mapped_bytes": "bytes of address space outside malloc",
    "rss": "bytes resident",
    "children_rss": "bytes resident in child processes",
}
"""Every counter, in the order in which it is trusted, with what it counts."""
NATIVE_GROWTH = "native growth, by memray"
"""What a row of ``RunResult.allocations`` is of that memray has found."""


@dataclass(frozen=True)
class Plan:
    """How one mode is measured; what the options resolve to. Bytes and seconds where the name says so."""

    iters: int = default_of("iters")
    batches: int = default_of("batches")
    warmup: int | None = default_of("warmup")
    """Runs before the baseline; None: until the counters stand still, within a budget."""
    scope_bytes: int = default_of("scope_bytes")
    max_tracked_retention: int | None = default_of("max_tracked_retention")
    max_rss_growth_mb: float | None = default_of("max_rss_growth_mb")
    max_runs: int = default_of("max_runs")
    max_seconds: float = default_of("max_seconds")
    sensitivity: str = default_of("sensitivity")
    soak: str | None = default_of("soak")
    """How long to measure, as it is typed (``10m``); None: until the verdict is clear."""
    timeout: float = default_of("timeout")
    snapshots: Literal["never", "on-fail", "always"] = default_of("snapshots")
    iters_given: bool = False
    """Whether ``iters`` was asked for: only then a slow run keeps its batch size."""


@dataclass(frozen=True)
class Reading:
    """One reading: cumulative ``runs`` since the baseline, the counters with the harness left out, and how much
    of each is declared (kept on purpose)."""

    label: str
    runs: int
    counters: Mapping[str, int]
    declared: Mapping[str, int] = field(default_factory=dict)
    collected: int = 0
    """Objects that only the cyclic collector could free, cumulative since the baseline."""
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        counters = dict(self.counters)
        tracked = counters.pop("tracked", 0)
        row: dict[str, Any] = {"label": self.label, "runs": self.runs, "tracked_retained": tracked}
        if "rss" in counters:
            row["rss_bytes"] = counters.pop("rss")
        row.update(counters)
        return row


@dataclass(frozen=True)
class Growth:
    """What the judge says of one counter."""

    counter: str
    per_run: float
    grows: bool
    rule: str
    declared: float = 0.0
    """Growth per run that was declared (wedged, hold), and is not part of ``per_run``."""
    state: Literal["grows", "steady", "undecided"] = "steady"

    def document(self) -> dict[str, Any]:
        return {
            "counter": self.counter,
            "per_run": _figure(self.per_run),
            "grows": self.grows,
            "declared": _figure(self.declared),
            "rule": self.rule,
        }


@dataclass(frozen=True)
class Family:
    """Objects of one type that came to stay since the baseline."""

    type: str
    count_per_run: float
    shallow_bytes_per_run: float

    def document(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "count_per_run": _figure(self.count_per_run),
            "shallow_bytes_per_run": _figure(self.shallow_bytes_per_run),
        }


@dataclass(frozen=True)
class Retainer:
    """Retained objects that are held in the same way, and the way."""

    target: str
    count: int
    retained_bytes: int
    path: tuple[str, ...]
    fingerprint: str
    sentence: str = ""
    also: tuple[str, ...] = ()
    """Other ways in which the same objects are held: cutting the first frees nothing."""
    confirmed: str = ""
    """What cutting the holding edge in a forked copy freed, where that was asked for."""

    def document(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "count": self.count,
            "retained_bytes": self.retained_bytes,
            "path": list(self.path),
            "fingerprint": self.fingerprint,
            "sentence": self.sentence,
            "also_held_by": list(self.also),
            "confirmed": self.confirmed,
        }


@dataclass(frozen=True)
class HeldByC:
    """Objects of one type that C code keeps, or an object of which it loses references, or gives them away (the count
    is negative then). ``bytes`` a run; ``path`` leads to the object, where the heap does."""

    type: str
    count_per_run: float
    bytes: float
    sentence: str
    path: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "count_per_run": _figure(self.count_per_run),
            "bytes": round(self.bytes),
            "sentence": self.sentence,
            "path": list(self.path),
        }


@dataclass(frozen=True)
class GrowingContainer:
    """A container of the program that got more entries than it lost. ``path`` says what it is called and where it
    is; ``entries``: how many it has now."""

    path: str
    per_run: float
    entries: int = 0
    sentence: str = ""
    reference: str = ""
    """How it is imported, ``module:attribute``; empty where it is no attribute of a module's."""

    def document(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "per_run": _figure(self.per_run),
            "entries": self.entries,
            "sentence": self.sentence,
            "reference": self.reference,
        }


@dataclass(frozen=True)
class Detectable:
    """The smallest leaks per run that this very measurement would have called FAIL. None: not with this counter."""

    tracked_per_run: float | None = None
    objects_per_run: float | None = None
    blocks_per_run: float | None = None
    native_bytes_per_run: float | None = None
    mapped_bytes_per_run: float | None = None

    def document(self) -> dict[str, Any]:
        return {
            "tracked_per_run": _figure(self.tracked_per_run),
            "objects_per_run": _figure(self.objects_per_run),
            "blocks_per_run": _figure(self.blocks_per_run),
            "native_bytes_per_run": _figure(self.native_bytes_per_run),
            "mapped_bytes_per_run": _figure(self.mapped_bytes_per_run),
        }


@dataclass(frozen=True)
class Excerpt:
    """Lines of source around what a result names at ``file`` and ``line``: a function on a retainer path, the lines on
    which that function is passed on or stored, or one that allocates what stays."""

    of: Literal["function", "registration", "allocation"]
    file: str
    line: int
    first: int
    """The number of the first of ``lines``."""
    lines: tuple[str, ...]
    hits: tuple[int, ...]
    """Numbers of the lines that count."""
    changed: bool = False
    """Read later than the result was made, and from a file that is newer."""

    def document(self) -> dict[str, Any]:
        rest = {"first": self.first, "lines": list(self.lines), "hits": list(self.hits)}
        return {"of": self.of, "file": self.file, "line": self.line, **rest}


@dataclass(frozen=True)
class BesideKnown:
    """The verdict on what is left of the process once its known leaks are cut out, and the sentence that says so."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class RunResult:
    """One mode, measured. ``document()`` is the JSON of ``run --json``."""

    scenario: str
    mode: str
    verdict: Verdict
    must: Literal["PASS", "FAIL"] | None
    reason: str
    reproduce: str = ""
    pid: int = 0
    python: str = ""
    executable: str = ""
    platform: str = ""
    duration_s: float = 0.0
    runs: int = 0
    warmup_runs: int = 0
    tracked: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """``{label: {"born": n, "retained": n}}`` since the baseline."""
    series: tuple[Reading, ...] = ()
    growth: tuple[Growth, ...] = ()
    families: tuple[Family, ...] = ()
    growth_class: str | None = None
    class_evidence: str = ""
    retainers: tuple[Retainer, ...] = ()
    held_by_c: tuple[HeldByC, ...] = ()
    """What no object of the heap holds, so that C code must."""
    growing_containers: tuple[GrowingContainer, ...] = ()
    """Containers of the program that have grown, the most grown first."""
    detectable: Detectable = field(default_factory=Detectable)
    stays: tuple[str, ...] = ()
    """Of a PASS: tracked objects that stay all the same, and in which bounded container; one sentence each."""
    snapshots: tuple[str, ...] = ()
    forgiven: tuple[str, ...] = ()
    """What was declared, ignored or below a floor: one sentence each, with the rule and its reason."""
    notes: tuple[str, ...] = ()
    blind: Mapping[str, str] = field(default_factory=dict)
    """Counters that are absent here, and why."""
    control: Mapping[str, float] = field(default_factory=dict)
    """Growth per run of each counter in the same loop with an empty body: this machine's noise floor."""
    allocations: tuple[Mapping[str, Any], ...] = ()
    excerpts: tuple[Excerpt, ...] = ()
    """Source of the functions on the retainer paths and of where it was allocated, as it was when this was measured."""
    opinions: tuple[str, ...] = ()
    backrefs_dot: str = ""
    """objgraph's picture of what refers to a retained object, in dot; goes into the report's folder."""
    known_declared: tuple[tuple[str, str], ...] = ()
    """(match, reason) of the leaks that the scenario declares as known."""
    beside_known: BesideKnown | None = None
    """What a copy that was rid of the known leaks gave, where all that is retained is known."""
    framework: tuple[str, ...] = ()
    """Containers that grow and are the test framework's own, each in a sentence."""
    beside_framework: BesideKnown | None = None
    """What a copy gave in which these were cut back."""
    detail: str = ""
    """A traceback or the last lines of stderr, where the run failed."""
    started: str = ""
    """When the measurement began: UTC to the second, as ISO 8601."""
    where: str = ""
    """``file:line`` of the scenario, from the current folder where it is below that."""
    soaked_s: float = 0.0
    """Seconds from the baseline to the last reading, where a time was asked for; else 0."""

    @property
    def born(self) -> int:
        return sum(row["born"] for row in self.tracked.values())

    @property
    def retained(self) -> int:
        return sum(row["retained"] for row in self.tracked.values())

    @property
    def reach(self) -> str:
        """What a PASS does not exclude; empty for any other verdict."""
        if self.verdict != "PASS":
            return ""
        runs = f"{self.runs:,} runs"
        within = f"{runs} in {duration(self.soaked_s)}" if self.soaked_s else runs
        return f"{within}; a leak that begins later, or comes less often than once in {runs}, is not excluded"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    @property
    def as_demanded(self) -> bool:
        """Whether the mode gave what it must (anything but NOT_JUDGED where nothing is demanded)."""
        return self.verdict == self.must if self.must else self.verdict != "NOT_JUDGED"

    def document(self) -> dict[str, Any]:
        return {
            "schema": "leakharness.run/1",
            "scenario": self.scenario,
            "mode": self.mode,
            "verdict": self.verdict,
            "must": self.must,
            "reason": self.reason,
            "reproduce": self.reproduce,
            "pid": self.pid,
            "python": self.python,
            "executable": self.executable,
            "platform": self.platform,
            "duration_s": round(self.duration_s, 3),
            "runs": self.runs,
            "warmup_runs": self.warmup_runs,
            "tracked": {
                "born": self.born,
                "retained": self.retained,
                "by_label": {label: dict(row) for label, row in self.tracked.items()},
            },
            "series": [reading.document() for reading in self.series],
            "growth": [growth.document() for growth in self.growth],
            "families": [family.document() for family in self.families],
            "class": self.growth_class,
            "class_evidence": self.class_evidence,
            "retainers": [retainer.document() for retainer in self.retainers],
            "held_by_c": [held.document() for held in self.held_by_c],
            "growing_containers": [container.document() for container in self.growing_containers],
            "detectable": self.detectable.document(),
            "reach": self.reach,
            "stays": list(self.stays),
            "snapshots": list(self.snapshots),
            "forgiven": list(self.forgiven),
            "notes": list(self.notes),
            "blind": dict(self.blind),
            "control": {name: _figure(value) for name, value in self.control.items()},
            "allocations": [dict(site) for site in self.allocations],
            "excerpts": [excerpt.document() for excerpt in self.excerpts],
            "opinions": list(self.opinions),
            "detail": self.detail,
            "started": self.started,
            "where": self.where,
        }


@dataclass(frozen=True)
class Certificate:
    """What ``check`` gives for one scenario: the verdicts of its arms taken together."""

    scenario: str
    verdict: CertificateVerdict
    reason: str
    arms: tuple[RunResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def document(self) -> dict[str, Any]:
        return {
            "schema": "leakharness.check/1",
            "scenario": self.scenario,
            "certificate": self.verdict,
            "reason": self.reason,
            "notes": list(self.notes),
            "arms": [arm.document() for arm in self.arms],
        }


def _figure(value: float | None) -> float | None:
    """Rounded to six places, which is finer than any counter is sharp."""
    return None if value is None else round(float(value), 6)
