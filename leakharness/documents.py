"""Stored JSON documents read back: the only reader of what this tool wrote, or somebody else.

A stored document may be anything: cut, edited, of another version, made to harm. :func:`read_document` reads the file
and :func:`validated` holds it against what the reader needs, a ``TypedDict``; whatever does not fit is one UsageError
that says where. Keys that a reader does not know are left alone: a newer version may write more.
"""

from __future__ import annotations

import json
import math
import os
import stat
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

from leakharness.errors import UsageError
from leakharness.printable import one_line

__all__ = [
    "BisectDocument",
    "CheckDocument",
    "HotspotsDocument",
    "ProveDocument",
    "RunDocument",
    "SealDocument",
    "SealedScenario",
    "SealedSource",
    "StepDocument",
    "TraceRow",
    "TrendDocument",
    "parsed",
    "read_bytes",
    "read_document",
    "read_lines",
    "validated",
]

T = TypeVar("T")
MOST_BYTES = 1 << 28
"""A larger file is none of ours: a certificate with a thousand arms has a few MiB."""
DEEPEST = 60
"""Levels of a document of ours are under ten; what a writer of JSON can take ends at 254 (orjson)."""
LARGEST = 2**63
"""Whole numbers are below this, as every counter is."""
SHOWN = 60
"""Characters of a wrong value or key that an error repeats."""


class GrowthRow(TypedDict):
    counter: str
    per_run: float
    grows: bool
    rule: str


class FamilyRow(TypedDict):
    type: str
    count_per_run: float
    shallow_bytes_per_run: float


class _RetainerRow(TypedDict):
    target: str
    count: int
    retained_bytes: int
    path: list[str]
    fingerprint: str


class RetainerRow(_RetainerRow, total=False):
    sentence: str
    also_held_by: list[str]
    confirmed: str


class TrackedCount(TypedDict):
    born: int
    retained: int


class _Tracked(TrackedCount, total=False):
    by_label: Mapping[str, TrackedCount]


class AllocationRow(TypedDict):
    file: str
    line: int
    source: str


class ExcerptRow(TypedDict):
    of: Literal["function", "registration", "allocation"]
    file: str
    line: int
    first: int
    lines: list[str]
    hits: list[int]


class _ContainerRow(TypedDict):
    path: str
    per_run: float


class ContainerRow(_ContainerRow, total=False):
    sentence: str


class _RunDocument(TypedDict):
    scenario: str
    mode: str
    verdict: Literal["PASS", "FAIL", "NOT_JUDGED"]
    must: Literal["PASS", "FAIL"] | None
    reason: str
    duration_s: float
    runs: int
    tracked: _Tracked
    series: list[Mapping[str, float | str | None]]
    growth: list[GrowthRow]
    families: list[FamilyRow]
    retainers: list[RetainerRow]


class RunDocument(_RunDocument, total=False):
    """What ``run --json`` prints, as far as a reader needs it."""

    schema: Literal["leakharness.run/1"]
    reproduce: str
    executable: str
    python: str
    platform: str
    pid: int
    warmup_runs: int
    allocations: list[AllocationRow]
    excerpts: list[ExcerptRow]
    growing_containers: list[ContainerRow]
    stays: list[str]
    detectable: Mapping[str, float | None]
    forgiven: list[str]
    notes: list[str]
    opinions: list[str]
    blind: Mapping[str, str]
    snapshots: list[str]
    detail: str
    started: str
    where: str


class Sealed(TypedDict, total=False):
    """What a report shows of a seal."""

    packages: Mapping[str, str]


class _CheckDocument(TypedDict):
    schema: Literal["leakharness.check/1"]
    scenario: str
    certificate: Literal["CERTIFIED", "LEAK", "INVALID", "NOT_JUDGED"]
    arms: list[RunDocument]


class CheckDocument(_CheckDocument, total=False):
    """What ``check --json`` prints."""

    reason: str
    notes: list[str]
    seal: Sealed
    digest: str


class _Side(TypedDict):
    arms: list[RunDocument]


class SideDocument(_Side, total=False):
    asked: list[str]
    commit: str | None
    source: str


class PathsDocument(TypedDict):
    vanished: list[RetainerRow]
    remaining: list[RetainerRow]
    new: list[RetainerRow]


