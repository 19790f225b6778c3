"""The commands as a script or a CI job sees them: exit codes, one JSON document, one line for a usage error."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Answer, clean_environment

Cli = Callable[..., Answer]
QUICK = ("--iters", "10", "--snapshots", "never")

NUMBER = (int, float)
RUN_KEYS: dict[str, Any] = {
    "schema": str,
    "scenario": str,
    "mode": str,
    "verdict": str,
    "must": (str, type(None)),
    "reason": str,
    "reproduce": str,
    "pid": int,
    "python": str,
    "duration_s": NUMBER,
    "runs": int,
    "warmup_runs": int,
    "tracked": {"born": int, "retained": int, "by_label": dict},
    "series": [{"label": str, "runs": int, "tracked_retained": int}],
    "growth": [{"counter": str, "per_run": NUMBER, "grows": bool, "declared": NUMBER, "rule": str}],
    "families": [{"type": str, "count_per_run": NUMBER, "shallow_bytes_per_run": NUMBER}],
    "class": (str, type(None)),
    "retainers": [{"target": str, "count": int, "retained_bytes": int, "path": [str], "fingerprint": str}],
    "detectable": {
        "tracked_per_run": (*NUMBER, type(None)),
        "objects_per_run": (*NUMBER, type(None)),
        "native_bytes_per_run": (*NUMBER, type(None)),
    },
    "snapshots": [str],
}
"""The keys of ``run --json`` that stay, with their types."""


def assert_shape(value: Any, shape: Any, where: str = "document") -> None:
    """Every key of ``shape`` is there with its type; more keys are welcome."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), where
        for key, inner in shape.items():
            assert key in value, f"{where}.{key} is missing"
            assert_shape(value[key], inner, f"{where}.{key}")
    elif isinstance(shape, list):
        assert isinstance(value, list), where
        for index, one in enumerate(value):
            assert_shape(one, shape[0], f"{where}[{index}]")
    else:
        assert isinstance(value, shape), f"{where} is {value!r}"
        assert not (isinstance(value, bool) and shape in (int, NUMBER)), where


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "code", "verdict", "must", "retained"),
    [
        (None, 0, "PASS", "PASS", 0),
        ("closure-extracted", 0, "PASS", "PASS", 0),
        ("closure-inline", 1, "FAIL", "FAIL", 250),
        ("synthetic-leak", 1, "FAIL", "FAIL", 250),
    ],
)
def test_embedded_run(
    mode: str | None, code: int, verdict: str, must: str, retained: int, cli: Cli, tmp_path: Path
) -> None:
    """Each mode gives what it must; stdout is one document with every key of the contract; the report is stored."""
    words = ("run", "embedded-run", *(("--mode", mode) if mode else ()), "--json", "--snapshots", "on-fail")
    answer = cli(*words)
    assert answer.code == code, answer.stderr
    document = answer.document
    assert_shape(document, RUN_KEYS)
    assert document["schema"] == "leakharness.run/1"
    assert document["scenario"] == "embedded-run"
    assert document["mode"] == (mode or "closure-extracted")
    assert (document["verdict"], document["must"], document["runs"]) == (verdict, must, 250)
    assert document["tracked"] == {
        "born": 250,
        "retained": retained,
        "by_label": {"Transcript": {"born": 250, "retained": retained}},
    }
    assert [row["label"] for row in document["series"]] == ["baseline", *(f"batch-{n}" for n in range(1, 6))]
    assert [row["runs"] for row in document["series"]] == [0, 50, 100, 150, 200, 250]
    assert all("rss_bytes" in row for row in document["series"])
    assert bool(document["retainers"]) == (verdict == "FAIL")
    assert bool(document["snapshots"]) == (verdict == "FAIL")
    assert all((tmp_path / name).is_file() for name in document["snapshots"])
    assert document["reproduce"].startswith("leakharness run embedded-run")
    (report,) = (tmp_path / "reports").glob("*/")
    assert json.loads((report / "run.json").read_bytes()) == document
    assert answer.stdout.count("\n") == 1


