"""What a FAIL says, in real processes: who holds the objects, where they were born, what cutting the edge frees."""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import checked_document, grown_by

import leakharness
from leakharness.measure.arm import Settings, run_found
from leakharness.proof.calibrate import calibrate, table
from leakharness.scenario.find import find

HELD_TWICE = """
from leakharness import Run, Scenario

scenario = Scenario("held-twice")
FIRST, SECOND = [], {}


class Session:
    pass


@scenario.mode("leaky", must="FAIL", default=True, abort="none")
def leaky(run: Run) -> None:
    session = run.track(Session())
    FIRST.append(session)
    SECOND[run.index] = session


class Plain:
    pass


UNTRACKED = []


@scenario.mode("untracked", must="FAIL", abort="none")
def untracked(run: Run) -> None:
    UNTRACKED.append(Plain())


@scenario.mode("known", must="PASS", abort="none")
def known(run: Run) -> None:
    FIRST.append(run.track(Session()))
"""


@pytest.fixture
def held_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "held_twice.py"
    path.write_text(HELD_TWICE)
    return path


def test_embedded_run_is_explained_to_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 250 retained transcripts in one group; the edge, the function, where it is registered; confirmed by
    cutting; born on the line that makes them; six snapshots for the owner's eyes only."""
    monkeypatch.chdir(tmp_path)
    result = run_found(find("embedded-run"), "closure-inline", Settings(confirm=True))
    assert result.verdict == "FAIL"
    assert [(r.target, r.count) for r in result.retainers] == [("Transcript", 250)]
    held = result.retainers[0]
    assert held.retained_bytes >= 250 * 2_000_000
    assert "closure cell 'transcript' of on_settled" in held.sentence
    assert "registered in Future._callbacks" in held.sentence
    assert held.path[0] == "harness: wedged()"
    assert held.path[-1] == "Transcript"
    assert "0x" not in held.fingerprint
    assert held.confirmed == "cutting it freed 250 of 250"
    assert result.growth_class == "runtime-objects"
    born = result.allocations[0]
    assert born["of"] == "retained Transcript"
    assert born["source"] == "transcript = run.track(Transcript(run.scope_bytes))"
    labels = [Path(path).name.split("-" + str(result.pid))[0] for path in result.snapshots]
    assert labels == ["baseline", *(f"batch-{n}" for n in range(1, 6))]
    for path in result.snapshots:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        assert json.loads(Path(path).read_bytes())["snapshot"]["node_count"] > 1000


