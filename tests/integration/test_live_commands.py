"""``live``: growth between looks, pause, watch, run, doctor, core dumps; on a service that leaks while it is read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Answer
from test_live_look import SERVICE

from leakharness.errors import UsageError
from leakharness.heap import v8
from leakharness.heap.diff import diff
from leakharness.live import child
from leakharness.live.core_file import find_core
from leakharness.live.history import FILE, Seen, growth, recall, remember
from leakharness.live.look import Family, look, look_at_core
from leakharness.live.pause import paused
from leakharness.live.watching import Limits, watch

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="reads /proc/PID/mem of x86-64"
)
Cli = Callable[..., Answer]

LEAKY = """
import sys, threading, time
class Session:
    def __init__(self, number):
        self.number = number
LISTENERS = []
def listen(number):
    session = Session(number)
    def on_done():
        return session
    LISTENERS.append(on_done)
def serve():
    number = 0
    while True:
        listen(number)
        number += 1
        time.sleep(0.002)
threading.Thread(target=serve, name="server", daemon=True).start()
print("up", flush=True)
while True:
    time.sleep(0.01)
    if len(LISTENERS) % 50 == 0:
        print(len(LISTENERS), flush=True)
"""


@pytest.fixture
def leaky(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A service with two threads that leaks a closure every few milliseconds."""
    file = tmp_path / "leaky.py"
    file.write_text(LEAKY)
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def goes_on(process: subprocess.Popen[str]) -> bool:
    """The service is not traced, not stopped, and makes further sessions."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    before = look(process.pid)
    time.sleep(0.1)
    after = look(process.pid)
    rising = sum(f.count for f in after.families if f.type.endswith("Session")) > sum(
        f.count for f in before.families if f.type.endswith("Session")
    )
    return "TracerPid:\t0" in status and "State:\tT" not in status and "State:\tt" not in status and rising


@pytest.mark.slow
def test_the_second_look_tells_what_has_grown(leaky: subprocess.Popen[str], cli: Cli, tmp_path: Path) -> None:
    """And explains what grows fastest of the program, without being asked."""
    words = ("live", "look", str(leaky.pid), "--json", "--lane-dir", str(tmp_path / "lane"))
    assert cli(*words).document["growth"] == []
    document = cli(*words).document
    rows = {row["type"]: row for row in document["growth"]}
    assert rows["__main__.Session"]["count_delta"] > 0
    assert rows["__main__.Session"]["seconds"] > 0
    assert document["retainers"][0]["target"] == "Session"
    assert document["retainers"][0]["registered_in"] == "__main__.LISTENERS (list)"
    assert (tmp_path / "lane" / FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "lane").stat().st_mode & 0o777 == 0o700


def test_growth_is_the_difference_of_two_looks() -> None:
    """Most bytes first; what shrank or is new to neither is left out or counted from nothing."""
    now = [Family("a.A", 10, 0, 500), Family("b.B", 3, 2, 900), Family("c.C", 1, 0, 10), Family("d.D", 4, 0, 40)]
    before = Seen(100.0, {"a.A": (8, 400), "b.B": (1, 100), "c.C": (2, 20)})
    rows = [(row.type, row.count_delta, row.bytes_delta, row.seconds) for row in growth(now, before, 110.0)]
    assert rows == [("b.B", 4, 800, 10.0), ("a.A", 2, 100, 10.0), ("d.D", 4, 40, 10.0)]
    assert growth(now, None, 110.0) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema": "leakharness.live-seen/1"}', '{"families": 3}', "[" * 100_000]
)
def test_a_broken_record_is_no_look_before(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    assert recall(tmp_path, os.getpid()) is None


def test_a_record_of_another_process_is_not_taken(leaky: subprocess.Popen[str], tmp_path: Path) -> None:
    """The same number may be given to a new process: its start tells them apart."""
    remember(tmp_path, look(leaky.pid))
    assert recall(tmp_path, leaky.pid) is not None
    document = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**document, "started": 1}))
    assert recall(tmp_path, leaky.pid) is None


SERVER = """
import asyncio
class Transcript:
    def __init__(self, name):
        self.name = name
