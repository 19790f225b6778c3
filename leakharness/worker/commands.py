"""The measured process: loads one scenario, makes runs, takes readings, one line of command at a time.

Commands come as JSON lines on the standard input the process was started with, answers go as JSON lines to its
standard output (:mod:`leakharness.worker.protocol`); both are moved out of the scenario's way first (its input is
empty, its prints go to stderr). The tool's process decides what to do next; this one only does it. Standard library
only.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, Protocol

from leakharness.errors import ScenarioError
from leakharness.scenario.declare import Mode, Run, Scenario
from leakharness.worker import protocol
from leakharness.worker.build import FREE_THREADED, is_free_threaded
from leakharness.worker.children import adopt_orphans
from leakharness.worker.codec import decode_command, encode_answer
from leakharness.worker.counters import Counters
from leakharness.worker.exception_text import show_all, show_only_of
from leakharness.worker.failure import failure_of
from leakharness.worker.fork import CopyFailed, answer_of_copy, can_fork
from leakharness.worker.readings import CounterReader
from leakharness.worker.recorder import PLANTED, Plant, ScenarioRecorder, TargetMissing
from leakharness.worker.runs import RunFailed, Runs
from leakharness.worker.scenario_file import describe, facts_of, load_scenario, mode_of
from leakharness.worker.shared_segments import remove_mark
from leakharness.worker.tracker import Tracker, self_test
from leakharness.worker.types_followed import follow_types
from leakharness.worker.unowned_references import ReferenceReader, why_not
from leakharness.worker.unpatched import os, time

__all__ = ["Loads", "Measuring", "Session", "checked_tracker", "main", "process_facts"]

COPY_SECONDS = 10.0
"""How long a forked copy may look for timers; nothing is known of them then."""
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal this process gets when its parent dies."""


