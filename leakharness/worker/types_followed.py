"""Tracks what real code makes: the instances of types that a scenario names, as they are born."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from leakharness.errors import ScenarioError
from leakharness.worker.capture.type_plans import HAVE_GC, takes_weak_references, type_flags
from leakharness.worker.recorder import TargetMissing, imported

__all__ = ["follow_types"]

Track = Callable[[Any, "str | None"], None]


def follow_types(names: Sequence[str], track: Track) -> list[str]:
    """From now on ``track(instance, None)`` is called with every new instance of these types ``module:attribute`` and
    of their subclasses, also with what is copied or unpickled. Returns which are not there, in words.

    Raises ScenarioError for a name that is no type, and for a type whose instances cannot be followed.
    """
    missing, kinds = [], []
    for name in names:
        try:
            kinds.append((_type_called(name), name))
        except TargetMissing as exc:
            missing.append(f"track_types: {exc}; none of these is tracked")
    for kind, name in kinds:
        if not any(other is not kind and issubclass(kind, other) for other, _ in kinds):  # that one sees them
            _follow(kind, name, track)
    return missing


def _type_called(name: str) -> type:
    module, _, attributes = name.partition(":")
    found: Any = imported(module, name)
    try:
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except AttributeError as exc:
        raise ScenarioError(f"track_types names {name!r}: {exc}") from None
    if not isinstance(found, type):
        raise ScenarioError(f"track_types names {name!r}, which is no class: {type(found).__qualname__}")
    return found


def _follow(kind: type, name: str, track: Track) -> None:
    """Replace its ``__new__``, which every way of making an instance goes through; ``__init__`` is not called by a copy
    or by pickle."""
    if not takes_weak_references(kind) and not type_flags(kind) & HAVE_GC:
        raise ScenarioError(
            f"track_types names {name!r}, whose instances can neither be weakly referenced nor found among all "
            "objects: name the class that owns them"
        )
    usual: Callable[..., Any] = kind.__new__

    def __new__(cls: type, *arguments: Any, **named: Any) -> Any:
        plain = usual is object.__new__ and cls.__init__ is not object.__init__  # type: ignore[misc]
        made = usual(cls) if plain else usual(cls, *arguments, **named)
        if isinstance(made, kind):
            track(made, None)
        return made

    try:
        kind.__new__ = staticmethod(__new__)  # type: ignore[assignment]
    except TypeError:
        raise ScenarioError(
            f"track_types names {name!r}, a class written in C, which cannot be followed in Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}: track its instances with run.track(...)"
        ) from None
