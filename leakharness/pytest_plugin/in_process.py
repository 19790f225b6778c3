"""The measured side of a check inside a pytest process: makes runs and takes readings when the judge asks.

Loop, judge and heap analysis live in a process of their own (``judge_process.py``), so that what they allocate is
never counted here. Standard library and the worker's parts only.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired  # bound now: a test may replace Popen
from typing import Any

from leakharness.errors import LeakHarnessError, NotJudged
from leakharness.pytest_plugin.judge_messages import VERDICT, CheckOrder, CheckOutcome, JudgeSaid
from leakharness.pytest_plugin.timeout_signal import Alarm, Hung
from leakharness.scenario.declare import Run
from leakharness.worker.children import leave_out, leave_out_no_more
from leakharness.worker.codec import BadLine, checked, decode_command, encode, encode_answer
from leakharness.worker.commands import Measuring, Session, checked_tracker, process_facts
from leakharness.worker.counters import Counters
from leakharness.worker.failure import failure_of
from leakharness.worker.protocol import Failure, LoadSpec, ModeFacts, ScenarioFacts
from leakharness.worker.recorder import ScenarioRecorder
from leakharness.worker.unpatched import gc, os
from leakharness.worker.weight import BLOCK_LIMIT_BYTES

__all__ = ["Judge", "CheckTarget", "CheckOutcome", "error_text", "quiet_process"]

BOOT = """\
import sys
sys.path[0:1] = []
sys.path.append(sys.argv[1])
from leakharness.pytest_plugin.judge_process import main
main()
"""
STDERR_KEPT_BYTES = 4000
END_SECONDS = 10.0
"""How long the judge's process may take to be gone once it was killed."""


@dataclass(frozen=True)
class CheckTarget:
    """What is measured. ``maker(run)`` gives what makes a number of runs, and raises RunFailed for one that did not
    end as it should."""

    nodeid: str
    name: str
    mode: str
    maker: Callable[[Run], Callable[[int], None]]
    loop: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options as they were asked for: command line before marker before ini."""
    declared: Mapping[str, Any] = field(default_factory=dict)
    passes_on: tuple[type[BaseException], ...] = (KeyboardInterrupt,)
    """Exceptions of a run that end the whole check and are raised as they are."""
    quick: bool = False
    """Whether what stands still in a quick look passes at once."""
    known: tuple[tuple[str, str], ...] = ()
    """Accepted leaks: what each matches, and why it is accepted."""
    framework: tuple[str, ...] = ()
    """Modules of the test framework: what only their objects hold is none of the body's."""


class LoadedCheck:
    """A check whose runs are made in this process, as a worker has a scenario that it has loaded."""

    rehearsed = False
    """Whether this process has been through what happens between readings."""

    def __init__(self, target: CheckTarget) -> None:
        self._target = target
        self._measuring: Measuring | None = None
        self._tracker = checked_tracker()
        self._counters = Counters()
        in_use = self._counters.readers.get("malloc_bytes")
        if in_use is not None:
            self._counters.readers["malloc_bytes"] = _with_full_thread_cache(in_use)
        mode = ModeFacts(target.mode, "PASS")
        self.facts = process_facts(self._counters, ScenarioFacts(target.name, mode.name, (mode,)), mode.name)

    def start(self, scope_bytes: int) -> Measuring:
        loop = self._counters.loop = self._target.loop
        recorder = ScenarioRecorder(self._tracker, loop, None, None)
        run = Run(scope_bytes=scope_bytes, mode=self._target.mode, recorder=recorder)
        make_runs = self._target.maker(run)
        # Now, so that no snapshot imports it in the middle of the measurement.
        import_module("leakharness.worker.capture.snapshot")
        measuring = self._measuring = Measuring(recorder, self._counters, make_runs, loop=loop)
        if not LoadedCheck.rehearsed:  # once for the process: what it imports and keeps is there from then on
            LoadedCheck.rehearsed = True
            measuring.reader.rehearse()
        return measuring

    def close(self) -> None:
        if self._measuring is not None:
            self._measuring.close()
        self._counters.reap()
        self._counters.close()


def _with_full_thread_cache(in_use: Callable[[], int]) -> Callable[[], int]:
    """``in_use``, read with this thread's malloc cache full.

    glibc counts the chunks that it parks in per-thread caches as in use, and they fill by and by, for thousands of
    runs. A worker is started without these caches; a pytest process has them, so every reading first fills all their
    bins (malloc/malloc.c: 64 bins, 16 bytes apart): then they weigh the same every time. What is larger than the
    small-object allocator's blocks comes from malloc as a plain bytes object, which is quicker to make.
    """
    import ctypes

    libc = ctypes.CDLL(None)
    malloc, free = libc.malloc, libc.free
    malloc.restype, malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    free.restype, free.argtypes = None, (ctypes.c_void_p,)
    each = _chunks_a_bin(libc)
    small = tuple(size for size in range(24, 1048, 16) if size <= BLOCK_LIMIT_BYTES for _ in range(each))
    large = tuple(
        size - sys.getsizeof(b"") for size in range(24, 1048, 16) if size > BLOCK_LIMIT_BYTES for _ in range(each)
    )
    chunks = (ctypes.c_void_p * len(small))()
    objects: list[bytes] = [b""] * len(large)

    def read() -> int:
        for index, size in enumerate(small):
            chunks[index] = malloc(size)
        for index, size in enumerate(large):
            objects[index] = b"x" * size
        for index in range(len(objects)):
            objects[index] = b""
        for chunk in chunks:
            free(chunk)
        return in_use()

    return read