class Measuring:
    """A scenario that is set up: makes runs, takes readings, answers questions about what they left behind."""

    def __init__(
        self,
        recorder: ScenarioRecorder,
        counters: Counters,
        make_runs: Callable[[int], None],
        *,
        loop: Any,
        finish: Callable[[], list[str]] = list,
        values: bool = False,
    ) -> None:
        """``make_runs(count)`` raises RunFailed. ``finish()`` tears down and returns what there is to say."""
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._counters = counters
        self._make_runs = make_runs
        self._finish = finish
        self._loop = loop
        self._ran = time.monotonic()
        self._values = values
        self._sites: Any = None
        self.reader = CounterReader(counters, recorder.tracker, recorder, loop)
        self._references = ReferenceReader()

    def handlers(self) -> dict[str, Callable[..., Any]]:
        """The commands that it answers.

        A table of bound methods that take positional arguments: looking an attribute up by a string made from JSON
        leaves one entry a call in the interpreter's method cache, and the harness would see itself grow.
        """
        return {
            protocol.RUNS.op: self.runs,
            protocol.FREEZE.op: self.freeze,
            protocol.BASELINE.op: self.reader.baseline,
            protocol.READ.op: self.reader.read,
            protocol.REFERENCES.op: self._references.read,
            protocol.BLOCKS.op: self.blocks,
            protocol.CENSUS.op: self.census,
            protocol.BOUNDED_STORES.op: self.bounded_stores,
            protocol.RETENTION.op: self.reader.retention,
            protocol.GROWN_CONTAINERS.op: self.reader.grown_containers,
            protocol.GROWTH_AFTER_CLEARING.op: self.reader.growth_after_clearing,
            protocol.GROWTH_AFTER_CLEARING_DECLARED.op: self.reader.growth_after_clearing_declared,
            protocol.SNAPSHOT.op: self.snapshot,
            protocol.CONFIRM.op: self.confirm,
            protocol.READ_WITHOUT.op: self.read_without,
            protocol.READ_CUT_BACK.op: self.read_cut_back,
            protocol.SECOND_OPINIONS.op: self.second_opinions,
            protocol.TRACE.op: self.trace,
            protocol.SITES.op: self.sites,
            protocol.ALLOCATION_SITES.op: self.allocation_sites,
            protocol.C_FUNCTIONS.op: self.c_functions,
            protocol.BIRTHS.op: self.births,
            protocol.IDLE.op: self.idle,
            protocol.RELEASE_TIMES.op: self.release_times,
            protocol.NATIVE_CALLS.op: self.native_calls,
            protocol.SELF_TEST.op: self.self_test,
            protocol.FINISH.op: self.finish,
        }

    def runs(self, count: int) -> protocol.Done:
        self._make_runs(count)
        self._ran = time.monotonic()
        return protocol.Done()

    def freeze(self, collect: bool = True) -> protocol.Frozen:
        self._references.forget()
        return self.reader.freeze(collect)

    def blocks(self, rehearsal: bool = False) -> protocol.BlocksAnswer:
        """Census of all allocator blocks, objects or not."""
        from leakharness.worker.block_census import census

        return census(rehearsal)

    def census(self) -> protocol.CensusAnswer:
        return protocol.CensusAnswer(self.reader.census(sizes=True))

    def snapshot(self, path: str, types: list[str], grown: list[list[int]]) -> protocol.SnapshotAnswer:
        """Write a raw capture of this process to ``path``, from a forked copy where there is one.

        Its targets are the retained tracked objects; where there are none, what came into the containers ``grown``,
        (address, entries that came); where that is nothing, the newest ones of ``types``. Answers with the pid of the
        copy; None where the capture is complete.
        """
        from leakharness.worker.capture.snapshot import snapshot

        declared = self._recorder.declared
        survivors = self._tracker.survivors
        pid = snapshot(
            path,
            targets=lambda: list(survivors()) or self.reader.newest_of(types),
            better=lambda: [] if any(True for _ in survivors()) else self.reader.newest_in(grown),
            roots=(
                ("harness: wedged()", declared.wedged),
                ("harness: hold()", declared.held),
                ("harness: synthetic bucket", PLANTED),
                *((("event loop", self._loop),) if self._loop is not None else ()),
            ),
            values=self._values,
        )
        if pid is not None:
            self._counters.ignore_child(pid)
        return protocol.SnapshotAnswer(pid)

    def confirm(self, holders: list[dict[str, str]]) -> protocol.CutAnswer:
        """Cut references in a forked copy and count what dies."""
        from leakharness.worker.cut_edge import confirm

        return confirm(self._tracker.survivors, holders)

    def read_without(self, holders: list[dict[str, str]], types: list[str]) -> protocol.WithoutKnown:
        """Every counter in a forked copy that is rid of the retained tracked objects, which ``holders`` hold; where
        there are none, of all objects of the program's ``types``."""
        from leakharness.worker.cut_edge import read_without

        def targets() -> list[tuple[Any, str]]:
            return list(self._tracker.survivors()) or self.reader.all_of(types)

        return read_without(targets, holders, self.reader.counters, lambda: self._tracker.alive)

    def read_cut_back(self, addresses: list[int]) -> protocol.WithoutKnown:
        """Every counter in a forked copy in which these containers have no more entries than at the baseline."""
        from leakharness.worker.cut_back import read_cut_back

        grown = [row for row in self.reader.grown_containers(addresses).rows if row.address in addresses]
        return read_cut_back(grown, self.reader.counters, lambda: self._tracker.alive)

    def second_opinions(self, path: str) -> protocol.OpinionsAnswer:
        """Let objgraph and guppy3 write what they think to ``path``, from a forked copy."""
        from leakharness.worker.second_opinions import ask

        pid = ask(path, self._tracker.survivors) if can_fork() else None
        if pid is not None:
            self._counters.ignore_child(pid)
        return protocol.OpinionsAnswer(pid is not None, self._tracker.alive)

    def bounded_stores(self, bounds: dict[str, int]) -> protocol.BoundedStores:
        from leakharness.worker.bounded_stores import bounded_stores

        return bounded_stores(bounds)

    def trace(self) -> protocol.Done:
        """Start to trace allocations: for the second, explaining process only."""
        from leakharness.worker.allocation_sites import SiteReader

        self._sites = SiteReader()
        self._sites.start()
        return protocol.Done()

    def sites(self) -> protocol.SitesAnswer:
        return protocol.SitesAnswer(self._sites.read())

    def allocation_sites(self) -> protocol.AllocationSites:
        return protocol.AllocationSites(self._sites.allocations_of(self._tracker.survivors()))

    def c_functions(self, places: list[str], runs: int) -> protocol.CFunctions:
        """Which C functions are called at these lines in so many runs: for the explaining process only."""
        from leakharness.worker.c_calls import c_functions_called

        return protocol.CFunctions(c_functions_called(lambda: self._make_runs(runs), places))

    def births(self, kind: str) -> protocol.Births:
        """Where descriptors are opened, or threads started, that stay: for the explaining process only."""
        try:
            from leakharness.worker.resource_births import births
        except ImportError:  # an interpreter without ctypes
            return protocol.Births()
        return protocol.Births(births(self._make_runs, kind))

    def idle(self, seconds: float) -> protocol.Done:
        """Let the program do what it does by itself: its timers, its threads, its tasks."""
        self.reader.pause(seconds)
        return protocol.Done()

    def release_times(self) -> protocol.ReleaseTimes:
        """Timers and stamps, looked for in a forked copy where there is one: the measurement may go on afterwards, and
        what it needs would count. A copy has no other threads, so that theirs are told to it. Due times count from the
        end of the last run."""
        timers = [thread.interval for thread in threading.enumerate() if type(thread) is threading.Timer]

        def found() -> protocol.ReleaseTimes:
            from leakharness.worker.time_bounds import release_times

            return release_times(timers)

        since = time.monotonic() - self._ran  # readings were taken, and the next runs are followed by a pause at once
        try:
            times = answer_of_copy(protocol.ReleaseTimes, found, COPY_SECONDS) if can_fork() else found()
        except CopyFailed:
            return protocol.ReleaseTimes(0, 0.0, 0)
        return times._replace(last_due_s=times.last_due_s + since) if times.timers else times

    def native_calls(self, runs: int) -> protocol.NativeCalls:
        """Native call sites by memray, where it is there: for the explaining process only."""
        from leakharness.worker.native_calls import native_calls

        self._sites.stop()
        return native_calls(self._make_runs, runs)

    def self_test(self) -> protocol.SelfTest:
        return protocol.SelfTest(self_test(self._tracker))

    def finish(self) -> protocol.Finished:
        """Tear down. The process ends when the tool closes its input."""
        return protocol.Finished(tuple(self._finish()))

    def close(self) -> None:
        """Give back what this has opened, in a process that goes on. Safe to call twice."""
        self._references.close()


