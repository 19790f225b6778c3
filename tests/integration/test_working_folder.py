"""A file of scenarios may be named from any folder: the project that it belongs to is the one that is worked in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import run_cli

from leakharness.scenario.project import project_of

CODE = "KEPT = []\nclass Thing:\n    pass\ndef handle():\n    return Thing()\n"
CASE = """
from leakharness import Scenario
scenario = Scenario("case", target="gw.agent:handle", track_types=("gw.agent:Thing",))
@scenario.mode("production", must="PASS", default=True, abort="none", needs_target=True)
def production(run):
    run.target()()
"""
QUICK = ("--iters", "5", "--batches", "3", "--quiet")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a module, a scenario and options of its own."""
    folder = tmp_path / "project"
    (folder / "gw").mkdir(parents=True)
    (folder / "scenarios").mkdir()
    (folder / "gw" / "agent.py").write_text(CODE)
    (folder / "scenarios" / "case.py").write_text(CASE)
    (folder / "pyproject.toml").write_text("[tool.leakharness]\nsnapshots = 'never'\nreport_dir = 'kept/reports'\n")
    return folder


def entries(folder: str) -> set[str]:
    return set(os.listdir(folder))


@pytest.mark.skipif(sys.platform == "win32", reason="a root of the file system is another thing there")
@pytest.mark.parametrize("start", ["the root", "another folder"])
def test_a_file_is_measured_in_its_project_from_anywhere(start: str, project: Path, tmp_path: Path) -> None:
    """Its modules, options and folders are the project's; the place it was started in stays as it was."""
    folder = Path("/") if start == "the root" else tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    before = entries(str(folder))
    answer = run_cli(folder, "run", str(project / "scenarios" / "case.py"), *QUICK)
    assert answer.code == 0, answer.stderr + answer.stdout
    assert "tracked objects retained" in answer.stdout  # Thing is followed: the module was found
    assert entries(str(folder)) == before
    assert len(list((project / "kept" / "reports").iterdir())) == 1
    assert str(project / "scenarios" / "case.py") in answer.stdout.partition("reproduce")[2].replace("\n", "")


def test_below_the_project_its_modules_are_found_as_well(project: Path) -> None:
    """What was started in the project works where it was started, and its folder is on the import path."""
    answer = run_cli(project / "scenarios", "run", "case.py", *QUICK)
    assert answer.code == 0, answer.stderr + answer.stdout
    assert (project / "scenarios" / "kept" / "reports").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a root of the file system is another thing there")
def test_nothing_is_written_into_the_root_of_the_file_system(tmp_path: Path) -> None:
    """A scenario of no project, from there: reports and snapshots go to the user's cache."""
    before = entries("/")
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    answer = run_cli(Path("/"), "run", "embedded-run", "--scope-bytes", "10", *QUICK, env=cache)
    assert answer.code == 0, answer.stderr + answer.stdout
    assert entries("/") == before
    assert entries(str(tmp_path / "leakharness" / "work")) == {".tmp", "reports"}


def test_places_given_on_the_command_line_are_from_where_it_was_started(project: Path, tmp_path: Path) -> None:
    answer = run_cli(tmp_path, "run", "project/scenarios/case.py", "--report-dir", "mine", *QUICK)
    assert answer.code == 0, answer.stderr + answer.stdout
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_a_folder_without_marks_is_its_own_project(tmp_path: Path) -> None:
    """Or what lies above a folder called scenarios."""
    file = tmp_path / "scenarios" / "case.py"
    assert project_of(file) == (tmp_path.resolve(), False)
    assert project_of(tmp_path / "case.py") == (tmp_path.resolve(), False)
    (tmp_path / "setup.cfg").touch()
    assert project_of(file) == (tmp_path.resolve(), True)


@pytest.mark.slow
def test_only_the_latest_reports_are_kept(tmp_path: Path) -> None:
    """Where nobody named the folder: two runs, one report, and git sees none."""
    (tmp_path / "case.py").write_text(
        "from leakharness import Scenario\ns = Scenario('case')\n"
        "@s.mode('one', must='PASS', default=True, abort='none')\ndef one(run): pass\n"
    )
    for _ in range(2):
        assert run_cli(tmp_path, "run", "case.py", "--keep", "1", *QUICK).code == 0
    assert sorted(entries(str(tmp_path / "reports")))[0] == ".gitignore"
    assert len(entries(str(tmp_path / "reports"))) == 2
