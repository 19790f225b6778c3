"""The options of the measuring commands, made from the table in ``leakharness.options``."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from leakharness.options import BY_NAME, Option, Place, default_of, options_at

if TYPE_CHECKING:
    from leakharness.measure.arm import Settings

__all__ = ["Given", "Json", "Python", "Quiet", "Reports", "Scenario", "measuring", "report_folder", "stored"]

TYPES: dict[str, type] = {"whole": int, "number": float, "switch": bool}
"""What typer reads an option of this kind as; everything else is text."""
GIVEN = "given"
DEFAULT_KEEP: int = default_of("keep")


def annotation(option: Option) -> Any:
    """The option as an annotation that typer reads. Not given is None (False for a switch)."""
    flags = [option.flag, *([option.short] if option.short else [])]
    if option.kind == "switch":
        return Annotated[bool, typer.Option(*flags, help=option.help_text)]
    read_as = str if option.word else TYPES.get(option.kind, str)
    return Annotated[read_as | None, typer.Option(*flags, help=option.help_text, show_default=False)]


Scenario = Annotated[str, typer.Argument(help="A name, path/to/file.py, or path/to/file.py::name.", show_default=False)]
Python = Annotated[
    str | None, typer.Option(BY_NAME["python"].flag, help=BY_NAME["python"].help_text, show_default=False)
]
Json = Annotated[bool, typer.Option(BY_NAME["json"].flag, help=BY_NAME["json"].help_text)]
Quiet = Annotated[bool, typer.Option(BY_NAME["quiet"].flag, BY_NAME["quiet"].short, help=BY_NAME["quiet"].help_text)]
"""For commands that measure nothing and have these."""


class Given(NamedTuple):
    """What was said on the command line of a measuring command."""

    options: dict[str, Any]
    """Those that steer the measurement, by name; None is: not said."""
    rest: dict[str, Any]

    @property
    def json(self) -> bool:
        return bool(self.rest["json"])

    @property
    def silent(self) -> bool:
        """Whether no progress is wanted."""
        return bool(self.rest["quiet"]) or self.json

    @property
    def report_dir(self) -> str | None:
        text: str | None = self.rest["report_dir"]
        return text

    def settings(self, **more: Any) -> Settings:
        """All of it, as a measurement takes it."""
        from leakharness.measure.arm import Settings

        names = ("target", "python", "snap_dir", "keep", "trace_allocations", "confirm", "values")
        return Settings(self.options, **{name: self.rest[name] for name in names if name in self.rest}, **more)


def measuring(place: Place) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that the table has at ``place``, in the place of its parameter ``given``."""
    options = options_at(place)

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        parameters: list[inspect.Parameter] = []
        # Not get_type_hints: before 3.11 it wraps what has the default None once more, and typer reads no Annotated.
        for own in inspect.signature(command, eval_str=True).parameters.values():
            if own.name != GIVEN:
                parameters.append(own.replace(kind=own.KEYWORD_ONLY))
                continue
            parameters += [
                inspect.Parameter(
                    option.name,
                    own.KEYWORD_ONLY,
                    default=False if option.kind == "switch" else None,
                    annotation=annotation(option),
                )
                for option in options
            ]

        @functools.wraps(command)
        def with_options(**words: Any) -> None:
            said = {option.name: _read(option, words.pop(option.name)) for option in options}
            steering = {option.name: said.pop(option.name) for option in options if option.plan}
            command(**words, **{GIVEN: Given(steering, said)})

        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorated


def _read(option: Option, value: Any) -> Any:
    """The value of one word. Raises OptionError where an option takes a number or a word, and it is neither."""
    from leakharness.errors import OptionError

    if not option.word or value is None:
        return value
    found = option.from_text(value)
    if isinstance(found, str) and found != option.word:
        raise OptionError(f"{option.flag} {value!r}: a number of runs, or {option.word}")
    return found


class Reports(NamedTuple):
    """Where reports go."""

    folder: Path
    keep: int | None
    """How many stay there of each scenario, 0 for all; None where the folder was named: it is its owner's."""


def report_folder(given: Given) -> Reports:
    """Where reports go: as given, else as pyproject.toml says, else ``reports``. Raises OptionError for a place that
    can have no folder: asked before anything is measured."""
    from leakharness.errors import OptionError
    from leakharness.resolve import pyproject_options

    pyproject = pyproject_options(Path.cwd())
    named = given.report_dir or pyproject.get("report_dir")
    folder = Path(named or "reports")
    nearest = next((str(place) for place in (folder, *folder.parents) if os.path.lexists(place)), ".")
    if not os.path.isdir(nearest):
        raise OptionError(f"--report-dir {folder}: {nearest} is not a folder")
    return Reports(folder, None if named else _kept(given, pyproject))


def _kept(given: Given, pyproject: Mapping[str, Any]) -> int:
    """How many reports and snapshots stay. Raises OptionError."""
    from leakharness.options import checked

    asked = given.rest["keep"]
    return int(checked("keep", pyproject.get("keep", DEFAULT_KEEP) if asked is None else asked, "command line"))


def stored(write: Callable[[], Path], reports: Reports) -> tuple[str | None, tuple[str, ...]]:
    """Where ``write`` has put the report, and no note; or None and a note why there is none, which goes to stderr as
    well. A verdict that was measured is not lost because its report cannot be written."""
    from leakharness.errors import UsageError
    from leakharness.printable import for_terminal
    from leakharness.store import keep_latest

    try:
        written = write()
        if reports.keep is not None:
            keep_latest(written if written.parent == reports.folder else written.parent, reports.keep)
        return str(written), ()
    except UsageError as exc:
        note = f"no report was written: {exc}"
        print(f"leakharness: {for_terminal(note)}", file=sys.stderr)
        return None, (note,)
