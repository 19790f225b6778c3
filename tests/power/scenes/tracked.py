"""Tracked objects that need another way to be counted: without weak references, and under a label each."""

from __future__ import annotations

from typing import Any

from leakharness import Run, Scenario

KEPT: list[Any] = []


class Slotted:
    """Cannot be weakly referenced."""

    __slots__ = ("payload",)


class Plain:
    """Can."""


slotted = Scenario("slotted", summary="an object that cannot be weakly referenced")


@slotted.mode("leaky", must="FAIL", abort="none")
def slotted_leaky(run: Run) -> None:
    KEPT.append(run.track(Slotted()))


@slotted.mode("clean", must="PASS", default=True, abort="none")
def slotted_clean(run: Run) -> None:
    KEPT[:] = [run.track(Slotted())]


labels = Scenario("labels", summary="a label for each object")


@labels.mode("leaky", must="FAIL", abort="none")
def labels_leaky(run: Run) -> None:
    KEPT.append(run.track(Plain(), label=f"session {run.index}"))


@labels.mode("clean", must="PASS", default=True, abort="none")
def labels_clean(run: Run) -> None:
    run.track(Plain(), label=f"session {run.index}")
