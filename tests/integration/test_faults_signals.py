"""Interrupting and killing the tool leaves nothing behind: no process, no half-written file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Answer, clean_environment

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
MARKER = "LEAKHARNESS_TEST_MARKER"

SLOW_RUNS = """
import asyncio, time
s = Scenario("case")
class Thing: pass
kept = []
@s.mode("m", default=True, abort="none")
def m(run: Run) -> None:
    kept.append(run.track(Thing()))
    time.sleep(0.01)
@s.mode("busy", abort="none", must="FAIL")
def busy(run: Run) -> None:
    open("running", "a").close()
    while True: pass
"""


def listen() -> None:
    """The tests may have been started to ignore a hang-up (nohup), and what they start would do the same."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Tool:
    """The command in a process of its own, with a mark by which everything it starts is found."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, *(words if words[0] == "-c" else ("-m", "leakharness", *words))],
            cwd=folder,
            env=clean_environment(**{MARKER: self.mark, "TMPDIR": str(self.temporary)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=listen if os.name == "posix" else None,
        )

    def processes(self) -> list[int]:
        """Pids of every live process that carries the mark, the tool's own included."""
        wanted = f"{MARKER}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if wanted in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def until(self, what: Callable[[], object], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "waited in vain"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)

    def end(self, number: int) -> tuple[int, str]:
        """Send the signal, wait; (exit code, stderr)."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err

    def assert_gone(self) -> None:
        end = time.monotonic() + 5.0
        while left := self.processes():
            assert time.monotonic() < end, f"still alive: {left}"
            time.sleep(0.02)


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Callable[..., Tool]]:
    started: list[Tool] = []

    def start(*words: str) -> Tool:
        started.append(Tool(tmp_path, *words))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def half_files(folder: Path) -> list[Path]:
    """Files of the tool that are temporary, or JSON that does not parse."""
    bad = []
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".py" and path.name != ".gitignore":
            if path.name.startswith(".") or path.suffix in (".tmp", ".capture"):
                bad.append(path)
            elif path.suffix in (".json", ".heapsnapshot"):
                try:
                    json.loads(path.read_bytes())
                except ValueError:
                    bad.append(path)
    return bad


RUN = ("run", "case.py", "--mode", "busy", "--snapshots", "never")
RUN_WITH_SNAPSHOTS = ("run", "case.py", "--mode", "busy")
CHECK = ("check", "case.py")
CHECK_WITH_SNAPSHOTS = ("check", "case.py", "--json", "--snapshots", "always")
slow = pytest.mark.slow


@linux
@pytest.mark.parametrize(
    ("number", "words"),
    [
        pytest.param(signal.SIGINT, RUN_WITH_SNAPSHOTS, id="Ctrl-C in a run"),
        pytest.param(signal.SIGINT, CHECK_WITH_SNAPSHOTS, id="Ctrl-C in a check"),
        pytest.param(signal.SIGTERM, CHECK_WITH_SNAPSHOTS, id="SIGTERM in a check"),
        pytest.param(signal.SIGHUP, RUN_WITH_SNAPSHOTS, id="SIGHUP in a run"),
        pytest.param(signal.SIGINT, RUN, id="Ctrl-C in a run without snapshots", marks=slow),
        pytest.param(signal.SIGINT, CHECK, id="Ctrl-C in a check without snapshots", marks=slow),
        pytest.param(signal.SIGTERM, RUN, id="SIGTERM in a run", marks=slow),
    ],
)
def test_a_signal_leaves_nothing(
    number: int, words: tuple[str, ...], tool: Callable[..., Tool], scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """Exit 130 with one line for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP; nothing is left, and
    no file is half there."""
    scenario_file(SLOW_RUNS)
    running = tool(*words)
    running.until(lambda: (tmp_path / "running").exists())
    assert len(running.processes()) >= 2
    code, err = running.end(number)
    assert code == 128 + number
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("leakharness: ")
    running.assert_gone()
    assert half_files(tmp_path) == []
    assert list(running.temporary.iterdir()) == []


@linux
def test_nohup_is_heeded(tool: Callable[..., Tool], scenario_file: Callable[..., Path], tmp_path: Path) -> None:
    """A SIGHUP that the tool was started to ignore does not end it."""
    scenario_file(SLOW_RUNS)
    ignore = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    running = tool("-c", f"{ignore}; from leakharness.__main__ import main; sys.argv[1:] = {list(RUN)}; main()")
    running.until(lambda: (tmp_path / "running").exists())
    running.process.send_signal(signal.SIGHUP)
    code, _ = running.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM


def test_handlers_are_put_back(quick_cli: Callable[..., Answer]) -> None:
    """main() called in somebody's own program changes nothing there."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers], sys.stdout, sys.stderr
    quick_cli("--version")
    assert ([signal.getsignal(number) for number in numbers], sys.stdout, sys.stderr) == before


