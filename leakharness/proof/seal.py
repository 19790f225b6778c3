"""Certificates and proofs as artifacts: one JSON file that says what was measured, of which sources, and whether it
still holds for the tree at hand.

A sealed document is the one that ``check --json`` or ``prove --json`` prints, and beside it ``seal`` (versions, hashes
of the scenario file and of every package that the real code lives in, what was asked) and ``digest``, the SHA-256 of
all the rest. The digest finds accidents and edits; it is no signature: who can write the file can seal it anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal

from leakharness.documents import (
    CheckDocument,
    ProveDocument,
    SealDocument,
    SealedScenario,
    SealedSource,
    read_document,
    validated,
)
from leakharness.errors import LeakHarnessError, UsageError
from leakharness.measure.arm import Listener, Settings
from leakharness.measure.describe import declaration_of
from leakharness.measure.worker_process import interpreter
from leakharness.model import EXIT_CODES, Certificate, Growth, RunResult
from leakharness.options import DEFAULTS
from leakharness.proof.certify import certify, check_found
from leakharness.proof.environments import checkout, installed
from leakharness.proof.prove import EXIT_CODES as PROOF_EXIT_CODES
from leakharness.proof.prove import Proof, judge_proof, prove
from leakharness.proof.revisions import OBJECT_NAME, WORKING_TREE, git, is_of_index
from leakharness.proof.sides import PRODUCTION, Question
from leakharness.resolve import pyproject_options
from leakharness.scenario.find import ScenarioRef, find, packaged_folder
from leakharness.scratch import scratch
from leakharness.worker.protocol import ScenarioFacts

__all__ = ["Verification", "digest", "seal_certificate", "seal_proof", "verify", "write_sealed"]

Status = Literal["HOLDS", "STALE", "TAMPERED"]
CHECK_SCHEMA = "leakharness.check/1"
PROVE_SCHEMA = "leakharness.prove/1"
SOURCE_SUFFIXES = (".py", ".pyi", ".pyx", ".so", ".pyd", ".dylib")
"""Files of a package that decide what it does."""
PACKAGED = "packaged:"
SPEC = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*)?")
"""A module, or a module and an attribute."""
AFTER = "after"
"""The role of a source that is the target as the tree after a change has it."""
SEALED_FILES = ("certificate.json", "proof.json")
TAMPERED_EXIT = 4
STALE_EXIT = 1


@dataclass(frozen=True)
class Verification:
    """What became of a sealed document. ``again`` is the new measurement, where one was asked for."""

    status: Status
    verdict: str
    """What the document says was measured."""
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    again: Certificate | Proof | None = None

    @property
    def exit_code(self) -> int:
        """0 only for a good verdict that holds, and holds again where it was measured again."""
        if self.status == "TAMPERED":
            return TAMPERED_EXIT
        measured = _exit_code(self.verdict) if self.again is None else self.again.exit_code
        return measured or (STALE_EXIT if self.status == "STALE" else 0)

    def document(self) -> dict[str, Any]:
        return {
            "schema": "leakharness.verify/1",
            "status": self.status,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "again": None if self.again is None else self.again.document(),
        }


def seal_certificate(certificate: Certificate, found: ScenarioRef, settings: Settings) -> dict[str, Any]:
    """The certificate as a document that can be verified. Reads the sources as they are now: call it right after
    the measurement."""
    pyproject = pyproject_options(Path.cwd())
    target, python = settings.target or pyproject.get("target"), settings.python or pyproject.get("python")
    asked = {"options": dict(settings.options), "target": target, "python": python}
    return _seal(certificate.document(), found, interpreter(python), target, asked)


def seal_proof(proof: Proof, found: ScenarioRef, question: Question) -> dict[str, Any]:
    """The same for a proof. Its sources are commits and requirements, which the document names; of the tree after the
    change, the files of the target are hashed as well, so that it can be told when they are changed again."""
    settings = question.settings
    asked = {
        "options": dict(settings.options),
        "target": settings.target,
        "python": settings.python,
        "before": _as_commits(proof, "before"),
        "after": _as_commits(proof, "after"),
        "with": list(question.both),
        "mode": question.mode,
        "on_path": question.on_path,
        "wheels": None if question.wheels is None else str(question.wheels),
    }
    return _seal(proof.document(), found, None, None, asked, _after_sources(proof, found, question))


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 over the document without its own digest, as JSON with sorted keys and no spaces."""
    body = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def write_sealed(document: Mapping[str, Any], path: Path) -> None:
    """Write a sealed document. Raises UsageError where that is not possible."""
    from leakharness.report.document import to_json
    from leakharness.store import write_atomically

    write_atomically(path, to_json(document, indent=True))


