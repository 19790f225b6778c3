"""``live look``: the heap of another process, read from outside while nothing runs in it."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from leakharness.cli import make_app
from leakharness.errors import UsageError
from leakharness.heap import v8
from leakharness.heap.graph import HeapGraph
from leakharness.live.look import Look, look

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="reads /proc/PID/mem of x86-64"
)

SERVICE = """
import gc, sys, time
class Session:
    def __init__(self, number):
        self.number = number
        self.secret = "hunter2-%d" % number
class Slotted:
    __slots__ = ("session",)
class Boxed:
    pass
LISTENERS = []
BY_USER = {}
SEEN = set()
def listen(number):
    session = Session(number)
    def on_done():
        return session
    LISTENERS.append(on_done)
def user(name):
    boxed = Boxed()
    boxed.session = Session(-1)
    BY_USER[name] = boxed
for number in range(100):
    listen(number)
user("bob-" + str(len(LISTENERS)))
slotted = Slotted()
slotted.session = Slotted()
slotted.session.session = [LISTENERS, None]
counts = {"": []}  # holds a container, so that it is tracked from the start
print(counts, flush=True)  # what printing makes is there before it is counted
gc.collect()
for item in gc.get_objects():
    counts[type(item).__name__] = counts.get(type(item).__name__, 0) + 1
del item, number
print(counts, flush=True)
time.sleep(600)
"""


@dataclass
class Service:
    process: subprocess.Popen[str]
    counts: dict[str, int]
    look: Look


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One still process of this interpreter, and one look at it."""
    file = tmp_path_factory.mktemp("service") / "service.py"
    file.write_text(SERVICE)
    command = [sys.executable, str(file)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=file.parent
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            counts = ast.literal_eval(process.stdout.readline())
            yield Service(process, counts, look(process.pid))
        finally:
            process.kill()


def test_counts_by_type_are_those_of_the_collector(service: Service) -> None:
    """Of a still process, each type has as many objects as gc.get_objects() says; tuples aside.

    A tuple that the collector has found to hold nothing is not tracked any more, so their number depends on when
    it ran.
    """
    found: Counter[str] = Counter()
    for family in service.look.families:
        found[family.type.rpartition(".")[2]] += family.count
    names = set(found) | set(service.counts)
    differ = {name: (found[name], service.counts.get(name, 0)) for name in names}
    wrong = {name: pair for name, pair in differ.items() if name not in ("", "tuple") and pair[0] != pair[1]}
    assert wrong == {}
    assert found["Session"] == 101


def test_a_leak_is_explained_in_the_words_of_run(service: Service) -> None:
    """All listeners' sessions are one group, with the closure's variable and the registry by name."""
    group = service.look.retainers(service.look.nodes_of("Session"))[0]
    assert (group.target, group.count) == ("Session", 100)
    assert group.holding_edge.startswith("closure cell 'session' of on_done (service.py:")
    assert group.registered_in == "__main__.LISTENERS (list)"


def test_attributes_slots_and_registries_are_named(service: Service) -> None:
    """An instance's attribute and a slot by name."""
    texts = [" -> ".join(group.path) for group in service.look.retainers(service.look.nodes_of("Session"))]
    assert any("Boxed.session -> Session" in text for text in texts), texts
    assert "__main__.slotted -> Slotted.session" in " ".join(
        " -> ".join(group.path) for group in service.look.retainers(service.look.nodes_of("Slotted"))
    )


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
    keys = "schema pid python objects reached torn stopped_ms seconds families retainers growth"
    assert set(keys.split()) == set(document)
    assert document["schema"] == "leakharness.live/1"
    assert document["stopped_ms"] == 0
    assert document["retainers"][0]["count"] == 100


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
