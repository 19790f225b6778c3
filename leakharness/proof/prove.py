"""The strongest proof: the real code fails before the change, and passes after it.

Both sides run the same scenario file in the same mode, each in an environment of its own, side by side and in
turns; between them lies nothing but the change. Control arms say that the detector sees a leak where there is one,
in the very environment that passed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from leakharness.errors import LeakHarnessError, OptionError, UsageError
from leakharness.measure.arm import Arm, Listener, Settings, SnapshotObserver
from leakharness.measure.describe import declaration_of
from leakharness.measure.evidence import Snapshots
from leakharness.measure.jobs import _end_processes_of
from leakharness.measure.known import forgive_known
from leakharness.measure.measurement import Request
from leakharness.measure.worker_process import WorkerProcess, interpreter
from leakharness.model import Retainer, RunResult
from leakharness.options import DEFAULTS
from leakharness.proof.environments import Recipe, build, cache_folder, checkout, clean_environment, installed
from leakharness.resolve import known_leaks, pyproject_options
from leakharness.scenario.declarations import reference_to
from leakharness.scenario.find import ScenarioRef
from leakharness.worker.protocol import ScenarioFacts

__all__ = [
    "Paths",
    "Proof",
    "ProofVerdict",
    "Question",
    "Side",
    "Revision",
    "compare_paths",
    "judge_proof",
    "parse_subject",
    "prove",
]

T = TypeVar("T")
ProofVerdict = Literal["PROVEN", "NOT_FIXED", "NOT_REPRODUCED", "NOT_JUDGED"]
EXIT_CODES: Mapping[str, int] = {"PROVEN": 0, "NOT_FIXED": 1, "NOT_JUDGED": 3, "NOT_REPRODUCED": 4}

ROUNDS = 2
"""How often each side is measured. Twice, in opposite order: a verdict that depends on the order is none."""
SIDE_BY_SIDE = 2
WAKE_S = 0.2
"""Seconds between two looks of the main thread: a signal that another thread receives does not wake it by itself."""
MUSTS: Mapping[str, Literal["PASS", "FAIL"]] = {"before": "FAIL", "after": "PASS"}
PRODUCTION = "production"
PLANTED = "planted leak"
"""The control that keeps every object that the after side's own runs track."""
GIT_TIMEOUT_S = 60.0
REQUIREMENT = re.compile(
    r"""[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?\s*(\[[\w.,\s-]*\])?\s*    # name and extras (PEP 508)
        (\(?\s*(===|==|~=|!=|<=|>=|<|>)\s*[\w.*+!-].*|@\s*\S*:.+)  # a version, or a URL""",
    re.VERBOSE,
)
DISTRIBUTION_SUFFIXES = (".whl", ".tar.gz", ".zip")
BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


@dataclass(frozen=True)
class Revision:
    """One side as it was asked for: at most one git revision of the project, and requirements."""

    asked: tuple[str, ...]
    commit: str | None = None
    requirements: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(self.asked)


@dataclass(frozen=True)
class Side:
    """A subject made ready to be measured: an interpreter, its variables, and what is installed there."""

    subject: Revision
    python: str
    env: Mapping[str, str]
    packages: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    """Where the project comes from: installed, or on the import path."""
    roots: tuple[str, ...] = ()
    """Folders that its files are named without, so that the same code has the same name on both sides."""

    def document(self) -> dict[str, Any]:
        return {
            "asked": list(self.subject.asked),
            "commit": self.subject.commit,
            "requirements": list(self.subject.requirements),
            "source": self.source,
            "python": self.python,
            "packages": dict(self.packages),
        }


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


@dataclass(frozen=True)
class Question:
    """What ``prove`` is asked, apart from the scenario."""

    before: Sequence[str]
    after: Sequence[str]
    both: Sequence[str] = ()
    """Requirements of both sides."""
    mode: str = PRODUCTION
    settings: Settings = field(default_factory=Settings)
    on_path: bool = False
    """Put a revision's tree on the import path of ``--python`` instead of installing it."""
    wheels: Path | None = None
    env_dir: Path | None = None

    def command(self, found: ScenarioRef) -> str:
        """The command line that asks this again."""
        words = ["leakharness", "prove", reference_to(found)]
        for flag, values in (("--before", self.before), ("--after", self.after), ("--with", self.both)):
            for value in values:
                words += [flag, value]
        words += ["--mode", self.mode] if self.mode != PRODUCTION else []
        words += ["--on-path"] if self.on_path else []
        for flag, path in (("--wheels", self.wheels), ("--env-dir", self.env_dir)):
            words += [flag, str(path)] if path is not None else []
        return shlex.join(words + self.settings.command_options())


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
        "before": _subject(question.before, question.both, cwd, "--before"),
        "after": _subject(question.after, question.both, cwd, "--after"),
    }
    before, after = subjects["before"], subjects["after"]
    if (before.commit, before.requirements) == (after.commit, after.requirements):
        raise OptionError(f"--before {before} and --after {after} are the same: there is no change to prove")
    _check_early(found, question, cwd)
    with tempfile.TemporaryDirectory(prefix="prove-") as temporary:
        folder = Path(temporary)
        made = _side_by_side(
            [partial(_make_side, name, subject, question, cwd, folder, say) for name, subject in subjects.items()]
        )
        sides = dict(zip(subjects, made, strict=True))
        # Measured from a folder of its own: the current one may hold another version of the project.
        neutral = folder / "cwd"
        neutral.mkdir()
        bench = SideMeasurer(found, question, listener, pyproject_options(cwd), neutral)
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
        reproduce=question.command(found),
        duration_s=time.monotonic() - began,
    )


