"""The census of all blocks: what C code lost is counted to the last one, whatever the process has mapped."""

from __future__ import annotations

import pytest
from conftest import PYTHONS, printed_json

from leakharness.worker.block_census import _why_not

pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not())
LOST = 200
LARGEST_BYTES = 500
"""Below the 512 bytes from which on blocks come from malloc."""
SCRIPT = f"""
import ctypes, json, mmap, sys
from leakharness.worker.block_census import census

take = ctypes.pythonapi.Py_IncRef
take.argtypes, take.restype = [ctypes.py_object], None
census()
before = {{row.size: row.alone for row in census().rows if row.type == "str"}}
for size in range(64, {LARGEST_BYTES}, 16):
    for number in range({LOST}):
        text = "x" * (size - 65) + str(10**8 + number)
        take(text)
del text
regions = [mmap.mmap(-1, 4096) for _ in range(40)]
for region in regions[::2]:
    region.close()  # holes: more and other lines in the list of mappings
after = {{row.size: row.alone for row in census().rows if row.type == "str"}}
json.dump({{size: after[size] - before.get(size, 0) for size in range(64, {LARGEST_BYTES}, 16)}}, sys.stdout)
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lines_of_the_mappings_are_not_counted(python: str) -> None:
    """They are strings of any length, which nothing refers to once they are read."""
    found = printed_json(SCRIPT, python)
    assert max(abs(number - LOST) for number in found.values()) <= 4, found


DECODED = """
import gc, json, sys
from leakharness.worker.codec import decode, encode
from leakharness.worker.protocol import BlockCount, BlocksAnswer

line = encode(BlocksAnswer(tuple(BlockCount(f"type{i}", 64, 5, 3) for i in range(50))))
for _ in range(20):
    decode(BlocksAnswer, line)
gc.collect()
before = sys.getallocatedblocks()
for _ in range(200):
    decode(BlocksAnswer, line)
gc.collect()
json.dump(sys.getallocatedblocks() - before, sys.stdout)
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_a_command_leaves_no_block_behind(python: str) -> None:
    """The interpreter's cache of attributes keeps the names that are looked up."""
    assert printed_json(DECODED, python) <= 20
