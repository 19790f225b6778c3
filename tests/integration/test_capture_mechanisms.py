# ruff: noqa: E501 - a path is easier to read on one line
"""Every way in which Python code commonly keeps an object: planted in a process of its own, captured, read
back.

The path to the planted object must name the edge that holds it; the twin that lets go must show no such
object.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest

from leakharness.heap.graph import HeapGraph
from leakharness.heap.ingest import Capture, load_capture
from leakharness.heap.retainers import explain

DRIVER = """
import gc, os, sys
import planted
from leakharness.worker.capture import snapshot as capture

planted.hold()
if sys.argv[1] == "clean":
    planted.release()
    gc.collect()
pid = capture.snapshot(sys.argv[2], targets=lambda: ((o, "Payload") for o in planted.payloads()))
status = os.waitpid(pid, 0)[1]
sys.exit(open(sys.argv[2] + ".error").read() if status else 0)
"""
COMMON = """
import gc, weakref
_refs = []
class Payload:
    def __init__(self):
        self.data = [0] * 10
        _refs.append(weakref.ref(self))
    def method(self):
        return self.data
def payloads():
    return [o for o in (r() for r in _refs) if o is not None]
"""
PLANTED: dict[str, tuple[str, str]] = {
    "closure cell": (
        """
callbacks = []
def hold():
    transcript = Payload()
    def on_done():
        return transcript
    callbacks.append(on_done)
def release():
    callbacks.clear()
""",
        "function on_done (planted.py:16) --context transcript--> cell --property cell_contents--> planted.Payload",
    ),
    "traceback": (
        """
last = None
def hold():
    global last
    def fail():
        transcript = Payload()
        raise ValueError
    try:
        fail()
    except ValueError as error:
        last = error
def release():
    global last
    last = None
""",
        "ValueError --property __traceback__--> traceback --property tb_next--> traceback --property tb_frame--> "
        "frame fail (planted.py:18) --context transcript--> planted.Payload",
    ),
    "exception context": (
        """
last = None
def hold():
    global last
    def fail():
        transcript = Payload()
        raise ValueError
    try:
        try:
            fail()
        except ValueError:
            raise KeyError
    except KeyError as error:
        last = error.with_traceback(None)
def release():
    global last
    last = None
""",
        "KeyError --property __context__--> ValueError --property __traceback__--> traceback",
    ),
    "future callback": (
        """
import asyncio
loop = asyncio.new_event_loop()
future = loop.create_future()
def hold():
    transcript = Payload()
    def on_done(f):
        return transcript
    future.add_done_callback(on_done)
def release():
    global future
    future = loop.create_future()
""",
        "_asyncio.Future --property _callbacks--> function on_done (planted.py:18) --context transcript--> cell",
    ),
    "second future callback": (
        """
import asyncio
loop = asyncio.new_event_loop()
future = loop.create_future()
def hold():
    transcript = Payload()
    def on_done(f):
        return transcript
    future.add_done_callback(print)
    future.add_done_callback(on_done)
def release():
    global future
    future = loop.create_future()
""",
        "_asyncio.Future --property _callbacks--> list --element 0--> tuple --element 0--> function on_done (planted.py:18)",
    ),
    "task": (
        """
import asyncio
loop = asyncio.new_event_loop()
tasks = set()
async def work():
    transcript = Payload()
    await loop.create_future()
async def main():
    tasks.add(asyncio.create_task(work()))
    await asyncio.sleep(0)
def hold():
    loop.run_until_complete(main())
def release():
    (task,) = tasks
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    tasks.clear()
""",
        "_asyncio.Task --property _coro--> coroutine work (planted.py:18) --context transcript--> planted.Payload",
    ),
    "contextvar": (
        """
import contextvars
current = contextvars.ContextVar("current")
context = contextvars.copy_context()
def hold():
    context.run(current.set, Payload())
def release():
    context.run(current.set, None)
""",
        "_contextvars.Context --internal <hamt>--> hamt --internal <hamt_bitmap_node>--> hamt_bitmap_node "
        "--context current--> planted.Payload",
    ),
    "contextvar of the thread": (
        """
