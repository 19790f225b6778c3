"""Entries of containers that the collector does not list: found by what refers to them, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HIDDEN = """
import collections, functools, gc, heapq, queue, threading, weakref
from leakharness.worker.entries import Entries

class Thing: pass
class Buffer(bytearray): pass

def with_default(buffer=bytearray(9)): buffer.append(1)
def with_attribute(): with_attribute.log.append(1)
with_attribute.log = bytearray(9)

def suspended():
    local = bytearray(9)
    while True:
        local.append(1)
        yield

generator = suspended()
next(generator)
partial = functools.partial(print, bytearray(9))
constant = (bytearray(9),)
nested = {"a": {"b": bytearray(9)}}
heap, kept, weak = [], [Thing() for _ in range(200)], weakref.WeakSet()
lists = collections.defaultdict(list, a=[])
ordered, chain, waiting = collections.OrderedDict(), collections.ChainMap({}), queue.SimpleQueue()
thing, buffer, local = Thing(), Buffer(9), threading.local()
thing.first, local.buffer, local.table = 1, bytearray(9), {}
WAYS = {
    "default argument": lambda i: with_default(),
    "function attribute": lambda i: with_attribute(),
    "generator's local": lambda i: next(generator),
    "argument of a partial": lambda i: partial.args[0].append(1),
    "constant tuple": lambda i: constant[0].append(1),
    "nested dicts of plain values": lambda i: nested["a"]["b"].append(1),
    "heap": lambda i: heapq.heappush(heap, 1),
    "weak set": lambda i: weak.add(kept[i]),
    "inner list": lambda i: lists["a"].append(None),
    "ordered dict": lambda i: ordered.update({i: None}),
    "chain map": lambda i: chain.update({i: None}),
    "simple queue": lambda i: waiting.put(None),
    "instance attributes": lambda i: setattr(thing, f"a{i}", 1),
    "class attributes": lambda i: setattr(Thing, f"a{i}", 1),
    "module attributes": lambda i: globals().update({f"a{i}": 1}),
    "subclass": lambda i: buffer.append(1),
    "thread's own buffer": lambda i: local.buffer.append(1),
    "thread's own table": lambda i: local.table.update({i: 1}),
}
entries, wrong, before, name, add, i = Entries(), {}, 0, "", None, 0
for add in WAYS.values():
    add(0)
gc.collect()
entries.note(())
gc.freeze()
for name, add in WAYS.items():
    before = entries.total(())
    for i in range(1, 101):
        add(i)
    if entries.total(()) - before != 100:
        wrong[name] = entries.total(()) - before
print(wrong)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="lengths are read as on Linux")
def test_containers_are_found_wherever_they_hang() -> None:
    done = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{}\n", "")


REUSED = """
import gc, itertools
from leakharness.worker.entries import Entries

entries, chain, beside = Entries(), [], []
for i in range(20_000):
    chain = [chain]
    if not i % 100:
        beside.append(bytes(300))  # so that no arena becomes free
gc.collect()
entries.note(())
gc.freeze()
entries.set_baseline()
while chain:
    chain = chain[0]
floats = list(itertools.accumulate(itertools.repeat(0.5, 200_000)))
del floats[1::3], floats[1::2]
entries.total(())
print([(row.before, row.now) for row in entries.grown().rows if row.type == "list"][:3])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="lengths are read as on Linux")
def test_what_takes_the_place_of_a_container_that_went_is_not_read_as_its_length() -> None:
    """Of a list that goes and a float in its place the type's word stays, and its length is the next float's link."""
    done = subprocess.run([sys.executable, "-c", REUSED], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