def verify(
    file: Path, *, python: str | None = None, rerun: bool = False, listener: Listener | None = None
) -> Verification:
    """Whether a sealed document still holds for the tree at hand; ``rerun`` measures again as well.

    ``file`` may be the report folder that it lies in.
    ``python`` is the interpreter whose packages are looked at [that of pyproject.toml, else this one]; never the one
    that the document names, for a document may come from anybody. ``rerun`` runs what the document names only where
    this folder has it: see :func:`_measure_again`. Raises UsageError for a file that is no sealed document.
    """
    file = next((file / name for name in SEALED_FILES if (file / name).is_file()), file)
    document, seal = _read(file)
    verdict = str(document.get("certificate") or document.get("verdict"))
    broken = _broken(document, verdict)
    if broken:
        return Verification("TAMPERED", verdict, (broken,))
    found, reasons = _scenario_at_hand(seal["scenario"])
    where = python or interpreter(pyproject_options(Path.cwd()).get("python"))
    notes = [*_differences(seal, where), *_measured_elsewhere(document, where)]
    reasons += [reason for source in seal["sources"] for reason in _changed(source, where)]
    again: Certificate | Proof | None = None
    if rerun and found is not None:
        again = _measure_again(file, document, seal, found, where, listener)
        now = again.verdict
        if now != verdict:
            reasons.append(f"measured again it is {now}: {again.reason}")
    return Verification("STALE" if reasons else "HOLDS", verdict, tuple(reasons), tuple(notes), again)


