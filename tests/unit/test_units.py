"""Numbers and sizes for people, and that no other module makes its own."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leakharness
from leakharness.units import KIB, UNITS, duration, mebibytes, number, signed, signed_mebibytes, signed_size, size

PACKAGE = Path(leakharness.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
OWN_UNIT = re.compile(r"^\s*(B|[kKMGT]i?B|bytes\b.*\b[kKMG]i?B)\b")
"""What follows a formatted value where a module writes a size by itself."""
DECIMAL = re.compile(r"(?<![A-Za-z_])[kKMGT]B(?![A-Za-z_])")
"""Decimal units, which nothing of ours uses: also not as a word. Not meant: a name such as MIN_KB, after
the option ``--min-kb``."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (1.0, "1"),
        (-0.5, "-0.5"),
        (99.96, "100"),
        (100.4, "100"),
        (-1250, "-1,250"),
        (2502992, "2,502,992"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    """Three digits below a hundred, whole with separators above."""
    assert number(value) == text


def test_signs() -> None:
    """A gain has a plus, a loss a minus, and nothing has neither."""
    assert [signed(v) for v in (1, -1, 0, 0.25)] == ["+1", "-1", "0", "+0.25"]
    assert [signed_size(v) for v in (2048, -2048, 0)] == ["+2 KiB", "-2 KiB", "0 B"]
    assert [signed_mebibytes(v) for v in (3 * 2**19, -(2**20), 0)] == ["+1.5MiB", "-1.0MiB", "+0.0MiB"]
    assert mebibytes(54 * 2**20) == "54.0MiB"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1023, "1,023 B"),
        (1023.6, "1 KiB"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (2.5 * 2**20, "2.5 MiB"),
        (500_000_000, "477 MiB"),
        (2**20 - 1, "1 MiB"),
        (-3 * 2**30, "-3 GiB"),
        (7e12, "6.37 TiB"),
        (2**60, "1,048,576 TiB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    """Binary, in the unit that leaves fewer than 1,024 of it."""
    assert size(count) == text


@given(st.floats(min_value=-(2.0**49), max_value=2.0**49, allow_nan=False))
def test_a_size_reads_back_as_what_it_was(count: float) -> None:
    """The text says the number to three digits, with one of the units, never with 1,024 or more of it."""
    figure, unit = size(count).split(" ")
    shown = float(figure.replace(",", ""))
    assert unit in UNITS
    assert abs(shown) < KIB
    assert shown * KIB ** UNITS.index(unit) == pytest.approx(count, rel=0.005, abs=1e-300)


@given(st.floats(0, 2.0**60), st.floats(0, 2.0**60))
def test_a_larger_size_never_reads_as_a_smaller_one(one: float, other: float) -> None:
    """Order survives the rounding."""

    def value(text: str) -> float:
        figure, unit = text.split(" ")
        return float(figure.replace(",", "")) * KIB ** UNITS.index(unit)

    low, high = sorted((one, other))
    assert value(size(low)) <= value(size(high))


@given(st.one_of(st.floats(), st.integers(-(10**30), 10**30)))
def test_every_value_has_a_text(value: float) -> None:
    """Not a number and the infinities, too: a stored document may hold anything."""
    assert all(len(text(value)) < 60 for text in (number, signed)) or abs(value) > 10**40
    assert size(value)
    assert signed_size(value)


def strings_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every string constant of a file that is no docstring: (line, text)."""
    tree = ast.parse(path.read_bytes())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def sizes_written_in(path: Path) -> list[str]:
    """Where a file formats a size by itself: a formatted value with a unit behind it, or a unit alone."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        found += [
            f"{path.name}:{node.lineno}: {text.value!r}"
            for value, text in itertools.pairwise(parts)
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant)
            if OWN_UNIT.match(str(text.value))
        ]
    found += [f"{path.name}:{line}: {text!r}" for line, text in strings_of(path) if text in {*UNITS[1:], "KB", "kB"}]
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "units.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_formats_a_size(path: Path) -> None:
    """One formatter, one unit system."""
    assert sizes_written_in(path) == []


def test_the_scan_sees_a_formatter(tmp_path: Path) -> None:
    """A check that cannot fail is none: each way in which a module has formatted a size is found."""
    for code in ('f"{n / 2**20:.1f} MiB"', 'f"{n} KiB or more"', 'f"{n:+d} B"', 'for unit in ("B", "KiB"): pass'):
        (tmp_path / "x.py").write_text(code)
        assert len(sizes_written_in(tmp_path / "x.py")) == 1
    (tmp_path / "x.py").write_text('"""Takes 5 KiB."""\nf"{n} Bytes of {size(n)}"\nhelp = "KiB that a file left"')
    assert sizes_written_in(tmp_path / "x.py") == []


def test_decimal_units_are_nowhere() -> None:
    """Neither in what is printed, nor in a comment, nor in the README: a reader need not ask which kilo it is."""
    texts = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.j2"), ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if DECIMAL.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.96, "0.96 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (600, "10 min"),
        (3599, "60 min"),
        (3600, "1 h"),
        (7505, "2 h 5 min"),
        (360_000, "100 h"),
    ],
)
def test_a_duration(seconds: float, text: str) -> None:
    """In the units that a person would use."""
    assert duration(seconds) == text
