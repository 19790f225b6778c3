"""The certificate as a function of its arms, and what a list of known leaks makes of a verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leakharness.measure.evidence import opinions
from leakharness.measure.known import forgive_known, is_known
from leakharness.model import BesideKnown, Growth, HeldByC, Retainer, RunResult
from leakharness.proof.certify import _arms, certify, unfinished
from leakharness.scenario.declare import Known
from leakharness.worker.protocol import GuppyOpinion, ModeFacts, ObjgraphOpinion, Opinions, ScenarioFacts
from leakharness.worker.second_opinions import without_values


def arm(mode: str, must: str, verdict: str, *grows: str) -> RunResult:
    growth = tuple(Growth(counter, 1.0, True, "grows: by one", state="grows") for counter in grows)
    return RunResult("s", mode, verdict, must, f"{mode} {verdict}", growth=growth)  # type: ignore[arg-type]


GOOD = [
    arm("closure-extracted", "PASS", "PASS"),
    arm("closure-inline", "FAIL", "FAIL", "tracked"),
    arm("synthetic-leak", "FAIL", "FAIL", "tracked"),
]
TABLE = [
    ("every arm gave what it must", {}, "CERTIFIED", 0),
    ("the fix leaks", {0: arm("closure-extracted", "PASS", "FAIL", "objects")}, "LEAK", 1),
    ("the pre-fix shape passes: blind", {1: arm("closure-inline", "FAIL", "PASS")}, "INVALID", 4),
    ("the planted leak passes: blind", {2: arm("synthetic-leak", "FAIL", "PASS")}, "INVALID", 4),
    (
        "the planted leak is seen, but not by the tracker",
        {2: arm("synthetic-leak", "FAIL", "FAIL", "objects")},
        "INVALID",
        4,
    ),
    ("an arm could not be measured", {1: arm("closure-inline", "FAIL", "NOT_JUDGED")}, "NOT_JUDGED", 3),
    ("the fix could not be measured", {0: arm("closure-extracted", "PASS", "NOT_JUDGED")}, "NOT_JUDGED", 3),
    (
        "blind beats leak: the leak may be an error of the blind detector",
        {0: arm("closure-extracted", "PASS", "FAIL", "objects"), 1: arm("closure-inline", "FAIL", "PASS")},
        "INVALID",
        4,
    ),
    (
        "a leak was found, whatever else could not be measured",
        {0: arm("closure-extracted", "PASS", "FAIL", "objects"), 1: arm("closure-inline", "FAIL", "NOT_JUDGED")},
        "LEAK",
        1,
    ),
]


def test_without_an_arm_that_must_pass_nothing_is_certified() -> None:
    """A leak that is seen where it must be proves no fix; what else is wrong is told first."""
    seen = GOOD[1:]
    certificate = certify("s", seen)
    assert (certificate.verdict, certificate.exit_code) == ("NOT_JUDGED", 3)
    assert certificate.reason.startswith("no arm that must PASS")
    assert certify("s", [arm("closure-inline", "FAIL", "PASS"), seen[1]]).verdict == "INVALID"


def test_a_scaffold_with_places_to_fill_in_is_not_certified(tmp_path: Path) -> None:
    """Its arms may give what they must, and stand for nothing; the note names the lines. Filled in, it is certified."""
    file = tmp_path / "case.py"
    file.write_text("held = 1\n# FILL IN: what keeps it\n")
    certificate = certify("s", GOOD, unfinished(file))
    assert (certificate.verdict, certificate.exit_code) == ("NOT_JUDGED", 3)
    assert certificate.reason.endswith("case.py, FILL IN in line 2")
    file.write_text("held = 1\n")
    assert certify("s", GOOD, unfinished(file)).verdict == "CERTIFIED"


@pytest.mark.parametrize(("name", "changes", "verdict", "code"), TABLE, ids=[row[0] for row in TABLE])
def test_certificate_follows_from_its_arms(name: str, changes: dict[int, RunResult], verdict: str, code: int) -> None:
    """One row, one rule; the exit code is the contract's."""
    arms = [changes.get(index, original) for index, original in enumerate(GOOD)]
    certificate = certify("s", arms)
    assert (certificate.verdict, certificate.exit_code) == (verdict, code), name
    assert certificate.reason


