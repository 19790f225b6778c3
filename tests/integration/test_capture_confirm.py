"""A cut edge frees what it held, in a copy: the process itself keeps everything."""

from __future__ import annotations

import asyncio
import collections
import functools
import gc
import time
from collections.abc import Callable
from typing import Any

import pytest

from leakharness.worker.cut_edge import confirm

COUNT = 25


class Payload:
    pass


class Slotted:
    __slots__ = ("payload",)


class Service:
    @functools.lru_cache(maxsize=1000)  # noqa: B019 - the leak that is planted
    def compute(self, number: int) -> int:
        return number


def closures(keep: list[Any]) -> None:
    def plant() -> Any:
        transcript = Payload()

        def on_done() -> Any:
            return transcript

        return on_done

    keep += [plant() for _ in range(COUNT)]


def future_callbacks(keep: list[Any]) -> None:
    loop = asyncio.new_event_loop()
    for _ in range(COUNT):
        future = loop.create_future()
        future.add_done_callback(functools.partial(print, Payload()))
        keep.append(future)
    loop.close()


def dict_values(keep: list[Any]) -> None:
    keep.append({"registry": {number: Payload() for number in range(COUNT)}, "other": {}})


def list_items(keep: list[Any]) -> None:
    keep.append([1, *(Payload() for _ in range(COUNT)), 2])


def deque_items(keep: list[Any]) -> None:
    keep.append(collections.deque(Payload() for _ in range(COUNT)))


def set_items(keep: list[Any]) -> None:
    keep.append({Payload() for _ in range(COUNT)})


def slots(keep: list[Any]) -> None:
    for _ in range(COUNT):
        holder = Slotted()
        holder.payload = Payload()
        keep.append(holder)


def tracebacks(keep: list[Any]) -> None:
    for _ in range(COUNT):

        def fail() -> None:
            transcript = Payload()
            raise ValueError(transcript is None)

        try:
            fail()
        except ValueError as error:
            keep.append(error)


def coroutines(keep: list[Any]) -> None:
    async def work() -> None:
        transcript = Payload()
        await asyncio.Future(loop=loop)
        del transcript

    loop = asyncio.new_event_loop()
    for _ in range(COUNT):
        coroutine = work()
        coroutine.send(None)
        keep.append(coroutine)
    loop.close()


def cached_methods(keep: list[Any]) -> None:
    for _ in range(COUNT):
        service = Service()
        service.payload = Payload()  # type: ignore[attr-defined]
        service.compute(1)


def defaults(keep: list[Any]) -> None:
    for _ in range(COUNT):

        def handler(state: Any = Payload()) -> Any:  # noqa: B008 - the leak that is planted
            return state

        keep.append(handler)


CASES: dict[str, tuple[Callable[[list[Any]], None], dict[str, str]]] = {
    "closure cell": (
        closures,
        {"kind": "context", "name": "transcript", "holder": "function on_done (x.py:88)"},
    ),
    "future callback": (
        future_callbacks,
        {"kind": "property", "name": "_callbacks", "holder": "_asyncio.Future"},
    ),
    "dict value": (dict_values, {"kind": "property", "name": "<int>", "holder": "dict"}),
    "dict key": (dict_values, {"kind": "property", "name": "registry", "holder": "dict"}),
    "list": (list_items, {"kind": "element", "name": "1", "holder": "list"}),
    "deque": (deque_items, {"kind": "element", "name": "1", "holder": "collections.deque"}),
    "set": (set_items, {"kind": "element", "name": "1", "holder": "set"}),
    "slot": (slots, {"kind": "property", "name": "payload", "holder": f"{__name__}.Slotted"}),
    "traceback": (tracebacks, {"kind": "property", "name": "__traceback__", "holder": "ValueError"}),
    "local of a coroutine": (
        coroutines,
        {"kind": "context", "name": "transcript", "holder": "coroutine work (x:1)"},
    ),
    "lru_cache": (
        cached_methods,
        {"kind": "property", "name": "<cached key>", "holder": "functools._lru_cache_wrapper"},
    ),
    "default argument": (
        defaults,
        {"kind": "property", "name": "__defaults__", "holder": "function handler (x:1)"},
    ),
}


def payloads() -> list[Any]:
    return [item for item in gc.get_objects() if type(item) is Payload]


@pytest.fixture(autouse=True)
def _no_payloads() -> None:
    Service.compute.cache_clear()
    gc.collect()
    assert payloads() == []


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_cutting_the_right_edge_frees_everything_in_the_copy_and_nothing_here(case: str) -> None:
    plant, edge = CASES[case]
    keep: list[Any] = []
    plant(keep)
    answer = confirm(payloads, [edge], timeout=20)
    assert answer.error is None
    assert (answer.targets, answer.freed) == (COUNT, COUNT), answer
    assert answer.sentence == f"cutting it freed {COUNT} of {COUNT}"
    assert len(payloads()) == COUNT
    keep.clear()


@pytest.mark.slow
def test_an_object_held_twice_is_not_freed_by_one_cut() -> None:
    keep: list[Any] = []
    closures(keep)
    also = [payloads()]
    answer = confirm(payloads, [CASES["closure cell"][1]], timeout=20)
    assert (answer.cut, answer.freed, answer.targets) == (COUNT, 0, COUNT)
    both = [CASES["closure cell"][1], {"kind": "element", "name": "0", "holder": "list"}]
    assert confirm(payloads, both, timeout=20).freed == COUNT
    del also, keep


def test_an_edge_that_is_not_there_is_said_so() -> None:
    keep = [Payload()]
    answer = confirm(payloads, [{"kind": "context", "name": "nothing", "holder": "function nobody (x:1)"}])
    assert answer.freed == 0
    assert answer.cut == 0
    assert answer.sentence == (
        "not confirmed: the reference was not found in the copy "
        "(context 'nothing' of function nobody: nothing of the kind leads to a target)"
    )
    assert answer.uncut == ("context 'nothing' of function nobody: nothing of the kind leads to a target",)
    del keep


@pytest.mark.slow
def test_a_dict_of_the_same_key_elsewhere_is_left_alone() -> None:
    keep: list[Any] = []
    dict_values(keep)
    elsewhere = {"registry": {1: Slotted()}}
    answer = confirm(payloads, [CASES["dict key"][1]], timeout=20)
    assert answer.cut == 1
    del elsewhere, keep


def test_a_copy_that_hangs_is_ended() -> None:
    def hang() -> list[Any]:
        time.sleep(60)
        return []

    answer = confirm(hang, [], timeout=0.3)
    assert answer.error == "the copy did not answer within 0.3 s"
    assert answer.sentence == "not confirmed: the copy did not answer within 0.3 s"


def test_a_copy_that_fails_says_why() -> None:
    def fail() -> list[Any]:
        raise KeyError("registry")

    assert confirm(fail, [], timeout=20).error == "KeyError: 'registry'"
