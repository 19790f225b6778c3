"""Every arm of a scenario, measured side by side, and the certificate that they come to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from leakharness.errors import LeakHarnessError
from leakharness.measure.arm import Listener, Settings, control_rise, run_found
from leakharness.measure.describe import declaration_of, describe
from leakharness.measure.jobs import side_by_side
from leakharness.measure.worker_process import interpreter
from leakharness.model import Certificate, CertificateVerdict, RunResult
from leakharness.options import DEFAULTS
from leakharness.resolve import checked_target, pyproject_options, resolve
from leakharness.scenario.declare import SYNTHETIC_LEAK
from leakharness.scenario.find import ScenarioRef
from leakharness.scenario.unfinished import FILL_IN, marked_lines
from leakharness.worker.protocol import ScenarioFacts

UNFINISHED = "the scenario is not finished, so that its arms stand for nothing yet: "
"""How the note of such places begins; a certificate with it is none."""

__all__ = ["check_found", "lacks", "left_out"]


def check_found(found: ScenarioRef, settings: Settings, listener: Listener | None = None) -> Certificate:
    """:func:`check` for a scenario that was found already."""
    settings = replace(settings, defaults={"snapshots": "on-fail", **settings.defaults})
    pyproject = pyproject_options(Path.cwd())
    python = interpreter(settings.python or pyproject.get("python"))
    scenario = declaration_of(found, python, timeout=resolve(settings.options, None, pyproject).timeout)
    has_target = bool(checked_target(settings.target or pyproject.get("target")) or scenario.target)
    arms, notes = _arms(scenario, has_target, asked=settings.target is not None)
    control = partial(control_rise, DEFAULTS["iters"] * DEFAULTS["batches"], python, settings)
    noise = side_by_side([control], 1)[0]
    results = side_by_side([partial(run_found, found, mode, settings, listener, control=noise) for mode, _ in arms])
    results = [replace(result, must=must, control=noise) for result, (_, must) in zip(results, arms, strict=True)]
    notes += _shape_notes(scenario, found, python)
    return certify(scenario.name, results, [*notes, *unfinished(found.path)])


def left_out(found: Sequence[ScenarioRef], settings: Settings) -> dict[ScenarioRef, str]:
    """Which of them cannot be measured at all, since no mode does without a package that is not installed where it is
    measured; and which package. What is wrong with a scenario in any other way is left to its own check."""
    pyproject = pyproject_options(Path.cwd())
    python = interpreter(settings.python or pyproject.get("python"))
    answers = describe([ref.path for ref in found], python)
    return {
        ref: lacking
        for ref in found
        for scenario in answers[str(ref.path.resolve())].scenarios
        if scenario.name == ref.name and (lacking := lacks(scenario))
    }


def lacks(scenario: ScenarioFacts) -> str:
    """The package that is not there and without which no mode can be measured, in a sentence; empty where there is
    none."""
    missing = [mode.missing for mode in scenario.modes]
    module, hint = next(iter(missing[0].items()), ("", ""))
    needed = module and all(module in others for others in missing)
    return f"{module} is not installed where it is measured ({hint})" if needed else ""


def unfinished(file: Path) -> list[str]:
    """A note of the places that ``leakharness new`` has left to its user; none where the file has no such mark."""
    marked = marked_lines(file.read_text(encoding="utf-8", errors="replace"))
    return [f"{UNFINISHED}{file.name}, {FILL_IN} in line {', '.join(map(str, marked))}"] if marked else []


def certify(name: str, arms: Sequence[RunResult], notes: Sequence[str] = ()) -> Certificate:
    """The certificate that these arms come to. Pure."""
    blind = [arm for arm in arms if arm.must == "FAIL" and arm.verdict == "PASS"]
    leaky = [arm for arm in arms if arm.must == "PASS" and arm.verdict == "FAIL"]
    unjudged = [arm for arm in arms if arm.verdict == "NOT_JUDGED"]
    uncounted = [
        arm
        for arm in arms
        if arm.mode == SYNTHETIC_LEAK
        and arm.verdict == "FAIL"
        and not any(g.grows and g.counter == "tracked" for g in arm.growth)
    ]
    verdict: CertificateVerdict
    if blind:
        verdict, reason = (
            "INVALID",
            (f"{_names(blind)} must FAIL and passed: the detector or the scenario is blind, so no PASS counts"),
        )
    elif uncounted:
        verdict, reason = (
            "INVALID",
            (f"{SYNTHETIC_LEAK} keeps every tracked object and the tracker did not count them: no PASS counts"),
        )
    elif leaky:
        verdict, reason = "LEAK", f"{_names(leaky)} must PASS and failed: {leaky[0].reason}"
    elif unjudged:
        verdict, reason = "NOT_JUDGED", f"{_names(unjudged)} could not be measured: {unjudged[0].reason}"
    elif not any(arm.must == "PASS" for arm in arms):
        verdict = "NOT_JUDGED"
        reason = "no arm that must PASS: the leak is seen, and nothing shows that it is fixed; add such a mode"
    elif any(note.startswith(UNFINISHED) for note in notes):
        verdict, reason = "NOT_JUDGED", next(note for note in notes if note.startswith(UNFINISHED))
    else:
        verdict, reason = "CERTIFIED", "every arm gave what it must: the leak is seen where it is, and the fix has none"
    return Certificate(name, verdict, reason, tuple(arms), tuple(notes))


def _arms(scenario: ScenarioFacts, has_target: bool, *, asked: bool) -> tuple[list[tuple[str, Any]], list[str]]:
    """(mode, what it must give) for each arm, and what there is to say about them. ``asked``: a target was named on
    the command line, so that the arm that imports it is wanted whether it can be had or not."""
    notes: list[str] = []
    arms: list[tuple[str, Any]] = []
    for mode in scenario.modes:
        if mode.needs_target and not has_target:
            notes.append(f"no {mode.name} arm: it needs --target module:attribute")
        elif mode.missing and not mode.default and not (asked and mode.needs_target):
            module, hint = next(iter(mode.missing.items()))
            notes.append(f"no {mode.name} arm: {module} is not installed where it is measured ({hint})")
        elif mode.must is not None or mode.default:
            arms.append((mode.name, mode.must or "PASS"))
    if not any(must == "FAIL" for _, must in arms):
        notes.append("no sensitivity arm of its own: no mode of this scenario must FAIL but synthetic-leak")
    arms.append((SYNTHETIC_LEAK, "FAIL"))
    return arms, notes


def _shape_notes(scenario: ScenarioFacts, found: ScenarioRef, python: str) -> list[str]:
    """Whether the fixture still has the lexical shape of what it mimics, in a sentence; none where it says nothing
    of that. A fixture that has drifted proves nothing about the original, and the certificate has to say so."""
    if not scenario.mimics:
        return []
    from leakharness.shape import check_shape

    other = None if python == sys.executable else python
    try:
        comparison = check_shape(f"{found.path}::{scenario.name}", python=other).comparison
    except LeakHarnessError as exc:
        return [f"shape not compared with {scenario.mimics}: {exc}"]
    hides = ", and the difference can hide the leak" if comparison.can_hide else ""
    return [f"shape: {comparison.verdict} as {scenario.mimics}{hides} (leakharness shape {scenario.name})"]


def _names(arms: Sequence[RunResult]) -> str:
    return " and ".join(arm.mode for arm in arms)
