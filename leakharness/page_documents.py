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


class _GrownFamily(TypedDict):
    type: str
    size_delta: int
    count_delta: int
    evidence: str
    path: list[str]
    rose_in: list[int]
    file: str | None


class GrownFamily(_GrownFamily, total=False):
    class_: str
    sizes: list[int]


class LaneRow(TypedDict):
    lane: str
    files: int
    peak: int
    total: int
    at: str


class FileRow(TypedDict):
    file: str
    lane: str
    left: int
    by_import: int
    objects: int
    blocks: int


class MemoryOfFiles(TypedDict):
    lanes: list[LaneRow]
    files: list[FileRow]


class ImportedPackage(TypedDict):
    package: str
    modules: int


class _InvestigationDocument(TypedDict):
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


class InvestigationDocument(_InvestigationDocument, total=False):
    """What ``report investigate --json`` prints."""

    class_: str
    read: list[str]
    headline: str
    findings: list[str]
    advice: list[str]
    checked: list[str]
    loaded_packages: list[ImportedPackage]
    memory: MemoryOfFiles
