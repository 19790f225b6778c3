"""What the commands do, as functions: ``run`` one mode, ``check`` every arm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leakharness.errors import OptionError
from leakharness.measure.arm import Settings, run_found
from leakharness.model import Certificate, RunResult
from leakharness.options import DEFAULTS, names_at
from leakharness.proof.certify import check_found
from leakharness.scenario.declare import Scenario
from leakharness.scenario.find import ScenarioRef, find

__all__ = ["check", "run"]


def run(scenario: str | os.PathLike[str] | Scenario, mode: str | None = None, **options: Any) -> RunResult:
    """Measure one mode in a fresh process, as ``leakharness run`` does. Writes snapshots, but no report.

    ``options`` are the command's, with underscores: iters, batches, timeout, target, python and so on (the reference of
    options names all of them). ``env`` is the whole environment of the measured process.
    Raises UsageError for what the command would exit 2 for; a measurement that fails is a NOT_JUDGED result.
    """
    return run_found(_find(scenario), mode, _settings(options))


def check(scenario: str | os.PathLike[str] | Scenario, **options: Any) -> Certificate:
    """Measure every arm of a scenario, as ``leakharness check`` does. Options and errors as for :func:`run`."""
    return check_found(_find(scenario), _settings(options, snapshots="on-fail"))


def _find(scenario: str | os.PathLike[str] | Scenario) -> ScenarioRef:
    if isinstance(scenario, Scenario):
        path, _, line = scenario.where.rpartition(":")
        return ScenarioRef(scenario.name, Path(path), int(line), "file")
    return find(os.fspath(scenario))


def _settings(options: Mapping[str, Any], **defaults: Any) -> Settings:
    known = names_at("function")
    unknown = sorted(set(options) - known - {"env"})
    if unknown:
        raise OptionError(f"unknown option {unknown[0]!r}; there are {', '.join(sorted(known))}")
    steering = {name: value for name, value in options.items() if name in DEFAULTS}
    rest = {name: value for name, value in options.items() if name not in DEFAULTS}
    return Settings(steering, defaults=defaults, **rest)
