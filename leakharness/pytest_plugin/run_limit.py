"""pytest-timeout beside a check: its limit holds for each run of a body, as the project means it, and not for all.

The thread method ends the whole process, so it is only kept off the repeats: the check's own timeout is what ends a
body there.
"""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["RunLimit"]


class RunLimit:
    """The limit of one run of ``item``; nothing where pytest-timeout is not there or sets none."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        plugin = item.config.pluginmanager.getplugin("timeout")
        usable = all(hasattr(plugin, name) for name in ("timeout_setup", "timeout_teardown", "_get_item_settings"))
        self._plugin: Any = plugin if usable else None
        self._each = False

    def take_over(self) -> None:
        """The first run is over: no timer goes on from here, but one for each further run."""
        if self._plugin is None:
            return
        settings = self._plugin._get_item_settings(self._item)
        self._each = bool(settings.timeout and settings.timeout > 0 and settings.method == "signal")
        self._plugin.timeout_teardown(self._item)

    def start(self) -> None:
        if self._each:
            self._plugin.timeout_setup(self._item)

    def stop(self) -> None:
        if self._each:
            self._plugin.timeout_teardown(self._item)
