"""Which revision of a history to measure next, and when it is found. Pure: answers come from a function.

A history has an old end and a new end that answer differently, PASS and FAIL or the other way round. Wanted is the
first revision that answers as the new end does. What cannot be judged is passed over, as ``git bisect skip`` does.

The end that leaks is measured first: where it does not, nothing else needs to be. The other one is measured only where
the search comes down to it, so that both neighbours of a change that is found were measured, and 64 revisions take at
most seven measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Answer", "Found", "History", "search"]

Answer = Literal["PASS", "FAIL", "NOT_JUDGED"]


@dataclass(frozen=True)
class History:
    """What lies between two ends. ``parents``: each revision above ``old`` up to ``new``, parents before children;
    parents that are not among them lie below ``old``."""

    old: str
    new: str
    parents: Mapping[str, Sequence[str]]
    old_leaks: bool = False
    """Whether the old end is the one that leaks: then the revision wanted is the one that mended."""

    @property
    def wanted(self) -> Answer:
        """What the new end answers, and so the revision that is wanted."""
        return "PASS" if self.old_leaks else "FAIL"


@dataclass(frozen=True)
class Found:
    """What a search comes to. ``first`` is the revision, None where there is no single one."""

    first: str | None
    before: str | None = None
    """A revision that was measured and answers as the old end: the parent of ``first``, unless that is below a
    merge."""
    suspects: tuple[str, ...] = ()
    """Where ``first`` is None: those among which it is."""
    reason: str = ""


def search(history: History, ask: Callable[[str, int], Answer]) -> Found:
    """The first revision that answers as the new end does. ``ask`` measures one, and is told how many may still be
    the one. Whatever it raises ends the search."""
    measured: dict[str, Answer] = {}
    leaky = history.old if history.old_leaks else history.new
    measured[leaky] = ask(leaky, len(history.parents))
    if measured[leaky] != "FAIL":
        return Found(None, reason=_not_as_asked("--bad", leaky, "does not leak", measured[leaky]))
    lines = _lines(history)
    new = history.new
    left = lines[new]
    while True:
        skipped = {name for name in left if measured.get(name) == "NOT_JUDGED"}
        name = _next(left, lines, new, skipped, smaller_new=history.old_leaks)
        if name is None:
            break
        measured[name] = ask(name, len(left))
        if measured[name] == history.wanted:
            new, left = name, left & lines[name]
        elif measured[name] != "NOT_JUDGED":
            left = left - lines[name]
    if len(left) > 1:
        suspects = tuple(name for name in history.parents if name in left)
        return Found(None, suspects=suspects, reason="what could not be judged lies between PASS and FAIL")
    return _confirmed(history, new, measured, ask)


def _confirmed(history: History, first: str, measured: dict[str, Answer], ask: Callable[[str, int], Answer]) -> Found:
    """The find, once the end that was not measured has been, where the find rests on it."""
    before = _before(history, first, measured)
    end = first if history.old_leaks else history.old
    if end not in measured and (history.old_leaks or before is None):
        measured[end] = ask(end, 1)
        if measured[end] != "PASS":
            return Found(None, reason=_not_as_asked("--good", end, "does not pass", measured[end]))
        before = _before(history, first, measured)
    return Found(first, before)


def _not_as_asked(end: str, name: str, what: str, gave: Answer) -> str:
    return f"{end} {name} {'could not be measured' if gave == 'NOT_JUDGED' else what}: it gave {gave}"


def _before(history: History, first: str, measured: Mapping[str, Answer]) -> str | None:
    """A revision that was measured and answers as the old end: a parent of ``first`` where one was."""
    old: Answer = "FAIL" if history.old_leaks else "PASS"
    parents = [name for name in history.parents[first] if measured.get(name) == old]
    rest = [name for name in (*reversed(list(history.parents)), history.old) if measured.get(name) == old]
    return next(iter([*parents, *rest]), None)


def _lines(history: History) -> dict[str, frozenset[str]]:
    """For each revision itself and what of the history it descends from."""
    lines: dict[str, frozenset[str]] = {}
    for name, parents in history.parents.items():
        lines[name] = frozenset({name}).union(*(lines[parent] for parent in parents if parent in lines))
    return lines


def _next(
    left: frozenset[str],
    lines: Mapping[str, frozenset[str]],
    new: str,
    skipped: set[str],
    *,
    smaller_new: bool,
) -> str | None:
    """The revision that halves what is left best; None where none is left to ask.

    Of two equal halvings that one whose smaller half is at the end that was not measured: coming down to it takes one
    measurement more. Every revision that could not be judged moves the choice twice as far away: broken ones tend to
    stand together.
    """
    open_ = [name for name in lines if name in left and name != new and name not in skipped]
    below = {name: len(lines[name] & left) for name in open_}

    def rank(name: str) -> tuple[int, int]:
        older, newer = below[name], len(left) - below[name]
        return -min(older, newer), newer if smaller_new else older

    open_.sort(key=rank)
    return open_[min(len(open_), 1 << len(skipped)) - 1] if open_ else None
