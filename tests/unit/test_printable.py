"""Text that steers a terminal, a CI runner or an XML reader is shown as escapes."""

from __future__ import annotations

import json
import os
import re

import pytest

from leakharness.model import Certificate, Family, Growth, Retainer, RunResult
from leakharness.printable import cell, code, encodable, fenced, for_terminal, one_line, printable, prose
from leakharness.report.document import to_json
from leakharness.report.formats import render
from leakharness.report.markdown import certificate_report, run_report

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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "\\<img src=x onerror=alert(1)>"),
        ("![x](http://example.org/x.png)", "![x]\\(http://example.org/x.png)"),
        ("a\n\n# heading\n| a |\n| - |", "a\\n\\n# heading\\n| a |\\n| - |"),
        ("`open", "\\`open"),
        ("app.KEPT[*] of <lambda>", "app.KEPT[*] of \\<lambda>"),
    ],
)
def test_nothing_is_markup_in_a_sentence_of_markdown(text: str, shown: str) -> None:
    assert prose(text) == shown
    assert cell(text + " | x") == shown.replace("|", "\\|") + " \\| x"


def test_code_ends_where_it_should() -> None:
    assert code("a") == "`a`"
    assert code("a``b\n`") == "``` a``b\\n` ```"
    assert fenced("a\n```\n<b>") == "````\na\n```\n<b>\n````"


def test_a_report_of_a_hostile_result_has_no_row_heading_or_html_of_its_own() -> None:
    evil = "x\n\n| a | b |\n# head\n<script>```\n![i](http://e/i.png) `"
    result = RunResult(
        evil, evil, "FAIL", "PASS", evil, reproduce=evil, executable=evil, platform="p",
        tracked={evil: {"born": 1, "retained": 1}}, growth=(Growth("objects", 1.0, True, evil),),
        families=(Family(evil, 1.0, 1.0),), retainers=(Retainer(evil, 1, 1, (evil, evil), evil, evil, (evil,)),),
        class_evidence=evil, forgiven=(evil,), notes=(evil,), opinions=(evil,), blind={evil: evil}, detail=evil,
        allocations=({"file": evil, "line": 1, "source": evil, "of": evil},), snapshots=(evil,),
    )  # fmt: skip
    text = run_report(result) + certificate_report(Certificate(evil, "LEAK", evil, (result,), (evil,)))
    text += render([json.loads(json.dumps(result.document()))], "markdown")
    outside = re.sub(r"(?ms)^(`{3,})\n.*?\n\1$", "", text)
    outside = re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)
    assert "\n| a |" not in outside
    assert "\n# head" not in outside
    assert not re.search(r"(?<!\\)<", outside)
    assert "](" not in outside
