"""The one table of options: what each is called, what it takes, its default, and where it may be given.

Every place that takes options reads this table: the defaults of :class:`leakharness.model.Plan`, the command line
(``cli/measuring.py``), ``[tool.leakharness]`` (``resolve.py``), ``Scenario(...)``, pytest's flags, ini keys and marker
(``pytest_plugin/options.py``), the functions ``run`` and ``check`` (``api.py``), and the reference page, which
``python -m leakharness.options_reference`` prints as markdown.

To add an option, add one line to :data:`TABLE`. One that steers the measurement (``plan=True``) also needs a field of
the same name in ``Plan``, with ``default_of`` as its default; everything else follows from the line. A kind of value
that is not here yet is one more entry of :data:`PARSERS` (text of the command line to value) and :data:`CHECKS`.

Standard library only: the measured process checks a scenario's options by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from leakharness.errors import OptionError

__all__ = [
    "BY_NAME",
    "DEFAULTS",
    "PLACES",
    "TABLE",
    "TESTS",
    "Option",
    "Place",
    "checked",
    "default_of",
    "names_at",
    "options_at",
]

Place = Literal[
    "run", "check", "prove", "bisect", "calibrate", "pyproject", "scenario", "function", "pytest", "marker", "callable"
]
PLACES: Mapping[Place, str] = {
    "run": "`run`",
    "check": "`check`",
    "prove": "`prove`",
    "bisect": "`bisect`",
    "calibrate": "`calibrate`",
    "pyproject": "pyproject",
    "scenario": "`Scenario()`",
    "function": "functions",
    "pytest": "pytest",
    "marker": "marker",
    "callable": "`assert_no_leak`",
}
"""Where an option can be given, and the short name of that place in the reference."""

Kind = Literal["whole", "number", "choice", "text", "switch", "sensitivity", "duration"]


@dataclass(frozen=True)
class Option:
    """One option. ``name`` is its name in Python and in pyproject.toml; flags and ini keys follow from it."""

    name: str
    kind: Kind
    help: str
    default: Any = None
    places: tuple[Place, ...] = ()
    plan: bool = False
    """Whether it steers the measurement: then it is a field of ``Plan`` and every layer may say it."""
    least: float | None = None
    """The smallest value allowed, in the unit that the help names."""
    choices: tuple[str, ...] = ()
    word: str = ""
    """A word that stands for None (``auto``)."""
    shown: str = ""
    """The default as a reader sees it, where that is not the value itself."""
    metavar: str = ""
    short: str = ""
    """A one-letter flag of the command line."""
    pytest_key: str = ""
    """The ini key of pytest, where it is not ``leak_`` and the name."""
    pytest_help: str = ""
    """What it means under pytest, where that differs."""

    @property
    def flag(self) -> str:
        """As it is typed after a command."""
        return "--" + self.name.replace("_", "-")

    @property
    def ini_key(self) -> str:
        """Its key in pytest's ini file."""
        return self.pytest_key or f"leak_{self.name}"

    @property
    def pytest_flag(self) -> str:
        """As it is typed after ``pytest``."""
        return "--leakcheck" if self.ini_key == "leak_check" else "--" + self.ini_key.replace("_", "-")

    @property
    def default_text(self) -> str:
        """The default as help texts show it; empty where there is nothing to say."""
        if self.shown or self.kind == "switch":
            return self.shown
        default = self.default
        return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)

    @property
    def help_text(self) -> str:
        """The help of a command line, with the default in brackets."""
        return f"{self.help} [{self.default_text}]." if self.default_text else f"{self.help}."

    @property
    def pytest_help_text(self) -> str:
        """The same for pytest's command line."""
        text = self.pytest_help or (self.help if self.help[:2].isupper() else self.help[0].lower() + self.help[1:])
        return f"{text} [{self.default_text}]" if self.default_text else text

    def from_text(self, text: str) -> Any:
        """The value that a command line or an ini file means by ``text``; text that means none is given back, for
        :func:`checked` to name."""
        if self.word and text == self.word:
            return text
        try:
            return PARSERS[self.kind](text)
        except ValueError:
            return text


