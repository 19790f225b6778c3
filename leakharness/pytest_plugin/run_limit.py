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
        self._hook: Any = item.config.hook
        plugin = item.config.pluginmanager.getplugin("timeout")
        usable = hasattr(self._hook, "pytest_timeout_set_timer") and hasattr(plugin, "_get_item_settings")
        self._settings: Any = plugin._get_item_settings(item) if usable else None
        self._each = False

    def take_over(self) -> None:
        """The first run is over: no timer goes on from here, but one for each further run."""
        settings = self._settings
        if settings is None or not settings.timeout or settings.timeout <= 0:
            return
        self._each = settings.method == "signal"
        self._hook.pytest_timeout_cancel_timer(item=self._item)

    def start(self) -> None:
        if self._each:
            self._hook.pytest_timeout_set_timer(item=self._item, settings=self._settings)

    def stop(self) -> None:
        if self._each:
            self._hook.pytest_timeout_cancel_timer(item=self._item)
