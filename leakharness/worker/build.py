"""What kind of build the measured interpreter is, as far as counting depends on it. Standard library only."""

from __future__ import annotations

import sys

__all__ = ["FREE_THREADED", "is_free_threaded"]

FREE_THREADED = (
    "this is a free-threaded build, whose allocator and collector are not those that are counted here: measure in the "
    "build with the GIL (python3.14, not python3.14t)"
)


def is_free_threaded() -> bool:
    """Whether this is a build without the GIL (PEP 703), whatever ``-X gil`` says: it has another allocator, its
    collector keeps no lists of objects, and it freezes nothing, so that counters of ours would stand still there.
    """
    if sys.version_info < (3, 13):
        return False
    flags = getattr(sys, "abiflags", None)
    if flags is not None:
        return "t" in flags  # configure.ac: added by --disable-gil, as Py_GIL_DISABLED is; sysconfig costs 10 ms more
    import sysconfig

    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
