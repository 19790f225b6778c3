"""Writes docs/reference/schemas from the types by which the tool reads its own documents: python docs/json_schemas.py

JSON Schema 2020-12. Keys that a schema does not name are allowed: a newer version may write more.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from leakharness.documents import (
    BisectDocument,
    CheckDocument,
    HotspotsDocument,
    ProveDocument,
    RunDocument,
    TraceRow,
    TrendDocument,
)
from leakharness.page_documents import CalibrateDocument, InvestigationDocument

FOLDER = Path(__file__).parent / "reference" / "schemas"
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


class VerifyDocument(TypedDict):
    """What ``verify --json`` prints."""

    schema: Literal["leakharness.verify/1"]
    status: Literal["HOLDS", "STALE", "TAMPERED"]
    verdict: str
    reasons: list[str]
    notes: list[str]
    again: Mapping[str, Any] | None


class _DiffRow(TypedDict):
    type: str
    name: str
    size_delta: int
    count_delta: int
    class_: str


class DiffRow(_DiffRow, total=False):
    evidence: str
    path: list[str]
    retained_delta: int
    born: int
    gone: int


class DiffGrowth(TypedDict):
    grown: int
    shrunk: int
    explained: float
    left_out: int
    rows_left_out: int


class DiffDocument(TypedDict):
    """What ``diff --json`` prints."""

    schema: Literal["leakharness.diff/1"]
    before: str
    after: str
    pid: int | None
    thread: int
    snapshots: int
    nodes: list[int]
    growth: DiffGrowth
    rows: list[DiffRow]
    class_: str
    evidence: str


class WayOfBeingHeld(TypedDict):
    count: int
    path: list[str]
    fingerprint: str
    holding_edge: str


class AllocationSite(TypedDict):
    count: int
    frames: list[str]


class _RetainerGroup(TypedDict):
    target: str
    count: int
    retained_bytes: int
    exact: bool
    path: list[str]
    fingerprint: str
    holding_edge: str
    registered_in: str | None
    heads: int
    links: list[str]
    also_held_by: list[WayOfBeingHeld]
    sentence: str


class RetainerGroup(_RetainerGroup, total=False):
    allocated: list[AllocationSite]


class RetainersDocument(TypedDict):
    """What ``retainers --json`` prints."""

    schema: Literal["leakharness.retainers/1"]
    snapshot: str
    type: str
    count: int
    groups: list[RetainerGroup]


class DetachedDocument(TypedDict):
    """What ``snapshot detached --json`` prints."""

    schema: Literal["leakharness.detached/1"]
    snapshot: str
    count: int
    groups: list[RetainerGroup]


class DominatorRow(TypedDict):
    type: str
    count: int
    shallow_bytes: int
    retained_bytes: int
    children: list[DominatorRow]


class DominatorsDocument(TypedDict):
    """What ``dominators --json`` prints."""

    schema: Literal["leakharness.dominators/1"]
    snapshot: str
    reachable_bytes: int
    unreachable_bytes: int
    unreachable_count: int
    rows: list[DominatorRow]


class KindOfNode(TypedDict):
    count: int
    bytes: int


class TimeLine(TypedDict):
    seconds: list[float]
    alive_bytes: list[int]


class SnapshotDocument(TypedDict):
    """What ``snapshot info --json`` prints."""

    schema: Literal["leakharness.snapshot/1"]
    path: str
    producer: str
    pid: int | None
    time: float | str | None
    python: str | None
    node_count: int
    edge_count: int
    string_count: int
    shallow_bytes: int
    file_bytes: int
    by_kind: Mapping[str, KindOfNode]
    thread: int
    detached: list[int] | None
    time_line: TimeLine | None
    traced: int


class Neighbour(TypedDict):
    edge_kind: str
    edge: str
    id: int
    kind: str
    name: str
    size: int


class ObjectDocument(TypedDict):
    """What ``snapshot object --json`` prints."""

    schema: Literal["leakharness.object/1"]
    snapshot: str
    id: int
    kind: str
    name: str
    size: int
    retained: int
    dominator: Neighbour | None
    fields: list[Neighbour]
    holders: list[Neighbour]


class DuplicateRow(TypedDict):
    text: str
    count: int
    size: int
    wasted: int


class DuplicatesDocument(TypedDict):
    """What ``snapshot duplicates --json`` prints."""

    schema: Literal["leakharness.duplicates/1"]
    snapshot: str
    rows: list[DuplicateRow]


class ModeRow(TypedDict):
    name: str
    must: Literal["PASS", "FAIL"] | None
    abort: str
    default: bool
    where: str
    needs: Mapping[str, str]
    needs_target: bool
    missing: Mapping[str, str]


class _ScenarioRow(TypedDict):
    name: str | None


class ScenarioRow(_ScenarioRow, total=False):
    """``problem``: why it cannot be used; then most else is absent."""

    path: str
    line: int
    origin: str
    default: str
    modes: list[ModeRow]
    summary: str | None
    mimics: str | None
    target: str | None
    where: str
    options: Mapping[str, Any]
    known: list[Any]
    bounded: Mapping[str, Any]
    problem: str


class ListDocument(TypedDict):
    """What ``list --json`` prints."""

    schema: Literal["leakharness.list/1"]
    scenarios: list[ScenarioRow]


class NamePair(TypedDict):
    original: str
    fixture: str


class Difference(TypedDict):
    where: str
    what: str
    why: str
    effect: str
    suspect_line: int | None
    fixture_line: int | None


class ShapeDocument(TypedDict):
    """What ``shape --json`` prints. The shapes are scopes with what each defines, captures and calls."""

    schema: Literal["leakharness.shape/1"]
    scenario: str
    file: str
    mode: str
    function: str
    target: str
    target_file: str
    target_line: int
    target_sha256: str
    rev: str | None
    verdict: Literal["SAME", "DRIFTED"]
    can_hide: bool
    names: list[NamePair]
    differences: list[Difference]
    original_shape: Mapping[str, Any]
    fixture_shape: Mapping[str, Any]


class _NewDocument(TypedDict):
    schema: Literal["leakharness.new/1"]
    scenario: str
    file: str
    fill_in_lines: list[int]


class NewDocument(_NewDocument, total=False):
    """What ``new --json`` prints; without a target where the scenario was made from a snapshot."""

    target: str
    target_file: str
    target_line: int


class LiveFamily(TypedDict):
    type: str
    count: int
    untracked: int
    shallow_bytes: int


class LiveGrowth(TypedDict):
    type: str
    count_delta: int
    bytes_delta: int
    seconds: float


class LiveDocument(TypedDict):
    """What ``live look --json`` prints."""

    schema: Literal["leakharness.live/1"]
    pid: int
    python: str
    objects: int
    reached: int
    torn: int
    interpreters: int
    stopped_ms: float
    seconds: float
    families: list[LiveFamily]
    retainers: list[RetainerGroup]
    growth: list[LiveGrowth]


class DoctorCheck(TypedDict):
    check: str
    works: bool
    text: str


class DoctorDocument(TypedDict):
    """What ``live doctor --json`` prints."""

    schema: Literal["leakharness.live-doctor/1"]
    pid: int
    works: bool
    checks: list[DoctorCheck]


class ChecksDocument(TypedDict):
    """What ``check --json`` prints for several scenarios."""

    schema: Literal["leakharness.checks/1"]
    certificates: list[CheckDocument]


class ResultsDocument(TypedDict):
    """What ``report RUN... --json`` prints."""

    schema: Literal["leakharness.results/1"]
    results: list[RunDocument]


DOCUMENTS: dict[str, Any] = {
    "run": RunDocument,
    "check": CheckDocument,
    "checks": ChecksDocument,
    "list": ListDocument,
    "calibrate": CalibrateDocument,
    "shape": ShapeDocument,
    "new": NewDocument,
    "prove": ProveDocument,
    "verify": VerifyDocument,
    "bisect": BisectDocument,
    "diff": DiffDocument,
    "retainers": RetainersDocument,
    "dominators": DominatorsDocument,
    "snapshot": SnapshotDocument,
    "object": ObjectDocument,
    "duplicates": DuplicatesDocument,
    "detached": DetachedDocument,
    "live": LiveDocument,
    "live-doctor": DoctorDocument,
    "results": ResultsDocument,
    "investigation": InvestigationDocument,
    "trend": TrendDocument,
    "hotspots": HotspotsDocument,
    "trace-line": TraceRow,
}


def schema_of(kind: Any, within: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The schema of a TypedDict, or of what stands in one; ``within``: those around it, to which it refers where it is
    one of them."""
    if kind in within:
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(argument, within) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0], within)}
    if typing.is_typeddict(kind):
        fields = typing.get_type_hints(kind)
        return {
            "type": "object",
            "properties": {name.rstrip("_"): schema_of(inner, (*within, kind)) for name, inner in fields.items()},
            "required": sorted(name.rstrip("_") for name in kind.__required_keys__),
        }
    if origin is not None:  # Mapping[str, ...]
        return {"type": "object", "additionalProperties": schema_of(arguments[1], within)}
    return {"type": SCALARS[kind]}


def text_of(name: str) -> str:
    """The file of one document."""
    kind = DOCUMENTS[name]
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"leakharness {name}"}
    document = {**title, "description": kind.__doc__.strip(), **schema_of(kind)}
    recursive = sorted(set(re.findall(r"#/\$defs/(\w+)", json.dumps(document))))
    if recursive:
        document["$defs"] = {name: schema_of(globals()[name]) for name in recursive}
    return json.dumps(document, indent=2) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in DOCUMENTS:
        (FOLDER / f"{name}.schema.json").write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
