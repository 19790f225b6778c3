"""A capture leaves the process as it was, runs none of its code, and shows neither the harness nor its values."""

from __future__ import annotations

import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from leakharness.heap.graph import HeapGraph
from leakharness.heap.ingest import Capture, load_capture

HELPERS = """
import gc, os, sys, threading, time, warnings, weakref
from leakharness.worker.capture import snapshot as capture

def taken(path, **options):
    pid = capture.snapshot(path, **options)
    if pid is not None and os.waitpid(pid, 0)[1]:
        end("the child failed: " + open(path + ".error").read())

def end(text):
    print(text, flush=True)
    os._exit(9)
"""


def run(folder: Path, body: str, *arguments: str, timeout: float = 60) -> str:
    """Run ``body`` as a program of its own, with ``taken(path)`` to capture; returns what it printed."""
    (folder / "program.py").write_text(HELPERS + textwrap.dedent(body))
    done = subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def nodes_named(graph: HeapGraph, name: str) -> list[int]:
    return [node for node in range(graph.node_count) if graph.type_name(node) == name]


def root_edges(capture: Capture) -> dict[int, list[str]]:
    graph = capture.graph
    found: dict[int, list[str]] = {}
    for edge in range(int(graph.edge_start[0]), int(graph.edge_start[1])):
        found.setdefault(int(graph.edge_to[edge]), []).append(graph.strings[graph.edge_name[edge]])
    return found


def edge_names(graph: HeapGraph, node: int) -> dict[str, str]:
    """Name of each named edge of ``node`` -> name of the node it leads to."""
    edges = range(int(graph.edge_start[node]), int(graph.edge_start[node + 1]))
    return {
        graph.strings[graph.edge_name[edge]]: graph.type_name(int(graph.edge_to[edge]))
        for edge in edges
        if graph.edge_kinds[graph.edge_kind[edge]] not in ("element", "hidden")
    }


EVIL = """
class Meta(type):
    def __eq__(cls, other): os._exit(71)
    def __hash__(cls): os._exit(72)
    def __instancecheck__(cls, item): os._exit(73)
    def __subclasscheck__(cls, item): os._exit(74)
    def __getattribute__(cls, name): os._exit(75)
    def __repr__(cls): os._exit(76)

class Evil:
    def __eq__(self, other): os._exit(81)
    def __hash__(self): os._exit(82)
    def __sizeof__(self): os._exit(83)
    def __getattr__(self, name): os._exit(84)
    def __repr__(self): os._exit(85)
    def __str__(self): os._exit(86)
    def __len__(self): os._exit(87)
    def __bool__(self): os._exit(88)
    def __iter__(self): os._exit(89)
    def __del__(self): os._exit(90)
    @property
    def __class__(self): os._exit(91)
    @property
    def __dict__(self): os._exit(92)

class Sub(Evil, metaclass=Meta): pass
class Mapping(dict):
    def __iter__(self): os._exit(93)
    def keys(self): os._exit(94)
    def items(self): os._exit(95)
    def values(self): os._exit(96)
    def __getitem__(self, key): os._exit(97)
    def __len__(self): os._exit(98)
class Items(list):
    def __iter__(self): os._exit(99)
    def __len__(self): os._exit(100)
    def __sizeof__(self): os._exit(101)
class Text(str):
    def __hash__(self): return 1
    def __repr__(self): os._exit(102)
    def isidentifier(self): os._exit(103)
    def replace(self, *args): os._exit(104)
class Reference(weakref.ref):
    __slots__ = ()
    def __call__(self): os._exit(105)
class Slots:
    __slots__ = ("evil", "unset")
    def __getattribute__(self, name): os._exit(106)
class Broken(Exception):
    def __getattribute__(self, name): os._exit(107)
    args = property(lambda self: os._exit(108))
kept = [Evil(), object.__new__(Sub), Mapping(a=Evil()), Items([Evil()]), {Text("x"): 1, Text("key"): 2}]
slots = Slots()
slots.evil = kept[0]
broken = Broken(kept[0])
reference = Reference(kept[0])
proxy = weakref.proxy(kept[0])
"""


@pytest.mark.parametrize("fork", [True, False])
def test_no_code_of_the_program_runs(fork: bool, tmp_path: Path) -> None:
    """Every special method, property and override that could be met ends the process."""
    run(tmp_path, EVIL + f"taken('heap', fork={fork})\nos._exit(0)")
    graph = load_capture(tmp_path / "heap").graph
    assert len(nodes_named(graph, "__main__.Evil")) == 3
    (mapping,) = nodes_named(graph, "__main__.Mapping")
    assert edge_names(graph, mapping)["a"] == "__main__.Evil"


