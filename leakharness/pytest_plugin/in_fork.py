"""A check in a forked copy of the pytest process: nothing but the check runs there, and nothing of it comes back
but the verdict. Under xdist that keeps the counters quiet: the copy has none of the worker's threads and messages.
"""

from __future__ import annotations

from leakharness.errors import LeakHarnessError, NotJudged
from leakharness.pytest_plugin.in_process import CheckOutcome, CheckTarget, Judge
from leakharness.pytest_plugin.judge_messages import JudgeSaid
from leakharness.worker.codec import BadLine, decode, encode
from leakharness.worker.fork import CAN_FORK, CopyFailed, ask_copy
from leakharness.worker.protocol import Failure

__all__ = ["CAN_FORK", "in_forked_copy"]

ERROR_KEPT = 500
"""Characters of an unforeseen exception that the verdict repeats."""


def in_forked_copy(judge: Judge, target: CheckTarget, seconds: float) -> CheckOutcome:
    """:meth:`Judge.judge` in a forked copy, which is killed after ``seconds``.

    Raises NotJudged where the copy dies or hangs, and UsageError as the judge does.
    """
    judge.started()

    def check() -> bytes:
        try:
            return encode(JudgeSaid(judge.judge(target, alarm=False)))
        except LeakHarnessError as exc:
            return encode(JudgeSaid(failure=Failure.of(exc)))
        except BaseException as exc:
            text = f"the check ended by {type(exc).__name__}: {exc}"[:ERROR_KEPT]
            return encode(JudgeSaid(failure=Failure("not_judged", text)))

    try:
        said = decode(JudgeSaid, ask_copy(check, seconds))
    except CopyFailed as exc:
        judge.close()
        if exc.late:
            raise NotJudged(
                f"hung: no verdict within {seconds:g} s; raise timeout if it is only slow, or measure it in the "
                "worker itself with process='here' (a forked copy has no threads but its own)"
            ) from None
        raise NotJudged(f"the forked copy {exc.how} in the middle of the check") from None
    except BadLine as exc:
        judge.close()
        raise NotJudged(f"the forked copy gave no verdict that can be read ({exc}): run the test again") from None
    except BaseException:
        judge.close()
        raise
    return said.checked_outcome()
