"""Which containers are the test framework's own, by what leads to them."""

from __future__ import annotations

import pytest
from heap_graphs import draw

from leakharness.heap.framework import owned_by_framework

MODULES = ("_pytest", "pytest_asyncio", "anyio.pytest_plugin", "unittest")
HEAPS = {
    "an attribute of the item": ("root -> _pytest.python.Function -property:seen-> list", True),
    "an entry of a dict of the item": (
        "root -> _pytest.stash.Stash -property:_storage-> dict -element:0-> list",
        True,
    ),
    "the calls of a mock that a fixture gave": (
        "root -> _pytest.fixtures.FixtureDef -property:cached_result-> tuple -element:0-> unittest.mock.Mock "
        "-property:_mock_mock_calls-> list",
        True,
    ),
    "a plugin's closure": ("root -> function hook (pytest_asyncio/plugin.py:9) -> cell -> list", True),
    "what a fixture gave": (
        "root -> _pytest.fixtures.FixtureDef -property:cached_result-> tuple -element:0-> list",
        False,
    ),
    "a store of what a fixture gave": (
        "root -> _pytest.fixtures.FixtureDef -property:cached_result-> tuple -element:0-> app.App -property:x-> list",
        False,
    ),
    "a plugin of the project": (
        "root -> _pytest.config.PytestPluginManager -property:names-> dict -element:0-> conftest.Keeper "
        "-property:x-> list",
        False,
    ),
    "a library that has a plugin": ("root -> anyio.lowlevel.RunVar -property:x-> list", False),
    "a module's global": ("root -> module app -property:HELD-> list", False),
    "held by both": (
        "root -> _pytest.python.Function -property:seen-> list\nroot -> module app -property:HELD-> list",
        False,
    ),
    "nobody": ("root -> list", False),
}


@pytest.mark.parametrize("heap", HEAPS)
def test_only_what_the_frameworks_objects_alone_hold_is_theirs(heap: str) -> None:
    """Also through plain containers; not what a fixture gave, nor what a plugin of the project's own keeps."""
    text, owned = HEAPS[heap]
    graph = draw(text)
    node = next(n for n in range(graph.node_count) if graph.type_name(n) == "list")
    address = int(graph.node_id[node])
    assert bool(owned_by_framework(graph, [address], MODULES)) == owned


def test_nothing_is_asked_of_what_the_graph_does_not_show() -> None:
    """An address that is not there."""
    assert owned_by_framework(draw("root -> a"), [12345], MODULES) == {}
