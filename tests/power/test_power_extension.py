"""The leaks of extension modules, by a real one: each is found with its number, and its mended twin is silent.

The module is built by the compiler at hand; without one these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import grown_by

from leakharness import RunResult, run
from leakharness.worker.unowned_references import why_not

SCENES = Path(__file__).parent / "scenes"
COMPILER = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
HEADERS = Path(sysconfig.get_paths()["include"])
pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(sys.platform != "linux", reason="blocks are read from /proc"),
    pytest.mark.skipif(COMPILER is None or not (HEADERS / "Python.h").is_file(), reason="no compiler, or no headers"),
]

LOST = {
    "instance": "scenarios.lossy_scenes.CONFIG (Config)",
    "module": "scenarios.lossy_scenes.PLUGIN (module)",
    "heap-type": "scenarios.lossy_scenes.Config (type)",
    "method": "scenarios.lossy_scenes.METHOD (method)",
    "text": "scenarios.lossy_scenes.TEXT (str)",
    "pair": "scenarios.lossy_scenes.PAIR (tuple)",
    "generator": "scenarios.lossy_scenes.PAGES (generator)",
    "code": "scenarios.lossy_scenes.CODE (code)",
    "cell": "scenarios.lossy_scenes.CELL (cell)",
    "weakref": "scenarios.lossy_scenes.LINK (ReferenceType)",
    "own-type": "lossy.Point (type)",
}
KEPT = {"new-str": "str", "new-bytes": "bytes objects", "new-int": "int", "new-float": "float"}


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The extension module, where the scenes look for it."""
    folder = tmp_path_factory.mktemp("lossy")
    target = folder / f"lossy{sysconfig.get_config_var('EXT_SUFFIX')}"
    command = [str(COMPILER), "-shared", "-fPIC", "-O1", f"-I{HEADERS}", str(SCENES / "lossy.c"), "-o", str(target)]
    subprocess.run(command, check=True, timeout=120)
    os.environ["LOSSY_FOLDER"] = str(folder)


def measured(name: str, mode: str) -> RunResult:
    return run(f"{SCENES / 'lossy_scenes.py'}::{name}", mode, snapshots="never")


@pytest.mark.slow
@pytest.mark.parametrize("name", LOST)
def test_a_lost_reference_is_named(name: str) -> None:
    """By the object and its place; nothing else moves."""
    result = measured(name, "leaky")
    assert (result.verdict, grown_by(result)) == ("FAIL", {"references": 1.0}), result.reason
    (held,) = result.held_by_c
    assert held.sentence == (
        f"+1 reference a run to {LOST[name]} that no object holds: a C function does not give it back"
    )


@pytest.mark.slow
def test_a_reference_given_away_is_named() -> None:
    """The sentence says where it ends."""
    result = measured("given", "leaky")
    assert (result.verdict, grown_by(result)) == ("FAIL", {"given_away": 1.0}), result.reason
    assert [held.sentence for held in result.held_by_c] == [
        "−1 reference a run to scenarios.lossy_scenes.CONFIG (Config): given away without being owned; "
        "it ends in a crash"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_an_object_that_nobody_refers_to_is_named(name: str) -> None:
    """By its type, number and size, though the collector lists none of them."""
    result = measured(name, "leaky")
    assert result.verdict == "FAIL", result.reason
    assert grown_by(result)["blocks"] == pytest.approx(1.0, rel=0.01)
    (held,) = result.held_by_c
    assert held.count_per_run == 1.0
    assert held.sentence.startswith(f"1 {KEPT[name]} a run of ")
    assert held.sentence.endswith("referred to by nothing in the heap: C code keeps it")
    assert [site["c_functions"] for site in result.allocations] == [["lossy.make"]]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "held"), {"new-tuple": {"int"}, "new-dict": {"str", "int"}}.items())
