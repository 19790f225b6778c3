"""What is counted is exact: an empty loop shows nothing, declared objects are accounted for, a leak is a number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PYTHONS

import leakharness
from leakharness.model import RunResult

EXACT = ("tracked", "fds", "threads", "children", "tasks", "objects", "blocks")

EMPTY = """
import asyncio
s = Scenario("empty")
class Thing: pass
class Knot: pass
@s.mode("plain", default=True, abort="none")
def plain(run): pass
@s.mode("plain-raise", abort="raise")
def plain_raise(run): raise ValueError("as declared")
@s.mode("plain-track", abort="none")
def plain_track(run): run.track(Thing())
@s.mode("async", abort="none")
async def asynchronous(run): pass
@s.mode("async-cancel")
async def async_cancel(run): await asyncio.get_running_loop().create_future()
@s.mode("async-raise", abort="raise")
async def async_raise(run): raise ValueError("as declared")
@s.mode("async-track")
async def async_track(run):
    one, two = run.track(Knot(), "one"), run.track(Knot(), "two")
    one.other, two.other = two, one
    await asyncio.get_running_loop().create_future()
@s.mode("wedged")
async def wedged(run): await run.wedged()
@s.mode("plain-timeout", abort="timeout", abort_after=0.0002)
def plain_timeout(run):
    while True: pass
@s.mode("async-timeout", abort="timeout", abort_after=0.0002)
async def async_timeout(run): await asyncio.get_running_loop().create_future()
"""


def growth(result: RunResult) -> dict[str, float]:
    return {row.counter: row.per_run for row in result.growth}


@pytest.fixture
def measure(
    tmp_path: Path, scenario_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RunResult]:
    """Measures one mode of a scenario given as text, without snapshots unless asked for."""

    def run(body: str, mode: str | None = None, **options: Any) -> RunResult:
        path = scenario_file(body)
        monkeypatch.chdir(tmp_path)
        return leakharness.run(path, mode, **{"snapshots": "never", **options})

    return run


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    "mode",
    ["plain", "plain-raise", "plain-track", "async", "async-cancel", "async-track", "wedged"],
)
def test_an_empty_scenario_grows_by_exactly_nothing(mode: str, python: str, measure: Callable[..., RunResult]) -> None:
    """10,000 runs of nothing: every exact counter grows by 0.0 a run; the harness is not in its own census."""
    result = measure(EMPTY, mode, iters=2000, batches=5, python=python)
    assert (result.verdict, result.runs) == ("PASS", 10_000), result.reason
    assert {name: pace for name, pace in growth(result).items() if name != "rss"} == {
        name: 0.0 for name in growth(result) if name != "rss"
    }
    assert {"tracked", "objects"} <= set(growth(result))
    for name in EXACT[:-1]:  # blocks may still be laid out once; these may not move by one
        values = [r.counters[name] - r.declared.get(name, 0) for r in result.series if name in r.counters]
        assert len(set(values)) <= 1, (name, values)
    assert result.retained == 0


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_two_hundred_readings_leave_no_block_behind(python: str, measure: Callable[..., RunResult]) -> None:
    """What counts is called often enough for the caches that 3.10 gives to its functions, and for tables to grow."""
    result = measure(EMPTY, "plain", iters=50, batches=200, max_runs=10_000, python=python)
    blocks = [reading.counters["blocks"] for reading in result.series]
    assert (result.verdict, len(blocks)) == ("PASS", 201), result.reason
    assert set(blocks[1:]) == {blocks[1]}


@pytest.mark.parametrize("mode", ["plain-timeout", "async-timeout"])
def test_a_deadline_leaves_nothing_behind(mode: str, measure: Callable[..., RunResult]) -> None:
    """Also where it expires before the function has begun, or as it ends."""
    result = measure(EMPTY, mode, iters=60, batches=5, warmup=100)
    assert result.verdict == "PASS", (result.reason, result.detail)
    assert {name: growth(result)[name] for name in ("tracked", "objects")} == {"tracked": 0.0, "objects": 0.0}


STRICT = """
import warnings
s = Scenario("strict")
@s.mode("leaky", default=True, abort="none")
def leaky(run): KEPT.append([])
@s.mode("clean", abort="none")
def clean(run): pass
KEPT = []
warnings.simplefilter("error")
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("mode", "verdict"), [("leaky", "FAIL"), ("clean", "PASS")])
def test_a_measurement_gives_no_warning(
    mode: str, verdict: str, python: str, measure: Callable[..., RunResult]
) -> None:
    """A program may make an error of each, or record them all: one a reading would be a leak of ours."""
    result = measure(STRICT, mode, iters=10, max_runs=100, python=python)
    assert result.verdict == verdict, (result.reason, result.detail)


