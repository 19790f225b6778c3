"""Which changes to the judge does no test notice? Mutates judge/ and prints what survives.

usage: judge_mutants.py [--jobs 2] [--only TEXT] [--longest SECONDS] [--tests FILE...]

Each number of judge/ is moved by half, down and up; each comparison is turned into its neighbour (``<`` and ``<=``,
``>`` and ``>=``, ``==`` and ``!=``), each ``and`` into ``or`` and back. Every mutant runs the unit tests of the judge
in a forked copy of this process, which has imported pytest and all that the tests need but the judge: the copy imports
the judge from the changed text and runs the quickest tests first. A mutant that leaves all of them green has survived,
unless ``EQUIVALENT`` says why no test can tell it from the original.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
JUDGE = ROOT / "leakharness" / "judge"
CHECKED_BY = (
    "judge_table",
    "judge_numbers",
    "judge_edges",
    "judge_teeth",
    "judge_rules",
    "judge_doubling",
    "runner_loop",
)
TESTS = tuple(f"tests/unit/test_{name}.py" for name in CHECKED_BY)
NEIGHBOUR = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
TIMEOUT_S = 120
"""A mutant whose tests take longer than this loops for ever: it was noticed."""

ANY_DIGIT = "any last digit that is far smaller than a figure keeps both sides of the line together"
REAL = "both sides are quotients of sums over a whole series, and equal by chance alone"
EQUIVALENT: Mapping[tuple[str, str], str] = {
    ("series.py", "filling.spent > max(SLIGHT, SLOWS * filling.error): > -> >="): REAL,
    ("series.py", "filling.at_most(SURE).spent > WIDEST: > -> >="): REAL,
    ("series.py", "store.spent > max(SLIGHT, SLOWS * store.error): > -> >="): REAL,
    ("series.py", "smallest.spent > WIDEST: > -> >="): REAL,
    ("series.py", "filling.spent <= WIDEST: <= -> <"): REAL,
    ("series.py", "before.rise > 0: > -> >="): "a warm-up that does not rise has no pace that another could be below",
    ("series.py", "apart > 0: > -> >="): "where it is 0 the second condition decides",
    ("policy.py", "AGREES: 1e-09 -> 5e-10"): ANY_DIGIT,
    ("policy.py", "AGREES: 1e-09 -> 1.5000000000000002e-09"): ANY_DIGIT,
    ("policy.py", "patience: int = 3: 3 -> 2"): "FLAT_GAPS asks for three flat batches, but of one step of an inexact "
    "counter in five batches, and half of those is three",
    (
        "series.py",
        "rises: 1 -> 0",
    ): "the floor never ends below where it began, so that reading 0 is not above the last one",
    ("series.py", "batches >= tail: >= -> >"): "where the tail is all of the series, both figures are the whole rise",
    (
        "series.py",
        "abs(middle - whole) <= AGREES * abs(whole): <= -> <",
    ): "no series lies on the line: AGREES has a digit more than a figure, so that none does",
    ("series.py", "flat: 1 -> 0"): "where there is a rise, the last reading is above the first",
    ("verdict.py", "len(readings) <= SEGMENTS: <= -> <"): "five readings are four batches, and no four are called",
    ("verdict.py", "size < LARGEST_LEAK: < -> <="): "no leak of the steps that are tried is exactly that large",
}
"""(file, what is changed) of the survivors that no test can tell from the original, each with the reason."""


@dataclass(frozen=True)
class Mutant:
    """One changed place: the file, its line, what it says there and what the mutant says instead."""

    file: str
    line: int
    start: int
    end: int
    new: str
    what: str

    @property
    def text(self) -> bytes:
        """The changed file."""
        raw = (JUDGE / self.file).read_bytes()
        return raw[: self.start] + self.new.encode() + raw[self.end :]


def offsets(text: str) -> list[int]:
    """The offset of each line's first byte; positions of ``ast`` are in bytes."""
    found = [0]
    for line in text.encode().splitlines(keepends=True):
        found.append(found[-1] + len(line))
    return found


