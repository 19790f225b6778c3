"""What went wrong in the measured process, as strings that the tool can show."""

from __future__ import annotations

import sys

from leakharness.errors import LeakHarnessError
from leakharness.worker.exception_text import formatted, text_of
from leakharness.worker.protocol import Failure
from leakharness.worker.runs import RunFailed

__all__ = ["failure_of"]

REASON_KEPT = 600
"""Characters of a reason, which is one sentence; the detail has the rest."""
DETAIL_KEPT = 4_000
"""Characters of a traceback, from its end."""


def failure_of(exc: BaseException) -> Failure:
    """``exc`` as strings: kind ``usage`` for a wrong declaration, else ``not_judged``; the reason in one line."""
    failure = full_failure_of(exc)
    return failure._replace(reason=" ".join(failure.reason.split())[:REASON_KEPT])


def full_failure_of(exc: BaseException) -> Failure:
    """The same with the reason as it is."""
    if isinstance(exc, RunFailed):
        return Failure("not_judged", exc.reason, exc.detail)
    if isinstance(exc, LeakHarnessError):
        return Failure.of(exc)
    detail = formatted(exc)[-DETAIL_KEPT:]
    if isinstance(exc, SyntaxError):
        return Failure("usage", f"{exc.filename}:{exc.lineno}: {type(exc).__name__}: {exc.msg}", detail)
    if isinstance(exc, ModuleNotFoundError):
        reason = f"{exc} in {sys.executable}: install it there, or measure another interpreter with --python"
        return Failure("not_judged", reason, detail)
    return Failure("not_judged", f"{type(exc).__name__}: {text_of(exc)}", detail)
