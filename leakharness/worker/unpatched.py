"""The standard library as it was when the tool was loaded, whatever a measured body puts in its place.

A test may replace ``os.getpid``, ``time.monotonic``, ``gc.collect`` or ``open`` for as long as it runs, and a check of
it takes its readings in between. What the tool calls there it takes from here, so that a clock that stands still does
not stand still for the tool, and a mock counts no calls of ours.
"""

from __future__ import annotations

from io import open  # noqa: UP029 - bound now, not when it is called
from typing import TYPE_CHECKING

__all__ = ["COPIES", "gc", "json", "open", "os", "signal", "time"]

if TYPE_CHECKING:
    import gc
    import json
    import os
    import signal
    import time
else:
    from importlib import import_module
    from types import ModuleType

    def _as_it_is(name: str) -> ModuleType:
        """A module with the functions, classes and constants that the module ``name`` has now. The rest, as
        ``os.environ`` and ``gc.callbacks``, is looked up there when it is asked for.

        It is not in ``sys.modules``, where those who replace a clock search every module for it.
        """
        real = import_module(name)
        kept = ModuleType(f"{__name__}.{name}")
        kept.__getattr__ = lambda attribute: getattr(real, attribute)
        kept.__dict__.update(
            (key, value)
            for key, value in vars(real).items()
            if not key.startswith("__") and (callable(value) or isinstance(value, (int, str)))
        )
        return kept

    gc, json, os, signal, time = map(_as_it_is, ("gc", "json", "os", "signal", "time"))
    os.path = _as_it_is(os.path.__name__)

COPIES = (gc, json, os, os.path, signal, time)
"""The harness's own modules, which no snapshot shows."""
