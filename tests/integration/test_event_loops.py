"""Loops beside asyncio's usual one, in leaky and clean twins: trio, uvloop, eager tasks, debug mode, anyio."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness.measure.loop import measure
from leakharness.measure.measurement import Request, SilentObserver
from leakharness.measure.worker_process import WorkerProcess
from leakharness.model import Plan, RunResult

QUICK = Plan(iters=20, batches=5, warmup=60, snapshots="never", scope_bytes=20_000)


def measured(file: Path, mode: str) -> RunResult:
    """One mode, quickly and without evidence."""
    with WorkerProcess(sys.executable, deadline=time.monotonic() + 60.0) as worker:
        return measure(Request(str(file), None, mode), QUICK, worker, SilentObserver())


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


TRIO = """
    import trio
    s = Scenario("case", backend="trio")
    SERVICE = []

    class Upload:
        pass

    async def store(upload, provider):
        await provider

    async def fails_soon():
        await trio.sleep(0.01)
        raise ConnectionError("the service broke")

    @s.setup
    async def serve(run):
        async with trio.open_nursery() as nursery:
            SERVICE.append(nursery)
            if run.mode == "broken":
                nursery.start_soon(fails_soon)
            yield
            nursery.cancel_scope.cancel()

    @s.mode("cancelled", default=True)
    async def cancelled(run):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store, run.track(Upload()), run.wedged())

    @s.mode("left")
    async def left(run):
        provider = run.wedged()
        SERVICE[0].start_soon(store, run.track(Upload()), provider)
        await provider

    @s.mode("deadline", abort="timeout", abort_after=0.001)
    async def deadline(run):
        run.track(Upload())
        await run.wedged()

    @s.mode("raises", abort="raise")
    async def raises(run):
        run.track(Upload())
        async with trio.open_nursery():
            await trio.lowlevel.checkpoint()
            raise ValueError("declared")

    @s.mode("ends", abort="none")
    async def ends(run):
        run.track(Upload())
        await trio.sleep(0)

    @s.mode("never at rest")
    async def never_at_rest(run):
        async def spin():
            while True:
                await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spin)
            await run.wedged()

    @s.mode("swallows")
    async def swallows(run):
        try:
            await run.wedged()
        except BaseException:
            pass

    @s.mode("broken")
    async def broken(run):
        await trio.sleep(0.1)

    @s.mode("shielded")
    async def shielded(run):
        with trio.CancelScope(shield=True):
            await run.wedged()
""".replace("never at rest", "never-at-rest")


@needs("trio")
@pytest.mark.parametrize(
    "mode",
    [
        "cancelled",
        "deadline",
        "raises",
        pytest.param("ends", marks=pytest.mark.slow),
        pytest.param("never-at-rest", marks=pytest.mark.slow),
    ],
)
def test_clean_runs_under_trio_pass_however_they_end(mode: str, scenario_file: Callable[..., Path]) -> None:
    """By a cancel scope, past a deadline, by an exception of a nursery; also beside a task that is never at rest."""
    result = measured(scenario_file(TRIO), mode)
    assert result.verdict == "PASS", (result.reason, result.detail)
    assert result.retained == 0


@pytest.mark.slow
@needs("trio")
def test_a_task_left_in_a_nursery_of_the_service_is_counted_by_trios_statistics(
    scenario_file: Callable[..., Path],
) -> None:
    """Exactly one task and one object a run; the event that wedges is declared."""
    result = measured(scenario_file(TRIO), "left")
    assert result.verdict == "FAIL"
    assert {name: grown_by(result)[name] for name in ("tracked", "tasks")} == {"tracked": 1.0, "tasks": 1.0}


@needs("trio")
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("swallows", "returned although it was cancelled"),
        ("broken", "the set-up of the scenario ended by"),
        pytest.param("shielded", "was still going 5 s after it was cancelled", marks=pytest.mark.slow),
    ],
)
def test_a_run_under_trio_that_does_not_end_as_declared_is_not_judged(
    mode: str, said: str, scenario_file: Callable[..., Path]
) -> None:
    """Nor one beside a set-up that has ended."""
    result = measured(scenario_file(TRIO), mode)
    assert result.verdict == "NOT_JUDGED"
    assert said in result.reason


LOOPS = """
    import asyncio, sys
    import {module}

    def make():
        {make}

    {policy}
    s = Scenario("case"{factory})
    KEPT = set()

    class Upload:
        pass

    async def work(upload, provider):
        await provider

    @s.setup
    async def check():
        loop = asyncio.get_running_loop()
        assert {proof}, loop

    @s.mode("clean", default=True)
    async def clean(run):
        provider = run.wedged()
        task = asyncio.create_task(work(run.track(Upload()), provider))
        try:
            await provider
        finally:
            task.cancel()

    @s.mode("leaky")
    async def leaky(run):
        provider = run.wedged()
        KEPT.add(asyncio.create_task(work(run.track(Upload()), asyncio.get_running_loop().create_future())))
        await provider
