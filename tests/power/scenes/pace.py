"""Leaks that are told by *when* they grow, each beside a twin that grows and gives back, or grows once.

The state that decides lives in this module, as it would in a program: a run only knows its index.
"""

from __future__ import annotations

from leakharness import Run, Scenario

EVERY = 100
LATE = 260
"""Run index at which the late leak begins: 150 runs after the baseline, which 110 runs of warm-up precede."""
PERIOD = 150
"""Runs between two releases of the sawtooth: three batches of 50."""
LAG = 100
"""Runs by which the release lags behind: two batches of 50."""
BURST = 40

KEPT: list[object] = []
PENDING: list[object] = []


class Record:
    """What is kept: one object that the collector lists."""

    __slots__ = ("me",)

    def __init__(self) -> None:
        self.me: object = None


def _scenario(name: str, summary: str) -> Scenario:
    return Scenario(name, summary=summary, warmup=100)


one_in_100 = _scenario("one-in-100", "one object in 100 runs, for ever or until ten are kept")


@one_in_100.mode("leaky", must="FAIL", abort="none")
def one_in_100_leaky(run: Run) -> None:
    if run.index % EVERY == 0:
        KEPT.append(Record())


@one_in_100.mode("clean", must="PASS", default=True, abort="none")
def one_in_100_clean(run: Run) -> None:
    """The same, but the new one takes the place of the old one."""
    if run.index % EVERY == 0:
        KEPT[:] = [Record()]


late = _scenario("late", "growth that begins after 150 measured runs, or one step at that time")


@late.mode("leaky", must="FAIL", abort="none")
def late_leaky(run: Run) -> None:
    if run.index >= LATE:
        KEPT.append(Record())


@late.mode("clean", must="PASS", default=True, abort="none")
def late_step(run: Run) -> None:
    """A step that is not a leak: a table of forty built once."""
    if run.index == LATE:
        KEPT.extend(Record() for _ in range(BURST))


sawtooth = _scenario("sawtooth", "released every three batches, all of it or all but one object a run")


@sawtooth.mode("leaky", must="FAIL", abort="none")
def sawtooth_leaky(run: Run) -> None:
    PENDING.append(Record())
    KEPT.append(Record())
    if run.index % PERIOD == 0:
        PENDING.clear()


@sawtooth.mode("clean", must="PASS", default=True, abort="none")
def sawtooth_clean(run: Run) -> None:
    PENDING.append(Record())
    if run.index % PERIOD == 0:
        PENDING.clear()


lagging = _scenario("lagging", "released two batches later, all of it or every second object")


@lagging.mode("leaky", must="FAIL", abort="none")
def lagging_leaky(run: Run) -> None:
    PENDING.append(Record())
    if len(PENDING) > LAG:
        released = PENDING.pop(0)
        if run.index % 2:
            KEPT.append(released)


@lagging.mode("clean", must="PASS", default=True, abort="none")
def lagging_clean(run: Run) -> None:
    PENDING.append(Record())
    if len(PENDING) > LAG:
        PENDING.pop(0)


cyclic = _scenario("cyclic", "two objects in a cycle, which the collector frees or somebody keeps")


def _cycle(run: Run) -> Record:
    one, two = Record(), Record()
    one.me, two.me = two, one
    return one


@cyclic.mode("leaky", must="FAIL", abort="none")
def cyclic_leaky(run: Run) -> None:
    KEPT.append(_cycle(run))


@cyclic.mode("clean", must="PASS", default=True, abort="none")
def cyclic_clean(run: Run) -> None:
    _cycle(run)


resurrected = _scenario("resurrected", "a cycle whose __del__ brings it back, or does not")


class Undead:
    """In a cycle with itself; its finalizer may keep it."""

    def __init__(self, keep: bool) -> None:
        self.me, self.keep = self, keep

    def __del__(self) -> None:
        if self.keep:
            KEPT.append(self)


@resurrected.mode("leaky", must="FAIL", abort="none")
def resurrected_leaky(run: Run) -> None:
    run.track(Undead(True))


@resurrected.mode("clean", must="PASS", default=True, abort="none")
def resurrected_clean(run: Run) -> None:
    run.track(Undead(False))


tracked_cycle = _scenario("tracked-cycle", "tracked objects in a cycle that has a finalizer, kept or not")


@tracked_cycle.mode("leaky", must="FAIL", abort="none")
def tracked_cycle_leaky(run: Run) -> None:
    KEPT.append(run.track(Undead(False)))


@tracked_cycle.mode("clean", must="PASS", default=True, abort="none")
def tracked_cycle_clean(run: Run) -> None:
    run.track(Undead(False))
