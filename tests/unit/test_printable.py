"""Text that steers a terminal, a CI runner or an XML reader is shown as escapes."""

from __future__ import annotations

import json
import os

import pytest

from leakharness.printable import encodable, for_terminal, one_line, printable
from leakharness.report.document import to_json

LONE = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ü and 漢字", "plain text, ü and 漢字"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\x07\x08", "a\\rb\\x07\\x08"),
        ("user\u202enimda", "user\\u202enimda"),
        ("\u2066\u2069\u200f\u061c", "\\u2066\\u2069\\u200f\\u061c"),
        ("\u2028line\u2029", "\\u2028line\\u2029"),
        ("\x00\x7f\ufeff", "\\x00\\x7f\\ufeff"),
        (LONE, "caf\\udce9"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == one_line(text) == for_terminal(text) == shown


def test_line_ends_stay_in_a_text_and_not_in_a_name() -> None:
    assert printable("a\nb") == "a\nb"
    assert one_line("a\nb") == "a\\nb"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", "\\x3a:error::x"),
        ("fine\n  ::set-output name=a::b", "fine\n  \\x3a:set-output name=a::b"),
        ("tests/test_a.py::test_b", "tests/test_a.py::test_b"),
        ("##[error]x", "\\x23#[error]x"),
        ("a ##vso[task.setvariable]x", "a \\x23#vso[task.setvariable]x"),
        ("## heading", "## heading"),
    ],
)
def test_nothing_is_a_command_to_a_ci_runner(text: str, shown: str) -> None:
    assert for_terminal(text) == shown


def test_json_holds_what_is_no_utf_8() -> None:
    document = {"reason": LONE, LONE: [{"path": (LONE, "ü", 1.5)}]}
    escaped = "caf\\udce9"
    assert json.loads(to_json(document)) == {"reason": escaped, escaped: [{"path": [escaped, "ü", 1.5]}]}
    assert encodable("ü\x1b") == "ü\x1b"
