"""References that a C function does not give back, or gives away without owning them, made by ctypes; and its twins."""

from __future__ import annotations

import ctypes
import types
from typing import Any

from leakharness import Known, Run, Scenario

take: Any = ctypes.pythonapi.Py_IncRef
give: Any = ctypes.pythonapi.Py_DecRef
for function in (take, give):
    function.argtypes, function.restype = [ctypes.py_object], None


class Config:
    """Made once, and used in every run."""

    def method(self) -> None:
        """Bound below."""


CONFIG = Config()
SPARE = [CONFIG] * 5_000
"""What is given away must be there: an object without spare references would die, and take the process with it."""
LOSE: dict[str, Any] = {
    "instance": CONFIG,
    "module": types.ModuleType("plugin"),
    "type": Config,
    "method": CONFIG.method,
    "text": "".join(["a text ", "of the program's"]),
    "tuple": ("a", 2, str(3)),
}

for kind, thing in LOSE.items():
    scene = Scenario(kind, summary=f"a reference to one {kind} is lost in every run")

    def leaky(run: Run, thing: Any = thing) -> None:
        """The C function keeps what it was given."""
        take(thing)

    def clean(run: Run, thing: Any = thing) -> None:
        """It gives it back."""
        take(thing)
        give(thing)

    def rare(run: Run, thing: Any = thing) -> None:
        """It keeps it in one run of twenty, where it returns early."""
        if run.index % 20 == 0:
            take(thing)

    scene.mode("leaky", must="FAIL", abort="none")(leaky)
    scene.mode("clean", must="PASS", default=True, abort="none")(clean)
    scene.mode("rare", must="FAIL", abort="none")(rare)
    globals()[f"lost_{kind}"] = scene
    del leaky, clean, rare, thing

given = Scenario("given", summary="a reference that it does not own is given away in every run")


@given.mode("leaky", must="FAIL", abort="none")
def given_leaky(run: Run) -> None:
    give(CONFIG)


@given.mode("clean", must="PASS", default=True, abort="none")
def given_clean(run: Run) -> None:
    take(CONFIG)
    give(CONFIG)


accepted = Scenario(
    "accepted", summary="a lost reference that is known", known=[Known("scenarios.references.CONFIG", "mended soon")]
)


@accepted.mode("known", must="PASS", default=True, abort="none")
def accepted_known(run: Run) -> None:
    take(CONFIG)


more = Scenario(
    "accepted-beside", summary="and one that is not", known=[Known("scenarios.references.CONFIG", "mended soon")]
)


@more.mode("known", must="PASS", default=True, abort="none")
def more_than_known(run: Run) -> None:
    """Another one as well, which nobody has accepted."""
    take(CONFIG)
    if run.index % 2:
        take(LOSE["module"])
