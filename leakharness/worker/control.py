"""The control: the same loop with an empty body. What it shows is the noise floor of this machine."""

from __future__ import annotations

from leakharness.scenario.declare import Run, Scenario

scenario = Scenario("control", summary="an empty run: the noise floor of this machine")


@scenario.mode("plain", must="PASS", default=True, abort="none")
def plain(run: Run) -> None:
    """An empty plain run."""


@scenario.mode("async", must="PASS", abort="none")
async def asynchronous(run: Run) -> None:
    """An empty async run."""