import contextvars
current = contextvars.ContextVar("current")
def hold():
    current.set(Payload())
def release():
    current.set(None)
""",
        "(root) --property thread MainThread: context--> hamt --internal <hamt_bitmap_node>--> hamt_bitmap_node "
        "--context current--> planted.Payload",
    ),
    "lru_cache on a method": (
        """
import functools
class Service:
    def __init__(self):
        self.payload = Payload()
    @functools.lru_cache(maxsize=16)
    def compute(self, n):
        return n
def hold():
    Service().compute(1)
def release():
    Service.compute.cache_clear()
""",
        "functools._lru_cache_wrapper --property <cached key>--> tuple --element 0--> planted.Service",
    ),
    "result in an unbounded lru_cache": (
        """
import functools
@functools.lru_cache(maxsize=None)
def compute(n):
    return Payload()
def hold():
    compute(1)
def release():
    compute.cache_clear()
""",
        "functools._lru_cache_wrapper --internal <cache>--> dict --property <int>--> planted.Payload",
    ),
    "codec error handler": (
        """
import codecs
def handler(payload):
    return lambda error: (payload, 0)
def hold():
    codecs.register_error("planted", handler(Payload()))
def release():
    codecs.register_error("planted", handler(None))
""",
        "(root) --property registry codecs: error handlers--> dict --property planted--> function <lambda>",
    ),
    "codec search function": (
        """
import codecs
def search(payload):
    return lambda name: payload and None
def hold():
    global function
    function = search(Payload())
    codecs.register(function)
def release():
    global function
    codecs.unregister(function)
    function = None
""",
        "(root) --property registry codecs: search functions--> list --element 1--> function <lambda> (planted.py:15) --context payload--> cell --property cell_contents--> planted.Payload",
    ),
    "array of objects": (
        """
import numpy
class Frame:
    pass
frame = Frame()
def hold():
    frame.values = numpy.array([[None, None], [None, Payload()]], dtype=object)[:]
def release():
    frame.values = None
""",
        "numpy.ndarray --element 3--> planted.Payload",
    ),
    "view of an array": (
        """
import numpy
views = []
def hold():
    views.append(numpy.array([None, None, Payload()], dtype=object)[:1])
def release():
    views.clear()
""",
        "numpy.ndarray --property base--> numpy.ndarray --element 2--> planted.Payload",
    ),
    "global registry": (
        """
registry = {}
def hold():
    registry["session.one"] = Payload()
def release():
    registry.clear()
""",
        "(root) --property sys.modules['planted']--> module planted --internal __dict__--> dict "
        "--property registry--> dict --property session.one--> planted.Payload",
    ),
    "registry by object": (
        """
registry = {}
def hold():
    registry[Payload()] = 1
def release():
    registry.clear()
""",
        "dict --property registry--> dict --property <key>--> planted.Payload",
    ),
    "listener list": (
        """
class Bus:
    def __init__(self):
        self.listeners = []
bus = Bus()
def hold():
    bus.listeners.append(print)
    bus.listeners.append(Payload())
def release():
    del bus.listeners[1]
""",
        "--property listeners--> list --element 1--> planted.Payload",
    ),
    "thread local": (
        """
import threading
local = threading.local()
def hold():
    local.session = Payload()
def release():
    del local.session
""",
        "dict --property session--> planted.Payload",
    ),
    "thread local of another thread": (
        """
import threading
local = threading.local()
ready, done = threading.Event(), threading.Event()
def work():
    local.session = Payload()
    ready.set()
    done.wait(20)
def hold():
    global thread
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait()
def release():
    done.set()
    thread.join()
""",
        "dict --property session--> planted.Payload",
    ),
    "local of another thread": (
        """
import threading
ready, done = threading.Event(), threading.Event()
def work():
    session = Payload()
    ready.set()
    done.wait(20)
def hold():
    global thread
    thread = threading.Thread(target=work, daemon=True, name="worker-1")
    thread.start()
    ready.wait()
