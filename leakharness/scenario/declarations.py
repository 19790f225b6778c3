"""The declaration of a scenario that was found, and how it is named on a command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leakharness.errors import NotJudged, UsageError
from leakharness.scenario.find import ScenarioRef


def declaration_of(answer: Any, found: ScenarioRef) -> dict[str, Any]:
    """One scenario's declaration out of a file's. Raises UsageError or NotJudged for what went wrong there."""
    if isinstance(answer, Mapping):
        error = UsageError(answer["reason"]) if answer["failed"] == "usage" else NotJudged(answer["reason"])
        raise error
    for scenario in answer:
        if found.name is None or scenario["name"] == found.name:
            return dict(scenario)
    raise UsageError(f"{found.path}: no scenario {found.name!r}")


def reference_to(found: ScenarioRef) -> str:
    """How the scenario is named on a command line from here."""
    if found.origin != "file" and found.name:
        return found.name
    path = os.path.relpath(found.path) if found.path.resolve().is_relative_to(Path.cwd()) else str(found.path)
    return f"{path}::{found.name}" if found.name else path
