"""The source that a result keeps of what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from leakharness.excerpts import Sources, excerpts_of, library_folders, with_excerpts
from leakharness.model import Excerpt, Retainer, RunResult

SOURCE = """def attempt(signal, transcript):
    if transcript:

        @signal.on("settled")
        def on_settled(future):
            return transcript

        signal.add_done_callback(on_settled)

    signal.listeners.append(lambda _: transcript)
"""


def found(folder: Path, *steps: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(excerpt.of, excerpt.hits) for excerpt in excerpts_of([steps], [], Sources([folder]))]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(SOURCE)
    return tmp_path


@pytest.mark.parametrize("line", [4, 5])
def test_a_function_and_where_it_is_registered(app: Path, line: int) -> None:
    """Within a branch, and decorated: the code begins at the decorator, or for 3.10's frames at the ``def``."""
    step = f"attempt.<locals>.on_settled (app.py:{line}) closure cell 'transcript'"
    assert found(app, "root", step) == [("function", (line,)), ("registration", (8,))]


def test_a_lambda_is_registered_where_it_stands(app: Path) -> None:
    assert found(app, "<lambda> (app.py:10) closure cell 'transcript'") == [("function", (10,))]


@pytest.mark.parametrize("step", ["on_settled (app.py:7)", "other (app.py:5)", "on_settled (gone.py:5)", "app.py:5"])
def test_a_file_in_which_no_such_function_begins_there_is_not_shown(app: Path, step: str) -> None:
    """It is another version of it, or another file of that name."""
    assert found(app, step) == []


def test_the_file_that_has_the_function_is_taken(app: Path) -> None:
    """The first folder has another file of that name."""
    (app / "other").mkdir()
    (app / "other" / "app.py").write_text("x = 1\n" * 20)
    (excerpt, *_) = excerpts_of([["on_settled (app.py:5)"]], [], Sources([app / "other", app]))
    assert excerpt.lines[excerpt.hits[0] - excerpt.first].strip() == "def on_settled(future):"


def test_lines_around_end_with_text(app: Path) -> None:
    """No blank line at either end, unless it is the one that counts."""
    (allocated,) = excerpts_of([], [("app.py", 8)], Sources([app]))
    assert allocated == Excerpt(
        "allocation", "app.py", 8, 6, tuple(SOURCE.splitlines()[5:10]), (8,)
    )  # 7 and 9 are blank, and between others
    (last,) = excerpts_of([], [("app.py", 1)], Sources([app]))
    assert (last.first, len(last.lines)) == (1, 2)


@pytest.mark.parametrize("text", ["def broken(:\n", "x = '\0'\n", "(" * 5000])
def test_a_source_that_does_not_parse_shows_lines_alone(text: str, tmp_path: Path) -> None:
    """Of what is allocated there; a function cannot be found in it."""
    (tmp_path / "app.py").write_text(text)
    rows = list(excerpts_of([["broken (app.py:1)"]], [("app.py", 1), ("app.py", 99)], Sources([tmp_path])))
    assert [(row.of, row.hits) for row in rows] == [("allocation", (1,))]


def test_packages_are_found_by_the_place_of_the_interpreter(tmp_path: Path) -> None:
    """Of the measured environment, as results name them; the standard library by the interpreter it was made from."""
    base = tmp_path / "base"
    places = {"zmq/future.py": tmp_path / "env/lib/python3.12/site-packages", "asyncio/x.py": base / "lib/python3.12"}
    for name, folder in places.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("def f(): ...\n")
    (tmp_path / "env" / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\nversion = 3.12.1\n")
    result = RunResult("s", "m", "FAIL", None, "r", python="3.12.1", executable=str(tmp_path / "env/bin/python"))
    held = tuple(Retainer("T", 1, 1, (f"f ({name}:1)",), name, name) for name in places)
    sources = Sources(library_folders(result.executable, result.python))
    shown = with_excerpts(RunResult("s", "m", "FAIL", None, "r", retainers=held), sources)
    assert [row.file for row in shown.excerpts] == list(places)
