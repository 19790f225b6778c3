"""What a step of a path costs, by the name of its edge, and which of V8's roots say little."""

from __future__ import annotations

__all__ = ["DETOUR", "IMPORTED", "INTERNAL_STEP", "NAMES_WITH_PRICE", "PASSING_ROOTS", "STEP"]

# What a step costs in the search for a readable path. A path over the type or the globals of an unrelated
# function is always short and never the answer, so such steps count as several plain ones.
STEP, INTERNAL_STEP, DETOUR = 1, 3, 8
IMPORTED = 3  # steps more that a path of the program may have than one from a module of tests, which imports from it
FREE_NAMES = frozenset({"__dict__", "cell_contents", "__closure__", "__self__", "__func__"})
DETOUR_NAMES = frozenset(
    {
        "__globals__",
        "__builtins__",
        "__class__",
        "__mro__",
        "__bases__",
        "__base__",
        "__subclasses__",
        "__objclass__",
        "f_globals",
        "f_builtins",
        "gi_frame",
        "type",
        "map",
        "constructor",
        "__proto__",
    }
)
NAMES_WITH_PRICE = {**dict.fromkeys(FREE_NAMES, STEP), **dict.fromkeys(DETOUR_NAMES, DETOUR)}

# V8's roots that hold what runs right now or is known to everybody: a path through them says little, and one of the
# program's own says more at any length
PASSING_ROOTS = frozenset(
    {
        "(Builtins)",
        "(Handle scope)",
        "(Internalized strings)",
        "(Read-only roots)",
        "(Relocatable)",
        "(Shareable object cache)",
        "(Stack roots)",
        "(Startup object cache)",
    }
)
