"""Growth inside over-allocated containers and buffers: found with its exact number, and the container is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness import RunResult, run

SCENES = Path(__file__).parent / "scenes" / "entries.py"
LEAKY = (
    "list",
    "dict",
    "lying-dict",
    "set",
    "counter",
    "array-in-slot",
    "bytearray-in-closure",
    "bytesio",
    "deque-in-contextvar",
    "queue",
)
CLEAN = ("list", "dict", "set", "counter", "bytearray-in-closure", "queue", "deque-in-contextvar")

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="lengths are read as on Linux")


def measured(name: str, mode: str) -> RunResult:
    return run(f"{SCENES}::{name}", mode, snapshots="never")


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAKY)
def test_growth_inside_over_allocated_memory_is_found_with_its_number(name: str) -> None:
    result = measured(name, "leaky")
    assert result.verdict == "FAIL", (result.reason, result.detail)
    grown = grown_by(result)
    assert grown["entries"] == 10.0, grown


@pytest.mark.slow
@pytest.mark.parametrize("name", CLEAN)
def test_what_is_filled_in_place_cleared_or_swapped_passes(name: str) -> None:
    result = measured(name, "clean")
    assert result.verdict == "PASS", (result.reason, result.detail)
    assert "entries" not in result.blind


def test_free_objects_of_a_module_are_left_alone() -> None:
    """On 3.12 asking ``_asyncio`` what it refers to makes a ring of its list of free iterators, and the collector never
    comes back."""
    script = (
        "import asyncio, gc\n"
        "from leakharness.worker.entries import Entries\n"
        "async def main():\n"
        "    await asyncio.gather(*(asyncio.sleep(0) for _ in range(9)))\n"
        "asyncio.run(main())\n"
        "for _ in range(3):\n"
        "    Entries().note(())\n"
        "    gc.collect()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
