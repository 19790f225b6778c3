"""The strongest proof: the real code fails before the change, and passes after it.

Both sides run the same scenario file in the same mode, each in an environment of its own, side by side and in
turns; between them lies nothing but the change. Control arms say that the detector sees a leak where there is one,
in the very environment that passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from leakharness.errors import OptionError
from leakharness.measure.arm import Listener
from leakharness.measure.jobs import side_by_side
from leakharness.model import Retainer, RunResult
from leakharness.proof.revisions import resolved
from leakharness.proof.sides import PLANTED, Question, Side, SideMeasurer, check_early, make_side, tree_of
from leakharness.proof.suite_test import is_test, scenario_of, with_test
from leakharness.resolve import pyproject_options
from leakharness.scenario.find import ScenarioRef
from leakharness.scratch import scratch

__all__ = ["Paths", "Proof", "ProofVerdict", "compare_paths", "judge_proof", "prove"]

ProofVerdict = Literal["PROVEN", "NOT_FIXED", "NOT_REPRODUCED", "NOT_JUDGED"]
EXIT_CODES: Mapping[str, int] = {"PROVEN": 0, "NOT_FIXED": 1, "NOT_JUDGED": 3, "NOT_REPRODUCED": 4}


@dataclass(frozen=True)
class Paths:
    """Retainer paths before and after, compared by fingerprint."""

    vanished: tuple[Retainer, ...] = ()
    remaining: tuple[Retainer, ...] = ()
    new: tuple[Retainer, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "vanished": [path.document() for path in self.vanished],
            "remaining": [path.document() for path in self.remaining],
            "new": [path.document() for path in self.new],
        }


@dataclass(frozen=True)
class Proof:
    """What ``prove`` gives. ``before`` and ``after`` hold one result a round."""

    scenario: str
    mode: str
    verdict: ProofVerdict
    reason: str
    sides: Mapping[str, Side]
    before: tuple[RunResult, ...] = ()
    after: tuple[RunResult, ...] = ()
    controls: tuple[RunResult, ...] = ()
    paths: Paths = field(default_factory=Paths)
    reproduce: str = ""
    duration_s: float = 0.0

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def document(self) -> dict[str, Any]:
        rows = {"before": self.before, "after": self.after}
        return {
            "schema": "leakharness.prove/1",
            "scenario": self.scenario,
            "mode": self.mode,
            "verdict": self.verdict,
            "reason": self.reason,
            "reproduce": self.reproduce,
            "duration_s": round(self.duration_s, 3),
            **{
                name: {**side.document(), "arms": [arm.document() for arm in rows[name]]}
                for name, side in self.sides.items()
            },
            "controls": [arm.document() for arm in self.controls],
            "paths": self.paths.document(),
        }


def prove(
    found: ScenarioRef,
    question: Question,
    listener: Listener | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Proof:
    """Measure both sides and the controls, and judge. ``say`` is told about the slow steps before that.

    Raises UsageError for a question that cannot be asked, NotJudged where an environment cannot be built; a
    measurement that fails is a NOT_JUDGED proof.
    """
    began = time.monotonic()
    listener = listener or Listener()
    cwd = Path.cwd()
    subjects = {
        "before": resolved(question.before, question.both, cwd, "--before"),
        "after": resolved(question.after, question.both, cwd, "--after"),
    }
    before, after = subjects["before"], subjects["after"]
    if (before.commit, before.requirements) == (after.commit, after.requirements):
        raise OptionError(f"--before {before} and --after {after} are the same: there is no change to prove")
    asked_test = is_test(found)
    if not asked_test:
        check_early(found, question, cwd)
    with scratch() as folder:
        made = side_by_side(
            [partial(make_side, name, subject, question, cwd, folder, say) for name, subject in subjects.items()]
        )
        sides = dict(zip(subjects, made, strict=True))
        measured = found
        if asked_test:
            measured = scenario_of(found, cwd, folder)
            sides = {name: with_test(side, found, cwd, tree_of(name, cwd, folder)) for name, side in sides.items()}
        # Measured from a folder of its own: the current one may hold another version of the project.
        neutral = folder / "cwd"
        neutral.mkdir()
        bench = SideMeasurer(measured, question, listener, pyproject_options(cwd), neutral)
        controls = bench.control_arms(sides["after"])
        results = bench.rounds(sides)
        control_results = bench.controls(sides["after"], controls)
    verdict, reason = judge_proof(results["before"], results["after"], control_results)
    return Proof(
        scenario=found.name or found.path.stem,
        mode=question.mode,
        verdict=verdict,
        reason=reason,
        sides=sides,
        before=tuple(results["before"]),
        after=tuple(results["after"]),
        controls=tuple(control_results),
        paths=compare_paths(results["before"], results["after"]),
        reproduce=replace(question, before=before.exact, after=after.exact).command(found),
        duration_s=time.monotonic() - began,
    )


def judge_proof(
    before: Sequence[RunResult], after: Sequence[RunResult], controls: Sequence[RunResult]
) -> tuple[ProofVerdict, str]:
    """The verdict that these results come to, and why in one sentence. Pure. Only FAIL in every round before, PASS
    in every round after, and controls that did what they must, make a proof."""
    for name, arms in (("before", before), ("after", after)):
        unjudged = [arm for arm in arms if arm.verdict == "NOT_JUDGED"]
        if unjudged:
            return "NOT_JUDGED", f"the {name} side could not be measured: {unjudged[0].reason}"
        if not arms:
            return "NOT_JUDGED", f"the {name} side was not measured"
        if len({arm.verdict for arm in arms}) > 1:
            given = ", ".join(arm.verdict for arm in arms)
            return (
                "NOT_JUDGED",
                f"the {name} side gave {given} in its rounds: what was measured depends on something else",
            )
    if not any(arm.must == "FAIL" for arm in controls):
        return "NOT_JUDGED", "no control showed that a leak would have been seen"
    for arm in controls:
        if not arm.as_demanded:
            return "NOT_JUDGED", f"control {arm.mode} must give {arm.must} and gave {arm.verdict}: {arm.reason}"
        if arm.mode == PLANTED and not any(g.grows and g.counter == "tracked" for g in arm.growth):
            return "NOT_JUDGED", f"control {arm.mode} kept every tracked object, and the tracker did not count them"
    was, now = before[0], after[0]
    if was.verdict == "PASS":
        swapped = "; after leaks, so they may be the wrong way round" if now.verdict == "FAIL" else ""
        return "NOT_REPRODUCED", f"before does not leak, so that nothing can be said of a fix{swapped}"
    if now.verdict == "FAIL":
        return "NOT_FIXED", f"after still leaks: {now.reason}"
    return "PROVEN", f"before leaks ({was.reason}); after does not ({now.reason})"


def compare_paths(before: Sequence[RunResult], after: Sequence[RunResult]) -> Paths:
    """Which ways of being held are gone, which remain, and which are new. Pure."""
    was = {path.fingerprint: path for arm in reversed(before) for path in arm.retainers}
    now = {path.fingerprint: path for arm in reversed(after) for path in arm.retainers}
    return Paths(
        tuple(path for key, path in was.items() if key not in now),
        tuple(path for key, path in now.items() if key in was),
        tuple(path for key, path in now.items() if key not in was),
    )