class _ProveDocument(TypedDict):
    schema: Literal["leakharness.prove/1"]
    scenario: str
    mode: str
    verdict: Literal["PROVEN", "NOT_FIXED", "NOT_REPRODUCED", "NOT_JUDGED"]
    before: SideDocument
    after: SideDocument
    controls: list[RunDocument]


class ProveDocument(_ProveDocument, total=False):
    """What ``prove --json`` prints."""

    reason: str
    reproduce: str
    paths: PathsDocument
    seal: Sealed
    digest: str


class _StepDocument(TypedDict):
    revision: str
    subject: str
    verdict: Literal["PASS", "FAIL", "NOT_JUDGED"]
    reason: str
    duration_s: float


class StepDocument(_StepDocument, total=False):
    """One revision that ``bisect`` has measured; ``result`` is absent where there was nothing to measure."""

    result: RunDocument


class BisectDocument(TypedDict):
    """What ``bisect --json`` prints."""

    schema: Literal["leakharness.bisect/1"]
    scenario: str
    mode: str
    outcome: Literal["FOUND", "NOT_FOUND"]
    change: Literal["brought", "mended"]
    reason: str
    revision: str | None
    subject: str
    before: str | None
    suspects: list[str]
    revisions: int
    steps: list[StepDocument]
    paths: list[RetainerRow]
    control: RunDocument | None
    prove: str
    reproduce: str
    folder: str
    duration_s: float


class PointRow(TypedDict):
    scenario: str
    mode: str
    at: str
    label: str
    subject: str
    verdict: Literal["PASS", "FAIL", "NOT_JUDGED"]
    figures: Mapping[str, float | None]
    grows: list[str]
    source: str


class ExcessRow(TypedDict):
    scenario: str
    mode: str
    figure: str
    value: float | None
    allowed: float
    why: str


class TrendDocument(TypedDict):
    """What ``trend --json`` prints."""

    schema: Literal["leakharness.trend/1"]
    outcome: Literal["WITHIN", "OVER", "NO_BUDGET"]
    points: list[PointRow]
    over: list[ExcessRow]
    notes: list[str]


class SealedScenario(TypedDict):
    name: str | None
    file: str
    sha256: str


class SealedSource(TypedDict):
    role: str
    spec: str
    files: Mapping[str, str] | None


class _Asked(TypedDict):
    options: Mapping[str, float | str | bool | None]
    target: str | None
    python: str | None


class Asked(_Asked, total=False):
    before: list[str]
    after: list[str]
    with_: list[str]
    mode: str
    on_path: bool
    wheels: str | None


class SealDocument(TypedDict):
    """``seal`` of a certificate or a proof."""

    leakharness: str
    platform: str
    scenario: SealedScenario
    asked: Asked
    sources: list[SealedSource]
    packages: Mapping[str, str]


class _TraceRow(TypedDict):
    schema: Literal["leakharness.trace/1"]
    lane: str
    file: str
    phase: Literal["run", "collect"]
    pid: int
    tests: int
    delta_rss_bytes: int
    peak_rss_bytes: int
    before: Mapping[str, int]
    after: Mapping[str, int]


class TraceRow(_TraceRow, total=False):
    """One line of a memory trace. ``snapshots``: how many the process had taken when the file began and when it
    ended."""

    snapshots: list[int]


class _HotspotRow(TypedDict):
    file: str
    delta_kb: int


class HotspotRow(_HotspotRow, total=False):
    import_kb: int
    sources: list[str]


class _HotspotsDocument(TypedDict):
    schema: Literal["leakharness.hotspots/1"]
    files: list[HotspotRow]


class HotspotsDocument(_HotspotsDocument, total=False):
    """The manifest of ``hotspots update``."""

    shared_peak_kb: int
    traced: int
    untraced: list[str]
    min_delta_kb: int
    limit: int


def read_bytes(path: Path, what: str) -> bytes:
    """The bytes of a stored file. Raises UsageError for one that is not there, is no regular file (a pipe has no end
    that could be waited for) or is far too large to be ``what``."""
    try:
        # The file itself is asked, not its name, which may stand for another one by then.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
                raise UsageError(f"{path}: cannot read it as {what}: it is {kind}")
            if found.st_size > MOST_BYTES:
                raise UsageError(f"{path}: cannot read it as {what}: {found.st_size} bytes are too many")
            return file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise UsageError(f"{path}: cannot read it as {what}: {exc.strerror or exc}") from None
    except ValueError as exc:  # a name with NUL in it
        raise UsageError(f"{str(path)!r}: cannot read it as {what}: {exc}") from None


