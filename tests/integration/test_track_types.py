"""``Scenario(track_types=…)``: what real code makes is tracked, without a line in the scenario that does so."""

from __future__ import annotations

import copy
import pickle
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import leakharness
from leakharness.errors import ScenarioError
from leakharness.model import RunResult
from leakharness.worker.types_followed import follow_types

CODE = """
KEPT = []
class Session:
    def __init__(self, number, *, name=""):
        self.number, self.name = number, name
class Special(Session):
    pass
def serve(keep):
    one, two = Session(1), Special(2, name="two")
    if keep:
        KEPT.append(lambda: two)
"""
CASE = """
s = Scenario("served", track_types=("served_code:Session", "served_code:Special"{more}))
@s.mode("leaky", must="FAIL", abort="none")
def leaky(run):
    from served_code import serve
    serve(keep=True)
@s.mode("clean", default=True, must="PASS", abort="none")
def clean(run):
    from served_code import serve
    serve(keep=False)
"""


@pytest.fixture
def measure(
    tmp_path: Path, scenario_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RunResult]:
    (tmp_path / "served_code.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)

    def run(mode: str, more: str = "") -> RunResult:
        path = scenario_file(CASE.format(more=more))
        return leakharness.run(path, mode, iters=20, batches=3, snapshots="never")

    return run


@pytest.mark.slow
def test_what_stays_of_them_is_counted(measure: Callable[..., RunResult]) -> None:
    """One of two a run, of the subclass, and each is counted once although both types are named."""
    result = measure("leaky")
    assert result.verdict == "FAIL"
    assert {label: row["retained"] / row["born"] for label, row in result.tracked.items()} == {
        "Session": 0.0,
        "Special": 1.0,
    }
    assert result.born == 2 * result.runs
    growth = {row.counter: row.per_run for row in result.growth}
    # The instance, the lambda, its cell and the tuple of its closure: following it adds nothing.
    assert (growth["tracked"], growth["objects"]) == (1.0, 4.0)


def test_those_that_go_are_no_leak(measure: Callable[..., RunResult]) -> None:
    result = measure("clean", more=", 'no_such_module:Thing'")
    assert (result.verdict, result.retained) == ("PASS", 0), result.reason
    assert result.born == 2 * result.runs
    assert any("no_such_module" in note and "tracked" in note for note in result.notes)


class Plain:
    pass


class OfItsOwn:
    made = 0

    def __new__(cls, number: int) -> OfItsOwn:
        cls.made += 1
        return super().__new__(cls)

    def __init__(self, number: int) -> None:
        self.number = number

    def __getnewargs__(self) -> tuple[int]:
        return (self.number,)


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What is tracked of the two classes above, which are as they were afterwards."""
    seen: list[Any] = []
    usual = OfItsOwn.__dict__["__new__"]
    assert follow_types([f"{__name__}:Plain", f"{__name__}:OfItsOwn"], lambda obj, label: seen.append(obj)) == []
    yield seen
    del Plain.__new__
    OfItsOwn.__new__ = usual  # type: ignore[method-assign]


def test_copies_and_what_is_unpickled_are_born_as_well(tracked: list[Any]) -> None:
    """Neither calls ``__init__``."""
    plain, own = Plain(), OfItsOwn(3)
    made = [plain, own, copy.copy(plain), pickle.loads(pickle.dumps(plain)), copy.deepcopy(own)]
    assert [id(obj) for obj in tracked] == [id(obj) for obj in made]
    assert made[-1].number == 3


def test_a_call_that_is_wrong_stays_wrong(tracked: list[Any]) -> None:
    with pytest.raises(TypeError):
        Plain(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        OfItsOwn()  # type: ignore[call-arg]
    assert tracked == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("collections:nothing", "no attribute"),
        ("collections:namedtuple", "no class"),
        ("collections:OrderedDict", "written in C"),
        ("builtins:int", "neither"),
    ],
)
def test_what_cannot_be_followed_is_said(name: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        follow_types([name], lambda obj, label: None)


@pytest.mark.parametrize("given", ["gw.agent:Transcript", ("gw.agent",), (types,)])
def test_it_is_a_tuple_of_places(given: Any) -> None:
    """A string alone is one as well, of single letters."""
    with pytest.raises(ScenarioError, match="track_types="):
        leakharness.Scenario("case", track_types=given)
