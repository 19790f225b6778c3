"""The verdict block: 80 columns, the same words for the same result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leakharness.model import Certificate, Detectable, Family, Growth, Reading, Retainer, RunResult
from leakharness.report.text import born_at, certificate_block, detectable_line, run_block

PASSED = RunResult(
    scenario="embedded-run",
    mode="closure-extracted",
    verdict="PASS",
    must="PASS",
    reason="0/250 tracked objects retained; no counter grows over 250 runs",
    reproduce="leakharness run embedded-run",
    duration_s=0.31,
    runs=250,
    warmup_runs=610,
    tracked={"Transcript": {"born": 250, "retained": 0}},
    series=(Reading("baseline", 0, {"tracked": 0}), Reading("batch-1", 250, {"tracked": 0})),
    growth=(Growth("tracked", 0.0, False, "steady: stands still"),),
    detectable=Detectable(0.02, 0.02, 0.016, 8.16),
    forgiven=("objects: 1 a run declared by the scenario (wedged, hold) and not counted",),
)
FAILED = replace(
    PASSED,
    mode="closure-inline",
    verdict="FAIL",
    must="FAIL",
    reason="tracked +1 a run",
    reproduce="leakharness run embedded-run --mode closure-inline",
    tracked={"Transcript": {"born": 250, "retained": 250}},
    growth=(
        Growth("tracked", 1.0, True, "grows: +250 in 250 runs, in each of 5 stretches"),
        Growth("fds", 0.0, False, "steady: stands still"),
        Growth("malloc_bytes", 2502992.0, True, "grows: +625,748,008 in 250 runs, in each of 5 stretches"),
    ),
    retainers=(
        Retainer(
            target="Transcript",
            count=250,
            retained_bytes=500_000_000,
            path=(
                "harness: wedged()",
                "list[*]",
                "Future._callbacks",
                "on_settled (e.py:97) closure cell 'transcript'",
            ),
            fingerprint="f",
            sentence="250 Transcript (477 MiB retained) are held by closure cell 'transcript' of on_settled (e.py:97)",
        ),
    ),
    snapshots=("a/baseline-1-x.heapsnapshot", "a/batch-5-1-x.heapsnapshot"),
)
UNJUDGED = replace(
    PASSED,
    verdict="NOT_JUDGED",
    reason="the measured process crashed by SIGSEGV while making the runs of batch-1",
    detail="Fatal Python error: Segmentation fault\n\x1b[31mred\x1b[0m\n" + "y" * 200,
    tracked={},
    growth=(),
    runs=0,
)


def lines(block: str) -> list[str]:
    rows = block.splitlines()
    assert all(len(row) <= 80 for row in rows), [row for row in rows if len(row) > 80]
    assert all(row == row.rstrip() for row in rows)
    assert all(row.isprintable() for row in rows)
    return rows


def test_a_pass() -> None:
    """Verdict and size of the measurement first; how sharp it was, what was forgiven, and the command last."""
    assert lines(run_block(PASSED, report="reports/x")) == [
        "PASS  embedded-run / closure-extracted                           250 runs, 0.3 s",
        "  0/250 tracked objects retained; no counter grows over 250 runs",
        "",
        "  would have seen a leak of 0.02 tracked, 0.02 objects, 0.016 blocks, 8.16",
        "                  native bytes a run",
        "  reach           250 runs; a leak that begins later, or comes less often than",
        "                  once in 250 runs, is not excluded",
        "  forgiven        objects: 1 a run declared by the scenario (wedged, hold) and",
        "                  not counted",
        "  report          reports/x",
        "  reproduce       leakharness run embedded-run",
    ]


def test_a_fail_names_what_grows_and_who_holds_it() -> None:
    """How many are retained, each growing counter with its pace, the holder as a sentence and as a path."""
    rows = lines(run_block(FAILED))
    assert rows[:2] == [
        "FAIL  embedded-run / closure-inline                              250 runs, 0.3 s",
        "  250 of 250 tracked objects are retained (Transcript 250/250)",
    ]
    at = rows.index("  grows per run")
    assert rows[at + 1 : at + 3] == [
        "    tracked                +1  +250 in 250 runs, in each of 5 stretches",
        "    malloc_bytes   +2,502,992  +625,748,008 in 250 runs, in each of 5 stretches",
    ]
    at = rows.index("  who holds them")
    assert rows[at + 1 : at + 7] == [
        "    250 Transcript (477 MiB retained) are held by closure cell 'transcript' of",
        "    on_settled (e.py:97)",
        "      harness: wedged()",
        "      -> list[*]",
        "      -> Future._callbacks",
        "      -> on_settled (e.py:97) closure cell 'transcript'",
    ]
    assert "  snapshots       2, the last a/batch-5-1-x.heapsnapshot" in rows
    assert rows[-1] == "  reproduce       leakharness run embedded-run --mode closure-inline"
    assert "must give" not in "\n".join(rows)


def test_a_fail_that_must_pass_says_so() -> None:
    """And the other way round; a verdict as demanded needs no word."""
    assert "  this mode must give PASS" in lines(run_block(replace(FAILED, must="PASS")))
    assert "  this mode must give FAIL" in lines(run_block(replace(PASSED, must="FAIL")))
    assert "must give" not in run_block(replace(FAILED, must=None))


def test_families_where_no_retainer_is_known() -> None:
    """What stays, by type."""
    families = (Family("pkg.Thing", 1.0, 48.0), Family("dict", 0.5, 32.0))
    rows = lines(run_block(replace(FAILED, retainers=(), families=families)))
    at = rows.index("  what stays, per run")
    assert rows[at + 1 : at + 3] == ["            1  pkg.Thing", "          0.5  dict"]


def test_many_ways_of_being_held_are_counted() -> None:
    """Five are shown, the rest is a number."""
    rows = lines(run_block(replace(FAILED, retainers=FAILED.retainers * 8)))
    assert "    … and 3 more ways (see the report)" in rows


def test_not_judged_says_what_happened_and_what_was_said() -> None:
    """The reason, then the end of what the process wrote, cut to the width and without escape codes."""
    rows = lines(run_block(UNJUDGED))
    assert rows[0].startswith("NOT_JUDGED  embedded-run / closure-extracted")
    assert rows[1] == "  the measured process crashed by SIGSEGV while making the runs of batch-1"
    at = rows.index("  what it said")
    assert rows[at + 1] == "    Fatal Python error: Segmentation fault"
    assert rows[at + 2] == "    ·[31mred·[0m"
    assert rows[at + 3] == "    " + "y" * 75 + "…"
    assert not any("would have seen" in row for row in rows)


def test_only_the_end_of_a_long_detail() -> None:
    """The last lines: the exception is there, the first frames are in the report."""
    rows = lines(run_block(replace(UNJUDGED, detail="\n".join(map(str, range(100))))))
    assert "    99" in rows
    assert "    5" not in rows


def test_long_names_keep_to_the_width() -> None:
    """The figures move to a line of their own."""
    rows = run_block(replace(PASSED, scenario="s" * 40, mode="m" * 30)).splitlines()
    assert rows[0] == f"PASS  {'s' * 40} / {'m' * 30}"
    assert rows[1] == "250 runs, 0.3 s".rjust(80)


def test_what_cannot_be_measured_here_is_said() -> None:
    """A blind counter by its name, what it counts, and why."""
    rows = lines(run_block(replace(PASSED, blind={"malloc_bytes": "no mallinfo2"})))
    assert "  blind           malloc_bytes (bytes in use by malloc): no mallinfo2" in rows


def test_a_pass_names_what_was_not_looked_at() -> None:
    """Resources that no counter is near, in one line."""
    rows = lines(run_block(replace(PASSED, blind={"GPU memory": "it is not looked at", "files elsewhere": "why"})))
    assert "  not looked at   GPU memory, files elsewhere" in rows


def test_a_certificate() -> None:
    """A row for each arm: what it must give, what it gave, how many are retained, what grows."""
    planted = replace(FAILED, mode="synthetic-leak", reproduce="leakharness run embedded-run --mode synthetic-leak")
    certificate = Certificate("embedded-run", "CERTIFIED", "every arm gave what it must", (PASSED, FAILED, planted))
    assert lines(certificate_block(certificate, report="reports/c")) == [
        "CERTIFIED  embedded-run",
        "",
        "  arm                 must  gave          retained  grows",
        "  closure-extracted   PASS  PASS             0/250  -",
        "  closure-inline      FAIL  FAIL           250/250  tracked +1, malloc_bytes +2…",
        "  synthetic-leak      FAIL  FAIL           250/250  tracked +1, malloc_bytes +2…",
        "",
        "  every arm gave what it must",
        "  would have seen a leak of 0.02 tracked, 0.02 objects, 0.016 blocks, 8.16",
        "                  native bytes a run",
        "  report          reports/c",
        "  reproduce       leakharness check embedded-run",
    ]


def test_a_certificate_shows_the_arm_that_went_wrong() -> None:
    """Its whole block, indented; the arms that gave what they must stay one row."""
    arms = (replace(FAILED, mode="closure-extracted", must="PASS"), FAILED)
    rows = lines(
        certificate_block(Certificate("embedded-run", "LEAK", "closure-extracted must PASS", arms, ("a note",)))
    )
    assert rows[0] == "LEAK  embedded-run"
    assert sum(row.startswith("  FAIL  embedded-run / ") for row in rows) == 1
    assert "    who holds them" in rows
    assert "  note            a note" in rows


@pytest.mark.parametrize(
    ("reproduce", "wanted"),
    [
        ("leakharness run 'a b.py::x' --mode m --iters 5", "leakharness check 'a b.py::x' --iters 5"),
        ("leakharness run x --mode m", "leakharness check x"),
        ("leakharness run x", "leakharness check x"),
        ("", "leakharness check embedded-run"),
    ],
)
def test_the_command_of_a_certificate_is_that_of_its_arms(reproduce: str, wanted: str) -> None:
    """The same file and options: the printed command can be typed."""
    certificate = Certificate("embedded-run", "CERTIFIED", "r", (replace(PASSED, reproduce=reproduce),))
    assert lines(certificate_block(certificate))[-1] == f"  reproduce       {wanted}"


def test_no_readings_would_have_seen_nothing() -> None:
    """It never claims a sharpness that was not measured."""
    assert detectable_line(replace(PASSED, detectable=Detectable())) == "nothing: too few readings"


def test_the_c_function_of_a_long_path_is_not_cut_off() -> None:
    """A line that calls one C function of an extension is told by it; one that calls none, by its place."""
    path = "/srv/application/" + "very/" * 12 + "case.py"
    site = {"of": "growth", "file": path, "line": 7, "source": "ujson.loads(DOC)"}
    assert born_at({**site, "c_functions": ["ujson.loads"]}) == f"in ujson.loads, called at {path}:7"
    assert born_at({**site, "c_functions": ["len", "list.append"]}) == f"{path}:7"
    assert born_at(site) == f"{path}:7"
    block = run_block(replace(FAILED, allocations=({**site, "c_functions": ["ujson.loads"]},)))
    assert "in ujson.loads, called at" in block
