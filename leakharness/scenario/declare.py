"""Declaring a scenario: one file per leak, plain functions, each of which makes one run.

This module is part of the measured process: standard library only.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar, overload

from leakharness.errors import ScenarioError
from leakharness.options import default_of, names_at
from leakharness.scenario.never_set import NeverSet

__all__ = ["ABORT_STYLES", "SYNTHETIC_LEAK", "Abort", "Known", "Mode", "Must", "Run", "Scenario"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Abort = Literal["cancel", "timeout", "raise", "none"]
Must = Literal["PASS", "FAIL"]
Backend = Literal["asyncio", "trio"]

ABORT_STYLES: Final[tuple[Abort, ...]] = ("cancel", "timeout", "raise", "none")
MUSTS: Final[tuple[Must, ...]] = ("PASS", "FAIL")
BACKENDS: Final[tuple[Backend, ...]] = ("asyncio", "trio")
USUAL_MUST: Final[Mapping[str, Must]] = {
    "closure-extracted": "PASS",
    "production": "PASS",
    "closure-inline": "FAIL",
}
"""What the modes of the usual names must give, where the declaration does not say."""
SYNTHETIC_LEAK: Final = "synthetic-leak"
TRIO: Final[Mapping[str, str]] = {"trio": "pip install trio"}
"""What the modes of a scenario need whose backend it is."""
DEFAULT_SCOPE_BYTES: Final[int] = default_of("scope_bytes")
DEFAULT_DEADLINE_S: Final = 0.01
"""Deadline of ``abort="timeout"``, seconds: long enough for the run to reach its wait, short enough to loop."""
SCENARIO_OPTIONS: Final = names_at("scenario")


class Recorder(Protocol):
    """What a :class:`Run` tells the harness. The measured process has the real one; a test may pass a fake."""

    def track(self, obj: Any, label: str | None) -> None: ...
    def wedged(self) -> Any: ...
    def hold(self, obj: Any) -> None: ...
    def target(self) -> Any: ...


class Run:
    """Handed to every run of a mode.

    One ``Run`` serves all runs of a process, so that a closure over it neither grows nor shows in a census;
    ``index`` says which run is going on (0, 1, 2 … over warm-up and batches alike).
    """

    __slots__ = ("_recorder", "index", "mode", "scope_bytes")

    def __init__(
        self,
        *,
        index: int = 0,
        scope_bytes: int = DEFAULT_SCOPE_BYTES,
        mode: str = "",
        recorder: Recorder | None = None,
    ) -> None:
        self.index = index
        self.scope_bytes = scope_bytes
        self.mode = mode
        self._recorder = recorder

    def track(self, obj: T, label: str | None = None) -> T:
        """Count ``obj`` as born now, and as dead when its ``weakref.finalize`` fires. Returns ``obj``.

        Raises TypeError where the object cannot be weakly referenced; the message says what to do.
        """
        if self._recorder is not None:
            self._recorder.track(obj, label)
        return obj

    def wedged(self) -> Any:
        """An awaitable that never settles and that the harness keeps alive, as a wedged provider would.

        It is declared: the object itself is no growth. What hangs on it (a callback and all that the callback
        closes over) is not declared.
        """
        if self._recorder is None:
            import asyncio

            loop = asyncio._get_running_loop()
            return NeverSet() if loop is None else loop.create_future()
        return self._recorder.wedged()

    def hold(self, obj: T) -> T:
        """Keep ``obj`` alive on purpose, and declare it: by itself it is no growth. Returns ``obj``."""
        if self._recorder is not None:
            self._recorder.hold(obj)
        return obj

    def target(self) -> Any:
        """The object named by ``--target module:attribute`` (or by the scenario), imported."""
        if self._recorder is None:
            raise ScenarioError("run.target() needs the harness: run the scenario with `leakharness run`")
        return self._recorder.target()


@dataclass(frozen=True)
class Known:
    """A leak that is accepted for now. ``match`` is a type's name or whole segments of a retainer fingerprint."""

    match: str
    reason: str

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) and text.strip() for text in (self.match, self.reason)):
            raise ScenarioError(
                f"{_caller(3)}: Known({self.match!r}) needs a type or fingerprint and a reason: say why it is "
                "accepted and until when"
            )


@dataclass(frozen=True)
class Mode:
    """One way to run a scenario: a function that makes one run, how the run ends, and what it must give."""

    name: str
    function: Callable[..., Any]
    must: Must | None
    abort: Abort
    abort_after: float
    """Seconds: the deadline of ``timeout``; for ``cancel`` how long the run may go on before it is cancelled."""
    default: bool
    needs: Mapping[str, str]
    """Importable module name -> how to install it. A missing one makes the mode NOT_JUDGED."""
    needs_target: bool
    where: str

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)


