"""``live look``: the heap of another process, read from outside while nothing runs in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PYTHONS, Answer

from leakharness.cli import make_app
from leakharness.errors import UsageError
from leakharness.heap import v8
from leakharness.heap.graph import HeapGraph
from leakharness.live.look import Look, look

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="reads /proc/PID/mem of x86-64"
)

SERVICE = """
import asyncio, collections, contextvars, functools, gc, json, sys, threading, time, types
class Held:
    def __init__(self, name):
        self.name = name
        self.secret = "hunter2-" + name
KINDS = {}
def held(name):  # a class of its own for each way in which objects are held
    return KINDS.setdefault(name, type(name, (Held,), {"__module__": "__main__"}))(name)
class Slotted:
    __slots__ = ("session",)
LISTENERS, BY_USER, ERRORS, QUEUE, TASKS = [], {}, [], collections.deque(), []
CONFIG = {"primary": held("Keyed")}
VARIABLE = contextvars.ContextVar("request_state")
@functools.lru_cache(maxsize=100)
def cached(number):
    return held("Cached")
@functools.lru_cache(maxsize=None)
def unbounded(number):
    return held("Unbounded")
def listen():
    session = held("Session")
    def on_done():
        return session
    LISTENERS.append(on_done)
def generator():
    chunk = held("Chunk")
    yield chunk
    yield chunk
def fail():
    request = held("Request")
    raise ValueError("no")
async def wait_for(future):
    prompt = held("Prompt")
    await future
async def in_context():
    VARIABLE.set(held("Contextual"))
    await asyncio.sleep(600)
def defaults(argument=held("Default")):
    pass
def thread(ready):
    transcript = held("Transcript")
    ready.set()
    time.sleep(600)
async def main():
    loop = asyncio.get_running_loop()
    for number in range(100):
        listen()
    for number in range(10):
        BY_USER["bob-" + str(number)] = held("ByKey")
        QUEUE.append(held("Queued"))
        cached(number)
        unbounded(number)
        one = generator()
        next(one)
        LISTENERS.append(one)
        try:
            fail()
        except ValueError as error:
            ERRORS.append(error)
        TASKS.append(asyncio.create_task(wait_for(loop.create_future())))
        TASKS.append(asyncio.create_task(in_context()))
        future = loop.create_future()
        future.add_done_callback(functools.partial(print, held("Partial")))
        TASKS.append(future)
    slotted = Slotted()
    slotted.session = held("InSlot")
    LISTENERS.append(slotted)
    LISTENERS.append(types.MethodType(print, held("Bound")))
    LISTENERS.append(({held("InSet")},))
    for number in range(3):
        ready = threading.Event()
        threading.Thread(target=thread, args=(ready,), name="worker-" + str(number), daemon=True).start()
        ready.wait()
    await asyncio.sleep(0.05)
    counts = {"": []}  # holds a container, so that it is tracked from the start
    print(json.dumps({}), flush=True)  # what printing makes is there before it is counted
    gc.collect()
    gc.freeze()  # 3.12 has objects that the collector does not list unless all are in one place
    gc.unfreeze()
    objects = gc.get_objects()
    for item in objects:
        counts[type(item).__name__] = counts.get(type(item).__name__, 0) + 1
    sizes = {str(id(item)): sys.getsizeof(item) for item in objects if type(item) in (list, dict, set, tuple, Slotted)}
    del objects, item
    print(json.dumps({"counts": counts, "sizes": sizes}), flush=True)
    time.sleep(600)
