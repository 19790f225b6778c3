"""The pytest plugin: hooks only. What an option, the marker or the fixture asks for is imported then, not before.

Until then it costs a handful of hook calls for the whole session and nothing for each test.
"""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from leakharness.pytest_plugin.options import MARKER, TRACE_FLAG, add_options, setting

if TYPE_CHECKING:
    from leakharness.pytest_plugin.checks import LeakHarness


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: Any, args: list[str]) -> None:
    """``--leak-trace tests`` means the folder of tests, not a file: only ``--leak-trace=FILE`` names a file."""
    if TRACE_FLAG not in args:
        return
    args[:] = [TRACE_FLAG + "=" if word == TRACE_FLAG else word for word in args]
    early_config.known_args_namespace = parser.parse_known_args(args, namespace=copy.copy(early_config.option))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    if setting(config, "leak_check"):
        import_module("leakharness.worker.unpatched")  # now, before a test module replaces what it keeps
    if setting(config, "leak_check") or config.getoption("dist", "no") not in (None, "no"):
        from leakharness.pytest_plugin.session import check_session

        check_session(config)
    if setting(config, "leak_trace") is not None or setting(config, "leak_isolate"):
        from leakharness.pytest_plugin.tracer import start_trace

        start_trace(config)
    if setting(config, "leak_report"):
        from leakharness.pytest_plugin.session_page import start_session_page

        start_session_page(config)
    if setting(config, "leak_snapshots"):
        from leakharness.pytest_plugin.snapshots import start_snapshots

        start_snapshots(config)
    if setting(config, "leak_isolate"):
        from leakharness.pytest_plugin.isolate import start_isolation

        start_isolation(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Scenario files: ``.py`` files in a folder named ``scenarios`` that declare one."""
    if (
        file_path.suffix != ".py"
        or file_path.parent.name != "scenarios"
        or not setting(parent.config, "leak_scenarios")
    ):
        return None
    from leakharness.pytest_plugin.scenario_items import scenario_file

    return scenario_file(file_path, parent)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if setting(config, "leak_check") or any("leakcheck" in item.keywords for item in items):
        from leakharness.pytest_plugin.checks import prepare

        prepare(config, items)


@pytest.fixture
def leakharness(request: pytest.FixtureRequest) -> LeakHarness:
    """``run``, ``check`` and ``assert_no_leak``: leak checks from inside of a test."""
    from leakharness.pytest_plugin.checks import LeakHarness

    return LeakHarness(request.config, request.node.nodeid)