PARSERS: Mapping[Kind, Callable[[str], Any]] = {
    "whole": int,
    "number": float,
    "choice": str,
    "text": str,
    "switch": lambda text: {"true": True, "false": False}.get(text.lower(), text),
    "sensitivity": str,
    "duration": str,
}

_COMMANDS: tuple[Place, ...] = ("run", "check", "prove", "bisect")
_FILES: tuple[Place, ...] = ("pyproject", "scenario", "function")
_RUNS: tuple[Place, ...] = ("run", "check", *_FILES)
_CALIBRATE: tuple[Place, ...] = ("calibrate",)
TESTS: tuple[Place, ...] = ("pytest", "marker", "callable")
_MEASURED: tuple[Place, ...] = (*_COMMANDS, *_FILES, *TESTS)

TABLE: tuple[Option, ...] = (
    Option("iters", "whole", "Runs a batch", 50, _MEASURED, plan=True, least=1, metavar="N"),
    Option("batches", "whole", "Batches before the judge is asked", 5, _MEASURED, plan=True, least=1, metavar="N"),
    Option(
        "warmup",
        "whole",
        "Runs before the baseline, or auto",
        None,
        _MEASURED,
        plan=True,
        least=0,
        word="auto",
        shown="auto",
        metavar="N",
    ),
    Option(
        "scope_bytes",
        "whole",
        "Payload of one run, in bytes",
        2_000_000,
        (*_COMMANDS, *_CALIBRATE, *_FILES, "pytest", "callable"),
        plan=True,
        least=0,
        metavar="BYTES",
    ),
    Option(
        "max_tracked_retention",
        "whole",
        "FAIL if more tracked objects are retained",
        None,
        _MEASURED,
        plan=True,
        least=0,
        shown="off",
        metavar="N",
    ),
    Option(
        "max_rss_growth_mb",
        "number",
        "FAIL if resident size grows by more MiB",
        None,
        _MEASURED,
        plan=True,
        least=0,
        shown="off",
        metavar="MIB",
    ),
    Option(
        "max_runs",
        "whole",
        "Budget of runs for an unclear case",
        10_000,
        (*_COMMANDS, *_CALIBRATE, *_FILES, *TESTS),
        plan=True,
        least=1,
        metavar="N",
    ),
    Option(
        "max_seconds",
        "number",
        "Budget of seconds for an unclear case",
        20.0,
        (*_COMMANDS, *_CALIBRATE, *_FILES, *TESTS),
        plan=True,
        least=0,
        metavar="SECONDS",
    ),
    Option(
        "sensitivity",
        "sensitivity",
        "The smallest leak a run that a PASS must have been able to see: objects, and bytes",
        "1,4096",
        _MEASURED,
        plan=True,
        metavar="OBJECTS[,BYTES]",
    ),
    Option("soak", "duration", "Measure for so long: 10m, 2h", None, _RUNS, plan=True, shown="off", metavar="DURATION"),
    Option(
        "timeout",
        "number",
        "Seconds for one mode",
        300.0,
        _MEASURED,
        plan=True,
        least=0.001,
        metavar="SECONDS",
        pytest_help="one check may take that long, in seconds",
    ),
    Option(
        "snapshots",
        "choice",
        "never, on-fail or always",
        "always",
        _RUNS,
        plan=True,
        choices=("never", "on-fail", "always"),
        shown="always for run, on-fail for check",
        metavar="WHEN",
    ),
    Option(
        "snap_dir",
        "text",
        "Where snapshots go",
        None,
        ("run", "check", "pyproject", "function"),
        shown=".tmp/leakharness/SCENARIO",
        metavar="DIR",
    ),
    Option(
        "report_dir",
        "text",
        "Where reports go",
        None,
        (*_COMMANDS, *_CALIBRATE, "pyproject"),
        shown="reports",
        metavar="DIR",
    ),
    Option(
        "keep",
        "whole",
        "Reports, and measurements with snapshots, kept of each scenario where no folder was named; 0 is all",
        10,
        (*_COMMANDS, *_CALIBRATE, "pyproject"),
        least=0,
        metavar="N",
    ),
    Option(
        "report",
        "choice",
        "html: a page beside the stored result",
        None,
        ("run", "check", "prove", "pyproject"),
        choices=("html",),
        metavar="FORMAT",
    ),
    Option(
        "target",
        "text",
        "module:attribute that the production mode imports",
        None,
        (*_COMMANDS, "pyproject", "function", "pytest"),
        metavar="MODULE:ATTR",
        pytest_help="what the production mode of scenarios imports",
    ),
    Option(
        "python",
        "text",
        "The interpreter to measure in; nothing of ours is installed there",
        None,
        (*_COMMANDS, *_CALIBRATE, "pyproject", "function"),
        shown="this one",
        metavar="PATH",
    ),
    Option("trace_allocations", "switch", "Say where memory is allocated even if nothing leaks", False, ("run",)),
    Option(
        "confirm", "switch", "On FAIL, cut the named edge in a forked copy and count what that frees", False, ("run",)
    ),
    Option(
        "values",
        "switch",
        "Let values of the program into snapshots and reports: keys of dicts, texts of exceptions",
        False,
        ("run", "check"),
    ),
    Option("json", "switch", "One JSON document on stdout", False, (*_COMMANDS, *_CALIBRATE)),
    Option("quiet", "switch", "No progress", False, (*_COMMANDS, *_CALIBRATE), short="-q"),
    Option(
        "check", "switch", "check every selected test for leaks: its unmodified body is the run", False, ("pytest",)
    ),
    Option(
        "thorough",
        "switch",
        "measure every checked test in full: no quick look passes those whose counters stand still",
        False,
        ("pytest", "marker"),
    ),
    Option(
        "budget",
        "text",
        "time for all checks of the session; what is left over comes first in the next one",
        None,
        ("pytest",),
        metavar="10m",
    ),
    Option(
        "baseline",
        "text",
        "accept the leaks that this file names, and fail on others; written where there is none yet",
        None,
        ("pytest",),
        metavar="FILE",
    ),
    Option(
        "session_report",
        "text",
        "write one HTML page of the session: every check, each cause with its evidence, and the memory of the test "
        "files where they are traced",
        None,
        ("pytest",),
        metavar="FILE",
        pytest_key="leak_report",
    ),
    Option(
        "strict", "switch", "fail tests whose body cannot be repeated, instead of skipping them", False, ("pytest",)
    ),
    Option("skip", "text", "why this test is not checked", None, ("marker",), metavar="REASON"),
    Option(
        "process",
        "choice",
        "where test bodies are measured: here, or in a forked copy",
        "auto",
        ("pytest", "marker", "callable"),
        choices=("auto", "fork", "here"),
        shown="auto: fork under xdist, else here",
        metavar="HOW",
    ),
    Option(
        "fresh_fixtures",
        "switch",
        "set function-scoped fixtures up anew for every run",
        None,
        ("pytest", "marker"),
        shown="yes with --leakcheck, no with the marker",
    ),
    Option(
        "scenarios", "switch", "collect the scenario files in folders named scenarios", True, ("pytest",), shown="yes"
    ),
    Option(
        "lane_snapshots",
        "text",
        "every worker writes heap snapshots to DIR/LANE/",
        None,
        ("pytest",),
        metavar="DIR",
        pytest_key="leak_snapshots",
    ),
    Option(
        "snapshot_interval",
        "number",
        "time between two of them, in seconds",
        30.0,
        ("pytest",),
        least=0,
        metavar="SECONDS",
    ),
    Option(
        "trace",
        "text",
        "resident size and exact counters for each test file and worker; JSON lines to FILE (in the ini file: or true "
        "for the summary alone)",
        None,
        ("pytest",),
        metavar="FILE",
    ),
    Option(
        "isolate",
        "text",
        "run the files of this manifest in processes of their own",
        None,
        ("pytest",),
        metavar="MANIFEST",
    ),
)

