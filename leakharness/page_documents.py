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
    sizes: list[int]


class LaneFile(TypedDict):
    file: str
    run_bytes: int
    import_bytes: int
    tests: int
    objects: int
    blocks: int


class LaneRow(TypedDict):
    name: str
    pids: list[int]
    peak_bytes: int
    peak_at: str
    total_bytes: int
    files: list[LaneFile]


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


class InvestigationDocument(_InvestigationDocument, total=False):
    """What ``report investigate --json`` prints."""

    headline: str
    because: list[str]
    change: list[str]
    verified: list[str]
    lane_files: list[LaneRow]
