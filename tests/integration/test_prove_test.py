"""``prove`` of a test of the suite by its id: the test as it is here, on the code of each side."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import run_cli

from leakharness.errors import UsageError
from leakharness.measure.arm import Settings, run_found
from leakharness.model import RunResult
from leakharness.proof.revisions import Revision
from leakharness.proof.sides import PRODUCTION, Side
from leakharness.proof.suite_test import ROOT, is_test, scenario_of, with_test
from leakharness.scenario.find import ScenarioRef, find

LEAKY = "KEPT = []\nclass Thing:\n    pass\ndef handle(n):\n    KEPT.append(Thing())\n    return n\n"
TESTS = """
import pytest
from gw.agent import handle
@pytest.mark.parametrize("n", [1, 2])
def test_handle(number, n):
    assert handle(n) + number == n + 3
def test_fails(number):
    assert number == 4
"""
NODE = "tests/test_agent.py::test_handle[1]"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose code leaks, with a suite; the current folder."""
    folder = tmp_path / "project"
    for name, text in {
        "gw/__init__.py": "",
        "gw/agent.py": LEAKY,
        "tests/conftest.py": "import pytest\n@pytest.fixture\ndef number():\n    return 3\n",
        "tests/test_agent.py": TESTS,
        "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['.']\naddopts = '--no-such-option'\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return folder


def measured(node: str, project: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> RunResult:
    monkeypatch.setenv(ROOT, str(project))
    settings = Settings({"iters": 5, "batches": 3, "snapshots": "never", "max_runs": 100})
    return run_found(scenario_of(find(node), project, folder), PRODUCTION, settings)


def test_the_body_of_the_test_is_the_run(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With its fixtures and its parameter, whatever options the project adds to a command line of pytest."""
    result = measured(NODE, project, monkeypatch, tmp_path)
    assert {row.counter: row.per_run for row in result.growth if row.counter == "objects"} == {"objects": 1.0}, (
        result.reason,
        result.detail,
    )


@pytest.mark.parametrize(("name", "says"), [("test_handle", "is 2 tests"), ("test_fails", "AssertionError")])
def test_what_is_not_one_test_that_passes_is_not_judged(
    name: str, says: str, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = measured(f"tests/test_agent.py::{name}", project, monkeypatch, tmp_path)
    assert result.verdict == "NOT_JUDGED"
    assert says in result.reason


def test_a_test_is_told_from_a_scenario(project: Path) -> None:
    assert is_test(find(NODE))
    (project / "case.py").write_text("from leakharness import Scenario\ns = Scenario('case')\n")
    assert not is_test(find("case.py::case"))
    assert not is_test(find("case.py::other"))
    assert not is_test(find("embedded-run"))


def test_each_side_gets_the_suite_and_keeps_its_code(project: Path, tmp_path: Path) -> None:
    """What the tree had in the suite's place is gone: a helper of then may not be one of now."""
    tree = tmp_path / "tree"
    (tree / "tests").mkdir(parents=True)
    (tree / "gw").mkdir()
    (tree / "gw" / "agent.py").write_text("then")
    (tree / "tests" / "old_helper.py").touch()
    side = with_test(Side(Revision(("x",)), "python", {"A": "1"}), find(NODE), project, tree)
    assert side.env == {"A": "1", ROOT: str(tree)}
    assert f"{tree}/" in side.roots
    assert sorted(os.listdir(tree / "tests")) == ["conftest.py", "test_agent.py"]
    assert (tree / "gw" / "agent.py").read_text() == "then"


def test_a_test_beside_the_code_comes_alone(project: Path, tmp_path: Path) -> None:
    (project / "gw" / "test_beside.py").write_text("def test_it(): pass\n")
    (project / "gw" / "conftest.py").touch()
    with_test(Side(Revision(("x",)), "python", {}), find("gw/test_beside.py::test_it"), project, tmp_path / "tree")
    assert sorted(os.listdir(tmp_path / "tree" / "gw")) == ["conftest.py", "test_beside.py"]


def test_a_test_of_elsewhere_is_a_usage_error(project: Path, tmp_path: Path) -> None:
    found = ScenarioRef("test_it", tmp_path / "test_x.py", 0, "file")
    with pytest.raises(UsageError, match="another project"):
        scenario_of(found, project, tmp_path)


@pytest.mark.slow
def test_a_fix_is_proven_by_a_test(project: Path) -> None:
    """From the command line; the test is new and in no revision, and the line to reproduce names it."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (project / "tests" / "test_agent.py").rename(project / "kept")
    for words in (["init", "-q"], ["add", "gw", "pyproject.toml"], ["commit", "-q", "-m", "leaky"]):
        subprocess.run([*git, *words], check=True)
    (project / "kept").rename(project / "tests" / "test_agent.py")
    (project / "gw" / "agent.py").write_text(LEAKY.replace("KEPT.append(Thing())", "Thing()"))
    sides = ("--before", "HEAD", "--after", ".", "--on-path", "--iters", "10", "--batches", "3")
    answer = run_cli(project, "prove", NODE, *sides, "--json", timeout=300.0)
    assert answer.code == 0, answer.stderr + answer.stdout
    document = answer.document
    assert document["verdict"] == "PROVEN"
    assert NODE in document["reproduce"]
    assert "Thing" in document["paths"]["vanished"][0]["target"]