HELD = """
import collections
s = Scenario("held")
class Thing:
    def method(self): pass
class Slotted:
    __slots__ = ("value", "__weakref__")
class Sub(list):
    pass
def filled(value):
    thing = Thing()
    thing.value = value
    return thing
@s.mode("m", default=True, abort="none")
def m(run):
    {body}
"""


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    "bodies",
    [
        ["[]", "[1, 2, 3]", "[None] * 1000", "collections.deque()", "Sub()", "Sub([1])"],
        ["bytearray(3)", "bytearray(100_000)", "bytes(700) + bytes([run.index % 251])"],
        ["'x' * 90 + str(run.index)", "'x' * 900 + str(run.index)", "10**30 + run.index", "run.index + 0.5"],
        ["{}", "{'a': 1}", "dict.fromkeys(range(100))", "set()", "set(range(100))", "(1, run)"],
        ["Thing()", "filled(1)", "Slotted()", "object()", "None"],
    ],
    ids=["lists", "buffers", "scalars", "tables", "instances"],
)
def test_what_is_held_on_purpose_is_no_growth(
    bodies: list[str], python: str, measure: Callable[..., RunResult]
) -> None:
    """The object by itself, with its own table or buffer, is accounted for by number."""
    body = "; ".join(f"run.hold({one})" for one in bodies)
    result = measure(HELD.format(body=body), python=python, iters=40, warmup=50)
    assert result.verdict == "PASS", (result.reason, [g for g in result.growth if g.grows])


def test_what_is_held_may_be_filled_later(measure: Callable[..., RunResult]) -> None:
    """An attribute that is set after hold() belongs to the object's own table all the same."""
    result = measure(HELD.format(body="t = run.hold(Thing()); t.value = 1"), iters=40, warmup=50)
    assert result.verdict == "PASS", (result.reason, [g for g in result.growth if g.grows])


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("body", "objects"),
    [
        ("run.hold([Thing()])", 1),
        ("t = run.hold(Thing()); t.kept = [[], []]", 3),
        ("run.hold({'a': [Thing()]})", 2),
        ("t = Thing(); run.hold(lambda: t)", 3),
        ("run.hold(filled(Thing()))", 1),
    ],
)
def test_what_hangs_on_it_is_not_forgiven(
    body: str, objects: int, python: str, measure: Callable[..., RunResult]
) -> None:
    """Held is the object alone: what it refers to is a leak, and counted to the one."""
    result = measure(HELD.format(body=body), python=python, iters=40, warmup=50)
    assert result.verdict == "FAIL", result.reason
    assert growth(result)["objects"] == objects


@pytest.mark.slow
def test_bytes_that_hang_on_it_are_not_forgiven(measure: Callable[..., RunResult]) -> None:
    """Nor is a buffer, which the collector does not list: blocks and bytes tell."""
    result = measure(HELD.format(body="run.hold([bytes(3000) + str(run.index).encode()])"), iters=40, warmup=50)
    assert result.verdict == "FAIL", result.reason
    assert growth(result)["blocks"] == pytest.approx(1.0, abs=0.2)
    assert growth(result)["malloc_bytes"] == pytest.approx(3050, abs=50)