LISTENERS = []
def listen():
    transcript = Transcript("chat")
    def on_shutdown():
        return transcript
    LISTENERS.append(on_shutdown)
async def answer(reader, writer):
    while await reader.readline():
        listen()
        await asyncio.sleep(0)
        writer.write(b"%d\\n" % len(LISTENERS))
        await writer.drain()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("pause", [False, True])
def test_a_server_is_explained_while_it_answers_requests(pause: bool) -> None:
    """The listener that leaks a transcript a request is named; each request before, meanwhile and after is answered."""
    answers: list[int] = []
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with socket.create_connection(("127.0.0.1", int(process.stdout.readline())), timeout=60) as connection:
                lines, ended = connection.makefile("rw"), threading.Event()

                def ask() -> None:
                    while not ended.is_set():
                        lines.write("chat\n")
                        lines.flush()
                        answers.append(int(lines.readline()))

                client = threading.Thread(target=ask)
                client.start()
                while len(answers) < 200:
                    time.sleep(0.005)
                found = look(process.pid, pause=pause)
                meanwhile = len(answers)
                while len(answers) < meanwhile + 100:
                    time.sleep(0.005)
                ended.set()
                client.join()
        finally:
            process.kill()
    assert answers == list(range(1, len(answers) + 1))
    group = max(found.retainers(found.nodes_of("Transcript")), key=lambda one: one.count)
    assert 190 <= group.count <= meanwhile + 1
    assert group.holding_edge == "closure cell 'transcript' of on_shutdown (<string>:9)"
    assert group.registered_in == "__main__.LISTENERS (list)"