def _seal(
    document: dict[str, Any],
    found: ScenarioRef,
    python: str | None,
    target: str | None,
    asked: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    from leakharness._version import __version__
    from leakharness.report.document import to_json

    seal: dict[str, Any] = {
        "leakharness": __version__,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "platform": platform.platform(),
        "scenario": _scenario_entry(found),
        "asked": asked,
        "sources": list(sources),
        "shape": None,
        "packages": {},
    }
    if python is not None:
        declared = declaration_of(found, python)
        seal["sources"] = [_source(role, spec, python) for role, spec in _specs(declared, target)]
        seal["shape"] = _shape(found, declared, python)
        seal["packages"] = installed(python)
    # By way of the bytes that will be written, so that the digest is of what a reader gets.
    sealed: dict[str, Any] = json.loads(to_json({**document, "seal": seal}))
    return {**sealed, "digest": digest(sealed)}


def _scenario_entry(found: ScenarioRef) -> dict[str, Any]:
    path, cwd = found.path.resolve(), Path.cwd().resolve()
    if path.is_relative_to(cwd):
        file = path.relative_to(cwd).as_posix()
    elif path.parent == packaged_folder().resolve():
        file = PACKAGED + path.name
    else:
        file = str(path)
    return {"name": found.name, "file": file, "sha256": _sha256(path)}


def _specs(declared: ScenarioFacts, target: str | None) -> list[tuple[str, str]]:
    """(role, module or module:attribute) of all that the arms ran besides the scenario file."""
    specs = []
    wanted = target or declared.target
    if wanted and any(mode.needs_target or mode.name == "production" for mode in declared.modes):
        specs.append(("target", wanted))
    needs = {module for mode in declared.modes for module in mode.needs}
    return specs + [("needs", module) for module in sorted(needs)]


def _after_sources(proof: Proof, found: ScenarioRef, question: Question) -> list[dict[str, Any]]:
    """The target as the tree after the change has it; nothing where that side is no revision, or has no such files."""
    commit, cwd, settings = proof.sides["after"].subject.commit, Path.cwd(), question.settings
    root = git(["rev-parse", "--show-toplevel"], cwd)
    if commit is None or root is None:
        return []
    pyproject = pyproject_options(cwd)
    try:
        declared = declaration_of(found, interpreter(settings.python or pyproject.get("python")))
    except LeakHarnessError:  # only readable where the sides were built
        return []
    wanted = settings.target or pyproject.get("target") or declared.target
    if not wanted:
        return []
    with scratch() as folder:
        tree = checkout(Path(root), commit, folder / "after")
        inner = tree / (git(["rev-parse", "--show-prefix"], cwd) or "")
        files = _files_on(wanted, [str(place) for base in (inner, tree) for place in (base, base / "src")])
    return [{"role": AFTER, "spec": wanted, "files": files}] if files else []


def _source(role: str, spec: str, python: str) -> dict[str, Any]:
    """The hashes of every source file of the top-level package that ``spec`` is in, by path inside of it."""
    return {"role": role, "spec": spec, "files": _package_files(spec, python)}


def _package_files(spec: str, python: str) -> dict[str, str] | None:
    """None where the package is not there, or has no files."""
    from leakharness.shape.suspect import search_path

    return _files_on(spec, search_path(None if python == sys.executable else python))


def _files_on(spec: str, path: Sequence[str]) -> dict[str, str] | None:
    top = spec.partition(":")[0].partition(".")[0]
    found = PathFinder.find_spec(top, path)
    if found is None:
        return None
    folders = found.submodule_search_locations
    if folders is None:
        return {Path(found.origin).name: _sha256(Path(found.origin))} if found.origin else None
    files: dict[str, str] = {}
    for folder in map(Path, getattr(folders, "_path", None) or folders):
        for file in sorted(folder.rglob("*")):
            if file.suffix in SOURCE_SUFFIXES and file.is_file():
                files[f"{top}/{file.relative_to(folder).as_posix()}"] = _sha256(file)
    return files


def _shape(found: ScenarioRef, declared: ScenarioFacts, python: str) -> dict[str, Any] | None:
    """Whether the fixture has the shape of what it mimics; the reason where that cannot be said."""
    from leakharness.shape import check_shape

    if declared.mimics is None:
        return None
    try:
        report = check_shape(f"{found.path}::{declared.name}", python=None if python == sys.executable else python)
    except LeakHarnessError as exc:
        return {"target": declared.mimics, "verdict": None, "reason": str(exc)}
    return {
        "target": declared.mimics,
        "verdict": report.comparison.verdict,
        "mode": report.fixture.mode,
        "target_sha256": report.target_sha256,
        "can_hide": report.comparison.can_hide,
        "differences": [asdict(difference) for difference in report.comparison.differences],
    }


def _as_commits(proof: Proof, side: str) -> list[str]:
    """What a side was, with its revision as a commit: a branch means something else tomorrow."""
    subject = proof.sides[side].subject
    commit = [f"rev:{subject.commit}"] if subject.commit else []
    return commit + [f"req:{requirement}" for requirement in subject.requirements]


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as exc:
        return f"unreadable: {exc.strerror or exc}"


def _read(file: Path) -> tuple[dict[str, Any], SealDocument]:
    """The document, and its seal. Raises UsageError."""
    document = read_document(file, "a certificate")
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema not in (CHECK_SCHEMA, PROVE_SCHEMA):
        raise UsageError(f"{file}: no certificate: its schema is neither {CHECK_SCHEMA} nor {PROVE_SCHEMA}")
    if "seal" not in document or "digest" not in document:
        raise UsageError(f"{file}: a result without a seal; the sealed one is in the report folder of check or prove")
    where = f"{file}: not as {schema} is written"
    kind: Any = CheckDocument if schema == CHECK_SCHEMA else ProveDocument
    validated(kind, document, where)
    validated(str, document["digest"], f"{where}: digest")
    return document, validated(SealDocument, document["seal"], f"{where}: seal")


def _broken(document: Mapping[str, Any], verdict: str) -> str | None:
    """What is wrong with the document itself: edited, or a verdict that its own arms do not come to."""
    if digest(document) != document["digest"]:
        return "its digest does not match: the file was changed after it was made"
    if document["schema"] == CHECK_SCHEMA:
        arms = [_result(arm) for arm in document["arms"]]
        ours: str = certify(document["scenario"], arms, document["notes"]).verdict
    else:
        sides = [[_result(arm) for arm in document[side]["arms"]] for side in ("before", "after")]
        ours = judge_proof(sides[0], sides[1], [_result(arm) for arm in document["controls"]])[0]
    return None if ours == verdict else f"it says {verdict}, but its arms come to {ours}"


def _result(arm: Mapping[str, Any]) -> RunResult:
    """As much of a result as verdicts are made from."""
    growth = tuple(Growth(row["counter"], row["per_run"], row["grows"], row["rule"]) for row in arm["growth"])
    return RunResult(arm["scenario"], arm["mode"], arm["verdict"], arm["must"], arm["reason"], growth=growth)


def _scenario_at_hand(entry: SealedScenario) -> tuple[ScenarioRef | None, list[str]]:
    """The scenario here, and what is wrong with it. It is read, and nothing of it runs."""
    file = entry["file"]
    path = packaged_folder() / file[len(PACKAGED) :] if file.startswith(PACKAGED) else Path(file)
    try:
        is_here = path.is_file()
    except ValueError:  # a name with NUL in it
        is_here = False
    if not is_here:
        return None, [f"scenario file {file} is not here"]
    reasons = [] if _sha256(path) == entry["sha256"] else [f"scenario file {file} has changed"]
    try:
        found = find(f"{path}::{entry['name']}" if entry["name"] else str(path))
    except LeakHarnessError as exc:
        return None, [*reasons, str(exc)]
    return replace(found, origin="file"), reasons


def _changed(source: SealedSource, python: str) -> list[str]:
    """How the package that a source entry is about differs from what was hashed."""
    name = f"{source['role']} {source['spec']}"
    if not SPEC.fullmatch(source["spec"]):
        return [f"{name}: no module, and no module:attribute"]
    before, now = source["files"], _package_files(source["spec"], python)
    if before == now:
        return []
    if before is None or now is None:
        return [f"{name}: it was {'not ' if before is None else ''}there, and is{' not' if now is None else ''} here"]
    # A tree that was built has files that its commit has not.
    asked = {*before} if source["role"] == AFTER else {*before, *now}
    names = sorted(file for file in asked if before.get(file) != now.get(file))
    if not names:
        return []
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [f"{name}: {shown} changed"]


def _differences(seal: SealDocument, python: str) -> list[str]:
    """What is not as it was and does not make the certificate void by itself."""
    from leakharness._version import __version__

    notes = []
    if seal["leakharness"] != __version__:
        notes.append(f"made by leakharness {seal['leakharness']}; this is {__version__}")
    if seal["platform"] != platform.platform():
        notes.append(f"measured on {seal['platform']}; this is {platform.platform()}")
    if seal["packages"]:
        here = installed(python)
        for name, version in seal["packages"].items():
            if here.get(name) != version:
                notes.append(f"{name} was {version} and is {here.get(name) or 'not installed'}")
    return notes


def _measured_elsewhere(document: Mapping[str, Any], python: str) -> list[str]:
    """A note where the arms ran in another interpreter than the one that is looked at now."""
    arms = document.get("arms") or document["after"]["arms"]
    measured = {arm.get("executable") or python for arm in arms} if document["schema"] == CHECK_SCHEMA else set()
    others = sorted(other for other in measured if not _is_same_file(other, python))
    if not others:
        return []
    return [
        f"it was measured in {others[0]}, and {python} is looked at: a document's interpreter is not run; "
        "name it with --python if it is yours"
    ]


def _is_same_file(one: str, other: str) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)


