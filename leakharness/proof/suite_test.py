"""A proof that is asked of a test of the project's suite: the test as it is here, on the code of each side."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from leakharness.errors import UsageError
from leakharness.proof.sides import PRODUCTION, Side
from leakharness.scenario.find import ScenarioRef

__all__ = ["is_test", "scenario_of", "with_test"]

ROOT = "LEAKHARNESS_TEST_ROOT"
"""Variable that says where the test lies, on this side."""
FOLDERS = ("test", "tests")
"""A folder of this name is the suite's, with all that lies in it. Beside the code, only a file of tests is."""
NAME = "test"
TEXT = '''\
"""A test of a suite, as a scenario."""
import os
from leakharness import Run, Scenario
from leakharness.pytest_plugin.one_item import OneItem

scenario = Scenario({name!r})
item = OneItem(os.environ.get({root!r}, "."), {node!r})
scenario.setup(item.set_up)


@scenario.mode({mode!r}, must="PASS", default=True, abort="none", needs={{"pytest": "say --with pytest"}})
def production(run: Run) -> None:
    item.again()
'''


def is_test(found: ScenarioRef) -> bool:
    """Whether it is a test by its id: something of a file that declares no scenario."""
    if found.origin != "file" or not found.name or found.line:
        return False
    try:
        return b"Scenario(" not in found.path.read_bytes()
    except OSError:
        return False


def scenario_of(found: ScenarioRef, root: Path, folder: Path) -> ScenarioRef:
    """The test as a scenario, which is written into ``folder``."""
    node = f"{_below(found, root).as_posix()}::{found.name}"
    path = folder / f"{NAME}.py"
    path.write_text(TEXT.format(name=NAME, root=ROOT, node=node, mode=PRODUCTION), encoding="utf-8")
    return ScenarioRef(NAME, path, 1, "file")


def with_test(side: Side, found: ScenarioRef, root: Path, tree: Path) -> Side:
    """The side with the test of the project at ``root`` in its ``tree``, whatever that had in its place."""
    file = _below(found, root)
    suite = next((place for place in reversed(file.parents) if place.name in FOLDERS), None)
    if suite is not None:
        shutil.rmtree(tree / suite, ignore_errors=True)
        shutil.copytree(root / suite, tree / suite, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (file, *(place / "conftest.py" for place in file.parents)):
        if (root / path).is_file():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / path, tree / path)
    roots = {*side.roots, f"{tree}/", f"{tree.resolve()}/"}
    return replace(
        side, env={**side.env, ROOT: str(tree)}, roots=tuple(sorted(roots, key=lambda text: (-len(text), text)))
    )


def _below(found: ScenarioRef, root: Path) -> Path:
    try:
        return found.path.resolve().relative_to(root.resolve())
    except ValueError:
        raise UsageError(f"{found.path}: a test of another project than {root}: start the command there") from None