def release():
    done.set()
    thread.join()
""",
        "(root) --property thread worker-1: work (planted.py:18) local 'session'--> planted.Payload",
    ),
    "suspended generator": (
        """
running = []
def produce():
    transcript = Payload()
    yield 1
    return transcript
def hold():
    generator = produce()
    next(generator)
    running.append(generator)
def release():
    running.pop().close()
""",
        "list --element 0--> generator produce (planted.py:16) --context transcript--> planted.Payload",
    ),
    "cell of a suspended generator": (
        """
running = []
def produce():
    transcript = Payload()
    def inner():
        return transcript
    yield 1
    inner()
def hold():
    generator = produce()
    next(generator)
    running.append(generator)
def release():
    running.pop().close()
""",
        "generator produce (planted.py:18) --context transcript--> cell --property cell_contents--> planted.Payload",
    ),
    "suspended async generator": (
        """
running = []
async def produce():
    transcript = Payload()
    yield 1
    return
def hold():
    generator = produce()
    try:
        generator.__anext__().send(None)
    except StopIteration:
        pass
    running.append(generator)
def release():
    try:
        running.pop().aclose().send(None)
    except StopIteration:
        pass
""",
        "async_generator produce (planted.py:16) --context transcript--> planted.Payload",
    ),
    "cycle with __del__": (
        """
class Node:
    def __del__(self):
        self.other = None
def hold():
    gc.disable()
    a, b = Node(), Node()
    a.other, b.other = b, a
    a.payload = Payload()
def release():
    gc.enable()
""",
        "planted.Node --property payload--> planted.Payload",
    ),
    "partial": (
        """
import functools
jobs = []
def hold():
    jobs.append(functools.partial(print, 1, file=Payload()))
def release():
    jobs.clear()
""",
        "functools.partial --property keywords--> dict --property file--> planted.Payload",
    ),
    "bound method": (
        """
handlers = {}
def hold():
    handlers["on_close"] = Payload().method
def release():
    handlers.clear()
""",
        "dict --property on_close--> method --property __self__--> planted.Payload",
    ),
    "timer handle": (
        """
import asyncio
loop = asyncio.new_event_loop()
def hold():
    global handle
    handle = loop.call_later(3600, print, Payload())
def release():
    global handle
    handle.cancel()
    handle = None
    loop._scheduled.clear()
""",
        "asyncio.events.TimerHandle --property _args--> tuple --element 0--> planted.Payload",
    ),
    "logging handler": (
        """
import logging
class Handler(logging.Handler):
    def __init__(self, payload):
        super().__init__()
        self.payload = payload
def hold():
    logging.getLogger("app").addHandler(Handler(Payload()))
def release():
    logger = logging.getLogger("app")
    logger.removeHandler(logger.handlers[0])
""",
        "planted.Handler --property payload--> planted.Payload",
    ),
    "closure of a weakref callback": (
        """
class Owner: pass
owner, refs = Owner(), []
def hold():
    transcript = Payload()
    def gone(ref):
        return transcript
    refs.append(weakref.ref(owner, gone))
def release():
    refs.clear()
""",
        "weakref.ReferenceType --property __callback__--> function gone (planted.py:17) --context transcript--> cell",
    ),
    "class attribute": (
        """
class Service:
    instances = []
def hold():
    Service.instances.append(Payload())
def release():
    Service.instances.clear()
""",
        "type planted.Service --property __dict__--> dict --property instances--> list --element 0--> planted.Payload",
    ),
    "instance with __slots__": (
        """
class Session:
    __slots__ = ("user", "transcript", "unset")
sessions = []
def hold():
    session = Session()
    session.user = "x"
    session.transcript = Payload()
    sessions.append(session)
def release():
    del sessions[0].transcript
""",
        "planted.Session --property transcript--> planted.Payload",
    ),
    "dataclass with slots": (
        """
import dataclasses
@dataclasses.dataclass(slots=True)
class Session:
    user: str
    transcript: object
