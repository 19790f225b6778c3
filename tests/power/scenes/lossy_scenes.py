"""What the extension module ``lossy`` does to objects of a program; ``LOSSY_FOLDER`` says where it was built."""

from __future__ import annotations

import contextlib
import os
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from leakharness import Run, Scenario

sys.path.insert(0, os.environ["LOSSY_FOLDER"])
import lossy  # type: ignore[import-not-found]


class Config:
    """Made once, and used in every run."""

    def method(self) -> None:
        """Bound below."""


CONFIG = Config()
SPARE = [CONFIG] * 20_000
PLUGIN = types.ModuleType("plugin")
METHOD = CONFIG.method
TEXT = "".join(["a text ", "of the program's"])
PAIR = ("a", 2, str(3))


def paged() -> Iterator[int]:
    """Suspended, and kept."""
    yield 1


def counter(start: int) -> Callable[[], int]:
    """A closure."""
    return lambda: start


PAGES = paged()
next(PAGES)
CODE = counter.__code__
CELL = (counter(1).__closure__ or ())[0]
LINK = weakref.ref(CONFIG)


def fails_in_one_of_five(number: int, mended: bool) -> None:
    """The function keeps what it was given on its way out of an error."""
    with contextlib.suppress(ValueError):
        lossy.keep_on_error(CONFIG, number % 5 == 0 and not mended)


def scene(name: str, leak: Callable[[int, bool], Any]) -> Scenario:
    """A scenario of that name whose leaky mode calls ``leak(run's number, False)``."""
    made = Scenario(name, summary=f"{name}, by an extension module")

    def leaky(run: Run) -> None:
        leak(run.index, False)

    def clean(run: Run) -> None:
        leak(run.index, True)

    def rare(run: Run) -> None:
        leak(run.index, run.index % 20 > 0)

    made.mode("leaky", must="FAIL", abort="none")(leaky)
    made.mode("clean", must="PASS", default=True, abort="none")(clean)
    made.mode("rare", must="FAIL", abort="none")(rare)
    return made


instance = scene("instance", lambda number, mended: lossy.keep(CONFIG, mended))
module = scene("module", lambda number, mended: lossy.keep(PLUGIN, mended))
heap_type = scene("heap-type", lambda number, mended: lossy.keep(Config, mended))
method = scene("method", lambda number, mended: lossy.keep(METHOD, mended))
text = scene("text", lambda number, mended: lossy.keep(TEXT, mended))
pair = scene("pair", lambda number, mended: lossy.keep(PAIR, mended))
generator = scene("generator", lambda number, mended: lossy.keep(PAGES, mended))
code = scene("code", lambda number, mended: lossy.keep(CODE, mended))
cell = scene("cell", lambda number, mended: lossy.keep(CELL, mended))
weak = scene("weakref", lambda number, mended: lossy.keep(LINK, mended))
own_type = scene("own-type", lambda number, mended: lossy.keep(lossy.Point, mended))
on_error = scene("on-error", fails_in_one_of_five)
given = scene("given", lambda number, mended: lossy.give_away(CONFIG, mended))
new_str = scene("new-str", lambda number, mended: lossy.make("str", number, mended))
new_bytes = scene("new-bytes", lambda number, mended: lossy.make("bytes", number, mended))
new_int = scene("new-int", lambda number, mended: lossy.make("int", number, mended))
new_float = scene("new-float", lambda number, mended: lossy.make("float", number, mended))
new_tuple = scene("new-tuple", lambda number, mended: lossy.make("tuple", number, mended))
new_dict = scene("new-dict", lambda number, mended: lossy.make("dict", number, mended))
new_list = scene("new-list", lambda number, mended: lossy.make("list", number, mended))
pymem = scene("pymem", lambda number, mended: lossy.make("pymem", number, mended))
handle = scene("handle", lambda number, mended: [lossy.make(what, number, mended) for what in ("list", "malloc")])
malloc = scene("malloc", lambda number, mended: lossy.make("malloc", number, mended))


class Heir(lossy.Ghost):  # type: ignore[misc,name-defined]
    """Deallocated by what it inherits."""

    __slots__ = ()


ghost = scene("ghost", lambda number, mended: (lossy.Ghost(), Heir(), Heir(), lossy.Point()))