def _chunks_a_bin(libc: Any) -> int:
    """How many chunks glibc keeps in one bin of a thread's cache (malloc/malloc.c, TCACHE_FILL_COUNT)."""
    version = libc.gnu_get_libc_version
    version.restype = import_module("ctypes").c_char_p
    major, minor = (int(part) for part in version().split(b".")[:2])
    return 16 if (major, minor) >= (2, 42) else 7


class Judge:
    """The process that drives checks and judges them: started with the first check, one for a pytest process."""

    def __init__(self) -> None:
        self._process: Popen[bytes] | None = None
        self._stderr: Any = None

    def judge(self, subject: CheckTarget, *, alarm: bool = True) -> CheckOutcome:
        """Measure ``subject`` here and have it judged. Raises UsageError, NotJudged where there is no verdict,
        and what ``subject.passes_on`` names. Without ``alarm`` somebody else ends a check that hangs."""
        __tracebackhide__ = True
        process = self.started()
        loaded: list[LoadedCheck] = []

        def load(spec: LoadSpec) -> LoadedCheck:
            loaded.append(LoadedCheck(subject))
            return loaded[0]

        finished = False
        try:
            with quiet_process():
                said = self._serve(process, Session(load), subject, Alarm(wanted=alarm))
            finished = True
        finally:
            for check in loaded:
                check.close()
            if not finished:
                self.close()  # the conversation was cut: the next check gets a fresh judge
        return said.checked_outcome()

    def started(self) -> Popen[bytes]:
        """The judge's process, alive."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        package_parent = Path(__file__).resolve().parents[2]
        self._process = Popen(
            [sys.executable, "-c", BOOT, str(package_parent)],
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONMALLOC": "pymalloc"},
            start_new_session=os.name == "posix",  # Ctrl-C is ours to answer
        )
        leave_out(self._process.pid)
        return self._process

    def close(self) -> None:
        """End the judge's process. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()
            process.kill()
            with contextlib.suppress(TimeoutExpired):
                process.wait(END_SECONDS)
            leave_out_no_more(process.pid)
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _serve(self, process: Popen[bytes], session: Session, subject: CheckTarget, alarm: Alarm) -> JudgeSaid:
        """Answer the judge's commands until it has its verdict, or says that it took too long."""
        __tracebackhide__ = True
        try:
            with alarm:
                return self._converse(process, session, subject, alarm)
        except Hung:
            raise _hung(alarm, subject) from None

    def _converse(self, process: Popen[bytes], session: Session, subject: CheckTarget, alarm: Alarm) -> JudgeSaid:
        __tracebackhide__ = True
        commands, answers = process.stdout, process.stdin
        assert commands is not None
        assert answers is not None
        order = CheckOrder(
            os.getpid(),
            subject.name,
            subject.nodeid,
            subject.mode,
            dict(subject.options),
            dict(subject.declared),
            alarm.armed,
            subject.quick,
            subject.known,
            subject.framework,
        )
        handlers = session.handlers
        try:
            answers.write(encode(order))
            answers.flush()
            for line in commands:
                op, arguments = decode_command(line)
                if op == VERDICT:
                    return checked(JudgeSaid, arguments[0] if arguments else None)
                answer = _answer_to(op, arguments, handlers, subject.passes_on)
                if alarm.rang:
                    raise _hung(alarm, subject, answer.detail if type(answer) is Failure else "")
                answers.write(encode_answer(op, answer))
                answers.flush()
                del answer, arguments
        except BadLine as exc:
            raise NotJudged(f"the judging process sent what cannot be read ({exc}): run the test again") from None
        except BrokenPipeError:
            pass
        raise NotJudged(f"the judging process ended in the middle of the check: {self._last_words()}")

    def _last_words(self) -> str:
        if self._stderr is None:
            return "it said nothing"
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - STDERR_KEPT_BYTES))
        return self._stderr.read().decode("utf-8", "replace").strip() or "it said nothing"


def _hung(alarm: Alarm, subject: CheckTarget, detail: str = "") -> NotJudged:
    seconds = float(subject.options.get("timeout") or round(alarm.rang_after))
    error = NotJudged(f"hung: no verdict within {seconds:g} s; raise timeout if it is only slow")
    error.detail = detail
    return error


FROZEN_AT_START = 1_000
"""3.12 starts with some 400 frozen objects of its own; more than this were frozen by the program."""


@contextlib.contextmanager
def quiet_process() -> Iterator[None]:
    """What would count itself is off while we measure, and is as it was afterwards: tracing, frozen objects."""
    tracemalloc = sys.modules.get("tracemalloc")
    frames = 0
    if tracemalloc is not None and tracemalloc.is_tracing():
        frames = tracemalloc.get_traceback_limit()
        tracemalloc.stop()
    was_enabled = gc.isenabled()
    had_frozen = gc.get_freeze_count() > FROZEN_AT_START
    gc.freeze()  # what is here already is neither collected nor counted again and again
    try:
        yield
    finally:
        gc.unfreeze()
        if had_frozen:
            gc.freeze()
        gc.enable() if was_enabled else gc.disable()
        if frames and tracemalloc is not None:
            tracemalloc.start(frames)


def error_text(error: LeakHarnessError) -> str:
    """The message, and what is known beyond it."""
    detail = getattr(error, "detail", "")
    return f"{error}\n\n{detail}" if detail else str(error)


def _answer_to(
    op: str,
    arguments: Sequence[Any],
    handlers: dict[str, Callable[..., Any]],
    passes_on: tuple[type[BaseException], ...],
) -> Any:
    """The answer to a command; an exception is one, too, as a Failure, but for those that are to be raised."""
    try:
        return handlers[op](*arguments)
    except passes_on:
        raise
    except BaseException as exc:
        return failure_of(exc)
