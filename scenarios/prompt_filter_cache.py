"""Cached combinations of objects that are made at run time: prompt-toolkit 3.0.36.

Why it leaks. A filter says whether a key binding is active, and ``~a``, ``a & b``, ``a | b`` make new
filters. Since filters were thought of as a fixed set of module-level objects, the combinations were cached in
module-level dicts, with the filters themselves as keys. But every session makes filters of its own, as
closures over the session, and negates and combines them: each combination keeps its filters, each filter its
session. A server that gives a prompt to everyone who logs in keeps every session that ever was.

The fix (prompt-toolkit 3.0.37): the cache belongs to the filter. What was made of a filter is kept by the
filter, and dies with it.

Real code::

    leakharness prove prompt-filter-cache --before prompt-toolkit==3.0.36 --after prompt-toolkit==3.0.37 \\
        --target prompt_toolkit.shortcuts.prompt:PromptSession
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leakharness import Run, Scenario

scenario = Scenario(
    "prompt-filter-cache", summary="a module-level cache of combined filters keeps each session's filters"
)


class Filter:
    """Says whether something is active now."""

    def __init__(self, function: Callable[[], bool]) -> None:
        self.function = function
        self.inverted: Filter | None = None


class Session:
    """One user's prompt, with its history."""

    def __init__(self, size: int) -> None:
        self.history = bytes(size)
        self.is_done = False


INVERTED: dict[Filter, Filter] = {}


def inverted_by_module(of: Filter) -> Filter:
    """``~of``, cached by the module: the filter is a key of its dict."""
    if of not in INVERTED:
        INVERTED[of] = Filter(lambda: not of.function())
    return INVERTED[of]


def inverted_by_filter(of: Filter) -> Filter:
    """``~of``, cached by the filter itself."""
    if of.inverted is None:
        of.inverted = Filter(lambda: not of.function())
    return of.inverted


@scenario.setup
def serve(run: Run) -> None:
    """For ``production``: the installed PromptSession, on a terminal that is none."""
    global real_session
    if run.mode == "production":
        from prompt_toolkit.application import create_app_session
        from prompt_toolkit.input import DummyInput
        from prompt_toolkit.output import DummyOutput

        def real_session() -> Any:
            with create_app_session(input=DummyInput(), output=DummyOutput()):
                return run.target()()


real_session: Callable[[], Any]


@scenario.mode("closure-extracted", must="PASS", default=True, abort="none")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: each filter keeps what was made of it."""
    session = run.track(Session(run.scope_bytes))
    is_active = inverted_by_filter(Filter(lambda: session.is_done))
    assert is_active.function()


@scenario.mode("closure-inline", must="FAIL", abort="none")
def closure_inline(run: Run) -> None:
    """The shape before the fix: the module keeps every filter that was ever negated."""
    session = run.track(Session(run.scope_bytes))
    is_active = inverted_by_module(Filter(lambda: session.is_done))
    assert is_active.function()


@scenario.mode(
    "production",
    must="PASS",
    abort="none",
    needs={"prompt_toolkit": "pip install prompt-toolkit"},
    needs_target=True,
)
def production(run: Run) -> None:
    """The installed prompt-toolkit: one user logs in, and is gone."""
    run.track(real_session(), "session")
