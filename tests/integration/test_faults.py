"""Whatever goes wrong in the measured process is NOT_JUDGED with its reason and exit 3, never a PASS or a FAIL."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Answer

QUICK = ("--iters", "5", "--batches", "5", "--warmup", "5", "--snapshots", "never", "--timeout", "20")

PLAIN = """
import ctypes, os, sys, threading, time
s = Scenario("case")
@s.mode("m", default=True, abort={abort!r})
def m(run: Run) -> None:
    {body}
"""
ASYNC = """
import asyncio, os, sys, time
s = Scenario("case")
@s.mode("m", default=True, abort={abort!r})
async def m(run: Run) -> None:
    {body}
"""


def plain(body: str, abort: str = "none") -> str:
    return PLAIN.format(body=body.replace("\n", "\n    "), abort=abort)


def asynchronous(body: str, abort: str = "cancel") -> str:
    return ASYNC.format(body=body.replace("\n", "\n    "), abort=abort)


LATE = "if run.index == 7:\n    "
"""In the second run after the warm-up of five: the fault happens in the middle of the measurement."""

FAULTS: dict[str, tuple[str, str]] = {
    # id: (scenario, what the reason must say)
    "segfault": (plain(LATE + "ctypes.string_at(0)"), r"crashed by SIGSEGV while making the runs of batch-1"),
    "os.abort": (plain(LATE + "os.abort()"), r"crashed by SIGABRT while making"),
    "os._exit(0)": (
        plain(LATE + "os._exit(0)"),
        r"ended by itself with exit code 0 while making the runs of batch-1",
    ),
    "os._exit(1)": (plain(LATE + "os._exit(1)"), r"ended by itself with exit code 1"),
    "sys.exit": (plain(LATE + "sys.exit(0)"), r"run 7 of mode 'm' raised SystemExit: 0"),
    "sys.exit in async": (
        asynchronous(LATE + "sys.exit(5)", "none"),
        r"run 7 of mode 'm' raised SystemExit: 5",
    ),
    "killed": (plain(LATE + "os.kill(os.getpid(), 9)"), r"killed by SIGKILL while making the runs of batch-1, most"),
    "KeyboardInterrupt": (
        plain(LATE + "raise KeyboardInterrupt"),
        r"run 7 of mode 'm' raised KeyboardInterrupt",
    ),
    "KeyboardInterrupt in async": (
        asynchronous(LATE + "raise KeyboardInterrupt\nawait asyncio.sleep(9)"),
        r"run 7 of mode 'm' raised KeyboardInterrupt",
    ),
    "KeyboardInterrupt declared raise": (
        plain(LATE + "raise KeyboardInterrupt\nraise ValueError", "raise"),
        r"run 7 of mode 'm' raised KeyboardInterrupt",
    ),
    "raises by itself": (plain(LATE + "raise ValueError('no')"), r"run 7 of mode 'm' raised ValueError: no"),
    "async raises by itself": (
        asynchronous(LATE + "raise ValueError('no')\nawait asyncio.sleep(9)"),
        r"run 7 of mode 'm' raised ValueError: no",
    ),
    "MemoryError": (plain(LATE + "bytearray(1 << 62)"), r"run 7 of mode 'm' raised MemoryError"),
    "address space is used up": (
        plain("import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\nbytearray(2 << 30)"),
        r"run 0 of mode 'm' raised MemoryError",
    ),
    "returns, declared raise": (
        plain(LATE + "return\nraise ValueError", "raise"),
        r"run 7 .*returned by itself.*'raise'",
    ),
    "returns, declared timeout": (plain("return", "timeout"), r"run 0 .*returned by itself.*'timeout'"),
    "returns, declared cancel": (asynchronous("return"), r"run 0 .*returned by itself.*'cancel'"),
    "async returns, declared timeout": (
        asynchronous("return", "timeout"),
        r"run 0 .*returned by itself.*'timeout'",
    ),
    "async returns, declared raise": (
        asynchronous("return", "raise"),
        r"run 0 .*returned by itself.*'raise'",
    ),
    "cancels itself": (
        asynchronous("asyncio.current_task().cancel()\nawait asyncio.sleep(9)", "none"),
        r"run 0 .*was cancelled, but its mode declares abort='none'",
    ),
    "swallows the cancellation": (
        asynchronous("try:\n    await asyncio.sleep(9)\nexcept asyncio.CancelledError:\n    pass"),
        r"run 0 .*returned although it was cancelled \(it swallows CancelledError\)",
    ),
    "stops the loop": (
        asynchronous("asyncio.get_running_loop().stop()\nawait asyncio.sleep(9)"),
        r"run 0 .*stopped the event loop before it ended",
    ),
    "a name that is not there": (
        plain("nothing_like_it.foo", "raise"),
        r"run 0 .*raised NameError: name 'nothing_like_it' is not defined .*case.py:8; if that abort is meant",
    ),
    "a name that is not bound yet": (
        asynchronous("late\nlate = 1", "raise"),
        r"run 0 .*raised UnboundLocalError: .*case.py:8",
    ),
    "a module that is not there": (
        plain("import nothing_like_it", "raise"),
        r"run 0 .*raised ModuleNotFoundError: No module named 'nothing_like_it' .*case.py:8",
    ),
    "code that does not compile": (plain("compile('def', '', 'exec')", "raise"), r"run 0 .*raised SyntaxError: "),
    "a word that Run does not know": (plain("run.trak(object())", "raise"), r"AttributeError: 'Run' object has no"),
    "the name is not there in one run": (plain(LATE + "nothing_like_it\nraise ValueError", "raise"), "run 7 .*NameErr"),
    "a text of two lines": (plain(LATE + "raise ValueError('one\\ntwo')"), r"run 7 .*raised ValueError: one two \("),
    "not trackable": (plain("run.track(3)"), r"run.track: builtins.int cannot be weakly referenced"),
}


@pytest.fixture
def judge(quick_cli: Callable[..., Answer], scenario_file: Callable[..., Path]) -> Callable[..., tuple[int, Any]]:
    """Runs a scenario given as text; (exit code, document). The last option of a kind wins."""

    def run(body: str, *options: str) -> tuple[int, Any]:
        answer = quick_cli("run", str(scenario_file(body)), *QUICK, *options, "--json")
        assert "Traceback" not in answer.stderr
        return answer.code, answer.document

    return run


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_not_judged_with_its_reason_and_a_report(
    fault: str, judge: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    """Exit 3, the reason names what happened and in which run, and the report is there all the same."""
    body, wanted = FAULTS[fault]
    code, document = judge(body)
    assert (code, document["verdict"]) == (3, "NOT_JUDGED")
    assert re.search(wanted, document["reason"]), document["reason"]
    (report,) = (tmp_path / "reports").glob("*/")
    assert json.loads((report / "run.json").read_bytes()) == document
    assert "NOT_JUDGED" in (report / "report.md").read_text()


@pytest.mark.parametrize(
    ("body", "notes"),
    [
        ("raise NameError('meant')", ["every run ended by NameError: meant (FILE:8)"]),
        ("try: import nothing_like_it\nfinally: raise KeyError(3)", ["every run ended by KeyError: 3 (FILE:9)"]),
        ("None.missing", ["every run ended by AttributeError: 'NoneType' object has no attribute 'missing' (FILE:8)"]),
        (
            "if run.index % 2: raise ValueError(f'odd {run.index}')\nint('a b')",
            [
                "runs ended by ValueError: invalid literal for int() with base 10: 'a b' (FILE:9), "
                "by ValueError: odd 1 (FILE:8)"
            ],
        ),
        ("exec('absent', {})", ["every run ended by NameError: name 'absent' is not defined (<string>:1)"]),
    ],
)
def test_a_note_says_what_ended_the_runs(
    body: str, notes: list[str], judge: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    """An exception that was meant, or may have been, is no fault; its type, text and place are always told."""
    code, document = judge(plain(body, "raise"))
    assert (code, document["verdict"]) == (0, "PASS"), document["reason"]
    assert [note.replace(str(tmp_path / "case.py"), "FILE") for note in document["notes"]] == notes


def test_a_mode_that_takes_no_run_is_a_usage_error(
    quick_cli: Callable[..., Answer], scenario_file: Callable[..., Path]
) -> None:
    """It would end by the call's TypeError every time, which is no abort of the program."""
    path = scenario_file("s = Scenario('case')\n@s.mode('m', default=True)\ndef m(): raise ValueError")
    answer = quick_cli("check", str(path), *QUICK)
    assert (answer.code, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"leakharness: {path}:4: mode 'm': the function is called with one argument")


