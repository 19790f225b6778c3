"""``leakharness.watch`` in a service: what outlives its end counts by label, and triggers write snapshots."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from leakharness import watch
from leakharness.heap import v8
from leakharness.heap.retainers import explain
from leakharness.watch import metrics
from leakharness.watch.asgi import Scope, WatchRequests


class Session:
    pass


class Hostile:
    """Neither may be called."""

    def __hash__(self) -> int:
        raise AssertionError

    def __eq__(self, other: object) -> bool:
        raise AssertionError


def labelled(label: str) -> int:
    return watch.retained().get(label, 0)


def test_what_dies_is_gone_and_what_stays_counts_by_its_label() -> None:
    kept, dead = [Session() for _ in range(3)], [Session() for _ in range(5)]
    for session in [*kept, *dead]:
        watch.watch(session, "closed", grace=0)
    del dead, session
    gc.collect()
    time.sleep(0.01)
    assert labelled("closed") == 3
    del kept
    gc.collect()
    assert labelled("closed") == 0


def test_within_the_grace_period_nothing_is_retained() -> None:
    session = Session()
    watch.watch(session, "young")
    assert labelled("young") == 0
    assert watch.counters()["waiting"] >= 1


def test_no_code_of_the_object_runs() -> None:
    one, other = Hostile(), Hostile()
    watch.watch(one, "hostile", grace=0)
    watch.watch(other, "hostile", grace=0)
    time.sleep(0.01)
    assert labelled("hostile") == 2
    del other
    assert labelled("hostile") == 1


def test_what_cannot_be_referenced_weakly_is_refused() -> None:
    with pytest.raises(TypeError, match="weak reference"):
        watch.watch(3, "number")


def test_it_imports_the_standard_library_only() -> None:
    """Importing it brings in nothing else of this package, and no other package."""
    code = (
        "import sys; import leakharness.watch; "
        "print(sorted(name for name in sys.modules if name.startswith('leakharness') or name in ('numpy', 'typer')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['leakharness', 'leakharness._version', 'leakharness.watch']"


SERVICE = """
import sys, time
from leakharness import watch
class Session:
    pass
LISTENERS = []
def listen():
    session = Session()
    def on_done():
        return session
    LISTENERS.append(on_done)
    watch.watch(session, "closed session", grace=0)
watch.install({directory!r}, {options})
for number in range(20):
    listen()
print("up", flush=True)
while True:
    time.sleep(0.01)
"""


def service(directory: Path, options: str) -> subprocess.Popen[str]:
    code = SERVICE.format(directory=str(directory), options=options)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def snapshots(directory: Path, count: int) -> list[Path]:
    """At least so many, within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = sorted(directory.glob("*.heapcapture"))
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{len(list(directory.iterdir()))} files after a minute")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "heaps"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("options", ["", "signal=None, threshold=10", "signal=None, rss_limit=1 << 20"])
def test_a_trigger_writes_a_snapshot_that_names_the_holder(place: Path, options: str) -> None:
    """The signal, retained objects, resident memory: the other commands read what is written."""
    with service(place, options) as process:
        try:
            if not options:
                process.send_signal(signal.SIGUSR2)
            path = snapshots(place, 1)[0]
            assert process.poll() is None
        finally:
            process.kill()
    graph = v8.read(path)
    assert v8.info(path).pid == process.pid
    nodes = [node for node in range(graph.node_count) if graph.type_name(node).endswith("Session")]
    group = explain(graph, [node for node in nodes if not graph.type_name(node).startswith("type ")])[0]
    assert group.count == 20
    assert group.holding_edge.startswith("closure cell 'session' of on_done")
    assert path.stat().st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o700


ON_X86_64 = sys.platform.startswith("linux") and os.uname().machine == "x86_64"


