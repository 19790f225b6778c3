"""Every place that takes options takes those that the table has there, and no other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

import leakharness
from leakharness import api
from leakharness.cli import make_app
from leakharness.cli.measuring import Given, measuring
from leakharness.measure.arm import Settings
from leakharness.options import (
    BY_NAME,
    PLACES,
    TABLE,
    Option,
    Place,
    default_of,
    names_at,
    options_at,
)
from leakharness.options_reference import reference
from leakharness.pytest_plugin import checks
from leakharness.resolve import pyproject_options
from leakharness.scenario.declare import Scenario

OWN: dict[Place, set[str]] = {
    "run": {"scenario", "mode"},
    "check": {"scenarios", "all_"},
    "prove": {"scenario", "before", "after", "with_", "mode", "on_path", "wheels", "env_dir"},
    "bisect": {"scenario", "good", "bad", "with_", "mode", "on_path", "wheels", "env_dir", "restart"},
    "calibrate": {"scenario", "repeats"},
}
"""What a command asks beside the table, as only this command has it."""
COMMANDS: tuple[Place, ...] = ("run", "check", "prove", "bisect", "calibrate")


def at(*places: Place) -> list[Any]:
    """(place, option) for each option of these places."""
    return [pytest.param(p, o, id=f"{p}-{o.name}") for p in places for o in options_at(p)]


def value_of(option: Option) -> Any:
    """Some value that is allowed, and is not the default."""
    if option.kind == "choice":
        return next(choice for choice in option.choices if choice != option.default)
    values = {"whole": 7, "number": 7.0, "text": "some", "switch": not option.default, "sensitivity": "2,100"}
    values["duration"] = "10m"
    return values[option.kind]


@pytest.fixture(scope="module")
def commands() -> Any:
    """The commands as they are on the command line."""
    return typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]


def test_a_name_is_there_once_and_stands_somewhere() -> None:
    """Names and pytest's keys are unique; each option has a place; places have the names of the table alone."""
    assert len(BY_NAME) == len(TABLE)
    keys = [option.ini_key for option in options_at("pytest")]
    assert len(set(keys)) == len(keys)
    for option in TABLE:
        assert option.places
        assert set(option.places) <= set(PLACES)
        assert option.kind != "choice" or option.choices
        assert not option.help.endswith(".")


def test_what_steers_a_measurement_can_be_said_in_every_file() -> None:
    """One that a scenario may set can be set in pyproject.toml and in the functions as well."""
    for option in TABLE:
        assert not option.plan or {"run", "check", "pyproject", "scenario", "function"} <= set(option.places)


@pytest.mark.parametrize("place", COMMANDS)
def test_a_command_has_the_options_of_the_table_and_its_own(place: Place, commands: Any) -> None:
    """None is missing, and none is written by hand beside the table."""
    names = {parameter.name for parameter in commands[place].params} - {"help"}
    assert names == names_at(place) | OWN[place]


@pytest.mark.parametrize(("place", "option"), at(*COMMANDS))
def test_an_option_of_a_command(place: Place, option: Option, commands: Any) -> None:
    """It has the flag of the table, and its help says the default."""
    parameter = next(parameter for parameter in commands[place].params if parameter.name == option.name)
    assert {option.flag, option.short} - {""} == set(parameter.opts)
    assert parameter.help == option.help_text
    assert option.default_text in parameter.help


@pytest.mark.parametrize(("place", "option"), at(*COMMANDS))
def test_what_is_typed_reaches_the_settings(place: Place, option: Option) -> None:
    """A value that is given comes out where a measurement looks for it."""
    seen: list[Given] = []

    @measuring(place)
    def command(given: Given) -> None:
        seen.append(given)

    words = {other.name: None for other in options_at(place)}
    text = str(value_of(option)) if option.word else value_of(option)
    command(**{**words, option.name: text})
    given = seen[0]
    if option.plan:
        assert given.settings().options[option.name] == value_of(option)
    elif option.name in Settings.__dataclass_fields__:
        assert getattr(given.settings(), option.name) == value_of(option)
    else:
        assert given.rest[option.name] == value_of(option)


@pytest.mark.parametrize(("place", "option"), at("pyproject"))
def test_pyproject_takes_it(place: Place, option: Option, tmp_path: Path) -> None:
    """With dashes as with underscores."""
    value = value_of(option)
    text = str(value).lower() if isinstance(value, (bool, int, float)) else f'"{value}"'
    for name in (option.name, option.name.replace("_", "-")):
        (tmp_path / "pyproject.toml").write_text(f"[tool.leakharness]\n{name} = {text}\n")
        assert pyproject_options(tmp_path) == {option.name: value}


