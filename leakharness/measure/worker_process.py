"""The measured process, seen from the tool: start it, ask it, know how it died, leave nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leakharness.errors import LeakHarnessError, NotJudged, UsageError
from leakharness.measure.stderr_text import without_foreign_texts
from leakharness.scratch import scratch_folder
from leakharness.worker.boot import boot_arguments, boot_environment
from leakharness.worker.children import descendants
from leakharness.worker.codec import decode_answer, encode_command
from leakharness.worker.protocol import READY, A, Question
from leakharness.worker.shared_segments import remove_mark

__all__ = ["WorkerProcess", "end_all", "interpreter", "run_step"]

STDERR_KEPT_BYTES = 16_384
"""How much of the end of the measured process's stderr is kept for a report."""
MOST_ANSWER_BYTES = 1 << 26
"""A longer line is no answer: what is read of it is refused, and does not fill the memory."""
CUT_ANSWER_BYTES = 100
"""What is kept of such a line, to be shown: to parse it all could take a minute, and gigabytes."""
POLL_S = 0.5
"""Seconds between two looks at whether a silent process is still there."""
END_SECONDS = 10.0
"""How long a process that was killed may take to be gone."""
ABORT_WAIT_S = 2.0
"""Seconds a hung process gets to print its stacks before it is killed."""
_RUNNING: set[Callable[[], None]] = set()
"""What ends those that were started and are not done, by whichever thread."""


def end_all() -> None:
    """Kill every measured process of this one, and every step of a build: what waits for them, in whichever thread,
    then comes to its end.

    For an interrupted command. Safe in a signal handler: takes no lock and waits for nothing.
    """
    for kill in list(_RUNNING):
        kill()