def _side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What the calls give, :data:`SIDE_BY_SIDE` at a time. An interruption ends what they wait for."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        jobs: list[Future[T]] = []
        try:
            for call in calls:
                jobs.append(pool.submit(call))
            while wait(jobs, timeout=WAKE_S).not_done:
                pass
            return [job.result() for job in jobs]
        except BaseException as exc:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(exc, Exception):
                _end_processes_of(jobs)
            raise


def _check_early(found: ScenarioRef, question: Question, cwd: Path) -> None:
    """Raise UsageError for a mode that is not there before anything is built for it, where the declaration can be
    read without what is to be built."""
    python = interpreter(question.settings.python or pyproject_options(cwd).get("python"))
    try:
        scenario = declaration_of(found, python)
    except LeakHarnessError:
        return
    _check_mode(scenario, question.mode)


def _check_mode(scenario: ScenarioFacts, wanted: str) -> None:
    modes = [mode.name for mode in scenario.modes]
    if wanted not in modes:
        raise UsageError(
            f"{scenario.where}: scenario {scenario.name!r} has no mode {wanted!r}, and prove needs one that "
            f"runs the real code: add it, or name one of {', '.join(modes)} with --mode"
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


def parse_subject(words: Sequence[str], commit_of: Callable[[str], str | None], flag: str) -> Revision:
    """Tell requirements from git revisions. ``commit_of`` resolves a revision, or gives None. Raises OptionError.

    A requirement has a version or a URL (PEP 508), or is a file of a distribution; anything else must be a revision.
    ``req:`` and ``rev:`` in front say which.
    """
    commits: list[str] = []
    requirements: list[str] = []
    for word in words:
        kind, _, rest = word.partition(":")
        text = rest.strip() if kind in ("rev", "req") else word.strip()
        is_requirement = kind == "req" or (kind != "rev" and _looks_required(text))
        commit = None if kind == "req" else commit_of(text)
        if is_requirement and commit is not None:
            raise OptionError(
                f"{flag} {word!r} is a requirement, and a git revision here: write {'req:' + text!r} "
                f"or {'rev:' + text!r}"
            )
        if is_requirement:
            requirements.append(text)
        elif commit is not None:
            commits.append(commit)
        else:
            raise OptionError(
                f"{flag} {word!r} is no git revision here, and no requirement: write a requirement with its version "
                f"('{text or 'package'}==1.2.3'), or 'req:{text or 'package'}' for the newest one"
            )
    if not words:
        raise OptionError(f"{flag} is missing: a git revision or a requirement ('package==1.2.3')")
    if len(commits) > 1:
        raise OptionError(f"{flag} names {len(commits)} git revisions; give one, and requirements beside it")
    return Revision(tuple(words), commits[0] if commits else None, tuple(requirements))


def _looks_required(text: str) -> bool:
    is_file = text.endswith(DISTRIBUTION_SUFFIXES) and Path(text).is_file()
    return bool(text) and (is_file or REQUIREMENT.fullmatch(text) is not None)


def _subject(words: Sequence[str], both: Sequence[str], cwd: Path, flag: str) -> Revision:
    subject = parse_subject(words, lambda text: _commit_of(text, cwd), flag)
    return replace(subject, requirements=tuple(map(_absolute, (*subject.requirements, *both))))


def _absolute(requirement: str) -> str:
    """A distribution file by its absolute path: the installer may run elsewhere."""
    return os.path.abspath(requirement) if requirement.endswith(DISTRIBUTION_SUFFIXES) else requirement


def _commit_of(revision: str, cwd: Path) -> str | None:
    """The commit that a revision names in the repository at ``cwd``; None where there is none."""
    if not revision or revision.startswith("-"):
        return None
    return _git(["rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], cwd)


def _git(arguments: Sequence[str], cwd: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _make_side(
    name: str, subject: Revision, question: Question, cwd: Path, folder: Path, say: Callable[[str], None]
) -> Side:
    """Check the revision out, if there is one, and build the environment."""
    python = interpreter(question.settings.python or pyproject_options(cwd).get("python"))
    where = question.env_dir or cache_folder()
    tree: Path | None = None
    if subject.commit is not None:
        root = _git(["rev-parse", "--show-toplevel"], cwd)
        if root is None:
            raise UsageError(f"--{name} {subject}: {cwd} is not in a git work tree")
        prefix = _git(["rev-parse", "--show-prefix"], cwd) or ""
        # One letter: names of equal length are cut at the same place on both sides.
        tree = checkout(Path(root), subject.commit, folder / name[0])
        tree = tree / prefix if (tree / prefix).is_dir() else tree
    installs = tree is not None and not question.on_path and any((tree / file).is_file() for file in BUILD_FILES)
    paths = [] if tree is None or installs else [path for path in (tree / "src", tree) if path.is_dir()]
    if subject.requirements or not question.on_path:
        say(f"{name}: building the environment of {subject}")
        recipe = Recipe(
            python,
            subject.requirements,
            tree if installs else None,
            subject.commit if installs else None,
            question.wheels,
        )
        python = build(recipe, where)
    roots = {os.path.join(text, "") for path in paths for text in (str(path), os.path.realpath(path))}
    source = "" if tree is None else "installed" if installs else "on the import path"
    return Side(
        subject,
        python,
        clean_environment(*paths),
        installed(python),
        source,
        tuple(sorted(roots, key=len, reverse=True)),
    )


def _named_without(path: Retainer, roots: Sequence[str]) -> Retainer:
    """The same path, with files named from below ``roots``."""

    def shorter(text: str) -> str:
        for root in roots:
            text = text.replace(root, "")
        return text

    return replace(
        path,
        path=tuple(map(shorter, path.path)),
        also=tuple(map(shorter, path.also)),
        fingerprint=shorter(path.fingerprint),
        sentence=shorter(path.sentence),
    )


@dataclass(frozen=True)
class Control:
    """An arm whose verdict is known beforehand."""

    mode: str
    must: Literal["PASS", "FAIL"]
    planted: bool = False


@dataclass(frozen=True)
class SideMeasurer:
    """Measures arms of one scenario, in any environment."""

    found: ScenarioRef
    question: Question
    listener: Listener
    pyproject: Mapping[str, Any]
    cwd: Path

    def control_arms(self, side: Side) -> list[Control]:
        """What must be seen in the environment of ``side`` for its PASS to count. Raises UsageError for a mode that
        the scenario does not have."""
        wanted = self.question.mode
        with WorkerProcess(side.python, cwd=str(self.cwd), env=side.env) as worker:
            worker.set_deadline(time.monotonic() + DEFAULTS["timeout"])
            scenario = declaration_of(self.found, side.python, worker=worker)
        _check_mode(scenario, wanted)
        arms = []
        for mode in scenario.modes:
            must: Literal["PASS", "FAIL"] | None = mode.must or ("PASS" if mode.default else None)
            is_copy = not mode.needs_target and not mode.needs
            if mode.name != wanted and must is not None and is_copy:
                arms.append(Control(mode.name, must))
        return [*arms, Control(wanted, "FAIL", planted=True)]

    def rounds(self, sides: Mapping[str, Side]) -> dict[str, list[RunResult]]:
        """Both sides side by side, as often as :data:`ROUNDS` says, each time in the other order."""
        results: dict[str, list[RunResult]] = {name: [] for name in sides}
        order = list(sides)
        for _ in range(ROUNDS):
            arms = _side_by_side([partial(self.arm, sides[name], self.question.mode, name) for name in order])
            for name, result in zip(order, arms, strict=True):
                results[name].append(replace(result, must=MUSTS[name]))
            order.reverse()
        return results

    def controls(self, side: Side, arms: Sequence[Control]) -> list[RunResult]:
        """The control arms, in the environment of ``side``."""
        results = _side_by_side(
            [
                partial(self.arm, side, arm.mode, "control", planted=arm.planted, explained=arm.must == "PASS")
                for arm in arms
            ]
        )
        return [replace(result, must=arm.must) for arm, result in zip(arms, results, strict=True)]

    def arm(self, side: Side, mode: str, label: str, *, planted: bool = False, explained: bool = True) -> RunResult:
        """One mode, in a fresh process of the environment of ``side``. ``explained``: with who holds
        what, which a leak that is known is told by."""
        began = time.monotonic()
        asked = self.question.settings
        settings = replace(asked, env=side.env, cwd=str(self.cwd), defaults={"snapshots": "never"})
        request = Request(
            str(self.found.path.resolve()),
            self.found.name,
            mode,
            asked.target or self.pyproject.get("target"),
            {"kind": "tracked"} if planted else None,
        )
        arm = Arm(request, settings, side.python, self.pyproject)
        snapshots = Snapshots(None, always=False, known=arm.knows)
        observer = SnapshotObserver(f"{label}: {side.subject}", self.listener, snapshots)
        with snapshots.closing():
            result, _ = arm.measure(observer, explain=snapshots.explain if explained else None)
        name = PLANTED if planted else result.mode
        retainers = tuple(_named_without(path, side.roots) for path in result.retainers)
        result = replace(result, retainers=retainers, mode=name, duration_s=time.monotonic() - began)
        if not planted:
            result = forgive_known(result, known_leaks(result.known_declared, self.pyproject))
        self.listener.done(replace(result, mode=f"{label} {name if label == 'control' else side.subject}"))
        return result
