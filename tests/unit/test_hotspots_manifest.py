"""Traces to manifest: what is merged, kept, dropped and called out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakharness.errors import UsageError
from leakharness.suite.hotspots import merge, read_manifest, suite_files
from leakharness.suite.trace import SCHEMA, lanes_of, read_trace, summary_line

MIB = 2**20


def row(
    file: str, delta: int, *, lane: str = "gw0", phase: str = "run", tests: int = 1, peak: int = 0, pid: int = 1
) -> dict[str, Any]:
    """One row of a trace: ``delta`` and ``peak`` in bytes."""
    return {
        "schema": SCHEMA,
        "phase": phase,
        "lane": lane,
        "pid": pid,
        "file": file,
        "tests": 0 if phase == "collect" else tests,
        "delta_rss_bytes": delta,
        "peak_rss_bytes": peak,
        "before": {"rss": 0, "objects": 10, "blocks": 20},
        "after": {"rss": delta, "objects": 15, "blocks": 22},
    }


def test_within_one_worker_a_file_adds_up_and_over_workers_the_largest_counts() -> None:
    rows = [
        row("test_a.py", 30 * MIB),
        row("test_a.py", 20 * MIB, phase="collect"),
        row("test_a.py", 40 * MIB, lane="gw1"),
    ]
    manifest = merge([("one.jsonl", rows)])
    (hotspot,) = manifest.files
    assert (hotspot.file, hotspot.delta_kb, hotspot.import_kb) == ("test_a.py", 50 * 1024, 20 * 1024)


def test_every_source_over_the_limit_is_kept_and_the_largest_delta_of_all_runs() -> None:
    traces = [
        ("one.jsonl", [row("test_a.py", 40 * MIB)]),
        ("two.jsonl", [row("test_a.py", 60 * MIB, lane="gw3"), row("test_b.py", 1 * MIB)]),
        ("three.jsonl", [row("test_a.py", 1 * MIB)]),
    ]
    manifest = merge(traces)
    assert [(h.file, h.delta_kb, h.sources) for h in manifest.files] == [
        ("test_a.py", 60 * 1024, ("one.jsonl:gw0", "two.jsonl:gw3"))
    ]


@pytest.mark.parametrize(("kb", "listed"), [(99, False), (100, True), (101, True)])
def test_the_limit_is_inclusive(kb: int, listed: bool) -> None:
    manifest = merge([("t", [row("test_a.py", kb * 1024)])], min_delta_kb=100)
    assert bool(manifest.files) is listed


def test_largest_first_names_break_ties_and_the_list_is_cut_at_its_limit() -> None:
    rows = [row(name, 50 * MIB) for name in ("test_c.py", "test_a.py", "test_b.py")] + [row("test_z.py", 90 * MIB)]
    manifest = merge([("t", rows)], limit=3)
    assert [h.file for h in manifest.files] == ["test_z.py", "test_a.py", "test_b.py"]


def test_the_peak_of_shared_workers_leaves_isolated_ones_out() -> None:
    rows = [row("test_a.py", 0, peak=100 * MIB), row("test_b.py", 0, peak=900 * MIB, lane="isolated-1")]
    assert merge([("t", rows)]).shared_peak_kb == 100 * 1024


def test_files_that_were_only_collected_or_never_seen_are_called_out() -> None:
    rows = [row("test_a.py", 1), row("test_b.py", 1, phase="collect")]
    manifest = merge([("t", rows)], test_files=["test_a.py", "test_new.py"])
    assert manifest.untraced == ("test_b.py", "test_new.py")
    assert manifest.traced == 1


def test_a_file_whose_worker_died_is_listed_by_its_import_and_then_not_called_untraced() -> None:
    rows = [row("test_a.py", 1), row("test_dies.py", 50 * MIB, phase="collect")]
    manifest = merge([("t", rows)], test_files=["test_a.py", "test_dies.py"])
    assert [h.file for h in manifest.files] == ["test_dies.py"]
    assert manifest.untraced == ()
    assert manifest.traced == 2, "as many as are listed at the least"


@pytest.mark.parametrize("others", [[], [("full.jsonl", [row("test_a.py", 1)])]])
def test_an_empty_trace_is_a_usage_error_that_names_it(others: list[Any]) -> None:
    with pytest.raises(UsageError, match=r"empty\.jsonl: the trace is empty"):
        merge([*others, ("empty.jsonl", [])])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a.py", "b.py", "c.py"]), st.sampled_from(["gw0", "gw1"]), st.integers(-(10**8), 10**8)
        ),
        min_size=2,
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_and_traces_changes_nothing(rows: list[tuple[str, str, int]], shuffler: Any) -> None:
    made = [row(name, delta, lane=lane) for name, lane, delta in rows]
    half = len(made) // 2
    traces = [("one", made[:half]), ("two", made[half:])]
    shuffled = [(name, shuffler.sample(part, len(part))) for name, part in reversed(traces)]
    assert merge(traces, min_delta_kb=0).document() == merge(shuffled, min_delta_kb=0).document()


def test_a_manifest_reads_back_as_it_was_written_and_names_no_machine_path(tmp_path: Path) -> None:
    manifest = merge([("t.jsonl", [row("tests/test_a.py", 50 * MIB, peak=70 * MIB)])])
    path = tmp_path / "hotspots.json"
    path.write_text(json.dumps(manifest.document()))
    assert read_manifest(path) == manifest
    assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "other/1", "files": []}', '{"schema": "leakharness.hotspots/1"}']
)
def test_what_is_no_manifest_is_a_usage_error_that_says_how_to_make_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hotspots.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="hotspots update"):
        read_manifest(path)


def test_a_missing_manifest_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_manifest(tmp_path / "none.json")


def test_test_files_are_found_by_pytests_names_and_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    for name in ("tests/test_a.py", "tests/deep/b_test.py", "tests/helper.py", "tests/.venv/test_c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert suite_files(tmp_path, ["tests"]) == ["tests/deep/b_test.py", "tests/test_a.py"]


@pytest.mark.parametrize(
    "line", ["{", "[]", '"x"', '{"schema": "leakharness.trace/1"}', '{"schema": "leakharness.run/1", "file": "a"}']
)
def test_a_line_that_is_no_trace_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(row("test_a.py", 1)) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=r"trace\.jsonl:2: not a line of a trace"):
        read_trace(path)


def test_the_summary_line_is_the_documented_one() -> None:
    rows = [
        row("test_a.py", 2 * MIB, peak=40 * MIB),
        row("test_b.py", 3 * MIB, peak=50 * MIB, phase="collect"),
        row("test_b.py", 4 * MIB, peak=45 * MIB),
        row("test_c.py", -1 * MIB),
    ]
    (lane,) = lanes_of(rows)
    assert summary_line(lane) == (
        "[leakharness][mem] summary gw0 files=3 peak=50.0MiB totalDelta=+8.0MiB peakAt=test_b.py "
        "top=test_b.py:+7.0MiB, test_a.py:+2.0MiB"
    )


def test_lanes_come_in_the_order_of_their_numbers() -> None:
    names = ["gw10", "gw2", "gw1", "main"]
    assert [lane.name for lane in lanes_of(row("a.py", 1, lane=name) for name in names)] == [
        "gw1",
        "gw2",
        "gw10",
        "main",
    ]


def test_the_manifest_is_made_where_pytest_is_not_installed(tmp_path: Path) -> None:
    """A trace is read back on any machine: pytest is no dependency."""
    (tmp_path / "trace.jsonl").write_text(json.dumps(row("tests/test_heavy.py", 300 * MIB)) + "\n")
    code = (
        "import sys; sys.modules['pytest'] = sys.modules['_pytest'] = None\n"
        "from leakharness.__main__ import main\n"
        "sys.argv = ['leakharness', 'hotspots', 'update', '--trace', 'trace.jsonl', '--out', 'hotspots.json']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry["file"] for entry in json.loads((tmp_path / "hotspots.json").read_text())["files"]] == [
        "tests/test_heavy.py"
    ]