@pytest.mark.slow
def test_pause_holds_all_threads_and_lets_them_go(leaky: subprocess.Popen[str], cli: Cli, tmp_path: Path) -> None:
    """While they are held every thread is in a tracing stop; afterwards the service goes on."""
    with paused(leaky.pid):
        states = [
            Path(f"/proc/{leaky.pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]
            for thread in os.listdir(f"/proc/{leaky.pid}/task")
        ]
    assert len(states) == 2
    assert set(states) == {"t"}
    assert goes_on(leaky)
    document = cli("live", "look", str(leaky.pid), "--pause", "--json", "--lane-dir", str(tmp_path / "lane")).document
    assert document["stopped_ms"] > 0
    assert document["torn"] == 0


@pytest.mark.slow
def test_watch_keeps_a_lane_that_the_other_commands_read(
    leaky: subprocess.Popen[str], cli: Cli, tmp_path: Path
) -> None:
    lane = tmp_path / "lane"
    answer = cli("live", "watch", str(leaky.pid), "--every", "0.3s", "--count", "3", "--lane-dir", str(lane))
    assert answer.code == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert "first look" in lines[0]
    assert "closure cell 'session' of on_done" in answer.stdout
    assert "Likely" in answer.stdout or "likely" in answer.stdout
    assert len(list(lane.glob("Heap.*.heapsnapshot"))) == 3
    names = {row.name for row in diff(lane_dir=lane, min_kb=0).rows}
    assert any("Session" in name for name in names)


@pytest.mark.slow
def test_a_lane_keeps_its_first_and_last_within_its_limits(leaky: subprocess.Popen[str], tmp_path: Path) -> None:
    """Of seven looks with room for four files, and of three with room for no bytes."""
    limits = Limits(every=0.0, count=7, keep=4, most_bytes=1 << 40)
    numbers = [tick.number for tick in watch(leaky.pid, tmp_path, limits, wait=lambda *_: None)]
    assert numbers == list(range(1, 8))
    kept = sorted(path.name.split(".")[-2] for path in tmp_path.glob("*.heapsnapshot"))
    assert (kept[0], kept[-1]) == ("001", "007")
    assert len(kept) <= 4
    small = tmp_path / "small"
    small.mkdir()
    list(watch(leaky.pid, small, Limits(every=0.0, count=3, keep=100, most_bytes=0), wait=lambda *_: None))
    assert sorted(path.name.split(".")[-2] for path in small.glob("*.heapsnapshot")) == ["001", "003"]


def test_watch_ends_with_the_process(leaky: subprocess.Popen[str], tmp_path: Path) -> None:
    ticks = watch(leaky.pid, tmp_path, Limits(every=0.0, count=None, keep=5, most_bytes=1 << 40), wait=lambda *_: None)
    next(ticks)
    leaky.kill()
    leaky.wait()
    assert list(ticks) == []


@pytest.mark.slow
def test_run_starts_a_service_and_gives_its_exit_code(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "short.py"
    file.write_text(
        "import time\nclass Thing: pass\nKEPT = [Thing() for _ in range(9)]\ntime.sleep(3)\nraise SystemExit(7)\n"
    )
    words = ("live", "run", "--every", "0.5s", "--count", "2", "--lane-dir", "lane", "--", sys.executable, str(file))
    answer = cli(*words)
    assert answer.code == 7, answer.stderr
    assert "first look" in answer.stdout


def test_a_command_that_ends_at_once_keeps_its_exit_code(cli: Cli) -> None:
    answer = cli("live", "run", "--lane-dir", "lane", "--", sys.executable, "-c", "raise SystemExit(4)")
    assert answer.code == 4
    assert "has ended: no look was taken" in answer.stderr


def test_a_service_that_was_told_to_end_is_not_waited_for_without_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ignores SIGTERM is killed after a while."""
    monkeypatch.setattr(child, "END_SECONDS", 0.3)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited
    try:
        with child.service([sys.executable, "-c", "import time; time.sleep(60)"]) as service:
            service.forward(signal.SIGTERM)
            assert service.wait() == -signal.SIGKILL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_service_that_ignores_ctrl_c_is_told_more_firmly(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """SIGTERM after the deadline, and SIGKILL only after another."""
    monkeypatch.setattr(child, "END_SECONDS", 0.3)
    monkeypatch.setattr(child, "_in_foreground", lambda: False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job of a shell
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with child.service([sys.executable, "-c", deaf]) as service:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert service.wait() in (-signal.SIGTERM, -signal.SIGINT)  # it may not have got so far as to ignore it


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_tells_the_tool_to_end_tells_the_service(number: signal.Signals, tmp_path: Path) -> None:
    """Sent to the tool alone, long before the next look: the service gets it once, ends as it does, and so does the
    tool, with its exit code."""
    file = tmp_path / "service.py"
    file.write_text(
        "import signal, sys, time\nclass Thing: pass\nKEPT = [Thing() for _ in range(9)]\ngot = []\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, lambda n, f: got.append(n))\n"
        "while not got: time.sleep(0.05)\n"
        "time.sleep(0.2)\nprint('got', *map(int, got), flush=True)\nraise SystemExit(9)\n"
    )
    words = ("live", "run", "--every", "1h", "--lane-dir", "lane", "--", sys.executable, str(file))
    tool = subprocess.Popen(
        [sys.executable, "-m", "leakharness", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert tool.stdout is not None
    assert "first look" in tool.stdout.readline()
    tool.send_signal(number)
    out, err = tool.communicate(timeout=60)
    assert tool.returncode == 9, err
    assert f"got {int(number)}\n" in out


def test_doctor_says_what_works(leaky: subprocess.Popen[str], cli: Cli) -> None:
    """On this interpreter everything does, known objects included."""
    answer = cli("live", "doctor", str(leaky.pid), "--json")
    checks = {check["check"]: check for check in answer.document["checks"]}
    assert answer.code == 0
    assert checks["build"]["works"] is True, checks["build"]["text"]
    assert {"platform", "memory", "version", "room", "pause"} <= set(checks)


def test_doctor_names_what_does_not_work(cli: Cli) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    with subprocess.Popen([sleep, "60"]) as process:
        try:
            answer = cli("live", "doctor", str(process.pid))
        finally:
            process.kill()
    assert answer.code == 2
    assert "NO" in answer.stdout
    assert "is not a CPython 3" in answer.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give a PID"),
        (("1", "--core", "x"), "give a PID"),
        (("--core", "missing"), "cannot be read"),
        (("--core", "empty"), "no ELF file"),
        (("--core", "/proc/self/exe"), "not a core dump of an x86-64 process"),
        (("4194303",), "no process 4194303"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(words: tuple[str, ...], says: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    answer = cli("live", "look", *words)
    assert answer.code == 2
    assert says in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_core_dump_is_read_the_same_way(leaky: subprocess.Popen[str], tmp_path: Path) -> None:
    gcore = shutil.which("gcore")
    if gcore is None:
        pytest.skip("gcore (gdb) is not installed")
    done = subprocess.run([gcore, "-o", str(tmp_path / "core"), str(leaky.pid)], capture_output=True, text=True)
    path = tmp_path / f"core.{leaky.pid}"
    if not path.exists():
        pytest.skip(f"gcore may not attach here: {done.stderr[-200:]}")
    leaky.kill()
    assert find_core(path).pid == leaky.pid
    found = look_at_core(path)
    groups = found.retainers(found.nodes_of("Session"))
    assert groups[0].holding_edge.startswith("closure cell 'session' of on_done (")
    assert groups[0].registered_in == "__main__.LISTENERS (list)"
    cut = tmp_path / "cut"
    for length in (10, 64, 500, path.stat().st_size // 2):
        cut.write_bytes(path.read_bytes()[:length])
        with suppress(UsageError):  # whatever is cut: an answer or one line
            look_at_core(cut)


@pytest.mark.slow
@pytest.mark.parametrize("pause", [False, True])
def test_a_look_that_is_killed_leaves_the_service_alone(leaky: subprocess.Popen[str], pause: bool) -> None:
    """Fifty looks are killed at fifty different moments; the service goes on after each."""
    words = [sys.executable, "-m", "leakharness", "live", "look", str(leaky.pid), *(["--pause"] if pause else [])]
    for number in range(50):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tool:
            time.sleep(0.2 + 0.03 * number)
            tool.send_signal(signal.SIGKILL)
        assert leaky.poll() is None
    assert goes_on(leaky)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Session", "ByKey", "InSlot", "Partial"])
def test_a_snapshot_becomes_a_scenario_that_fails_inline_at_once(name: str, cli: Cli, tmp_path: Path) -> None:
    """From a closure in a list, a dict, an attribute, a callback of a future: to a scenario with both modes."""
    file = tmp_path / "service.py"
    file.write_text(SERVICE)
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.readline()
            v8.write(look(process.pid).graph, tmp_path / "service.heapsnapshot")
        finally:
            process.kill()
    document = cli("new", "kept", "--from-snapshot", "service.heapsnapshot", "--type", name, "--json").document
    text = Path(document["file"]).read_text("utf-8")
    assert f"class {name}:" in text
    assert len(document["fill_in_lines"]) >= 4
    results = {mode: cli("run", "kept", "--mode", mode, "--json", "--snapshots", "never") for mode in MODES}
    assert [results[mode].document["verdict"] for mode in MODES] == ["FAIL", "PASS"]
    assert results["closure-inline"].document["tracked"]["retained"] > 0


MODES = ("closure-inline", "closure-extracted")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("new", "kept"), "give --from MODULE:FUNCTION, or --from-snapshot"),
        (("new", "kept", "--from-snapshot", "x"), "with --type TYPE"),
        (("new", "kept", "--from-snapshot", "missing.heapsnapshot", "--type", "A"), "missing.heapsnapshot"),
    ],
)
def test_new_says_what_it_needs(words: tuple[str, ...], says: str, cli: Cli) -> None:
    answer = cli(*words)
    assert answer.code == 2
    assert says in answer.stderr
