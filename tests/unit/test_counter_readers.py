"""What the platform lacks is named; a fault of our own is none of that."""

from __future__ import annotations

import pytest

from leakharness.worker.counter_readers import CounterReaders


def raising(error: Exception) -> int:
    raise error


def test_what_cannot_be_read_is_missing_with_the_reason() -> None:
    found = CounterReaders()
    found.add("one", lambda: 1)
    found.add("two", "nobody counts them here")
    found.add("three", lambda: raising(OSError("no such file")))
    found.add("four", lambda: raising(ValueError("no number")))
    assert found.readers.keys() == {"one"}
    assert found.missing == {
        "two": "nobody counts them here",
        "three": "OSError: no such file",
        "four": "ValueError: no number",
    }


@pytest.mark.parametrize("error", [AttributeError("_statm"), TypeError("x"), KeyError("y")])
def test_a_fault_of_our_own_is_no_lack_of_the_platform(error: Exception) -> None:
    with pytest.raises(type(error)):
        CounterReaders().add("one", lambda: raising(error))
