"""Which changes to the judge does no test notice? Mutates judge/ and prints what survives, and a table by module.

usage: judge_mutants.py [--jobs 1] [--only TEXT] [--longest SECONDS] [-k EXPRESSION] [--tests FILE...]

Each number of judge/ is moved by half, down and up; each comparison is turned into its neighbour (``<`` and ``<=``,
``>`` and ``>=``, ``==`` and ``!=``), each ``and`` into ``or`` and back. The tests are collected once, in this process;
each mutant is tried in a forked copy of it, which puts the code of the changed text in the place of the original's and
runs the tests that come through the changed statement, the likeliest to notice first. A mutant that leaves all of them
green has survived, unless ``EQUIVALENT`` says why no test can tell it from the original.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
JUDGE = ROOT / "leakharness" / "judge"
MODULES = ("policy", "series", "doubling", "drains", "verdict")
"""Of judge/, each after those that it imports."""
CHECKED_BY = (
    "judge_table",
    "judge_numbers",
    "judge_edges",
    "judge_teeth",
    "judge_rules",
    "judge_rare_keys",
    "judge_doubling",
    "following",
    "quick_look",
    "runner_loop",
)
TESTS = tuple(f"tests/unit/test_{name}.py" for name in CHECKED_BY)
SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
NEIGHBOUR = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
TIMEOUT_S = 120
"""A mutant whose tests take longer than this loops for ever: it was noticed."""

ANY_DIGIT = "any last digit that is far smaller than a figure keeps both sides of the line together"
EQUIVALENT: Mapping[tuple[str, str], str] = {
    ("series.py", "before.rise > 0: > -> >="): "a warm-up that does not rise has no pace that another could be below",
    ("series.py", "apart > 0: > -> >="): "where it is 0 the second condition decides",
    ("policy.py", "AGREES: 1e-09 -> 5e-10"): ANY_DIGIT,
    ("policy.py", "AGREES: 1e-09 -> 1.5000000000000002e-09"): ANY_DIGIT,
    (
        "series.py",
        "rises: 1 -> 0",
    ): "the floor never falls, so that reading 0 is not above the last one",
    ("series.py", "flat: 1 -> 0"): "where there is a rise, the last reading is above the first",
    ("verdict.py", "len(readings) <= SEGMENTS: <= -> <"): "five readings are four batches, and no four are called",
    (
        "verdict.py",
        "values is None or known is None or known.state == 'grows': or -> and",
    ): "a counter that no reading lacks is judged, and no other: both are None, or neither is",
    ("verdict.py", "series.batches > 0: > -> >="): "one reading has no steps",
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

    @property
    def lines(self) -> range | None:
        """The lines of the statement, of one with a body its head; None outside of functions: any test may need it."""
        found = None
        for node in ast.walk(ast.parse((JUDGE / self.file).read_bytes())):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            for statement in ast.walk(node):
                if isinstance(statement, ast.stmt) and statement.lineno <= self.line <= (statement.end_lineno or 0):
                    held = isinstance(node, ast.FunctionDef) and statement is not node
                    body = getattr(statement, "body", None)
                    end = body[0].lineno - 1 if body else statement.end_lineno or 0
                    if held and self.line <= end:
                        found = range(statement.lineno, end + 1)
        return found


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
        if isinstance(node, ast.Compare):
            for a, op, b in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                if type(op) in SIGNS:
                    pairs.append((a, b, SIGNS[type(op)], NEIGHBOUR[SIGNS[type(op)]]))
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


def change(mutant: Mutant) -> None:
    """Make the judge of this process the mutant: its functions get the code of a judge that is imported from the
    changed text, and whoever imported one of its constants gets the new one."""
    names = [f"leakharness.judge.{name}" for name in MODULES]
    old = {name: sys.modules.pop(name) for name in names}
    sys.meta_path.insert(0, Changed(mutant))
    new = {name: importlib.import_module(name) for name in names}
    sys.modules.update(old)
    for name in names:
        for key, value in vars(new[name]).items():
            if not key.startswith("__"):
                put(key, vars(old[name])[key], value)


def put(name: str, old: Any, new: Any) -> None:
    """One name of a module: ``new`` in the place of ``old``."""
    if isinstance(old, FunctionType):
        put_code(old, new)
    elif isinstance(old, type):
        if old.__module__.startswith("leakharness.judge."):
            for key, value in list(vars(old).items()):
                put_member(old, key, value, vars(new)[key])
    elif name == "RULES":
        for rule, changed in zip(old, new, strict=True):
            for key, value in vars(changed).items():
                object.__setattr__(rule, key, value)
    elif not isinstance(old, ModuleType) and old != new:
        for module in list(sys.modules.values()):
            if vars(module).get(name) is old:
                setattr(module, name, new)


def put_member(owner: type, name: str, old: Any, new: Any) -> None:
    """One member of a class."""
    if isinstance(old, FunctionType):
        put_code(old, new)
    elif isinstance(old, property):
        put_code(old.fget, new.fget)
    elif isinstance(old, functools.cached_property):
        put_code(old.func, new.func)
    elif isinstance(old, classmethod):
        put_code(old.__func__, new.__func__)
    elif isinstance(old, (int, float, str)) and old != new:
        setattr(owner, name, new)


def put_code(old: Any, new: Any) -> None:
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


@dataclass(frozen=True)
class Known:
    """Of one test without a change: its seconds, and the lines of judge/ that it comes through."""

    seconds: float
    lines: frozenset[tuple[str, int]]


@dataclass
class Mutants:
    """A plugin of pytest: tries the mutants in place of running the tests that were collected."""

    mutants: Sequence[Mutant]
    jobs: int
    longest: float
    known: dict[str, Known] = field(default_factory=dict)
    noticed_by: Counter[str] = field(default_factory=Counter)
    failed: bool = False
    failures: int = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Before the tests are imported: the same examples every time, and none that are made smaller."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=phases)
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed = self.failed or report.failed

    def pytest_runtestloop(self, session: Any) -> bool:
        gc.collect()
        gc.freeze()
        self.known = self.without_a_change(session.items)
        if not self.known:
            sys.exit("the tests fail without any change: nothing can be said of mutants")
        items = [item for item in session.items if self.known[item.nodeid].seconds <= self.longest]
        took = sum(self.known[item.nodeid].seconds for item in items)
        print(f"{len(self.mutants)} mutants, {len(items)} tests of {took:.0f} s", flush=True)
        self.failures = report_on(self.mutants, self.tried(items))
        return True

    def run(self, items: Sequence[Any]) -> str | None:
        """The first of the tests that fails, in this very process."""
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.failed:
                return str(item.nodeid)
        return None

    def without_a_change(self, items: Sequence[Any]) -> dict[str, Known]:
        """What there is to know of each test; nothing where one fails."""

        def look() -> Iterator[str]:
            for item, after in zip(items, [*items[1:], None], strict=True):
                lines, began = set[tuple[str, int]](), time.process_time()
                with lines_into(lines):
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if self.failed:
                    print(f"{item.nodeid} fails without a change", file=sys.__stderr__)
                    return
                yield json.dumps([item.nodeid, time.process_time() - began, sorted(lines)]) + "\n"

        pid, out = started(look)
        with out:
            rows = [json.loads(line) for line in out]
        os.waitpid(pid, 0)
        known = {name: Known(took, frozenset((file, line) for file, line in lines)) for name, took, lines in rows}
        return known if len(known) == len(items) else {}

    def likeliest_first(self, mutant: Mutant, items: Sequence[Any]) -> list[Any]:
        """The tests that come through the changed statement: those that cost little, or have noticed much, first."""
        lines = mutant.lines
        at = None if lines is None else {(mutant.file, line) for line in lines}
        through = [item for item in items if at is None or not self.known[item.nodeid].lines.isdisjoint(at)]
        return sorted(
            through, key=lambda item: self.known[item.nodeid].seconds / (1 + self.noticed_by[mutant.file + item.nodeid])
        )

    def tried(self, items: Sequence[Any]) -> Iterator[tuple[Mutant, str]]:
        """Each mutant, and the test that noticed it, or "", as soon as that is known."""
        left, running = list(reversed(self.mutants)), dict[int, tuple[Mutant, Any]]()
        while left or running:
            while left and len(running) < self.jobs:
                mutant = left.pop()
                pid, out = started(functools.partial(self.noticing, mutant, self.likeliest_first(mutant, items)))
                running[pid] = mutant, out
            pid, status = os.wait()
            mutant, out = running.pop(pid)
            with out:
                by = out.read() or ("a copy that did not end" if status else "")
            self.noticed_by[mutant.file + by] += 1
            yield mutant, by

    def noticing(self, mutant: Mutant, items: Sequence[Any]) -> Iterator[str]:
        """In a copy: the test that notices the mutant, if any does."""
        try:
            change(mutant)
        except Exception:  # the judge itself refuses the change
            yield "an import"
        else:
            yield self.run(items) or ""


@contextlib.contextmanager
def lines_into(found: set[tuple[str, int]]) -> Iterator[None]:
    """The lines of judge/ that are run meanwhile; all of them where this Python cannot tell (before 3.12)."""
    if sys.version_info < (3, 12):
        found.update((path.name, line) for path in JUDGE.glob("*.py") for line in range(1000))
        yield
        return
    watch, tool = sys.monitoring, sys.monitoring.PROFILER_ID

    def run(code: CodeType, line: int) -> Any:
        if code.co_filename.startswith(str(JUDGE)):
            found.add((Path(code.co_filename).name, line))
        return watch.DISABLE

    watch.use_tool_id(tool, "judge_mutants")
    watch.register_callback(tool, watch.events.LINE, run)
    watch.set_events(tool, watch.events.LINE)
    watch.restart_events()
    try:
        yield
    finally:
        watch.free_tool_id(tool)


def started(work: Any) -> tuple[int, Any]:
    """The id of a forked copy of this process that does some work, and the stream of what the work yields."""
    out, into = os.pipe()
    pid = os.fork()
    if pid:
        os.close(into)
        return pid, os.fdopen(out)
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(TIMEOUT_S if isinstance(work, functools.partial) else 0)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        with os.fdopen(into, "w") as stream:
            stream.writelines(work())
    finally:
        os._exit(0)


def report_on(mutants: Sequence[Mutant], tried: Iterator[tuple[Mutant, str]]) -> int:
    """Print what survives, and the table; the number of those that no reason is given for."""
    began, all_, noticed, equivalent = time.monotonic(), Counter[str](), Counter[str](), Counter[str]()
    for done, (mutant, by) in enumerate(tried, 1):
        reason = EQUIVALENT.get((mutant.file, mutant.what))
        all_[mutant.file] += 1
        noticed[mutant.file] += bool(by)
        equivalent[mutant.file] += not by and bool(reason)
        if not by:
            print(f"survived  {mutant.file}:{mutant.line}  {mutant.what}  {reason or ''}".rstrip(), flush=True)
        elif reason:
            print(f"noticed, though listed as equivalent  {mutant.file}:{mutant.line}  {mutant.what}  {by}", flush=True)
        if done % 25 == 0:
            print(f"... {done} of {len(mutants)} in {time.monotonic() - began:.0f} s", flush=True)
    print(f"{'module':<14}{'mutants':>8}{'noticed':>9}{'equivalent':>12}{'noticed of all':>16}{'of the others':>15}")
    for file in (*all_, ""):
        count, seen, same = (c[file] if file else c.total() for c in (all_, noticed, equivalent))
        shares = f"{seen / max(1, count):>16.1%}{seen / max(1, count - same):>15.1%}"
        print(f"{file or 'all':<14}{count:>8}{seen:>9}{same:>12}{shares}")
    return all_.total() - noticed.total() - equivalent.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="mutants alone whose description holds this text")
    parser.add_argument("--longest", type=float, default=math.inf, help="leave out the tests that take longer")
    parser.add_argument("-k", default="", help="tests alone that pytest's -k picks")
    parser.add_argument("--tests", nargs="+", default=[test for test in TESTS if (ROOT / test).exists()])
    given = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    mutants = [
        mutant
        for path in sorted(JUDGE.glob("*.py"))
        for mutant in told_apart((*numbers(path), *operators(path)))
        if given.only in f"{mutant.file}:{mutant.line}: {mutant.what}"
    ]
    plugin = Mutants(mutants, given.jobs, given.longest)
    without = [word for name in ("cacheprovider", "xdist", "randomly", "terminal") for word in ("-p", f"no:{name}")]
    ended = pytest.main(
        ["-s", "-o", "addopts=", *without, "-p", "no:leakharness", "-k", given.k, *given.tests], plugins=[plugin]
    )
    sys.exit(int(ended) or plugin.failures > 0)


if __name__ == "__main__":
    main()
