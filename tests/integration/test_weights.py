"""What one object weighs, on every interpreter: what is declared too heavy would hide a leak."""

from __future__ import annotations

import pytest
from conftest import PYTHONS, printed_json

COUNT = 200
SCRIPT = f"""
import asyncio, collections, datetime, functools, gc, io, json, queue, sys, threading, types, weakref
from leakharness.worker.weight import weigh
loop = asyncio.new_event_loop()
class Plain: pass
class SubFuture(asyncio.Future): pass
class SubList(list): pass
class SubDict(dict): pass
class SubDate(datetime.date): pass
class SubError(ValueError): pass
class SubDeque(collections.deque): pass
class Half:
    __slots__ = ("value", "__dict__")
def made(kind, *args, **attributes):
    def make():
        obj = kind(*args)
        for name, value in attributes.items():
            setattr(obj, name, value)
        return obj
    return make
KINDS = dict(
    plain=made(Plain), plain_with=made(Plain, a=1), list=made(SubList), list_with=made(SubList, a=1),
    dict=made(SubDict), dict_with=made(SubDict, a=1), date=made(SubDate, 2020, 1, 1), half=made(Half),
    half_with=made(Half, a=1), error=made(SubError), error_with=made(SubError, a=1), deque_sub=made(SubDeque),
    future=lambda: loop.create_future(), future_sub=lambda: SubFuture(loop=loop), namespace=made(types.SimpleNamespace),
    partial=made(functools.partial, print), ordered=made(collections.OrderedDict), bytes_io=made(io.BytesIO),
    weak_set=made(weakref.WeakSet), simple_queue=made(queue.SimpleQueue), lock=made(threading.Lock),
)
found = {{}}
for name, make in KINDS.items():
    box = [None] * {COUNT}
    for _ in range(3):
        box[:] = [make() for _ in range({COUNT})]
        box[:] = [None] * {COUNT}
    spare = [[[], {{}}, 1.5 * i, (i,), (i, i), (i, i, i)] for i in range(300)]  # empties the free lists
    gc.collect()
    blocks = sys.getallocatedblocks()
    for i in range({COUNT}):
        box[i] = make()
    found[name] = [(sys.getallocatedblocks() - blocks) / {COUNT}, weigh(box[0]).blocks]
json.dump(found, sys.stdout)
"""
OF_MORE_OBJECTS = {"weak_set", "ordered", "deque_sub", "namespace", "partial", "simple_queue"}
"""Made of several objects, or of a table that its own type knows: they weigh at most what they take."""


@pytest.mark.parametrize("python", PYTHONS)
def test_what_an_object_weighs_is_what_its_interpreter_counts(python: str) -> None:
    """To the block, whether its attributes lie in a dict, in a table of their own, or within it."""
    found = printed_json(SCRIPT, python)
    exact = {name: pair for name, pair in found.items() if name not in OF_MORE_OBJECTS}
    assert {name: pair for name, pair in exact.items() if abs(pair[0] - pair[1]) > 0.2} == {}
    assert {name: found[name] for name in OF_MORE_OBJECTS if found[name][1] > found[name][0] + 0.2} == {}
