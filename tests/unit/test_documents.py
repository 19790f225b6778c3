"""Stored documents that are not as ours are one line that says where; what is as ours comes back."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from leakharness.documents import MOST_BYTES, RunDocument, read_document, validated
from leakharness.errors import OptionError, UsageError
from leakharness.model import Detectable, Excerpt, Family, Growth, Reading, Retainer, RunResult
from leakharness.proof.stored import from_folders
from leakharness.report.formats import FORMATS, read_documents, render_documents
from leakharness.resolve import pyproject_options

RESULT = RunResult(
    "s", "m", "FAIL", "PASS", "grows",
    tracked={"Session": {"born": 5, "retained": 5}},
    series=(Reading("baseline", 0, {"objects": 1, "rss": 4096}), Reading("batch-1", 50, {"objects": 51, "rss": 8192})),
    growth=(Growth("objects", 1.0, True, "grows"),),
    families=(Family("app.Session", 1.0, 56.0),),
    retainers=(Retainer("Session", 5, 100, ("sys.modules['app']", "app.KEPT[*]"), "app.KEPT[*]", "5 kept"),),
    detectable=Detectable(0.1, 0.1, 0.1, 8.0),
    excerpts=(Excerpt("function", "app.py", 2, 1, ("x = 1", "def f():"), (2,)),),
)  # fmt: skip
DOCUMENT: dict[str, Any] = json.loads(json.dumps(RESULT.document()))


def stored(folder: Path, document: Any) -> Path:
    path = folder / "run.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_ours_comes_back_with_keys_that_are_not_known_yet() -> None:
    document = {**DOCUMENT, "new": [1]}
    assert validated(RunDocument, document, "x") is document


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "NaN", "[1e999, -Infinity]", "9" * 5000])
def test_what_is_no_json_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"run\.json: cannot read it as a thing: ") as caught:
        validated(RunDocument, read_document(stored(tmp_path, text), "a thing"), "run.json: cannot read it as a thing")
    assert len(str(caught.value)) < 500


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """Not there, a folder, a pipe without a writer, a name with NUL, one that is far too large."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    for name in ("missing", "folder", "pipe", "a\0b", "large", "x" * 5000):
        with pytest.raises(UsageError, match="cannot read it as a thing"):
            read_document(tmp_path / name, "a thing")


def paths_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner: list[tuple[Any, ...]] = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        inner += [(*at, key), *paths_of(item, (*at, key))]
    return inner


WRONG = (None, True, -1, 2**70, 1e300, "text", "a\0\x1b]0;x\x07", [], {}, [[]], {"a": {}}, [None], "missing")


def rendered(path: Path, name: str) -> str:
    """Nothing where the file is rendered, else what the usage error says."""
    try:
        render_documents(read_documents([path]), name)
    except UsageError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("packages", ["x", ["x"], {"a": 1}])
def test_a_seal_that_no_writer_wrote_is_one_line(packages: Any, tmp_path: Path) -> None:
    """Of a seal a page shows the packages."""
    certificate = {"schema": "leakharness.check/1", "scenario": "s", "certificate": "LEAK", "arms": [DOCUMENT]}
    path = stored(tmp_path, {**certificate, "seal": {"packages": packages}})
    assert "seal.packages" in rendered(path, "html")


def test_a_document_of_no_kind_is_no_point_of_a_trend(tmp_path: Path) -> None:
    """Whatever it says that it is."""
    with pytest.raises(UsageError, match="no certificate"):
        from_folders([stored(tmp_path, {**DOCUMENT, "schema": ["x"]})])


def test_a_counter_that_is_none_is_no_figure_of_a_trend(tmp_path: Path) -> None:
    """Whatever a stored document calls what grows."""
    growth = [{**DOCUMENT["growth"][0], "counter": "x"}]
    ((point,), _) = from_folders([stored(tmp_path, {**DOCUMENT, "growth": growth})])
    assert point.grows <= point.figures.keys()


def test_a_key_is_told_as_one_line(tmp_path: Path) -> None:
    """Whatever characters it has."""
    tracked = {"a\0\nb": {"born": "x", "retained": 1}}
    with pytest.raises(UsageError) as caught:
        validated(RunDocument, {**DOCUMENT, "tracked": tracked}, "x")
    assert str(caught.value).isprintable()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FORMATS, "html"])
def test_every_place_of_a_result_may_be_wrong(name: str, tmp_path: Path) -> None:
    """Each value in turn replaced by one of another kind, or left out: rendered, or one usage error."""
    for place in paths_of(DOCUMENT):
        for wrong in WRONG:
            document = copy.deepcopy(DOCUMENT)
            holder = document
            for key in place[:-1]:
                holder = holder[key]
            if wrong == "missing":
                del holder[place[-1]]
            else:
                holder[place[-1]] = wrong
            assert "\n" not in rendered(stored(tmp_path, document), name), (place, wrong)


@pytest.mark.parametrize(
    "text",
    [
        "tool = 1",
        "[tool]\nleakharness = 1",
        "[tool.leakharness]\npython = 5",
        '[tool.leakharness]\npython = "a\\u0000b"',
        "[tool.leakharness]\nreport_dir = []",
        "[tool.leakharness]\ntarget = {a = 1}",
        "[tool.leakharness]\niters = 1e400",
        "[tool.leakharness]\niters = nan",
        f"[tool.leakharness]\niters = {'9' * 400}",
        "[tool.leakharness]\nsnapshots = []",
        "[tool.leakharness]\nmax_seconds = true",
        "[tool.leakharness]\nknown = 1",
        "[tool.leakharness]\nx = 1",
        "\0",
        "a = " + "[" * 10_000,
    ],
)
def test_wrong_settings_are_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(OptionError) as caught:
        pyproject_options(tmp_path)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


def test_what_no_writer_could_write_again_is_not_read(tmp_path: Path) -> None:
    """Python reads lists 300 deep, and orjson writes no more than 254 levels: `report --json` would fail then."""
    deep = "[" * 300 + "]" * 300
    with pytest.raises(UsageError, match="nested too deeply"):
        read_document(stored(tmp_path, f'{{"new": {deep}}}'), "a thing")
    assert read_document(stored(tmp_path, '{"new": [[[1]]]}'), "a thing") == {"new": [[[1]]]}
