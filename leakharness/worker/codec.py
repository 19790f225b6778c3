"""The one codec between the tool, the measured process and its forked copies: values to JSON lines and back.

What arrives is checked against the type that was asked for: code that runs in the measured process may write to any
descriptor, so that a line may be anything. Standard library only.
"""

from __future__ import annotations

import math
import types
import typing
from functools import cache
from typing import Annotated, Any, Literal

from leakharness.errors import NotJudged
from leakharness.worker.protocol import A, Failure, Question
from leakharness.worker.unpatched import json

__all__ = [
    "BadLine",
    "checked",
    "decode",
    "decode_answer",
    "decode_command",
    "encode",
    "encode_answer",
    "encode_command",
    "plain",
]

LARGEST = 2**63
"""Whole numbers are below this, as every counter of a kernel or an allocator is."""
SHOWN = 60
"""Bytes or characters of a wrong line or value that an error repeats."""


class BadLine(ValueError):
    """A line, or a value in it, is not what it should be; the text says where and what."""


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def encode(value: Any) -> bytes:
    """One JSON line of named tuples and what JSON knows. Raises TypeError or ValueError for anything else."""
    return _ENCODER.encode(plain(value)).encode() + b"\n"


def decode(kind: type[A], line: bytes) -> A:
    """The ``kind`` that a line of :func:`encode` holds. Raises BadLine for anything else."""
    return checked(kind, _parsed(line))


def checked(kind: type[A], value: Any) -> A:
    """The ``kind`` that a decoded value stands for. Raises BadLine for anything else."""
    found: A = _checked(value, kind, "it")
    return found


def encode_command(op: str, arguments: tuple[Any, ...] = ()) -> bytes:
    return encode([op, *arguments])


def decode_command(line: bytes) -> tuple[str, tuple[Any, ...]]:
    """(op, arguments). Raises BadLine.

    No list: a reading of the containers' entries would count it, and commands differ in length."""
    command = _parsed(line)
    if not isinstance(command, list) or not command or not isinstance(command[0], str):
        raise BadLine(f"{line[:SHOWN]!r} is no command")
    return command[0], tuple(command[1:])


def encode_answer(op: str, answer: Any) -> bytes:
    """The line that answers ``op``; ``answer`` may be a :class:`Failure`."""
    return encode({"to": op, "failure" if type(answer) is Failure else "answer": answer})


def decode_answer(question: Question[A], line: bytes, doing: str) -> A:
    """The answer to ``question``. ``doing`` is for the message: what goes on meanwhile.

    Raises the error that a Failure stands for, and NotJudged for a line that is no answer to this question.
    """
    try:
        envelope = _parsed(line)
        if not isinstance(envelope, dict) or envelope.keys() not in ({"to", "answer"}, {"to", "failure"}):
            raise BadLine(f"{line[:SHOWN]!r} is no answer")
        if envelope["to"] != question.op:
            raise BadLine(f"it answers {str(envelope['to'])[:SHOWN]!r} and was asked {question.op!r}")
        if "answer" in envelope:
            answer: A = _checked(envelope["answer"], question.answer, "answer")
            return answer
        failure: Failure = _checked(envelope["failure"], Failure, "failure")
    except BadLine as exc:
        raise NotJudged(
            f"the measured process gave no valid answer while {doing}: {exc}; something there writes to descriptors "
            "that it has not opened, or its memory is corrupt: find what writes to a descriptor by its number"
        ) from None
    raise failure.error()


def _parsed(line: bytes) -> Any:
    try:
        return _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as exc:
        what = "is nested too deeply" if isinstance(exc, RecursionError) else "is not JSON"
        raise BadLine(f"{line[:SHOWN]!r} {what if line.strip() else 'is empty'}") from None


def _no_number(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_number)
"""Made once: a new one looks attributes up by new strings, each of which stays in the interpreter's cache of
attributes; the measured process would gain a block or two with every command."""


def plain(value: Any) -> Any:
    """Named tuples as objects, other sequences as lists, all the way down."""
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        if fields is None:
            return [plain(item) for item in value]
        return {name: plain(item) for name, item in zip(fields, value, strict=True)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def _checked(value: Any, kind: Any, where: str) -> Any:
    """``value`` as a ``kind``. Raises BadLine."""
    if kind is Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        number: int = _checked(value, arguments[0], where)
        if number < 0:
            raise BadLine(f"{where} is {number}, which is less than nothing")
        return number
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise _wrong(value, " or ".join(map(repr, arguments)), where)
        return value
    if origin in (typing.Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _checked(value, inner, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(value, "an object", where)
        return {
            _encodable(name): _checked(item, arguments[1], f"{where}.{name[:SHOWN]}") for name, item in value.items()
        }
    if origin is tuple:
        return _checked_row(value, arguments, where)
    if hasattr(kind, "_fields"):
        return _checked_fields(value, kind, where)
    return _checked_scalar(value, kind, where)


def _checked_row(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    if not isinstance(value, list):
        raise _wrong(value, "a list", where)
    each = kinds[:1] * len(value) if kinds[-1] is ... else kinds
    if len(each) != len(value):
        raise BadLine(f"{where} has {len(value)} entries and not {len(each)}")
    return tuple(
        _checked(item, kind, f"{where}[{index}]") for index, (item, kind) in enumerate(zip(value, each, strict=True))
    )


def _checked_fields(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(value, "an object", where)
    for name in value:
        if name not in kind._fields:
            raise BadLine(f"{where} has {name[:SHOWN]!r}, which does not belong there")
    for name in kind._fields:
        if name not in value and name not in kind._field_defaults:
            raise BadLine(f"{where} lacks {name!r}")
    kinds = _field_types(kind)
    return kind(**{name: _checked(item, kinds[name], f"{where}.{name}") for name, item in value.items()})


def _checked_scalar(value: Any, kind: Any, where: str) -> Any:
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _wrong(value, "a number", where)
        return float(value)
    if type(value) is not kind:
        raise _wrong(value, {int: "a whole number", str: "a text", bool: "true or false"}[kind], where)
    if kind is str:
        return _encodable(value)
    if kind is int and not -LARGEST <= value < LARGEST:
        raise BadLine(f"{where} is larger than any counter")
    return value


def _encodable(text: str) -> str:
    """Lone surrogates, which ``os.fsdecode`` makes of a name that is no UTF-8, as escapes: a report is UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _wrong(value: Any, wanted: str, where: str) -> BadLine:
    shown = f"{type(value).__name__} of {len(value)}" if isinstance(value, (dict, list)) else repr(value)[:SHOWN]
    return BadLine(f"{where} is {shown} and not {wanted}")


@cache
def _field_types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)
