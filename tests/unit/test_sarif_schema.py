"""SARIF against the schema of its standard: ``LEAKHARNESS_NODE_MODULES`` is a ``node_modules`` folder with
``@microsoft/jest-sarif``, which has that file (``npm install --ignore-scripts @microsoft/jest-sarif``). A closed schema
of ours, of the parts that are written, is checked everywhere else."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leakharness.report.formats import render
from tests.unit.test_plugin_report_formats import CONTROL, FIXED, HUNG, LEAK

jsonschema = pytest.importorskip("jsonschema")
FOLDER = Path(os.environ.get("LEAKHARNESS_NODE_MODULES", "")) / "@microsoft" / "jest-sarif" / "lib" / "schemas"
FOUND = sorted(FOLDER.glob("sarif-2.1.0*.json"))
pytestmark = pytest.mark.skipif(not FOUND, reason="LEAKHARNESS_NODE_MODULES names no folder with @microsoft/jest-sarif")

ATTACK = "<&>\"'%:,\n\x1b[31m\ud800 \u202e"
PLACED = replace(LEAK, retainers=(replace(LEAK.retainers[0], path=("f (a dir/\u00e4 b.py:97) closure cell 'x'", "T")),))
RESULTS = {
    "none": [],
    "passes": [FIXED, CONTROL],
    "fails": [LEAK, HUNG],
    "with a place": [PLACED, replace(LEAK, where="/abs/scenarios/x.py:18")],
    "hostile": [replace(LEAK, scenario=ATTACK, mode=ATTACK, reason=ATTACK, where=f"{ATTACK}:0")],
    "blind detector": [replace(FIXED, must="FAIL")],
}


def validator() -> Any:
    schema = json.loads(FOUND[-1].read_bytes())
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("name", RESULTS)
def test_it_keeps_to_the_standard(name: str) -> None:
    """And every result has a rule that is there, and a location, without which code scanning refuses the file."""
    document = json.loads(render([result.document() for result in RESULTS[name]], "sarif"))
    validator().validate(document)
    (run,) = document["runs"]
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    for rule in rules.values():
        assert rule["help"]["text"]
        assert rule["helpUri"].startswith("https://")
    for result in run["results"]:
        assert result["ruleId"] in rules
        assert result["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1


def test_the_schema_refuses_what_is_wrong() -> None:
    """A result without a message, or at a level that the standard does not have."""
    document = json.loads(render([LEAK.document()], "sarif"))
    document["runs"][0]["results"][0]["level"] = "fatal"
    assert not validator().is_valid(document)