@pytest.mark.slow
@pytest.mark.skipif(not ON_X86_64, reason="reads /proc/PID/mem of x86-64")
def test_after_allow_attach_the_snapshot_is_written_from_outside(place: Path) -> None:
    """No copy of the service is made: fork is out of order there. The newest stay, whoever wrote them."""
    options = "keep=1), watch.allow_attach(), setattr(sys.modules['os'], 'fork', None"
    with service(place, options) as process:
        try:
            for _ in range(2):
                before = set(place.iterdir())
                process.send_signal(signal.SIGUSR2)
                deadline = time.monotonic() + 60
                while not set(place.glob("*.heapsnapshot")) - before and time.monotonic() < deadline:
                    time.sleep(0.02)
            deadline = time.monotonic() + 60
            while len(list(place.iterdir())) > 1 and time.monotonic() < deadline:
                time.sleep(0.02)
            (path,) = place.iterdir()
            assert process.poll() is None
        finally:
            process.kill()
    graph = v8.read(path)
    assert v8.info(path).pid == process.pid
    nodes = np.flatnonzero(graph.node_name == graph.strings.index("__main__.Session")).tolist()
    (group,) = explain(graph, nodes)
    assert (group.count, group.holding_edge) == (20, "closure cell 'session' of on_done (<string>:9)")
    assert path.name.endswith(".002.heapsnapshot")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_cannot_be_read_from_outside_is_written_by_a_copy(place: Path) -> None:
    """Here the interpreter that should read it is none: one line says so, and there is a snapshot all the same."""
    with service(place, "), watch.allow_attach(), setattr(sys, 'executable', '/nowhere'") as process:
        try:
            process.send_signal(signal.SIGUSR2)
            assert len(snapshots(place, 1)) == 1
        finally:
            process.kill()
        assert process.stderr is not None
        assert "not read from outside (signal), a copy writes instead" in process.stderr.read()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_newest_stay(place: Path) -> None:
    def numbers() -> list[str]:
        return [name.split(".")[-2] for name in sorted(path.name for path in place.glob("*.heapcapture"))]

    with service(place, "keep=2") as process:
        try:
            for expected in (["001"], ["001", "002"], ["002", "003"], ["003", "004"]):
                process.send_signal(signal.SIGUSR2)
                deadline = time.monotonic() + 60
                while numbers() != expected and time.monotonic() < deadline:
                    time.sleep(0.05)
                assert numbers() == expected
        finally:
            process.kill()


def test_the_handler_before_comes_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    watch.install(tmp_path)
    assert signal.getsignal(signal.SIGUSR2) is not before
    watch.uninstall()
    assert signal.getsignal(signal.SIGUSR2) is before
    assert watch.snapshot() is None


async def call(app: WatchRequests) -> None:
    async def receive() -> dict[str, str]:
        return {"type": "http.request"}

    async def send(message: object) -> None:
        pass

    for number in range(10):
        await app({"type": "http", "path": f"/{number}"}, receive, send)


@pytest.mark.parametrize(("leaks", "count"), [(True, 10), (False, 0)])
def test_requests_of_an_asgi_application(leaks: bool, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leaky twin that keeps each scope, and a clean one."""
    kept: list[Scope] = []

    async def app(scope: Scope, receive: object, send: object) -> None:
        assert scope["type"] == "http"
        if leaks:
            kept.append(scope)

    monkeypatch.setattr(
        "leakharness.watch.asgi.watch", lambda obj, label: watch.watch(obj, f"{leaks} {label}", grace=0)
    )
    asyncio.run(call(WatchRequests(app)))
    time.sleep(0.01)
    assert labelled(f"{leaks} request scope") == count


def test_gauges_are_offered_to_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for each library, with the calls that theirs have."""
    rows: list[tuple[list[str], int]] = []

    class Family:
        def __init__(self, name: str, text: str, labels: list[str]) -> None:
            assert (name, labels) == ("leakharness_retained", ["label"])

        def add_metric(self, labels: list[str], value: int) -> None:
            rows.append((labels, value))

    class Registry:
        def register(self, collector: object) -> None:
            list(collector.collect())  # type: ignore[attr-defined]

    core = ModuleType("prometheus_client.core")
    core.GaugeMetricFamily, core.REGISTRY = Family, Registry()  # type: ignore[attr-defined]
    monkeypatch.setattr(metrics, "_found", lambda name: core if name == "prometheus_client.core" else None)
    assert metrics.register(lambda: {"closed": 3}) == ["prometheus_client"]
    assert rows == [(["closed"], 3)]
    monkeypatch.setattr(metrics, "_found", lambda name: None)
    assert metrics.register(dict) == []