HANGS = {
    "plain busy loop": plain("while True: pass"),
    "plain sleep": plain("time.sleep(60)"),
    "plain in C": plain("threading.Lock().acquire() if False else threading.Event().wait()"),
    "async that never ends": asynchronous("await asyncio.sleep(60)", "none"),
    "async busy loop": asynchronous("while True: pass"),
    "async blocking call": asynchronous("time.sleep(60)"),
    "async that never waits": asynchronous("while True: await asyncio.sleep(0)"),
    "deadline swallowed": plain("while True:\n    try: time.sleep(60)\n    except TimeoutError: pass", "timeout"),
    "while loading": "import time\ntime.sleep(60)\ns = Scenario('case')",
    "in the set-up": """
        import time
        s = Scenario("case")
        @s.setup
        def up(): time.sleep(60)
        @s.mode("m", abort="none")
        def m(run): pass
    """,
    "in the tear-down": """
        import time
        s = Scenario("case")
        @s.setup
        def up():
            yield
            time.sleep(60)
        @s.mode("m", abort="none")
        def m(run): pass
    """,
}


SLOW_HANGS = ("plain in C", "async blocking call", "async that never waits", "async busy loop", "while loading")
"""They end in the same way as the others, at the cost of a second each."""


def test_check_heeds_the_timeout_while_it_reads_the_declarations(
    quick_cli: Callable[..., Answer], scenario_file: Callable[..., Path]
) -> None:
    """A file that hangs when it is imported ends check at --timeout too, not at the default of 300 s."""
    answer = quick_cli("check", str(scenario_file(HANGS["while loading"])), "--timeout", "0.8")
    assert answer.code == 3
    assert "hung: no answer before --timeout while reading the declarations" in answer.stderr


