"""`prove` on real changes: two commits of a git repository, two versions of a wheel. Nothing comes from an index."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from conftest import checked_document

from leakharness.proof.seal import verify

QUICK = ["--iters", "10", "--warmup", "10"]
LEAKY = """
def attach(provider, scope):
    def on_settled(_):
        len(scope.payload)
    provider.add_done_callback(on_settled)
"""
FIXED = """
def attach(provider, scope):
    def on_settled(_, size=len(scope.payload)):
        return size
    provider.add_done_callback(on_settled)
    provider.remove_done_callback(on_settled)
"""
SCENARIO = """
from leakharness import Run, Scenario

scenario = Scenario("attach", summary="a callback on a provider's future")

class Scope:
    def __init__(self, size):
        self.payload = bytes(size)

@scenario.mode("closure-extracted", default=True, abort="none")
async def closure_extracted(run: Run) -> None:
    len(run.track(Scope(run.scope_bytes)).payload)

@scenario.mode("closure-inline", abort="none")
async def closure_inline(run: Run) -> None:
    scope = run.track(Scope(run.scope_bytes))
    run.wedged().add_done_callback(lambda _: scope)

@scenario.mode("production", abort="none")
async def production(run: Run) -> None:
    from attaching import attach
    attach(run.wedged(), run.track(Scope(run.scope_bytes)))
"""
BACKEND = '''
"""A build backend in the tree, so that the project is built without an index."""
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "attaching-0.1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.write("attaching/__init__.py")
        for file, text in (
            ("METADATA", "Metadata-Version: 2.1\\nName: attaching\\nVersion: 0.1\\n"),
            ("WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"),
            ("RECORD", ""),
        ):
            wheel.writestr(f"attaching-0.1.dist-info/{file}", text)
    return name
'''
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def commit(folder: Path, source: str, tag: str) -> None:
    (folder / "attaching").mkdir(exist_ok=True)
    (folder / "attaching" / "__init__.py").write_text(source)
    (folder / ".gitignore").write_text("scenarios\nreports\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", tag)
    git(folder, "tag", tag)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits: ``leaky`` and, checked out, ``fixed``; a scenario beside them that is not committed."""
    folder = tmp_path_factory.mktemp("project")
    git(folder, "init", "-q", "-b", "main")
    commit(folder, LEAKY, "leaky")
    commit(folder, FIXED, "fixed")
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "attach.py").write_text(SCENARIO)
    return folder


