"""A reference that C code loses or gives away shows in no other counter: found exactly, and silent when mended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness import RunResult, run
from leakharness.worker.unowned_references import why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
SCENES = Path(__file__).parent / "scenes" / "references.py"
WHERE = {
    "instance": "scenarios.references.CONFIG (Config)",
    "module": "scenarios.references.LOSE (dict)['module'] (module)",
    "type": "scenarios.references.Config (type)",
    "method": "scenarios.references.LOSE (dict)['method'] (method)",
    "text": "scenarios.references.LOSE (dict)['text'] (str)",
    "tuple": "scenarios.references.LOSE (dict)['tuple'] (tuple)",
}
"""Each kind of object, and how the text calls it."""


def measured(name: str, mode: str) -> RunResult:
    return run(f"{SCENES}::{name}", mode, snapshots="never")


@pytest.mark.slow
@pytest.mark.parametrize("name", WHERE)
def test_a_lost_reference_is_found(name: str) -> None:
    """One a run, whatever it is a reference to, and no other counter moves."""
    result = measured(name, "leaky")
    assert (result.verdict, grown_by(result)) == ("FAIL", {"references": 1.0}), result.reason
    (held,) = result.held_by_c
    assert held.count_per_run == 1.0
    assert held.sentence == (
        f"+1 reference a run to {WHERE[name]} that no object holds: a C function does not give it back"
    )


@pytest.mark.parametrize("name", WHERE)
def test_a_reference_that_is_given_back_is_none(name: str) -> None:
    """The same function, mended."""
    result = measured(name, "clean")
    assert (result.verdict, result.reason) == ("PASS", "no counter grows over 250 runs")


@pytest.mark.slow
def test_one_lost_in_twenty_runs_is_found() -> None:
    """An early return of the C function that forgets it."""
    result = measured("instance", "rare")
    assert result.verdict == "FAIL", result.reason
    assert grown_by(result) == {"references": pytest.approx(0.05, rel=0.1)}


@pytest.mark.slow
def test_a_reference_given_away_is_found() -> None:
    """It ends in a crash, in some other place."""
    result = measured("given", "leaky")
    assert (result.verdict, grown_by(result)) == ("FAIL", {"given_away": 1.0}), result.reason
    (held,) = result.held_by_c
    assert held.sentence == (
        "−1 reference a run to scenarios.references.CONFIG (Config): given away without being owned; it ends in a crash"
    )
    assert measured("given", "clean").verdict == "PASS"


@pytest.mark.slow
def test_a_known_one_is_excused_and_what_is_lost_beside_it_is_not() -> None:
    """By its place; the result says by which rule. A mode that must FAIL is forgiven nothing."""
    known = measured("accepted", "known")
    assert known.verdict == "PASS", known.reason
    assert any("mended soon" in line for line in known.forgiven)
    beside = run(f"{SCENES}::accepted-beside", "known", snapshots="never")
    assert beside.verdict == "FAIL"
    assert any("is not all that leaks: references +1.5 a run" in note for note in beside.notes), beside.notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("array", "arrays.MATRIX (ndarray)"),
        ("item", "arrays.ITEMS (ndarray)[3] (Config)"),
        ("record", "arrays.RECORD (VoidDType)"),
    ],
)
def test_a_lost_reference_to_an_array_or_an_item_of_it_is_named(name: str, place: str) -> None:
    """NumPy tells the collector of neither."""
    pytest.importorskip("numpy")
    result = run(f"{SCENES.with_name('arrays.py')}::{name}", "case", snapshots="never")
    assert (result.verdict, grown_by(result)) == ("FAIL", {"references": 1.0}), result.reason
    assert result.held_by_c[0].sentence.startswith(f"+1 reference a run to scenarios.{place} that no object holds")


def test_an_array_of_objects_holds_its_items() -> None:
    """What is put into a slot of it is held by an object, as in a list."""
    pytest.importorskip("numpy")
    result = run(f"{SCENES.with_name('arrays.py')}::slot", "case", snapshots="never")
    assert (result.verdict, grown_by(result)) == ("PASS", {}), result.reason


def test_a_dtype_of_numpys_own_is_there_for_ever() -> None:
    """``numpy.empty`` loses a reference to that of its default type in each call (NumPy 2): no memory is lost by it."""
    numpy = pytest.importorskip("numpy")
    before = sys.getrefcount(numpy.dtype("float64"))
    numpy.empty(3)
    loses = sys.getrefcount(numpy.dtype("float64")) > before
    result = run(f"{SCENES.with_name('arrays.py')}::empty", "case", snapshots="never")
    assert (result.verdict, grown_by(result)) == ("PASS", {}), result.reason
    note = "references are not given back to dtype('float64') of NumPy, which lives as long as the process"
    assert any(note in line for line in result.notes) == loses, result.notes
