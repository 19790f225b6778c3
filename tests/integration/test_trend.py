"""`trend`: stored results over dates and over commits, the budget of pyproject.toml, and the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from leakharness.cli import run_command_line
from leakharness.errors import OptionError
from leakharness.report.trend import Budget, Point, budget_from, points_of, trend_of
from leakharness.report.trend_page import trend_page
from tests.integration.test_prove_sides import git
from tests.unit.test_documents import DOCUMENT

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def arm(number: int, **changed: Any) -> dict[str, Any]:
    """A PASS of that day, with two objects a run on no counter that grows."""
    return {
        **DOCUMENT,
        "verdict": "PASS",
        "must": "PASS",
        "started": f"2026-01-{number:02}T00:00:00Z",
        "growth": [{"counter": "objects", "per_run": 0.01, "grows": False, "rule": "flat"}],
        "duration_s": 2.0,
        **changed,
    }


def certificate(folder: Path, number: int, **changed: Any) -> None:
    """A stored certificate: one arm that must PASS, and one that must FAIL."""
    place = folder / f"s-certificate-{number}"
    place.mkdir(parents=True)
    arms = [arm(number, **changed), {**arm(number), "mode": "synthetic-leak", "must": "FAIL"}]
    document = {"schema": "leakharness.check/1", "scenario": "s", "certificate": "CERTIFIED", "arms": arms}
    (place / "certificate.json").write_text(json.dumps(document))


def trend(capsysbinary: pytest.CaptureFixture[bytes], *words: str) -> tuple[int, str]:
    code = run_command_line(["trend", *words])
    return int(code or 0), capsysbinary.readouterr().out.decode()


def points(*changes: dict[str, Any]) -> list[Point]:
    return [point for n, changed in enumerate(changes) for point in points_of(arm(n, **changed), "", "", "", "file")]


def test_measurements_of_a_folder_over_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Oldest first; arms that must FAIL are none of them; one that cannot be read is named and left out."""
    monkeypatch.chdir(tmp_path)
    for number in (3, 1, 2):
        certificate(tmp_path / "reports", number, duration_s=float(number))
    (tmp_path / "reports" / "broken").mkdir()
    (tmp_path / "reports" / "broken" / "run.json").write_text('{"schema": "leakharness.run/1"}')
    code, text = trend(capsysbinary, "--json")
    document = json.loads(text)
    assert (code, document["outcome"]) == (0, "NO_BUDGET")
    assert [row["figures"]["duration_s"] for row in document["points"]] == [1, 2, 3]
    assert {row["mode"] for row in document["points"]} == {"m"}
    assert "broken/run.json" in document["notes"][0]
    code, text = trend(capsysbinary, "reports", "--out", "trend.html")
    assert text.startswith("NO_BUDGET  3 measurements of 1 arms")
    assert re.search("2026-01-02T00:00:00Z +PASS ", text)
    assert "▁▅█" in text or "▁▄█" in text
    assert (tmp_path / "trend.html").read_text().count("<circle") >= 3


def test_certificates_that_are_kept_in_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """One file that changes from commit to commit: a point for each, with the commit and its subject."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    (tmp_path / "kept").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "kept" / "sömething.json").write_text(json.dumps(arm(1, duration_s=float(number))))
        (tmp_path / "kept" / "other.json").write_text(json.dumps({"number": number}))
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", f"change {number}", "--date", f"2026-01-0{number}T00:00:00Z")
    code, text = trend(capsysbinary, "kept", "--from-git", "--json")
    rows = json.loads(text)["points"]
    assert code == 0
    assert [(row["subject"], row["figures"]["duration_s"]) for row in rows] == [(f"change {n}", n) for n in (1, 2, 3)]
    assert rows[-1]["label"] == git(tmp_path, "rev-parse", "HEAD")[:10]


def test_a_budget_of_pyproject_fails_the_command(tmp_path: Path) -> None:
    """Exit 1 where the newest is over it, and the figure is named; exit 2 for a figure that there is not."""
    for number in (1, 2):
        certificate(tmp_path / "reports", number, duration_s=float(number))
    project = tmp_path / "pyproject.toml"
    command = [sys.executable, "-m", "leakharness", "trend"]
    for text, code, said in (
        ("duration_s = 1.5", 1, "seconds is 2.0 s, allowed 1.5 s (over its limit)"),
        ("duration_s = 2", 0, "WITHIN"),
        ("speed = 2", 2, "trend-budget has no figure 'speed'"),
    ):
        project.write_text(f"[tool.leakharness.trend-budget]\n{text}\n")
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done


GROWS = {"growth": [{"counter": "objects", "per_run": 1.0, "grows": True, "rule": "grows"}]}


@pytest.mark.parametrize(
    ("budget", "changes", "figures"),
    [
        (Budget({"growth.objects": 0.5}), [{}, GROWS], ["growth.objects"]),
        (Budget({"growth.objects": 0.5}), [GROWS, {}], []),
        (Budget({"growth.rss": 0}), [{}], []),
        (Budget({"detectable.objects": 0.05}), [{}], ["detectable.objects"]),
        (Budget({"detectable.mapped_bytes": 9}), [{}], ["detectable.mapped_bytes"]),
        (Budget({}, 0.5), [{}, {}, {}, {"duration_s": 3.1}], ["duration_s"]),
        (Budget({}, 0.5), [{}, {}, {}, {"duration_s": 2.9}], []),
        (Budget({}, 0.5), [{}, {}, {}, GROWS], ["growth.objects"]),
        (Budget({}, 0.5), [GROWS, {}, {}, GROWS], []),
        (Budget({}, 0.5), [{}, {}, {"duration_s": 99.0}], []),
    ],
)
def test_what_is_over_a_budget(budget: Budget, changes: list[dict[str, Any]], figures: list[str]) -> None:
    """Limits hold for the newest measurement; a rise is told by three before it, of which one may be an outlier."""
    trend = trend_of(points(*changes), budget)
    assert [one.figure for one in trend.over] == figures
    assert trend.exit_code == bool(figures)
    assert bool(trend.notes) == (budget.rise is not None and len(changes) <= 3)


@pytest.mark.parametrize(
    "table", [[], {"rise": -1}, {"growth": {"objects": True}}, {"growth": {"noise": 1}}, {"x": "1"}]
)
def test_a_budget_that_means_nothing_is_refused(table: Any) -> None:
    with pytest.raises(OptionError, match="budget"):
        budget_from(table, "pyproject.toml")


def test_texts_of_a_result_are_no_markup_on_the_page() -> None:
    """Hostile names, commits and subjects."""
    hostile = [
        point
        for n in (1, 2)
        for point in points_of(arm(n, scenario=HOSTILE, mode=HOSTILE), str(n), HOSTILE, HOSTILE, HOSTILE)
    ]
    text = trend_page(trend_of(hostile, Budget({"duration_s": 1}, 0.1)))
    assert "<script" not in text
    assert "over the budget" in text
    assert "http" not in text.replace("http-equiv", "")
