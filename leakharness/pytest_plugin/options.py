"""pytest's flags, ini keys and marker, made from the table in ``leakharness.options``, and how one is looked up."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from leakharness.errors import OptionError
from leakharness.options import BY_INI_KEY, Option, checked, options_at

__all__ = ["MARKER", "TRACE_FLAG", "add_options", "setting"]

MARKER = (
    "leakcheck("
    + ", ".join(f"{option.name}=" for option in options_at("marker"))
    + "): the body of this test is run many times and must leave nothing behind (leakharness)."
)
TRACE_FLAG = "--leak-trace"
TYPES: dict[str, type] = {"whole": int, "number": float}
"""What argparse reads an option of this kind as; everything else is text."""


def add_options(parser: pytest.Parser) -> None:
    """A flag and an ini key for each option that the table has at pytest."""
    group = parser.getgroup("leakharness", "memory leaks (leakharness)")
    for option in options_at("pytest"):
        key, text = option.ini_key, option.pytest_help_text
        if option.kind == "switch":
            action = "store_true" if option.default is False else argparse.BooleanOptionalAction
            group.addoption(option.pytest_flag, action=action, default=None, dest=key, help=text)
            parser.addini(key, text, type="bool", default=option.default)
            continue
        kind: Any = {} if option.word else {"type": TYPES.get(option.kind, str)}
        if option.pytest_flag == TRACE_FLAG:
            kind = {"nargs": "?", "const": ""}
        group.addoption(option.pytest_flag, default=None, dest=key, metavar=option.metavar, help=text, **kind)
        parser.addini(key, text, default=None)


def setting(config: pytest.Config, key: str) -> Any:
    """The option ``key``: command line, else ini; None where neither says anything.

    Raises pytest.UsageError for a value that the table does not allow.
    """
    option = BY_INI_KEY[key]
    value, where = config.getoption(key, None), "command line"
    if value is None:
        value, where = config.getini(key), "ini file"
        if value in (None, "") or (option.kind == "switch" and value == option.default):
            return option.default if option.kind == "switch" else None
    if not isinstance(value, str) or option.kind == "text":
        return value if option.kind in ("text", "switch") else _checked(option, value, where)
    read = option.from_text(value)
    if isinstance(read, str) and option.kind in TYPES and read != option.word:
        raise pytest.UsageError(f"ini option {key} = {value!r}: a number is needed")
    return read if read == option.word else _checked(option, read, where)


def _checked(option: Option, value: Any, where: str) -> Any:
    try:
        return checked(option.name, value, where)
    except OptionError as exc:
        raise pytest.UsageError(str(exc).replace(option.flag, option.pytest_flag, 1)) from None
