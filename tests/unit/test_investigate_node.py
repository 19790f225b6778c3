"""An investigation of a lane of Node: it names what holds the objects, and advises nothing of pytest's."""

from __future__ import annotations

from pathlib import Path

from leakharness.suite.investigate import FamilyGrowth, _holder, investigate, report_markdown

from v8_files import V8File  # isort: skip


def worker(step: int) -> V8File:
    """A worker with a registry that gains 100 sessions a step, and a module that is loaded in step 1."""
    file = V8File()
    top = file.top()
    modules = file.held(top, "property", "idToModuleMap", "object", "Map")
    table = file.held(modules, "internal", "table", "array", "")
    exports = file.held(table, "internal", "2", "object", "Module")
    registry = file.held(exports, "property", "REGISTRY", "object", "Array")
    for i in range(100 * step):
        session = file.held(registry, "element", i, "object", "Session", 2000)
        file.nodes[session][2] = 10_001 + 2 * i
    scripts = ["/app/src/main.mjs", *(["/app/node_modules/@acme/big/x.js"] if step else [])]
    for i, script in enumerate(scripts):
        file.nodes[file.held(1, "element", 20 + i, "code", script, 64)][2] = 90_001 + 2 * i
    return file


def test_an_export_behind_a_getter_is_named_by_the_getter() -> None:
    path = ("global", "Node.exports", "Module.get REGISTRY", "(closure) context 'unnamed' (Array)[*]", "Session")
    family = FamilyGrowth("Session", 1, 1, "runtime-objects", "by retainers", path, 3, 3)
    assert _holder(family) == "Module.get REGISTRY -> (closure) context 'unnamed' (Array)"


def lane(tmp_path: Path, steps: int) -> Path:
    for step in range(steps):
        worker(step).write(tmp_path / f"Heap.20260101.12000{step}.77.1.00{step}.heapsnapshot")
    return tmp_path


def test_the_registry_is_named_and_the_packages_that_were_loaded(tmp_path: Path) -> None:
    found = investigate(lane(tmp_path, 4))
    assert [(f.type, f.kind, f.risen, f.intervals) for f in found.leaks] == [("Session", "runtime-objects", 3, 3)]
    assert (found.imported, found.loaded_before) == ((("@acme/big", 1),), 1)
    text = report_markdown(found)
    assert "held by Module.REGISTRY (Array)" in text
    assert "1 had been loaded before the first" in text
    assert "pytest" not in text
    assert "(GC roots)" not in text


def test_two_snapshots_decide_nothing_and_advise_nothing_of_pytest(tmp_path: Path) -> None:
    text = report_markdown(investigate(lane(tmp_path, 2)))
    assert "two snapshots" in text
    assert "pytest" not in text
    assert "--leak-snapshot-interval" not in text