@pytest.mark.slow
def test_fix_has_no_retainers_and_the_same_counters_with_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clean twin: writing snapshots beside the runs leaves no trace in any exact counter.

    There is one of the baseline and of each planned batch; where more are made, of ever fewer.
    """
    monkeypatch.chdir(tmp_path)
    result = leakharness.run("embedded-run")
    written = [n for n in range(len(result.series)) if n <= 5 or n & (n - 1) == 0]
    assert (result.verdict, result.retained, result.retainers) == ("PASS", 0, ())
    assert len(result.snapshots) == len(written) >= 6


@pytest.mark.slow
def test_an_object_held_twice_shows_both_ways(held_twice: Path) -> None:
    """Cutting the first frees nothing: the answer names the second."""
    result = run_found(find(str(held_twice)), "leaky", Settings({"snapshots": "never"}, confirm=True))
    held = result.retainers[0]
    ways = " ".join([*held.path, *held.also])
    assert "FIRST" in ways
    assert "SECOND" in ways
    assert held.confirmed.endswith(f"0 of {result.retained}")


@pytest.mark.slow
def test_where_nothing_is_tracked_the_growing_family_is_explained(held_twice: Path) -> None:
    """The newest objects of the type that came to stay."""
    result = leakharness.run(held_twice, "untracked", snapshots="never")
    assert result.verdict == "FAIL"
    assert result.families[0].type.endswith("Plain")
    assert result.families[0].count_per_run == pytest.approx(1.0, abs=0.03)
    assert "UNTRACKED" in " ".join(result.retainers[0].path)
    assert result.retainers[0].count == result.runs  # all that came to stay since the baseline


@pytest.mark.slow
def test_a_known_leak_is_forgiven_by_name_and_an_idle_rule_reported(held_twice: Path) -> None:
    """By pyproject.toml; the reason is mandatory."""
    toml = held_twice.parent / "pyproject.toml"
    rows = '{match = "Session", reason = "until June"}, {match = "X", reason = "y"}'
    toml.write_text(f"[tool.leakharness]\nknown = [{rows}]\n")
    result = leakharness.run(held_twice, "known", snapshots="never")
    assert result.verdict == "PASS"
    assert any("until June" in line for line in result.forgiven)
    assert any("'X' matched nothing" in line for line in result.notes)
    toml.write_text('[tool.leakharness]\nknown = [{match = "Session"}]\n')
    with pytest.raises(leakharness.OptionError, match="reason"):
        leakharness.run(held_twice, "known", snapshots="never")


@pytest.mark.slow
def test_the_control_is_shown_in_a_check(held_twice: Path) -> None:
    """Every arm carries what the empty loop gave."""
    certificate = leakharness.check("embedded-run", snapshots="never")
    assert certificate.verdict == "CERTIFIED"
    assert [arm.mode for arm in certificate.arms] == ["closure-extracted", "closure-inline", "synthetic-leak"]
    assert all("objects" in arm.control for arm in certificate.arms)
    assert certificate.arms[0].control["objects"] == 0


def test_calibration_counts_what_was_found() -> None:
    """The table against a judge that finds everything but the smallest native leak, and never alarms."""
    fail = replace(leakharness.RunResult("s", "m", "FAIL", None, ""), runs=250)
    passed = replace(fail, verdict="PASS")

    def judge(found: object, mode: object, settings: Settings, listener: object) -> leakharness.RunResult:
        plant = settings.plant
        return passed if plant is None or plant["size"] == 16 else fail

    result = calibrate(find("embedded-run"), Settings(python=sys.executable), repeats=2, measure=judge)
    assert result.false_alarm_rate == 0
    assert {row.planted: row.found for row in result.rows if row.found < row.repeats} == {
        "nothing": 0,
        "16 native bytes a run": 0,
    }
    assert not result.good


def test_calibration_of_what_cannot_be_judged() -> None:
    """No false alarm is no figure where nothing was judged: the rate is unknown, and the reason is told."""
    unjudged = replace(leakharness.RunResult("s", "m", "NOT_JUDGED", None, "run 0 raised MemoryError"), runs=0)
    passed = replace(unjudged, verdict="PASS", runs=250)

    def all_alike(found: object, mode: object, settings: Settings, listener: object) -> leakharness.RunResult:
        return unjudged

    result = calibrate(find("embedded-run"), Settings(), repeats=1, measure=all_alike)
    assert (result.false_alarm_rate, result.good) == (None, False)
    assert (result.document()["false_alarm_rate"], result.document()["reason"]) == (None, unjudged.reason)
    assert "false alarms: unknown: none was judged of 3 measurements with nothing planted" in table(result)
    assert "not judged: run 0 raised MemoryError" in table(result)

    clean = iter([unjudged, passed, passed])

    def some(found: object, mode: object, settings: Settings, listener: object) -> leakharness.RunResult:
        return next(clean) if settings.plant is None else passed

    result = calibrate(find("embedded-run"), Settings(), repeats=1, measure=some)
    assert result.false_alarm_rate == 0
    assert "false alarms: 0% of 2 measurements" in table(result)


@pytest.mark.slow
def test_calibration_of_embedded_run_finds_every_planted_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object in 1, 5, 20 and 100 runs, 16 to 4096 native bytes a run, one descriptor in 20; no false alarm."""
    monkeypatch.chdir(tmp_path)
    result = calibrate(find("embedded-run"), Settings(), repeats=1)
    assert checked_document(json.dumps(result.document()))["schema"] == "leakharness.calibrate/1"
    assert [(row.planted, row.found) for row in result.rows if row.found != row.repeats] == [("nothing", 0)]


BESIDE_KNOWN = """
import ctypes, mmap, os, socket
from leakharness import Known, Run, Scenario

scenario = Scenario("beside", known=[Known("beside.Session", "until June")])

class Session:
    pass

class Other:
    pass

ACCEPTED, MORE, REGISTRY = [], [], {}

@scenario.mode("known-alone", must="PASS", default=True, abort="none")
def alone(run: Run) -> None:
    session = run.track(Session())
    session.payload, session.table = bytes(1000), {"a": [1]}
    ACCEPTED.append(session)

@scenario.mode("another-class", abort="none")
def another(run: Run) -> None:
    ACCEPTED.append(run.track(Session()))
    MORE.append(Other())

@scenario.mode("strings", abort="none")
def strings(run: Run) -> None:
    ACCEPTED.append(run.track(Session()))
    MORE.append("%d" % run.index)

@scenario.mode("malloc", abort="none")
def malloc(run: Run) -> None:
    ACCEPTED.append(run.track(Session()))
    ctypes.CDLL(None).malloc(200)

@scenario.mode("mapped", abort="none")
def mapped(run: Run) -> None:
    ACCEPTED.append(run.track(Session()))
    MORE.append(mmap.mmap(-1, 1 << 20))

@scenario.mode("one-in-twenty", abort="none")
def one_in_twenty(run: Run) -> None:
    ACCEPTED.append(run.track(Session()))
    if run.index % 20 == 0:
        MORE.append("%d" % run.index)

@scenario.mode("owns-a-socket", must="PASS", abort="none")
def owns_a_socket(run: Run) -> None:
    session = run.track(Session())
    session.socket = socket.socket()
    REGISTRY[run.index] = session

@scenario.mode("tasks", abort="none")
async def tasks(run: Run) -> None:
    import asyncio
    ACCEPTED.append(run.track(Session()))
    MORE.append(asyncio.create_task(asyncio.sleep(1000)))

@scenario.mode("descriptors", abort="none")
def descriptors(run: Run) -> None:
    ACCEPTED.append(run.track(Session()))
    os.dup(1)
"""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "beside.py"
    path.write_text(BESIDE_KNOWN)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", ["another-class", "strings", "one-in-twenty", "malloc", "mapped", "tasks", "descriptors"]
)
def test_a_known_leak_hides_no_other(mode: str, beside: Path) -> None:
    """What grows beside the known one is counted in a copy that was rid of it, and named."""
    result = leakharness.run(beside, mode, snapshots="never")
    assert result.verdict == "FAIL"
    assert any("is not all that leaks" in note for note in result.notes), result.notes
    assert result.forgiven == tuple(line for line in result.forgiven if "known leak" not in line)


