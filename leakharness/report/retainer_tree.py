"""Retainer groups as one tree, from the roots down to the objects. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Step", "retainer_tree", "vanished_edge"]

Document = Mapping[str, Any]
DEEPEST = 60
"""Steps of a path that are drawn one inside the other; V8's can be longer."""


@dataclass
class Step:
    """One step of the paths: what hangs on it, in all the groups that lead through it."""

    text: str
    count: int = 0
    retained_bytes: int = 0
    children: dict[str, Step] = field(default_factory=dict)
    groups: list[Document] = field(default_factory=list)
    """The groups whose path ends here."""
    cut: bool = False
    """Whether the edge that leads here is one that is gone on the other side."""

    @property
    def chain(self) -> list[Step]:
        """This step, and those that follow it without a branch."""
        steps = [self]
        while len(steps[-1].children) == 1 and not steps[-1].groups and len(steps) < DEEPEST:
            steps.append(next(iter(steps[-1].children.values())))
        return steps

    @property
    def below(self) -> list[Step]:
        """The steps right below, the largest retained size first."""
        return sorted(self.children.values(), key=lambda step: (-step.retained_bytes, -step.count, step.text))


def retainer_tree(groups: Sequence[Document], cuts: Mapping[int, int] | None = None) -> list[Step]:
    """The roots. ``cuts``: by a group's place in ``groups``, the number of the step to which the edge is gone."""
    root = Step("")
    for at, group in enumerate(groups):
        step = root
        path = [*group["path"][: DEEPEST - 1], *group["path"][DEEPEST - 1 :][-1:]] or [group["target"]]
        for number, text in enumerate(path):
            step = step.children.setdefault(text, Step(text))
            step.count += group["count"]
            step.retained_bytes += group["retained_bytes"]
            step.cut = step.cut or (cuts or {}).get(at) == number
        step.groups.append(group)
    return root.below


def vanished_edge(path: Sequence[str], others: Sequence[Sequence[str]]) -> int:
    """The number of the step to which the edge is gone: the first that no other path to the same object shares, where
    one begins alike; else the last, which is the object itself."""
    shared = max((_shared(path, other) for other in others if other[-1:] == path[-1:]), default=0)
    return shared if 0 < shared < len(path) else len(path) - 1


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
