"""The values of one measurement, and the interfaces that it is given from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from leakharness.judge import verdict as judge
from leakharness.model import Plan, Reading

__all__ = ["WorkerClient", "Evidence", "Measurement", "Observer", "Request"]


class WorkerClient(Protocol):
    """A measured process that answers commands; see :class:`leakharness.measure.worker_process.WorkerProcess`."""

    @property
    def pid(self) -> int: ...
    def ask(self, op: str, *arguments: Any, doing: str = "") -> dict[str, Any]: ...


class Observer(Protocol):
    """Told what goes on. It may look, and take snapshots; it returns nothing."""

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

    def spec(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "name": self.name,
            "mode": self.mode,
            "target": self.target,
            "plant": dict(self.plant) if self.plant else None,
        }


@dataclass(frozen=True)
class Evidence:
    """What an explainer adds to a FAIL."""

    changes: Mapping[str, Any] = field(default_factory=dict)


Explainer = Callable[[WorkerClient, "Measurement"], Evidence]


@dataclass
class Measurement:
    """Everything known about one mode while it is measured; turned into a RunResult at the end."""

    request: Request
    plan: Plan
    hello: dict[str, Any] = field(default_factory=dict)
    warm_up: list[Reading] = field(default_factory=list)
    warm_up_runs: int = 0
    readings: list[Reading] = field(default_factory=list)
    tracked: dict[str, dict[str, int]] = field(default_factory=dict)
    census: list[tuple[int, dict[str, list[int]]]] = field(default_factory=list)
    assessment: judge.Assessment | None = None
    notes: list[str] = field(default_factory=list)
    bounded: dict[str, int] = field(default_factory=dict)
    iters: int = 0

    @property
    def runs(self) -> int:
        return self.readings[-1].runs if self.readings else 0