@pytest.mark.slow
def test_a_known_leak_with_all_that_hangs_on_it_is_forgiven(beside: Path) -> None:
    """And the arm with the planted leak, of the same type and held elsewhere, must FAIL all the same."""
    certificate = leakharness.check(beside, snapshots="never")
    assert certificate.verdict == "CERTIFIED", certificate.reason
    assert [(arm.mode, arm.verdict) for arm in certificate.arms] == [
        ("known-alone", "PASS"),
        ("owns-a-socket", "PASS"),
        ("synthetic-leak", "FAIL"),
    ]
    for arm in certificate.arms[:2]:
        assert any("until June" in line for line in arm.forgiven)


LEAVES_ALONE = """
import functools
from leakharness import Run, Scenario

scenario = Scenario("leaves")
KEPT = []

@functools.lru_cache(maxsize=4000)
def width(text):
    return len(text) * 1000

@scenario.mode("bounded", must="PASS", default=True, abort="none")
def bounded(run: Run) -> None:
    width("word-%d" % run.index)

class Cache:
    def __init__(self, limit):
        self.limit, self.entries = limit, {}

    def get(self, key):
        if len(self.entries) >= self.limit:
            del self.entries[next(iter(self.entries))]
        return self.entries.setdefault(key, [key])

class Pool:
    max_size = 3500
    def __init__(self):
        self.members = []

CACHE, POOL = Cache(3500), Pool()

@scenario.mode("cache-of-its-own", must="PASS", abort="none")
def cache_of_its_own(run: Run) -> None:
    CACHE.get("word-%d" % run.index)

@scenario.mode("limit-nobody-heeds", must="FAIL", abort="none")
def limit_nobody_heeds(run: Run) -> None:
    POOL.members.append([run.index])

@scenario.mode("leak-beside-a-cache", must="FAIL", abort="none")
def leak_beside_a_cache(run: Run) -> None:
    CACHE.get("word-%d" % run.index)
    KEPT.append([run.index])

@scenario.mode("unbounded", must="FAIL", abort="none")
def unbounded(run: Run) -> None:
    KEPT.append("x%d" % run.index)
"""


@pytest.fixture
def leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "leaves.py"
    path.write_text(LEAVES_ALONE)
    return path


@pytest.mark.slow
def test_a_bounded_cache_of_strings_and_numbers_is_filled_and_passes(leaves: Path) -> None:
    """No object of it is listed by the collector: the allocator's blocks tell that emptying it explains all."""
    result = leakharness.run(leaves, snapshots="never")
    assert result.verdict == "PASS", result.reason
    assert any("lru_cache(maxsize=4000) of width" in note for note in result.notes)


@pytest.mark.slow
def test_where_no_object_more_is_there_no_innocent_is_named(leaves: Path) -> None:
    """Strings alone: no family, no retainer, the class by the counters, and the line that makes them."""
    result = leakharness.run(leaves, "unbounded")
    assert result.verdict == "FAIL"
    assert (result.retainers, result.families) == ((), ())
    assert "blocks grow" in result.class_evidence
    assert [row["source"] for row in result.allocations] == ['KEPT.append("x%d" % run.index)']


@pytest.mark.slow
def test_a_cache_that_names_its_bound_is_filled_and_passes(leaves: Path) -> None:
    """No type of the library's: an object with a limit and a dict. That it stops there is shown by running on."""
    result = leakharness.run(leaves, "cache-of-its-own", snapshots="never")
    assert result.verdict == "PASS", result.reason
    assert any("Cache, which names a bound and has" in note for note in result.notes)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["limit-nobody-heeds", "leak-beside-a-cache"])
def test_a_bound_by_name_hides_no_leak(mode: str, leaves: Path) -> None:
    """Growth past the bound, or beside the container once that is full, is a leak: of one object a run."""
    result = leakharness.run(leaves, mode, snapshots="never")
    assert result.verdict == "FAIL", result.reason
    assert grown_by(result)["objects"] == pytest.approx(1.0, abs=0.01)