def _measure_again(
    file: Path,
    document: Mapping[str, Any],
    seal: SealDocument,
    found: ScenarioRef,
    python: str,
    listener: Listener | None,
) -> Certificate | Proof:
    """The same question, asked of this folder: what was a commit after the change is the files as they are here.

    A document may come from anybody, so of what it names only this is used: a scenario file below this folder or of the
    package, the target that is configured here, numbers and choices of the table of options, commits of this
    repository, requirements by name and version, and wheels below this folder.

    Raises UsageError for anything else, with the command that asks it.
    """
    asked = seal["asked"]
    refused = _not_of_here(seal, document["schema"], found)
    if refused is not None:
        command = "check" if document["schema"] == CHECK_SCHEMA else "prove"
        raise UsageError(
            f"{file}: --rerun uses only what this folder has, and {refused}: if you trust it, ask it yourself with "
            f"`leakharness {command}`"
        )
    options = {name: value for name, value in asked["options"].items() if name in DEFAULTS}
    settings = Settings(options, asked["target"], python)
    if document["schema"] == CHECK_SCHEMA:
        return check_found(found, settings, listener)
    wheels = asked.get("wheels")
    after = asked.get("after", [])
    requirements = [word for word in after if word.startswith("req:")]
    question = Question(
        before=asked.get("before", []),
        after=after if requirements == list(after) else [WORKING_TREE, *requirements],
        mode=asked.get("mode", PRODUCTION),
        settings=settings,
        on_path=asked.get("on_path", False),
        wheels=None if wheels is None else Path(wheels),
    )
    return prove(found, question, listener)


def _not_of_here(seal: SealDocument, schema: str, found: ScenarioRef) -> str | None:
    """What the document asks for that is not of this folder; None where there is nothing of the kind."""
    asked, file = seal["asked"], seal["scenario"]["file"]
    if not file.startswith(PACKAGED) and not _is_below_here(found.path):
        return f"the scenario file {file} lies elsewhere"
    if asked["target"] is not None and asked["target"] != pyproject_options(Path.cwd()).get("target"):
        return f"the target {asked['target']} is not the one that pyproject.toml names"
    if schema == CHECK_SCHEMA:
        return None
    wheels = asked.get("wheels")
    if wheels is not None and not _is_below_here(Path(wheels)):
        return f"the wheels in {wheels} lie elsewhere"
    for word in (*asked.get("before", ()), *asked.get("after", ())):
        kind, _, text = word.partition(":")
        if kind == "rev" and OBJECT_NAME.fullmatch(text):
            continue
        if kind != "req" or not is_of_index(text):
            return f"{word!r} is neither a commit nor a name with versions"
    return None


def _is_below_here(path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(Path.cwd().resolve())
    except (OSError, ValueError):
        return False


def _exit_code(verdict: str) -> int:
    return {**EXIT_CODES, **PROOF_EXIT_CODES}.get(verdict, TAMPERED_EXIT)