@pytest.mark.slow
@linux
def test_ctrl_c_while_snapshots_are_written(
    tool: Callable[..., Tool], scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """In the middle of the batches, with a snapshot after each: whole files only."""
    scenario_file(SLOW_RUNS)
    running = tool("run", "case.py", "--snapshots", "always", "--iters", "20", "--batches", "50")
    running.until(lambda: list(tmp_path.glob(".tmp/leakharness/*/batch-1-*")))
    code, _ = running.end(signal.SIGINT)
    assert code == 130
    running.assert_gone()
    assert half_files(tmp_path) == []


@linux
def test_two_ctrl_c_in_a_row(tool: Callable[..., Tool], scenario_file: Callable[..., Path], tmp_path: Path) -> None:
    """Impatience leaves no process either."""
    scenario_file(SLOW_RUNS)
    running = tool("check", "case.py")
    running.until(lambda: (tmp_path / "running").exists())
    running.process.send_signal(signal.SIGINT)
    code, err = running.end(signal.SIGINT)
    assert code in (130, -signal.SIGINT)
    assert "Traceback" not in err
    running.assert_gone()


@pytest.mark.slow
@linux
def test_ctrl_c_in_a_check_from_python(
    tool: Callable[..., Tool], scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """``leakharness.check`` in somebody's own program: KeyboardInterrupt comes at once, and nothing is left."""
    scenario_file(SLOW_RUNS)
    # A program started in the background of a shell inherits SIGINT as ignored, and so would this one.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    running = tool("-c", f"{listen}; import leakharness; leakharness.check('case.py')")
    running.until(lambda: (tmp_path / "running").exists())
    code, err = running.end(signal.SIGINT)
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    running.assert_gone()
    assert half_files(tmp_path) == []


@pytest.mark.slow
@linux
@pytest.mark.parametrize("command", ["run", "check"])
def test_killing_the_tool_kills_the_measured_process(
    command: str, tool: Callable[..., Tool], scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """SIGKILL leaves the tool no time; the measured process still goes, even in a busy loop."""
    scenario_file(SLOW_RUNS)
    running = tool(command, "case.py", *(("--mode", "busy") if command == "run" else ()))
    running.until(lambda: (tmp_path / "running").exists())
    code, _ = running.end(signal.SIGKILL)
    assert code == -signal.SIGKILL
    running.assert_gone()


@linux
def test_what_a_run_started_goes_with_it(
    tool: Callable[..., Tool], scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """A child process that a scenario leaves behind is ended when the measurement is over."""
    scenario_file(
        """
        import subprocess, sys
        s = Scenario("case")
        @s.setup
        def up():
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        @s.mode("m", abort="none")
        def m(run): pass
        """
    )
    running = tool("run", "case.py", "--snapshots", "never", "--json")
    out, _ = running.process.communicate(timeout=60)
    assert json.loads(out)["verdict"] == "PASS"
    running.assert_gone()


BIG = """
s = Scenario("case")
class Thing:
    pass
pile = [Thing() for _ in range(20_000)]
@s.mode("m", default=True, abort="none")
def m(run: Run) -> None:
    run.track(Thing())
@s.mode("leak", abort="none")
def leak(run: Run) -> None:
    pile.append(run.track(Thing()))
"""


def test_reports_that_cannot_be_written_are_one_line(
    cli: Callable[..., Answer], scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """A folder that is a file: one line that names it, exit 2, and nothing has been measured."""
    scenario_file(BIG)
    (tmp_path / "reports").write_text("a file")
    for words in (
        ("run", "case.py", "--mode", "nothing-like-it"),
        ("check", "case.py", "--report-dir", "reports/below", "--json"),
    ):
        answer = cli(*words, "--quiet")
        assert (answer.code, answer.stdout) == (2, "")
        assert re.fullmatch(r"leakharness: --report-dir reports(/below)?: reports is not a folder\n", answer.stderr), (
            answer.stderr
        )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB; skipped where it may not be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    if sys.platform != "linux":
        pytest.skip("mounts a tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a tmpfs here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def limited() -> Callable[[], None]:
    """For a child process: no file may grow past 100 KB, as on a full disk."""
    import resource

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    return limit


@pytest.mark.slow
@linux
@pytest.mark.parametrize("mode", ["m", "leak"])
def test_no_room_for_snapshots(
    mode: str, limited: Callable[[], None], scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """The verdict stands without its snapshots, a note says why there are none, and no half file is left."""
    scenario_file(BIG)
    done = subprocess.run(
        [sys.executable, "-m", "leakharness", "run", "case.py", "--mode", mode, "--iters", "10", "--json"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=limited,
    )
    document = json.loads(done.stdout)
    assert done.returncode == {"m": 0, "leak": 1}[mode], document["reason"]
    assert document["snapshots"] == []
    assert any("too large" in note.lower() or "snapshot" in note for note in document["notes"]), document["notes"]
    assert "Traceback" not in done.stderr
    assert half_files(tmp_path) == []


@pytest.mark.slow
def test_a_snapshot_folder_that_cannot_be_made(
    cli: Callable[..., Answer], scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """The verdict stands, and a note says why there are no snapshots."""
    scenario_file(BIG)
    (tmp_path / "snaps").write_text("a file")
    answer = cli("run", "case.py", "--snap-dir", "snaps/here", "--iters", "10", "--json")
    assert answer.code == 0, answer.stderr
    assert answer.document["snapshots"] == []
    assert any("snaps" in note for note in answer.document["notes"]), answer.document["notes"]


@linux
def test_a_snapshot_whose_writer_is_killed_is_not_waited_for(
    cli: Callable[..., Answer], scenario_file: Callable[..., Path]
) -> None:
    """As the out-of-memory killer may choose the forked copy: the verdict stands without that snapshot."""
    scenario_file(
        """
        import os
        import leakharness.worker.capture.snapshot as capture
        capture._capture = lambda *args, **more: os.kill(os.getpid(), 9)
        s = Scenario("case")
        @s.mode("m", abort="none")
        def m(run): pass
        """
    )
    answer = cli("run", "case.py", "--iters", "10", "--json", timeout=60)
    assert answer.code == 0, answer.stderr
    assert answer.document["snapshots"] == []
    assert any("has been killed" in note for note in answer.document["notes"])


@linux
def test_no_room_for_the_report(
    small_disk: Path, cli: Callable[..., Answer], scenario_file: Callable[..., Path]
) -> None:
    """The verdict and its exit code stand; one line names the file, and no half file or empty folder is left."""
    scenario_file(BIG)
    with pytest.raises(OSError), open(small_disk / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    answer = cli("run", "case.py", "--snapshots", "never", "--report-dir", str(small_disk), "--quiet", "--json")
    assert (answer.code, answer.document["verdict"]) == (0, "PASS")
    assert_told(answer, str(small_disk))
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def assert_told(answer: Answer, place: str) -> None:
    """One line on stderr and a note, with the same words, say that there is no report, and where it should be."""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("leakharness: no report was written: ")
    assert place in line
    assert line.removeprefix("leakharness: ") in answer.document["notes"]


@linux
@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(("run", "case.py", "--mode", "leak"), 1, id="run"),
        pytest.param(("check", "case.py"), 0, id="check", marks=slow),
    ],
)
def test_a_report_folder_that_cannot_be_made(
    words: tuple[str, ...], code: int, cli: Callable[..., Answer], scenario_file: Callable[..., Path]
) -> None:
    """Found out after the measurement: the verdict stands, as a document and as a block."""
    scenario_file(BIG)
    options = ("--snapshots", "never", "--iters", "10", "--quiet", "--report-dir", "/proc/nothing/like/it")
    answer = cli(*words, *options, "--json")
    assert answer.code == code
    assert_told(answer, "/proc/nothing")
    answer = cli(*words, *options)
    assert (answer.code, answer.stdout.split()[0]) == (code, {1: "FAIL", 0: "CERTIFIED"}[code])
    assert " report was written" in answer.stdout