LEAK = replace(
    arm("closure-extracted", "PASS", "FAIL", "tracked", "objects"),
    retainers=(
        Retainer("Session", 250, 1000, ("sys.modules['app']", "Session"), "app.REGISTRY[*] -> Session"),
        Retainer("Cache", 3, 10, ("sys.modules['app']", "Cache"), "app.CACHE -> Cache"),
    ),
    beside_known=BesideKnown("PASS", "no counter grows over 250 runs"),
)


def test_all_retainers_known_is_a_pass_that_names_the_rules() -> None:
    """By type and by fingerprint; each rule is listed with its reason."""
    result = forgive_known(LEAK, [Known("Session", "until June"), Known("app.CACHE", "small")])
    assert result.verdict == "PASS"
    assert [line for line in result.forgiven if "until June" in line]
    assert [line for line in result.forgiven if "small" in line]


def test_one_unknown_retainer_keeps_the_fail() -> None:
    """Forgiving some of it forgives nothing."""
    assert forgive_known(LEAK, [Known("Session", "until June")]).verdict == "FAIL"


def test_a_rule_that_matched_nothing_is_reported() -> None:
    """So that it can be removed."""
    result = forgive_known(LEAK, [Known("Other", "old")])
    assert result.verdict == "FAIL"
    assert any("'Other' matched nothing" in note for note in result.notes)


def test_what_grows_beside_the_known_keeps_the_fail() -> None:
    """And is among the notes."""
    result = forgive_known(
        replace(LEAK, beside_known=BesideKnown("FAIL", "objects +1 a run")),
        [Known("Session", "x"), Known("Cache", "x")],
    )
    assert result.verdict == "FAIL"
    assert any("objects +1 a run" in note for note in result.notes)


@pytest.mark.parametrize("must_fail", [{"must": "FAIL"}, {"mode": "synthetic-leak"}])
def test_an_arm_that_must_fail_is_forgiven_nothing(must_fail: dict[str, str]) -> None:
    """It shows that a leak would be seen."""
    leak = replace(LEAK, **must_fail)  # type: ignore[arg-type]
    assert forgive_known(leak, [Known("Session", "x"), Known("Cache", "x")]) == leak


@pytest.mark.parametrize(
    ("beside", "verdict"), [(None, "FAIL"), (BesideKnown("NOT_JUDGED", "not clear after 9,000 runs"), "NOT_JUDGED")]
)
def test_what_could_not_be_counted_without_the_known_is_not_forgiven(beside: BesideKnown | None, verdict: str) -> None:
    """No PASS rests on what nobody looked at."""
    leak = replace(LEAK, beside_known=beside)
    assert forgive_known(leak, [Known("Session", "x"), Known("Cache", "x")]).verdict == verdict


LOST = HeldByC("app.Config", 1.0, 0, "+1 reference a run to app.CONFIG", ("sys.modules['app']", "app.CONFIG", "Config"))
KEPT = HeldByC("str", 2.0, 128.0, "2 str a run of 64 bytes, referred to by nothing in the heap")
BYTES = HeldByC("native memory", 0.0, 4096.0, "4 KiB a run that no object accounts for")


def held(growth: dict[str, float], *rows: HeldByC, unclear: tuple[str, ...] = ()) -> RunResult:
    """A leak that C code alone holds: what grows, and what was named."""
    found = tuple(
        Growth(name, pace, name not in unclear, "", state="undecided" if name in unclear else "grows")
        for name, pace in growth.items()
    )
    return replace(arm("closure-extracted", "PASS", "FAIL"), growth=found, held_by_c=rows)


OF_C = [
    ("the object by its place", held({"references": 1.0}, LOST), "app.CONFIG", "PASS"),
    ("the object by its type", held({"references": 1.0}, LOST), "Config", "PASS"),
    ("another object loses some, too", held({"references": 2.0}, LOST), "Config", "FAIL"),
    ("blocks and the arenas they take", held({"blocks": 2.0, "mapped_bytes": 150.0}, KEPT), "str", "PASS"),
    ("more blocks than it leaves", held({"blocks": 3.0}, KEPT), "str", "FAIL"),
    ("malloc beside the blocks", held({"blocks": 2.0, "malloc_bytes": 3000.0}, KEPT), "str", "FAIL"),
    ("a descriptor beside it", held({"blocks": 2.0, "fds": 1.0}, KEPT), "str", "FAIL"),
    (
        "objects that are not clear",
        held({"blocks": 2.0, "objects": 0.3}, KEPT, unclear=("objects",)),
        "str",
        "NOT_JUDGED",
    ),
    ("bytes without a type", held({"malloc_bytes": 4096.0}, BYTES), "memory", "FAIL"),
    ("another word", held({"references": 1.0}, LOST), "CONF", "FAIL"),
]


