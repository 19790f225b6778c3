"""``--report html``: a page beside the stored result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leakharness.cli.measuring import Given

__all__ = ["page_wanted", "write_page"]

PAGE = "page.html"


def page_wanted(given: Given) -> bool:
    """Whether a page is asked for, here or in pyproject.toml. Raises OptionError for a format that is not there: asked
    before anything is measured."""
    from leakharness.options import checked
    from leakharness.resolve import pyproject_options

    asked = given.rest["report"] or pyproject_options(Path.cwd()).get("report")
    return checked("report", asked, "command line") is not None


def write_page(document: Mapping[str, Any], place: Path) -> Path:
    """The page of ``document`` in the report's folder ``place``, with what the files at hand add. Raises UsageError."""
    from leakharness.page_material import gathered
    from leakharness.printable import encodable
    from leakharness.report.formats import render_documents
    from leakharness.store import write_atomically

    page = render_documents([document], "html", gathered([document], place.parent))
    write_atomically(place / PAGE, encodable(page).encode())
    return place / PAGE