asyncio.run(main())
"""


@dataclass
class Service:
    process: subprocess.Popen[str]
    counts: dict[str, int]
    sizes: dict[int, int]
    look: Look


@pytest.fixture(scope="module", params=PYTHONS)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One still process of an interpreter, and one look at it."""
    file = tmp_path_factory.mktemp("service") / "service.py"
    file.write_text(SERVICE)
    command = [request.param, str(file)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=file.parent
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            told = json.loads(process.stdout.readline())
            sizes = {int(address): size for address, size in told["sizes"].items()}
            yield Service(process, told["counts"], sizes, look(process.pid))
        finally:
            process.kill()


MADE_BY_REPORTING = ("", "dict", "list")
"""Types of which the service makes some after it has counted."""


def test_counts_by_type_are_those_of_the_collector(service: Service) -> None:
    """Of a still process, each type has as many objects as gc.get_objects() says."""
    found: Counter[str] = Counter()
    for family in service.look.families:
        found[family.type.rpartition(".")[2]] += family.count
    names = {*found, *service.counts} - set(MADE_BY_REPORTING)
    differ = {name: (found[name], service.counts.get(name, 0)) for name in names}
    assert {name: pair for name, pair in differ.items() if pair[0] != pair[1]} == {}
    assert abs(found["dict"] - service.counts["dict"]) <= 3
    assert found["Session"] == 100


def test_shallow_sizes_are_those_of_the_interpreter(service: Service) -> None:
    """With buffers and what is over-allocated, as sys.getsizeof says, for the containers."""
    graph = service.look.graph
    seen = {int(at): int(size) for at, size in zip(graph.node_id.tolist(), graph.self_size.tolist(), strict=True)}
    names = dict(zip(graph.node_id.tolist(), graph.node_name.tolist(), strict=True))
    wrong = {
        at: (graph.strings[names[at]], seen[at], size)
        for at, size in service.sizes.items()
        if at in seen and seen[at] != size
    }
    assert len(service.sizes) > 1000
    assert len(wrong) <= len(service.sizes) // 500, list(wrong.items())[:5]


def test_all_but_a_few_objects_are_reached(service: Service) -> None:
    assert service.look.reached > 0.95 * service.look.objects


WAYS = {
    "Session": (100, "on_done (service.py:", "closure cell 'session' -> Session"),
    "Keyed": (1, "sys.modules['__main__'] -> __main__.CONFIG", "['primary'] -> Keyed"),
    "ByKey": (10, "__main__.BY_USER", "[*]"),
    "Queued": (10, "__main__.QUEUE", "[*] -> Queued"),
    "Cached": (10, "__main__.cached", "<cached result> -> Cached"),
    "Unbounded": (10, "__main__.unbounded", "<cached result> -> Unbounded"),
    "Chunk": (10, "generator generator (service.py:", "local 'chunk' -> Chunk"),
    "Request": (10, "ValueError.__traceback__", "'request' -> Request"),
    "Prompt": (10, "coroutine wait_for (service.py:", "local 'prompt' -> Prompt"),
    "Contextual": (10, "context", "request_state"),
    "Partial": (10, "Future._callbacks", "args"),
    "Default": (1, "defaults (service.py:", "__defaults__"),
    "InSlot": (1, "Slotted.session", "-> InSlot"),
    "Bound": (1, "method.__self__", "-> Bound"),
    "InSet": (1, "__main__.LISTENERS", "-> InSet"),
    "Transcript": (3, "thread worker-", "local 'transcript' -> Transcript"),
}
"""Type -> (how many, what its retainer paths say, and how they end)."""


@pytest.mark.parametrize("name", WAYS)
def test_each_way_of_holding_is_named(service: Service, name: str) -> None:
    """As through a capture: the owner, the variable, the registry."""
    count, part, end = WAYS[name]
    groups = service.look.retainers(service.look.nodes_of(name))
    assert sum(group.count for group in groups) == count
    for group in groups:
        text = " -> ".join(group.path)
        assert part in text, text
        assert end in text, text


def test_a_frame_is_told_with_the_line_that_it_is_at(service: Service) -> None:
    """The line of ``time.sleep`` in ``thread``, not that of its definition."""
    line = 1 + SERVICE[: SERVICE.index("    time.sleep(600)\nasync def main")].count("\n")
    group = service.look.retainers(service.look.nodes_of("Transcript"))[0]
    assert f"thread (service.py:{line})" in " -> ".join(group.path), group.path


def test_a_leak_is_explained_in_the_words_of_run(service: Service) -> None:
    """All listeners' sessions are one group, with the closure's variable and the registry by name."""
    group = service.look.retainers(service.look.nodes_of("Session"))[0]
    assert (group.target, group.count) == ("Session", 100)
    assert group.holding_edge.startswith("closure cell 'session' of on_done (service.py:")
    assert group.registered_in == "__main__.LISTENERS (list)"


def test_no_value_of_the_program_leaves(service: Service) -> None:
    """Neither a text in an attribute nor a key that is data stands in the graph."""
    texts = "\n".join(service.look.graph.strings)
    assert "hunter2" not in texts
    assert "bob-100" not in texts
    assert "BY_USER" in texts


def test_the_process_is_not_stopped_and_goes_on(service: Service) -> None:
    """A look neither traces nor ends it."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    assert "TracerPid:\t0" in status
    assert service.process.poll() is None


def test_the_snapshot_is_read_by_the_other_commands(service: Service, tmp_path: Path) -> None:
    """--out writes what ``retainers`` and ``diff`` take, for the owner's eyes only."""
    out = tmp_path / "service.heapsnapshot"
    v8.write(service.look.graph, out)
    graph: HeapGraph = v8.read(out)
    assert graph.node_count == service.look.graph.node_count
    assert out.stat().st_mode & 0o777 == 0o600


def test_the_command_prints_one_document(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    """The keys of the contract, and the sentence of the group."""
    command = ["live", "look", str(service.process.pid), "--type", "Session", "--json"]
    make_app()(command, standalone_mode=False)
    document = json.loads(capfd.readouterr().out)
    keys = "schema pid python objects reached torn interpreters stopped_ms seconds families retainers growth"
    assert set(keys.split()) == set(document)
    assert document["schema"] == "leakharness.live/1"
    assert document["stopped_ms"] == 0
    assert document["retainers"][0]["count"] == 100


LARGE = """
import gc, os, time
class Session:
    def __init__(self, number):
        self.parts, self.by_name = [number], {"k": (number, [])}
KEPT = [Session(number) for number in range(40_000)]
COUNTS = {"": []}  # holds a container, so that it is tracked from the start
def count():  # what it makes, it makes the first time
    for kind in COUNTS:
        COUNTS[kind] = 0
    for item in gc.get_objects():
        COUNTS[type(item)] = COUNTS.get(type(item), 0) + 1
count()
gc.collect()
gc.freeze()  # 3.12 has objects that the collector does not list unless all are in one place
gc.unfreeze()
count()
os.write(1, ",".join(f"{getattr(kind, '__name__', '')}:{found}" for kind, found in COUNTS.items()).encode() + b"\\n")
time.sleep(600)  # and not a read, which has a memoryview meanwhile
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_of_200_000_objects_not_one_is_missing_or_too_many(python: str) -> None:
    """Every type, without any tolerance."""
    with subprocess.Popen([python, "-c", LARGE], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told: Counter[str] = Counter()
            for part in process.stdout.readline().strip().split(","):
                name, _, count = part.rpartition(":")
                told[name] += int(count)
            found: Counter[str] = Counter()
            for family in look(process.pid).families:
                found[family.type.rpartition(".")[2]] += family.count
        finally:
            process.kill()
    assert sum(told.values()) > 200_000
    assert +found == +told


INTERPRETERS = """
import time
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
run = getattr(interpreters, "exec", interpreters.run_string)
one = interpreters.create()
run(one, "class Tenant:\\n    pass\\nTENANTS = [Tenant() for _ in range(30)]")
class Tenant:
    pass
OWN = [Tenant() for _ in range(20)]
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_what_another_interpreter_holds_is_told(python: str, cli: Callable[..., Answer], tmp_path: Path) -> None:
    """The number of interpreters is said, and what the second one keeps is named by its own modules."""
    with subprocess.Popen([python, "-c", INTERPRETERS], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            told = cli("live", "look", str(process.pid), "--type", "Tenant", "--lane-dir", str(tmp_path))
        finally:
            process.kill()
    assert told.code == 0, told.stderr
    assert "2 interpreters: " in told.stdout
    assert "20 Tenant" in told.stdout
    assert "30 Tenant" in told.stdout
    assert "  sys.modules['__main__']\n" in told.stdout
    assert "  sys.modules['__main__'] of interpreter 1\n" in told.stdout


def test_an_unknown_type_is_one_line(service: Service) -> None:
    with pytest.raises(UsageError, match="no tracked object of type 'Nothing'"):
        service.look.nodes_of("Nothing")


def test_what_is_no_python_is_refused() -> None:
    """A process without a Python in it: one line, exit 2."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    with subprocess.Popen([sleep, "30"]) as process:
        try:
            with pytest.raises(UsageError, match="is not a CPython 3") as refused:
                look(process.pid)
        finally:
            process.kill()
    assert refused.value.exit_code == 2


def test_a_process_that_has_ended_is_refused() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(UsageError, match=f"no process {process.pid}"):
        look(process.pid)
