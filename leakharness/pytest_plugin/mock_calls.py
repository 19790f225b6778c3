"""What mocks that live longer than one run record of every call: no leak of the body, which would be called once.

A mock of a fixture that is set up once (or of a wider scope) keeps a list of its calls. The lists are cut back to what
they were before the repeats, so that what else such a mock holds is still counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

__all__ = ["MockCalls"]

LISTS = ("_mock_mock_calls", "_mock_call_args_list", "method_calls", "_mock_await_args_list")
"""Attributes of unittest.mock's mocks that grow by each call (Lib/unittest/mock.py, CallableMixin)."""
MOST = 1_000
"""Mocks that are looked after: children and return values of children come without end."""


class MockCalls:
    """The call lists of some mocks, and how long they were. Holds nothing but while a check is going on."""

    def __init__(self) -> None:
        self._lists: list[tuple[list[Any], int]] = []

    def remember(self, values: Iterable[Any]) -> None:
        """Take the lists of the mocks among ``values``, of their children and of their return values."""
        module = sys.modules.get("unittest.mock")
        base = getattr(module, "NonCallableMock", None)
        if base is None:
            return
        waiting = [value for value in values if isinstance(value, base)]
        seen: set[int] = set()
        while waiting and len(seen) < MOST:
            mock = waiting.pop()
            if id(mock) in seen:
                continue
            seen.add(id(mock))
            space = vars(mock)
            calls = [space[name] for name in LISTS if isinstance(space.get(name), list)]
            self._lists += [(found, len(found)) for found in calls]
            children = space.get("_mock_children")
            related = [*(children.values() if isinstance(children, dict) else ()), space.get("_mock_return_value")]
            waiting += [other for other in related if isinstance(other, base)]

    def forget_later_ones(self) -> None:
        """Cut every list back to what it was."""
        for calls, length in self._lists:
            del calls[length:]