BUSY = """
import asyncio
stop = threading.Event()
local = threading.local()
def work():
    table = {}
    local.table = table
    while not stop.is_set():
        for number in range(200):
            table[number] = [str(number)]
        table.clear()
threads = [threading.Thread(target=work) for _ in range(4)]
async def ticking():
    while True:
        await asyncio.sleep(0)
async def main(times):
    task = asyncio.create_task(ticking())
    for _ in range(times):
        await asyncio.sleep(0.001)
        taken("heap")
    task.cancel()
for thread in threads:
    thread.start()
asyncio.run(main(int(sys.argv[1])))
stop.set()
for thread in threads:
    thread.join()
print("done")
"""


@pytest.mark.slow
def test_busy_threads_and_a_running_loop_do_not_hang_it(tmp_path: Path) -> None:
    """Ten captures in the middle of it all; the slow twin makes two hundred."""
    assert run(tmp_path, BUSY, "10") == "done\n"
    graph = load_capture(tmp_path / "heap").graph
    assert any(name.startswith("coroutine ticking (program.py:") for name in graph.strings)


@pytest.mark.slow
def test_two_hundred_captures_with_busy_threads_and_a_running_loop(tmp_path: Path) -> None:
    assert run(tmp_path, BUSY, "200", timeout=600) == "done\n"


def test_the_process_is_as_it_was(tmp_path: Path) -> None:
    """Collector, warnings, descriptors, threads' switch interval and the number of objects."""
    body = """
    warnings.simplefilter("error")
    gc.set_threshold(500, 5, 5)
    keep = [object() for _ in range(100)]
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    def state():
        filters = warnings.filters
        return (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), id(filters), filters[:],
                warnings._filters_version if hasattr(warnings, "_filters_version") else 0,
                sys.getswitchinterval(), sorted(os.listdir("/proc/self/fd")), gc.get_debug())
    def objects():
        gc.collect()
        return len(gc.get_objects())
    for turn in range(3):  # 3.10 untracks what the first snapshot made only in the second one's collection
        taken("warm")
        before = state()
        counted = objects()
    taken("heap")
    if objects() != counted:
        end(f"{objects()} objects, not {counted}")
    if state() != before:
        end(f"{state()}, not {before}")
    done.set()
    """
    run(tmp_path, body)


def test_what_only_another_thread_holds_is_there_and_not_finalized_in_the_copy(tmp_path: Path) -> None:
    """Forking drops the states of other threads, and with them their thread-locals."""
    body = """
    class Payload:
        def __del__(self):
            os.write(1, b"finalized\\n")
    local, ready, done = threading.local(), threading.Event(), threading.Event()
    def work():
        local.payload = Payload()
        ready.set()
        done.wait(60)
    thread = threading.Thread(target=work, name="holder")
    thread.start()
    ready.wait()
    taken("heap")
    os._exit(0)
    """
    assert run(tmp_path, body) == ""
    assert len(nodes_named(load_capture(tmp_path / "heap").graph, "__main__.Payload")) == 1


def test_the_harness_is_not_in_it_but_what_it_holds_is(tmp_path: Path) -> None:
    body = """
    import leakharness.worker.tracker as tracker
    class Payload: pass
    class Kept: pass
    watch = tracker.Tracker()
    payload = Payload()
    watch.track(payload)
    held = [Kept()]
    unrelated = weakref.finalize(payload, print)
    class Holder:
        pass
    roots = [("harness: hold()", held)]
    del held
    taken("heap", roots=roots, targets=watch.survivors)
    """
    run(tmp_path, body)
    capture = load_capture(tmp_path / "heap")
    graph = capture.graph
    assert [name for name in graph.strings if name == "leakharness" or name.startswith("leakharness.")] == []
    assert not [name for name in graph.strings if name.startswith(("type leakharness", "module leakharness"))]
    assert len(nodes_named(graph, "weakref.finalize")) == 1
    assert capture.labels == ["Payload"]
    roots = root_edges(capture)
    (kept,) = nodes_named(graph, "__main__.Kept")
    holders = [node for node, names in roots.items() if "harness: hold()" in names]
    assert [graph.type_name(node) for node in holders] == ["list"]
    assert kept in graph.edge_to[graph.edge_start[holders[0]] : graph.edge_start[holders[0] + 1]]


def test_the_table_of_finalizers_does_not_grow_by_the_harness_s_own(tmp_path: Path) -> None:
    """Half of its entries are the program's: so is half of its size."""
    body = """
    import leakharness.worker.tracker as tracker
    class Payload: pass
    watch = tracker.Tracker()
    payloads = [Payload() for _ in range(2000)]
    for payload in payloads:
        watch.track(payload)
        weakref.finalize(payload, len, ())
    print(sys.getsizeof(weakref.finalize._registry))
    taken("heap", targets=watch.survivors)
    """
    size = int(run(tmp_path, body))
    graph = load_capture(tmp_path / "heap").graph
    (registry,) = [n for n in nodes_named(graph, "dict") if "<finalize>" in edge_names(graph, n)]
    assert graph.self_size[registry] == pytest.approx(size / 2, rel=0.01)


