"""What is kept on purpose (``hold``, ``wedged``): each leaky twin keeps something that excuses nothing, or less than
what it leaves behind; each clean one keeps something new, or the same thing again."""

from __future__ import annotations

from typing import Any

from leakharness import Run, Scenario

KEPT: list[Any] = []


class Client:
    """There before the first run."""


class Session:
    """One of these a run is what the leaky twins leave behind."""

    hangs: Any = None


CLIENT = Client()
POOL = [Client() for _ in range(20_000)]
BUFFER = bytearray()
STATE: dict[str, Any] = {}

same = Scenario("same", summary="one and the same object is held in every run")


@same.mode("leaky", must="FAIL", abort="none")
def same_leaky(run: Run) -> None:
    run.hold(CLIENT)
    KEPT.append(Session())


@same.mode("clean", must="PASS", default=True, abort="none")
def same_clean(run: Run) -> None:
    run.hold(CLIENT)


pool = Scenario("pool", summary="another object in every run, each of which was there before")


@pool.mode("leaky", must="FAIL", abort="none")
def pool_leaky(run: Run) -> None:
    run.hold(POOL[run.index % len(POOL)])
    KEPT.append(Session())


@pool.mode("clean", must="PASS", default=True, abort="none")
def pool_clean(run: Run) -> None:
    run.hold(POOL[run.index % len(POOL)])


fresh = Scenario("fresh", summary="a new object is held in every run, twice, and it is excused once")


@fresh.mode("leaky", must="FAIL", abort="none")
def fresh_leaky(run: Run) -> None:
    session = run.hold(run.hold(Session()))
    session.hangs = [Session()]


@fresh.mode("clean", must="PASS", default=True, abort="none")
def fresh_clean(run: Run) -> None:
    run.hold(run.hold(Session()))


table = Scenario("table", summary="a buffer that is held grows")


@table.mode("leaky", must="FAIL", abort="none")
def table_leaky(run: Run) -> None:
    run.hold(BUFFER).extend(bytes(4096))


@table.mode("clean", must="PASS", default=True, abort="none")
def table_clean(run: Run) -> None:
    run.hold(BUFFER)[:] = bytes(4096)


attribute = Scenario("attribute", summary="what hangs on one held object grows")


@attribute.mode("leaky", must="FAIL", abort="none")
def attribute_leaky(run: Run) -> None:
    vars(run.hold(CLIENT)).setdefault("seen", []).append(f"run {run.index}")


@attribute.mode("clean", must="PASS", default=True, abort="none")
def attribute_clean(run: Run) -> None:
    vars(run.hold(CLIENT))["seen"] = [f"run {run.index}"]


future = Scenario("future", summary="one wedged future is used in every run, and held as well")


def _wedged(run: Run) -> Any:
    if "future" not in STATE:
        STATE["future"] = run.wedged()
    return run.hold(STATE["future"])


@future.mode("leaky", must="FAIL", abort="none")
async def future_leaky(run: Run) -> None:
    _wedged(run).add_done_callback(Session().__init__)


@future.mode("clean", must="PASS", default=True, abort="none")
async def future_clean(run: Run) -> None:
    callback = Session().__init__
    _wedged(run).add_done_callback(callback)
    _wedged(run).remove_done_callback(callback)
