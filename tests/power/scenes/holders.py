"""Leaks whose holder is easily mistaken: each beside what looks like the holder and is none."""

from __future__ import annotations

import atexit
import collections
import ctypes
import functools
import threading
import typing
import weakref
from typing import Any

from leakharness import Run, Scenario


class Session:
    def close(self) -> None:
        pass


class Made:
    pass


CACHE: collections.OrderedDict[int, Any] = collections.OrderedDict()
FULL = 100
KEPT: Any = None

churn = Scenario("churn", summary="a list a run, beside a cache in which twenty lists a run are replaced")


@churn.mode("leaky", must="FAIL", default=True, abort="none")
def churning(run: Run) -> None:
    global KEPT
    CACHE[run.index] = [[str(run.index), i] for i in range(20)]
    if len(CACHE) > FULL:
        CACHE.popitem(last=False)
    KEPT = [KEPT]


BY_KEY: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
REAL_HOLDER: list[Any] = []

weak = Scenario("weak", summary="the key of a weak dictionary's entry, whose value is held elsewhere")


@weak.mode("leaky", must="FAIL", default=True, abort="none")
def weak_key(run: Run) -> None:
    made = Made()
    BY_KEY["of", run.track(Session())] = made
    REAL_HOLDER.append(made)


exits = Scenario("exits", summary="a method registered with atexit")


@exits.mode("leaky", must="FAIL", default=True, abort="none")
def at_exit(run: Run) -> None:
    atexit.register(run.track(Session()).close)


END = threading.Event()
threads = Scenario("threads", summary="a thread a run, each with a session")


def wait(session: Session) -> None:
    END.wait()


@threads.mode("leaky", must="FAIL", default=True, abort="none")
def thread(run: Run) -> None:
    threading.Thread(target=wait, args=(run.track(Session()),), daemon=True).start()


lost = Scenario("lost", summary="a reference that is never given back")
_incref: Any = ctypes.pythonapi.Py_IncRef
_incref.argtypes = [ctypes.py_object]


@lost.mode("leaky", must="FAIL", default=True, abort="none")
def lost_reference(run: Run) -> None:
    _incref(run.track(Session()))


caches = Scenario("caches", summary="a class a run, in a cache of typing's that is full and in one without a bound")


@functools.cache
def adapter(kind: type) -> dict[str, Any]:
    return {"of": kind}


@caches.mode("leaky", must="FAIL", default=True, abort="none")
def two_caches(run: Run) -> None:
    kind = run.track(type("Step", (), {}))
    typing.Optional[kind]  # noqa: UP045
    adapter(kind)


class Meter:
    def __init__(self) -> None:
        self.lock, self.ids_lock = threading.Lock(), threading.Lock()


class Provider:
    def __init__(self) -> None:
        self.meters: set[Meter] = set()


PROVIDER = Provider()
meters = Scenario("meters", summary="a registry of objects that each have two locks")


@meters.mode("leaky", must="FAIL", default=True, abort="none")
def registry(run: Run) -> None:
    PROVIDER.meters.add(Meter())
