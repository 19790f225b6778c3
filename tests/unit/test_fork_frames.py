"""The frames of the copy that counts references."""

from __future__ import annotations

import inspect

import pytest

from leakharness.worker import commands, fork, unowned_references
from leakharness.worker.unowned_references import ReferenceReader

ON_THE_STACK = (
    commands.main,
    ReferenceReader.read,
    fork.answer_of_copy,
    fork.ask_copy,
    fork.start_copy,
    fork._live,
    fork._answer,
    fork._in_a_line,
    ReferenceReader._answer,
    unowned_references._unowned,
)


@pytest.mark.parametrize("function", ON_THE_STACK, ids=lambda function: function.__qualname__)
def test_no_running_frame_of_ours_holds_a_cell(function: object) -> None:
    """A running frame shows its cells to nobody: each would be one more reference that no object holds, on 3.10 and
    3.11 also by a comprehension with a variable of the function."""
    assert inspect.isfunction(function)
    assert function.__code__.co_cellvars == ()