BY_NAME: Mapping[str, Option] = {option.name: option for option in TABLE}
DEFAULTS: Mapping[str, Any] = {option.name: option.default for option in TABLE if option.plan}
"""The defaults of what steers a measurement, by name."""


BY_INI_KEY: Mapping[str, Option] = {option.ini_key: option for option in TABLE if "pytest" in option.places}
"""Those of pytest, by the key of the ini file."""


def options_at(place: Place) -> tuple[Option, ...]:
    """The options that can be given at ``place``, in the order of the table."""
    return tuple(option for option in TABLE if place in option.places)


def names_at(place: Place) -> frozenset[str]:
    """The names of the options that can be given at ``place``."""
    return frozenset(option.name for option in options_at(place))


def default_of(name: str) -> Any:
    """The default of the option ``name``. Raises KeyError for a name that is not in the table."""
    return BY_NAME[name].default


def checked(name: str, value: Any, source: str) -> Any:
    """``value`` as the option ``name`` keeps it; None stays None and means that nothing was said.

    ``source`` says where it was given. Raises OptionError for a value that the table does not allow.
    """
    option = BY_NAME[name]
    if value is None or (option.word and value == option.word):
        return None
    return CHECKS[option.kind](option, value, source)


LARGEST = 2**63
"""Numbers are below this, as every counter is."""


