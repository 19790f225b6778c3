"""The command line: typer only. Each module of this package adds its commands in ``register(app)``."""

from __future__ import annotations

import importlib

import typer

__all__ = ["make_app"]

MODULES = ("run", "calibrate", "heap", "shape", "prove", "suite", "live")
"""In the order of ``--help``. A module that declares a command imports what the command needs inside of it."""


def make_app() -> typer.Typer:
    """The whole application."""
    app = typer.Typer(
        name="leakharness",
        help="Prove that a memory leak is fixed: run it aborted, many times, and count what stays.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in MODULES:
        importlib.import_module(f"leakharness.cli.{name}").register(app)
    return app
