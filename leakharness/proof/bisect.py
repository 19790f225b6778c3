"""The commit, or the published version, that brought a leak or mended it.

Each revision is measured as a side of a proof is: in an environment of its own, from its own source. What each gave is
kept on disk at once, so that the same command goes on where it was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from leakharness.documents import BisectDocument, StepDocument, read_document, validated
from leakharness.errors import NotJudged, UsageError
from leakharness.measure.arm import Listener
from leakharness.measure.worker_process import interpreter
from leakharness.model import RunResult
from leakharness.proof.bisection import Answer, Found, search
from leakharness.proof.history import Range, range_of
from leakharness.proof.revisions import SHORT, resolved
from leakharness.proof.sides import Control, Question, SideMeasurer, check_early, make_side
from leakharness.report.document import to_json
from leakharness.resolve import pyproject_options
from leakharness.scenario.find import ScenarioRef
from leakharness.scratch import scratch
from leakharness.store import write_atomically

__all__ = ["Bisection", "bisect"]


@dataclass(frozen=True)
class Bisection:
    """What ``bisect`` gives."""

    scenario: str
    question: Question
    asked: Range
    found: Found
    steps: tuple[StepDocument, ...]
    reference: str
    """The scenario as it is written after a command."""
    folder: Path
    control: RunResult | None = None
    """The planted leak, where the revision that passes was measured."""
    duration_s: float = 0.0

    @property
    def exit_code(self) -> int:
        return 3 if self.found.first is None else 0

    @property
    def subject(self) -> str:
        """The first line of the commit's message; for a version, the requirement."""
        return _subject(self.asked, self.found.first) if self.found.first else ""

    def command(self) -> str:
        """The command line that asks this again."""
        return self.question.command_as("bisect", self.reference)

    def prove_command(self) -> str:
        """The command line that proves the difference between the two neighbours, in two rounds with controls."""
        if self.found.first is None or self.found.before is None:
            return ""
        leaky, clean = self.found.first, self.found.before
        if self.asked.history.old_leaks:
            leaky, clean = clean, leaky
        sides = [self.asked.subjects[name] for name in (leaky, clean)]
        before, after = ([side.commit] if side.commit else list(side.asked) for side in sides)
        return replace(self.question, before=before, after=after).command_as("prove", self.reference)

    def paths(self) -> list[Mapping[str, Any]]:
        """The ways of being held that one neighbour has and the other has not."""
        rows = {step["revision"]: step.get("result") for step in self.steps}
        first, before = (rows.get(name or "") for name in (self.found.first, self.found.before))
        leaky, clean = (before, first) if self.asked.history.old_leaks else (first, before)
        if leaky is None:
            return []
        held = {row["fingerprint"] for row in clean["retainers"]} if clean else set()
        return [row for row in leaky["retainers"] if row["fingerprint"] not in held]

    def document(self) -> BisectDocument:
        found = self.found
        return cast(
            BisectDocument,
            {
                "schema": "leakharness.bisect/1",
                "scenario": self.scenario,
                "mode": self.question.mode,
                "outcome": "NOT_FOUND" if found.first is None else "FOUND",
                "change": "mended" if self.asked.history.old_leaks else "brought",
                "reason": found.reason,
                "revision": found.first,
                "subject": self.subject,
                "before": found.before,
                "suspects": list(found.suspects),
                "revisions": len(self.asked.history.parents) + 1,
                "steps": list(self.steps),
                "paths": self.paths(),
                "control": None if self.control is None else self.control.document(),
                "prove": self.prove_command(),
                "reproduce": self.command(),
                "folder": str(self.folder),
                "duration_s": round(self.duration_s, 3),
            },
        )