class Loads(Protocol):
    """What was loaded: it knows what it is, and nothing has run."""

    @property
    def facts(self) -> protocol.Facts: ...
    def start(self, scope_bytes: int) -> Measuring: ...


class Loaded:
    """One scenario and one mode of it, loaded from a file."""

    def __init__(self, spec: protocol.LoadSpec, temp_folder: str | None = None) -> None:
        """Load the scenario and test the tracker: what is wrong with either is known before anything runs."""
        self._spec = spec
        self._tracker = checked_tracker()
        self._counters = Counters(temp_folder)
        notes = _stop_tracing()
        show_all() if spec.values else show_only_of(spec.path)
        self._scenario = load_scenario(spec.path, spec.name)
        self._mode, self._plant = mode_of(self._scenario, spec.mode)
        if spec.plant:
            self._plant = Plant(**spec.plant)
        self.facts = process_facts(self._counters, facts_of(self._scenario), self._mode.name, notes)

    def start(self, scope_bytes: int) -> Measuring:
        """Set up. What the runs need is imported here, before the baseline."""
        scenario, mode = self._scenario, self._mode
        for module, hint in mode.needs.items():
            if importlib.util.find_spec(module) is None:
                raise RunFailed(f"mode {mode.name!r} needs the module {module!r} in {sys.executable}: {hint}")
        target = self._spec.target or scenario.target
        if mode.needs_target and target is None:
            raise ScenarioError(
                f"{mode.where}: mode {mode.name!r} of {scenario.name!r} imports the real code: "
                "say which with --target module:attribute"
            )
        loop = self._counters.loop = _loop_for(mode, scenario)
        recorder = ScenarioRecorder(self._tracker, loop, target, self._plant)
        run = Run(scope_bytes=scope_bytes, mode=mode.name, recorder=recorder)
        if target is not None and (mode.needs_target or mode.name == "production"):
            self._import_target(recorder)
        tear_down = _set_up(scenario.set_up, run, loop)
        unfollowed = follow_types(scenario.track_types, recorder.track)
        if unfollowed and mode.needs_target:
            raise RunFailed(f"mode {mode.name!r}: {unfollowed[0]}")
        runs = _runs_of(scenario)(mode, run, loop, recorder.after_run if self._plant is not None else None)

        def finish() -> list[str]:
            if tear_down is not None:
                tear_down()
            endings = runs.endings()
            return [*self._tracker.notes(), *unfollowed, *([endings] if endings else [])]

        measuring = Measuring(recorder, self._counters, runs.make, loop=loop, finish=finish, values=self._spec.values)
        # One capture is begun and thrown away here, so that none imports anything or allocates first while measuring.
        importlib.import_module("leakharness.worker.capture.snapshot").prepare()
        measuring.reader.rehearse()
        return measuring

    def _import_target(self, recorder: ScenarioRecorder) -> None:
        try:
            recorder.target()
        except TargetMissing as exc:
            if self._spec.target:
                raise ScenarioError(f"--target {exc}") from None
            raise RunFailed(f"the scenario's target {exc}: install it there, or name another by --target") from None


