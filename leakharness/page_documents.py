"""What a page takes beside results, certificates and proofs, as far as it needs it: calibrations and
investigations. For :func:`leakharness.documents.validated`. Standard library only."""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = ["CalibrateDocument", "InvestigationDocument"]


class CalibrationRow(TypedDict):
    planted: str
    repeats: int
    found: int
    not_judged: int
    runs: int
    seen: str


class CalibrateDocument(TypedDict):
    """What ``calibrate --json`` prints."""

    schema: Literal["leakharness.calibrate/1"]
    scenario: str
    false_alarm_rate: float | None
    reason: str | None
    rows: list[CalibrationRow]


class GrownFamily(TypedDict):
    type: str
    size_delta: int
    count_delta: int
    evidence: str
    path: list[str]
    rose_in: list[int]
    file: str | None


class ImportedPackage(TypedDict):
    package: str
    modules: int


class InvestigationDocument(TypedDict):
    """What ``report investigate --json`` prints."""

    schema: Literal["leakharness.investigation/1"]
    command: str
    lane: str
    pid: int | None
    snapshots: int
    before: str
    after: str
    nodes: list[int]
    likely: str
    families: list[GrownFamily]
    imported: list[ImportedPackage]
    loaded_before: int
    lanes: list[str]