def read_document(path: Path, what: str) -> Any:
    """The JSON of a stored file, ``what`` it should be. Raises UsageError."""
    return parsed(read_bytes(path, what), f"{path}: cannot read it as {what}")


def read_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """(number, line) of a stored text. Raises UsageError."""
    try:
        text = read_bytes(path, what).decode()
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: cannot read it as {what}: {exc}") from None
    yield from enumerate(text.split("\n"), 1)


def parsed(data: bytes | str, where: str) -> Any:
    """JSON in UTF-8, without NaN and infinities, and not nested deeper than any document of ours. Raises UsageError
    that begins with ``where``."""
    try:
        text = data if isinstance(data, str) else data.decode()
        value = json.loads(text, parse_constant=_no_number)
        _check_depth(value)
    except RecursionError:
        raise UsageError(f"{where}: it is nested too deeply") from None
    except ValueError as exc:
        raise UsageError(f"{where}: {exc}") from None
    return value


def validated(kind: type[T], value: Any, where: str) -> T:
    """``value`` once it is a ``kind``: a TypedDict, or what stands in one. Raises UsageError that begins with ``where``
    and names the key."""
    try:
        _check(value, kind, "")
    except _Wrong as exc:
        raise UsageError(f"{where}: {exc}") from None
    found: T = value
    return found


class _Wrong(Exception):
    pass


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _check_depth(value: Any) -> None:
    """Raise RecursionError for what is nested deeper than `DEEPEST`, by breadth: without a recursion of its own."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(DEEPEST):
        if not level:
            return
        parts = (holder.values() if isinstance(holder, dict) else holder for holder in level)
        level = [item for part in parts for item in part if isinstance(item, (dict, list))]
    raise RecursionError


def _check(value: Any, kind: Any, where: str) -> None:
    if kind is Any:
        return
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        _check_any(value, arguments, where)
    elif origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise _wrong(value, " or ".join(map(repr, arguments)), where)
    elif origin is list:
        if not isinstance(value, list):
            raise _wrong(value, "a list", where)
        for index, item in enumerate(value):
            _check(item, arguments[0], f"{where}[{index}]")
    elif typing.is_typeddict(kind):
        _check_fields(value, kind, where)
    elif origin is not None:  # Mapping[str, ...]
        if not isinstance(value, dict):
            raise _wrong(value, "an object", where)
        for name, item in value.items():
            _check(item, arguments[1], f"{where}.{one_line(name[:SHOWN])}")
    else:
        _check_scalar(value, kind, where)


def _check_any(value: Any, kinds: tuple[Any, ...], where: str) -> None:
    problem: _Wrong | None = None
    for kind in kinds:
        if kind is type(None):
            if value is None:
                return
            continue
        try:
            _check(value, kind, where)
        except _Wrong as exc:
            problem = problem or exc
        else:
            return
    raise problem or _wrong(value, "null", where)


def _check_fields(value: Any, kind: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise _wrong(value, "an object", where)
    for field, inner in _fields(kind).items():
        name = field.rstrip("_")  # `with` is no name in Python
        if name in value:
            _check(value[name], inner, f"{where}.{name}")
        elif field in kind.__required_keys__:
            raise _Wrong(f"{where.lstrip('.') or 'it'} lacks {name!r}")


def _check_scalar(value: Any, kind: Any, where: str) -> None:
    if kind is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
        if not fits or not math.isfinite(value):
            raise _wrong(value, "a number", where)
    elif type(value) is not kind:
        raise _wrong(value, {int: "a whole number", str: "a text", bool: "true or false"}[kind], where)
    elif kind is int and abs(value) >= LARGEST:
        raise _wrong(value, "a number that a counter can have", where)


def _wrong(value: Any, wanted: str, where: str) -> _Wrong:
    shown = f"{type(value).__name__} of {len(value)}" if isinstance(value, (dict, list)) else _shown(value)
    return _Wrong(f"{where.lstrip('.') or 'it'} is {shown} and not {wanted}")


def _shown(value: Any) -> str:
    return "a number of hundreds of digits" if type(value) is int and abs(value) >= 10**SHOWN else repr(value)[:SHOWN]


@cache
def _fields(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
