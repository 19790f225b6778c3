"""Finding scenarios by name or file, without importing them."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from leakharness.errors import ScenarioError, UnknownScenario
from leakharness.scenario import find as discovery
from leakharness.scenario.find import ScenarioRef, all_scenarios, find, find_outline

ONE = "from leakharness import Scenario\n\nscenario = Scenario('{}')\n"


def write(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(ONE.format(name) for name in names))
    return path


@pytest.fixture(autouse=True)
def nothing_packaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a test puts there is found."""
    monkeypatch.setattr(discovery, "packaged_folder", lambda: tmp_path / "packaged")
    monkeypatch.setattr(discovery, "entry_points", lambda group: [])


def test_a_name_in_the_scenarios_folder(tmp_path: Path) -> None:
    """With the line of its declaration; nothing is imported."""
    path = write(tmp_path / "scenarios" / "a.py", "one")
    path.write_text(path.read_text() + "raise SystemExit('imported')\n")
    assert find("one", tmp_path) == ScenarioRef("one", path, 3, "./scenarios")


def test_a_packaged_name(tmp_path: Path) -> None:
    """From any folder."""
    path = write(tmp_path / "packaged" / "a.py", "one")
    assert find("one", tmp_path / "elsewhere") == ScenarioRef("one", path, 3, "packaged")


def test_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``name = package.module``: the module's file is read, the package is imported by nobody but the import system."""
    path = write(tmp_path / "site" / "their_scenarios.py", "theirs", "too")
    monkeypatch.syspath_prepend(tmp_path / "site")
    entry = EntryPoint("theirs", "their_scenarios", "leakharness.scenarios")
    monkeypatch.setattr(discovery, "entry_points", lambda group: [entry])
    assert find("theirs", tmp_path) == ScenarioRef("theirs", path, 3, "entry point")
    assert find("too", tmp_path).line == 6


def test_an_entry_point_that_leads_nowhere_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An uninstalled module must not break every command."""
    entries = [EntryPoint("x", value, "leakharness.scenarios") for value in ("nothing_like_it", "nothing.like.it", "")]
    monkeypatch.setattr(discovery, "entry_points", lambda group: entries)
    write(tmp_path / "scenarios" / "a.py", "one")
    assert [found.name for found in all_scenarios(tmp_path)] == ["one"]


@pytest.mark.parametrize(
    "reference", ["scenarios/a.py", "./scenarios/a.py", "scenarios/a.py::one", "{}/scenarios/a.py"]
)
def test_a_file(reference: str, tmp_path: Path) -> None:
    """Relative to the folder, or absolute; with or without the name."""
    path = write(tmp_path / "scenarios" / "a.py", "one")
    found = find(reference.format(tmp_path), tmp_path)
    assert (found.name, found.path.resolve(), found.line, found.origin) == ("one", path, 3, "file")


def test_a_file_of_two(tmp_path: Path) -> None:
    """The name says which; without one it is an error that names them."""
    write(tmp_path / "a.py", "one", "two")
    assert find("a.py::two", tmp_path).line == 6
    with pytest.raises(ScenarioError, match=r"several scenarios here \(one, two\): say which with a.py::NAME"):
        find("a.py", tmp_path)


def test_a_name_that_is_built_at_run_time(tmp_path: Path) -> None:
    """Text does not tell it: the measured process looks for it."""
    path = tmp_path / "a.py"
    path.write_text("from leakharness import Scenario\ns = Scenario('o' + 'ne')\n")
    assert find("a.py", tmp_path) == ScenarioRef(None, path, 0, "file")
    assert find("a.py::one", tmp_path) == ScenarioRef("one", path, 0, "file")


@pytest.mark.parametrize("call", ["leakharness.Scenario('one')", "Scenario(name='one')", "L.Scenario('one', iters=3)"])
def test_how_it_may_be_written(call: str, tmp_path: Path) -> None:
    """By attribute, by keyword."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "a.py").write_text(f"s = {call}\n")
    assert find("one", tmp_path).line == 1


def test_an_unknown_name_says_what_there_is(tmp_path: Path) -> None:
    """And where it was looked for."""
    write(tmp_path / "scenarios" / "a.py", "one")
    write(tmp_path / "packaged" / "b.py", "two")
    with pytest.raises(UnknownScenario, match=r"no scenario 'three' in ./scenarios .*; there are: one, two"):
        find("three", tmp_path)
    with pytest.raises(UnknownScenario, match="there are: none"):
        find("three", tmp_path / "elsewhere" / "deep") if (tmp_path / "packaged" / "b.py").unlink() is None else None


def test_a_name_found_twice_names_both_files(tmp_path: Path) -> None:
    """In two files of one folder, or here and in the package."""
    one = write(tmp_path / "scenarios" / "a.py", "one")
    two = write(tmp_path / "scenarios" / "b.py", "one", "other")
    with pytest.raises(ScenarioError) as caught:
        find("one", tmp_path)
    assert f"{one}:3" in str(caught.value)
    assert f"{two}:3" in str(caught.value)
    two.unlink()
    packaged = write(tmp_path / "packaged" / "b.py", "one", "other")
    with pytest.raises(ScenarioError, match="declared twice") as caught:
        find("one", tmp_path)
    assert f"{packaged}:3" in str(caught.value)
    assert find("other", tmp_path).path == packaged


