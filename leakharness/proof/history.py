"""The revisions between two ends: commits of a git repository, or published versions of one package."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, canonicalize_name
from packaging.utils import parse_sdist_filename as sdist_name
from packaging.utils import parse_wheel_filename as wheel_name
from packaging.version import InvalidVersion, Version

from leakharness.errors import NotJudged, OptionError
from leakharness.measure.worker_process import run_step
from leakharness.proof.bisection import History
from leakharness.proof.environments import clean_environment
from leakharness.proof.revisions import SHORT, Revision, git

__all__ = ["Range", "commits_between", "range_of", "versions_between"]

INDEX_TIMEOUT_S = 120.0
AVAILABLE = re.compile(r"^Available versions:(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Range:
    """A history, and what each of its revisions is as a side to measure."""

    history: History
    subjects: Mapping[str, Revision]
    subject_lines: Mapping[str, str] = field(default_factory=dict)
    """For commits: the first line of the message."""


def range_of(good: Revision, bad: Revision, cwd: Path, python: str, wheels: Path | None) -> Range:
    """What lies between the two ends. Raises OptionError for ends between which nothing can be searched, NotJudged
    where an index does not answer."""
    if good.commit is not None and bad.commit is not None:
        if good.requirements != bad.requirements:
            raise OptionError("--good and --bad differ in their requirements as well: give those of both by --with")
        if good.commit == bad.commit:
            raise OptionError(f"--good {good} and --bad {bad} are the same commit")
        return commits_between(good, bad, cwd)
    differing = [one for one in zip(good.requirements, bad.requirements, strict=False) if one[0] != one[1]]
    same_shape = good.commit is None and bad.commit is None and len(good.requirements) == len(bad.requirements)
    if not same_shape or len(differing) != 1:
        raise OptionError(
            f"--good {good} and --bad {bad} are no ends of one history: give two git revisions, or two versions of "
            "one package ('package==1.2.3'), and what both need by --with"
        )
    asked = [_package_of(text, flag) for text, flag in zip(differing[0], ("--good", "--bad"), strict=True)]
    name = canonicalize_name(asked[0].name)
    if name != canonicalize_name(asked[1].name):
        raise OptionError(f"--good {good} and --bad {bad} are versions of two packages: bisect needs two of one")
    published = _in_folder(wheels, name) if wheels is not None else _of_index(python, name)
    ends = [_newest(one, published, flag) for one, flag in zip(asked, ("--good", "--bad"), strict=True)]
    low, high = min(ends), max(ends)
    if low == high:
        raise OptionError(f"--good {good} and --bad {bad} are both version {low}: bisect needs two")
    names = versions_between(low, high, published)
    extras = Requirement(differing[0][0]).extras
    package = name + (f"[{','.join(sorted(extras))}]" if extras else "")

    def subject(version: str) -> Revision:
        pin = f"{package}=={version}"
        return Revision((pin,), None, tuple(pin if text == differing[0][0] else text for text in good.requirements))

    parents = {later: [earlier] for earlier, later in pairwise(names)}
    history = History(names[0], names[-1], parents, old_leaks=ends[1] < ends[0])
    return Range(history, {version: subject(version) for version in names})


def commits_between(good: Revision, bad: Revision, cwd: Path) -> Range:
    """The commits that one end has and the other has not. Raises OptionError where neither contains the other."""
    ends = {"good": str(good.commit), "bad": str(bad.commit)}
    base = git(["merge-base", ends["good"], ends["bad"]], cwd)
    if base not in ends.values():
        parted = f": they part at {base}, so bisect from there to each" if base else ""
        raise OptionError(f"neither --good {good} nor --bad {bad} contains the other{parted}")
    old_leaks = base == ends["bad"]
    new = ends["good"] if old_leaks else ends["bad"]
    listed = git(["rev-list", "--topo-order", "--reverse", "--parents", new, f"^{base}"], cwd) or ""
    lines = [line.split() for line in listed.splitlines()]
    history = History(str(base), new, {words[0]: words[1:] for words in lines}, old_leaks)
    told = git(["log", "--format=%H %s", new, f"^{base}"], cwd) or ""
    first = git(["log", "-1", "--format=%H %s", str(base)], cwd) or ""
    names = [str(base), *history.parents]
    return Range(
        history,
        {name: replace(good, asked=(name[:SHORT], *good.requirements), commit=name) for name in names},
        {line.partition(" ")[0]: line.partition(" ")[2] for line in (first, *told.splitlines())},
    )


def versions_between(low: Version, high: Version, published: Iterable[Version]) -> list[str]:
    """The versions from ``low`` to ``high``, oldest first. Pure. Pre-releases only where an end is one."""
    between = [version for version in published if low < version < high]
    if not (low.is_prerelease or high.is_prerelease):
        between = [version for version in between if not version.is_prerelease]
    return [str(version) for version in sorted({low, high, *between})]


def _package_of(text: str, flag: str) -> Requirement:
    """``package==1.2.3`` or ``package>=1,<2``. Raises OptionError for what names no versions."""
    try:
        found = Requirement(text)
        if found.specifier:
            return found
    except ValueError:
        pass
    raise OptionError(f"{flag} {text!r}: bisect needs versions of a package, as in 'package==1.2.3' or 'package<2'")


def _newest(asked: Requirement, published: Sequence[Version], flag: str) -> Version:
    """The version that an installer would take: the pinned one, else the newest of a range. Raises OptionError where
    none was published."""
    pins = [
        pin for pin in asked.specifier if pin.operator == "===" or (pin.operator == "==" and "*" not in pin.version)
    ]
    if len(asked.specifier) == 1 and pins:
        try:
            return Version(pins[0].version)
        except InvalidVersion:
            raise OptionError(f"{flag} {asked}: {pins[0].version!r} is no version that can be put in order") from None
    found = list(asked.specifier.filter(published))
    if not found:
        raise OptionError(f"{flag} {asked}: none of the {len(published)} versions that there are is in this range")
    return max(found)


def _of_index(python: str, name: str) -> list[Version]:
    """What the index has of a package for this interpreter, as its pip tells it. Raises NotJudged."""
    for interpreter in dict.fromkeys((python, sys.executable)):
        command = [interpreter, "-m", "pip", "--disable-pip-version-check", "index", "versions", "--pre", name]
        try:
            done = run_step(command, env=clean_environment(), timeout=INDEX_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            continue
        found = AVAILABLE.search(done.stdout)
        if done.returncode == 0 and found:
            return _versions(text.strip() for text in found[1].split(","))
    raise NotJudged(f"the versions of {name} cannot be listed: `pip index versions {name}` failed; or give --wheels")


def _in_folder(folder: Path, name: str) -> list[Version]:
    """The versions of a package among the distributions in ``folder``. Raises OptionError where there is no folder."""
    if not folder.is_dir():
        raise OptionError(f"--wheels {folder}: no such folder")
    found = []
    for path in folder.iterdir():
        read: Callable[[str], tuple[object, ...]] = wheel_name if path.suffix == ".whl" else sdist_name
        try:
            named, version = read(path.name)[:2]
        except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
            continue
        if named == canonicalize_name(name) and isinstance(version, Version):
            found.append(version)
    return found


def _versions(texts: Iterable[str]) -> list[Version]:
    """Those that follow PEP 440; others cannot be put in order."""
    found = []
    for text in texts:
        try:
            found.append(Version(text))
        except InvalidVersion:
            continue
    return found
