"""leakharness: prove that a memory leak is fixed.

The public names load on first use, so that a scenario's ``from leakharness import Run, Scenario`` costs the
measured process nothing but the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from leakharness._version import __version__ as __version__

if TYPE_CHECKING:
    from leakharness.api import check, run
    from leakharness.errors import (
        LeakFound,
        LeakHarnessError,
        NotJudged,
        OptionError,
        ScenarioError,
        SnapshotError,
        UnknownScenario,
        UsageError,
    )
    from leakharness.model import Certificate, Growth, RunResult
    from leakharness.scenario.declare import Known, Mode, Run, Scenario

_HOME = {
    "Certificate": "model",
    "Growth": "model",
    "Known": "scenario.declare",
    "LeakFound": "errors",
    "LeakHarnessError": "errors",
    "Mode": "scenario.declare",
    "NotJudged": "errors",
    "OptionError": "errors",
    "Run": "scenario.declare",
    "RunResult": "model",
    "Scenario": "scenario.declare",
    "ScenarioError": "errors",
    "SnapshotError": "errors",
    "UnknownScenario": "errors",
    "UsageError": "errors",
    "check": "api",
    "run": "api",
}

__all__ = [
    "Certificate",
    "Growth",
    "Known",
    "LeakFound",
    "LeakHarnessError",
    "Mode",
    "NotJudged",
    "OptionError",
    "Run",
    "RunResult",
    "Scenario",
    "ScenarioError",
    "SnapshotError",
    "UnknownScenario",
    "UsageError",
    "check",
    "run",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'leakharness' has no attribute {name!r}")
    value = getattr(import_module(f"leakharness.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