class Session:
    """The commands that can be answered, by name; there are more of them the further the session gets."""

    def __init__(self, load: Callable[[protocol.LoadSpec], Loads]) -> None:
        self._load_from = load
        self.handlers: dict[str, Callable[..., Any]] = {protocol.DESCRIBE.op: describe, protocol.LOAD.op: self._load}

    def _load(self, spec: dict[str, Any]) -> protocol.Facts:
        loaded = self._load_from(protocol.LoadSpec(**spec))

        def start(scope_bytes: int) -> protocol.Done:
            self.handlers.update(loaded.start(scope_bytes).handlers())
            return protocol.Done()

        self.handlers[protocol.START.op] = start
        return loaded.facts


def main(temp_folder: str | None = None) -> None:
    """Serve commands until the input ends. ``temp_folder``: the temporary folder of this process alone."""
    commands, answers = _take_channel()
    _die_with_parent()
    adopt_orphans()
    answers.write(encode_answer(protocol.READY.op, protocol.Done()))  # from here on the interpreter works
    answers.flush()
    handlers = Session(partial(Loaded, temp_folder=temp_folder)).handlers
    pid = os.getpid()
    for line in commands:
        op, arguments = decode_command(line)
        try:
            # Called from here and not by a function of its own: a traceback that the scenario keeps holds the frames
            # of its callers, too, and each one more of ours would be counted.
            answer = handlers[op](*arguments)
        except BaseException as exc:
            answer = failure_of(exc)
        text = _encoded(op, answer)
        del answer
        if os.getpid() != pid:
            os._exit(0)  # a child that the scenario has forked and let go on: only its parent speaks here
        try:
            answers.write(text)
            answers.flush()
        except BrokenPipeError:
            break
        del text, arguments
    _leave()


