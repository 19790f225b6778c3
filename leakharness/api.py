"""What the commands do, as functions: ``run`` one mode, ``check`` every arm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leakharness.errors import OptionError
from leakharness.measure.arm import Settings, run_found
from leakharness.model import Certificate, RunResult
from leakharness.options import DEFAULTS
from leakharness.proof.certify import check_found
from leakharness.scenario.declare import Scenario
from leakharness.scenario.find import ScenarioRef, find

__all__ = ["check", "run"]


def run(scenario: str | os.PathLike[str] | Scenario, mode: str | None = None, **options: Any) -> RunResult:
    """Measure one mode in a fresh process, as ``leakharness run`` does. Writes snapshots, but no report.

    ``options`` are the command's, with underscores: iters, batches, warmup, scope_bytes, max_tracked_retention,
    max_rss_growth_mb, max_runs, max_seconds, timeout, snapshots, snap_dir, target, python.
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
    rest = {name: value for name, value in options.items() if name not in DEFAULTS}
    unknown = sorted(set(rest) - {"snap_dir", "target", "python", "env"})
    if unknown:
        raise OptionError(
            f"unknown option {unknown[0]!r}; there are {', '.join(sorted(DEFAULTS))}, snap_dir, target, python"
        )
    return Settings(
        {name: value for name, value in options.items() if name in DEFAULTS},
        rest.get("target"),
        rest.get("python"),
        rest.get("snap_dir"),
        defaults,
        env=rest.get("env"),
    )
