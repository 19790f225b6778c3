"""The snapshot commands as a user runs them: text that fits, JSON alone on stdout, one line for what cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from leakharness.cli.heap import register
from leakharness.errors import LeakHarnessError
from leakharness.heap import v8
from leakharness.heap.graph import EDGE_KINDS, NODE_KINDS, HeapGraph

RUN = """
import sys, typer
from leakharness.cli.heap import register
from leakharness.errors import LeakHarnessError
app = typer.Typer(pretty_exceptions_enable=False)
register(app)
try:
    app()
except LeakHarnessError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One command, in this process; an error of ours becomes what ``__main__`` makes of it."""
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, LeakHarnessError):
        return subprocess.CompletedProcess([], done.exception.exit_code, done.stdout, f"{done.exception}\n")
    return subprocess.CompletedProcess([], done.exit_code, done.stdout, "")


def run_apart(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


def sessions(count: int, size: int = 1000) -> HeapGraph:
    """``count`` sessions in a list of a module with a long name."""
    module = "module " + "a_rather_long_package_name." * 6 + "gateway"
    strings = ["<root>", module, "list", "gateway.Session", "sys.modules['gateway']", "SESSIONS"]
    degree = [1, 1, count, *[0] * count]
    return HeapGraph(
        node_kind=np.array([NODE_KINDS.index("synthetic"), *[NODE_KINDS.index("object")] * (count + 2)], np.uint8),
        node_name=np.array([0, 1, 2, *[3] * count], np.int32),
        node_id=np.arange(count + 3, dtype=np.uint64) * np.uint64(16) + np.uint64(1 << 40),
        self_size=np.array([0, 10, 10, *[size] * count], np.int64),
        edge_start=np.concatenate([[0], np.cumsum(degree)]).astype(np.int64),
        edge_kind=np.array([EDGE_KINDS.index(k) for k in ("property", "property", *["element"] * count)], np.uint8),
        edge_name=np.array([4, 5, *range(count)], np.int32),
        edge_to=np.array([1, 2, *range(3, count + 3)], np.int32),
        strings=strings,
        meta={"producer": "leakharness test", "pid": 77, "python": "3.11.7"},
    )


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline and a batch of one process."""
    folder = tmp_path_factory.mktemp("lane")
    v8.write(sessions(5), folder / "baseline-77-1000.heapsnapshot")
    v8.write(sessions(205), folder / "batch-1-77-1001.heapsnapshot")
    return folder


def test_diff_of_a_lane_says_what_was_compared_and_what_grew(lane: Path) -> None:
    """Files, PID, node totals, filter, then signed size and count by family; without --by a lane is told by path."""
    done = run("diff", "--lane-dir", lane)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "class:  runtime-objects (by retainers)"
    done = run("diff", "--lane-dir", lane, "--by", "name")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("baseline-77-1000.heapsnapshot")
    assert lines[1].endswith("batch-1-77-1001.heapsnapshot")
    assert lines[2:5] == ["pid:    77 (2 snapshots found)", "nodes:  8 -> 208 (+200)", "filter: top=30 min=64 KiB"]
    assert lines[5] == "growth: +195 KiB: 195 KiB more, 0 B less"
    assert lines[7].split() == ["+195", "KiB", "+200", "object", "gateway.Session", "runtime-objects"]
    assert lines[-2:] == ["these rows explain 100% of what grew", "class:  runtime-objects (by name)"]


def test_a_diff_that_was_asked_for_nothing_else_shows_what_grew_at_whatever_size(lane: Path, tmp_path: Path) -> None:
    """10 KiB are below the filter; asked for, the filter holds."""
    before, after = lane / "baseline-77-1000.heapsnapshot", tmp_path / "after.heapsnapshot"
    v8.write(sessions(15), after)
    found = run("diff", before, after).stdout
    assert "gateway.Session" in found
    assert "min=0 B" in found
    assert "Nothing grew by 64 KiB or more." in run("diff", before, after, "--min-kb", "64").stdout
    assert json.loads(run("diff", before, after, "--json").stdout)["rows"] == []
    assert run("diff", before, before).stdout.count("Nothing grew.") == 1


def test_json_is_one_document_and_nothing_else(lane: Path) -> None:
    """Every command's --json parses as a whole."""
    last = lane / "batch-1-77-1001.heapsnapshot"
    documents = [
        json.loads(run(*command, "--json").stdout)
        for command in (
            ("diff", "--lane-dir", lane),
            ("diff", "--lane-dir", lane, "--by", "path"),
            ("retainers", last, "--type", "Session"),
            ("dominators", last),
            ("snapshot", "info", last),
        )
    ]
    assert documents[0]["rows"][0]["size_delta"] == 200_000
    assert documents[1]["rows"][0]["name"].endswith("gateway.SESSIONS (list)[*] -> gateway.Session")
    assert (documents[2]["groups"][0]["count"], documents[2]["groups"][0]["retained_bytes"]) == (205, 205_000)
    assert documents[3]["reachable_bytes"] == 205_020
    assert (documents[4]["producer"], documents[4]["pid"], documents[4]["node_count"]) == ("leakharness test", 77, 208)


def test_the_time_is_a_date_as_text_and_a_number_as_json(lane: Path, tmp_path: Path) -> None:
    """Where the snapshot has it; from a name it is told as it stands there."""
    last = lane / "batch-1-77-1001.heapsnapshot"
    assert "time:     1001\n" in run("snapshot", "info", last).stdout
    graph, last = v8.read(last), tmp_path / last.name
    for time, text in ((1795367399.356471, "2026-11-22T17:09:59+00:00"), (1e300, "1e+300")):
        graph.meta["time"] = time
        v8.write(graph, last)
        assert json.loads(run("snapshot", "info", last, "--json").stdout)["time"] == time
        assert f"time:     {text}\n" in run("snapshot", "info", last).stdout


def test_text_fits_a_hundred_columns_and_has_no_colour_in_a_pipe(lane: Path) -> None:
    """Long module names are shortened in the middle; no escape sequence leaves without a terminal."""
    last = lane / "batch-1-77-1001.heapsnapshot"
    retainers = ("retainers", last, "--type", "gateway.Session")
    for runner, command in ((run_apart, retainers), (run, ("dominators", last)), (run, ("snapshot", "info", last))):
        out = runner(*command).stdout
        assert out
        assert "\x1b" not in out
        assert all(len(line) <= 100 for line in out.splitlines() if str(last) not in line), out


def test_a_terminal_without_unicode_gets_text_all_the_same(lane: Path) -> None:
    """ASCII output is no crash."""
    last = lane / "batch-1-77-1001.heapsnapshot"
    done = run_apart("retainers", last, "--type", "Session", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "205 Session" in done.stdout


def test_what_cannot_be_read_or_found_is_one_line_and_exit_2(lane: Path, tmp_path: Path) -> None:
    """No traceback, nothing on stdout, and a name that is near is offered."""
    (tmp_path / "cut.heapsnapshot").write_bytes((lane / "baseline-77-1000.heapsnapshot").read_bytes()[:300])
    last = lane / "batch-1-77-1001.heapsnapshot"
    for command, word in (
        (("snapshot", "info", tmp_path / "cut.heapsnapshot"), "truncated"),
        (("dominators", tmp_path / "missing"), "cannot be read"),
        (("retainers", last, "--type", "Sesion"), "gateway.Session"),
        (("diff", "--lane-dir", tmp_path), "no heap snapshots"),
        (("diff", last), "two snapshots"),
    ):
        done = run(*command)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert word in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
