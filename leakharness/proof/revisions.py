"""Which git revision or requirement a side of ``prove`` is: what was typed, told apart and resolved."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from leakharness.errors import OptionError
from leakharness.scratch import scratch

__all__ = [
    "OBJECT_NAME",
    "SHORT",
    "WORKING_TREE",
    "Revision",
    "git",
    "is_of_index",
    "parse_subject",
    "requirement",
    "resolved",
]

GIT_TIMEOUT_S = 60.0
DISTRIBUTION_SUFFIXES = (".whl", ".tar.gz", ".zip")
URL_SCHEMES = ("https", "http", "file", "git+https", "git+http", "git+ssh", "git+file")
"""What an installer may fetch from."""
PROJECT_FILES = ("pyproject.toml", "setup.py")
OBJECT_NAME = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
"""SHA-1 or SHA-256, as git names a commit."""
WORKING_TREE = "."
"""The side that is the files as they are now."""
NOBODY = {"NAME": "leakharness", "EMAIL": "leakharness@localhost", "DATE": "@0 +0000"}
SHORT = 10
"""Characters of a commit's name in messages, as git's own abbreviations have about as many."""


@dataclass(frozen=True)
class Revision:
    """One side as it was asked for: at most one git revision of the project, and requirements."""

    asked: tuple[str, ...]
    commit: str | None = None
    requirements: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    """``asked`` with the revision as a commit, for a branch means something else tomorrow; a working tree as it is."""

    def __str__(self) -> str:
        return " ".join(self.asked)


def parse_subject(words: Sequence[str], commit_of: Callable[[str], str | None], flag: str) -> Revision:
    """Tell requirements from git revisions. ``commit_of`` resolves a revision, or gives None. Raises OptionError.

    A requirement has a version or a URL (PEP 508), or is a file of a distribution; anything else must be a revision.
    ``req:`` and ``rev:`` in front say which.
    """
    commits: list[str] = []
    requirements: list[str] = []
    exact: list[str] = []
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
            exact.append(word)
        elif commit is not None:
            commits.append(commit)
            exact.append(word if text == WORKING_TREE else commit)
        else:
            raise OptionError(
                f"{flag} {word!r} is no git revision here, and no requirement: write a requirement with its version "
                f"('{text or 'package'}==1.2.3'), or 'req:{text or 'package'}' for the newest one"
            )
    if not words:
        raise OptionError(f"{flag} is missing: a git revision or a requirement ('package==1.2.3')")
    if len(commits) > 1:
        raise OptionError(f"{flag} names {len(commits)} git revisions; give one, and requirements beside it")
    return Revision(tuple(words), commits[0] if commits else None, tuple(requirements), tuple(exact))


def _looks_required(text: str) -> bool:
    """Whether it can be nothing but a requirement: it has a version or a URL, or is a file of a distribution."""
    if text.endswith(DISTRIBUTION_SUFFIXES) and Path(text).is_file():
        return True
    found = _named(text)
    return found is not None and (bool(found.specifier) or (found.url is not None and _is_url(found.url)))


def _named(text: str) -> Requirement | None:
    """``name[extras]``, with versions or a URL (PEP 508), as ``packaging`` reads it."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def requirement(text: str, flag: str) -> str:
    """``text`` as an installer may have it: a name with versions or a URL, a URL, or a path of a distribution or a
    project, which becomes absolute because the installer may run elsewhere. Never an option. Raises OptionError."""
    refused = f"{flag} {text!r} is no requirement: write a name with its version, a URL, or the path of a distribution"
    if not text.isprintable() or text.startswith("-"):
        raise OptionError(refused)
    found = _named(text)
    if found is not None and (found.url is None or _is_url(found.url)):
        return text if found.url or not _is_path(text) else os.path.abspath(text)
    if _is_path(text):
        return os.path.abspath(text)
    if _is_url(text):
        return text
    raise OptionError(refused)


def is_of_index(text: str) -> bool:
    """Whether it is a name, with versions or without: what an index gives, and neither a URL nor a path."""
    found = _named(text)
    return found is not None and found.url is None and not text.startswith("-") and not _is_path(text)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme in URL_SCHEMES and not any(map(str.isspace, text)) and not host.startswith("-")


def _is_path(text: str) -> bool:
    """A distribution file, or the folder of a project written with a separator, so that it is no name."""
    path = Path(text)
    if text.endswith(DISTRIBUTION_SUFFIXES):
        return path.is_file()
    is_written_as_path = os.sep in text or text in (os.curdir, os.pardir)
    return is_written_as_path and any((path / file).is_file() for file in PROJECT_FILES)


def resolved(words: Sequence[str], both: Sequence[str], cwd: Path, flag: str) -> Revision:
    """The revision that ``words`` name at ``cwd``, with the requirements of ``both`` sides. Raises OptionError."""
    subject = parse_subject(words, lambda text: _commit_of(text, cwd), flag)
    own = [requirement(text, flag) for text in subject.requirements]
    return replace(subject, requirements=(*own, *(requirement(text, "--with") for text in both)))


def _commit_of(revision: str, cwd: Path) -> str | None:
    """The commit that a revision names in the repository at ``cwd``; None where there is none."""
    if not revision or revision.startswith("-") or not revision.isprintable():
        return None
    if revision == WORKING_TREE:
        return _commit_of_tree(cwd)
    found = git(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"], cwd)
    return found if found is not None and OBJECT_NAME.fullmatch(found) else None


def _commit_of_tree(cwd: Path) -> str | None:
    """A commit of the working tree as it is, with new files and without ignored ones. No branch, no index and no file
    of the repository changes: it is an object that git drops by itself later. The same tree is the same commit."""
    with scratch() as folder:
        env = {
            **os.environ,
            "GIT_INDEX_FILE": str(folder / "index"),
            **{f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in NOBODY.items()},
        }
        head = git(["rev-parse", "--verify", "--quiet", "HEAD"], cwd)
        root = git(["rev-parse", "--show-toplevel"], cwd)
        if head is None or root is None:
            return None
        git(["read-tree", head], cwd, env)  # for the marks of files that are only half there
        git(["add", "--all"], Path(root), env)
        tree = git(["write-tree"], cwd, env)
        return None if tree is None else git(["commit-tree", tree, "-p", head, "-m", "working tree"], cwd, env)


def git(arguments: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> str | None:
    """What git prints there, without white space around it; None where it fails, or prints nothing."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False, env=env
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
