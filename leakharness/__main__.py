"""``leakharness`` and ``python -m leakharness``. The one place where errors become exit codes."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    # `python -m` puts the current folder first, and a json.py there would stand in for the standard module. The tool
    # imports nothing from that folder; the measured process, which does, has a path of its own.
    del sys.path[0]

import contextlib
import errno
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["main"]

USAGE = 2
"""Exit code of a command line that cannot be understood."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""Disk, quota, descriptors, memory, processes: used up, which is no bug of ours."""
BROKEN = 3
"""Exit code of a bug of ours: nothing was judged. Python's own would be 1, and that says FAIL."""


def main() -> None:
    """Run the command line. Exits; does not return."""
    from leakharness.cli.streams import unfailing

    with unfailing(), _stoppable():
        sys.exit(_exit_code())


def _exit_code() -> Any:
    from leakharness.errors import LeakHarnessError

    try:
        code = _run()
        if code == INTERRUPTED:  # newer typers turn Ctrl-C into this
            raise KeyboardInterrupt
        return code
    except LeakHarnessError as exc:
        _say(str(exc))
        return exc.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except _Terminated as exc:
        _say("terminated" if exc.number == signal.SIGTERM else "hung up")
        return 128 + exc.number
    except MemoryError:
        # Said outside of this block: until then the traceback's frames hold what has filled the memory.
        pass
    except OSError as exc:
        if exc.errno not in NO_ROOM:
            return _broken(exc)
        place = f": {exc.filename}" if exc.filename else ""
        _say(f"nothing was judged: {exc.strerror}{place}; free some and run it again")
        return BROKEN
    except Exception as exc:
        return _broken(exc)
    _say(
        "out of memory, nothing was judged: the tool itself could get no more; close other programs, raise the limit "
        "(ulimit -v), or measure with --snapshots never, which needs least"
    )
    return BROKEN


def _broken(exc: Exception) -> int:
    """A fault of ours: one line that says so, and the traceback in a file for whoever mends it."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="leakharness-fault-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
        where = f"the traceback is in {file.name}"
    except OSError:
        where = "its last place: " + (text.splitlines()[-3:-2] or ["unknown"])[0].strip()
    _say(f"a bug of leakharness, nothing was judged: {type(exc).__name__}: {exc}; {where}: please report it")
    return BROKEN


def _run() -> Any:
    """The exit code of the command. What typer says about a wrong command line is put in one line."""
    import typer

    from leakharness.cli import run_command_line

    try:
        return run_command_line(sys.argv[1:])
    except typer.Abort:  # older typers turn Ctrl-C into this
        raise KeyboardInterrupt from None
    except Exception as exc:
        # Command-line errors, by what they have: typer brings its own click in some versions, not in others.
        if not hasattr(exc, "format_message") or not hasattr(exc, "exit_code"):
            raise
        context = getattr(exc, "ctx", None)
        if not exc.format_message().strip() or type(exc).__name__ == "NoArgsIsHelpError":
            print(context.get_help() if context is not None else "")
            return USAGE
        command = context.command_path if context is not None else "leakharness"
        _say(f"{exc.format_message().rstrip('.')}; see `{command} --help`")
        return USAGE


class _Terminated(BaseException):
    """SIGTERM or SIGHUP came. Unwinds like Ctrl-C, so that everything is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP unwind. A SIGHUP that is ignored, as nohup has it, stays so."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _stop(number: int, frame: FrameType | None) -> None:
    """A signal to stop: end the measured processes, for which other threads may wait, and unwind this one."""
    process = sys.modules.get("leakharness.measure.worker_process")
    if process is not None:
        process.end_all()
    raise KeyboardInterrupt if number == signal.SIGINT else _Terminated(number)


def _say(text: str) -> None:
    """One line on stderr."""
    from leakharness.printable import for_terminal

    print("leakharness:", for_terminal(" ".join(text.split())), file=sys.stderr)


if __name__ == "__main__":
    main()
