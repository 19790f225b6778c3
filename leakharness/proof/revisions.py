"""Which git revision or requirement a side of ``prove`` is: what was typed, told apart and resolved."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from leakharness.errors import OptionError

__all__ = ["Revision", "git", "parse_subject", "resolved"]

GIT_TIMEOUT_S = 60.0
REQUIREMENT = re.compile(
    r"""[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?\s*(\[[\w.,\s-]*\])?\s*    # name and extras (PEP 508)
        (\(?\s*(===|==|~=|!=|<=|>=|<|>)\s*[\w.*+!-].*|@\s*\S*:.+)  # a version, or a URL""",
    re.VERBOSE,
)
DISTRIBUTION_SUFFIXES = (".whl", ".tar.gz", ".zip")


@dataclass(frozen=True)
class Revision:
    """One side as it was asked for: at most one git revision of the project, and requirements."""

    asked: tuple[str, ...]
    commit: str | None = None
    requirements: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(self.asked)


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


def resolved(words: Sequence[str], both: Sequence[str], cwd: Path, flag: str) -> Revision:
    """The revision that ``words`` name at ``cwd``, with the requirements of ``both`` sides. Raises OptionError."""
    subject = parse_subject(words, lambda text: _commit_of(text, cwd), flag)
    return replace(subject, requirements=tuple(map(_absolute, (*subject.requirements, *both))))


def _absolute(requirement: str) -> str:
    """A distribution file by its absolute path: the installer may run elsewhere."""
    return os.path.abspath(requirement) if requirement.endswith(DISTRIBUTION_SUFFIXES) else requirement


def _commit_of(revision: str, cwd: Path) -> str | None:
    """The commit that a revision names in the repository at ``cwd``; None where there is none."""
    if not revision or revision.startswith("-"):
        return None
    return git(["rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], cwd)


def git(arguments: Sequence[str], cwd: Path) -> str | None:
    """What git prints there, without white space around it; None where it fails, or prints nothing."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
