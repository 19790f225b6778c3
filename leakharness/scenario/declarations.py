"""How a scenario that was found is named on a command line."""

from __future__ import annotations

import os
from pathlib import Path

from leakharness.scenario.find import ScenarioRef

__all__ = ["reference_to"]


def reference_to(found: ScenarioRef) -> str:
    """How the scenario is named on a command line from here."""
    if found.origin != "file" and found.name:
        return found.name
    below = not found.elsewhere and found.path.resolve().is_relative_to(Path.cwd())
    path = os.path.relpath(found.path) if below else str(found.path)
    return f"{path}::{found.name}" if found.name else path
