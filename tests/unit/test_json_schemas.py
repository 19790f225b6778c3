"""The JSON Schemas in the documentation are those of the types, and what the tool writes keeps to them."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from leakharness.documents import RunDocument, validated
from leakharness.errors import UsageError
from leakharness.model import Certificate
from leakharness.proof.bisect import Bisection
from leakharness.proof.bisection import Found, History
from leakharness.proof.history import Range
from leakharness.proof.prove import Proof
from leakharness.proof.revisions import Revision
from leakharness.proof.seal import Verification
from leakharness.proof.sides import Question, Side
from leakharness.report.trend import Budget, Point, points_of, trend_of
from leakharness.suite.hotspots import Hotspot, Manifest
from tests.unit.test_documents import DOCUMENT, RESULT, paths_of

jsonschema = pytest.importorskip("jsonschema")
DOCS = Path(__file__).parents[2] / "docs"


def generator() -> Any:
    """The module that writes the schemas: one, however often this file is imported, for types refer to one another by
    its name."""
    if "json_schemas" in sys.modules:
        return sys.modules["json_schemas"]
    spec = importlib.util.spec_from_file_location("json_schemas", DOCS / "json_schemas.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where its types are looked up
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()


def validator(name: str) -> Any:
    schema = json.loads((DOCS / "reference" / "schemas" / f"{name}.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", GENERATOR.DOCUMENTS)
def test_the_files_are_those_of_the_types(name: str) -> None:
    """``python docs/json_schemas.py`` writes them."""
    path = DOCS / "reference" / "schemas" / f"{name}.schema.json"
    assert path.read_text(encoding="utf-8") == GENERATOR.text_of(name)


def side(*asked: str) -> Side:
    return Side(Revision(asked, None, asked), "python", {}, {"numpy": "1"})


def bisection() -> dict[str, Any]:
    history = History("c0", "c1", {"c1": ["c0"]})
    subjects = {name: Revision((name,), name, ()) for name in ("c0", "c1")}
    step: Any = {"revision": "c1", "subject": "s", "verdict": "FAIL", "reason": "r", "duration_s": 1.5}
    steps = ({**step, "result": RESULT.document()}, {**step, "revision": "c0", "verdict": "NOT_JUDGED"})
    question = Question(["c1"], ["c0"])
    found = Found("c1", "c0")
    return Bisection("s", question, Range(history, subjects), found, steps, "s", Path("reports"), RESULT).document()


def measured(seconds: float) -> list[Point]:
    return points_of({**RESULT.document(), "duration_s": seconds}, f"t{seconds}", "", "", "file")


WRITTEN = {
    "trend": trend_of(measured(1) + measured(2), Budget({"duration_s": 1, "detectable.mapped_bytes": 1})).document(),
    "bisect": bisection(),
    "run": RESULT.document(),
    "check": Certificate("s", "LEAK", "r", (RESULT,), ("note",)).document(),
    "prove": Proof(
        "s",
        "production",
        "NOT_FIXED",
        "r",
        {"before": side("a==1"), "after": side("a==2")},
        (RESULT,),
        (RESULT,),
        (RESULT,),
    ).document(),
    "verify": Verification("STALE", "LEAK", ("r",), ("n",)).document(),
    "hotspots": Manifest((Hotspot("tests/test_a.py", 5, 1, ("a",)),), 7, 2, ("b",)).document(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_keeps_to_its_schema(name: str) -> None:
    validator(name).validate(json.loads(json.dumps(WRITTEN[name])))


def test_the_schema_and_the_reader_agree() -> None:
    """Each place of a result replaced by a value of another type: both refuse it, or neither does."""
    schema = validator("run")
    for place in paths_of(DOCUMENT):
        for wrong in (None, True, 1.5, "text", [], {}):
            document = copy.deepcopy(DOCUMENT)
            holder = document
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = wrong
            assert schema.is_valid(document) == is_read(document), (place, wrong)


def is_read(document: Any) -> bool:
    try:
        validated(RunDocument, document, "x")
    except UsageError:
        return False
    return True
