"""Objects one by one and over many snapshots: conditions, fields and holders, what rises, what stayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakharness import __main__ as command_line
from leakharness.errors import OptionError, UsageError
from leakharness.heap import v8
from leakharness.heap.dominators import dominators, retained_sizes
from leakharness.heap.one_object import duplicate_strings, one_object
from leakharness.heap.trend import trend
from leakharness.heap.where import selected

from heap_graphs import draw  # isort: skip
from v8_files import V8File  # isort: skip


def run(*arguments: str) -> int:
    """A command of ours, in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["leakharness", *arguments])
        return int(command_line._exit_code() or 0)


def shop(step: int) -> V8File:
    """A process at some step: a cache that gains 200 orders a step, a pool that is full from step 1 on, churn."""
    file = V8File()
    top = file.top()
    orders = file.held(top, "property", "ORDERS", "object", "Map")
    table = file.held(orders, "internal", "table", "array", "")
    pool = file.held(top, "property", "pool", "object", "Array")
    churn = file.held(top, "property", "now", "object", "Array")
    number = 100
    for i in range(200 * step):
        order = file.held(table, "internal", str(3 * i + 2), "object", "Order", 1000)
        file.nodes[order][2] = 10_001 + 2 * i
    for i in range(300 if step else 0):
        file.nodes[file.held(pool, "element", i, "object", "Conn", 1000)][2] = 50_001 + 2 * i
    for i in range(50):
        number = 900_001 + 1000 * step + 2 * i
        file.nodes[file.held(churn, "element", i, "object", "Request", 500)][2] = number
    return file


def snapshots(tmp_path: Path, steps: int = 4) -> list[Path]:
    return [shop(i).write(tmp_path / f"Heap.20260101.12000{i}.9.0.00{i}.heapsnapshot") for i in range(steps)]


def test_a_trend_tells_what_rises_in_each_interval_and_what_stayed(tmp_path: Path) -> None:
    found = trend(snapshots(tmp_path), min_kb=16)
    assert [(family.name, family.counts, family.rises) for family in found.rising] == [
        ("Order", (0, 200, 400, 600), True)
    ]
    assert found.stayed is not None
    assert [(row.name, row.count, row.size, row.path[-2]) for row in found.stayed] == [
        ("Conn", 300, 300_000, "global.pool (Array)[*]"),
        ("Order", 200, 200_000, "global.ORDERS (Map)[*]"),
    ]
    assert found.collections is not None
    assert [(one.name, one.entries) for one in found.collections] == [("Map", (1, 200, 400, 600))]
    with pytest.raises(OptionError, match="three snapshots"):
        trend(snapshots(tmp_path, 2))


def test_diff_of_many_and_of_a_whole_lane_shows_the_trend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in snapshots(tmp_path)]
    for arguments in (files, ["--lane-dir", str(tmp_path), "--every"]):
        assert run("diff", *arguments, "--min-kb", "16") == 0
        text = capsys.readouterr().out
        assert "rose in each of 3 intervals:" in text
        assert "▁▃▆█  Order" in text
        assert "allocated between the first two, alive in the last:" in text
        assert "Map gained entries in each interval: 1 200 400 600" in text
        assert run("diff", *arguments, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["trend"]["collections"][0]["entries"] == [1, 200, 400, 600]
    assert run("diff", *files[:2]) == 0
    assert "rose in each" not in capsys.readouterr().out
    assert run("diff", files[0]) == 2
    assert run("diff", "--every", *files[:2]) == 2


def test_files_whose_ids_are_addresses_have_no_objects_to_follow(tmp_path: Path) -> None:
    graph = draw("root -a-> A -b-> B")
    graph.meta.update(producer="leakharness", pid=1)
    for name in "abc":
        v8.write(graph, tmp_path / f"{name}.heapsnapshot")
    found = trend([tmp_path / f"{name}.heapsnapshot" for name in "abc"])
    assert (found.stayed, found.collections, found.rising) == (None, None, ())


@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        ("name ~ ^Ord", 200),
        ("name = Order", 200),
        ("name != Order and kind = object and size >= 1000", 300),
        ("name !~ Order|Conn and kind ~ ^obj and size = 500", 50),
        ("size > 1000", 0),
        ("retained >= 195KiB", 5),
        ("edges >= 300", 1),
        ("id = 10003", 1),
        ("detached", 0),
    ],
)
def test_objects_are_chosen_by_conditions(tmp_path: Path, conditions: str, count: int) -> None:
    graph = v8.read(shop(1).write(tmp_path / "a.heapsnapshot"))
    found = selected(graph, conditions)
    if conditions.startswith("retained"):
        count = int(np.count_nonzero(retained_sizes(graph, dominators(graph)) >= 200_000))
    assert len(found) == count