@pytest.mark.parametrize(("place", "option"), at("scenario"))
def test_a_scenario_takes_it(place: Place, option: Option) -> None:
    """As a named argument."""
    assert Scenario("some", **{option.name: value_of(option)}).options == {option.name: value_of(option)}


@pytest.mark.parametrize("name", ["run", "check"])
@pytest.mark.parametrize(("place", "option"), at("function"))
def test_the_functions_take_it(place: Place, option: Option, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a named argument, and it reaches the settings."""
    seen: list[Settings] = []
    monkeypatch.setattr(api, "_find", lambda scenario: scenario)
    monkeypatch.setattr(api, "run_found", lambda found, mode, settings: seen.append(settings))
    monkeypatch.setattr(api, "check_found", lambda found, settings: seen.append(settings))
    getattr(leakharness, name)("some", **{option.name: value_of(option)})
    found = seen[0].options[option.name] if option.plan else getattr(seen[0], option.name)
    assert found == value_of(option)


@pytest.mark.parametrize(("place", "option"), at("pytest"))
def test_pytest_has_flag_and_ini_key(place: Place, option: Option, pytestconfig: pytest.Config) -> None:
    """Both are registered; a name that is not would raise ValueError."""
    pytestconfig.getoption(option.ini_key)
    pytestconfig.getini(option.ini_key)
    assert re.fullmatch(r"--leak(check|-[a-z-]+)", option.pytest_flag)


@pytest.mark.parametrize(("place", "option"), at("marker"))
def test_the_marker_takes_it(place: Place, option: Option, request: pytest.FixtureRequest) -> None:
    """As a named argument."""
    wanted = "here" if option.name == "process" else value_of(option)
    request.node.add_marker(pytest.mark.leakcheck(**{option.name: wanted}))
    assert checks._mark_options(request.node, False)[option.name] == wanted
    assert f"{option.name}=" in checks_marker(request.config)


def checks_marker(config: pytest.Config) -> str:
    """What ``pytest --markers`` says of leakcheck."""
    return next(line for line in config.getini("markers") if line.startswith("leakcheck("))


@pytest.mark.parametrize(("place", "option"), at("callable"))
def test_assert_no_leak_takes_it(
    place: Place, option: Option, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a named argument, and it reaches the judge."""
    seen: list[Any] = []

    def judged(config: Any, subject: Any, where: str) -> checks.CheckOutcome:
        seen.append({**subject.options, "process": where})
        return checks.CheckOutcome("PASS", "", {})

    monkeypatch.setattr(checks, "_judged", judged)
    wanted = "here" if option.name == "process" else value_of(option)
    checks.LeakHarness(request.config, "some").assert_no_leak(lambda: None, **{option.name: wanted})
    assert seen[0][option.name] == wanted


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.name)
def test_the_reference_has_it(option: Option) -> None:
    """With its flag as it is typed, what it means and its default, in a row of a table."""
    words = (option.flag, f"`{option.pytest_flag}`", f"`{option.name}=`")  # one of the marker alone has no flag
    rows = [line for line in reference().splitlines() if any(word in line for word in words)]
    assert any((option.help in row or option.pytest_help in row) and option.default_text in row for row in rows)


def test_the_reference_is_printed_without_anything_heavy() -> None:
    """``python -m leakharness.options_reference`` needs the standard library alone."""
    code = (
        "import runpy, sys; runpy.run_module('leakharness.options_reference', run_name='__main__');"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'typer', 'pytest', 'rich')))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == reference()


def test_a_default_stands_in_the_table_alone() -> None:
    """No other file of the package has the numbers of the budget in it, as a value or in prose."""
    package = Path(leakharness.__file__).parent
    numbers = {default_of("scope_bytes"), default_of("max_runs")}
    found = [
        f"{path.name}:{node.lineno}"
        for path in package.rglob("*.py")
        if path.name not in ("options.py",) and "worker" not in path.parts and "heap" not in path.parts
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.keyword | ast.AnnAssign)
        and isinstance(node.value, ast.Constant)
        and node.value.value in numbers
    ]
    assert found == []


def test_the_names_of_the_documents_are_pinned() -> None:
    """A reader tells documents by their schema: they stay what they are when modules move."""
    package = Path(leakharness.__file__).parent
    names = {
        name for path in package.rglob("*.py") for name in re.findall(r'"leakharness\.([\w.]+)/1"', path.read_text())
    }
    assert names >= {"run", "check", "checks", "prove", "verify", "hotspots", "trace", "shape", "new", "diff", "list"}
    assert not any("." in name for name in names)


def test_a_page_is_asked_for_only_where_one_is_written() -> None:
    """``bisect`` keeps its steps and writes none: an option that does nothing would promise one."""
    assert {place for place in COMMANDS if "report" in names_at(place)} == {"run", "check", "prove"}