def prove(folder: Path, *arguments: str, code: int) -> dict:
    """Run the command in ``folder``; its document."""
    command = [sys.executable, "-m", "leakharness", "prove", "attach", *arguments, *QUICK, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, (done.returncode, done.stdout[:2000], done.stderr[-2000:])
    return checked_document(done.stdout) if done.stdout else {"stderr": done.stderr}


def registered_in(proof: dict) -> list[str]:
    """The stored source of the line that registers the closure that leaked; its revision is gone by now."""
    return [
        line
        for row in proof["before"]["arms"][0]["excerpts"]
        if (row["of"], row["file"]) == ("registration", "attaching/__init__.py")
        for number, line in enumerate(row["lines"], row["first"])
        if number in row["hits"]
    ]


def state_of(folder: Path) -> dict[str, str]:
    """Every file of the repository, git's own too, and its digest. Not ours: reports are ours to write."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "reports"
    }


def test_a_fix_in_a_repository_is_proven_and_nothing_there_is_touched(repository: Path, tmp_path: Path) -> None:
    """Before FAIL, after PASS, the vanished path names the closure; not one byte of the repository changes, and
    the version in the current folder is not what was measured."""
    was = state_of(repository)
    document = prove(repository, "--before", "leaky", "--after", "HEAD", "--env-dir", str(tmp_path), code=0)
    assert document["verdict"] == "PROVEN"
    assert git(repository, "rev-parse", "leaky") in document["reproduce"]
    assert [arm["verdict"] for arm in document["before"]["arms"]] == ["FAIL", "FAIL"]
    assert [arm["verdict"] for arm in document["after"]["arms"]] == ["PASS", "PASS"]
    assert {arm["mode"]: arm["verdict"] for arm in document["controls"]} == {
        "closure-extracted": "PASS",
        "closure-inline": "FAIL",
        "planted leak": "FAIL",
    }
    assert "scope" in " ".join(document["paths"]["vanished"][0]["path"])
    assert document["paths"]["new"] == []
    assert document["before"]["commit"] == git(repository, "rev-parse", "leaky")
    assert registered_in(document) == ["    provider.add_done_callback(on_settled)"]
    assert state_of(repository) == was
    assert git(repository, "worktree", "list").count("\n") == 0


@pytest.mark.slow
def test_swapped_revisions_are_never_proven(repository: Path, tmp_path: Path) -> None:
    """The fix as before and the leak as after: NOT_REPRODUCED, exit 4."""
    document = prove(repository, "--before", "fixed", "--after", "leaky", "--env-dir", str(tmp_path), code=4)
    assert document["verdict"] == "NOT_REPRODUCED"
    assert "wrong way round" in document["reason"]
    assert document["paths"]["new"]
    assert document["paths"]["vanished"] == []


@pytest.mark.slow
def test_a_commit_that_changes_nothing_is_not_a_fix(repository: Path, tmp_path: Path) -> None:
    """Leaky before, and leaky after in another commit: NOT_FIXED with the path that remains, exit 1."""
    git(repository, "checkout", "-q", "--detach", "leaky")
    commit(repository, LEAKY + "\n# tidied up\n", "still-leaky")
    git(repository, "checkout", "-q", "main")
    document = prove(
        repository, "--before", "leaky", "--after", "still-leaky", "--env-dir", str(tmp_path), "--on-path", code=1
    )
    assert document["verdict"] == "NOT_FIXED"
    assert document["paths"]["remaining"]
    assert document["paths"]["vanished"] == []


@pytest.mark.slow
def test_a_project_that_can_be_built_is_installed(tmp_path: Path) -> None:
    """With a pyproject.toml each revision is built and installed in an environment of its own, and kept there."""
    folder = tmp_path / "project"
    (folder / "scenarios").mkdir(parents=True)
    (folder / "scenarios" / "attach.py").write_text(SCENARIO)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    git(folder, "init", "-q")
    commit(folder, LEAKY, "leaky")
    commit(folder, FIXED, "fixed")
    environments = tmp_path / "environments"
    document = prove(folder, "--before", "leaky", "--after", "fixed", "--env-dir", str(environments), code=0)
    assert document["verdict"] == "PROVEN"
    assert document["before"]["source"] == "installed"
    assert document["before"]["packages"]["attaching"] == "0.1"
    assert document["before"]["python"] != document["after"]["python"]
    assert len([place for place in environments.iterdir() if place.is_dir()]) == 2


def wheel(folder: Path, version: str, source: str) -> None:
    """A wheel by hand: a zip with the package and its metadata."""
    info = f"attaching-{version}.dist-info"
    files = {
        "attaching/__init__.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: attaching\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    with zipfile.ZipFile(folder / f"attaching-{version}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
            value = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={value},{len(text)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with two versions of one distribution, and the scenario that drives it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "1.0", LEAKY)
    wheel(folder, "1.1", FIXED)
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "attach.py").write_text(SCENARIO)
    return folder


@pytest.mark.slow
def test_requirements_from_a_wheel_folder_both_ways_round(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.0 leaks and 1.1 does not: PROVEN, and the sealed proof holds; swapped, from the environments that are
    there now: NOT_REPRODUCED."""
    monkeypatch.chdir(tmp_path)
    where = ["--wheels", str(wheels), "--env-dir", str(tmp_path / "environments")]
    document = prove(tmp_path, "--before", "attaching==1.0", "--after", "attaching==1.1", *where, code=0)
    assert document["verdict"] == "PROVEN"
    assert document["before"]["packages"]["attaching"] == "1.0"
    assert document["after"]["packages"]["attaching"] == "1.1"
    assert registered_in(document) == ["    provider.add_done_callback(on_settled)"]
    sealed = next((tmp_path / "reports").glob("attach-proof-*/proof.json"))
    assert (verify(sealed).status, verify(sealed).verdict, verify(sealed).exit_code) == ("HOLDS", "PROVEN", 0)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "environments").glob("*/pyvenv.cfg")}
    document = prove(tmp_path, "--before", "attaching==1.1", "--after", "attaching==1.0", *where, code=4)
    assert document["verdict"] == "NOT_REPRODUCED"
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "environments").glob("*/pyvenv.cfg")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "code", "word"),
    [
        ("attaching==1.0", "attaching==1.0", 2, "no change to prove"),
        ("attaching", "attaching==1.1", 2, "req:attaching"),
        ("attaching==9.9", "attaching==1.1", 3, "attaching==9.9"),
    ],
)
def test_what_cannot_be_asked_or_built_says_so(
    wheels: Path, tmp_path: Path, before: str, after: str, code: int, word: str
) -> None:
    """The same twice and a bare name are usage errors; a version that is not there leaves nothing judged."""
    where = ["--wheels", str(wheels), "--env-dir", str(tmp_path / "environments")]
    assert word in prove(tmp_path, "--before", before, "--after", after, *where, code=code)["stderr"]


@pytest.mark.slow
def test_another_copy_in_the_current_folder_is_not_measured(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder, and PYTHONPATH too, hold the fixed package; the before side imports the leaky wheel all
    the same."""
    (tmp_path / "attaching").mkdir()
    (tmp_path / "attaching" / "__init__.py").write_text(FIXED)
    where = ["--wheels", str(wheels), "--env-dir", str(tmp_path / "environments")]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    document = prove(tmp_path, "--before", "attaching==1.0", "--after", "attaching==1.1", *where, code=0)
    assert document["verdict"] == "PROVEN"


def test_a_mode_that_is_not_there_is_told_before_anything_is_built(repository: Path, tmp_path: Path) -> None:
    """The scenario can be read without the environments; one that cannot is asked once they are there."""
    words = ("--before", "leaky", "--after", "fixed", "--with", "nothing-like-it==1", "--mode", "absent")
    refused = prove(repository, *words, "--env-dir", str(tmp_path / "envs"), code=2)
    assert "has no mode 'absent', and prove needs one that runs the real code" in refused["stderr"]
    assert not (tmp_path / "envs").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_a_build_with_all_that_it_started(number: int, repository: Path, tmp_path: Path) -> None:
    """An installer that heeds no signal, and its child: both are gone when the command is, and no next step begins."""
    (tmp_path / "bin").mkdir()
    installer = tmp_path / "bin" / "uv"
    installer.write_text(f"#!/bin/sh\ntrap '' INT TERM\nsleep 97 & echo $! > {tmp_path}/child\nwait; wait; sleep 97\n")
    installer.chmod(0o755)
    words = ("attach", "--before", "leaky", "--after", "fixed", "--env-dir", str(tmp_path / "envs"))
    running = subprocess.Popen(
        [sys.executable, "-m", "leakharness", "prove", *words],
        cwd=repository,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child = tmp_path / "child"
    while not (child.exists() and child.read_text()):
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    running.send_signal(number)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 128 + number
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        for _ in range(500):  # until its new parent has taken notice
            os.kill(int(child.read_text()), 0)
            time.sleep(0.01)
