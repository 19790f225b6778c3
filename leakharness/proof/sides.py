"""The two sides of a proof: what is asked of them, the environment of each, and measuring there."""

from __future__ import annotations

import os
import platform
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from leakharness.errors import LeakHarnessError, UsageError
from leakharness.excerpts import Sources, library_folders, with_excerpts
from leakharness.measure.arm import Arm, Listener, Settings, SnapshotObserver, place_of
from leakharness.measure.describe import declaration_of
from leakharness.measure.evidence import Snapshots
from leakharness.measure.jobs import side_by_side
from leakharness.measure.known import forgive_known
from leakharness.measure.measurement import Request
from leakharness.measure.worker_process import WorkerProcess, interpreter
from leakharness.model import RunResult
from leakharness.options import DEFAULTS
from leakharness.proof.environments import Recipe, build, cache_folder, checkout, clean_environment, installed
from leakharness.proof.revisions import Revision, git
from leakharness.resolve import known_leaks, pyproject_options, resolve
from leakharness.scenario.declarations import reference_to
from leakharness.scenario.find import ScenarioRef
from leakharness.worker.protocol import ScenarioFacts

__all__ = [
    "PLANTED",
    "PRODUCTION",
    "Control",
    "Question",
    "Side",
    "SideMeasurer",
    "check_early",
    "check_mode",
    "make_side",
    "tree_of",
]

ROUNDS = 2
"""How often each side is measured. Twice, in opposite order: a verdict that depends on the order is none."""
MUSTS: Mapping[str, Literal["PASS", "FAIL"]] = {"before": "FAIL", "after": "PASS"}
PRODUCTION = "production"
PLANTED = "planted leak"
BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


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
class Question:
    """What ``prove`` and ``bisect`` are asked, apart from the scenario: what leaks, and what does not."""

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
        """The command line of ``prove`` that asks this."""
        return self.command_as("prove", reference_to(found))

    def command_as(self, command: str, reference: str) -> str:
        """The command line of ``prove`` or ``bisect`` that asks this about the scenario ``reference``."""
        ends = ("--before", "--after") if command == "prove" else ("--bad", "--good")
        words = ["leakharness", command, reference]
        for flag, values in zip((*ends, "--with"), (self.before, self.after, self.both), strict=True):
            for value in values:
                words += [flag, value]
        words += ["--mode", self.mode] if self.mode != PRODUCTION else []
        words += ["--on-path"] if self.on_path else []
        for flag, path in (("--wheels", self.wheels), ("--env-dir", self.env_dir)):
            words += [flag, str(path)] if path is not None else []
        return shlex.join(words + self.settings.command_options())


def check_mode(scenario: ScenarioFacts, wanted: str) -> None:
    """Raise UsageError where the declaration has no mode of that name."""
    modes = [mode.name for mode in scenario.modes]
    if wanted not in modes:
        raise UsageError(
            f"{scenario.where}: scenario {scenario.name!r} has no mode {wanted!r}, and prove needs one that "
            f"runs the real code: add it, or name one of {', '.join(modes)} with --mode"
        )


def check_early(found: ScenarioRef, question: Question, cwd: Path) -> None:
    """Raise UsageError for a mode that is not there before anything is built for it, where the declaration can be
    read without what is to be built."""
    pyproject = pyproject_options(cwd)
    python = interpreter(question.settings.python or pyproject.get("python"))
    timeout = resolve(question.settings.options, None, pyproject).timeout
    try:
        scenario = declaration_of(found, python, timeout=timeout)
    except LeakHarnessError:
        return
    check_mode(scenario, question.mode)


def make_side(
    name: str, subject: Revision, question: Question, cwd: Path, folder: Path, say: Callable[[str], None]
) -> Side:
    """Check the revision out, if there is one, and build the environment."""
    python = interpreter(question.settings.python or pyproject_options(cwd).get("python"))
    where = question.env_dir or cache_folder()
    tree: Path | None = None
    if subject.commit is not None:
        root = git(["rev-parse", "--show-toplevel"], cwd)
        if root is None:
            raise UsageError(f"--{name} {subject}: {cwd} is not in a git work tree")
        checkout(Path(root), subject.commit, folder / name[0])
        tree = tree_of(name, cwd, folder)
        tree = tree if tree.is_dir() else folder / name[0]
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


def tree_of(name: str, cwd: Path, folder: Path) -> Path:
    """Where what is at ``cwd`` lies in the tree of a side, if it has one."""
    # One letter: names of equal length are cut at the same place on both sides.
    return folder / name[0] / (git(["rev-parse", "--show-prefix"], cwd) or "")


def _named_without(result: RunResult, roots: Sequence[str]) -> RunResult:
    """The same result, with the files on its paths named from below ``roots``."""

    def shorter(text: str) -> str:
        for root in roots:
            text = text.replace(root, "")
        return text

    retainers = tuple(
        replace(
            held,
            path=tuple(map(shorter, held.path)),
            also=tuple(map(shorter, held.also)),
            fingerprint=shorter(held.fingerprint),
            sentence=shorter(held.sentence),
        )
        for held in result.retainers
    )
    excerpts = tuple(replace(excerpt, file=shorter(excerpt.file)) for excerpt in result.excerpts)
    return replace(result, retainers=retainers, excerpts=excerpts)


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
        check_mode(scenario, wanted)
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
            arms = side_by_side([partial(self.arm, sides[name], self.question.mode, name) for name in order])
            for name, result in zip(order, arms, strict=True):
                results[name].append(replace(result, must=MUSTS[name]))
            order.reverse()
        return results

    def controls(self, side: Side, arms: Sequence[Control]) -> list[RunResult]:
        """The control arms, in the environment of ``side``."""
        results = side_by_side(
            [
                partial(self.arm, side, arm.mode, "control", planted=arm.planted, explained=arm.must == "PASS")
                for arm in arms
            ]
        )
        return [replace(result, must=arm.must) for arm, result in zip(arms, results, strict=True)]

    def arm(self, side: Side, mode: str, label: str, *, planted: bool = False, explained: bool = True) -> RunResult:
        """One mode, in a fresh process of the environment of ``side``. ``explained``: with who holds
        what, which a leak that is known is told by."""
        began, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
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
        libraries = library_folders(side.python, result.python)
        result = with_excerpts(result, Sources([self.cwd, *libraries]))  # the tree of a revision is gone afterwards
        result = replace(
            _named_without(result, side.roots),
            mode=name,
            platform=platform.platform(),
            duration_s=time.monotonic() - began,
            started=started,
            where=place_of(self.found),
        )
        if not planted:
            result = forgive_known(result, known_leaks(result.known_declared, self.pyproject))
        self.listener.done(replace(result, mode=f"{label} {name if label == 'control' else side.subject}"))
        return result