@pytest.mark.slow
def test_the_evidence_of_a_fail_names_the_closure(cli: Cli) -> None:
    """Who holds the objects: from the wedged future to the closure variable of the callback."""
    document = cli("run", "embedded-run", "--mode", "closure-inline", "--json", "--snapshots", "on-fail").document
    path = " ".join(document["retainers"][0]["path"])
    assert "Future._callbacks" in path
    assert "on_settled" in path
    assert "closure cell 'transcript'" in path
    assert document["retainers"][0]["count"] == 250


@pytest.mark.slow
@pytest.mark.parametrize("columns", [56, 110])
def test_the_text_is_as_wide_as_the_terminal(columns: int, quick_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """As COLUMNS says, but for a path, which is not broken."""
    monkeypatch.setenv("COLUMNS", str(columns))
    text = quick_cli("run", "embedded-run", "--mode", "closure-inline", "--snapshots", "never").stdout
    lengths = [len(line) for line in text.splitlines() if "/" not in line]
    assert columns - 12 < max(lengths) <= columns


@pytest.mark.slow
def test_check_certifies_embedded_run(cli: Cli, tmp_path: Path) -> None:
    """The certificate: 0/250, 250/250, 250/250 and exit 0; as a block and as a document."""
    answer = cli("check", "embedded-run", "--json")
    assert answer.code == 0, answer.stderr
    document = answer.document
    assert (document["schema"], document["certificate"]) == ("leakharness.check/1", "CERTIFIED")
    rows = [
        (arm["mode"], arm["must"], arm["verdict"], arm["tracked"]["retained"], arm["tracked"]["born"])
        for arm in document["arms"]
    ]
    assert rows == [
        ("closure-extracted", "PASS", "PASS", 0, 250),
        ("closure-inline", "FAIL", "FAIL", 250, 250),
        ("synthetic-leak", "FAIL", "FAIL", 250, 250),
    ]
    for arm in document["arms"]:
        assert_shape(arm, RUN_KEYS)
    (report,) = (tmp_path / "reports").glob("*/")
    stored = json.loads((report / "certificate.json").read_bytes())
    assert {key: stored[key] for key in document} == document


def test_check_prints_the_certificate(cli: Cli) -> None:
    """Without --json: the block on stdout, one line an arm on stderr, no escape codes, 80 columns."""
    answer = cli("check", "embedded-run")
    assert answer.code == 0
    lines = answer.stdout.splitlines()
    assert lines[0].split() == ["CERTIFIED", "embedded-run"]
    rows = {line.split()[0]: line.split()[1:4] for line in lines if line.startswith("  closure") or "synthetic" in line}
    assert rows["closure-extracted"] == ["PASS", "PASS", "0/250"]
    assert rows["closure-inline"] == ["FAIL", "FAIL", "250/250"]
    assert rows["synthetic-leak"] == ["FAIL", "FAIL", "250/250"]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in answer.stdout + answer.stderr
    assert len(answer.stderr.splitlines()) == 3


USAGE = {
    "unknown scenario": (("run", "nope"), "no scenario 'nope'"),
    "nearly a scenario": (("run", "embeded-run"), "; did you mean 'embedded-run'?"),
    "unknown scenario of check": (("check", "nope"), "no scenario 'nope'"),
    "nearly a mode": (("run", "embedded-run", "--mode", "closure-inlin"), "; did you mean 'closure-inline'?"),
    "unknown mode": (("run", "embedded-run", "--mode", "nope"), "has no mode 'nope'; it has closure-extracted"),
    "unknown option": (("run", "embedded-run", "--nope"), "--nope"),
    "unknown command": (("frob",), "frob"),
    "no scenario": (("run",), "Missing argument"),
    "no scenario for check": (("check",), "check needs scenarios or --all"),
    "both": (("check", "embedded-run", "--all"), "check needs scenarios or --all"),
    "not a number": (("run", "embedded-run", "--iters", "many"), "--iters"),
    "not whole": (("run", "embedded-run", "--iters", "1.5"), "--iters"),
    "too small": (("run", "embedded-run", "--iters", "0"), "--iters 0 (command line): at least 1"),
    "negative": (("run", "embedded-run", "--scope-bytes", "-1"), "--scope-bytes -1 (command line): at least 0"),
    "no time": (("run", "embedded-run", "--timeout", "0"), "--timeout 0"),
    "not a time": (("run", "embedded-run", "--timeout", "nan"), "--timeout nan"),
    "warm-up": (("run", "embedded-run", "--warmup", "x"), "--warmup 'x': a number of runs, or auto"),
    "snapshots": (("run", "embedded-run", "--snapshots", "maybe"), "one of never, on-fail, always"),
    "no value": (("run", "embedded-run", "--mode"), "--mode"),
    "no target": (("run", "embedded-run", "--mode", "production"), "--target module:attribute"),
    "target without a colon": (
        ("run", "embedded-run", "--mode", "production", "--target", "json"),
        "--target json: write it as module:attribute",
    ),
    "target that is not there": (
        ("run", "embedded-run", "--mode", "production", "--target", "nothing_like_it:x"),
        "nothing_like_it:x",
    ),
    "target without that attribute": (
        ("run", "embedded-run", "--mode", "production", "--target", "json:nothing"),
        "json:nothing",
    ),
    "check with a target that is not there": (("check", "embedded-run", "--target", "json:nothing"), "json:nothing"),
    "no such interpreter": (("run", "embedded-run", "--python", "/nothing/python"), "/nothing/python"),
    "not executable": (("run", "embedded-run", "--python", "data"), "data: cannot be started"),
    "not a Python": (("run", "embedded-run", "--python", "/bin/true"), "/bin/true: not a Python"),
    "no such file": (("run", "missing.py"), "no scenario file"),
    "no such file and name": (("run", "./missing.py::x"), "no scenario file"),
    "a folder": (("run", "folder.py"), "folder.py"),
    "syntax error": (("run", "broken.py"), "broken.py:2:"),
    "not text": (("run", "binary.py"), "binary.py"),
    "no scenario in it": (("run", "empty.py"), "empty.py: no scenario here"),
    "unknown name in it": (("run", "two.py::three"), "'three'"),
    "several in it": (("run", "two.py"), "several scenarios here (one, two): say which with two.py::NAME"),
    "bad pyproject": (("run", "embedded-run"), "pyproject.toml"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_usage_error_is_one_line_and_exit_2(case: str, cli: Cli, quick_cli: Cli, tmp_path: Path) -> None:
    """What and where, on stderr alone, without a traceback; nothing is written."""
    (tmp_path / "data").write_text("no program")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "broken.py").write_text("x = 1\ndef (:\n")
    (tmp_path / "binary.py").write_bytes(b"\0\xff\xfe" * 10)
    (tmp_path / "empty.py").write_text("")
    body = "@{0}.mode('m', abort='none')\ndef m{0}(run): pass\n"
    head = "from leakharness import Scenario\none = Scenario('one')\ntwo = Scenario('two')\n"
    (tmp_path / "two.py").write_text(head + body.format("one") + body.format("two"))
    if case == "bad pyproject":
        (tmp_path / "pyproject.toml").write_text("[tool.leakharness]\nitters = 5\n")
    words, wanted = USAGE[case]
    start = cli if case in ("unknown scenario", "unknown option", "syntax error", "bad pyproject") else quick_cli
    answer = start(*words, *(("--quiet",) if len(words) > 1 and words[-1] != "--mode" else ()))
    assert answer.code == 2, answer
    (line,) = answer.stderr.splitlines()
    assert line.startswith("leakharness: ")
    assert wanted in line
    assert answer.stdout == ""
    assert not (tmp_path / "reports").exists()


def test_an_unreadable_file(cli: Cli, tmp_path: Path) -> None:
    """Named, with the reason."""
    path = tmp_path / "secret.py"
    path.write_text("")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("may read everything here")
    answer = cli("run", "secret.py")
    assert answer.code == 2
    assert "secret.py" in answer.stderr


@pytest.mark.parametrize("command", ["", "list", "run", "check"])
def test_every_command_has_help(command: str, quick_cli: Cli) -> None:
    """--help and -h: exit 0, on stdout, plain."""
    answer = quick_cli(*command.split(), "--help")
    assert answer.code == 0
    assert answer.stdout.startswith(f"Usage: leakharness{' ' if command else ''}{command} [OPTIONS]")
    assert "\x1b" not in answer.stdout
    assert answer.stderr == ""
    assert quick_cli(*command.split(), "-h").stdout == answer.stdout


def test_every_option_of_the_contract_is_in_the_help(quick_cli: Cli) -> None:
    """For run and for check."""
    options = re.findall(
        "[a-z-]+",
        "iters batches warmup scope-bytes max-tracked-retention max-rss-growth-mb max-runs max-seconds snap-dir "
        "snapshots report-dir timeout target python json quiet",
    )
    for command in ("run", "check"):
        text = quick_cli(command, "--help").stdout
        assert [name for name in options if f"--{name}" not in text] == []


def test_version(quick_cli: Cli) -> None:
    """One line."""
    assert quick_cli("--version").stdout.startswith("leakharness 0.")
    assert quick_cli("-V").stdout == quick_cli("--version").stdout


def test_no_words_print_the_help(quick_cli: Cli) -> None:
    """With exit 2, as a command is missing."""
    answer = quick_cli()
    assert answer.code == 2
    assert answer.stdout.startswith("Usage: leakharness")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """Neither the analysis nor the rendering is loaded to print help, nor anything of numpy's weight."""
    code = (
        "import sys; sys.argv = ['leakharness', '--help']\n"
        "from leakharness.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('numpy', 'orjson', 'jinja2', 'rich.progress', 'rich.table', 'objgraph', 'guppy', 'numba', 'pytest',\n"
        "    'asyncio', 'leakharness.api', 'leakharness.measure.loop', 'leakharness.heap',\n"
        "    'leakharness.judge.verdict')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"
    assert "Usage: leakharness" in done.stdout


@pytest.mark.parametrize("words", [("list",), ("run", "no-such", "--iters", "5", "--max-seconds=2.5", "--json")])
def test_no_word_is_read_by_what_takes_a_fifth_of_a_second_to_import(words: tuple[str, ...], tmp_path: Path) -> None:
    """typer's own reading of values, which needs pydantic, and modules of commands that were not asked for."""
    code = (
        f"import sys; sys.argv = ['leakharness', *{words!r}]\n"
        "from leakharness.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('pydantic', 'numpy', 'rich', 'leakharness.cli.heap', 'leakharness.cli.live')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_entry_point_is_the_module(cli: Cli, tmp_path: Path) -> None:
    """``leakharness`` and ``python -m leakharness`` say the same."""
    script = Path(sys.executable).with_name("leakharness")
    if not script.exists():
        pytest.skip("not installed as a script")
    done = subprocess.run(
        [str(script), "list"], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, cli("list").stdout)


@pytest.mark.slow
@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}])
def test_without_a_terminal_there_is_no_colour(env: dict[str, str], cli: Cli) -> None:
    """Whatever the environment says: escape codes belong on a terminal only."""
    answer = cli("run", "embedded-run", *QUICK, env=env)
    assert answer.code == 0
    assert "\x1b" not in answer.stdout + answer.stderr
    assert "\r" not in answer.stderr


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal(no_color: str, coloured: bool, tmp_path: Path) -> None:
    """The verdict is coloured, unless NO_COLOR is set; the block is the last thing there."""
    import pty

    ours, theirs = pty.openpty()
    env = clean_environment(**({"NO_COLOR": no_color} if no_color else {}))
    with subprocess.Popen(
        [sys.executable, "-m", "leakharness", "run", "embedded-run", *QUICK],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b""
        try:
            while chunk := os.read(ours, 65536):
                said += chunk
        except OSError:  # Linux: the other side is closed
            pass
    os.close(ours)
    text = said.decode()
    assert process.returncode == 0
    assert ("\x1b[1;32mPASS\x1b[0m" in text) == coloured
    assert "reproduce" in text
    if not coloured:
        assert "\x1b[3" not in text.replace("\x1b[32", "\x1b[3") or "\x1b[1;32m" not in text


@pytest.mark.slow
def test_quiet_says_nothing_on_stderr(cli: Cli) -> None:
    """And --json keeps stdout to the document alone."""
    answer = cli("run", "embedded-run", *QUICK, "--quiet")
    assert answer.stderr == ""
    assert answer.stdout.startswith("PASS")
    assert cli("run", "embedded-run", *QUICK, "--json").document["verdict"] == "PASS"


def test_list(quick_cli: Cli) -> None:
    """Names, modes, what each must give, where they live; as a document too."""
    answer = quick_cli("list", "--json")
    assert answer.code == 0
    rows = {row["name"]: row for row in answer.document["scenarios"]}
    modes = {mode["name"]: (mode["must"], mode["abort"], mode["default"]) for mode in rows["embedded-run"]["modes"]}
    assert modes == {
        "closure-extracted": ("PASS", "cancel", True),
        "closure-inline": ("FAIL", "cancel", False),
        "production": ("PASS", "cancel", False),
    }
    text = quick_cli("list").stdout
    assert "embedded_run.py:" in text
    assert "synthetic-leak" in text


@pytest.mark.slow
def test_list_survives_a_broken_file(quick_cli: Cli, scenario_file: Callable[..., Path]) -> None:
    """A file that cannot be read is listed with its problem; the others are still listed."""
    scenario_file("import nothing_like_it\ns = Scenario('unwell')", "scenarios/unwell.py")
    scenario_file("def (:", "scenarios/broken.py")
    scenario_file("import os\nos._exit(7)\ns = Scenario('deadly')", "scenarios/deadly.py")
    answer = quick_cli("list")
    assert answer.code == 0, answer.stderr
    assert "embedded-run" in answer.stdout
    assert "broken.py:3: invalid syntax" in answer.stdout
    assert "the measured process ended by itself with exit code 7 while reading the declarations" in answer.stdout
    assert "cannot be read here: No module named 'nothing_like_it'" in answer.stdout


def test_list_says_that_a_name_is_declared_twice(quick_cli: Cli, scenario_file: Callable[..., Path]) -> None:
    """As run and check do, at both places: neither can be asked for by that name."""
    twice = "s = Scenario('twice')\n@s.mode('m', abort='none')\ndef m(run): pass\n"
    first, second = (scenario_file(twice + "#" * n, f"scenarios/{n}.py") for n in (1, 2))
    problem = f"scenario 'twice' is declared twice: {first}:3 and {second}:3; rename one, or name the file"
    rows = [row for row in quick_cli("list", "--json").document["scenarios"] if row["name"] == "twice"]
    assert [row["problem"] for row in rows] == [problem, problem]
    assert quick_cli("list").stdout.count(f"\n    {problem}\n") == 2
    assert quick_cli("run", "twice").stderr == f"leakharness: {problem}\n"


@pytest.mark.slow
def test_the_command_to_reproduce_does_reproduce(
    quick_cli: Cli, scenario_file: Callable[..., Path], tmp_path: Path
) -> None:
    """The printed command, typed in the same folder, gives the same mode, options and verdict."""
    import shlex

    path = scenario_file(
        """
        s = Scenario("spaced")
        kept = []
        @s.mode("leak", abort="none")
        def leak(run): kept.append([])
        """,
        "my scenarios/a case.py",
    )
    first = quick_cli("run", str(path), "--mode", "leak", *QUICK, "--timeout", "60", "--max-seconds", "12.5", "--json")
    assert first.code == 1, first
    program, *words = shlex.split(first.document["reproduce"])
    assert program == "leakharness"
    again = quick_cli(*words, "--json")
    assert again.code == 1
    assert again.document["reproduce"] == first.document["reproduce"]
    rates = [
        [(g["counter"], None if "bytes" in g["counter"] else round(g["per_run"])) for g in d["growth"] if g["grows"]]
        for d in (first.document, again.document)
    ]
    # How many runs a small leak is followed for is the machine's, and with it the table of a list that doubles.
    assert rates[0] == rates[1] != []


SOAKED = """
import os
scenario = Scenario("soaked")
opened = []

@scenario.mode("closed", must="PASS", default=True, abort="none")
def closed(run):
    os.close(os.open(os.devnull, os.O_RDONLY))

@scenario.mode("kept", must="FAIL", abort="none")
def kept(run):
    opened.append(os.open(os.devnull, os.O_RDONLY))
"""


@pytest.mark.slow
def test_a_soak(cli: Cli, scenario_file: Callable[..., Path]) -> None:
    """Half a second of runs is a PASS that states its reach, and says how to repeat it."""
    answer = cli("run", str(scenario_file(SOAKED)), "--soak", "0.5s", "--snapshots", "never", "--json")
    document = json.loads(answer.stdout)
    assert (answer.code, document["verdict"]) == (0, "PASS")
    assert re.match(rf"{document['runs']:,} runs in [0-9.]+ s; a leak that begins later", document["reach"])
    assert "--soak 0.5s" in document["reproduce"]


@pytest.mark.slow
def test_a_leak_ends_a_soak(cli: Cli, scenario_file: Callable[..., Path]) -> None:
    """An hour was asked for, and is not waited for."""
    file = str(scenario_file(SOAKED))
    answer = cli("run", file, "--mode", "kept", "--soak", "1h", "--snapshots", "never", "--json")
    document = json.loads(answer.stdout)
    assert (answer.code, document["verdict"]) == (1, "FAIL")
    assert {g["counter"]: g["per_run"] for g in document["growth"] if g["grows"]}["fds"] == 1


@pytest.mark.parametrize("said", ["0", "-5m", "soon", "1e9", "5 m", ""])
def test_a_soak_of_no_time(said: str, quick_cli: Cli) -> None:
    """One line that says how it is written."""
    answer = quick_cli("run", "embedded-run", f"--soak={said}")
    assert (answer.code, answer.stdout) == (2, "")
    assert answer.stderr == f"leakharness: --soak {said!r} (command line): a time above 0, as in 90s, 10m or 2h\n"


def test_a_closed_pipe_is_no_leak(cli: Cli, tmp_path: Path) -> None:
    """``leakharness run … | head -0``: the exit code stays the verdict's."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "leakharness", "run", "embedded-run", *QUICK, "--quiet"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        (">&-", ""),
        ("2>&-", ""),
        ("<&- >&- 2>&-", ""),
        (">/dev/full", "leakharness: the answer is lost: stdout: No space left on device\n"),
        ("2>/dev/full", ""),
    ],
)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_streams_that_are_closed_or_full_change_no_verdict(how: str, said: str, cli: Cli, tmp_path: Path) -> None:
    """The exit code stays, there is no traceback, and what still can be said is said."""
    command = f'"$0" -m leakharness run embedded-run --mode closure-inline {" ".join(QUICK)} --quiet {how}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, said)
    assert done.stdout.startswith("FAIL") or ">&-" in how or how.startswith(">")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["list", "list --json", "--help", "run nothing-like-it"])
@pytest.mark.parametrize("how", [">/dev/full", ">&-", "2>&-", "2>/dev/full"])
def test_no_command_has_a_traceback_for_its_streams(words: str, how: str, tmp_path: Path) -> None:
    """Neither those that print by themselves, nor the errors."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m leakharness {words} {how}', sys.executable],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (2 if "nothing" in words else 0)
    assert "Traceback" not in done.stderr
