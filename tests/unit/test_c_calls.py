"""Which C functions a line calls."""

from __future__ import annotations

import collections
import json
import sys

from leakharness.worker.c_calls import c_functions_called

LINE = sys._getframe().f_lineno
QUEUE: collections.deque[str] = collections.deque()


def work() -> None:
    """Two lines that call C functions, and one that calls none."""
    QUEUE.append(str(len(json.dumps({}))))
    text = json.encoder.encode_basestring_ascii("a")
    _ = text + "b"


def test_names_of_the_c_functions_that_a_line_calls() -> None:
    """Functions with their module, methods with their type; lines that were not asked for, or call none, are left
    out, and the profile function of before is back."""
    first = LINE + 6
    places = [f"{__file__}:{line}" for line in range(first, first + 3)]
    found = c_functions_called(work, places)
    assert found == {places[0]: ("len", "collections.deque.append"), places[1]: ("_json.encode_basestring_ascii",)}
    assert c_functions_called(work, places[2:]) == {}
    assert sys.getprofile() is None
