"""How the measured interpreter gets this package, and nothing else of the tool's.

The interpreter is started with ``-c`` and the text below: it registers the package from its folder, without that
folder's parent (the tool's site-packages) ever being on ``sys.path``, so that no other package of the tool can be
imported there. The current folder comes first on the path, as with ``python -m``, unless safe path is on; but only once
the package has what it needs, so that a ``json.py`` or ``types.py`` there does not stand in for the standard module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["boot_arguments", "boot_environment"]

NO_THREAD_CACHE = "glibc.malloc.tcache_count=0"
"""mallinfo2 counts the chunks that glibc parks in its per-thread caches as in use, and those fill by and by, for
thousands of runs. Without the caches the bytes in use are exact (glibc manual, "Memory Allocation Tunables")."""

BOOT = """\
import os
import sys
if sys.version_info < (3, 10):
    sys.exit("it is Python %d.%d" % sys.version_info[:2])
folder, tunables, temp = sys.argv[1:4]
del sys.argv[1:]
if temp:
    os.environ["TMPDIR"] = temp
os.environ.pop("GLIBC_TUNABLES", None)
if tunables:
    os.environ["GLIBC_TUNABLES"] = tunables
in_folder = bool(sys.path) and sys.path[0] == ""
if in_folder:
    del sys.path[0]
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("leakharness", folder + "/__init__.py", submodule_search_locations=[folder])
package = sys.modules["leakharness"] = module_from_spec(spec)
spec.loader.exec_module(package)
from leakharness.worker.commands import main
if in_folder:
    sys.path.insert(0, os.getcwd())
main(temp or None)
"""


def boot_arguments(python: str, env: Mapping[str, str] | None = None, temp_folder: str = "") -> list[str]:
    """The command that starts a worker in the interpreter ``python``. ``temp_folder`` becomes its ``TMPDIR``, so that
    what the runs leave there can be told from other processes' files."""
    package = Path(__file__).resolve().parent.parent
    own = (os.environ if env is None else env).get("GLIBC_TUNABLES", "")
    return [python, "-X", "faulthandler", "-c", BOOT, str(package), own, temp_folder]


def boot_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment a worker is started with: as it is, plus what the C library only reads at the start. The
    worker puts the variable back before anything of the program runs, so that its children do not inherit it."""
    environment = dict(os.environ if env is None else env)
    own = environment.get("GLIBC_TUNABLES")
    environment["GLIBC_TUNABLES"] = f"{own}:{NO_THREAD_CACHE}" if own else NO_THREAD_CACHE
    return environment