sessions = []
def hold():
    sessions.append(Session("x", Payload()))
def release():
    sessions.clear()
""",
        "planted.Session --property transcript--> planted.Payload",
    ),
    "deque": (
        """
import collections
queue = collections.deque()
def hold():
    queue.extend([1, Payload(), 2])
def release():
    queue.clear()
""",
        "collections.deque --element 1--> planted.Payload",
    ),
    "subclass of list": (
        """
class Queue(list):
    pass
queue = Queue()
def hold():
    queue.tag = "q"
    queue.extend([1, Payload(), 2])
def release():
    queue.clear()
""",
        "planted.Queue --element 1--> planted.Payload",
    ),
    "set": (
        """
seen = set()
def hold():
    seen.add(Payload())
def release():
    seen.clear()
""",
        "set --element 0--> planted.Payload",
    ),
    "default argument": (
        """
table = {}
def hold():
    def handler(event, state=Payload(), *, extra=None):
        return state
    table["handler"] = handler
def release():
    table.clear()
""",
        "function handler (planted.py:15) --property __defaults__--> tuple --element 0--> planted.Payload",
    ),
    "attribute of a function": (
        """
def handler():
    pass
def hold():
    handler.cache = Payload()
def release():
    del handler.cache
""",
        "function handler (planted.py:13) --property __dict__--> dict --property cache--> planted.Payload",
    ),
    "attribute of a namespace": (
        """
import types
boxed = types.SimpleNamespace()
def hold():
    boxed.payload = Payload()
def release():
    del boxed.payload
""",
        "types.SimpleNamespace --property payload--> planted.Payload",
    ),
    "user exception with attributes": (
        """
class Failure(Exception):
    pass
last = []
def hold():
    error = Failure("x", 1)
    error.request = Payload()
    last.append(error)
def release():
    last.clear()
