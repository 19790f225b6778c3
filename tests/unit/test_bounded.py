"""When growth that is not clear is what bounded containers have got, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from leakharness.judge.verdict import Assessment
from leakharness.measure.bounded import all_in_bounded
from leakharness.measure.measurement import Measurement
from leakharness.model import Growth, Plan, Reading
from leakharness.worker.protocol import ClearedAnswer, Container, CopyCounts

RUNS = 1_000


def window(size: int, grew: int, *, is_new: bool = False) -> Container:
    return Container("deque(maxlen=20)", size, 20, grew, is_new)


OLD, FULL, NEW = window(10, 10), window(20, 20), window(15, 15, is_new=True)


def asked(rows: list[Container], rises: dict[str, int], *, alive: int = 0, steady: tuple[str, ...] = ()) -> str | None:
    """The sentence, where counters rose so; the copy that emptied the rows lost an object and an entry for each."""
    growth = tuple(Growth(n, 0.0, False, "", 0.0, "steady" if n in steady else "undecided") for n in rises)
    measurement: Any = Measurement.__new__(Measurement)
    measurement.assessment = Assessment("undecided", growth, "")
    measurement.plan = Plan()
    measurement.bounded, measurement.warm_up_runs, measurement.runs_since_freeze = {}, 0, 0
    measurement.readings = [
        Reading("baseline", 0, dict.fromkeys(rises, 0), {"tracked_alive": 0}),
        Reading("batch-9", RUNS, rises, {"tracked_alive": 0}),
    ]
    held = sum(row.size for row in rows)
    answer = ClearedAnswer(tuple(rows), CopyCounts(alive, held, 0, held))
    worker: Any = SimpleNamespace(request=lambda *_, **__: answer)
    return all_in_bounded(measurement, worker)


def test_several_together_are_named_with_what_they_have() -> None:
    said = asked([OLD, FULL], {"entries": 30})
    assert said is not None
    assert said.startswith("the growth is held by 2 x deque(maxlen=20), which are bounded and together have 30 of 40")


def test_one_is_named_by_itself() -> None:
    said = asked([OLD], {"entries": 10})
    assert said is not None
    assert "held by deque(maxlen=20), which is bounded and has 10 of 20" in said


def test_what_grows_beside_them_is_not_hidden() -> None:
    """More than a tenth of the growth and two entries; or a tracked object that does not die with them."""
    assert asked([OLD, FULL], {"entries": 35}) is not None
    assert asked([OLD, FULL], {"entries": 36}) is None
    assert asked([OLD, FULL], {"entries": 30, "tracked": 1}) is not None
    assert asked([OLD, FULL], {"entries": 30, "tracked": 1}, alive=1) is None


def test_of_new_ones_there_may_be_ever_more() -> None:
    """Unless objects stand still: a container is one."""
    assert asked([OLD, FULL, NEW], {"entries": 45, "objects": 48}) is None
    assert asked([OLD, FULL, NEW], {"entries": 45, "objects": 2}, steady=("objects",)) is not None
    assert asked([OLD, FULL], {"entries": 30, "objects": 31}) is not None


def test_three_kinds_are_named() -> None:
    rows = [Container(f"lru_cache(maxsize=9) of f{i}", 4, 9, 4) for i in range(5)]
    said = asked(rows, {"entries": 20})
    assert said is not None
    assert "of f0, lru_cache(maxsize=9) of f1, lru_cache(maxsize=9) of f2, 2 more, which are" in said
