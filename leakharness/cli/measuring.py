"""Options that every measuring command has, declared once."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "Json",
    "MaxRuns",
    "MaxSeconds",
    "Python",
    "Quiet",
    "ReportDir",
    "Scenario",
    "ScopeBytes",
    "SnapDir",
    "SnapshotsWhen",
    "Target",
    "measuring",
    "report_folder",
    "stored",
]

Scenario = Annotated[str, typer.Argument(help="A name, path/to/file.py, or path/to/file.py::name.", show_default=False)]
ScopeBytes = Annotated[int | None, typer.Option(help="Payload of one run [2000000].", show_default=False)]
MaxRuns = Annotated[int | None, typer.Option(help="Budget of runs for an unclear case [10000].", show_default=False)]
MaxSeconds = Annotated[
    float | None, typer.Option(help="Budget of seconds for an unclear case [20].", show_default=False)
]
SnapDir = Annotated[
    str | None, typer.Option(help="Where snapshots go [.tmp/leakharness/SCENARIO].", show_default=False)
]
SnapshotsWhen = Annotated[
    str | None,
    typer.Option(help="never, on-fail or always [always for run, on-fail for check].", show_default=False),
]
ReportDir = Annotated[str | None, typer.Option(help="Where reports go [reports].", show_default=False)]
Target = Annotated[
    str | None, typer.Option(help="module:attribute that the production mode imports.", show_default=False)
]
Python = Annotated[
    str | None,
    typer.Option(
        help="The interpreter to measure in; nothing of ours is installed there [this one].", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]

MEASURING: dict[str, Any] = {
    "iters": Annotated[int | None, typer.Option(help="Runs a batch [50].", show_default=False)],
    "batches": Annotated[int | None, typer.Option(help="Batches before the judge is asked [5].", show_default=False)],
    "warmup": Annotated[str | None, typer.Option(help="Runs before the baseline, or auto [auto].", show_default=False)],
    "scope_bytes": ScopeBytes,
    "max_tracked_retention": Annotated[
        int | None, typer.Option(help="FAIL if more tracked objects are retained [off].", show_default=False)
    ],
    "max_rss_growth_mb": Annotated[
        float | None, typer.Option(help="FAIL if resident size grows by more MiB [off].", show_default=False)
    ],
    "max_runs": MaxRuns,
    "max_seconds": MaxSeconds,
    "timeout": Annotated[float | None, typer.Option(help="Seconds for one mode [300].", show_default=False)],
}
"""What a measurement can be told, by the name of the option."""
OPTIONS = "options"


def measuring(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the options of :data:`MEASURING` in place of its parameter ``options``, which it gets as one
    dict: not given is None."""
    parameters: list[inspect.Parameter] = []
    # Not get_type_hints: before 3.11 it wraps what has the default None once more, and typer then reads no Annotated.
    for own in inspect.signature(command, eval_str=True).parameters.values():
        if own.name != OPTIONS:
            parameters.append(own.replace(kind=own.KEYWORD_ONLY))
            continue
        parameters += [
            inspect.Parameter(name, own.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in MEASURING.items()
        ]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        options = {name: given.pop(name) for name in MEASURING}
        options["warmup"] = _warmup(options["warmup"])
        command(**given, **{OPTIONS: options})

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def _warmup(given: str | None) -> int | str | None:
    from leakharness.errors import OptionError

    if given is None or given == "auto":
        return given
    if not given.isdecimal():
        raise OptionError(f"--warmup {given!r}: a number of runs, or auto")
    return int(given)


def report_folder(given: str | None) -> Path:
    """Where reports go: as given, else as pyproject.toml says, else ``reports``. Raises OptionError for a place that
    can have no folder: asked before anything is measured."""
    from leakharness.errors import OptionError
    from leakharness.options import pyproject_options

    folder = Path(given or pyproject_options(Path.cwd()).get("report_dir") or "reports")
    nearest = next((str(place) for place in (folder, *folder.parents) if os.path.lexists(place)), ".")
    if not os.path.isdir(nearest):
        raise OptionError(f"--report-dir {folder}: {nearest} is not a folder")
    return folder


def stored(write: Callable[[], Path]) -> tuple[str | None, tuple[str, ...]]:
    """Where ``write`` has put the report, and no note; or None and a note why there is none, which goes to stderr as
    well. A verdict that was measured is not lost because its report cannot be written."""
    from leakharness.errors import UsageError

    try:
        return str(write()), ()
    except UsageError as exc:
        note = f"no report was written: {exc}"
        print(f"leakharness: {note}", file=sys.stderr)
        return None, (note,)
