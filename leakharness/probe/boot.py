"""How the measured interpreter gets this package, and nothing else of the tool's.

The interpreter is started with ``-c`` and the text below: it registers the package from its folder, without that
folder's parent (the tool's site-packages) ever being on ``sys.path``, so that no other package of the tool can be
imported there. The current folder comes first on the path, as with ``python -m``, unless safe path is on.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["boot_arguments"]

BOOT = """\
import sys
folder = sys.argv.pop(1)
if sys.path and sys.path[0] == "":
    import os
    sys.path[0] = os.getcwd()
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("leakharness", folder + "/__init__.py", submodule_search_locations=[folder])
package = sys.modules["leakharness"] = module_from_spec(spec)
spec.loader.exec_module(package)
from leakharness.probe.worker import main
main()
"""


def boot_arguments(python: str) -> list[str]:
    """The command that starts a worker in the interpreter ``python``."""
    package = Path(__file__).resolve().parent.parent
    return [python, "-X", "faulthandler", "-c", BOOT, str(package)]