@pytest.mark.parametrize(
    "conditions",
    ["", "size", "size ~ 3", "name > 3", "name ~ (", "weight > 3", "size >= x", "size >= 1.2.3MiB", "kind", "a b c"],
)
def test_what_is_no_condition_is_one_line(tmp_path: Path, conditions: str) -> None:
    graph = v8.read(shop(1).write(tmp_path / "a.heapsnapshot"))
    with pytest.raises(UsageError) as caught:
        selected(graph, conditions)
    assert "\n" not in str(caught.value)


def test_retainers_takes_an_id_or_conditions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(shop(1).write(tmp_path / "a.heapsnapshot"))
    assert run("retainers", path, "--where", "name ~ ^Ord and size >= 1000") == 0
    assert "200 Order (195 KiB retained) are held by global.ORDERS (Map)" in capsys.readouterr().out
    assert run("retainers", path, "--id", "10003") == 0
    assert "1 Order (1,000 B retained) is held by global.ORDERS (Map)" in capsys.readouterr().out
    for wrong in ([], ["--id", "3", "--type", "Order"], ["--id", "77777"]):
        assert run("retainers", path, *wrong) == 2


def test_one_object_is_told_with_its_fields_and_holders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shop(1).write(tmp_path / "a.heapsnapshot")
    graph = v8.read(path)
    found = one_object(graph, 10_003)
    assert (found.name, found.size, found.retained, found.fields) == ("Order", 1000, 1000, ())
    assert [(row.edge_kind, row.edge, row.kind) for row in found.holders] == [("internal", "5", "array")]
    assert found.dominator is not None
    assert found.dominator.kind == "array"
    assert run("snapshot", "object", str(path), "10003") == 0
    text = capsys.readouterr().out
    assert text.startswith("Order (object) @10003\n1,000 B itself, 1,000 B retained\nfreed with")
    assert run("snapshot", "object", str(path), "10003", "--json") == 0
    assert json.loads(capsys.readouterr().out)["holders"][0]["edge"] == "5"
    assert run("snapshot", "object", str(path), "4242") == 2


def test_texts_that_are_there_many_times_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = V8File()
    top = file.top()
    for i in range(30):
        file.held(top, "element", i, "string", "same" if i < 20 else f"text {i}", 40)
    path = file.write(tmp_path / "a.heapsnapshot")
    (row,) = duplicate_strings(v8.read(path, edges=False))
    assert (row.text, row.count, row.size, row.wasted) == ("same", 20, 800, 760)
    assert run("snapshot", "duplicates", str(path)) == 0
    assert "760 B         20  same" in capsys.readouterr().out
    ours: Any = draw("root -a-> A")
    ours.meta.update(producer="leakharness")
    with pytest.raises(UsageError):
        duplicate_strings(ours)


def test_detached_nodes_are_told_with_who_holds_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = V8File()
    top = file.top()
    held = file.held(top, "property", "cache", "object", "Array")
    for i in range(5):
        file.edge(held, file.node("native", "<div>", 100, detached=2), "element", i)
    for i in range(7):
        file.edge(top, file.node("native", "<div>", 100, detached=1), "property", f"live{i}")
    path = str(file.write(tmp_path / "a.heapsnapshot"))
    assert run("snapshot", "detached", path) == 0
    text = capsys.readouterr().out
    assert text.startswith("5 detached\n")
    assert "5 <div> (500 B retained) are held by global.cache (Array)" in text
    assert run("snapshot", "detached", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["count"] == 5
    assert run("snapshot", "detached", str(shop(0).write(tmp_path / "b.heapsnapshot"))) == 0
    assert "does not say" in capsys.readouterr().out
