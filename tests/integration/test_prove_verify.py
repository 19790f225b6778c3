"""Sealed certificates: they hold for the tree they were made of, and for no other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import checked_document

from leakharness.errors import UsageError
from leakharness.measure.arm import Settings
from leakharness.proof import seal
from leakharness.proof.certify import check_found
from leakharness.proof.revisions import resolved
from leakharness.proof.seal import _after_sources, _changed, digest, seal_certificate, verify, write_sealed
from leakharness.proof.sides import Question
from leakharness.scenario.find import find

CLEAN = "def attach(provider, scope):\n    return len(scope.payload)\n"
LEAKY = "def attach(provider, scope):\n    provider.add_done_callback(lambda _: scope)\n"
SCENARIO = """
from leakharness import Run, Scenario

scenario = Scenario("attach", target="gateway.attempt:attach", mimics="gateway.attempt:attach")

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

@scenario.mode("production", abort="none", needs_target=True)
async def production(run: Run) -> None:
    run.target()(run.wedged(), run.track(Scope(run.scope_bytes)))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose fix was certified: its sources and certificate.json."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "attach.py").write_text(SCENARIO)
    (folder / "gateway").mkdir()
    (folder / "gateway" / "__init__.py").write_text("")
    (folder / "gateway" / "attempt.py").write_text(CLEAN)
    (folder / "gateway" / "helper.py").write_text("LIMIT = 3\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = find("attach")
        settings = Settings({"iters": 10, "warmup": 10, "snapshots": "never"})
        certificate = check_found(found, settings)
        assert certificate.verdict == "CERTIFIED", certificate.reason
        write_sealed(seal_certificate(certificate, found, settings), folder / "certificate.json")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of it, as a clone elsewhere would be; the current folder."""
    folder = tmp_path / "clone"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    return folder


CERTIFICATE = Path("certificate.json")


@pytest.mark.slow
def test_a_certificate_says_what_was_measured_of_what(project: Path) -> None:
    """All arms, versions, interpreter, platform, detectable sizes, the hash of every source file, the shape."""
    document = json.loads(CERTIFICATE.read_bytes())
    assert [arm["mode"] for arm in document["arms"]] == [
        "closure-extracted",
        "closure-inline",
        "production",
        "synthetic-leak",
    ]
    for arm in document["arms"]:
        assert arm["python"]
        assert arm["executable"]
        assert arm["platform"]
        assert arm["detectable"]["tracked_per_run"] is not None
    seal = document["seal"]
    assert seal["scenario"]["file"] == "scenarios/attach.py"
    assert set(seal["sources"][0]["files"]) == {
        "gateway/__init__.py",
        "gateway/attempt.py",
        "gateway/helper.py",
    }
    assert seal["shape"]["verdict"] in ("SAME", "DRIFTED")
    assert seal["packages"]["numpy"]
    assert document["digest"] == digest(document)


@pytest.mark.slow
def test_it_holds_in_a_clone(project: Path) -> None:
    """Nothing changed: HOLDS, exit 0."""
    result = verify(CERTIFICATE)
    assert (result.status, result.reasons, result.exit_code) == ("HOLDS", (), 0)


@pytest.mark.parametrize(
    ("file", "text", "word"),
    [
        ("gateway/attempt.py", LEAKY, "gateway/attempt.py changed"),
        ("gateway/helper.py", "LIMIT = 4\n", "gateway/helper.py changed"),
        ("gateway/another.py", "", "gateway/another.py changed"),
        ("scenarios/attach.py", SCENARIO + "# more\n", "scenario file scenarios/attach.py has changed"),
    ],
)
def test_a_changed_source_makes_it_stale(project: Path, file: str, text: str, word: str) -> None:
    """The target, a module it may call, a new module, the scenario: STALE, exit 1, and it says which file."""
    (project / file).write_text(text)
    result = verify(CERTIFICATE)
    assert (result.status, result.exit_code) == ("STALE", 1)
    assert word in " ".join(result.reasons)


def test_what_is_gone_makes_it_stale(project: Path) -> None:
    """No package, no scenario file: STALE with a reason for each."""
    shutil.rmtree(project / "gateway")
    (project / "scenarios" / "attach.py").unlink()
    result = verify(CERTIFICATE)
    assert result.status == "STALE"
    assert len(result.reasons) == 2


def edited(change: object) -> dict:
    document = json.loads(CERTIFICATE.read_bytes())
    change(document)  # type: ignore[operator]
    return document


def better_arm(document: dict) -> None:
    document["arms"][0]["tracked"]["retained"] = 0
    document["arms"][0]["runs"] += 1


def swapped_arms(document: dict) -> None:
    document["arms"][1]["verdict"] = "PASS"


def test_an_edit_is_found(project: Path) -> None:
    """A figure that was changed: TAMPERED, exit 4."""
    CERTIFICATE.write_text(json.dumps(edited(better_arm)))
    result = verify(CERTIFICATE)
    assert (result.status, result.exit_code) == ("TAMPERED", 4)


@pytest.mark.slow
def test_a_verdict_that_its_arms_do_not_come_to_is_found_with_a_new_digest_too(project: Path) -> None:
    """Who seals it anew still has to lie in every arm."""
    document = edited(swapped_arms)
    CERTIFICATE.write_text(json.dumps({**document, "digest": digest(document)}))
    result = verify(CERTIFICATE)
    assert (result.status, result.exit_code) == ("TAMPERED", 4)
    assert "come to INVALID" in result.reasons[0]


def test_a_certificate_that_says_leak_is_no_success(project: Path) -> None:
    """A LEAK that still holds keeps its own exit code."""

    def leak(document: dict) -> None:
        document["arms"][2]["verdict"] = "FAIL"
        document["certificate"] = "LEAK"

    document = edited(leak)
    CERTIFICATE.write_text(json.dumps({**document, "digest": digest(document)}))
    result = verify(CERTIFICATE)
    assert (result.status, result.verdict, result.exit_code) == ("HOLDS", "LEAK", 1)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": "leakharness.run/1"}', '{"schema": "leakharness.check/1", "arms": []}']
)
def test_what_is_no_sealed_document_is_a_usage_error(project: Path, text: str) -> None:
    """Empty, of another kind, or without a seal."""
    CERTIFICATE.write_text(text)
    with pytest.raises(UsageError, match=r"certificate\.json"):
        verify(CERTIFICATE)


def resealed(change: object) -> None:
    """The certificate after ``change``, with a digest that fits: anybody can write one."""
    document = edited(change)
    CERTIFICATE.write_text(json.dumps({**document, "digest": digest(document)}))


@pytest.mark.slow
@pytest.mark.parametrize("rerun", [False, True])
def test_the_interpreter_that_a_document_names_is_not_run(project: Path, rerun: bool) -> None:
    """Neither that of an arm nor that of what was asked: an executable of theirs leaves no mark."""
    evil, mark = project / "evil-python", project / "ran"
    evil.write_text(f'#!/bin/sh\ntouch {mark}\nexec {sys.executable} "$@"\n')
    evil.chmod(0o755)

    def named(document: dict) -> None:
        document["seal"]["asked"]["python"] = str(evil)
        for arm in document["arms"]:
            arm["executable"] = str(evil)

    resealed(named)
    result = verify(CERTIFICATE, rerun=rerun)
    assert not mark.exists()
    assert result.status == "HOLDS"
    assert any("evil-python" in note and "--python" in note for note in result.notes)


def test_measuring_again_runs_nothing_from_elsewhere(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scenario file of another folder, a target that nobody here has named: the command to ask oneself; no run."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "evil.py"
    mark = elsewhere.with_name("ran")
    elsewhere.write_text(SCENARIO + f"\nopen({str(mark)!r}, 'w')\n")

    def other_file(document: dict) -> None:
        document["seal"]["scenario"]["file"] = str(elsewhere)

    def other_target(document: dict) -> None:
        document["seal"]["asked"]["target"] = "this:d"

    original = CERTIFICATE.read_bytes()
    for change, word in ((other_file, "lies elsewhere"), (other_target, "the target this:d")):
        CERTIFICATE.write_bytes(original)
        resealed(change)
        with pytest.raises(UsageError, match=f"{word}.*leakharness check"):
            verify(CERTIFICATE, rerun=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["seal"].pop("scenario"),
        lambda d: d["seal"].update(sources=[{"role": "x", "spec": "../x", "files": {"a": 1}}]),
        lambda d: d["seal"].update(sources="x"),
        lambda d: d["seal"].update(packages=[1]),
        lambda d: d["seal"]["scenario"].update(file="a\0b"),
        lambda d: d["seal"]["scenario"].update(file=7),
        lambda d: d.update(seal=[]),
        lambda d: d.update(arms={}),
        lambda d: d["arms"][0].update(growth=[{"counter": []}]),
        lambda d: d["arms"][0].update(verdict=["PASS"]),
        lambda d: d.update(schema=["x"]),
        lambda d: d.update(certificate={}),
        lambda d: d["seal"]["asked"].update(options=[]),
    ],
)
def test_a_document_of_wrong_types_is_one_line(project: Path, change: object) -> None:
    """A usage error that names the file, or a verdict; never a fault of the tool."""
    resealed(change)
    command = [sys.executable, "-m", "leakharness", "verify", str(CERTIFICATE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode in (1, 2, 4), "Traceback" in done.stderr) == (True, False), done.stderr
    assert done.stdout.startswith(("STALE", "TAMPERED")) or done.stderr.startswith("leakharness: certificate.json")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "NaN", '{"schema": NaN}', "1" * 5000, "\0", "\ud800"]
)
def test_a_file_that_is_no_json_of_ours_is_one_line(project: Path, text: str) -> None:
    CERTIFICATE.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError, match=r"certificate\.json"):
        verify(CERTIFICATE)


@pytest.mark.slow
def test_measuring_again_finds_a_leak_that_came_back(project: Path) -> None:
    """`verify --rerun` on the command line: the changed target leaks now; STALE, with the new LEAK, exit 1."""
    (project / "gateway" / "attempt.py").write_text(LEAKY)
    command = [sys.executable, "-m", "leakharness", "verify", str(CERTIFICATE), "--rerun", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    document = checked_document(done.stdout)
    assert document["status"] == "STALE"
    assert "measured again it is LEAK" in document["reasons"][-1]
    assert document["again"]["certificate"] == "LEAK"


@pytest.mark.slow
def test_measuring_again_confirms(project: Path) -> None:
    """Nothing changed: HOLDS, and CERTIFIED once more, with the options that were asked for then."""
    result = verify(CERTIFICATE, rerun=True)
    assert (result.status, result.exit_code) == ("HOLDS", 0)
    assert result.again is not None
    runs = {arm.runs for arm in result.again.arms}  # type: ignore[union-attr]
    assert min(runs) == 50  # five batches of ten, as asked for then
    assert all(count % 10 == 0 for count in runs)


def test_a_proof_knows_the_files_after_the_change(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the commit, not of the tree: with the leak back in the tree the proof is stale, and what only the tree has, as
    a build leaves it, is no change."""
    project = tmp_path / "project"
    shutil.copytree(made, project)
    monkeypatch.chdir(project)
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "fixed")):
        subprocess.run(["git", *words], check=True)
    (project / "gateway" / "attempt.py").write_text(LEAKY)
    after = SimpleNamespace(subject=resolved(["HEAD"], [], project, "--after"))
    question = Question(["x"], ["HEAD"])
    (source,) = _after_sources(SimpleNamespace(sides={"after": after}), find("attach"), question)  # type: ignore[arg-type]
    assert (source["role"], source["spec"]) == ("after", "gateway.attempt:attach")
    assert _changed(source, sys.executable) == ["after gateway.attempt:attach: gateway/attempt.py changed"]
    (project / "gateway" / "attempt.py").write_text(CLEAN)
    (project / "gateway" / "_version.py").write_text("")
    assert _changed(source, sys.executable) == []


@pytest.mark.parametrize(
    ("asked", "measured"),
    [(["rev:" + "a" * 40, "req:wheel==1"], [".", "req:wheel==1"]), (["req:wheel==1"], ["req:wheel==1"])],
)
def test_a_proof_is_measured_again_with_the_files_that_are_here(
    asked: list[str], measured: list[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the commit of then, which leaks as little as it did; published versions are measured as they are."""
    questions: list[Question] = []
    monkeypatch.setattr(seal, "prove", lambda found, question, listener: questions.append(question))
    sealed = {"asked": {"options": {}, "target": None, "before": ["rev:" + "b" * 40], "after": asked}}
    sealed["scenario"] = {"file": "scenarios/attach.py"}
    seal._measure_again(project, {"schema": seal.PROVE_SCHEMA}, sealed, find("attach"), sys.executable, None)  # type: ignore[arg-type]
    assert [list(question.after) for question in questions] == [measured]
