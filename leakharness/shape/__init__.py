"""Lexical shapes: does a fixture still look like the function it copies, and a first fixture made from one.

Read from source text; nothing that is looked at is imported.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leakharness.errors import OptionError
from leakharness.scenario.find import find_outline
from leakharness.scenario.outline import ScenarioOutline
from leakharness.shape.compare import Comparison, compare
from leakharness.shape.fixture import Fixture, read_fixture
from leakharness.shape.suspect import Suspect, find_suspect, parse_target, search_path

__all__ = ["ShapeReport", "check_shape", "find_function"]


@dataclass(frozen=True)
class ShapeReport:
    """The fixture, the function it copies, and how they compare."""

    fixture: Fixture
    suspect: Suspect
    comparison: Comparison

    @property
    def target_sha256(self) -> str:
        """Digest of the source that the suspect was read from (its module's whole text)."""
        return hashlib.sha256(self.suspect.module.text.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The document of ``shape --json``."""
        return {
            "schema": "leakharness.shape/1",
            "scenario": self.fixture.declared.name,
            "file": str(self.fixture.declared.file),
            "mode": self.fixture.mode,
            "function": self.fixture.function,
            "target": str(self.suspect.target),
            "target_file": self.suspect.module.path,
            "target_line": self.suspect.shape.line,
            "target_sha256": self.target_sha256,
            "rev": self.suspect.target.rev,
            "verdict": self.comparison.verdict,
            "can_hide": self.comparison.can_hide,
            "names": [{"original": theirs, "fixture": ours} for theirs, ours in self.comparison.names],
            "differences": [asdict(difference) for difference in self.comparison.differences],
            "original_shape": asdict(self.suspect.shape),
            "fixture_shape": asdict(self.fixture.shape),
        }


def find_function(target: str, python: str | None = None, root: Path | None = None) -> Suspect:
    """The function that ``module:qualname[@REV]`` names, found without importing. Raises OptionError."""
    return find_suspect(parse_target(target), search_path(python, root), root)


def check_shape(
    scenario: str | ScenarioOutline,
    *,
    mode: str | None = None,
    target: str | None = None,
    python: str | None = None,
    root: Path | None = None,
) -> ShapeReport:
    """Compare the fixture of ``scenario`` (a name, a file, or ``file::name``) with what it mimics.

    ``mode`` [closure-inline, else the first that must FAIL], ``target`` [the scenario's ``mimics``]. Raises
    UsageError where there is no such scenario, mode or function, or nothing to compare with.
    """
    declared = find_outline(scenario, root) if isinstance(scenario, str) else scenario
    wanted = target or declared.mimics
    if wanted is None:
        raise OptionError(
            f"{declared.file}: scenario {declared.name!r} does not say what it mimics: add "
            'mimics="package.module:function", or give --target'
        )
    suspect = find_function(wanted, python, root)
    fixture = read_fixture(declared, mode, suspect.qualname)
    return ShapeReport(fixture, suspect, compare(fixture.shape, suspect.shape, ignore=fixture.ignore))
