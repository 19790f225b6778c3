"""Which changes to the judge does no test notice? Mutates judge/ and prints what survives.

usage: judge_mutants.py [--jobs 2] [--tests FILE...]

Each number of ``policy.py`` is moved by half, down and up; each comparison of ``series.py`` and ``verdict.py`` is
turned into its neighbour (``<`` and ``<=``, ``>`` and ``>=``, ``==`` and ``!=``), each ``and`` into ``or`` and back.
Every mutant runs the unit tests of the judge in a process of its own, from a copy of the package. One that leaves them
green has survived.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JUDGE = ROOT / "leakharness" / "judge"
TESTS = ("tests/unit/test_judge_table.py", "tests/unit/test_runner_loop.py")
NEIGHBOUR = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
TIMEOUT_S = 120.0
"""A mutant whose tests take longer than this loops for ever: it was noticed."""


@dataclass(frozen=True)
class Mutant:
    """One changed place: the file, its line, what it says there and what the mutant says instead."""

    file: str
    line: int
    start: int
    end: int
    new: str
    what: str


def offsets(text: str) -> list[int]:
    """The offset of each line's first byte; positions of ``ast`` are in bytes."""
    found = [0]
    for line in text.encode().splitlines(keepends=True):
        found.append(found[-1] + len(line))
    return found


def numbers(path: Path) -> Iterator[Mutant]:
    """Each number that a constant of the policy is given, times one half and three halves."""
    text = path.read_text("utf-8")
    starts = offsets(text)
    for node in ast.parse(text).body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        for number in ast.walk(node.value):
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


def survives(mutant: Mutant, tests: tuple[str, ...]) -> bool:
    """Whether every test stays green with this change."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "leakharness"
        shutil.copytree(ROOT / "leakharness", package, ignore=shutil.ignore_patterns("__pycache__"))
        file = package / "judge" / mutant.file
        raw = file.read_bytes()
        file.write_bytes(raw[: mutant.start] + mutant.new.encode() + raw[mutant.end :])
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": folder, "CI": "true", "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tests", nargs="+", default=list(TESTS))
    given = parser.parse_args()
    mutants = list(numbers(JUDGE / "policy.py"))
    for name in ("series.py", "verdict.py"):
        mutants += operators(JUDGE / name)
    unchanged = Mutant("policy.py", 0, 0, 0, "", "nothing changed")
    if not survives(unchanged, tuple(given.tests)):
        sys.exit("the tests fail without any change: nothing can be said of mutants")
    with ThreadPoolExecutor(given.jobs) as pool:
        alive = list(pool.map(lambda mutant: survives(mutant, tuple(given.tests)), mutants))
    for mutant, lives in zip(mutants, alive, strict=True):
        if lives:
            print(f"survived  {mutant.file}:{mutant.line}  {mutant.what}")
    killed = len(mutants) - sum(alive)
    print(f"{killed} of {len(mutants)} mutants noticed ({killed / len(mutants):.0%})")


if __name__ == "__main__":
    main()
