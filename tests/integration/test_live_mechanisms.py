"""Every way of holding that is planted for captures, seen from outside: named by ``live look`` as through a capture."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import PYTHONS
from test_capture_mechanisms import COMMON, PLANTED, PRINTED, every_step

from leakharness.errors import UsageError
from leakharness.live.look import Look, look

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="reads /proc/PID/mem of x86-64"
)
MAIN = """
import gc, importlib, sys, time
for name in sys.argv[2:]:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:  # numpy is not everywhere
        continue
    module.hold()
    if sys.argv[1] == "clean":
        module.release()
    del module
if sys.argv[1] == "clean":
    gc.collect()
print("up", flush=True)
time.sleep(600)
"""
MODULES = {mechanism: f"planted{number:02d}" for number, mechanism in enumerate(PLANTED)}
OTHERWISE = {
    "contextvar of the thread": "--internal <hamt>--> hamt --internal <hamt_bitmap_node>--> hamt_bitmap_node "
    "--context current--> planted.Payload",
    "result in an unbounded lru_cache": "functools._lru_cache_wrapper --property <cached result>--> planted.Payload",
}
"""What is told from outside in other steps: a thread's context is an object, a result is the cache's own."""


@contextmanager
def started(python: str, folder: Path, mode: str) -> Iterator[Look]:
    """One look at one process in which all mechanisms are planted, each in a module of its own."""
    for mechanism, module in MODULES.items():
        (folder / f"{module}.py").write_text(COMMON + PLANTED[mechanism][0].replace('"planted"', f'"{module}"'))
    (folder / "main.py").write_text(MAIN)
    command = [python, "main.py", mode, *MODULES.values()]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield look(process.pid)
        finally:
            process.kill()


@pytest.fixture(scope="module", params=PYTHONS)
def leaky(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Look]:
    with started(request.param, tmp_path_factory.mktemp("leaky"), "leaky") as found:
        yield found


@pytest.mark.parametrize("mechanism", PLANTED)
def test_the_path_names_the_edge_that_holds_the_object(leaky: Look, mechanism: str) -> None:
    """In the words that are printed or, where there is no text for it, in the steps of the graph."""
    module = MODULES[mechanism]
    if f"module {module}" not in leaky.graph.strings:
        pytest.skip("needs numpy in that interpreter")
    (node,) = leaky.nodes_of(f"{module}.Payload")
    if mechanism in PRINTED:
        path = " -> ".join(leaky.retainers([node])[0].path)
        told = PRINTED[mechanism].replace("planted", module)
        if mechanism == "cycle with __del__":  # with which of the two the path begins is a matter of addresses
            first, _, rest = told.partition(" -> ")
            assert path.startswith(first)
            assert path.endswith(rest)
        else:
            assert told in path
    else:
        steps = OTHERWISE.get(mechanism, PLANTED[mechanism][1]).replace("planted", module)
        assert steps in every_step(leaky.graph, node)


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_no_such_object_where_it_was_let_go(python: str, tmp_path: Path) -> None:
    with started(python, tmp_path, "clean") as found:
        kept = []
        for mechanism, module in MODULES.items():
            try:
                found.nodes_of(f"{module}.Payload")
            except UsageError:
                continue
            kept.append(mechanism)
        assert kept == []
        assert found.nodes_of("type") != []