def test_what_hangs_on_an_object_that_nobody_refers_to_is_told_apart(name: str, held: set[str]) -> None:
    """A C function that forgets one container leaves its items behind, too."""
    first, *rest = measured(name, "leaky").held_by_c
    kind = name.removeprefix("new-")
    assert (first.type, first.count_per_run) == (kind, 1.0)
    assert "referred to by nothing in the heap" in first.sentence
    assert {row.type for row in rest} == held
    assert all(row.count_per_run == 1.0 and row.sentence.endswith("nothing but what C code keeps") for row in rest)


@pytest.mark.slow
def test_one_in_five_runs_that_fails() -> None:
    """On its way out of an error."""
    result = measured("on-error", "leaky")
    assert grown_by(result) == {"references": pytest.approx(0.2, rel=0.05)}
    assert "a run to scenarios.lossy_scenes.CONFIG (Config) that no object holds" in result.held_by_c[0].sentence


@pytest.mark.slow
def test_a_list_that_c_code_keeps_is_said_to_be() -> None:
    """The collector lists it: it is among the retained objects, and C holds it."""
    result = measured("new-list", "leaky")
    assert grown_by(result)["objects"] == pytest.approx(1.0, rel=0.01)
    assert result.retainers[0].target == "list"
    assert result.retainers[0].path[0] == "held by C or unknown"
    assert [held.sentence for held in result.held_by_c] == [
        f"1 list a run of {result.held_by_c[0].bytes:.0f} bytes, referred to by nothing in the heap: C code keeps it"
    ]


@pytest.mark.slow
def test_a_block_that_is_no_object_is_told_by_its_size() -> None:
    """PyMem's."""
    (held,) = measured("pymem", "leaky").held_by_c
    assert held.sentence == ("1 block a run of 48 bytes that hold no object: a C struct, or a container's table")


@pytest.mark.slow
def test_malloc_is_seen_by_its_bytes() -> None:
    """A chunk of malloc has 8 bytes of its own."""
    result = measured("malloc", "leaky")
    assert grown_by(result)["malloc_bytes"] == pytest.approx(3008, rel=0.01)
    (held,) = result.held_by_c
    assert held.bytes == pytest.approx(3008, rel=0.01)
    assert "a run that no object accounts for, in malloc's heap" in held.sentence


@pytest.mark.slow
def test_malloc_beside_objects_is_told_apart() -> None:
    """A handle with a struct of its own: an object, and bytes that no allocator of Python's gave out."""
    result = measured("handle", "leaky")
    kept, native = result.held_by_c
    assert kept.sentence.startswith("1 list a run of ")
    assert native.bytes == pytest.approx(3008, rel=0.05)
    assert "a run that Python's allocators did not give out: native code took them; " in native.sentence
    assert measured("handle", "clean").held_by_c == ()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "counter"), [("instance", "references"), ("new-str", "blocks")])
def test_one_in_twenty_runs(name: str, counter: str) -> None:
    """An early return that forgets it."""
    result = measured(name, "rare")
    assert result.verdict == "FAIL", result.reason
    assert grown_by(result)[counter] == pytest.approx(0.05, rel=0.2)
    assert len(result.held_by_c) == 1


@pytest.mark.parametrize(
    "name", [*LOST, *KEPT, "given", "on-error", "new-list", "new-tuple", "new-dict", "pymem", "malloc"]
)
def test_its_mended_twin_is_silent(name: str) -> None:
    """The same function, which gives back what it took."""
    result = measured(name, "clean")
    assert (result.verdict, grown_by(result)) == ("PASS", {}), result.reason


def test_an_extension_s_type_that_its_instances_do_not_give_back_is_noted() -> None:
    """Frequent, and without a byte lost: the type lives as long as its module. It is said, and is no FAIL."""
    result = measured("ghost", "clean")
    assert (result.verdict, grown_by(result)) == ("PASS", {}), result.reason
    assert (
        "no memory is lost by it: references are not given back to the type lossy.Ghost, the type "
        "scenarios.lossy_scenes.Heir, which live as long as the process"
    ) in result.notes
