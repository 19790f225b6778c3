"""Which modules are the test framework: pytest, unittest, and the plugins that are installed as such."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["framework_modules"]

ALWAYS = ("_pytest", "pytest", "pluggy", "unittest", "xdist", "execnet", "hypothesis", "coverage", "freezegun")
"""coverage and freezegun are no plugins themselves, and note something for each run all the same."""
SITE_PACKAGES = ("site-packages", "dist-packages")


def framework_modules(config: pytest.Config) -> tuple[str, ...]:
    """Their names; a package of its own where it is called so (``pytest_x``), else the plugin's module alone: beside it
    there may be a library that is under test. What belongs to the tested project is left out."""
    found = dict.fromkeys(ALWAYS)
    for plugin, _ in config.pluginmanager.list_plugin_distinfo():
        name = str(getattr(plugin, "__name__", ""))
        top = name.partition(".")[0]
        if name and not _is_of_the_project(getattr(plugin, "__file__", None), config.rootpath):
            found[top if top.startswith(("pytest_", "_")) else name] = None
    return tuple(found)


def _is_of_the_project(file: str | None, root: Path) -> bool:
    path = Path(file or "").resolve()
    return path.is_relative_to(root) and not set(SITE_PACKAGES) & set(path.parts)