def _encoded(op: str, answer: Any) -> bytes:
    try:
        return encode_answer(op, answer)
    except (TypeError, ValueError, RecursionError) as exc:  # an option of the scenario that JSON cannot hold
        return encode_answer(op, failure_of(exc))


def _leave() -> None:
    """End without running the program's exit handlers: the verdict is out, and they may hang."""
    sys.stderr.flush()
    remove_mark()
    os._exit(0)


def _take_channel() -> tuple[BinaryIO, BinaryIO]:
    """Move the two pipes off descriptors 0 and 1, so that the scenario can neither read nor write them."""
    commands = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return commands, answers


def _die_with_parent() -> None:
    """Linux: be killed when the tool is, even while a run is going on. Elsewhere the end of input does it."""
    if sys.platform != "linux":
        return
    try:
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def checked_tracker() -> Tracker:
    """A tracker that has counted right. Raises RunFailed, also where this interpreter cannot be counted."""
    if is_free_threaded():
        raise RunFailed(FREE_THREADED)
    tracker = Tracker()
    fault = self_test(tracker)
    if fault is not None:
        raise RunFailed(f"the tracker's self-test failed: {fault}")
    return tracker


def process_facts(
    counters: Counters, scenario: protocol.ScenarioFacts, mode: str, notes: list[str] | None = None
) -> protocol.Facts:
    """What process this is, and what is going to be measured in it."""
    reason = why_not()
    missing = counters.missing | ({"references": reason} if reason else {})
    return protocol.Facts(
        pid=os.getpid(),
        python=sys.version.split()[0],
        implementation=sys.implementation.name,
        executable=sys.executable,
        missing_counters=missing,
        scenario=scenario,
        mode=mode,
        notes=tuple(notes or ()),
    )


def _stop_tracing() -> list[str]:
    """Switch off what would count itself. Returns what was done, in words."""
    try:
        import _tracemalloc as tracing  # PYTHONTRACEMALLOC starts it without leaving a module in sys.modules
    except ImportError:
        return []
    if tracing.is_tracing():
        tracing.stop()
        return ["tracemalloc was on and has been stopped: the measured run is never traced"]
    return []


def _runs_of(scenario: Scenario) -> type[Runs]:
    if scenario.backend != "trio":
        return Runs
    from leakharness.worker.trio_loop import TrioRuns

    return TrioRuns


def _loop_for(mode: Mode, scenario: Scenario) -> Any:
    """An event loop where the mode or the set-up needs one, else None."""
    set_up = scenario.set_up
    if not (mode.is_async or inspect.iscoroutinefunction(set_up) or inspect.isasyncgenfunction(set_up)):
        return None
    if scenario.backend == "trio":
        from leakharness.worker.trio_loop import TrioLoop

        return TrioLoop()
    import asyncio

    loop = asyncio.new_event_loop() if scenario.loop_factory is None else scenario.loop_factory()
    asyncio.set_event_loop(loop)
    return loop


def _set_up(function: Callable[..., Any] | None, run: Run, loop: Any) -> Callable[[], None] | None:
    """Run the set-up, and return the tear-down (what follows a generator's ``yield``)."""
    if function is None:
        return None
    started = function(run) if inspect.signature(function).parameters else function()
    on_trio = getattr(loop, "set_up", None)
    if on_trio is not None and (inspect.iscoroutine(started) or inspect.isasyncgen(started)):
        return on_trio(started)  # type: ignore[no-any-return]
    if inspect.iscoroutine(started):
        loop.run_until_complete(started)
        return None
    if inspect.isasyncgen(started):
        loop.run_until_complete(started.__anext__())
        return lambda: loop.run_until_complete(_finish_async(started))
    if inspect.isgenerator(started):
        next(started)
        return lambda: _finish(started)
    return None


def _finish(generator: Any) -> None:
    next(generator, None)


async def _finish_async(generator: Any) -> None:
    async for _ in generator:
        break
