"""Writes docs/reference/schemas from the types by which the tool reads its own documents: python docs/json_schemas.py

JSON Schema 2020-12. Keys that a schema does not name are allowed: a newer version may write more.
"""

from __future__ import annotations

import json
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


class DiffRow(TypedDict):
    type: str
    name: str
    size_delta: int
    count_delta: int


class DiffDocument(TypedDict):
    """What ``diff --json`` prints."""

    schema: Literal["leakharness.diff/1"]
    before: str
    after: str
    pid: int | None
    snapshots: int
    nodes: list[int]
    rows: list[DiffRow]


DOCUMENTS: dict[str, Any] = {
    "run": RunDocument,
    "check": CheckDocument,
    "prove": ProveDocument,
    "verify": VerifyDocument,
    "bisect": BisectDocument,
    "diff": DiffDocument,
    "trend": TrendDocument,
    "hotspots": HotspotsDocument,
    "trace-line": TraceRow,
}


def schema_of(kind: Any) -> dict[str, Any]:
    """The schema of a TypedDict, or of what stands in one."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(argument) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if typing.is_typeddict(kind):
        fields = typing.get_type_hints(kind)
        return {
            "type": "object",
            "properties": {name.rstrip("_"): schema_of(inner) for name, inner in fields.items()},
            "required": sorted(name.rstrip("_") for name in kind.__required_keys__),
        }
    if origin is not None:  # Mapping[str, ...]
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    return {"type": SCALARS[kind]}


def text_of(name: str) -> str:
    """The file of one document."""
    kind = DOCUMENTS[name]
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"leakharness {name}"}
    return json.dumps({**title, "description": kind.__doc__.strip(), **schema_of(kind)}, indent=2) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in DOCUMENTS:
        (FOLDER / f"{name}.schema.json").write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