def test_a_name_found_twice_in_one_file(tmp_path: Path) -> None:
    """Both lines."""
    path = write(tmp_path / "scenarios" / "a.py", "one", "one")
    with pytest.raises(ScenarioError, match="declared twice") as caught:
        find("one", tmp_path)
    assert f"{path}:3" in str(caught.value)
    assert f"{path}:6" in str(caught.value)
    with pytest.raises(ScenarioError, match=r"a.py:6: scenario 'one' is declared twice \(line 3\)"):
        find("scenarios/a.py::one", tmp_path)
    with pytest.raises(ScenarioError, match=r"a.py:6: scenario 'one' is declared twice \(line 3\)"):
        find("scenarios/a.py", tmp_path)


def test_an_installed_copy_counts_once(tmp_path: Path) -> None:
    """A checkout's file and the same file in the package are one scenario; a changed copy is another."""
    path = write(tmp_path / "scenarios" / "a.py", "one")
    copy = write(tmp_path / "packaged" / "a.py", "one")
    assert [found.path for found in all_scenarios(tmp_path)] == [path]
    copy.write_text(copy.read_text() + "# changed\n")
    with pytest.raises(ScenarioError, match="declared twice"):
        find("one", tmp_path)


MODE = "@scenario.mode('closure-inline', must='FAIL')\ndef inline(run):\n    pass\n"


def test_a_copy_of_a_packaged_file_has_its_outline(tmp_path: Path) -> None:
    """What can be run by its name can be compared by it: ``shape`` asks the finder that ``run`` asks."""
    path = write(tmp_path / "scenarios" / "a.py", "one")
    path.write_text(path.read_text() + MODE)
    copy = write(tmp_path / "packaged" / "a.py", "one")
    copy.write_text(path.read_text())
    outline = find_outline("one", tmp_path)
    assert (outline.file, outline.modes) == (path, {"closure-inline": ("inline", "FAIL")})


def test_an_entry_point_has_its_outline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scenario that an installed package offers is known to ``shape``, too."""
    path = write(tmp_path / "site" / "offered_scenarios.py", "offered")
    path.write_text(path.read_text() + MODE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    entry = EntryPoint("offered", "offered_scenarios", "leakharness.scenarios")
    monkeypatch.setattr(discovery, "entry_points", lambda group: [entry])
    assert find_outline("offered", tmp_path).modes == {"closure-inline": ("inline", "FAIL")}


def test_an_outline_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    """A name that the file has not, and a declaration that only running the file would show."""
    path = write(tmp_path / "scenarios" / "a.py", "one")
    with pytest.raises(UnknownScenario, match=r"no scenario 'two' in .*a.py; there are: one"):
        find_outline("scenarios/a.py::two", tmp_path)
    path.write_text("from leakharness import Scenario\nmade = [Scenario('one')]\n")
    with pytest.raises(ScenarioError, match=r"a.py:2: scenario 'one' is not declared as NAME = Scenario"):
        find_outline("one", tmp_path)


def test_the_same_folder_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the checkout ./scenarios is the packaged folder."""
    write(tmp_path / "scenarios" / "a.py", "one")
    monkeypatch.setattr(discovery, "packaged_folder", lambda: tmp_path / "scenarios")
    assert len(all_scenarios(tmp_path)) == 1


def test_files_that_are_none(tmp_path: Path) -> None:
    """Private files, other suffixes and folders are not looked at."""
    write(tmp_path / "scenarios" / "_shared.py", "one")
    write(tmp_path / "scenarios" / "deep" / "b.py", "two")
    write(tmp_path / "scenarios" / "c.txt", "three")
    assert all_scenarios(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"x = 1\ndef (:\n", r"broken.py:2: "),
        (b"\0\xff", r"broken.py"),
        (b"x = '\xff'\n", r"broken.py"),
        (b"(" * 300 + b")" * 300, r"broken.py:1: "),
    ],
)
def test_a_file_that_is_no_python(data: bytes, wanted: str, tmp_path: Path) -> None:
    """An error that names file and, where known, line."""
    (tmp_path / "broken.py").write_bytes(data)
    with pytest.raises(ScenarioError, match=wanted):
        find("broken.py", tmp_path)


def test_one_broken_file_does_not_hide_the_others(tmp_path: Path) -> None:
    """A name that is found elsewhere is still found; the broken file is an error only when it is asked for."""
    write(tmp_path / "scenarios" / "good.py", "one")
    (tmp_path / "scenarios" / "broken.py").write_text("def (:")
    assert find("one", tmp_path).name == "one"
    with pytest.raises(ScenarioError, match=r"broken.py:1"):
        find("nothing", tmp_path)


def test_the_packaged_folder_is_there() -> None:
    """Beside the package in a checkout, inside it when installed."""
    package = Path(discovery.__file__).parent.parent
    assert (package / "scenarios").is_dir() or (package.parent / "scenarios" / "embedded_run.py").is_file()


def test_a_name_in_pieces_is_found_like_any_other(tmp_path: Path) -> None:
    """Files whose text does not have the name are read only where no other declares it."""
    folder = tmp_path / "scenarios"
    folder.mkdir()
    (folder / "pieces.py").write_text("scenario = Scenario('in-' 'pieces')\n")
    (folder / "broken.py").write_text("def:\n")
    (folder / "whole.py").write_text("scenario = Scenario('whole')\n")
    assert find("whole", tmp_path).path.name == "whole.py"
    assert find("in-pieces", tmp_path).path.name == "pieces.py"
    with pytest.raises(ScenarioError, match=r"broken\.py:1"):
        find("in-neither", tmp_path)
