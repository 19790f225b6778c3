"""`bisect` in real git repositories and over real wheels. Nothing comes from an index."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import checked_document

from leakharness.cli.bisect import bisection_block
from leakharness.documents import BisectDocument, read_document, validated
from tests.integration.test_prove_sides import FIXED, LEAKY, QUICK, SCENARIO, commit, git, wheel


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "leakharness", "bisect", "attach", *arguments, *QUICK]


def bisect(folder: Path, *arguments: str, code: int) -> Any:
    """Run the command in ``folder``; its document, which is also the one that it has stored."""
    done = subprocess.run(command(*arguments, "--json"), cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, (done.returncode, done.stdout[:2000], done.stderr[-2000:])
    if code == 2:
        return done.stderr
    document = validated(BisectDocument, checked_document(done.stdout), "stdout")
    assert read_document(folder / document["folder"] / "bisect.json", "x") == document
    return document


def project(folder: Path, sources: dict[int, str], count: int) -> Path:
    """A repository with ``count`` commits c0, c1, ...; ``sources`` says from which on the module has which text."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number in range(count):
        text = sources[max(start for start in sources if start <= number)]
        commit(folder, f"{text}\n# {number}\n", f"c{number}")
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "attach.py").write_text(SCENARIO)
    return folder


@pytest.mark.slow
def test_a_bad_end_that_does_not_leak_ends_the_search_and_is_kept(tmp_path: Path) -> None:
    """NOT_FOUND, exit 3, after one measurement, which the next call of the same command does not repeat."""
    folder = project(tmp_path / "project", {0: FIXED}, 2)
    words = ("--good", "c0", "--bad", "c1", "--on-path")
    document = bisect(folder, *words, code=3)
    assert document["outcome"] == "NOT_FOUND"
    assert document["reason"].endswith("does not leak: it gave PASS")
    assert [step["verdict"] for step in document["steps"]] == ["PASS"]
    kept = next((folder / document["folder"]).glob("step-*.json"))
    kept.write_text(kept.read_text().replace('"verdict": "PASS"', '"verdict": "NOT_JUDGED"', 1))
    assert bisect(folder, *words, code=3)["reason"].endswith("it gave NOT_JUDGED")
    assert bisect(folder, *words, "--max-runs", "999", code=3)["folder"] != document["folder"]


@pytest.mark.slow
def test_two_neighbours_in_a_repository(tmp_path: Path) -> None:
    """The commit with its subject, the path that appeared, a control, and the command that proves it."""
    folder = project(tmp_path / "project", {0: FIXED, 1: LEAKY}, 2)
    document = bisect(folder, "--good", "c0", "--bad", "c1", "--on-path", code=0)
    names = [git(folder, "rev-parse", name) for name in ("c1", "c0")]
    assert (document["outcome"], document["change"], document["subject"]) == ("FOUND", "brought", "c1")
    assert [document["revision"], document["before"]] == names
    assert [step["verdict"] for step in document["steps"]] == ["FAIL", "PASS"]
    assert "scope" in " ".join(document["paths"][0]["path"])
    assert document["control"]["verdict"] == "FAIL"
    assert document["prove"].startswith(f"leakharness prove attach --before {names[0]} --after {names[1]} --on-path")
    assert git(folder, "status", "--porcelain") == ""
    block = bisection_block(document)
    assert block.startswith("FOUND  attach / production")
    assert "closure cell 'scope'" in block