@dataclass
class _Pending:
    """A mode as declared, before (or without) its function."""

    name: str
    where: str
    mode: Mode | None = None


def _are_bounds(bounded: object) -> bool:
    """Whether it is ``{"module:attribute": entries}``."""
    return isinstance(bounded, Mapping) and all(
        isinstance(store, str) and store.count(":") == 1 and all(store.split(":")) and type(most) is int and most > 0
        for store, most in bounded.items()
    )


def _are_places(names: object) -> bool:
    """Whether it is ``("module:attribute", …)``."""
    return isinstance(names, (tuple, list)) and all(
        isinstance(name, str) and name.count(":") == 1 and all(name.split(":")) for name in names
    )


class Scenario:
    """One leak: a name, modes, an optional set-up. Options given here rank below the command line.

    Raises ScenarioError, with file and line, for a declaration that cannot work.
    """

    def __init__(
        self,
        name: str,
        *,
        summary: str = "",
        mimics: str | None = None,
        target: str | None = None,
        known: tuple[Known, ...] | list[Known] = (),
        bounded: Mapping[str, int] | None = None,
        track_types: tuple[str, ...] | list[str] = (),
        backend: Backend = "asyncio",
        loop_factory: Callable[[], Any] | None = None,
        **options: Any,
    ) -> None:
        """``bounded``: stores of the program that stop growing at so many entries, ``{"module:ATTRIBUTE": 5000}``.

        ``track_types``: classes of which each new instance is tracked, ``("module:Class",)``.
        ``backend``: what async modes run under; trio is needed only where it is measured. ``loop_factory``: makes
        asyncio's event loop [as its policy does], for example ``uvloop.new_event_loop``.
        """
        where = _caller()
        if not isinstance(name, str) or not name.strip() or any(c in name for c in ":/\\ "):
            raise ScenarioError(f"{where}: a scenario's name is one word without ':' or '/', not {name!r}")
        if not isinstance(known, (tuple, list)) or not all(isinstance(entry, Known) for entry in known):
            raise ScenarioError(f"{where}: scenario {name!r}: known={known!r}: write it as [Known(match, reason), ...]")
        if bounded is not None and not _are_bounds(bounded):
            raise ScenarioError(
                f"{where}: scenario {name!r}: bounded={bounded!r}: write it as {{'module:ATTRIBUTE': most entries}}"
            )
        if not _are_places(track_types):
            raise ScenarioError(f"{where}: scenario {name!r}: track_types={track_types!r}: it is ('module:Class', …)")
        if backend not in BACKENDS:
            raise ScenarioError(f"{where}: scenario {name!r}: backend={backend!r}: it is one of {', '.join(BACKENDS)}")
        if loop_factory is not None and (backend != "asyncio" or not callable(loop_factory)):
            raise ScenarioError(
                f"{where}: scenario {name!r}: loop_factory={loop_factory!r}: a function without arguments that makes "
                "an event loop of asyncio"
            )
        unknown = sorted(set(options) - SCENARIO_OPTIONS)
        if unknown:
            raise ScenarioError(
                f"{where}: scenario {name!r}: unknown option {unknown[0]!r}; "
                f"it takes {', '.join(sorted(SCENARIO_OPTIONS))}"
            )
        for spec, field in ((mimics, "mimics"), (target, "target")):
            if spec is not None and spec.count(":") != 1:
                raise ScenarioError(f"{where}: {field}={spec!r}: write it as module:attribute")
        self.name = name
        self.summary = summary
        self.mimics = mimics
        self.target = target
        self.known = tuple(known)
        self.bounded: dict[str, int] = dict(bounded or {})
        self.track_types = tuple(track_types)
        self.backend = backend
        self.loop_factory = loop_factory
        self.options: dict[str, Any] = options
        self.where = where
        self.set_up: Callable[..., Any] | None = None
        self._pending: dict[str, _Pending] = {}

    def __repr__(self) -> str:
        return f"Scenario({self.name!r}, modes={list(self._pending)!r})"

    @overload
    def setup(self, function: F) -> F: ...
    @overload
    def setup(self) -> Callable[[F], F]: ...
    def setup(self, function: F | None = None) -> F | Callable[[F], F]:
        """Register what runs once per process before any run: sync or async, function or generator.

        What follows a generator's ``yield`` is tear-down. It may take one parameter, the :class:`Run`, whose
        ``mode`` says what is about to be measured.
        """
        where = _caller()

        def register(function: F) -> F:
            if self.set_up is not None:
                raise ScenarioError(f"{where}: scenario {self.name!r} has two setups")
            self.set_up = function
            return function

        return register if function is None else register(function)

    def mode(
        self,
        name: str,
        *,
        must: Must | None = None,
        default: bool = False,
        abort: Abort | None = None,
        abort_after: float | None = None,
        needs: Mapping[str, str] | None = None,
        needs_target: bool = False,
    ) -> Callable[[F], F]:
        """Declare the decorated function, sync or async, as mode ``name``; it must make ONE run.

        ``abort`` says how a run ends [cancel for async, raise for sync]; ``must`` what ``check`` demands of it
        [PASS for the default mode and ``production``, FAIL for ``closure-inline``, else nothing].
        """
        where = _caller()
        if not isinstance(name, str) or not name or any(c.isspace() for c in name):
            raise ScenarioError(f"{where}: mode {name!r}: a mode's name is one word")
        if abort_after is not None and not 0 <= abort_after < float("inf"):
            raise ScenarioError(f"{where}: mode {name!r}: abort_after={abort_after!r}: seconds, 0 or more")
        if name == SYNTHETIC_LEAK:
            raise ScenarioError(f"{where}: mode {SYNTHETIC_LEAK!r} comes from the harness; do not declare it")
        if name in self._pending:
            raise ScenarioError(
                f"{where}: scenario {self.name!r} has mode {name!r} twice (first at {self._pending[name].where})"
            )
        if abort is not None and abort not in ABORT_STYLES:
            raise ScenarioError(
                f"{where}: mode {name!r}: unknown abort style {abort!r}; it is one of {', '.join(ABORT_STYLES)}"
            )
        if must is not None and must not in MUSTS:
            raise ScenarioError(f"{where}: mode {name!r}: must is PASS or FAIL, not {must!r}")
        pending = self._pending[name] = _Pending(name, where)

        def register(function: F) -> F:
            pending.mode = self._build(name, function, must, default, abort, abort_after, needs, needs_target, where)
            return function

        return register

    def _build(
        self,
        name: str,
        function: Callable[..., Any],
        must: Must | None,
        default: bool,
        abort: Abort | None,
        abort_after: float | None,
        needs: Mapping[str, str] | None,
        needs_target: bool,
        where: str,
    ) -> Mode:
        if not callable(function):
            raise ScenarioError(f"{where}: mode {name!r} decorates {function!r}, which is not a function")
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise ScenarioError(f"{where}: mode {name!r} is a generator; a run is a plain or an async function")
        if not _takes_a_run(function):
            raise ScenarioError(
                f"{where}: mode {name!r}: the function is called with one argument, the Run, and cannot be: "
                "write def name(run: Run)"
            )
        is_async = inspect.iscoroutinefunction(function)
        style: Abort = abort or ("cancel" if is_async else "raise")
        if style == "cancel" and not is_async:
            raise ScenarioError(
                f"{where}: mode {name!r}: a plain function cannot be cancelled; use abort='raise', 'timeout' or 'none'"
            )
        if must is None:
            must = USUAL_MUST.get(name, "PASS" if default else None)
        after = abort_after if abort_after is not None else (DEFAULT_DEADLINE_S if style == "timeout" else 0.0)
        needs = {**(TRIO if self.backend == "trio" else {}), **(needs or {})}
        return Mode(name, function, must, style, float(after), default, needs, needs_target, where)

    @property
    def modes(self) -> dict[str, Mode]:
        """The declared modes by name, in order. Call :meth:`validate` first: this leaves out broken ones."""
        return {p.name: p.mode for p in self._pending.values() if p.mode is not None}

    def default_mode(self) -> Mode:
        """The mode that ``run`` takes when none is named."""
        modes = self.modes
        chosen = [m for m in modes.values() if m.default] or [
            m for m in modes.values() if m.name == "closure-extracted"
        ]
        return chosen[0] if chosen else next(iter(modes.values()))

    def validate(self) -> None:
        """Raise ScenarioError, with file and line, for what only shows once the whole file was read."""
        for pending in self._pending.values():
            if pending.mode is None:
                raise ScenarioError(
                    f"{pending.where}: mode {pending.name!r} of {self.name!r} has no function: "
                    "scenario.mode(...) decorates one"
                )
        modes = self.modes
        if not modes:
            raise ScenarioError(f"{self.where}: scenario {self.name!r} has no mode")
        defaults = [m for m in modes.values() if m.default]
        if len(defaults) > 1:
            raise ScenarioError(
                f"{defaults[1].where}: scenario {self.name!r} has two defaults: {defaults[0].name!r} "
                f"({defaults[0].where}) and {defaults[1].name!r}"
            )
        if not defaults and len(modes) > 1 and "closure-extracted" not in modes:
            raise ScenarioError(
                f"{self.where}: scenario {self.name!r} has {len(modes)} modes and no default: mark one default=True"
            )


def _takes_a_run(function: Callable[..., Any]) -> bool:
    """Whether it can be called with one positional argument. What it wraps is not asked: a decorator may add some."""
    try:
        inspect.signature(function, follow_wrapped=False).bind(None)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


def _caller(depth: int = 2) -> str:
    """``file:line`` of the declaration: the frame ``depth`` calls up."""
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
