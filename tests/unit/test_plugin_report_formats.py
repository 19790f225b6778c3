"""Stored results in other tools' formats."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leakharness.errors import OptionError, UsageError
from leakharness.model import Certificate, Family, Growth, Reading, Retainer, RunResult
from leakharness.report.formats import FORMATS, read_documents, read_results, render, render_documents
from leakharness.report.retainer_tree import vanished_edge

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
    failed = [(case.get("name"), part.tag) for case in root for part in case if part.tag != "properties"]
    assert failed == [("production", "failure"), ("default", "error")]
    assert "app.KEPT[*]" in (root[0].findtext("failure") or "")


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


@pytest.mark.parametrize("name", [*FORMATS, "html"])
def test_every_format_takes_no_result_at_all(name: str) -> None:
    assert isinstance(render([], name), str)


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(OptionError, match="markdown, junit, sarif, github, html"):
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


HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m\u202e\ud800{{ 7*7 }}\n::error::[bold]'\""
ATTACK = RunResult(
    scenario=HOSTILE,
    mode=HOSTILE,
    verdict="FAIL",
    must="PASS",
    reason=HOSTILE,
    reproduce=HOSTILE.replace("'", "").replace('"', ""),
    series=(Reading("baseline", 0, {"objects": 5, "rss": 0}), Reading("batch-1", 250, {"objects": 255, "rss": 5})),
    growth=(Growth("objects", 1.0, True, HOSTILE, declared=0.5), Growth(HOSTILE, 1.0, True, HOSTILE)),
    families=(Family(HOSTILE, 1.0, 48.0),),
    retainers=(Retainer(HOSTILE, 1, 5, (HOSTILE,), HOSTILE, HOSTILE, (HOSTILE,), HOSTILE),),
    forgiven=(HOSTILE,),
    notes=(HOSTILE,),
    blind={HOSTILE: HOSTILE},
    allocations=({"file": HOSTILE, "line": 3, "of": HOSTILE, "source": HOSTILE},),
    opinions=(HOSTILE,),
    detail=HOSTILE,
)


@pytest.mark.parametrize("name", [*FORMATS, "html"])
def test_names_of_the_program_steer_nothing_in_any_format(name: str) -> None:
    """No terminal escape, no bidirectional mark, no lone surrogate; no command of a CI log begins in a name."""
    text = render_documents([ATTACK.document()], name)
    assert all(c == "\n" or c.isprintable() for c in text)
    assert text.encode()
    if name == "junit":
        ElementTree.fromstring(text)
    if name == "github":
        assert [line for line in text.splitlines() if line.startswith("::")] == text.splitlines()
        assert text.count("\n") == 1


def test_the_page_escapes_everything_and_loads_nothing() -> None:
    """A hostile name becomes text, and no attribute of the page points to the network."""
    text = render_documents([ATTACK.document()], "html")
    assert "<img" not in text
    assert text.count("</script>") == 1
    assert "49" not in re.findall(r"\{\{.*?\}\}|49", text)
    assert not re.search(r"(src|href)=|https?://|url\(", text.replace("src=x", ""))


def test_the_page_of_a_certificate_says_certified_and_shows_each_arm_on_the_same_axes() -> None:
    """The verdict of the whole, not only of its arms; the line of an arm at rest lies at the bottom of the axes of the
    one that grows, and what is declared is taken out of the net line."""
    still = replace(FIXED, series=(Reading("baseline", 0, {"objects": 9}), Reading("batch-1", 250, {"objects": 9})))
    still = replace(still, growth=(Growth("objects", 0.0, False, "steady: stands still"),), blind={"fds": "no /proc"})
    grows = replace(CONTROL, series=(Reading("baseline", 0, {"objects": 9}), Reading("batch-1", 250, {"objects": 509})))
    grows = replace(grows, growth=(Growth("objects", 1.0, True, "grows", declared=1.0),))
    text = render_documents([Certificate("embedded-run", "CERTIFIED", "good", (still, grows)).document()], "html")
    assert re.search(r'<h1 id="s1"><span class="v good">CERTIFIED</span>\s+embedded-run', text)
    assert 'class="line" points="4.0,82.0 256.0,82.0"' in text
    assert 'class="raw" points="4.0,82.0 256.0,14.0"' in text
    assert 'class="line" points="4.0,82.0 256.0,48.0"' in text
    assert "fds (open descriptors): no /proc" in text
    assert "leakharness check embedded-run" in text


def test_a_proof_has_a_report_in_every_format(tmp_path: Path) -> None:
    """Both sides, the controls and the edge that vanished."""
    side = {"asked": ["1.0"], "commit": None, "source": "installed"}
    path = LEAK.retainers[0].document()
    proof = {
        "schema": "leakharness.prove/1",
        "scenario": "s",
        "mode": "production",
        "verdict": "PROVEN",
        "reason": "before leaks; after does not",
        "reproduce": "leakharness prove s",
        "before": {**side, "arms": [replace(LEAK, must="FAIL").document()]},
        "after": {**side, "arms": [FIXED.document()]},
        "controls": [CONTROL.document()],
        "paths": {"vanished": [path], "remaining": [], "new": []},
    }
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    documents = read_documents([tmp_path])
    for name in FORMATS:
        text = render_documents(documents, name)
        assert "before: production" in text.replace("%3A", ":") or name == "sarif"
    page = render_documents(documents, "html")
    assert re.search(r"PROVEN</span>\s+s", page)
    assert re.search(r'class="gone"[^<]*>✂ </span><span class="cut">Transcript</span>', page)  # in the tree of before
    assert "Vanished" not in page  # what the tree of before shows is not shown again
    unseen = {**proof, "paths": {**proof["paths"], "vanished": [{**path, "fingerprint": "another"}]}}
    assert "Vanished" in render_documents([unseen], "html")
    assert "sys.modules[&#39;app&#39;]" in page
    assert '<code>app.KEPT[*]</code> → <code class="bad">Transcript</code>' in page


@pytest.mark.parametrize(
    ("after", "edge"),
    [
        ([], 3),
        ([["root", "KEPT[*]", "Other"]], 3),  # says nothing of how the object was held
        ([["root", "other", "Transcript"]], 1),
        ([["root", "KEPT[*]", "other", "Transcript"], ["root", "Transcript"]], 2),
        ([["elsewhere", "Transcript"]], 3),
    ],
)
def test_the_edge_that_vanished(after: list[list[str]], edge: int) -> None:
    """The first that no other way to the same object shares; else the one to the object."""
    assert vanished_edge(["root", "KEPT[*]", "f closure cell 'x'", "Transcript"], after) == edge


def test_a_document_that_is_not_as_ours_is_a_usage_error() -> None:
    """Missing and wrong-typed parts are told, not raised as a bug."""
    for broken in (
        {"schema": "leakharness.run/1"},
        {**LEAK.document(), "growth": 5},
        {**LEAK.document(), "series": [3]},
    ):
        with pytest.raises(UsageError, match="not as this version writes it"):
            render_documents([broken], "html")


def test_annotations_and_sarif_point_at_the_line_of_the_closure() -> None:
    """The path's last line, else where the objects are born; rules say what to do."""
    path = ("harness: wedged()", "on_settled (app/gate.py:97) closure cell 'transcript'", "Transcript")
    at_line = replace(LEAK, retainers=(replace(LEAK.retainers[0], path=path),))
    born = replace(LEAK, allocations=({"file": "app/a b.py", "line": 3, "of": "x", "source": "y"},))
    rows = [at_line.document(), born.document(), LEAK.document()]
    lines = render(rows, "github").splitlines()
    assert lines[0].startswith("::error file=app/gate.py,line=97,title=")
    assert lines[1].startswith("::error file=app/a b.py,line=3,title=")
    assert lines[2].startswith("::error title=")
    run = json.loads(render(rows, "sarif"))["runs"][0]
    places = [result["locations"] for result in run["results"]]
    assert places[0] == [
        {"physicalLocation": {"artifactLocation": {"uri": "app/gate.py"}, "region": {"startLine": 97}}}
    ]
    assert places[1][0]["physicalLocation"]["artifactLocation"]["uri"] == "app/a%20b.py"
    assert places[2][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("scenarios/")
    assert all(rule["help"]["text"] and rule["shortDescription"]["text"] for rule in run["tool"]["driver"]["rules"])


def test_a_result_without_a_line_points_at_its_scenario() -> None:
    """GitHub refuses a SARIF result that has no location."""
    bad = replace(LEAK, where="scenarios/a b.py:7").document()
    (result,) = json.loads(render([bad], "sarif"))["runs"][0]["results"]
    (place,) = result["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "scenarios/a%20b.py"
    assert place["physicalLocation"]["region"]["startLine"] == 7
    assert render([bad], "github").startswith("::error file=scenarios/a b.py,line=7,title=")


def test_junit_says_when_how_long_and_what_a_result_rests_on() -> None:
    """Properties of each case, the time of all, and when the first began."""
    rows = [
        replace(LEAK, duration_s=1.5, started="2026-01-02T03:04:05Z", runs=250, python="3.12.1").document(),
        replace(LEAK, duration_s=2.0, started="2026-01-02T03:04:04Z").document(),
    ]
    suite = ElementTree.fromstring(render(rows, "junit").encode())
    assert (suite.get("time"), suite.get("timestamp")) == ("3.500", "2026-01-02T03:04:04")
    properties = {p.get("name"): p.get("value") for p in suite[0].iter("property")}
    assert (properties["runs"], properties["python"], properties["must"]) == ("250", "3.12.1", LEAK.must)
    assert suite[0].find("failure") is not None