@pytest.mark.slow
def test_a_planted_commit_among_64_is_found_after_an_interruption(tmp_path: Path) -> None:
    """At most seven measured; what was measured before the signal is not measured again."""
    folder = project(tmp_path / "project", {0: FIXED, 41: LEAKY}, 64)
    words = ("--good", "c0", "--bad", "main", "--on-path")
    running = subprocess.Popen(command(*words), cwd=folder, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("step 3"):
            break
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    (place,) = (folder / "reports").iterdir()
    kept = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    assert len(kept) == 2
    document = bisect(folder, *words, code=0)
    assert document["subject"] == "c41"
    assert len(document["steps"]) <= 7
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert bisect(folder, *words, "--restart", code=0)["revision"] == document["revision"]
    assert not any(path.exists() and path.stat().st_mtime_ns == stamp for path, stamp in kept.items())


@pytest.mark.slow
def test_commits_that_cannot_be_measured_are_passed_over(tmp_path: Path) -> None:
    """Broken ones away from the change cost nothing but time; with the change among them it is not found, exit 3."""
    folder = project(tmp_path / "project", {0: LEAKY, 3: "raise ImportError('half of a change')\n", 6: FIXED}, 9)
    document = bisect(folder, "--good", "c8", "--bad", "c0", "--on-path", code=3)
    assert (document["outcome"], document["change"], document["revision"]) == ("NOT_FOUND", "mended", None)
    named = [git(folder, "log", "-1", "--format=%s", name) for name in document["suspects"]]
    assert named == ["c3", "c4", "c5", "c6"]
    broken = project(tmp_path / "other", {0: LEAKY, 1: "raise ImportError('half')\n", 3: LEAKY, 6: FIXED}, 9)
    document = bisect(broken, "--good", "c8", "--bad", "c0", "--on-path", code=0)
    assert (document["subject"], document["change"]) == ("c6", "mended")
    assert document["paths"]


@pytest.mark.slow
def test_the_version_that_mended_it(tmp_path: Path) -> None:
    """Published versions between two ends, from a folder of wheels; a pre-release is none of them."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version, source in (("1.0", LEAKY), ("1.1", LEAKY), ("1.2", FIXED), ("1.10", FIXED), ("1.3rc1", LEAKY)):
        wheel(wheels, version, source)
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "attach.py").write_text(SCENARIO)
    words = ("--good", "attaching==1.10", "--bad", "attaching==1.0", "--wheels", str(wheels))
    document = bisect(tmp_path, *words, "--env-dir", str(tmp_path / "envs"), code=0)
    assert (document["revision"], document["before"], document["change"]) == ("1.2", "1.1", "mended")
    assert document["revisions"] == 4
    assert "--before attaching==1.1 --after attaching==1.2" in document["prove"]


@pytest.mark.parametrize(
    ("good", "bad", "names", "old_leaks"),
    [
        ("lib==1.2", "lib==1.0", ["1.0", "1.1", "1.2"], True),
        ("lib<2", "lib<1.2", ["1.1", "1.2", "1.10"], True),
        ("lib>=1,<1.1", "lib", "bisect needs versions", False),
        ("lib<1.2", "lib>=1.2", ["1.1", "1.2", "1.10", "2.0"], False),
        ("lib[a]>=1", "lib[a]==1.*", ["1.10", "2.0"], True),
        ("lib<2", "lib<1.99", "are both version 1.10", False),
        ("lib>7", "lib<1.2", "none of the 6 versions that there are is in this range", False),
    ],
    ids=str,
)
def test_a_range_of_versions_means_the_newest_in_it(
    good: str, bad: str, names: list[str] | str, old_leaks: bool, tmp_path: Path
) -> None:
    """As for an installer, and without pre-releases; none, or twice the same, is said."""
    from leakharness.errors import OptionError
    from leakharness.proof.history import range_of
    from leakharness.proof.revisions import resolved

    for version in ("1.0", "1.1", "1.2", "1.10", "2.0rc1", "2.0"):
        (tmp_path / f"lib-{version}-py3-none-any.whl").touch()

    def asked() -> Any:
        ends = [resolved([f"req:{text}"], (), tmp_path, flag) for text, flag in ((good, "--good"), (bad, "--bad"))]
        return range_of(*ends, tmp_path, sys.executable, tmp_path)

    if isinstance(names, str):
        with pytest.raises(OptionError, match=names):
            asked()
        return
    found = asked()
    assert (list(found.subjects), found.history.old_leaks) == (names, old_leaks)
    assert found.subjects[names[0]].requirements[0].startswith("lib[a]==" if "[a]" in good else "lib==")


@pytest.mark.parametrize(
    ("good", "bad", "word"),
    [
        ("c0", "c0", "are the same commit"),
        ("side", "c2", "contains the other: they part at"),
        ("attaching==1", "c1", "are no ends of one history"),
        ("attaching==1", "attachin==2", "versions of two packages"),
        ("req:attaching", "attaching==2", "bisect needs versions of a package"),
        ("nothing", "c1", "is no git revision here"),
    ],
)
def test_what_cannot_be_searched_says_so(
    good: str, bad: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says what to give instead; nothing is measured."""
    from leakharness.errors import OptionError
    from leakharness.proof.history import range_of
    from leakharness.proof.revisions import resolved

    folder = project(tmp_path / "project", {0: FIXED}, 3)
    git(folder, "checkout", "-q", "-b", "side", "c1")
    commit(folder, "x = 1\n", "aside")
    with pytest.raises(OptionError, match=word):
        ends = [resolved([text], (), folder, flag) for text, flag in ((good, "--good"), (bad, "--bad"))]
        range_of(*ends, folder, sys.executable, None)
