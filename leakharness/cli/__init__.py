"""The command line: typer only. Each module of this package adds its commands in ``register(app)``."""

from __future__ import annotations

import importlib
import re
from typing import Annotated, Any

import typer

__all__ = ["HOME", "make_app", "read_simply", "run_command_line"]

MODULES = ("run", "calibrate", "heap", "shape", "prove", "bisect", "trend", "suite", "live", "explore")
"""In the order of ``--help``. A module that declares a command imports what the command needs inside of it."""
NUMBER = {int: re.compile("-?[0-9]{1,15}"), float: re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?(e-?[0-9]{1,2})?")}
"""What is read here as a number; anything else is left to typer, and to its words for what is none."""
LIMITS = ("min", "max", "parser", "click_type")
"""What a parameter may have for typer to check, or to read with."""
HOME = {"list": "run", "run": "run", "check": "run", "diff": "heap", "prove": "prove", "verify": "prove"}
"""Where the commands are declared that start often: no other module is imported for them."""


def make_app(first_word: str = "") -> typer.Typer:
    """The application: all of it, or what is needed where the command line begins with this word."""
    app = typer.Typer(
        name="leakharness",
        help="Prove that a memory leak is fixed: run it aborted, many times, and count what stays.",
        no_args_is_help=True,
        add_completion=first_word not in HOME,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in (HOME[first_word],) if first_word in HOME else MODULES:
        importlib.import_module(f"leakharness.cli.{name}").register(app)
    return app


def run_command_line(words: list[str]) -> Any:
    """Do what the words after the program's name say. Returns the exit code; raises typer's errors and ours."""
    command = typer.main.get_command(make_app(words[0] if words else ""))
    read_simply(command)
    return command(words, prog_name="leakharness", standalone_mode=False)


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Print the version.", is_eager=True, callback=lambda asked: _print_version(asked)
        ),
    ] = False,
) -> None:
    pass


def _print_version(asked: bool) -> None:
    """Eager, so that it needs no command."""
    if asked:
        from leakharness._version import __version__

        typer.echo(f"leakharness {__version__}")
        raise typer.Exit


class _SimpleValue:
    """Reads the words of one parameter: a text as it is, a number by its digits, and anything else as typer does.

    Since 0.27, typer reads every value with pydantic, whose import takes 0.2 s of the 0.6 that a command takes to
    start. Versions before, and any that reads otherwise, never ask for this object.
    """

    def __init__(self, annotation: Any, usual: Any) -> None:
        self._annotation, self._usual = annotation, usual

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, str):
            if self._annotation is str:
                return value
            if self._annotation in (int, float) and NUMBER[self._annotation].fullmatch(value):
                return self._annotation(value)
        elif value is None and param.nargs == 1 and not getattr(param, "multiple", False):
            return None
        elif self._annotation == list[str] and isinstance(value, (list, tuple)):
            return list(value)
        return self._usual().coerce(value, param=param, ctx=ctx)


def read_simply(command: Any) -> None:
    """Have each parameter of a command, and of its own commands, read its words as :class:`_SimpleValue` does."""
    for inner in getattr(command, "commands", {}).values():
        read_simply(inner)
    usual = command.get_params

    def get_params(ctx: Any) -> Any:
        """With the option --help, which is made for each context."""
        params = usual(ctx)
        for param in params:
            kind = getattr(param, "type_descriptor", None)
            if kind is None or any(getattr(kind.parameter_info, name, None) is not None for name in LIMITS):
                continue
            if "get_runtime_param" not in vars(param):
                simple = _SimpleValue(kind.annotation, param.get_runtime_param)
                param.get_runtime_param = lambda simple=simple: simple
        return params

    command.get_params = get_params