@dataclass
class _Search:
    """One search: measures what it is asked for, and keeps what that gave."""

    bench: SideMeasurer
    asked: Range
    folder: Path
    cwd: Path
    trees: Path
    say: Callable[[str], None]
    steps: list[StepDocument] = field(default_factory=list)

    def ask(self, name: str, left: int) -> Answer:
        """The verdict of a revision: the one that is kept, else a new one."""
        shown = f"{name[:SHORT]} {_subject(self.asked, name)}"
        self.say(f"step {len(self.steps) + 1}: {shown} ({left} may still be the one)")
        step = self._kept(name)
        again = "" if step is None else ", measured before"
        if step is None:
            step = self._measured(name)
            write_atomically(self._file(name), to_json(step, indent=True))
        self.steps.append(step)
        self.say(f"  {step['verdict']} ({step['duration_s']:.1f} s{again}): {step['reason']}")
        return step["verdict"]

    def control(self, name: str) -> RunResult:
        """The mode with a planted leak, in the environment of a revision that passes: it must FAIL there."""
        kept = self.trees / "c"
        side = make_side(name[:SHORT], self.asked.subjects[name], self.bench.question, self.cwd, kept, self.say)
        return self.bench.controls(side, [Control(self.bench.question.mode, "FAIL", planted=True)])[0]

    def _file(self, name: str) -> Path:
        return self.folder / f"step-{name}.json"

    def _kept(self, name: str) -> StepDocument | None:
        path = self._file(name)
        if not path.is_file():
            return None
        return validated(StepDocument, read_document(path, "step of a bisection"), str(path))

    def _measured(self, name: str) -> StepDocument:
        """Check out, build and measure. What cannot be built is NOT_JUDGED, as git's ``skip``."""
        began = time.monotonic()
        place = self.trees / "t"  # one place for all: names of files are cut where they are long
        verdict: Answer
        more: dict[str, Any] = {}
        try:
            subject = self.asked.subjects[name]
            side = make_side(name[:SHORT], subject, self.bench.question, self.cwd, place, self.say)
            result = self.bench.arm(side, self.bench.question.mode, name[:SHORT])
            verdict, reason, more = result.verdict, result.reason, {"result": result.document()}
        except NotJudged as exc:
            verdict, reason = "NOT_JUDGED", str(exc)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        took = round(time.monotonic() - began, 3)
        about = {"revision": name, "subject": _subject(self.asked, name), "verdict": verdict, "reason": reason}
        return cast(StepDocument, {**about, "duration_s": took, **more})


def bisect(
    found: ScenarioRef,
    question: Question,
    reports: Path,
    reference: str,
    *,
    restart: bool = False,
    listener: Listener | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Bisection:
    """Search between ``question.before`` (the end that leaks) and ``question.after`` (the one that does not), and keep
    each step in a folder of ``reports``; ``restart`` measures anew what is kept there.

    Raises UsageError for a question that cannot be asked, NotJudged where the versions of a package cannot be listed.
    """
    began = time.monotonic()
    cwd = Path.cwd()
    bad = resolved(question.before, question.both, cwd, "--bad")
    good = resolved(question.after, question.both, cwd, "--good")
    check_early(found, question, cwd)
    pyproject = pyproject_options(cwd)
    python = interpreter(question.settings.python or pyproject.get("python"))
    asked = range_of(good, bad, cwd, python, question.wheels)
    name = found.name or found.path.stem
    folder = reports / f"{name}-bisect-{_key(found, question, asked, python)}"
    if restart:
        shutil.rmtree(folder, ignore_errors=True)
    with scratch() as trees:
        neutral = trees / "cwd"
        neutral.mkdir()
        bench = SideMeasurer(found, question, listener or Listener(), pyproject, neutral)
        work = _Search(bench, asked, folder, cwd, trees, say)
        result = search(asked.history, work.ask)
        control = None
        if result.first is not None:
            passes = result.first if asked.history.old_leaks else result.before
            control = work.control(str(passes))
            if control.verdict != "FAIL":
                reason = f"a planted leak gave {control.verdict} in {passes}, so that its PASS does not count"
                result = Found(None, result.before, (result.first,), reason)
    bisection = Bisection(
        name, question, asked, result, tuple(work.steps), reference, folder, control, time.monotonic() - began
    )
    write_atomically(folder / "bisect.json", to_json(bisection.document(), indent=True))
    return bisection


def _subject(asked: Range, name: str) -> str:
    return asked.subject_lines.get(name) or str(asked.subjects[name])


def _key(found: ScenarioRef, question: Question, asked: Range, python: str) -> str:
    """A name for the question: what is kept under it answers this question and no other."""
    settings = question.settings
    try:
        text = found.path.read_bytes()
    except OSError as exc:
        raise UsageError(f"{found.path}: cannot be read: {exc.strerror or exc}") from None
    parts = [
        found.name,
        hashlib.sha256(text).hexdigest(),
        asked.history.old,
        asked.history.new,
        question.mode,
        question.on_path,
        list(question.both),
        {key: value for key, value in settings.options.items() if value is not None},
        settings.target,
        python,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]
