"""The templates of the pages, in ``templates/``: every text that is put into one is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["templates"]


def templates() -> Environment:
    """A new environment that finds them."""
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("leakharness.report")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