def test_no_value_goes_in_unless_asked(tmp_path: Path) -> None:
    body = """
    secrets = {"pass word": 1, 4711123: 2, b"bytes-key": 3, "user.name": 4, ("tuple-key", 1): 5}
    secrets["x" * 200] = "value-of-the-program"
    taken("plain")
    taken("values", values=True)
    """
    run(tmp_path, body)
    secrets = (b"pass word", b"4711123", b"bytes-key", b"tuple-key", b"x" * 150, b"value-of-the-program")
    plain, values = (tmp_path / "plain").read_bytes(), (tmp_path / "values").read_bytes()
    assert [secret for secret in secrets if secret in plain] == []
    assert b"user.name" in plain
    assert b"pass word" in values
    assert b"4711123" in values
    graph = load_capture(tmp_path / "plain").graph
    named = [set(edge_names(graph, node)) for node in nodes_named(graph, "dict")]
    assert {"[*]", "<int>", "<bytes>", "<tuple>", "user.name", "<key>"} in named


def test_it_is_written_at_once_and_for_the_user_alone(tmp_path: Path) -> None:
    run(tmp_path, "os.umask(0)\ntaken('heap')")
    assert stat.S_IMODE((tmp_path / "heap").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if "heap" in path.name) == ["heap"]


def test_a_child_that_cannot_write_says_so_in_one_line(tmp_path: Path) -> None:
    body = """
    os.mkdir("heap")
    pid = capture.snapshot("heap")
    assert os.waitpid(pid, 0)[1] != 0
    assert [name for name in os.listdir(".") if ".part" in name] == []
    print(open("heap.error").read(), end="")
    """
    printed = run(tmp_path, body)
    assert printed.startswith("IsADirectoryError: ")
    assert printed.count("\n") == 1


def test_stop_the_world_gives_the_same_objects(tmp_path: Path) -> None:
    body = """
    class Payload: pass
    registry = {"one": Payload(), "two": [Payload()]}
    assert capture.snapshot("here", fork=False) is None
    taken("copy")
    """
    run(tmp_path, body)
    for name in ("here", "copy"):
        graph = load_capture(tmp_path / name).graph
        assert len(nodes_named(graph, "__main__.Payload")) == 2
        assert any(edge_names(graph, n).get("one") == "__main__.Payload" for n in nodes_named(graph, "dict"))


def test_sizes_are_those_of_getsizeof(tmp_path: Path) -> None:
    """For types that leave ``__sizeof__`` alone; one that does not counts as its C base says."""
    body = """
    class Plain: pass
    class Slotted: __slots__ = ("a", "b")
    class Liar(list):
        def __sizeof__(self): return 10**9
    things = [Plain(), Slotted(), Liar([1, 2]), "text" * 50, "\\u20ac" * 9, 10**40]
    things += [(1, 2, 3), {1: 2}, {1, 2, 3}, b"x" * 77]
    for thing in things:
        liar = type(thing) is Liar
        size = list.__sizeof__(thing) + sys.getsizeof([]) - [].__sizeof__() if liar else sys.getsizeof(thing)
        print(id(thing), size)
    taken("heap")
    """
    wanted = dict(map(int, line.split()) for line in run(tmp_path, body).splitlines())
    graph = load_capture(tmp_path / "heap").graph
    sizes = dict(zip(graph.node_id.tolist(), graph.self_size.tolist(), strict=True))
    names = {int(address): graph.type_name(node) for node, address in enumerate(graph.node_id.tolist())}
    found = {address: sizes[address] for address in wanted}
    liars = [address for address in wanted if names[address] == "__main__.Liar"]
    slack = {address: (0, 16) if address in liars else (0,) for address in wanted}
    assert {a: found[a] - wanted[a] for a in wanted if found[a] - wanted[a] not in slack[a]} == {}


def test_a_type_that_its_module_never_made_ready_ends_nothing(tmp_path: Path) -> None:
    """On 3.10 and 3.11 ``_testcapi`` shows one, and asking it for its bases is a segmentation fault."""
    pytest.importorskip("_testcapi")
    body = """
    import _testcapi
    class Payload: pass
    registry = [Payload()]
    taken("heap")
    """
    run(tmp_path, body)
    assert len(nodes_named(load_capture(tmp_path / "heap").graph, "__main__.Payload")) == 1


def test_a_context_that_only_c_code_has_set_is_read(tmp_path: Path) -> None:
    """decimal sets a context variable without the module that has their type."""
    body = """
    import _decimal
    class Payload: pass
    if "_contextvars" in sys.modules:
        del sys.modules["_contextvars"]
    context = _decimal.Context()
    _decimal.setcontext(context)
    taken("heap")
    """
    run(tmp_path, body)
    assert nodes_named(load_capture(tmp_path / "heap").graph, "decimal.Context")
