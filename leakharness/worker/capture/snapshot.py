"""Captures the whole heap of this process: every object, every reference, names, and where it all hangs.

:func:`snapshot` forks, and the child walks, names and writes while the program goes on after a pause of
milliseconds; :func:`write_capture` does the same with the world stopped. What is written is a raw capture
(``capture_file.py``), which ``leakharness.heap.ingest.load_capture`` turns into a graph in the tool's
process.

No code of the program runs: no ``repr``, ``==``, ``hash``, property, ``__getattr__`` or ``__sizeof__`` of its
own.
"""

from __future__ import annotations

import codecs
import platform
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from leakharness.worker.capture.edge_names import CO_OPTIMIZED, READS_LOCALS_CLEANLY
from leakharness.worker.capture.file import CaptureFile, is_harness_module, short_path
from leakharness.worker.capture.loaded_names import shown_thread_names
from leakharness.worker.capture.type_plans import HEAP_TYPE, type_dict, type_flags
from leakharness.worker.capture.walk import Walk
from leakharness.worker.fork import can_fork, start_copy
from leakharness.worker.unpatched import COPIES, gc, os, signal, time

__all__ = ["Roots", "prepare", "remember_thread_locals", "snapshot", "write_capture"]

NamedRoots = Iterable[tuple[str, Any]]
Targets = Callable[[], Iterable[tuple[Any, str]]]
_THREAD_MARK = "\0"
_KEPT: list[Any] = []
"""What the copy has collected: it leaves without letting go of it, which would take as long as collecting it."""


class Roots:
    """What only the parent can see, held for the few milliseconds until the fork: every thread's frames, and
    the values of thread-locals, which the child's start would clear (``PyOS_AfterFork_Child`` deletes the
    states of all other threads)."""

    __slots__ = ("cwd", "frames", "locals", "pid", "thread_locals", "threads")

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.threads: dict[int, str] = {}
        self.frames: list[tuple[int, types.FrameType]] = []
        self.locals: list[tuple[str, Any]] = []
        self.thread_locals: list[tuple[Any, dict[str, Any]]] = []
        self.cwd = ""


def prepare() -> Roots:
    """Look at the other threads, in the process that is going to fork. The caller drops the result at
    once."""
    roots = Roots()
    roots.cwd = _cwd()
    roots.threads = _thread_names()
    own = threading.get_ident()
    for thread, frame in sys._current_frames().items():
        if thread == own:
            continue
        if READS_LOCALS_CLEANLY:
            roots.locals += _stack_roots(_thread(thread), frame, roots.cwd)
        else:
            roots.frames.append((thread, frame))
    if len(roots.threads) > 1 or roots.frames or roots.locals:
        roots.thread_locals = _thread_locals()
    return roots


def snapshot(
    path: str,
    *,
    targets: Targets | None = None,
    better: Targets | None = None,
    roots: NamedRoots = (),
    exclude: Iterable[int] = (),
    values: bool = False,
    fork: bool = True,
) -> int | None:
    """Write a raw capture of this process to ``path`` (temporary name, then renamed; mode 0600).

    Returns the pid of the child that writes it, which the caller must reap: its exit status is 0, or not 0
    and one line in ``path + ".error"`` says why. Where it cannot fork, or ``fork`` is false, the capture is
    made here with the world stopped, and None is returned (or OSError raised).

    ``targets()`` yields (object, label) of the tracked objects that are still alive; ``better()``, asked in the child
    only, replaces them where it yields any. ``roots`` are named
    roots of the harness (``("harness: hold()", the list)``), ``exclude`` ids of objects that must not be
    shown. ``values`` lets values of dict keys into the capture; otherwise only keys that are identifiers or
    dotted names go in, and of those of a dict that is no namespace only the ones that stand in loaded code.
    """
    if not fork or not can_fork():
        write_capture(path, targets=targets, roots=roots, exclude=exclude, values=values)
        return None
    prepared = prepare()
    pinned = None
    if targets is not None and len(prepared.threads) > 1:
        # What only another thread's state holds would die as the child starts.
        pinned = list(targets())
    return start_copy(_write_from_copy, path, prepared, targets, pinned, better, roots, exclude, values)