@pytest.mark.parametrize(("name", "leak", "match", "verdict"), OF_C, ids=[row[0] for row in OF_C])
def test_what_c_code_holds_may_be_known(name: str, leak: RunResult, match: str, verdict: str) -> None:
    """By type or place; it excuses as much of each counter as it leaves behind, and no more."""
    result = forgive_known(leak, [Known(match, "mended in 6.7.1")])
    assert result.verdict == verdict, name
    assert bool(result.forgiven) == (verdict == "PASS")


MATCHES = {
    "the type": ("Session", True),
    "the type with its module": ("app.db.Session", True),
    "the class that it is nested in": ("db.Session", True),
    "a segment": ("app.REGISTRY (dict)['open'][*]", True),
    "a segment without its element": ("app.REGISTRY (dict)", True),
    "a segment's holder": ("app.REGISTRY", True),
    "segments one after the other": ("app.REGISTRY -> Pool.sessions", True),
    "the beginning": ("sys.modules['app'] -> app.REGISTRY", True),
    "a letter": ("e", False),
    "the type's beginning": ("Sess", False),
    "the type's end": ("ession", False),
    "another module's type of the name": ("web.Session", False),
    "a segment's beginning": ("app.REG", False),
    "a segment's end": ("REGISTRY", False),
    "segments with one between them": ("app.REGISTRY -> app.db.Session", False),
    "an element": ("['open']", False),
    "the beginning of a root": ("sys.modules", False),
}


@pytest.mark.parametrize(("match", "wanted"), MATCHES.values(), ids=MATCHES)
def test_a_known_leak_matches_whole_names_only(match: str, wanted: bool) -> None:
    """A type's name or whole segments of the fingerprint; a part of a word never."""
    fingerprint = "sys.modules['app'] -> app.REGISTRY (dict)['open'][*] -> Pool.sessions -> app.db.Session"
    retainer = Retainer("Session", 1, 1, (), fingerprint)
    assert is_known([Known(match, "because")], retainer) is wanted


def test_second_opinions_say_whether_they_agree() -> None:
    """objgraph by the holder's type on our path, guppy3 by the count."""
    answer = Opinions(ObjgraphOpinion(("module", "dict", "cell", "T"), ("cell",)), GuppyOpinion("T", 5, 80))
    agree = opinions(answer, 5, "on_done closure cell 'x' -> T")
    assert [line.split(":")[0] for line in agree] == ["objgraph agrees", "guppy3 agrees"]
    differ = opinions(answer, 6, "registry -> list -> T")
    assert [line.split(":")[0] for line in differ] == ["objgraph differs", "guppy3 differs"]
    assert opinions(Opinions(guppy=GuppyOpinion(failed="boom")), 1, "") == ("guppy3 failed: boom",)
    absent = GuppyOpinion(absent="there is none for this interpreter")
    assert opinions(Opinions(guppy=absent), 1, "") == ("guppy3: there is none for this interpreter",)


def test_objgraphs_picture_has_types_and_names_but_no_values() -> None:
    """Its labels are a type, a line break and a value."""
    given = [r'o1[label="dict\n1 items"];', r'o2[label="str\n\"secret\""];', r"""o1 -> o2 [label="str\n'key 1'"];"""]
    kept = ['o1[label="dict"];', 'o2[label="str"];', 'o1 -> o2 [label="str"];']
    name = 'o1 -> o3 [label="name"];'
    assert without_values("\n".join([*given, name])) == "\n".join([*kept, name])


@pytest.mark.parametrize(("asked", "left_out"), [(False, True), (True, False)])
def test_an_arm_whose_package_is_missing_is_left_out_with_a_note(asked: bool, left_out: bool) -> None:
    """But not where a target was named: then it is wanted, and cannot be measured."""
    modes = (
        ModeFacts("fixed", "PASS", default=True, missing={"here": "pip install here"}),
        ModeFacts("leaky", "FAIL"),
        ModeFacts("production", "PASS", needs_target=True, missing={"zmq": "pip install pyzmq"}),
    )
    arms, notes = _arms(ScenarioFacts("poll", "fixed", modes), True, asked=asked)
    wanted = ["fixed", "leaky"] if left_out else ["fixed", "leaky", "production"]
    assert [name for name, _ in arms] == [*wanted, "synthetic-leak"]
    note = "no production arm: zmq is not installed where it is measured (pip install pyzmq)"
    assert notes == ([note] if left_out else [])