@pytest.mark.slow
def test_a_callback_on_a_wedged_future_is_not_forgiven(measure: Callable[..., RunResult]) -> None:
    """The future is declared; the callback on it, and what it closes over, is the leak."""
    result = measure(
        """
        import asyncio
        s = Scenario("case")
        class Thing: pass
        @s.mode("m")
        async def m(run):
            thing = run.track(Thing())
            run.wedged().add_done_callback(lambda _: thing)
            await asyncio.get_running_loop().create_future()
        """
    )
    assert (result.verdict, result.retained, result.born) == ("FAIL", result.runs, result.runs)
    assert result.runs >= 250
    assert growth(result)["tracked"] == 1.0
    assert {row.counter: row.declared for row in result.growth}["objects"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
def test_one_run_in_twenty(seed: int, measure: Callable[..., RunResult]) -> None:
    """FAIL with 12 or 13 of 250 retained, whatever the phase."""
    result = measure(
        f"""
        s = Scenario("case")
        class Thing: pass
        kept = []
        @s.mode("m", abort="none")
        def m(run):
            thing = run.track(Thing())
            if run.index % 20 == {seed * 7}:
                kept.append(thing)
        """,
        warmup=2320,  # how far an unsteady one goes depends on the time that it takes
    )
    assert result.verdict == "FAIL", result.reason
    assert (result.born, result.runs) == (250, 250)
    assert result.retained in (12, 13)
    assert growth(result)["tracked"] == pytest.approx(0.05, abs=0.003)


UNTRACKABLE = """
import collections, dataclasses, typing
s = Scenario("case")
class Slots:
    __slots__ = ("a",)
class Pair(typing.NamedTuple):
    a: int
@dataclasses.dataclass(slots=True)
class Data:
    a: int = 1
@s.mode("m", abort="none")
def m(run):
    run.track({body})
"""


@pytest.mark.parametrize(
    ("body", "abort", "cure"),
    [
        # Instances of Data and Slots cannot be weakly referenced either, and are counted by their type.
        ("3", "raise", "builtins.int cannot be weakly referenced; track an object that owns it"),
    ],
)
def test_an_object_that_cannot_be_tracked(body: str, abort: str, cure: str, measure: Callable[..., RunResult]) -> None:
    """NOT_JUDGED with the type and the cure, even in a mode whose runs end by an exception."""
    result = measure(UNTRACKABLE.format(body=body).replace('abort="none"', f'abort="{abort}"'), warmup=1)
    assert result.verdict == "NOT_JUDGED"
    assert cure in result.reason


SABOTAGE = {
    "finalizers never count": """
        import leakharness.worker.tracker as tracker
        tracker.Label._died = lambda self: None
    """,
    "finalize does nothing": """
        import leakharness.worker.tracker as tracker
        class Never:
            atexit = False
            def __init__(self, *args): pass
        import gc
        for found in gc.get_objects():
            if type(found) is tracker.Tracker:
                found._finalize = Never
    """,
    "retained objects look dead": """
        import leakharness.worker.tracker as tracker
        tracker.Label.alive = property(lambda self: 0)
    """,
    "every birth is a death": """
        import leakharness.worker.tracker as tracker
        import gc
        class AtOnce:
            atexit = False
            def __init__(self, obj, died): died()
        for found in gc.get_objects():
            if type(found) is tracker.Tracker:
                found._finalize = AtOnce
    """,
    "nothing is born": """
        import leakharness.worker.tracker as tracker
        tracker.Tracker.track = lambda self, obj, label=None: None
    """,
    "the tracker forgets": """
        import leakharness.worker.tracker as tracker
        tracker.Tracker.by_label = lambda self: {}
        tracker.Tracker.alive = property(lambda self: 0)
    """,
}
ARMS = """
s = Scenario("case")
class Thing: pass
kept = []
@s.setup
def up():
    if {late}: sabotage()
@s.mode("closure-extracted", default=True, abort="none")
def extracted(run): run.track(Thing())
@s.mode("closure-inline", abort="none")
def inline(run): kept.append(run.track(Thing()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", SABOTAGE)
def test_a_sabotaged_tracker_certifies_nothing(
    how: str, scenario_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker that cannot count gives INVALID or NOT_JUDGED, never CERTIFIED (and never a LEAK that is none)."""
    late = list(SABOTAGE).index(how) % 2 == 1  # some when the file is imported, some in the set-up
    text = f"def sabotage():{SABOTAGE[how]}\n{'' if late else 'sabotage()'}\n"
    path = scenario_file(text.replace("\n        ", "\n    ") + ARMS.format(late=late))
    monkeypatch.chdir(tmp_path)
    certificate = leakharness.check(path, snapshots="never", iters=10, warmup=10)
    assert certificate.verdict in ("INVALID", "NOT_JUDGED"), certificate.reason
    assert certificate.exit_code in (3, 4)


@pytest.mark.slow
def test_the_same_scenario_unharmed_is_certified(
    scenario_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean twin of the sabotage."""
    path = scenario_file(ARMS.format(late=False))
    monkeypatch.chdir(tmp_path)
    certificate = leakharness.check(path, snapshots="never", iters=10, warmup=10)
    assert certificate.verdict == "CERTIFIED", certificate.reason
