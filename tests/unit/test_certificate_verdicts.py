"""The pure parts of proofs and sealed documents: verdicts, subjects, paths, digests."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakharness.errors import OptionError
from leakharness.model import Growth, Retainer, RunResult
from leakharness.proof.environments import Recipe
from leakharness.proof.prove import compare_paths, judge_proof
from leakharness.proof.revisions import parse_subject, requirement, resolved
from leakharness.proof.seal import digest
from leakharness.proof.sides import PLANTED

VERDICTS = ("PASS", "FAIL", "NOT_JUDGED")
TRACKED = (Growth("tracked", 1.0, True, "grows"),)


def arm(verdict: str, mode: str = "production", must: str | None = None, *, counted: bool = True) -> RunResult:
    growth = TRACKED if verdict == "FAIL" and counted else ()
    return RunResult("s", mode, verdict, must, f"reason of {verdict}", growth=growth)  # type: ignore[arg-type]


def arms(*verdicts: str) -> list[RunResult]:
    return [arm(verdict) for verdict in verdicts]


GOOD = [arm("PASS", "closure-extracted", "PASS"), arm("FAIL", PLANTED, "FAIL")]


@pytest.mark.parametrize(
    ("before", "after", "verdict", "word"),
    [
        ("FAIL FAIL", "PASS PASS", "PROVEN", "after does not"),
        ("FAIL FAIL", "FAIL FAIL", "NOT_FIXED", "still leaks"),
        ("PASS PASS", "PASS PASS", "NOT_REPRODUCED", "before does not leak"),
        ("PASS PASS", "FAIL FAIL", "NOT_REPRODUCED", "wrong way round"),
        ("FAIL PASS", "PASS PASS", "NOT_JUDGED", "FAIL, PASS"),
        ("FAIL FAIL", "PASS FAIL", "NOT_JUDGED", "PASS, FAIL"),
        ("NOT_JUDGED FAIL", "PASS PASS", "NOT_JUDGED", "before side"),
        ("FAIL FAIL", "PASS NOT_JUDGED", "NOT_JUDGED", "after side"),
        ("", "PASS", "NOT_JUDGED", "not measured"),
        ("FAIL", "", "NOT_JUDGED", "not measured"),
    ],
)
def test_what_both_sides_come_to(before: str, after: str, verdict: str, word: str) -> None:
    """Each pair of sides with good controls, and the word its reason must have."""
    given_verdict, reason = judge_proof(arms(*before.split()), arms(*after.split()), GOOD)
    assert given_verdict == verdict
    assert word in reason


@pytest.mark.parametrize(
    ("controls", "word"),
    [
        ([], "no control"),
        ([arm("PASS", "closure-extracted", "PASS")], "no control"),
        ([*GOOD, arm("PASS", "closure-inline", "FAIL")], "control closure-inline must give FAIL and gave PASS"),
        ([*GOOD, arm("FAIL", "closure-extracted", "PASS")], "control closure-extracted must give PASS and gave FAIL"),
        ([*GOOD, arm("NOT_JUDGED", "closure-inline", "FAIL")], "gave NOT_JUDGED"),
        ([arm("PASS", PLANTED, "FAIL")], "must give FAIL and gave PASS"),
        ([arm("FAIL", PLANTED, "FAIL", counted=False)], "the tracker did not count them"),
    ],
)
def test_no_proof_without_controls(controls: list[RunResult], word: str) -> None:
    """A fix that looks proven is NOT_JUDGED where a control is missing or did not do what it must."""
    verdict, reason = judge_proof(arms("FAIL"), arms("PASS"), controls)
    assert verdict == "NOT_JUDGED"
    assert word in reason


def test_proven_needs_every_round_to_agree() -> None:
    """Over all combinations of two rounds a side: PROVEN for exactly one of them."""
    rounds = list(itertools.product(VERDICTS, repeat=2))
    proven = [
        (before, after)
        for before in rounds
        for after in rounds
        if judge_proof(arms(*before), arms(*after), GOOD)[0] == "PROVEN"
    ]
    assert proven == [(("FAIL", "FAIL"), ("PASS", "PASS"))]


def held(*fingerprints: str) -> RunResult:
    retainers = tuple(Retainer("T", 1, 8, ("root", f), f) for f in fingerprints)
    return RunResult("s", "production", "FAIL", None, "", retainers=retainers)


def test_paths_are_compared_by_fingerprint_over_all_rounds() -> None:
    """Each path is in exactly one of vanished, remaining, new; a path of any round counts."""
    paths = compare_paths([held("a", "b"), held("c")], [held("b", "d")])
    names = [[path.fingerprint for path in part] for part in (paths.vanished, paths.remaining, paths.new)]
    assert [sorted(part) for part in names] == [["a", "c"], ["b"], ["d"]]


def test_the_working_tree_is_a_side_and_nothing_of_it_changes(tmp_path: Path) -> None:
    """A dot is the files as they are, new ones too; no branch, no index and no file changes. The command that asks the
    same again has a commit for a revision, and the dot for the files."""

    def run(*words: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    run("init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("old")
    run("add", "a.py")
    run("commit", "-q", "-m", "one")
    head = run("rev-parse", "HEAD").strip()
    (tmp_path / "a.py").write_text("new")
    (tmp_path / "b.py").write_text("more")
    before = (run("status", "--short"), run("for-each-ref"), (tmp_path / ".git" / "index").read_bytes())
    side = resolved(["."], [], tmp_path, "--after")
    assert side.commit is not None
    assert [run("show", f"{side.commit}:{name}") for name in ("a.py", "b.py")] == ["new", "more"]
    assert resolved(["."], [], tmp_path, "--after").commit == side.commit
    assert (side.exact, resolved(["main"], [], tmp_path, "--before").exact) == ((".",), (head,))
    assert (run("status", "--short"), run("for-each-ref"), (tmp_path / ".git" / "index").read_bytes()) == before


COMMITS = {"HEAD~1": "a" * 40, "main": "b" * 40, "v==1": "c" * 40, "stash@{0}": "d" * 40}


@pytest.mark.parametrize(
    ("words", "commit", "requirements"),
    [
        (["pyzmq==25.1.0"], None, ("pyzmq==25.1.0",)),
        (["pyzmq == 25.1.0", "anyio>=3,<4"], None, ("pyzmq == 25.1.0", "anyio>=3,<4")),
        (["httpx[http2]~=0.27"], None, ("httpx[http2]~=0.27",)),
        (["p @ git+https://example.org/p@v1"], None, ("p @ git+https://example.org/p@v1",)),
        (["p==1.*; python_version < '3.12'"], None, ("p==1.*; python_version < '3.12'",)),
        (["HEAD~1"], "a" * 40, ()),
        (["stash@{0}"], "d" * 40, ()),
        (["main", "anyio==3.7.1"], "b" * 40, ("anyio==3.7.1",)),
        (["rev:v==1"], "c" * 40, ()),
        (["req:v==1"], None, ("v==1",)),
        (["req:pyzmq"], None, ("pyzmq",)),
    ],
)
def test_revisions_and_requirements_are_told_apart(
    words: list[str], commit: str | None, requirements: tuple[str, ...]
) -> None:
    """Each spelling, and what it is taken for."""
    subject = parse_subject(words, COMMITS.get, "--before")
    assert (subject.commit, subject.requirements) == (commit, requirements)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--after is missing"),
        (["pyzmq"], "'req:pyzmq' for the newest one"),
        (["HEAD~99"], "no git revision here, and no requirement"),
        (["v==1"], "write 'req:v==1' or 'rev:v==1'"),
        (["main", "HEAD~1"], "2 git revisions"),
        ([""], "no git revision here"),
        (["rev:pyzmq==1.0"], "no git revision here"),
    ],
)
def test_what_is_neither_or_both_says_how_to_write_it(words: list[str], message: str) -> None:
    """Usage errors name the option and the way out."""
    with pytest.raises(OptionError) as caught:
        parse_subject(words, COMMITS.get, "--after")
    assert message in str(caught.value)
    assert "--after" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "-r/etc/passwd",
        "--index-url=https://example.org",
        "-e .",
        " -r requirements.txt",
        "pyzmq --index-url=https://example.org",
        "pyzmq\n-r /etc/passwd",
        "pyzmq==1\0",
        "-",
        "",
        "p @ ./local.whl",
        "p @ -rfile",
        "ftp://example.org/p.whl",
        "git+ssh://-oProxyCommand=x/p",
        "ext::sh -c id",
        "git+ext::sh",
        "https://example.org/p.whl --hash=x",
        "http://[",
        "/etc/passwd",
        "no-such.whl/",
    ],
)
def test_nothing_but_a_requirement_reaches_the_installer(text: str, tmp_path: Path) -> None:
    """Also with ``req:`` in front, and for what both sides get."""
    for asked, both in (([f"req:{text}"], []), (["pyzmq==1"], [text])):
        with pytest.raises(OptionError, match=r"is no requirement|no git revision"):
            resolved(asked, both, tmp_path, "--before")


def test_requirements_are_names_urls_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path becomes absolute."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p-1.0-py3-none-any.whl").write_bytes(b"")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text("")
    urls = ["p @ git+https://example.org/p@v1", "https://example.org/p-1.whl", "git+https://example.org/p.git@v1"]
    for text in ["pyzmq", "pyzmq[x]>=25,<26; python_version>'3'", *urls]:
        assert requirement(text, "--with") == text
    for text in ("p-1.0-py3-none-any.whl", "./project"):
        assert requirement(text, "--with") == str((tmp_path / text).resolve())
    assert resolved(["p-1.0-py3-none-any.whl"], (), tmp_path, "--after").requirements[0].startswith(str(tmp_path))


@pytest.mark.parametrize("revision", ["--help", "-h", "--git-dir=/", "HEAD\n--all", "HEAD --all", "", "\0"])
def test_a_revision_is_resolved_before_it_is_used(revision: str) -> None:
    """Here, in a repository: what git would take for an option is no revision."""
    with pytest.raises(OptionError):
        resolved([f"rev:{revision}"], (), Path(__file__).parent, "--before")


@pytest.mark.parametrize(
    ("requirements", "repeatable"),
    [
        (("pyzmq==25.1.0",), True),
        (("httpx[http2]==0.27", "anyio===3.7.1"), True),
        (("pyzmq>=25",), False),
        (("pyzmq",), False),
        (("pyzmq==25.*",), False),
        (("./p-1.0-py3-none-any.whl",), False),
        (("p @ https://example.org/p.whl",), False),
        ((), True),
    ],
)
def test_only_exact_pins_are_built_once(requirements: tuple[str, ...], repeatable: bool) -> None:
    """What may mean something else tomorrow is built anew."""
    assert Recipe("python", requirements).is_repeatable is repeatable


leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.dictionaries(
    st.text(max_size=5),
    st.recursive(leaves | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=8),
    max_size=4,
)


@given(documents)
def test_a_digest_survives_being_written_and_read(document: dict) -> None:
    """The digest of what a reader gets is the digest that was written, whatever the order of keys."""
    text = json.dumps(dict(reversed(document.items())))
    assert digest(json.loads(text)) == digest(document)


@given(documents, documents)
def test_different_documents_have_different_digests(one: dict, two: dict) -> None:
    """Any change but to the digest itself shows."""
    body = [{k: v for k, v in d.items() if k != "digest"} for d in (one, two)]
    same = json.dumps(body[0], sort_keys=True) == json.dumps(body[1], sort_keys=True)
    assert (digest(one) == digest(two)) is same
