"""The GitHub Action does what the page on CI says: its script, with a stand-in for the runner."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from leakharness.report.formats import render
from tests.unit.test_documents import DOCUMENT

ROOT = Path(__file__).parents[2]
ACTION = (ROOT / "action.yml").read_text(encoding="utf-8")
FORMATS = ("github", "markdown", "html", "junit", "sarif")


def script() -> str:
    """The text below the first ``run: |``, without its indentation."""
    lines = ACTION.split("      run: |\n", 1)[1].splitlines()
    end = next(number for number, line in enumerate(lines) if line and not line.startswith(" " * 8))
    return "\n".join(line[8:] for line in lines[:end])


def test_it_has_three_inputs_and_the_page_names_them() -> None:
    inputs = re.findall(r"^  (\w+):$", ACTION.split("inputs:", 1)[1].split("outputs:", 1)[0], re.MULTILINE)
    page = (ROOT / "docs/how-to/run-it-in-ci.md").read_text(encoding="utf-8")
    assert inputs == ["scenarios", "python", "install"]
    assert all(f"| `{name}` |" in page for name in inputs)


def test_no_input_is_part_of_the_script() -> None:
    """What a workflow gives reaches the shell as a variable: it is no code."""
    assert "${{" not in script()


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_script_renders_every_format_and_keeps_the_exit_code(code: int, tmp_path: Path) -> None:
    """With stand-ins for the environment that it makes and for the tool, which write down what they are asked."""
    tool, stand_ins = tmp_path / "leakharness", tmp_path / "bin"
    (tool / "venv" / "bin").mkdir(parents=True)
    stand_ins.mkdir()
    log = tmp_path / "log"
    asked = f'#!/bin/sh\necho "$@" >> {log}\n'
    made = f'[ "$1" = check ] && mkdir -p {tool}/reports/one {tool}/reports/two && exit {code}\necho shown\n'
    for path, text in (
        (tool / "venv/bin/leakharness", asked + made),
        (tool / "venv/bin/pip", asked),
        (stand_ins / "python", asked),
    ):
        path.write_text(text)
        path.chmod(0o755)
    names = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    given = {"SCENARIOS": "a b", "MEASURED": "python", "INSTALL": "x", "RUNNER_TEMP": str(tmp_path)}
    path = f"{stand_ins}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script()], env={**os.environ, **names, **given, "PATH": path}, check=False)
    assert done.returncode == code
    lines = log.read_text().splitlines()
    assert any(line.startswith(f"check a b --python {stand_ins}/python --report-dir") for line in lines)
    assert [line.split("--format ")[1].split()[0] for line in lines if line.startswith("report")] == list(FORMATS)
    assert "sarif=" in Path(names["GITHUB_OUTPUT"]).read_text().splitlines()[-1]
    assert Path(names["GITHUB_STEP_SUMMARY"]).read_text() == "shown\n"


@pytest.mark.parametrize(
    ("where", "path", "uri", "line"),
    [
        ("scenarios/s.py:7", "f (app/x.py:3)", "app/x.py", 3),
        ("scenarios/s.py:7", "app.KEPT[*]", "scenarios/s.py", 7),
        ("", "app.KEPT[*]", "scenarios/my_leak.py", 1),
        ("/else where/s.py:7", "app.KEPT[*]", "file:///else%20where/s.py", 7),
    ],
)
def test_a_result_in_sarif_has_a_location_and_its_rule_is_explained(where: str, path: str, uri: str, line: int) -> None:
    """The closure's line, else the scenario's; code scanning refuses a result without any."""
    retainers = [{**DOCUMENT["retainers"][0], "path": [path]}]
    document: dict[str, Any] = {**DOCUMENT, "scenario": "my-leak", "where": where, "retainers": retainers}
    run = json.loads(render([document], "sarif"))["runs"][0]
    (result,) = run["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == (uri, line)
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    assert rules[result["ruleId"]]["help"]["text"]
    assert rules[result["ruleId"]]["defaultConfiguration"]["level"] == result["level"]


TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
URI = {"type": "string", "format": "uri-reference", "pattern": r"^[^\s\\\\]+$"}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """An object with these properties and no others, as SARIF's own schema has it."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


REGION = closed([], startLine={"type": "integer", "minimum": 1})
PLACE = closed([], artifactLocation=closed([], uri=URI), region=REGION)
RULE = closed(
    ["id"],
    id={"type": "string"},
    name={"type": "string"},
    shortDescription=TEXT,
    fullDescription=TEXT,
    help=TEXT,
    helpUri={"type": "string", "pattern": "^https://"},
    defaultConfiguration=closed([], level=LEVEL),
)
RESULT = closed(
    ["message", "locations"],
    ruleId={"type": "string"},
    level=LEVEL,
    message=TEXT,
    locations={"type": "array", "minItems": 1, "items": closed([], physicalLocation=PLACE)},
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
)
DRIVER = closed(
    ["name"],
    name={"type": "string"},
    informationUri={"type": "string"},
    rules={"type": "array", "uniqueItems": True, "items": RULE},
)
SARIF = closed(
    ["version", "runs"],
    **{"$schema": {"type": "string"}},
    version={"enum": ["2.1.0"]},
    runs={
        "type": "array",
        "items": closed(["tool"], tool=closed(["driver"], driver=DRIVER), results={"type": "array", "items": RESULT}),
    },
)
"""What SARIF 2.1.0 (OASIS, sections 3.13 to 3.52) says of the properties that are written here; and that a result has a
location, which code scanning asks for."""


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "NOT_JUDGED"])
@pytest.mark.parametrize("must", ["PASS", "FAIL", None])
def test_sarif_has_the_shape_of_its_standard(verdict: str, must: str | None) -> None:
    """Every verdict, with and without a place, and with a name that is no URI."""
    jsonschema = pytest.importorskip("jsonschema")
    rows = [
        {**DOCUMENT, "verdict": verdict, "must": must, "where": where}
        for where in ("", "a b.py:1", "C:\\x\\s.py:2", "\u00e4:3")
    ]
    document = json.loads(render(rows, "sarif"))
    jsonschema.Draft7Validator(SARIF).validate(document)
    wrong = json.loads(render([{**DOCUMENT, "must": "PASS"}], "sarif"))
    wrong["runs"][0]["results"][0]["locations"] = []
    assert not jsonschema.Draft7Validator(SARIF).is_valid(wrong)
