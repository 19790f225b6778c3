"""``--leak-baseline FILE``: the causes that were there when the file was written; only others fail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest

from leakharness.documents import read_document, validated
from leakharness.errors import UsageError
from leakharness.pytest_plugin.rows import Row
from leakharness.store import write_atomically

__all__ = ["Baseline"]

SCHEMA = "leakharness.baseline/1"


class _Cause(TypedDict):
    fingerprint: str
    target: str


class _Document(TypedDict):
    schema: Literal["leakharness.baseline/1"]
    causes: list[_Cause]
    tests: Mapping[str, list[str]]


@dataclass
class Baseline:
    """Causes by retainer fingerprint; leaks without one by test and counters. ``is_new``: this session writes it."""

    path: Path
    is_new: bool
    causes: Sequence[_Cause] = ()
    tests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    count: int = 0

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """The baseline at ``path``; a new one where there is no file. Raises pytest.UsageError for one that is not."""
        if not path.exists():
            return cls(path, True)
        try:
            document = validated(_Document, read_document(path, "a baseline"), f"{path}: not as {SCHEMA} is written")
        except UsageError as exc:
            raise pytest.UsageError(f"--leak-baseline {exc}; remove it to write a new one") from None
        return cls(path, False, document["causes"], document["tests"])

    def known(self) -> list[tuple[str, str]]:
        """Its causes as known leaks: what each matches, and the reason."""
        return [(cause["fingerprint"], f"in the baseline {self.path.name}") for cause in self.causes]

    def forgives(self, row: Row) -> bool:
        """Whether a leak without a retainer path was there already: the same counters of the same test."""
        return not row.causes and set(row.counters) <= set(self.tests.get(row.nodeid, ()))

    def write(self, rows: Sequence[Row]) -> None:
        """Write what leaks now. Raises pytest.UsageError where the file cannot be written."""
        leaks = [row for row in rows if row.verdict == "KNOWN"]
        causes = {c: target for row in leaks for c, target in zip(row.causes, row.targets, strict=True)}
        tests = {row.nodeid: sorted(row.counters) for row in leaks if not row.causes}
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "causes": [{"fingerprint": c, "target": target} for c, target in sorted(causes.items())],
            "tests": dict(sorted(tests.items())),
        }
        self.count = len(causes) + len(tests)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(document, indent=1).encode() + b"\n")
        except (OSError, UsageError) as exc:
            raise pytest.UsageError(f"--leak-baseline {self.path}: {exc}") from None
