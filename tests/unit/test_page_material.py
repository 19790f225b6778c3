"""What a page takes from the files at hand: sources of the closure and its registration, dominators, calibrations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leakharness.model import Retainer, RunResult
from leakharness.page_material import calibrations_in, gathered
from leakharness.report.formats import render_documents

SOURCE = """def attempt(signal, transcript):
    def on_settled(future):
        return transcript

    signal.add_done_callback(on_settled)
    signal.listeners.append(on_settled)
"""


def document(file: str, *snapshots: str) -> dict[str, Any]:
    path = ("harness: wedged()", "Future._callbacks", f"on_settled ({file}:2) closure cell 'transcript'", "Transcript")
    held = Retainer("Transcript", 250, 500, path, "on_settled", "250 Transcript are held")
    result = RunResult(
        scenario="s",
        mode="m",
        verdict="FAIL",
        must="FAIL",
        reason="x",
        reproduce="r",
        retainers=(held,),
        snapshots=snapshots,
    )
    return result.document()


def calibration(runs: int) -> dict[str, Any]:
    row = {"planted": "one object", "repeats": 3, "found": 3, "not_judged": 0, "runs": runs, "seen": "250"}
    about = {"schema": "leakharness.calibrate/1", "scenario": "s", "false_alarm_rate": 0.0, "reason": None}
    return {**about, "rows": [row]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_the_closure_and_its_registrations_are_shown(project: Path) -> None:
    """Where the file is below the current folder, on the page as well."""
    (project / "app.py").write_text(SOURCE)
    material = gathered([document("app.py")])
    assert [(excerpt.of, excerpt.hits) for excerpt in material.excerpts] == [
        ("function", (2,)),
        ("registration", (5, 6)),
    ]
    page = render_documents([document("app.py")], "html", material)
    assert "signal.add_done_callback(on_settled)" in page
    assert "signal.add_done_callback" not in render_documents([document("app.py")], "html")


def test_a_result_that_has_its_source_is_shown_with_that(project: Path) -> None:
    """And not with what the files have become since; an annotation goes by it as well."""
    (project / "app.py").write_text(SOURCE)
    own = [
        {"of": of, "file": "app.py", "line": 2, "first": first, "lines": [text], "hits": [first]}
        for of, first, text in (
            ("function", 2, "def on_settled(old):"),
            ("registration", 41, "old.connect(on_settled)"),
        )
    ]
    leak = {**document("app.py"), "must": "PASS", "excerpts": own}
    material = gathered([leak])
    assert material.excerpts == ()
    page = render_documents([leak], "html", material)
    assert "old.connect(on_settled)" in page
    assert "signal.add_done_callback" not in page
    assert "file=app.py,line=41," in render_documents([leak], "github", material)


def test_an_annotation_stands_where_the_closure_is_registered(project: Path) -> None:
    """Where that is known; else where it is defined. No snapshot is read for it."""
    leak = {**document("app.py", "gone.heapsnapshot"), "must": "PASS"}
    assert "file=app.py,line=2," in render_documents([leak], "github", gathered([leak], heaps=False))
    (project / "app.py").write_text(SOURCE)
    material = gathered([leak], heaps=False)
    assert material.heap_problems == {}
    assert "file=app.py,line=5," in render_documents([leak], "github", material)


@pytest.mark.parametrize("file", ["../secret.py", "secret.txt", "absent.py"])
def test_no_other_file_is_read_into_a_page(project: Path, file: str) -> None:
    """A stored result may come from anywhere: only Python sources, and none outside the project."""
    for path in (project.parent / "secret.py", project / "secret.txt"):
        path.write_text(SOURCE)
    assert not gathered([document(file)]).excerpts
    (project / "link.py").symlink_to(project.parent / "secret.py")
    assert not gathered([document("link.py")]).excerpts


def test_a_snapshot_that_is_not_at_hand_is_said(project: Path) -> None:
    """And one that is none."""
    (project / "x.heapsnapshot").write_text("{}")
    assert gathered([document("app.py", "gone.heapsnapshot")]).heap_problems == {
        "gone.heapsnapshot": "it is not at hand"
    }
    assert "x.heapsnapshot" in gathered([document("app.py", "x.heapsnapshot")]).heap_problems


def test_the_newest_calibration_of_a_scenario_is_taken(tmp_path: Path) -> None:
    """What is none is passed over."""
    for number, runs in (("1", 100), ("2", 200)):
        (tmp_path / number).mkdir()
        (tmp_path / number / "calibration.json").write_text(json.dumps(calibration(runs)))
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "calibration.json").write_text("[]")
    assert calibrations_in(tmp_path)["s"]["rows"][0]["runs"] == 200


def test_a_calibration_and_an_investigation_are_pages_too() -> None:
    """What the commands print as JSON; an investigation of an older version has less."""
    family = {
        "type": "app.<Session>",
        "size_delta": 4096,
        "count_delta": 64,
        "evidence": "held by REGISTRY",
        "path": ["(root)", "app.REGISTRY"],
        "rose_in": [1, 1],
        "file": None,
    }
    investigation = {
        "schema": "leakharness.investigation/1",
        "command": "report investigate x",
        "lane": "gw0",
        "pid": 7,
        "snapshots": 3,
        "before": "a",
        "after": "b",
        "nodes": [1, 2, 3],
        "likely": "runtime objects",
        "families": [family],
        "imported": [],
        "loaded_before": 0,
        "lanes": ["gw0 files=2"],
    }
    page = render_documents([calibration(250), investigation], "html")
    assert "one object" in page
    assert "gw0 files=2" in page
    assert "app.&lt;Session&gt;" in page
    assert "app.<Session>" not in page
