"""Traces, snapshots, isolation and scenario items: whole pytest sessions, with and without xdist."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import checked_document

pytest_plugins = ["pytester"]

QUIET = ("-p", "no:asyncio", "-p", "no:cacheprovider")
LEAKY = """
    import pytest
    REGISTRY = []
    class Connection:
        def __init__(self):
            self.buffer = bytearray(b"x") * 400_000
    @pytest.fixture
    def connection():
        made = Connection()
        REGISTRY.append(made)
        return made
    @pytest.mark.parametrize("i", range(20))
    def test_uses(connection, i):
        assert connection.buffer
"""
HEAVY = """
    BALLAST = bytearray(b"x") * 40_000_000
    def test_heavy():
        assert BALLAST
    def test_heavy_too(tmp_path, request):
        assert request.config.rootpath
"""
LIGHT = """
    def test_one(): assert True
    def test_two(): assert True
"""


def make_suite(folder: Path, light: int = 3) -> Path:
    """A leaking fixture, a heavy module, and files that do nothing."""
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    files = {"test_leaky.py": LEAKY, "test_heavy.py": HEAVY, **{f"test_light{i}.py": LIGHT for i in range(light)}}
    for name, text in files.items():
        (folder / "tests" / name).write_text(textwrap.dedent(text))
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    return folder


def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", *QUIET, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def traced(suite: Path) -> subprocess.CompletedProcess[str]:
    return run_pytest(suite, "-n2", "--dist=loadfile", "--leak-trace=trace.jsonl")


@pytest.mark.slow
def test_a_trace_names_what_each_file_left_by_its_import_and_by_its_tests(suite: Path, traced: Any) -> None:
    assert traced.returncode == 0
    rows = rows_of(suite / "trace.jsonl")
    ran = Counter()
    for row in rows:
        if row["phase"] == "run":
            ran[row["file"]] += row["tests"]
    assert ran == {
        "tests/test_leaky.py": 20,
        "tests/test_heavy.py": 2,
        **{f"tests/test_light{i}.py": 2 for i in range(3)},
    }
    imported = [
        row["delta_rss_bytes"] for row in rows if (row["file"], row["phase"]) == ("tests/test_heavy.py", "collect")
    ]
    assert len(imported) == 2, "each worker imports it"
    assert min(imported) > 35_000_000
    left = sum(r["delta_rss_bytes"] for r in rows if (r["file"], r["phase"]) == ("tests/test_leaky.py", "run"))
    assert left > 6_000_000
    (leaky,) = (r for r in rows if r["file"] == "tests/test_leaky.py" and r["phase"] == "run" and r["tests"] == 20)
    assert leaky["after"]["objects"] - leaky["before"]["objects"] >= 20


def test_the_terminal_says_it_lane_by_lane_and_file_by_file(traced: Any) -> None:
    lines = [line for line in traced.stdout.splitlines() if line.startswith("[leakharness][mem] summary ")]
    assert [line.split()[2] for line in lines] == ["gw0", "gw1"]
    for part in ("files=", "peak=", "totalDelta=+", "peakAt=tests/", "top=tests/test_heavy.py:+"):
        assert part in lines[0]
    assert "tests/test_heavy.py" in traced.stdout.partition("by import")[2]


@pytest.mark.slow
def test_a_trace_without_xdist_has_the_lane_main_and_takes_no_folder_for_a_file(suite: Path) -> None:
    done = run_pytest(suite, "--leak-trace", "tests", "-q")
    assert done.returncode == 0
    assert "[leakharness][mem] summary main files=5 " in done.stdout
    assert (suite / "tests").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("dist", ["worksteal", "loadscope"])
def test_every_test_is_traced_once_however_xdist_distributes_them(suite: Path, dist: str) -> None:
    done = run_pytest(suite, "-n2", f"--dist={dist}", f"--leak-trace={dist}.jsonl", "-q")
    assert done.returncode == 0
    assert sum(row["tests"] for row in rows_of(suite / f"{dist}.jsonl")) == 28


@pytest.mark.slow
def test_a_worker_that_dies_has_delivered_its_finished_files_and_its_successor_goes_on(tmp_path: Path) -> None:
    make_suite(tmp_path, light=2)
    (tmp_path / "tests" / "test_mortal.py").write_text("import os\ndef test_dies(): os._exit(9)\n")
    (tmp_path / "tests" / "test_zlast.py").write_text("def test_last(): pass\n")
    done = run_pytest(
        tmp_path, "-n1", "--dist=load", "--leak-trace=t.jsonl", "--leak-snapshots=snaps", "--max-worker-restart=2"
    )
    assert "1 failed" in done.stdout
    rows = rows_of(tmp_path / "t.jsonl")
    ran = {(row["lane"], row["file"]) for row in rows if row["tests"]}
    assert ("gw0", "tests/test_leaky.py") in ran
    assert ("gw1", "tests/test_zlast.py") in ran
    lanes = sorted(path.name for path in (tmp_path / "snaps").iterdir() if path.is_dir())
    assert lanes == ["gw0", "gw1"]
    from leakharness.heap import v8

    for lane in lanes:
        files = list((tmp_path / "snaps" / lane).glob("*.heapsnapshot"))
        assert files
        assert all(v8.info(path).node_count > 1000 for path in files), "no half a file"


@pytest.fixture(scope="module")
def snapped(suite: Path) -> Path:
    done = run_pytest(suite, "-n1", "--leak-snapshots=snaps", "--leak-snapshot-interval=1", "--leak-trace=snap.jsonl")
    assert done.returncode == 0, done.stdout
    assert "snaps/gw0: " in done.stdout
    return suite / "snaps" / "gw0"


@pytest.mark.slow
def test_snapshots_have_nodes_names_and_are_whole_and_nothing_else_is_left(snapped: Path) -> None:
    from leakharness.heap import v8

    names = sorted(path.name for path in snapped.iterdir())
    assert len(names) >= 3
    for name in names:
        parsed = v8.parse_name(name)
        assert parsed is not None
        assert name.startswith("Heap.")
        assert v8.info(snapped / name).node_count > 1000
    pids = {v8.parse_name(name).pid for name in names}
    assert len(pids) == 1


@pytest.mark.slow
def test_the_lanes_growth_names_the_leaking_fixture(snapped: Path) -> None:
    from leakharness.heap.diff import diff

    rows = diff(lane_dir=snapped, by="path", min_kb=1000).rows
    leaked = [row for row in rows if row.path and "REGISTRY" in " ".join(row.path)]
    assert leaked
    assert leaked[0].size_delta > 7_000_000
    assert leaked[0].classification.kind == "runtime-objects"


@pytest.mark.slow
def test_an_investigation_tells_the_leak_from_the_heavy_module(snapped: Path, cli: Any) -> None:
    suite = snapped.parent.parent
    answer = cli("report", "investigate", "--lane-dir", str(snapped), "--trace", str(suite / "snap.jsonl"), "--json")
    assert answer.code == 0, answer.stderr
    found = answer.document
    assert "--leak-snapshots=snaps" in found["command"]
    leaks = [
        row for row in found["families"] if row["class"] == "runtime-objects" and row["file"] == "tests/test_leaky.py"
    ]
    assert leaks
    assert any("REGISTRY" in step for step in leaks[0]["path"])
    text = cli("report", "investigate", "--lane-dir", str(snapped), "--trace", str(suite / "snap.jsonl")).stdout
    for heading in (
        "Reproduce",
        "What was compared",
        "Dominant retained families",
        "likely to be",
        "change",
        "verified",
    ):
        assert heading in text
    assert "tests/test_heavy.py leaves" in text, "the heavy module is to be isolated, not mended"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "traced_run", "likely"),
    [(1, True, "module growth"), (1, False, "undecided"), (-1, True, "undecided")],
)
def test_two_snapshots_alone_make_no_leak_and_the_trace_tells_the_heavy_module(
    snapped: Path, tmp_path: Path, cli: Any, last: int, traced_run: bool, likely: str
) -> None:
    """As a worker that died early leaves them: only the start and the import of the test files, or one later."""
    files = sorted(snapped.iterdir())
    lane = tmp_path / "gw0"
    lane.mkdir()
    for file in (files[0], files[last]):
        (lane / file.name).write_bytes(file.read_bytes())
    words = ("--trace", str(snapped.parent.parent / "snap.jsonl")) if traced_run else ()
    answer = cli("report", "investigate", "--lane-dir", str(lane), *words, "--json")
    assert answer.code == 0, answer.stderr
    assert answer.document["likely"] == likely
    classes = {
        "heavy" if "test_heavy" in row["path"][0] else "leaky": row["class"]
        for row in reversed(answer.document["families"])
        if row["path"] and ("test_heavy" in row["path"][0] or "REGISTRY" in " ".join(row["path"]))
    }
    assert classes.get("heavy") == ("module-graph" if traced_run else "runtime-objects")
    assert ("leaky" in classes) == (last == -1)
    text = cli("report", "investigate", "--lane-dir", str(lane), *words).stdout
    assert "real leak" not in text
    assert ("more snapshots (" in text) == (likely == "undecided")


@pytest.fixture(scope="module")
def manifest(suite: Path, traced: Any) -> Path:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "leakharness",
            "hotspots",
            "update",
            "--trace",
            "trace.jsonl",
            "--min-delta-kb",
            "30000",
        ],
        cwd=suite,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path = suite / "reports" / "hotspots.json"
    assert [row["file"] for row in checked_document(path.read_text())["files"]] == ["tests/test_heavy.py"]
    return path


def test_an_empty_trace_leaves_the_manifest_alone(tmp_path: Path, cli: Any) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "m.json").write_text("as it was")
    answer = cli("hotspots", "update", "--trace", str(tmp_path / "empty.jsonl"), "--out", str(tmp_path / "m.json"))
    assert answer.code == 2
    assert len(answer.stderr.strip().splitlines()) == 1
    assert (tmp_path / "m.json").read_text() == "as it was"


@pytest.mark.parametrize("words", [("-n2",), pytest.param((), marks=pytest.mark.slow)])
def test_isolated_files_report_as_if_they_had_run_inside_and_the_shared_peak_falls(
    suite: Path, manifest: Path, words: tuple[str, ...]
) -> None:
    done = run_pytest(suite, *words, "--leak-isolate=reports/hotspots.json", "--junitxml=j.xml", "-v")
    assert done.returncode == 0, done.stdout
    assert "28 passed" in done.stdout
    cases = [(c.get("classname"), c.get("name")) for c in ElementTree.parse(suite / "j.xml").getroot().iter("testcase")]
    assert ("tests.test_heavy", "test_heavy_too") in cases
    assert len(cases) == len(set(cases)) == 28
    line = next(line for line in done.stdout.splitlines() if line.startswith("peak RSS of the shared workers"))
    before, now = (float(part.split()[0]) for part in (line.split(": ")[1], line.split(", ")[1]))
    assert now < before - 30


@pytest.mark.slow
def test_a_failing_isolated_file_fails_the_session_and_lf_runs_it_again(tmp_path: Path) -> None:
    make_suite(tmp_path, light=1)
    (tmp_path / "tests" / "test_heavy.py").write_text("def test_bad(): assert 1 == 2\ndef test_good(): pass\n")
    (tmp_path / "m.json").write_text(
        json.dumps({"schema": "leakharness.hotspots/1", "files": [{"file": "tests/test_heavy.py", "delta_kb": 9}]})
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:asyncio", "--leak-isolate=m.json", "-q"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 1
    assert "1 failed, 23 passed" in first.stdout
    assert "assert 1 == 2" in first.stdout
    again = subprocess.run([*command, "--lf"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "1 failed" in again.stdout
    assert "passed" not in again.stdout.splitlines()[-1]
    named = subprocess.run(
        [*command, "tests/test_heavy.py::test_good"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert named.returncode == 0
    assert "1 passed" in named.stdout


def test_an_isolated_process_that_dies_is_a_failure_that_names_its_test(tmp_path: Path) -> None:
    make_suite(tmp_path, light=1)
    (tmp_path / "tests" / "test_heavy.py").write_text("import os\ndef test_dies(): os.kill(os.getpid(), 9)\n")
    (tmp_path / "m.json").write_text(
        json.dumps({"schema": "leakharness.hotspots/1", "files": [{"file": "tests/test_heavy.py", "delta_kb": 9}]})
    )
    done = run_pytest(tmp_path, "--leak-isolate=m.json", "-q")
    assert done.returncode == 1
    assert "died by signal 9 while running tests/test_heavy.py::test_dies" in done.stdout


LEFT_BEHIND = """
import os, time
def test_forks():
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
"""
HANGS = "import time\ntime.sleep(60)\ndef test_never(): pass\n"
STAYS = "import threading\ndef test_starts(): threading.Thread(target=threading.Event().wait).start()\n"
SHORT = """
from leakharness.pytest_plugin import isolate
isolate.LAST_SECONDS, isolate.SILENT_SECONDS, isolate.LOOK_SECONDS = 1.0, 8.0, 0.1
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (LEFT_BEHIND, 0, "1 of 1 files of the manifest ran"),
        (HANGS, 1, "hung for"),
        (STAYS, 0, "after its tests, and was killed"),
    ],
    ids=["its child keeps the channel", "hangs at import", "never ends"],
)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_no_isolated_process_is_waited_for_without_a_deadline(tmp_path: Path, body: str, code: int, says: str) -> None:
    make_suite(tmp_path, light=1)
    (tmp_path / "conftest.py").write_text(SHORT)
    (tmp_path / "tests" / "test_heavy.py").write_text(body)
    (tmp_path / "m.json").write_text(
        json.dumps({"schema": "leakharness.hotspots/1", "files": [{"file": "tests/test_heavy.py", "delta_kb": 9}]})
    )
    done = run_pytest(tmp_path, "--leak-isolate=m.json", "-q")
    assert says in done.stdout
    assert done.returncode == code