"""
EAGER = "loop = asyncio.new_event_loop(); loop.set_task_factory(asyncio.eager_task_factory); return loop"
DEBUG = "loop = asyncio.new_event_loop(); loop.set_debug(True); return loop"
FACTORY = {"factory": ", loop_factory=make", "policy": ""}
KINDS = {
    "uvloop-by-factory": {
        "module": "uvloop",
        "make": "return uvloop.new_event_loop()",
        "proof": "type(loop) is uvloop.Loop",
        **FACTORY,
    },
    "uvloop-by-policy": {
        "module": "uvloop",
        "make": "return uvloop.new_event_loop()",
        "proof": "type(loop) is uvloop.Loop",
        "policy": "asyncio.set_event_loop_policy(type('P', (asyncio.DefaultEventLoopPolicy,), "
        "{'new_event_loop': lambda self: make()})())",
        "factory": "",
    },
    "eager": {
        "module": "asyncio",
        "make": EAGER,
        "proof": "loop.get_task_factory() is asyncio.eager_task_factory",
        **FACTORY,
    },
    "debug": {"module": "asyncio", "make": DEBUG, "proof": "loop.get_debug()", **FACTORY},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_twins_on_a_loop_of_the_programs_own(kind: str, scenario_file: Callable[..., Path]) -> None:
    """The loop is the one that was asked for; in debug mode what it notes of each future is no leak."""
    words = KINDS[kind]
    if importlib.util.find_spec(words["module"]) is None:
        pytest.skip(f"{words['module']} is not installed")
    if kind == "eager" and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with 3.12")
    file = scenario_file(LOOPS.format(**words))
    clean, leaky = measured(file, "clean"), measured(file, "leaky")
    assert (clean.verdict, clean.retained) == ("PASS", 0), (clean.reason, clean.detail)
    assert leaky.verdict == "FAIL", leaky.reason
    assert grown_by(leaky)["tracked"] == grown_by(leaky)["tasks"] == 1.0


ANYIO = """
    import anyio
    s = Scenario("case")
    KEPT = []

    class Upload:
        pass

    async def body(upload, keeps):
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        if keeps:
            KEPT.append(upload)

    @s.mode("clean", default=True, abort="none")
    def clean(run):
        anyio.run(body, run.track(Upload()), False, backend="{backend}")

    @s.mode("leaky", abort="none")
    def leaky(run):
        anyio.run(body, run.track(Upload()), True, backend="{backend}")
"""


@pytest.mark.slow
@needs("anyio")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_body_that_calls_anyio_run(backend: str, scenario_file: Callable[..., Path]) -> None:
    """A plain mode that brings its own loop for each run."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    file = scenario_file(ANYIO.format(backend=backend))
    clean, leaky = measured(file, "clean"), measured(file, "leaky")
    assert (clean.verdict, clean.retained) == ("PASS", 0), (clean.reason, clean.detail)
    assert grown_by(leaky)["tracked"] == 1.0