def _checked_number(option: Option, value: Any, source: str) -> Any:
    whole = option.kind == "whole"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
    if not is_number or (whole and value != int(value)):
        raise OptionError(f"{option.flag} {value!r} ({source}): a {'whole' if whole else 'finite'} number is needed")
    if option.least is not None and value < option.least:
        raise OptionError(f"{option.flag} {value} ({source}): at least {option.least:g}")
    return int(value) if whole else float(value)


def _checked_choice(option: Option, value: Any, source: str) -> Any:
    if value not in option.choices:
        raise OptionError(f"{option.flag} {value!r} ({source}): it is one of {', '.join(option.choices)}")
    return value


def _checked_text(option: Option, value: Any, source: str) -> Any:
    if not isinstance(value, str) or "\0" in value:
        raise OptionError(f"{option.flag} {value!r} ({source}): text without NUL is needed")
    return value


def _checked_switch(option: Option, value: Any, source: str) -> Any:
    if not isinstance(value, bool):
        raise OptionError(f"{option.flag} {value!r} ({source}): true or false is needed")
    return value


def _checked_sensitivity(option: Option, value: Any, source: str) -> Any:
    parts = str(value).split(",")
    if len(parts) > 2 or not all(re.fullmatch(r"\d{1,15}(\.\d+)?", part) and float(part) for part in parts):
        raise OptionError(f"{option.flag} {value!r} ({source}): one or two numbers above 0, as in 1,4096")
    return str(value)


def _checked_duration(option: Option, value: Any, source: str) -> Any:
    if not re.fullmatch(r"(?=.*[1-9])\d{1,9}(\.\d{1,9})?[smhd]?", str(value)):
        raise OptionError(f"{option.flag} {value!r} ({source}): a time above 0, as in 90s, 10m or 2h")
    return str(value)


CHECKS: Mapping[Kind, Callable[[Option, Any, str], Any]] = {
    "whole": _checked_number,
    "number": _checked_number,
    "choice": _checked_choice,
    "text": _checked_text,
    "switch": _checked_switch,
    "sensitivity": _checked_sensitivity,
    "duration": _checked_duration,
}
"""By kind: the value as it is kept, or OptionError. Arguments: the option, the value, where it was given."""