@pytest.mark.parametrize(
    "hang", [pytest.param(hang, marks=pytest.mark.slow) if hang in SLOW_HANGS else hang for hang in HANGS]
)
def test_a_hang_ends_at_the_timeout(hang: str, judge: Callable[..., tuple[int, Any]]) -> None:
    """NOT_JUDGED, it says what was going on, and the stacks of the hung process are in the detail."""
    code, document = judge(HANGS[hang], "--timeout", "0.8")
    assert (code, document["verdict"]) == (3, "NOT_JUDGED"), document
    assert re.search(r"hung: no answer before --timeout while \w+", document["reason"])
    assert "most recent call first" in document["detail"]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        pytest.param("raise ValueError('up')", "ValueError: up", id="raises"),
        pytest.param("import nothing_like_it", "No module named 'nothing_like_it'.*install it there", id="import"),
        pytest.param("import os; os._exit(4)", "exit code 4 while setting up", id="exits"),
        pytest.param("import sys; sys.exit('bye')", "SystemExit: bye", id="sys.exit"),
    ],
)
def test_a_set_up_that_fails(body: str, wanted: str, judge: Callable[..., tuple[int, Any]]) -> None:
    """What the set-up raised is the reason."""
    code, document = judge(
        f"""
        s = Scenario("case")
        @s.setup
        def up():
            {body}
        @s.mode("m", abort="none")
        def m(run): pass
        """
    )
    assert (code, document["verdict"]) == (3, "NOT_JUDGED")
    assert re.search(wanted, document["reason"]), document["reason"]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_tear_down_that_raises(kind: str, judge: Callable[..., tuple[int, Any]]) -> None:
    """A scenario whose tear-down fails was not measured as declared."""
    code, document = judge(
        f"""
        s = Scenario("case")
        @s.setup
        {kind} up():
            yield
            raise ValueError("down")
        @s.mode("m", abort="none")
        def m(run): pass
        """
    )
    assert (code, document["verdict"]) == (3, "NOT_JUDGED")
    assert "ValueError: down" in document["reason"]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        pytest.param("raise ValueError('to\\np')", "^loading .*case.py ended by ValueError: to p$", id="raises"),
        pytest.param("import sys; sys.exit(0)", "^loading .*case.py ended by SystemExit: 0$", id="sys.exit"),
        pytest.param("import os; os.fork() or 1 / 0\nimport time; time.sleep(0.2); 1 / 0", "ZeroDivision", id="forks"),
        pytest.param("import os; os._exit(0)", "exit code 0 while loading the scenario", id="exits"),
        pytest.param("import ctypes; ctypes.string_at(0)", "SIGSEGV while loading the scenario", id="segfault"),
        pytest.param("import nothing_like_it", "No module named 'nothing_like_it'", id="import"),
    ],
)
def test_a_file_that_fails_when_it_is_imported(body: str, wanted: str, judge: Callable[..., tuple[int, Any]]) -> None:
    """The module's own failure is the reason, and the exit code is 3: the scenario may be right elsewhere."""
    code, document = judge(body)
    assert (code, document["verdict"]) == (3, "NOT_JUDGED")
    assert re.search(wanted, document["reason"]), document["reason"]


