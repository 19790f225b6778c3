"""What a pytest process and its judging process say to each other, besides the commands of a measurement.

Standard library and the protocol of the measured process only: the pytest process is what is measured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from leakharness.worker.protocol import Failure

__all__ = ["VERDICT", "CheckOrder", "CheckOutcome", "JudgeSaid"]

VERDICT = "verdict"
"""The command that ends a check; its argument is a :class:`JudgeSaid`."""


class CheckOrder(NamedTuple):
    """What is to be judged, in process ``pid``. ``options`` were asked for, ``declared`` rank below them; ``alarm``:
    the pytest process wants to be woken at the deadline; ``quick``: what stands still in a quick look passes;
    ``known``: accepted leaks beside those of pyproject.toml, each with what it matches and the reason;
    ``framework``: modules of the test framework, which notes something for each run."""

    pid: int
    name: str
    nodeid: str
    mode: str
    options: dict[str, Any]
    declared: dict[str, Any]
    alarm: bool
    quick: bool = False
    known: tuple[tuple[str, str], ...] = ()
    framework: tuple[str, ...] = ()


class CheckOutcome(NamedTuple):
    """What the judge said: ``verdict`` as of a RunResult, the evidence as text, and the documented JSON."""

    verdict: str
    text: str
    document: dict[str, Any]


class JudgeSaid(NamedTuple):
    """The outcome of a check, or why there is none."""

    outcome: CheckOutcome | None = None
    failure: Failure | None = None

    def checked_outcome(self) -> CheckOutcome:
        """The outcome. Raises the error that the failure stands for."""
        if self.outcome is not None:
            return self.outcome
        raise (self.failure or Failure("not_judged", "the judging process said nothing: run the test again")).error()
