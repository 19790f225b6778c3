"""What grows at first and is no leak: caches, rings, tables, classes and modules made on first use.

Each has a leaky twin: the same code without its bound.
"""

from __future__ import annotations

import collections
import functools
import importlib
import random
from typing import Any

from leakharness import Run, Scenario

KEPT: list[Any] = []


class Record:
    """One object that the collector lists."""

    __slots__ = ("key",)

    def __init__(self, key: object) -> None:
        self.key = key


def _twins(name: str, summary: str, bounded: Any, unbounded: Any, **options: Any) -> Scenario:
    """A scenario with the clean mode ``bounded`` and the leaky mode ``unbounded``, both called with the run's index."""
    scenario = Scenario(name, summary=summary, **options)

    @scenario.mode("clean", must="PASS", default=True, abort="none")
    def clean(run: Run) -> None:
        bounded(run.index)

    @scenario.mode("leaky", must="FAIL", abort="none")
    def leaky(run: Run) -> None:
        unbounded(run.index)

    return scenario


unbounded_cache = functools.lru_cache(maxsize=None)(Record)
cache_128 = functools.lru_cache(maxsize=128)(Record)
cache_5000 = functools.lru_cache(maxsize=5000)(Record)
deque_128: Any = collections.deque(maxlen=128)
deque_100000: Any = collections.deque(maxlen=100_000)
unbounded_deque: Any = collections.deque()


def append_to(queue: Any) -> Any:
    return lambda index: queue.append(Record(index))


lru_128 = _twins("lru-128", "lru_cache(128), or unbounded", cache_128, unbounded_cache)
lru_5000 = _twins("lru-5000", "lru_cache(5000): fuller every run for 5000 runs", cache_5000, unbounded_cache)
deque_small = _twins("deque-128", "deque(maxlen=128), or unbounded", append_to(deque_128), append_to(unbounded_deque))
deque_large = _twins("deque-100000", "deque(maxlen=100000)", append_to(deque_100000), append_to(unbounded_deque))

ERRORS: Any = collections.deque(maxlen=512)


def _fail(depth: int) -> None:
    raise ValueError(f"failed at depth {depth}") if depth == 0 else KeyError(depth)


def _keep_error(errors: Any) -> Any:
    def keep(index: int) -> None:
        try:
            _fail(index % 2)
        except (ValueError, KeyError) as exc:
            errors.append(exc)

    return keep


errors_512 = _twins(
    "errors-512", "a ring of 512 recent errors, with tracebacks", _keep_error(ERRORS), _keep_error(KEPT)
)

RING: list[Any] = []


def _ring_of_list(index: int) -> None:
    RING.append(Record(index))
    del RING[:-512]


def _list(index: int) -> None:
    KEPT.append(Record(index))


ring_512 = _twins("ring-512", "a plain list cut to its last 512", _ring_of_list, _list)

CLASSES: dict[int, type] = {}


def _lazy_class(index: int) -> None:
    CLASSES.setdefault(index % 300, type("Lazy", (), {}))


def _class_a_run(index: int) -> None:
    CLASSES[index] = type("Lazy", (), {})


lazy_classes = _twins("lazy-classes", "300 classes built on first use, or one a run", _lazy_class, _class_a_run)

TABLE: dict[int, Any] = {}


def _table(index: int) -> None:
    """A dict of ints that doubles its table now and then, until it holds 700 keys."""
    TABLE[index % 700] = None


def _endless_table(index: int) -> None:
    TABLE[index] = None


dict_resizes = _twins("dict-resizes", "a dict of 700 int keys, or one that takes every index", _table, _endless_table)

MODULES = (
    *("colorsys", "cmd", "calendar", "wave", "difflib", "filecmp", "fileinput", "graphlib", "gettext", "imaplib"),
    *("mailbox", "mimetypes", "netrc", "pprint", "plistlib", "poplib", "profile", "pstats", "quopri", "rlcompleter"),
    *("sched", "shelve", "smtplib", "statistics", "stringprep", "tabnanny", "textwrap", "timeit", "trace", "zipapp"),
)


def _import_one(index: int) -> None:
    importlib.import_module(MODULES[index // 4 % len(MODULES)])


def _import_and_keep(index: int) -> None:
    _import_one(index)
    KEPT.append(Record(index))


imports = _twins("imports", "a module imported every four runs, until all are in", _import_one, _import_and_keep)

KEYS = random.Random(7)
RANDOM: dict[int, Record] = {}


def _random_key(index: int) -> None:
    key = KEYS.randrange(1000)
    if key not in RANDOM:
        RANDOM[key] = Record(key)


def _random_key_leaking(index: int) -> None:
    _random_key(index)
    KEPT.append(Record(index))


random_1000 = _twins("random-1000", "a cache of 1000 keys that come at random", _random_key, _random_key_leaking)


BUCKETS = random.Random(3)
HISTOGRAM: dict[int, list[int]] = {}


def _bucket(index: int) -> None:
    """A histogram, whose outer buckets are hit ever more rarely."""
    HISTOGRAM.setdefault(int(BUCKETS.gauss(250, 60)), [0])[0] += 1


def _bucket_leaking(index: int) -> None:
    _bucket(index)
    KEPT.append(Record(index))


histogram = _twins("histogram", "a few hundred buckets that are hit at random", _bucket, _bucket_leaking)


OWN_LRU: dict[int, Record] = {}


def _own_lru(index: int) -> None:
    """An LRU cache of the program's own: 2000 entries, and nothing that says so."""
    OWN_LRU[index] = Record(index)
    if len(OWN_LRU) > 2000:
        del OWN_LRU[next(iter(OWN_LRU))]


own_lru = _twins("own-lru-2000", "a dict that drops its oldest entry beyond 2000", _own_lru, _list)

random_tracked = Scenario("random-tracked", summary="a cache of 600 random keys whose values are tracked")


class Session:
    """What a program would track."""


@random_tracked.mode("clean", must="PASS", default=True, abort="none")
def random_tracked_clean(run: Run) -> None:
    key = KEYS.randrange(600)
    if key not in TABLE:
        TABLE[key] = run.track(Session())
