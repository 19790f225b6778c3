"""Stored results in other tools' formats."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from leakharness.errors import OptionError, UsageError
from leakharness.model import Certificate, Growth, Retainer, RunResult
from leakharness.report.formats import FORMATS, read_results, render

LEAK = RunResult(
    scenario="embedded-run",
    mode="production",
    verdict="FAIL",
    must="PASS",
    reason="tracked +1 a run: <all> of them, 100%",
    reproduce="leakharness run embedded-run",
    growth=(Growth("tracked", 1.0, True, "grows: +250 in 250 runs"),),
    retainers=(
        Retainer("Transcript", 250, 500, ("sys.modules['app']", "app.KEPT[*]", "Transcript"), "app.KEPT", "250 kept"),
    ),
)
FIXED = RunResult(
    scenario="embedded-run", mode="closure-extracted", verdict="PASS", must="PASS", reason="no counter grows"
)
CONTROL = RunResult(
    scenario="embedded-run", mode="closure-inline", verdict="FAIL", must="FAIL", reason="grows as it must"
)
HUNG = RunResult(scenario="other", mode="default", verdict="NOT_JUDGED", must=None, reason="hung")
RESULTS = [r.document() for r in (LEAK, FIXED, CONTROL, HUNG)]


def test_junit_fails_what_did_not_give_what_it_must_and_nothing_else() -> None:
    root = ElementTree.fromstring(render(RESULTS, "junit").encode())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "1")
    failed = [(case.get("name"), case[0].tag) for case in root if len(case)]
    assert failed == [("production", "failure"), ("default", "error")]
    assert "app.KEPT[*]" in (root[0][0].text or "")


def test_sarif_has_one_result_for_each_bad_one_with_the_retainers_fingerprint() -> None:
    document = json.loads(render(RESULTS, "sarif"))
    assert document["version"] == "2.1.0"
    leak, hung = document["runs"][0]["results"]
    assert (leak["level"], hung["level"]) == ("error", "warning")
    assert leak["partialFingerprints"] == {"retainer/1": "app.KEPT"}


def test_github_commands_are_one_line_each_and_escaped() -> None:
    lines = render(RESULTS, "github").splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::notice", "::notice", "::warning"]
    assert "100%25" in lines[0]
    assert "%0A" in lines[0]


def test_html_escapes_and_markdown_has_a_row_for_each() -> None:
    assert "&lt;all&gt;" in render(RESULTS, "html")
    assert render(RESULTS, "markdown").count("| embedded-run |") == 3


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_no_result_at_all(name: str) -> None:
    assert isinstance(render([], name), str)


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(OptionError, match="markdown, html, junit, sarif, github"):
        render(RESULTS, "pdf")


def test_results_are_read_from_folders_and_files_arms_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "run.json").write_text(json.dumps(LEAK.document()))
    certificate = Certificate("embedded-run", "LEAK", "leaks", (LEAK, FIXED)).document()
    (tmp_path / "certificate.json").write_text(json.dumps(certificate))
    found: list[dict[str, Any]] = read_results([tmp_path / "one", tmp_path / "certificate.json"])
    assert [row["mode"] for row in found] == ["production", "production", "closure-extracted"]


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "other"}'])
def test_what_is_no_result_is_a_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match=r"run\.json"):
        read_results([tmp_path])
