"""The lines between the tool and the measured process: whatever arrives is an answer or one sentence."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakharness.errors import LeakHarnessError, NotJudged, UsageError
from leakharness.worker import protocol
from leakharness.worker.codec import (
    BadLine,
    decode,
    decode_answer,
    decode_command,
    encode,
    encode_answer,
    encode_command,
)
from leakharness.worker.protocol import (
    READ,
    RUNS,
    SELF_TEST,
    ClearedAnswer,
    Container,
    CopyCounts,
    CutAnswer,
    Done,
    Failure,
    LabelCount,
    Opinions,
    Question,
    ReadingAnswer,
    ScenarioFacts,
    SelfTest,
    WithoutKnown,
)

READING: dict[str, Any] = {
    "counters": {"objects": 12, "rss": 4096},
    "tracked_alive": 3,
    "tracked": {"Session": {"born": 5, "retained": 3}},
    "declared": {"objects": 0},
    "collected": 0,
}


def line(answer: Any, to: str = "read", part: str = "answer") -> bytes:
    """One line of a measured process, as JSON has it."""
    return json.dumps({"to": to, part: answer}).encode() + b"\n"


def changed(**values: Any) -> bytes:
    return line({**READING, **values})


def test_an_answer_comes_back_as_it_was_given() -> None:
    """Named tuples within named tuples, with their defaults; also what is optional. A lone surrogate, which no report
    can hold, comes as an escape."""
    reading = ReadingAnswer({"objects": -2}, 3, {"a\\udc80": LabelCount(5, 3)}, {}, 7, {"app.T": (1, 56)})
    assert decode_answer(READ, encode_answer("read", reading), "reading") == reading
    surrogate = {**READING, "tracked": {"a\udc80": {"born": 5, "retained": 3}}}
    assert list(decode_answer(READ, line(surrogate), "reading").tracked) == ["a\\udc80"]
    assert decode_answer(READ, line(READING), "reading").census == {}
    for cleared in (ClearedAnswer(), ClearedAnswer((Container("deque", 1, 5, 1),), CopyCounts(0, -4, 9))):
        assert decode(ClearedAnswer, encode(cleared)) == cleared
    assert decode(Opinions, encode(Opinions())) == Opinions()
    assert decode_command(encode_command("read", (0.5, True, None, [1]))) == ("read", (0.5, True, None, [1]))


BAD_LINES = {
    "garbled": (b"\x00\xff{{\n", "is not JSON"),
    "empty": (b"\n", "is empty"),
    "cut off": (line(READING)[:40], "is not JSON"),
    "nested": (b"[" * 100_000 + b"\n", ("is nested too deeply", "is not JSON")),
    "nested object": (b'{"to":' * 100_000 + b"\n", ("is nested too deeply", "is not JSON")),
    "no envelope": (json.dumps(READING).encode(), "is no answer"),
    "a list": (b"[]\n", "is no answer"),
    "a number": (b"7\n", "is no answer"),
    "NaN": (b'{"to":"read","answer":NaN}\n', "is not JSON"),
    "another question": (line({"fault": None}, "self_test"), "it answers 'self_test' and was asked 'read'"),
    "another answer": (line({"fault": None}), "answer has 'fault', which does not belong there"),
    "a key is missing": (line({k: v for k, v in READING.items() if k != "counters"}), "answer lacks 'counters'"),
    "a negative count": (changed(tracked_alive=-1), "answer.tracked_alive is -1, which is less than nothing"),
    "a count is a text": (changed(counters={"rss": "12"}), "answer.counters.rss is '12' and not a whole number"),
    "a count is a truth": (changed(collected=True), "answer.collected is True and not a whole number"),
    "a count is a fraction": (changed(collected=0.5), "answer.collected is 0.5 and not a whole number"),
    "a count is too large": (changed(collected=10**30), "answer.collected is larger than any counter"),
    "digits without end": (b'{"to":"read","answer":' + b"9" * 10_000 + b"}\n", ("is not JSON", "answer is")),
    "a list for an object": (changed(tracked=[1, 2]), "answer.tracked is list of 2 and not an object"),
    "an object for a list": (changed(census={"T": {"0": 1}}), "answer.census.T is dict of 1 and not a list"),
    "a row is too short": (changed(census={"T": [1]}), "answer.census.T has 1 entries and not 2"),
    "a wrong kind of failure": (line({"kind": "oops", "reason": "x"}, part="failure"), "failure.kind is 'oops'"),
    "null": (line(None), "answer is None and not an object"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_line_that_is_no_answer_is_not_judged_in_one_sentence(name: str) -> None:
    """It says what is wrong, while what was done, and what to look for; it never ends in another exception."""
    text, reasons = BAD_LINES[name]
    with pytest.raises(NotJudged) as caught:
        decode_answer(READ, text, "reading after batch-1")
    said = str(caught.value)
    assert said.startswith("the measured process gave no valid answer while reading after batch-1: ")
    assert any(reason in said for reason in ((reasons,) if isinstance(reasons, str) else reasons)), said
    assert said.endswith("find what writes to a descriptor by its number")
    assert "\n" not in said
    assert len(said) < 500


def test_a_failure_is_the_error_that_it_stands_for() -> None:
    """Usage stays usage; the detail of what was not judged comes along."""
    with pytest.raises(UsageError, match="no such mode"):
        decode_answer(RUNS, encode_answer("runs", Failure.of(UsageError("no such mode"))), "running")
    with pytest.raises(NotJudged, match="it ended") as caught:
        decode_answer(RUNS, encode_answer("runs", Failure("not_judged", "it ended", "a traceback")), "running")
    assert caught.value.detail == "a traceback"


def test_what_cannot_be_said_is_an_error_before_it_is_sent() -> None:
    """An object of the program's in a declaration is no JSON."""
    with pytest.raises(TypeError):
        encode(ScenarioFacts("s", "m", (), options={"iters": object()}))