@pytest.mark.slow
@pytest.mark.parametrize(("fails", "ran"), [("test_light0.py", 0), ("test_heavy.py", 0), (None, 2)])
def test_only_files_that_ran_are_counted_where_a_failure_stops_the_session(
    tmp_path: Path, fails: str | None, ran: int
) -> None:
    make_suite(tmp_path, light=2)
    if fails:
        (tmp_path / "tests" / fails).write_text("def test_fails(): assert 0\n")
    files = [{"file": f"tests/{name}", "delta_kb": 9} for name in ("test_heavy.py", "test_leaky.py")]
    (tmp_path / "m.json").write_text(json.dumps({"schema": "leakharness.hotspots/1", "files": files}))
    done = run_pytest(tmp_path, "--leak-isolate=m.json", "-q", "-x")
    assert f"{ran} of 2 files of the manifest ran in processes of their own" in done.stdout
    assert ("the session was stopped before" in done.stdout) == bool(fails)


def test_a_broken_manifest_is_a_usage_error(tmp_path: Path) -> None:
    make_suite(tmp_path, light=1)
    done = run_pytest(tmp_path, "--leak-isolate=none.json")
    assert done.returncode == 4
    assert "hotspots update" in done.stderr


@pytest.mark.parametrize("words", [(), ("-n2",)])
@pytest.mark.parametrize("place", ["file", "/proc/none"])
def test_a_folder_of_snapshots_that_cannot_be_had_is_a_usage_error(
    tmp_path: Path, place: str, words: tuple[str, ...]
) -> None:
    make_suite(tmp_path, light=1)
    (tmp_path / "file").write_text("")
    done = run_pytest(tmp_path, f"--leak-snapshots={place}", *words)
    assert done.returncode == 4
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith("ERROR: --leak-snapshots=")
    assert "INTERNALERROR" not in done.stdout


