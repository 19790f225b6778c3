"""Declaring a scenario: every mistake is an error with file and line, at collection."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leakharness import Known, Run, Scenario, ScenarioError
from leakharness.worker.scenario_file import describe

HERE = re.escape(__file__)


def noop(run: Run) -> None:
    """A run that does nothing."""


async def anoop(run: Run) -> None:
    """The same, async."""


def test_a_whole_declaration() -> None:
    """Everything that was said can be read back; the functions stay callable by hand."""
    scenario = Scenario("one", summary="s", mimics="pkg.mod:f", target="pkg:g", known=[Known("x.Y", "why")], iters=7)
    returned = scenario.mode("closure-extracted", default=True)(anoop)
    scenario.mode("closure-inline", abort="timeout", abort_after=0.5, needs={"zmq": "pip install pyzmq"})(anoop)
    scenario.mode("other", abort="none")(noop)
    scenario.mode("production", needs_target=True)(anoop)
    scenario.validate()
    assert returned is anoop
    rows = {m.name: (m.must, m.abort, m.abort_after, m.default, m.is_async) for m in scenario.modes.values()}
    assert rows == {
        "closure-extracted": ("PASS", "cancel", 0.0, True, True),
        "closure-inline": ("FAIL", "timeout", 0.5, False, True),
        "other": (None, "none", 0.0, False, False),
        "production": ("PASS", "cancel", 0.0, False, True),
    }
    assert scenario.default_mode().name == "closure-extracted"
    assert scenario.options == {"iters": 7}
    assert scenario.modes["closure-inline"].needs == {"zmq": "pip install pyzmq"}
    assert re.fullmatch(rf"{HERE}:\d+", scenario.where)


def test_the_usual_abort() -> None:
    """cancel for async, raise for plain functions."""
    scenario = Scenario("one")
    scenario.mode("a")(anoop)
    scenario.mode("b")(noop)
    assert [mode.abort for mode in scenario.modes.values()] == ["cancel", "raise"]


@pytest.mark.parametrize("names", [["only"], ["x", "closure-extracted"]])
def test_the_default_that_needs_no_mark(names: list[str]) -> None:
    """The only mode, or the one of the usual name."""
    scenario = Scenario("one")
    for name in names:
        scenario.mode(name)(anoop)
    scenario.validate()
    assert scenario.default_mode().name == names[-1]


def two_defaults() -> None:
    scenario = Scenario("one")
    scenario.mode("a", default=True)(anoop)
    scenario.mode("b", default=True)(anoop)
    scenario.validate()


def no_default() -> None:
    scenario = Scenario("one")
    scenario.mode("a")(anoop)
    scenario.mode("b")(anoop)
    scenario.validate()


def no_function() -> None:
    scenario = Scenario("one")
    scenario.mode("a")
    scenario.validate()


def two_setups() -> None:
    scenario = Scenario("one")
    scenario.setup(noop)
    scenario.setup(noop)


def two_modes_of_a_name() -> None:
    scenario = Scenario("one")
    scenario.mode("a")(anoop)
    scenario.mode("a")(anoop)


def generator_mode() -> None:
    def generator(run: Run) -> Any:
        yield

    Scenario("one").mode("a")(generator)


def async_generator_mode() -> None:
    async def generator(run: Run) -> Any:
        yield

    Scenario("one").mode("a")(generator)


def no_parameter() -> None:
    def forgot() -> None:
        pass

    Scenario("one").mode("a")(forgot)


def two_parameters() -> None:
    async def two(run: Run, other: int) -> None:
        pass

    Scenario("one").mode("a")(two)


def a_word_of_its_own() -> None:
    def needs(run: Run, *, word: str) -> None:
        pass

    Scenario("one").mode("a")(needs)


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "two defaults": (two_defaults, r"scenario 'one' has two defaults: 'a' \(.*:\d+\) and 'b'"),
    "no default": (no_default, "scenario 'one' has 2 modes and no default: mark one default=True"),
    "no mode": (lambda: Scenario("one").validate(), "scenario 'one' has no mode"),
    "no function": (no_function, r"mode 'a' of 'one' has no function: scenario.mode\(...\) decorates one"),
    "two setups": (two_setups, "scenario 'one' has two setups"),
    "two modes of a name": (two_modes_of_a_name, r"scenario 'one' has mode 'a' twice \(first at .*:\d+\)"),
    "unknown abort": (
        lambda: Scenario("one").mode("a", abort="kill"),  # type: ignore[arg-type]
        "mode 'a': unknown abort style 'kill'; it is one of cancel, timeout, raise, none",
    ),
    "unknown must": (
        lambda: Scenario("one").mode("a", must="pass"),  # type: ignore[arg-type]
        "mode 'a': must is PASS or FAIL, not 'pass'",
    ),
    "plain and cancel": (
        lambda: Scenario("one").mode("a", abort="cancel")(noop),
        "mode 'a': a plain function cannot be cancelled; use abort='raise', 'timeout' or 'none'",
    ),
    "generator": (generator_mode, "mode 'a' is a generator; a run is a plain or an async function"),
    "async generator": (async_generator_mode, "mode 'a' is a generator"),
    "not a function": (lambda: Scenario("one").mode("a")(3), "mode 'a' decorates 3, which is not a function"),  # type: ignore[type-var]
    "synthetic-leak": (
        lambda: Scenario("one").mode("synthetic-leak"),
        "mode 'synthetic-leak' comes from the harness; do not declare it",
    ),
    "unknown option": (lambda: Scenario("one", itters=5), "scenario 'one': unknown option 'itters'; it takes batches"),
    "name with a colon": (lambda: Scenario("a::b"), "a scenario's name is one word without"),
    "empty name": (lambda: Scenario(" "), "a scenario's name is one word"),
    "name that is none": (lambda: Scenario(3), "a scenario's name is one word"),  # type: ignore[arg-type]
    "mimics": (lambda: Scenario("one", mimics="pkg.f"), "mimics='pkg.f': write it as module:attribute"),
    "target": (lambda: Scenario("one", target="pkg"), "target='pkg': write it as module:attribute"),
    "known without a reason": (lambda: Known("x", " "), "needs a type or fingerprint and a reason"),
    "known as a tuple": (
        lambda: Scenario("one", known=[("A", "because")]),  # type: ignore[list-item]
        r"scenario 'one': known=\[\('A', 'because'\)\]: write it as \[Known\(match, reason\), ...\]",
    ),
    "known alone": (lambda: Scenario("one", known=Known("A", "because")), "write it as"),  # type: ignore[arg-type]
    "known of no text": (lambda: Known(3, "because"), "needs a type or fingerprint"),  # type: ignore[arg-type]
    "unknown backend": (
        lambda: Scenario("one", backend="curio"),  # type: ignore[arg-type]
        "scenario 'one': backend='curio': it is one of asyncio, trio",
    ),
    "loop of trio": (lambda: Scenario("one", backend="trio", loop_factory=dict), "loop_factory=<class 'dict'>: a func"),
    "loop that is none": (lambda: Scenario("one", loop_factory=3), "loop_factory=3: a function without"),  # type: ignore[arg-type]
    "no parameter": (no_parameter, r"mode 'a': the function is called with one argument, the Run, and cannot be"),
    "two parameters": (two_parameters, "mode 'a': the function is called with one argument"),
    "a word of its own": (a_word_of_its_own, "mode 'a': the function is called with one argument"),
    "mode name": (lambda: Scenario("one").mode(""), "mode ''"),
    "negative deadline": (lambda: Scenario("one").mode("a", abort_after=-1.0)(anoop), "mode 'a': abort_after"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_with_file_and_line(mistake: str) -> None:
    """``file:line: what is wrong``, where the declaration stands."""
    declare, wanted = MISTAKES[mistake]
    with pytest.raises(ScenarioError, match=rf"^{HERE}:\d+: .*{wanted}") as caught:
        declare()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda *args: None,
        lambda run, more=1: None,
        functools.partial(lambda a, run: None, 1),
        functools.wraps(lambda: None)(lambda run: None),
        dict,
    ],
)
def test_whatever_takes_one_argument_is_a_mode(function: Callable[..., Any]) -> None:
    """Also what wraps a function that takes none, and what has no signature."""
    scenario = Scenario("one")
    scenario.mode("a")(function)
    assert scenario.modes["a"].function is function


def test_modes_under_trio_need_it() -> None:
    """Where it is measured, and nowhere else; what else a mode needs is said by itself."""
    scenario = Scenario("one", backend="trio")
    scenario.mode("a", needs={"zmq": "pip install pyzmq"})(anoop)
    assert scenario.modes["a"].needs == {"trio": "pip install trio", "zmq": "pip install pyzmq"}


def test_the_line_is_that_of_the_declaration(tmp_path: Path) -> None:
    """Not of the decorator's inside, nor of the file's end."""
    path = tmp_path / "case.py"
    path.write_text(
        textwrap.dedent(
            """
            from leakharness import Scenario
            s = Scenario("one")

            @s.mode("a", abort="cancel")
            def a(run):
                pass
            """
        )
    )
    answer = describe([str(path)]).files[str(path)]
    assert answer.failure.kind == "usage"
    assert answer.failure.reason.startswith(f"{path}:5: mode 'a': a plain function cannot be cancelled")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "s = Scenario('x')\n@s.mode('a')\nasync def a(run): pass\n"
            "t = Scenario('x')\n@t.mode('a')\nasync def b(run): pass",
            "declared twice",
        ),
        ("s = Scenario('x')", "has no mode"),
        ("def (:", "SyntaxError"),
    ],
)
def test_mistakes_that_only_the_whole_file_shows(text: str, reason: str, tmp_path: Path) -> None:
    """Two scenarios of one name, none with a mode, no Python at all."""
    path = tmp_path / "case.py"
    path.write_text("from leakharness import Scenario\n" + text)
    answer = describe([str(path)]).files[str(path)]
    assert answer.failure.kind == "usage"
    assert reason in answer.failure.reason
    assert str(path) in answer.failure.reason


def test_a_file_that_raises_is_not_the_declarations_fault(tmp_path: Path) -> None:
    """It may be right elsewhere: not judged, with the traceback."""
    path = tmp_path / "case.py"
    path.write_text("1 / 0")
    answer = describe([str(path)]).files[str(path)]
    assert (answer.failure.kind, answer.failure.reason) == (
        "not_judged",
        f"loading {path} ended by ZeroDivisionError: division by zero",
    )
    assert "1 / 0" in answer.failure.detail


def test_a_run_by_hand_needs_no_harness() -> None:
    """A mode is a plain function: called with a Run of one's own, it tracks and holds nothing."""

    async def go() -> bool:
        future = Run().wedged()
        return not future.done() and asyncio.isfuture(future)

    run = Run(index=3, scope_bytes=10, mode="m")
    thing = object()
    assert run.track(thing, "label") is thing
    assert run.hold(thing) is thing
    assert (run.index, run.scope_bytes, run.mode) == (3, 10, "m")
    assert asyncio.run(go())
    with pytest.raises(ScenarioError, match="needs the harness"):
        run.target()


def test_a_run_tells_its_recorder() -> None:
    """track, wedged, hold and target, in the order of the calls; track and hold return their object."""
    said: list[tuple[Any, ...]] = []

    class Recorder:
        def track(self, obj: Any, label: str | None) -> None:
            said.append(("track", obj, label))

        def wedged(self) -> Any:
            said.append(("wedged",))
            return "future"

        def hold(self, obj: Any) -> None:
            said.append(("hold", obj))

        def target(self) -> Any:
            return os.getcwd

    run = Run(recorder=Recorder())
    assert run.track("a") == "a"
    assert run.track("b", "label") == "b"
    assert run.wedged() == "future"
    assert run.hold("c") == "c"
    assert run.target() is os.getcwd
    assert said == [("track", "a", None), ("track", "b", "label"), ("wedged",), ("hold", "c")]
