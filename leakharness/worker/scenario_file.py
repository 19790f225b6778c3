"""Loads a scenario file in the measured process, and tells what it declares."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from leakharness.errors import LeakHarnessError, ScenarioError, did_you_mean
from leakharness.scenario.declare import SYNTHETIC_LEAK, Mode, Scenario
from leakharness.worker.exception_text import show_only_of
from leakharness.worker.failure import failure_of, full_failure_of
from leakharness.worker.protocol import Declarations, FileFacts, ModeFacts, ScenarioFacts
from leakharness.worker.recorder import Plant
from leakharness.worker.runs import RunFailed
from leakharness.worker.unpatched import os

__all__ = ["describe", "facts_of", "load_scenario", "mode_of"]


def describe(paths: list[str]) -> Declarations:
    """The scenarios of each file, without running anything."""
    found: dict[str, FileFacts] = {}
    for path in paths:
        show_only_of(path)
        try:
            found[path] = FileFacts(tuple(map(facts_of, _scenarios(_load(path)))))
        except BaseException as exc:
            found[path] = FileFacts(failure=failure_of(exc))
    return Declarations(found)


def load_scenario(path: str, name: str | None) -> Scenario:
    """The scenario ``name`` of a file, or its only one. Raises ScenarioError, and RunFailed for a file that cannot be
    loaded."""
    return _pick(_scenarios(_load(path)), name, path)


def mode_of(scenario: Scenario, name: str | None) -> tuple[Mode, Plant | None]:
    """A mode by its name, or the default one, and the leak that is planted for it. Raises ScenarioError."""
    if name is None:
        return scenario.default_mode(), None
    if name == SYNTHETIC_LEAK:
        return scenario.default_mode(), Plant("tracked")
    mode = scenario.modes.get(name)
    if mode is None:
        names = [*scenario.modes, SYNTHETIC_LEAK]
        meant = did_you_mean(name, names)
        raise ScenarioError(f"scenario {scenario.name!r} has no mode {name!r}; it has {', '.join(names)}{meant}")
    return mode, None


def facts_of(scenario: Scenario) -> ScenarioFacts:
    """What it declares, as plain values."""
    default = scenario.default_mode().name
    return ScenarioFacts(
        name=scenario.name,
        default=default,
        modes=tuple(
            ModeFacts(
                name=mode.name,
                must=mode.must,
                abort=mode.abort,
                default=mode.name == default,
                where=mode.where,
                needs=dict(mode.needs),
                needs_target=mode.needs_target,
                missing={module: hint for module, hint in mode.needs.items() if not _is_installed(module)},
            )
            for mode in scenario.modes.values()
        ),
        summary=scenario.summary,
        mimics=scenario.mimics,
        target=scenario.target,
        where=scenario.where,
        options=scenario.options,
        known=tuple((known.match, known.reason) for known in scenario.known),
        bounded=scenario.bounded,
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of a parent that is not there, or a module without a spec
        return False


def _load(path: str) -> ModuleType:
    """Import the scenario file as ``scenarios.<stem>``, whatever its folder is called."""
    stem = os.path.splitext(os.path.basename(path))[0]
    name = f"scenarios.{stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (LeakHarnessError, SyntaxError, ModuleNotFoundError):
        raise
    except BaseException as exc:
        failure = full_failure_of(exc)
        raise RunFailed(f"loading {path} ended by {failure.reason}", failure.detail) from None
    return module


def _scenarios(module: ModuleType) -> list[Scenario]:
    found = [value for value in vars(module).values() if isinstance(value, Scenario)]
    unique = list(dict.fromkeys(found))
    names: dict[str, Scenario] = {}
    for scenario in unique:
        scenario.validate()
        if scenario.name in names:
            raise ScenarioError(
                f"{scenario.where}: scenario {scenario.name!r} is declared twice "
                f"(first at {names[scenario.name].where})"
            )
        names[scenario.name] = scenario
    return unique


def _pick(scenarios: list[Scenario], name: str | None, path: str) -> Scenario:
    if name is not None:
        scenarios = [scenario for scenario in scenarios if scenario.name == name]
    if len(scenarios) == 1:
        return scenarios[0]
    if not scenarios:
        raise ScenarioError(f"{path}: no scenario {'here' if name is None else repr(name)}")
    names = ", ".join(scenario.name for scenario in scenarios)
    raise ScenarioError(f"{path}: several scenarios here ({names}): say which with {path}::NAME")