QUESTIONS = [value for value in vars(protocol).values() if isinstance(value, Question)]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NEAR = st.fixed_dictionaries(
    {}, optional={name: VALUES for kind in QUESTIONS for name in getattr(kind.answer, "_fields", ())}
)


@given(st.sampled_from(QUESTIONS), st.binary(max_size=80) | VALUES | NEAR, st.sampled_from(["answer", "failure"]))
def test_any_line_is_an_answer_of_the_right_type_or_one_of_our_errors(
    question: Question[Any], sent: Any, part: str
) -> None:
    """Whatever bytes or values arrive, under any name."""
    text = sent if isinstance(sent, bytes) else line(sent, question.op, part)
    try:
        answer = decode_answer(question, text, "testing")
    except LeakHarnessError:
        return
    assert type(answer) is question.answer
    assert decode_answer(question, encode_answer(question.op, answer), "testing") == answer


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_bad_line(text: bytes) -> None:
    """Also for what a forked copy sends, and for commands."""
    for read in (decode_command, lambda text: decode(SelfTest, text), lambda text: decode(Done, text)):
        with contextlib.suppress(BadLine):
            read(text)


@given(st.floats())
def test_only_finite_numbers_are_numbers(fraction: float) -> None:
    """NaN and infinity, which a verdict could not be judged by, are refused."""
    sent = {"to": "confirm", "answer": CutAnswer(1, 1, 1, (), fraction, None, "")._asdict()}
    try:
        answer = decode_answer(protocol.CONFIRM, json.dumps(sent).encode(), "testing")
    except NotJudged:
        assert not math.isfinite(fraction)
    else:
        assert math.isfinite(fraction)
        assert answer.seconds == fraction


@given(st.integers())
def test_only_what_fits_64_bits_is_a_count(whole: int) -> None:
    """A counter is a number of the machine's."""
    sent = {"to": "read_without", "answer": WithoutKnown({"x": whole}, 0)._asdict()}
    good = -(2**63) <= whole < 2**63
    try:
        answer = decode_answer(protocol.READ_WITHOUT, json.dumps(sent).encode(), "testing")
    except NotJudged:
        assert not good
    else:
        assert good
        assert answer.counters == {"x": whole}


def test_the_self_test_has_an_answer_without_a_fault() -> None:
    """None is an answer where it may be one."""
    assert decode_answer(SELF_TEST, line({"fault": None}, "self_test"), "testing") == SelfTest(None)
