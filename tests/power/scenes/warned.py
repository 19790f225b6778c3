"""Warnings with a text of their own are remembered for ever, one in each run; the same text is remembered once."""

from __future__ import annotations

import warnings
from typing import Any

from leakharness import Run, Scenario

GIVEN: dict[Any, Any] = {}
scenario = Scenario("warned", summary="a registry of warnings")
warnings.showwarning = lambda *_args, **_kwargs: None


def _warn(text: str) -> None:
    warnings.warn_explicit(text, RuntimeWarning, "service.py", 1, registry=GIVEN)


@scenario.mode("leaky", must="FAIL", abort="none")
def leaky(run: Run) -> None:
    _warn(f"request {run.index} is late")


@scenario.mode("clean", must="PASS", default=True, abort="none")
def clean(run: Run) -> None:
    _warn("a request is late")
