"""Where descriptors that stay were opened, and threads started: in this process, and as evidence of a leak."""

from __future__ import annotations

import inspect
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import leakharness
from leakharness.worker.resource_births import births

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="lists of descriptors and threads are Linux's"
)

KEPT: list[Any] = []
STOP = threading.Event()
STARTED: list[threading.Thread] = []


def by_the_library() -> None:
    KEPT.append(socket.socketpair())


def in_another_thread() -> None:
    thread = threading.Thread(target=by_a_low_number)
    thread.start()
    thread.join()


def by_a_low_number() -> None:
    KEPT.append(os.dup(0))


def started() -> None:
    STARTED.append(threading.Thread(target=STOP.wait, daemon=True))
    STARTED[-1].start()


def given_back() -> None:
    """The same number is opened again and again."""
    os.close(os.dup(0))
    with socket.create_server(("127.0.0.1", 0)):
        pass
    threading.Thread(target=int).start()


def now_and_then() -> None:
    given_back()
    KEPT.append(None)
    if len(KEPT) % 20 == 0:
        KEPT.append(os.dup(0))


@pytest.fixture(autouse=True)
def closed() -> Any:
    yield
    STOP.set()
    for thread in STARTED:  # before 3.12 nothing is told where another thread runs
        thread.join()
    STARTED.clear()
    for kept in KEPT:
        for one in kept if isinstance(kept, tuple) else (kept,):
            if one is not None:
                os.close(one.detach() if isinstance(one, socket.socket) else one)
    KEPT.clear()
    STOP.clear()


@pytest.mark.parametrize(
    ("run", "kind", "where", "a_run"),
    [
        (by_the_library, "fds", by_the_library, 2.0),
        (in_another_thread, "fds", by_a_low_number, 1.0),
        (started, "threads", started, 1.0),
        (now_and_then, "fds", now_and_then, 0.05),
    ],
)
def test_the_line_of_the_program_and_how_many(
    run: Callable[[], None], kind: str, where: Callable[[], None], a_run: float
) -> None:
    """The program's line, not the library's."""
    rows = births(lambda count: [run() for _ in range(count)] and None, kind)
    assert [(row.file, row.per_run) for row in rows] == [(__file__, pytest.approx(a_run))]
    lines, first = inspect.getsourcelines(where)
    assert first < rows[0].line < first + len(lines)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fds", "threads"])
def test_what_is_given_back_has_no_birth(kind: str) -> None:
    assert births(lambda count: [given_back() for _ in range(count)] and None, kind) == ()


SERVICE = """
import asyncio, socket, threading
from leakharness import Run, Scenario

s = Scenario("service")
KEPT, STOP = [], threading.Event()

class Session: pass

@s.mode("opened", must="FAIL", default=True, abort="none")
def opened(run: Run) -> None:
    KEPT.append(socket.socket())

@s.mode("started", must="FAIL", abort="none")
def started(run: Run) -> None:
    threading.Thread(target=STOP.wait, daemon=True).start()

@s.mode("timed", must="FAIL", abort="none")
async def timed(run: Run) -> None:
    session = run.track(Session())
    asyncio.get_running_loop().call_later(300, lambda: session)
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "service.py"
    file.write_text(SERVICE)
    return file


@pytest.mark.slow
def test_a_leak_of_descriptors_says_where_they_are_opened(service: Path) -> None:
    assert told(service, "opened") == [("descriptor opened", "service.py", "KEPT.append(socket.socket())", 1.0)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a thread that runs already is watched from 3.12 on")
def test_a_leak_of_threads_says_where_they_are_started(service: Path) -> None:
    line = "threading.Thread(target=STOP.wait, daemon=True).start()"
    assert told(service, "started") == [("thread started", "service.py", line, 1.0)]


def told(service: Path, mode: str) -> list[tuple[Any, ...]]:
    result = leakharness.run(str(service), mode, snapshots="never", iters=10)
    rows = [(row["of"], row["file"], row["source"], row["per_run"]) for row in result.allocations]
    return [row for row in rows if row[0] != "growth"]


@pytest.mark.slow
def test_what_a_timer_of_the_loop_holds_says_when_it_is_released(service: Path) -> None:
    """The loop that the runs turn in is the program's, as far as what hangs on it goes."""
    result = leakharness.run(str(service), "timed", snapshots="never", max_runs=250)
    assert result.verdict == "FAIL", result.reason
    (held,) = result.retainers
    root = held.path[0]
    assert root == ("event loop" if sys.version_info >= (3, 12) else "sys.modules['asyncio.events']")
    assert any(step.endswith("._scheduled[*]") for step in held.path)
    assert "registered in TimerHandle._callback; released by a timer, in " in held.sentence