""",
        "planted.Failure --property request--> planted.Payload",
    ),
}


def captured(folder: Path, body: str, mode: str) -> Capture:
    (folder / "planted.py").write_text(COMMON + body)
    (folder / "driver.py").write_text(DRIVER)
    out = folder / "heap.capture"
    done = subprocess.run(
        [sys.executable, "driver.py", mode, str(out)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return load_capture(out)


def edge_text(graph: HeapGraph, edge: int) -> str:
    kind = graph.edge_kinds[graph.edge_kind[edge]]
    name = int(graph.edge_name[edge])
    return f"{kind} {name if kind == 'element' else graph.strings[name]}"


def edges_out(graph: HeapGraph, node: int) -> range:
    return range(int(graph.edge_start[node]), int(graph.edge_start[node + 1]))


def shortest_path(graph: HeapGraph, target: int, barred: frozenset[int] = frozenset()) -> list[int]:
    """Edges from the root to ``target``, never along a weak reference; [] where there is no path."""
    came_by = {0: -1}
    origin = {0: -1}
    queue = deque([0])
    while queue:
        node = queue.popleft()
        for edge in edges_out(graph, node):
            to = int(graph.edge_to[edge])
            if to in came_by or graph.edge_kinds[graph.edge_kind[edge]] == "weak" or edge in barred:
                continue
            came_by[to], origin[to] = edge, node
            queue.append(to)
    if target not in came_by:
        return []
    path = []
    while target:
        path.append(came_by[target])
        target = origin[target]
    return path[::-1]


def path_text(graph: HeapGraph, path: list[int]) -> str:
    """An instance's own dict, which it has or has not by version and history, is left out: ``obj
    --attr-->``."""
    text = "(root)" + "".join(f" --{edge_text(graph, e)}--> {graph.type_name(int(graph.edge_to[e]))}" for e in path)
    return re.sub(
        r"(?<!function)(> (?!module |type )\S+) --internal __dict__--> dict --property",
        r"\1 --property",
        text,
    )


def every_step(graph: HeapGraph, target: int) -> str:
    """All shortest ways, one way into the target at a time: texts of paths, joined by new lines."""
    barred: set[int] = set()
    texts = []
    while len(texts) < 8:
        path = shortest_path(graph, target, frozenset(barred))
        if not path:
            break
        texts.append(path_text(graph, path))
        barred.add(path[-1])
    return "\n".join(texts)


PRINTED = {
    "closure cell": "on_done (planted.py:16) closure cell 'transcript' -> Payload",
    "traceback": "ValueError.__traceback__ -> traceback.tb_next -> traceback.tb_frame -> frame fail (planted.py:18) local 'transcript'",
    "exception context": "KeyError.__context__ -> ValueError.__traceback__",
    "future callback": "planted.future -> Future._callbacks -> on_done (planted.py:18) closure cell 'transcript'",
    "second future callback": "on_done (planted.py:18) closure cell 'transcript'",
    "task": "planted.tasks (set)[0] -> Task._coro -> coroutine work (planted.py:18) local 'transcript'",
    "contextvar": "Context context variable 'current'",
    "lru_cache on a method": "planted.Service.compute -> _lru_cache_wrapper.<cached key>[0] -> Service.payload",
    "codec error handler": "registry codecs: error handlers -> dict['planted'] -> <lambda> (planted.py:",
    "codec search function": "registry codecs: search functions -> list[1] -> <lambda> (planted.py:",
    "array of objects": "planted.frame -> Frame.values[3] -> Payload",
    "global registry": "planted.registry (dict)['session.one']",
    "listener list": "planted.bus -> Bus.listeners[1]",
    "thread local": "planted.local -> _local.",
    "suspended generator": "generator produce (planted.py:16) local 'transcript'",
    "cycle with __del__": "held by C or unknown -> Node.payload -> Payload",
    "partial": "partial.keywords['file']",
    "bound method": "method.__self__",
    "timer handle": "TimerHandle._args[0]",
    "logging handler": "Manager.loggerDict['app'] -> Logger.handlers[0] -> Handler.payload",
    "closure of a weakref callback": "ReferenceType.__callback__ -> gone (planted.py:17) closure cell 'transcript'",
    "class attribute": "planted.Service.instances[0]",
    "instance with __slots__": "Session.transcript",
    "deque": "planted.queue (deque)[1]",
    "default argument": "handler (planted.py:15).__defaults__[0]",
}
"""What the answer must say, in the words that it is printed in."""


@pytest.mark.parametrize("mechanism", PLANTED)
def test_the_path_names_the_edge_that_holds_the_object(mechanism: str, tmp_path: Path) -> None:
    body, expected = PLANTED[mechanism]
    capture = captured(tmp_path, body, "leaky")
    assert capture.labels == ["Payload"]
    graph = capture.graph
    assert graph.type_name(capture.targets[0]) == "planted.Payload"
    found = every_step(graph, capture.targets[0])
    assert expected in found, found


@pytest.mark.parametrize("mechanism", PLANTED)
def test_no_such_object_where_it_was_let_go(mechanism: str, tmp_path: Path) -> None:
    capture = captured(tmp_path, PLANTED[mechanism][0], "clean")
    assert capture.targets == []
    names = {capture.graph.type_name(node) for node in range(capture.graph.node_count)}
    assert "type planted.Payload" in names
    assert "planted.Payload" not in names


@pytest.mark.parametrize("mechanism", PRINTED)
def test_the_printed_path_names_the_edge_that_holds_the_object(mechanism: str, tmp_path: Path) -> None:
    """The explanation as people read it: from a root candidate, by attribute, key and variable, to the object."""
    capture = captured(tmp_path, PLANTED[mechanism][0], "leaky")
    group = explain(capture.graph, capture.targets, capture.labels)[0]
    assert (group.target, group.count) == ("Payload", 1)
    assert PRINTED[mechanism] in " -> ".join(group.path)


def test_what_a_nameless_registry_holds_is_registered_in_its_root(tmp_path: Path) -> None:
    capture = captured(tmp_path, PLANTED["codec error handler"][0], "leaky")
    group = explain(capture.graph, capture.targets, capture.labels)[0]
    assert group.registered_in == "registry codecs: error handlers"