def run_step(command: Sequence[str], *, env: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """``subprocess.run`` with its output as text, for what :func:`end_all` can end, with all that it has started.

    Raises OSError where it cannot be started, TimeoutExpired once it has been ended for that.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=env,
        start_new_session=os.name == "posix",
    )

    def kill() -> None:
        if process.returncode is None:
            _kill_group(process)

    _RUNNING.add(kill)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        kill()
        _gone(process)
        _RUNNING.discard(kill)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _gone(process: subprocess.Popen[Any]) -> None:
    """Wait until a process that was killed is gone. The kernel may keep one that waits for a device: not for ever."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)


def _kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill it and what it started, also when it has died by itself."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        with contextlib.suppress(OSError):
            process.kill()


class WorkerProcess:
    """One fresh interpreter that serves :mod:`leakharness.worker.commands`.

    Use as a context manager: on leaving, the process and whatever it started in its group are gone, also when
    the tool is interrupted.
    """

    def __init__(
        self,
        python: str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        deadline: float | None = None,
        own_folder: str | None = None,
    ) -> None:
        """``deadline``: by ``time.monotonic()``; an answer that is not there by then is a hang. ``own_folder``: of what
        is raised outside of it, stderr is repeated without the text; None repeats all."""
        self._python = python
        self._deadline = deadline
        self._own_folder = own_folder
        self._spoke = False
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._stderr = bytearray()
        self._killed = False
        self._import_path = (os.environ if env is None else env).get("PYTHONPATH", "").split(os.pathsep)
        self._temp_folder = str(scratch_folder())
        try:
            self._process = subprocess.Popen(
                boot_arguments(python, env, self._temp_folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=boot_environment(env),
                start_new_session=os.name == "posix",
            )
        except OSError as exc:
            shutil.rmtree(self._temp_folder, ignore_errors=True)
            raise UsageError(f"--python {python}: cannot be started: {exc.strerror or exc}") from None
        self._readers = [
            threading.Thread(target=self._read_answers, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        _RUNNING.add(self.kill)
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def set_deadline(self, deadline: float) -> None:
        """Move the deadline, by ``time.monotonic()``."""
        self._deadline = deadline

    def request(self, question: Question[A], *arguments: Any, doing: str = "") -> A:
        """Send one command and wait for its answer.

        Raises NotJudged when the process dies, hangs past its deadline, reports that the run failed or sends what is
        no answer, and UsageError when it reports that the scenario is declared wrongly.
        """
        doing = doing or question.op
        with contextlib.suppress(OSError):
            self._send(encode_command(question.op, arguments), doing)
        if not self._spoke:
            line = self._next_answer("starting")
            if line is None:
                raise self._never_spoke()
            decode_answer(READY, line, "starting")
            self._spoke = True
        line = self._next_answer(doing)
        if line is None:
            raise self._died(doing)
        return decode_answer(question, line, doing)

    def _send(self, text: bytes, doing: str) -> None:
        """Write all of ``text``: a process that has been stopped does not read, and a pipe holds only so much."""
        assert self._process.stdin is not None
        if os.name != "posix":
            self._process.stdin.write(text)
            self._process.stdin.flush()
            return
        pipe = self._process.stdin.fileno()
        os.set_blocking(pipe, False)
        ready = select.poll()
        ready.register(pipe, select.POLLOUT)
        while text:
            left = POLL_S if self._deadline is None else min(POLL_S, self._deadline - time.monotonic())
            if ready.poll(max(0.0, 1000 * left)):
                text = text[os.write(pipe, text) :]
            elif self._deadline is not None and time.monotonic() >= self._deadline:
                raise self._hung(doing)

    def _next_answer(self, doing: str) -> bytes | None:
        """One line, or None when the process is gone. Its end of the pipe may outlive it, in a child that it forked,
        so the process is looked at as well."""
        while True:
            left = POLL_S if self._deadline is None else min(POLL_S, self._deadline - time.monotonic())
            try:
                return self._answers.get(timeout=max(0.0, left))
            except queue.Empty:
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    raise self._hung(doing) from None
                if self._process.poll() is not None and self._answers.empty():
                    return None

    def stderr_tail(self) -> str:
        text = bytes(self._stderr[-STDERR_KEPT_BYTES:]).decode("utf-8", "replace").strip()
        return text if self._own_folder is None else without_foreign_texts(text, self._own_folder)

    def close(self) -> None:
        """End the process and its group. Safe to call twice."""
        _RUNNING.discard(self.kill)
        self.kill()  # before its input ends: once it has ended by itself, nobody knows what it has left behind
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        _gone(self._process)
        remove_mark(self._process.pid)
        shutil.rmtree(self._temp_folder, ignore_errors=True)
        for stream in (self._process.stdout, self._process.stderr):
            for reader in self._readers:
                reader.join(1.0)
            if stream is not None and not any(reader.is_alive() for reader in self._readers):
                stream.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def kill(self) -> None:
        """Kill the process and its group, without waiting for their end. Safe to call twice."""
        if self._killed:
            return
        self._killed = True
        left = list(descendants(self._process.pid))  # in groups and sessions of their own
        _kill_group(self._process)
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _never_spoke(self) -> LeakHarnessError:
        """It ended before it was ready: no interpreter, too old a one, or one that fails at its start."""
        died = self._died("starting")
        if (self._process.returncode or 0) < 0:
            return died
        last = died.detail.splitlines()[-1:] or [f"it ended with exit code {self._process.returncode}"]
        hidden = _hidden_standard_module(self._import_path)
        if hidden is not None:
            return UsageError(f"--python {self._python}: it does not start: {hidden}; the last it said: {last[0]}")
        return UsageError(f"--python {self._python}: not a Python 3.10 or newer that starts: {last[0]}")

    def _hung(self, doing: str) -> NotJudged:
        """Ask for the stacks of all threads (faulthandler prints them on SIGABRT), then kill."""
        if os.name == "posix":
            with contextlib.suppress(OSError):
                self._process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ABORT_WAIT_S)
            self._readers[1].join(0.2)
        return _with_detail(
            NotJudged(f"hung: no answer before --timeout while {doing}; raise --timeout if it is only slow"),
            self.stderr_tail(),
        )

    def _died(self, doing: str) -> NotJudged:
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return NotJudged(f"the measured process closed its output while {doing}")
        self._readers[1].join(1.0)
        advice = ""
        if code == -getattr(signal, "SIGKILL", 9):
            how = "was killed by SIGKILL"
            advice = ", most likely because memory ran out; try a smaller --scope-bytes or --iters"
        elif code < 0:
            how = f"crashed by {signal.Signals(-code).name}"
        else:
            how = f"ended by itself with exit code {code}"
        return _with_detail(NotJudged(f"the measured process {how} while {doing}{advice}"), self.stderr_tail())

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(MOST_ANSWER_BYTES):
            self._answers.put(line if len(line) < MOST_ANSWER_BYTES else line[:CUT_ANSWER_BYTES])
        self._answers.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        stream = self._process.stderr
        while chunk := os.read(stream.fileno(), 65_536):
            self._stderr += chunk
            if len(self._stderr) > 4 * STDERR_KEPT_BYTES:
                del self._stderr[:-STDERR_KEPT_BYTES]


def _hidden_standard_module(folders: Sequence[str]) -> str | None:
    """The first file of ``folders`` that stands in for a module of the standard library, in words; None for none."""
    for folder in filter(None, folders):
        with contextlib.suppress(OSError):
            for path in sorted(Path(folder).iterdir()):
                if path.suffix == ".py" and path.stem in sys.stdlib_module_names:
                    return f"{path}, on PYTHONPATH, stands in for the standard module {path.stem}: rename it"
    return None


def _with_detail(error: NotJudged, detail: str) -> NotJudged:
    error.detail = detail
    return error


def interpreter(python: str | None) -> str:
    """The interpreter to measure in. Raises UsageError for one that is not there."""
    if python is None:
        return sys.executable
    path = Path(python).expanduser()
    if path.is_dir():  # a virtual environment's folder
        candidates = [path / "bin" / "python", path / "Scripts" / "python.exe"]
        path = next((candidate for candidate in candidates if candidate.exists()), path)
    if not path.is_file():
        raise UsageError(f"--python {python}: no such interpreter")
    return os.path.abspath(path)