def _write_from_copy(
    path: str,
    prepared: Roots,
    targets: Targets | None,
    pinned: list[tuple[Any, str]] | None,
    better: Targets | None,
    roots: NamedRoots,
    exclude: Iterable[int],
    values: bool,
) -> bool:
    """In the copy. Returns whether the capture is there."""
    try:
        gc.disable()
        given = pinned  # also where it is replaced: the call that made this copy still holds it
        if targets is not None and pinned is None:
            pinned = list(targets())  # before the heap is thawed: what is new is told by what is not frozen
        if better is not None:
            pinned = list(better()) or pinned
        gc.unfreeze()  # what the harness froze at baseline belongs to the heap, too
        _ignore_signals()
        listed = targets if pinned is None else pinned.__iter__
        own = [id(entry) for kept in (given, pinned) if kept is not None for entry in (kept, *kept)]
        _KEPT.append(_capture(path, prepared, listed, roots, exclude, values=values, gentle=False, own=own))
        return True
    except BaseException as error:
        _write_error(path, error)
        return False


def write_capture(
    path: str,
    *,
    targets: Targets | None = None,
    roots: NamedRoots = (),
    exclude: Iterable[int] = (),
    values: bool = False,
) -> None:
    """:func:`snapshot` without a fork: the program stands still meanwhile. Raises OSError.

    It reads nothing that would change an object, so on 3.10-3.12 the locals of running functions are missing
    (what they hold is then "held by C or unknown"), and on 3.11 and 3.12 the names of attributes of instances
    that have no dict of their own yet.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        _capture(path, prepare(), targets, roots, exclude, values=values, gentle=True)
    finally:
        if was_enabled:
            gc.enable()


def _capture(
    path: str,
    prepared: Roots,
    targets: Targets | None,
    roots: NamedRoots,
    exclude: Iterable[int],
    *,
    values: bool,
    gentle: bool,
    own: Iterable[int] = (),
) -> Any:
    """Make and write the capture. Returns what it has collected: the child leaves without letting go of it."""
    started = time.perf_counter()
    out = CaptureFile(path)
    try:
        listed: list[tuple[Any, str]] = []
        everything = named = list(roots)

        def seeds() -> list[Any]:
            # Called when the walk has its list of objects: what is made here is not in it.
            nonlocal everything
            if targets is not None:
                listed.extend(targets())
            everything = named + list(_root_candidates(prepared, gentle))
            walk.running = [frame.f_code for frame in _running_frames(prepared)]
            walk.namespaces.update(id(space) for _, space in prepared.thread_locals)
            walk.namespaces.add(id(sys.modules))
            return [*(item for item, _ in listed), *(item for _, item in everything), *_static_types()]

        walk = Walk(out, gentle=gentle, values=values)
        walk.run(seeds)
        out.add_words("rootid", [id(item) for _, item in everything])
        out.add_json("roots", _with_thread_names([label for label, _ in everything], prepared, walk, values=values))
        out.add_words("targetid", [id(item) for item, _ in listed])
        out.add_json("labels", [label for _, label in listed])
        out.add_words("exclude", [*exclude, *own, *map(id, named), id(roots)])
        out.add_words("handler", [id(codecs.lookup_error("strict"))])  # in the registry, which nothing else shows
        out.add_words("harness", list(_harness_ids()))
        out.add_words("finalize", [word for row in _finalizers() for word in row])
        locals_ = [word for holder, space in prepared.thread_locals for word in (id(holder), id(space))]
        out.add_words("threadlo", locals_)
        meta = {
            "pid": prepared.pid,
            "python": platform.python_version(),
            "time": time.time(),
            "cwd": prepared.cwd,
            "threads": len(prepared.threads),
            "seconds": time.perf_counter() - started,
            "named_roots": len(named),
            **walk.facts,
        }
        out.commit(meta)
        return walk
    except BaseException:
        out.discard()
        raise


def _root_candidates(prepared: Roots, gentle: bool) -> Iterator[tuple[str, Any]]:
    for name, module in list(sys.modules.items()):
        if type(name) is str and not _is_harness(name, module):
            yield ("builtins" if name == "builtins" else f"sys.modules[{name!r}]"), module
    yield from _frame_roots(prepared, gentle)
    yield from _registries()
    yield from _interpreter_state(prepared)


def _frame_roots(prepared: Roots, gentle: bool) -> Iterator[tuple[str, Any]]:
    yield from prepared.locals
    if gentle and not READS_LOCALS_CLEANLY:
        return
    for thread, frame in prepared.frames:
        yield from _stack_roots(_thread(thread), frame, prepared.cwd)
    yield from _stack_roots(_thread(threading.get_ident()), sys._getframe(), prepared.cwd)


def _stack_roots(thread: str, frame: types.FrameType | None, cwd: str) -> Iterator[tuple[str, Any]]:
    """``THREAD: function (file:line) local 'x'`` for every variable of a stack of frames."""
    library = os.path.dirname(os.path.abspath(os.__file__))
    module_dicts = {id(type_space) for type_space in map(_space_of, list(sys.modules.values()))}
    while frame is not None:
        code = frame.f_code
        if not is_harness_module(_frame_module(frame)):
            file = short_path(code.co_filename, cwd, library)
            place = f"{thread}: {code.co_name} ({file}:{frame.f_lineno})"
            if id(frame.f_globals) not in module_dicts:
                yield f"{place} globals", frame.f_globals
            if code.co_flags & CO_OPTIMIZED:
                for name, value in frame.f_locals.items():
                    yield f"{place} local {name!r}", value
        frame = frame.f_back


def _running_frames(prepared: Roots) -> Iterator[types.FrameType]:
    for start in (sys._getframe(), *(frame for _, frame in prepared.frames)):
        frame: types.FrameType | None = start
        while frame is not None:
            yield frame
            frame = frame.f_back


def _frame_module(frame: types.FrameType) -> object:
    space = frame.f_globals
    name = dict.get(space, "__name__")
    if name == "__main__":
        spec = dict.get(space, "__spec__")
        name = getattr(spec, "name", name) if type(spec).__module__ == "importlib._bootstrap" else name
    return name


def _registries() -> Iterator[tuple[str, Any]]:
    for number in sorted(signal.valid_signals()):
        handler = signal.getsignal(number)
        if handler is not None and type(handler) is not signal.Handlers:
            name = number.name if isinstance(number, signal.Signals) else str(number)
            yield f"registry signal: {name}", handler
    for label, hook in (("trace", sys.gettrace()), ("profile", sys.getprofile())):
        if hook is not None:
            yield f"registry {label} function", hook


def _interpreter_state(prepared: Roots) -> Iterator[tuple[str, Any]]:
    thread = _thread(threading.get_ident())
    contextvars = sys.modules.get("_contextvars")
    if contextvars is not None:
        for tree in gc.get_referents(contextvars.copy_context()):
            if type(tree) is not contextvars.Context:
                yield f"{thread}: context", tree
    asyncio_events = sys.modules.get("asyncio.events")
    if asyncio_events is not None:
        loop = asyncio_events._get_running_loop()
        if loop is not None:
            yield f"{thread}: running event loop", loop
    for holder, space in prepared.thread_locals:
        yield f"thread-local data of {type(holder).__qualname__}", space


def _static_types() -> list[type]:
    """Types that C declares, which the collector does not list: what they hold would hang on nothing."""
    found: list[type] = [object]
    seen = {id(object)}
    for kind in found:
        children: list[type] = type.__subclasses__(kind)
        new = [child for child in children if id(child) not in seen]
        found += new
        seen.update(map(id, new))
    return [kind for kind in found if not type_flags(kind) & HEAP_TYPE]


_FROZEN_LOCALS: list[weakref.ref[Any]] = []


def remember_thread_locals() -> None:
    """Call before ``gc.freeze()``: ``gc.get_referrers`` does not look at frozen objects, so a capture could not find
    the thread-locals that were made before."""
    _FROZEN_LOCALS[:] = [weakref.ref(holder) for holder in _holders_of_locals()]


def _thread_locals() -> list[tuple[Any, dict[str, Any]]]:
    """Every (``threading.local``, dict of one thread)."""
    found: list[tuple[Any, dict[str, Any]]] = []
    holders = {id(holder): holder for holder in _holders_of_locals()}
    for remembered in _FROZEN_LOCALS:
        holder = remembered()
        if holder is not None:
            holders[id(holder)] = holder
    for holder in holders.values():
        for table in gc.get_referents(holder):
            if type(table) is dict:
                found += [(holder, space) for space in dict.values(table) if type(space) is dict]
    return found


def _holders_of_locals() -> list[Any]:
    """Instances of ``threading.local`` and its subclasses that the collector lists."""
    kinds: list[type] = [threading.local]
    for kind in kinds:
        kinds += type.__subclasses__(kind)
    known = set(map(id, kinds))
    return [holder for holder in gc.get_referrers(*kinds) if id(type(holder)) in known]


def _harness_ids() -> Iterator[int]:
    for name, module in list(sys.modules.items()):
        if _is_harness(name, module):
            yield id(module)
            space = _space_of(module)
            if space is not None:
                yield id(space)
    for module in COPIES:
        yield id(module)
        yield id(vars(module))


def _is_harness(name: str, module: object) -> bool:
    if name == "__main__":
        space = _space_of(module)
        spec = dict.get(space, "__spec__") if space is not None else None
        return type(spec).__module__ == "importlib._bootstrap" and is_harness_module(getattr(spec, "name", None))
    return is_harness_module(name)


def _space_of(module: object) -> dict[str, Any] | None:
    """The dict of a module; None for anything else that sits in ``sys.modules``."""
    if type(module) is not types.ModuleType:
        return None
    space = _module_dict(module)
    return space if type(space) is dict else None


_module_dict: Callable[[Any], Any] = type_dict(types.ModuleType)["__dict__"].__get__


def _finalizers() -> Iterator[tuple[int, int, int, int, int]]:
    """(finalizer, its info, the function, the weak reference, the arguments) of every
    ``weakref.finalize``."""
    weakref = sys.modules["weakref"]
    table = type_dict(weakref.finalize).get("_registry")
    if type(table) is not dict:
        return
    for finalizer, info in list(dict.items(table)):
        if type(info) is weakref.finalize._Info:
            yield id(finalizer), id(info), id(info.func), id(info.weakref), id(info.args)


def _thread_names() -> dict[int, str]:
    """Ident to name, without the lock that ``threading.enumerate`` takes."""
    active: dict[int, Any] = dict(threading._active)  # type: ignore[attr-defined]
    return {ident: str(getattr(thread, "_name", ident)) for ident, thread in active.items()}


def _thread(ident: int) -> str:
    """Stands for ``thread NAME`` until it is known which names stand in loaded code: a name may be data."""
    return f"{_THREAD_MARK}{ident}{_THREAD_MARK}"


def _with_thread_names(labels: list[str], prepared: Roots, walk: Walk, *, values: bool) -> list[str]:
    """``labels`` with the names of threads in place of their marks."""
    names = {str(ident): name for ident, name in prepared.threads.items()}
    shown = names if values else shown_thread_names(names, walk.names_in_code)

    def named(label: str) -> str:
        _, is_thread, rest = label.partition(_THREAD_MARK) if label.startswith(_THREAD_MARK) else ("", "", "")
        if not is_thread:
            return label
        ident, _, rest = rest.partition(_THREAD_MARK)
        return f"thread {shown.get(ident, ident)}{rest}"

    return list(map(named, labels))


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _ignore_signals() -> None:
    """Ctrl-C reaches the whole process group; the child must not answer it, nor wake the parent's event
    loop."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except (ValueError, OSError):
        pass


def _write_error(path: str, error: BaseException) -> None:
    try:
        descriptor = os.open(path + ".error", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as out:
            line = f"{type(error).__name__}: {error}".replace("\n", " ")
            out.write(line[:500] + "\n")
    except OSError:
        pass