def places(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Each node with a name for the statement that it stands in: its target, or its first words."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.stmt) and not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            for node in expressions(statement):
                yield label(statement), node


def expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement without those of the statements inside it."""
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt):
            yield from ast.walk(child)


def label(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0])
    return ast.unparse(statement).splitlines()[0][:70]


def numbers(path: Path) -> Iterator[Mutant]:
    """Each number, times one half and three halves."""
    text = path.read_text("utf-8")
    starts = offsets(text)
    for name, number in places(ast.parse(text)):
        if not isinstance(number, ast.Constant) or type(number.value) not in (int, float) or not number.value:
            continue
        for factor in (0.5, 1.5):
            moved = number.value * factor
            new = repr(round(moved) if isinstance(number.value, int) else moved)
            if new != repr(number.value):
                start = starts[number.lineno - 1] + number.col_offset
                end = starts[(number.end_lineno or 0) - 1] + (number.end_col_offset or 0)
                yield Mutant(path.name, number.lineno, start, end, new, f"{name}: {number.value!r} -> {new}")


def operators(path: Path) -> Iterator[Mutant]:
    """Each comparison turned into its neighbour, each ``and`` into ``or`` and back."""
    text = path.read_text("utf-8")
    raw, starts = text.encode(), offsets(text)

    def between(left: ast.expr, right: ast.expr) -> tuple[int, int]:
        start = starts[(left.end_lineno or 0) - 1] + (left.end_col_offset or 0)
        return start, starts[right.lineno - 1] + right.col_offset

    for node in ast.walk(ast.parse(text)):
        pairs: list[tuple[ast.expr, ast.expr, str, str]] = []
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in NEIGHBOUR:
            old = {"<=": "<", "<": "<=", ">=": ">", ">": ">=", "!=": "==", "==": "!="}[NEIGHBOUR[type(node.ops[0])]]
            pairs.append((node.left, node.comparators[0], old, NEIGHBOUR[type(node.ops[0])]))
        elif isinstance(node, ast.BoolOp):
            old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            pairs += [(a, b, old, new) for a, b in zip(node.values, node.values[1:], strict=False)]
        for left, right, old, new in pairs:
            start, end = between(left, right)
            at = raw[start:end].find(old.encode())
            if at >= 0:
                what = f"{ast.unparse(node)[:70]}: {old} -> {new}"
                yield Mutant(path.name, node.lineno, start + at, start + at + len(old), new, what)


def told_apart(mutants: Sequence[Mutant]) -> Iterator[Mutant]:
    """The mutants of a file, with a count in the description of those that would read as one before them does."""
    seen = Counter[str]()
    for mutant in mutants:
        seen[mutant.what] += 1
        again = seen[mutant.what]
        yield mutant if again == 1 else replace(mutant, what=f"{mutant.what} ({again})")


class Changed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Imports one module of judge/ from another text than the file's."""

    def __init__(self, mutant: Mutant) -> None:
        self._path, self._text = str(JUDGE / mutant.file), mutant.text
        self._name = f"leakharness.judge.{Path(mutant.file).stem}"

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self._path, loader=self) if name == self._name else None

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_data(self, path: str) -> bytes:
        if path != self._path:
            raise OSError(path)  # a compiled file of the original
        return self._text


class QuickestFirst:
    """A plugin of pytest: runs the quickest tests first, by how long they took without a change, and no others."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if item.nodeid in self._seconds]
        items.sort(key=lambda item: self._seconds[item.nodeid])


class Stopwatch:
    """A plugin of pytest: how long each test took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


def tests_pass(tests: tuple[str, ...], plugin: object) -> bool:
    """Whether the tests pass in this very process. Their output goes nowhere."""
    import pytest

    quiet = (
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:randomly",
        "-p",
        "no:terminal",
        "-p",
        "no:leakharness",
    )
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return pytest.main(["-x", "-o", "addopts=", *quiet, *tests], plugins=[plugin]) == 0


