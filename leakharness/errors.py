"""Everything leakharness raises, as one small tree.

::

    LeakHarnessError                    exit code of the command line
    ├── UsageError                 2    the question cannot be asked this way
    │   ├── ScenarioError          2    a declaration is wrong (file and line)
    │   │   └── UnknownScenario    2    no scenario, or no mode, of that name
    │   ├── OptionError            2    an option's value is wrong, or two contradict
    │   └── SnapshotError          2    a heap snapshot cannot be read
    └── NotJudged                  3    the measurement itself failed

    LeakFound (an AssertionError)  1    a leak, as a failed assertion of a test suite

Every message says what happened, where, and what to do next. This module is part of the measured process:
standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "LeakFound",
    "LeakHarnessError",
    "NotJudged",
    "OptionError",
    "ScenarioError",
    "SnapshotError",
    "UnknownScenario",
    "UsageError",
    "did_you_mean",
]


class LeakHarnessError(Exception):
    """Base of all errors of this package; ``exit_code`` is what the command line returns for it."""

    exit_code: ClassVar[int] = 3


class UsageError(LeakHarnessError):
    """The question cannot be asked this way: an unknown name, a contradiction, an unreadable file."""

    exit_code = 2


class ScenarioError(UsageError):
    """A scenario is declared wrongly. The message starts with ``file:line:`` where that is known."""


class UnknownScenario(ScenarioError):
    """No scenario, or no mode of a scenario, has the name asked for."""


class OptionError(UsageError):
    """An option has a value it cannot have, or two options contradict each other."""


class SnapshotError(UsageError):
    """A heap snapshot cannot be read: missing, truncated, corrupt, or of another format."""


class NotJudged(LeakHarnessError):
    """The measurement failed, so there is no verdict: a crash, a hang, a run that did not end as declared.

    ``detail`` is a traceback or the end of stderr, as text.
    """

    exit_code = 3
    detail: str = ""


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """``; did you mean 'name'?`` for the name that ``word`` is most like; empty where it is like none."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class LeakFound(AssertionError):
    """A leak was found; the text is the evidence."""
