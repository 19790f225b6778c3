"""What the options come to: command line > scenario > ``[tool.leakharness]`` in pyproject.toml > default."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leakharness.errors import OptionError
from leakharness.model import Plan
from leakharness.options import BY_NAME, DEFAULTS, checked, names_at
from leakharness.scenario.declare import Known

__all__ = ["checked_target", "known_leaks", "pyproject_options", "resolve"]

TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
TOOL_KEYS = names_at("pyproject") | {"known", "trend_budget"}


def resolve(
    command_line: Mapping[str, Any],
    scenario: Mapping[str, Any] | None = None,
    pyproject: Mapping[str, Any] | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan that these layers come to. None in a layer means: not said there. Raises OptionError."""
    layers = (
        ("command line", command_line),
        ("scenario", scenario or {}),
        ("pyproject.toml", pyproject or {}),
        ("default", {**DEFAULTS, **(defaults or {})}),
    )
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in DEFAULTS:
        for source, layer in layers:
            if layer.get(name) is not None or source == "default":
                sources[name], values[name] = source, checked(name, layer.get(name), source)
                break
    return Plan(**values, iters_given=sources["iters"] != "default")


def checked_target(target: str | None) -> str | None:
    """``target`` as it is. Raises OptionError where it is not ``module:attribute``, both of them dotted names."""
    if target is not None and not (isinstance(target, str) and TARGET.fullmatch(target)):
        raise OptionError(f"--target {target}: write it as module:attribute")
    return target


def pyproject_options(folder: Path) -> dict[str, Any]:
    """``[tool.leakharness]`` of the nearest pyproject.toml at or above ``folder``. Raises OptionError."""
    for place in (folder, *folder.parents):
        path = place / "pyproject.toml"
        if path.is_file():
            break
    else:
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise OptionError(f"{path}: {exc}") from None
    tools = table.get("tool", {})
    section = tools.get("leakharness", {}) if isinstance(tools, dict) else tools
    if not isinstance(section, dict):
        raise OptionError(f"{path}: [tool.leakharness] is a table, not {section!r}")
    if not isinstance(section.get("known", []), list):
        raise OptionError(f"{path}: [tool.leakharness] known is a list of tables, not {section['known']!r}")
    options = {key.replace("-", "_"): value for key, value in section.items()}
    for key in options.keys() & BY_NAME.keys():
        checked(key, options[key], str(path))
    unknown = sorted(key for key in options if key not in TOOL_KEYS and not key.startswith("leak_"))
    if unknown:
        raise OptionError(
            f"{path}: [tool.leakharness] has no option {unknown[0]!r}; it takes {', '.join(sorted(TOOL_KEYS))}"
        )
    return options


def known_leaks(scenario: Sequence[Sequence[str]], pyproject: Mapping[str, Any]) -> list[Known]:
    """The accepted leaks of a scenario and of pyproject.toml. Raises OptionError for one without a reason."""
    known = [Known(match, reason) for match, reason in scenario]
    for entry in pyproject.get("known", ()):
        match, reason = (entry.get("match", ""), entry.get("reason", "")) if isinstance(entry, Mapping) else ("", "")
        if not str(match).strip() or not str(reason).strip():
            raise OptionError(
                f"[tool.leakharness] known: {entry!r} needs match (a type or a retainer fingerprint) and reason"
            )
        known.append(Known(str(match), str(reason)))
    return known