def test_a_cancelled_run_that_goes_on(judge: Callable[..., tuple[int, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that answers its cancellation by waiting on is given a grace, and is then not judged."""
    body = """
        import asyncio
        import leakharness.worker.runs as runs
        runs.CANCEL_GRACE_S = 0.2
        s = Scenario("case")
        @s.mode("m")
        async def m(run):
            while True:
                try: await asyncio.sleep(60)
                except asyncio.CancelledError: pass
    """
    code, document = judge(body)
    assert (code, document["verdict"]) == (3, "NOT_JUDGED")
    assert "was still going 0.2 s after it was cancelled" in document["reason"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("os.close(0) if run.index == 7 else None", id="closes stdin"),
        pytest.param("os.close(1) if run.index == 3 else None", id="closes stdout"),
        pytest.param("os.close(2) if run.index == 3 else None", id="closes stderr"),
        pytest.param("os.closerange(0, 3) if run.index == 3 else None", id="closes all three"),
        pytest.param("sys.stdout.close() if run.index == 3 else None", id="closes sys.stdout"),
        pytest.param("print('{\"failed\": 1}' * 2000, flush=True)", id="prints to stdout"),
        pytest.param("print('x' * 20000, file=sys.stderr, flush=True)", id="prints to stderr"),
        pytest.param("os.write(1, b'[]' + bytes([10]))", id="writes to descriptor 1"),
        pytest.param("assert sys.stdin.read() == ''", id="reads stdin"),
        pytest.param("sys.stdout = None", id="no sys.stdout"),
    ],
)
def test_what_a_scenario_does_to_its_descriptors_is_no_fault(body: str, judge: Callable[..., tuple[int, Any]]) -> None:
    """The channel to the tool is out of the scenario's reach: printing, reading and closing change nothing."""
    code, document = judge(plain(body))
    assert (code, document["verdict"]) == (0, "PASS"), document["reason"]


@pytest.mark.parametrize("abort", ["none", "raise"])
@pytest.mark.parametrize("how", [plain, asynchronous])
def test_a_child_that_goes_on_as_the_worker_does_not_speak(
    how: Callable[..., str], abort: str, judge: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    """A run forks and both copies return from it: the child ends there, and the measurement goes on. It makes no
    further runs, which would fork again."""
    ending = "raise KeyError" if abort == "raise" else "return"
    first = "os.environ.setdefault('FIRST', str(os.getpid())) == str(os.getpid()) or open('stray', 'w').close()\n"
    body = first + LATE + "os.fork()\n" + ending
    code, document = judge(how(body, abort))
    assert (code, document["verdict"]) == (0, "PASS"), document["reason"]
    assert not (tmp_path / "stray").exists()


def test_an_interpreter_that_is_too_old(
    quick_cli: Callable[..., Answer], scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """One line that says so, whatever it is that such a version would first stumble over."""
    old = tmp_path / "python"
    old.write_text(
        f"#!{sys.executable}\nimport sys\nsys.version_info = (3, 9, 18)\n"
        "boot, sys.argv = sys.argv[4], ['-c', *sys.argv[5:]]\nexec(boot)\n"
    )
    old.chmod(0o755)
    answer = quick_cli("run", str(scenario_file(plain("pass"))), "--python", str(old), "--quiet")
    assert (answer.code, answer.stdout) == (2, "")
    assert answer.stderr == f"leakharness: --python {old}: not a Python 3.10 or newer that starts: it is Python 3.9\n"


def test_all_descriptors_closed_is_a_worker_without_a_word(judge: Callable[..., tuple[int, Any]]) -> None:
    """A worker that cannot speak any more is not judged; it does not hang to the timeout."""
    code, document = judge(plain(LATE + "os.closerange(0, 256)"))
    assert (code, document["verdict"]) == (3, "NOT_JUDGED")
    assert "hung" not in document["reason"]


def test_the_last_words_of_a_crash_are_kept(judge: Callable[..., tuple[int, Any]]) -> None:
    """The end of stderr, with faulthandler's stack, is in the detail."""
    code, document = judge(plain("print('about to die', file=sys.stderr)\nctypes.string_at(0)"))
    assert code == 3
    assert "about to die" in document["detail"]
    assert "Segmentation fault" in document["detail"]


@pytest.mark.slow
def test_a_faulty_arm_makes_no_certificate(
    quick_cli: Callable[..., Answer], scenario_file: Callable[..., Path]
) -> None:
    """One arm that crashes: the certificate is NOT_JUDGED and names the arm."""
    answer = quick_cli("check", str(scenario_file(plain(LATE + "ctypes.string_at(0)"))), *QUICK, "--json")
    assert (answer.code, answer.document["certificate"]) == (3, "NOT_JUDGED")
    assert "SIGSEGV" in answer.document["reason"]
