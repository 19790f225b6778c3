"""The pytest plugin: hooks only. What an option, the marker or the fixture asks for is imported then, not before.

Until then it costs a handful of hook calls for the whole session and nothing for each test.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from leakharness.pytest_support.checks import LeakHarness

__all__ = ["setting"]

MARKER = (
    "leakcheck(iters=, batches=, warmup=, max_runs=, max_seconds=, timeout=, fresh_fixtures=False, process=): the body "
    "of this test is run many times and must leave nothing behind (leakharness)."
)
TRACE_FLAG = "--leak-trace"

SWITCHES: tuple[tuple[str, str, str], ...] = (
    ("--leakcheck", "leak_check", "check every selected test for leaks: its unmodified body is the run"),
)
VALUES: tuple[tuple[str, str, Any, str, str], ...] = (
    ("--leak-iters", "leak_iters", int, "N", "runs a batch [50]"),
    ("--leak-batches", "leak_batches", int, "N", "batches before the judge is asked [5]"),
    ("--leak-max-seconds", "leak_max_seconds", float, "S", "budget of an unclear test, in seconds [20]"),
    ("--leak-timeout", "leak_timeout", float, "S", "one check may take that long, in seconds [300]"),
    (
        "--leak-process",
        "leak_process",
        str,
        "HOW",
        "where test bodies are measured: here, or in a forked copy [auto: fork under xdist, else here]",
    ),
    ("--leak-target", "leak_target", str, "MODULE:ATTR", "what the production mode of scenarios imports"),
    ("--leak-snapshots", "leak_snapshots", str, "DIR", "every worker writes heap snapshots to DIR/LANE/"),
    ("--leak-snapshot-interval", "leak_snapshot_interval", float, "SECONDS", "time between two of them [30]"),
    ("--leak-isolate", "leak_isolate", str, "MANIFEST", "run the files of this manifest in processes of their own"),
)
"""(flag, ini key, type, metavar, help) of every option that takes a value."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("leakharness", "memory leaks (leakharness)")
    for flag, key, text in SWITCHES:
        group.addoption(flag, action="store_true", default=None, dest=key, help=text)
        parser.addini(key, text, type="bool", default=False)
    for flag, key, kind, metavar, text in VALUES:
        group.addoption(flag, action="store", type=kind, default=None, dest=key, metavar=metavar, help=text)
        parser.addini(key, text, default=None)
    text = "resident size and exact counters for each test file and worker; JSON lines to FILE"
    group.addoption(TRACE_FLAG, nargs="?", const="", default=None, dest="leak_trace", metavar="FILE", help=text)
    parser.addini("leak_trace", text + " (or true for the summary alone)", default=None)
    text = "whether --leakcheck sets function-scoped fixtures up anew for every run"
    parser.addini("leak_fresh_fixtures", text, type="bool", default=True)
    parser.addini("leak_scenarios", "collect the scenario files in folders named scenarios", type="bool", default=True)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: Any, args: list[str]) -> None:
    """``--leak-trace tests`` means the folder of tests, not a file: only ``--leak-trace=FILE`` names a file."""
    if TRACE_FLAG not in args:
        return
    args[:] = [TRACE_FLAG + "=" if word == TRACE_FLAG else word for word in args]
    early_config.known_args_namespace = parser.parse_known_args(args, namespace=copy.copy(early_config.option))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    if setting(config, "leak_trace") is not None or setting(config, "leak_isolate"):
        from leakharness.pytest_support.trace import start_trace

        start_trace(config)
    if setting(config, "leak_snapshots"):
        from leakharness.pytest_support.lane_snapshots import start_snapshots

        start_snapshots(config)
    if setting(config, "leak_isolate"):
        from leakharness.pytest_support.isolate import start_isolation

        start_isolation(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Scenario files: ``.py`` files in a folder named ``scenarios`` that declare one."""
    if file_path.suffix != ".py" or file_path.parent.name != "scenarios" or not parent.config.getini("leak_scenarios"):
        return None
    from leakharness.pytest_support.scenario_items import scenario_file

    return scenario_file(file_path, parent)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if setting(config, "leak_check") or any("leakcheck" in item.keywords for item in items):
        from leakharness.pytest_support.checks import prepare

        prepare(config, items)


@pytest.fixture
def leakharness(request: pytest.FixtureRequest) -> LeakHarness:
    """``run``, ``check`` and ``assert_no_leak``: leak checks from inside of a test."""
    from leakharness.pytest_support.checks import LeakHarness

    return LeakHarness(request.config, request.node.nodeid)


def setting(config: pytest.Config, key: str) -> Any:
    """The option ``key``: command line, else ini; None where neither says anything.

    Raises pytest.UsageError where the ini file's value is of the wrong type.
    """
    value = config.getoption(key, None)
    if value is not None:
        return value
    value = config.getini(key)
    if value in (None, "", False):
        return None
    kind = next((kind for _, name, kind, _, _ in VALUES if name == key), None)
    if kind is None or kind is str:
        return value
    try:
        return kind(value)
    except ValueError:
        raise pytest.UsageError(f"ini option {key} = {value!r}: a number is needed") from None
