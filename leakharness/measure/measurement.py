"""The values of one measurement, and the interfaces that it is given from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from leakharness.judge import verdict as judge
from leakharness.model import BesideKnown, GrowingContainer, HeldByC, Plan, Reading, Retainer, RunResult
from leakharness.worker.protocol import A, Facts, GrownContainer, LoadSpec, Question, ReferencesAnswer

__all__ = ["WorkerClient", "Evidence", "Measurement", "Observer", "Request"]


class WorkerClient(Protocol):
    """A measured process that answers commands; see :class:`leakharness.measure.worker_process.WorkerProcess`."""

    @property
    def pid(self) -> int: ...
    def request(self, question: Question[A], *arguments: Any, doing: str = "") -> A: ...


class Observer(Protocol):
    """Told what goes on. It may look, and take snapshots; it returns nothing."""

    def phase(self, name: str, done: int, total: int | None) -> None: ...
    def reading(self, worker: WorkerClient, reading: Reading) -> None: ...
    def suspected(self, worker: WorkerClient, measurement: Measurement) -> None: ...


class SilentObserver:
    """An observer that neither looks nor takes a snapshot."""

    def phase(self, name: str, done: int, total: int | None) -> None: ...
    def reading(self, worker: WorkerClient, reading: Reading) -> None: ...
    def suspected(self, worker: WorkerClient, measurement: Measurement) -> None: ...


@dataclass(frozen=True)
class Request:
    """What to measure: a scenario file, the scenario's name in it, a mode, and what the worker must know."""

    path: str
    name: str | None = None
    mode: str | None = None
    target: str | None = None
    plant: Mapping[str, Any] | None = None
    values: bool = False

    def spec(self) -> LoadSpec:
        plant = dict(self.plant) if self.plant else None
        return LoadSpec(self.path, self.name, self.mode, self.target, plant, self.values)


@dataclass(frozen=True)
class Evidence:
    """What an explainer adds to a FAIL; the fields of a RunResult of the same names."""

    retainers: tuple[Retainer, ...] = ()
    growth_class: str | None = None
    class_evidence: str = ""
    beside_known: BesideKnown | None = None
    framework: tuple[str, ...] = ()
    beside_framework: BesideKnown | None = None
    allocations: tuple[Mapping[str, Any], ...] = ()
    opinions: tuple[str, ...] = ()
    backrefs_dot: str = ""
    held_by_c: tuple[HeldByC, ...] = ()
    growing_containers: tuple[GrowingContainer, ...] = ()

    def added_to(self, result: RunResult) -> RunResult:
        """``result`` with this evidence."""
        return replace(result, **{field.name: getattr(self, field.name) for field in fields(self)})


Explainer = Callable[[WorkerClient, "Measurement"], Evidence]


@dataclass
class Measurement:
    """Everything known about one mode while it is measured; turned into a RunResult at the end."""

    request: Request
    plan: Plan
    facts: Facts | None = None
    """What the measured process says of itself and of the scenario; None until it has loaded that."""
    warm_up: list[Reading] = field(default_factory=list)
    warm_up_runs: int = 0
    runs_since_freeze: int = 0
    """Runs of the warm-up that were made after the heap was frozen: containers are compared with that moment."""
    teeth: Mapping[str, float] = field(default_factory=dict)
    """How far each counter rises and falls within one batch, in the counter's unit."""
    readings: list[Reading] = field(default_factory=list)
    tracked: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    census: list[tuple[int, Mapping[str, tuple[int, int]]]] = field(default_factory=list)
    assessment: judge.Assessment | None = None
    notes: list[str] = field(default_factory=list)
    idle_seconds: float = 0.0
    """How long the process idles before each reading, where what runs leave is bounded by time."""
    bounded: Mapping[str, int] = field(default_factory=dict)
    iters: int = 0
    """Runs of a batch. Growth that is followed has ever larger ones, of as many calls of ``runs_a_call``."""
    runs_a_call: int = 0
    """Runs that the worker is asked for at once; 0 is the whole batch. What one call leaves behind, as the frames of
    the functions that made it, must not become less with larger batches: growth would look as if it slowed."""
    references: ReferencesAnswer = field(default_factory=ReferencesAnswer)
    """Objects of which references are held by no object, at the last reading that has them."""
    reference_seconds: float = 0.0
    """How long it takes to count them,"""
    counting_seconds: float = 0.0
    """and how long all counts took: copies do that, of which nobody knows how long they waited for a processor."""
    grown: tuple[GrownContainer, ...] = ()
    """Containers that had more entries than at the baseline when growth was found, the most grown first."""

    @property
    def runs(self) -> int:
        return self.readings[-1].runs if self.readings else 0
