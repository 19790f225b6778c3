"""An investigation of a lane of Node: it names what holds the objects, and advises nothing of pytest's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from leakharness.cli import make_app
from leakharness.documents import validated
from leakharness.errors import UsageError
from leakharness.page_documents import InvestigationDocument
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
    tmp_path.mkdir(exist_ok=True)
    for step in range(steps):
        worker(step).write(tmp_path / f"Heap.20260101.12000{step}.77.1.00{step}.heapsnapshot")
    return tmp_path


def test_the_registry_is_named_and_the_packages_that_were_loaded(tmp_path: Path) -> None:
    found = investigate(lane(tmp_path, 4))
    assert [(f.type, f.kind, f.risen, f.intervals) for f in found.leaks] == [("Session", "runtime-objects", 3, 3)]
    assert (found.imported, found.loaded_before) == ((("@acme/big", 1),), 1)
    text = report_markdown(found)
    assert "held by Module.REGISTRY (Array)" in text
    assert "1 had been loaded before the first (src 1)" in text
    assert "pytest" not in text
    assert "(GC roots)" not in text


def test_two_snapshots_decide_nothing_and_advise_nothing_of_pytest(tmp_path: Path) -> None:
    text = report_markdown(investigate(lane(tmp_path, 2)))
    assert "two snapshots" in text
    assert "pytest" not in text
    assert "--leak-snapshot-interval" not in text


def test_it_is_a_page_and_a_document(tmp_path: Path) -> None:
    """The families over time, who holds them, what the files left, and what to do; another format is refused."""
    folder = lane(tmp_path / "gw<0>", 4)
    counters = {"rss": 0, "objects": 0, "blocks": 0}
    row = {"schema": "leakharness.trace/1", "lane": "gw0", "file": "tests/<a>.py", "phase": "run", "pid": 7, "tests": 2}
    row |= {"delta_rss_bytes": 5 << 20, "peak_rss_bytes": 50 << 20, "before": counters, "after": counters}
    (tmp_path / "trace.jsonl").write_text(json.dumps(row) + "\n")
    words = ["report", "investigate", "--lane-dir", str(folder), "--trace", str(tmp_path / "trace.jsonl")]

    def said(*more: str, code: int = 0) -> str:
        done = CliRunner().invoke(make_app(), [*words, *more])
        assert done.exit_code == code, done.output
        return done.output

    page = said("--format", "html")
    assert 'aria-label="0 B → 195 KiB → 391 KiB → 586 KiB"' in page
    assert "<code>Session</code> (+" in page
    assert "tests/&lt;a&gt;.py</code></td><td>gw0</td>" in page
    assert "gw<0>" not in page
    assert '<h2>What to change</h2><ul class="plain"><li>break the edge Module.REGISTRY' in page
    document = validated(InvestigationDocument, json.loads(said("--json")), "stdout")
    assert document["families"][0]["sizes"] == [0, 200_000, 400_000, 600_000]
    assert document["memory"]["files"][0]["left"] == 5 << 20
    with pytest.raises(UsageError, match="an investigation is rendered as markdown or html"):
        CliRunner().invoke(make_app(), [*words, "--format", "sarif"], catch_exceptions=False)


def test_what_is_left_of_a_module_graph_does_not_make_it_undecided(tmp_path: Path) -> None:
    """Two snapshots, 34 MiB of modules and a few objects that one of them made: the headline tells the modules."""
    for step in (0, 1):
        file = worker(step)
        module = file.held(file.held(2, "property", "require", "object", "Object"), "property", "m", "object", "Module")
        if step:
            file.held(module, "internal", "source_text_info", "object", "Module", 9_000_000)
        file.write(tmp_path / f"Heap.20260101.12000{step}.77.1.00{step}.heapsnapshot")
    found = investigate(tmp_path)
    assert found.kind == "module-graph"
    assert [f.type for f in found.seen_once] == ["Session"]
    assert "Likely module growth: what grew came with imports, but for 195 KiB of objects" in report_markdown(found)


def test_a_family_in_other_ways_has_its_types_series(tmp_path: Path) -> None:
    """Strings in many small ways are one row, and rise as all strings do."""
    for step in (0, 1, 2):
        file = worker(0)
        for place in range(40):
            holder = file.held(2, "property", f"h{place}", "object", f"Holder{place}")
            for i in range(step):
                file.held(holder, "property", f"text{i}", "string", f"text {place} {i}", 5000)
        file.write(tmp_path / f"Heap.20260101.12000{step}.77.1.00{step}.heapsnapshot")
    (family,) = investigate(tmp_path).families
    assert (family.type, family.risen, family.intervals) == ("(string)", 2, 2)


def test_a_cache_of_strings_that_rises_is_a_leak_and_no_module_growth(tmp_path: Path) -> None:
    """Each text is a node of its own name, and small alone: together they are what the cache of a module holds."""
    for step in range(4):
        file = worker(0)
        cache = file.held(file.held(2, "property", "app", "object", "App"), "property", "cache", "object", "Map")
        table = file.held(cache, "internal", "table", "array", "")
        for i in range(300 * step):
            text = file.held(table, "internal", f"{i} / part of key", "string", f"text {i} of the cache", 1000)
            file.nodes[text][2] = 20_001 + 2 * i
        file.write(tmp_path / f"Heap.20260101.12000{step}.77.1.00{step}.heapsnapshot")
    found = investigate(tmp_path)
    (family,) = found.families
    assert (family.type, family.count_delta, family.risen, family.intervals) == ("(string)", 900, 3, 3)
    assert found.leaks == [family]
    text = report_markdown(found)
    assert "Likely real leak: 879 KiB of (string) more, held by App.cache (Map)" in text
    assert "no retained runtime objects" not in text
