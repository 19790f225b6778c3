"""The table of layouts: a column a version, nothing guessed."""

from __future__ import annotations

import sys

import pytest

from leakharness.errors import UsageError
from leakharness.live.layouts import FIELDS, VERSIONS, layout_of


def test_every_row_has_a_column_for_every_version() -> None:
    """And every struct says which file of CPython it comes from."""
    for struct, (source, fields) in FIELDS.items():
        assert ".h" in source or ".c" in source, struct
        assert {len(row) for row in fields.values()} == {len(VERSIONS)}, struct


def test_an_unknown_version_is_refused() -> None:
    """A later Python is not read by the layout of an earlier one."""
    with pytest.raises(UsageError, match=r"CPython 3\.99: its layout is not known here; 3\.10 to 3\.15 can be read"):
        layout_of((3, 99))


def test_the_layout_of_this_interpreter_agrees_with_what_it_says_itself() -> None:
    """Fields that an interpreter shows: the size of an empty tuple, and where a type has its dict."""
    layout = layout_of(sys.version_info[:2])
    assert layout("PyTupleObject.ob_item") == tuple.__basicsize__
    assert layout("sizeof.PyASCIIObject") == sys.getsizeof("") - 1
    assert layout("PyFunctionObject.func_dict") == type(lambda: 0).__dictoffset__
    assert layout.get("PyFunctionObject.no_such_field") is None
