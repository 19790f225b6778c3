"""What the documentation says is so: commands, places in the code, scenarios that run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import leakharness
from leakharness.options_reference import reference

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
SCENARIOS = [
    (page, block)
    for page in PAGES
    for block in re.findall(r"^```python[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if "Scenario(" in block
]
PLACES = re.findall(
    r"^\| [^|]+ \| `([^`]+)` \(`([^`]+)`\) \|$",
    (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_the_test_command_of_the_readme_is_the_one_that_ci_runs() -> None:
    """Word for word, so that a reader's first command is the one that is known to work."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = next(line for line in readme.splitlines() if line.startswith("python3 -m venv") and "pytest" in line)
    assert command in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert command in (ROOT / "docs/tutorial.md").read_text(encoding="utf-8").splitlines()


def test_the_readme_fits_on_two_screens() -> None:
    """What it is, two commands, a certificate, a FAIL, where to read on; the rest is in docs/."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 125


def test_the_architecture_page_answers_five_questions() -> None:
    """One path each: descriptors, the fork of a snapshot, the wording, ``--max-runs``, scenario files in pytest."""
    assert len(PLACES) == 5


@pytest.mark.parametrize(("path", "held"), PLACES, ids=[path for path, _ in PLACES])
def test_what_the_architecture_page_names_is_there(path: str, held: str) -> None:
    """The file exists and holds the words that the page gives for it."""
    assert held in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), SCENARIOS, ids=[page.stem for page, _ in SCENARIOS])
def test_a_scenario_of_the_documentation_is_certified(page: Path, block: str, tmp_path: Path) -> None:
    """Copied from the page, it does what the page says; its production arm is left out, having no project here."""
    path = tmp_path / "documented.py"
    path.write_text(re.sub(r"\n *target=.*", "", block), encoding="utf-8")
    certificate = leakharness.check(str(path), iters=10, snapshots="never", snap_dir=str(tmp_path))
    assert certificate.verdict == "CERTIFIED", certificate


def test_the_page_of_options_is_the_table_of_the_code() -> None:
    """Each option with its least value: written by the hook of mkdocs, at the place that the page keeps for it."""
    hook = runpy.run_path(str(ROOT / "docs/generate_reference.py"))
    page = (ROOT / "docs/reference/options.md").read_text(encoding="utf-8")
    written = hook["on_page_markdown"](page)
    assert "generated:" not in written
    assert reference() in written
    assert "| At least |" in written


def test_the_workflows_call_sessions_that_there_are() -> None:
    """CI runs what anybody runs: sessions of nox, by their names."""
    sessions = set(re.findall(r"@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8")))
    called = []
    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        called += re.findall(r"nox -s ([\w -]+)", path.read_text(encoding="utf-8"))
    assert called
    assert {word.rstrip("-") for line in called for word in line.split()} <= sessions
