"""The text of an exception is repeated only where the scenario's own folder raises it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from leakharness.errors import NotJudged
from leakharness.worker.exception_text import formatted, show_all, show_only_of, text_of
from leakharness.worker.failure import failure_of
from leakharness.worker.second_opinions import _graph

SECRET = "alice-4711"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ModuleType]:
    """A module of the scenario's folder; what it calls may lie elsewhere."""
    yield loaded(tmp_path / "own" / "scene.py")
    show_all()


def loaded(path: Path) -> ModuleType:
    path.parent.mkdir(parents=True)
    path.write_text(
        "def fails(kind, *arguments, call=None):\n"
        "    if call is not None:\n        return call(kind, *arguments)\n"
        "    raise kind(*arguments)\n"
        "def wraps(kind, *arguments, call):\n"
        "    try:\n        call(kind, *arguments)\n"
        "    except Exception as exc:\n        raise ValueError('own text') from exc\n"
    )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def caught(function: object, *arguments: object, **named: object) -> BaseException:
    with pytest.raises(BaseException) as found:
        function(*arguments, **named)  # type: ignore[operator]
    return found.value


def test_what_the_own_folder_raises_is_shown(own: ModuleType) -> None:
    show_only_of(str(own.__file__))
    exc = caught(own.fails, ValueError, SECRET)
    assert text_of(exc) == SECRET
    assert SECRET in formatted(exc)


@pytest.mark.parametrize("place", ["elsewhere/lib.py", "own/.venv/lib/site-packages/lib.py"])
def test_what_comes_from_elsewhere_is_not(own: ModuleType, tmp_path: Path, place: str) -> None:
    """Type and place stay; --values shows it."""
    library = loaded(tmp_path / place)
    show_only_of(str(own.__file__))
    exc = caught(own.fails, KeyError, SECRET, call=library.fails)
    said = failure_of(exc)
    for text in (said.reason, said.detail):
        assert SECRET not in text
        assert "KeyError" in text
        assert "--values" in text
    assert f'{library.__file__}", line 4' in said.detail
    show_all()
    assert SECRET in failure_of(exc).reason


def test_an_own_exception_does_not_show_its_cause(own: ModuleType, tmp_path: Path) -> None:
    library = loaded(tmp_path / "elsewhere" / "lib.py")
    show_only_of(str(own.__file__))
    exc = caught(own.wraps, KeyError, SECRET, call=library.fails)
    assert "own text" in formatted(exc)
    assert SECRET not in formatted(exc)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no groups and no notes")
def test_members_of_groups_and_notes_are_looked_at(own: ModuleType, tmp_path: Path) -> None:
    library = loaded(tmp_path / "elsewhere" / "lib.py")
    show_only_of(str(own.__file__))
    member = caught(library.fails, KeyError, SECRET)
    member.add_note(SECRET + " in a note")  # type: ignore[attr-defined]
    group = caught(own.fails, ExceptionGroup, "own group", [member])  # type: ignore[name-defined] # noqa: F821
    assert "own group" in formatted(group)
    assert SECRET not in formatted(group)


def test_what_names_code_or_an_errno_is_shown(own: ModuleType, tmp_path: Path) -> None:
    library = loaded(tmp_path / "elsewhere" / "lib.py")
    show_only_of(str(own.__file__))
    assert text_of(caught(library.fails, ModuleNotFoundError, "No module named 'zmq'")) == "No module named 'zmq'"
    assert text_of(caught(library.fails, NotJudged, "our own")) == "our own"
    missing = text_of(caught(library.fails, FileNotFoundError, 2, "No such file", SECRET))
    assert missing.startswith("[Errno 2] No such file or directory (")
    derived = caught(library.fails, type("Derived", (ImportError,), {}), SECRET)
    assert SECRET not in text_of(derived)
    bad = caught(json.loads, "{alice")
    assert "its text is not shown" in text_of(bad)


def test_the_picture_of_objgraph_has_no_keys_that_are_data() -> None:
    """Objects that hold one another by keys of dicts, drawn as in the measured process."""
    objgraph = pytest.importorskip("objgraph")

    class Box:
        pass

    box = Box()
    hidden, named = "_".join(["alice", "smith", "4711"]), "session_table"
    holder = {hidden: box, "not an " + SECRET: box}
    other = {named: box, 4711: box}
    dot = _graph(objgraph, box, {id(sys._getframe())})
    assert "Box" in dot
    assert "session_table" in dot
    assert "[*]" in dot
    assert hidden not in dot
    assert SECRET not in dot
    assert (len(holder), len(other)) == (2, 2)