def start_copy(mutant: Mutant, tests: tuple[str, ...], seconds: dict[str, float]) -> int:
    """The id of a forked copy of this process that tries the mutant: it ends with 0 where every test stays green."""
    pid = os.fork()
    if not pid:
        passed = False
        try:
            signal.alarm(TIMEOUT_S)
            sys.meta_path.insert(0, Changed(mutant))
            passed = tests_pass(tests, QuickestFirst(seconds))
        finally:
            os._exit(not passed)
    return pid


def tried(
    mutants: Sequence[Mutant], tests: tuple[str, ...], seconds: dict[str, float], jobs: int
) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant, and whether it survived, as soon as that is known."""
    left, running = list(reversed(mutants)), dict[int, Mutant]()
    while left or running:
        while left and len(running) < jobs:
            mutant = left.pop()
            running[start_copy(mutant, tests, seconds)] = mutant
        pid, status = os.wait()
        yield running.pop(pid), status == 0


def durations(tests: tuple[str, ...]) -> dict[str, float] | None:
    """How long each test takes without a change, or None where they fail; tried in a copy, so that this process goes
    without the judge."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(out)
        watch = Stopwatch()
        if tests_pass(tests, watch):
            with os.fdopen(into, "w") as stream:
                stream.writelines(f"{took} {name}\n" for name, took in watch.seconds.items())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as stream:
        rows = [line.rstrip("\n").split(" ", 1) for line in stream]
    os.waitpid(pid, 0)
    return {name: float(took) for took, name in rows} or None


def import_what_the_tests_need() -> None:
    """All but the judge and what imports it."""
    os.environ["CI"] = "true"  # the same examples every time
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import hypothesis.strategies  # noqa: F401
    import pytest  # noqa: F401

    import leakharness.errors
    import leakharness.model
    import leakharness.worker.codec
    import leakharness.worker.protocol  # noqa: F401


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="mutants alone whose description holds this text")
    parser.add_argument("--longest", type=float, default=math.inf, help="leave out the tests that take longer")
    parser.add_argument("--tests", nargs="+", default=[test for test in TESTS if (ROOT / test).exists()])
    given = parser.parse_args()
    import_what_the_tests_need()
    tests, began = tuple(given.tests), time.monotonic()
    mutants = [
        mutant for path in sorted(JUDGE.glob("*.py")) for mutant in told_apart((*numbers(path), *operators(path)))
    ]
    mutants = [mutant for mutant in mutants if given.only in f"{mutant.file}: {mutant.what}"]
    seconds = durations(tests)
    if seconds is None:
        sys.exit("the tests fail without any change: nothing can be said of mutants")
    seconds = {name: took for name, took in seconds.items() if took <= given.longest}
    print(f"{len(mutants)} mutants, {len(seconds)} tests of {sum(seconds.values()):.0f} s", flush=True)
    survived = excused = 0
    for done, (mutant, lives) in enumerate(tried(mutants, tests, seconds, given.jobs), 1):
        reason = EQUIVALENT.get((mutant.file, mutant.what))
        if lives:
            survived, excused = survived + 1, excused + bool(reason)
            print(f"survived  {mutant.file}:{mutant.line}  {mutant.what}  {reason or ''}".rstrip(), flush=True)
        elif reason:
            print(f"noticed, though listed as equivalent  {mutant.file}:{mutant.line}  {mutant.what}", flush=True)
        if done % 25 == 0:
            print(f"... {done} of {len(mutants)} in {time.monotonic() - began:.0f} s", flush=True)
    killed = len(mutants) - survived
    print(f"{killed} of {len(mutants)} mutants noticed ({killed / len(mutants):.1%}), {excused} equivalent ones not")
    sys.exit(survived > excused)


if __name__ == "__main__":
    main()