SCENARIO = """
    from leakharness import Run, Scenario
    scenario = Scenario("kept", iters=5, scope_bytes=1000)
    KEPT = []
    class Held: pass
    @scenario.mode("closure-extracted", must="PASS", default=True, abort="none")
    def good(run: Run) -> None:
        run.track(Held())
    @scenario.mode("closure-inline", must="FAIL", abort="none")
    def bad(run: Run) -> None:
        {body}
"""


@pytest.mark.slow
def test_scenario_files_are_items_a_mode_and_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    body = "KEPT.append(run.track(Held()))"
    (tmp_path / "scenarios" / "kept.py").write_text(textwrap.dedent(SCENARIO.format(body=body)))
    (tmp_path / "scenarios" / "other.py").write_text("raise RuntimeError('not ours')")
    listed = run_pytest(tmp_path, "scenarios", "--collect-only", "-q").stdout.splitlines()
    node = "scenarios/kept.py::kept::"
    names = ["closure-extracted", "closure-inline", "synthetic-leak", "certificate"]
    assert [line for line in listed if line.startswith(node)] == [node + name for name in names]
    done = run_pytest(
        tmp_path, "scenarios", "-n2", "--junitxml=j.xml", "-m", "leakcheck", "-k", "not inline", "--durations=2"
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    one = run_pytest(tmp_path, f"{node}closure-inline", "-v")
    assert "1 passed" in one.stdout


@pytest.mark.slow
def test_a_scenario_that_is_blind_fails_its_item_and_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "kept.py").write_text(textwrap.dedent(SCENARIO.format(body="pass")))
    done = run_pytest(tmp_path, "scenarios", "-q", "-k", "inline or certificate")
    assert done.returncode == 1
    assert "closure-inline must FAIL and passed" in done.stdout
    assert "INVALID" in done.stdout


def test_a_scenario_file_that_is_declared_wrongly_is_a_collection_error(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "bad.py").write_text(
        "from leakharness import Scenario\nscenario = Scenario('bad', itters=3)\n"
    )
    done = run_pytest(tmp_path, "scenarios", "-q")
    assert done.returncode == 2
    assert "unknown option 'itters'" in done.stdout


def test_unused_the_plugin_imports_nothing_and_hooks_no_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        def test_it(request):
            mine = [name for name in sys.modules if name.startswith("leakharness")]
            assert sorted(mine) == [
                "leakharness", "leakharness._version", "leakharness.errors", "leakharness.options",
                "leakharness.pytest_plugin", "leakharness.pytest_plugin.hooks", "leakharness.pytest_plugin.options"
            ]
            plugin = request.config.pluginmanager.get_plugin("leakharness")
            hooks = [name for name in dir(plugin) if name.startswith("pytest_")]
            assert not [name for name in hooks if name.startswith("pytest_runtest")]
        """
    )
    pytester.runpytest_subprocess(*QUIET).assert_outcomes(passed=1)
