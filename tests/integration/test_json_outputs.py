"""What each command prints with ``--json`` keeps to its schema in the documentation, and no command is without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from leakharness.cli import make_app
from leakharness.heap import v8
from leakharness.measure.arm import Settings
from leakharness.proof.calibrate import calibrate
from tests.unit.heap_graphs import draw
from tests.unit.test_documents import RESULT
from tests.unit.test_json_schemas import WRITTEN, validator
from tests.unit.v8_files import V8File

SCENARIO = """
from leakharness import Run, Scenario

scenario = Scenario("quick", summary="one object")

@scenario.mode("closure-extracted", default=True, abort="none")
def closure_extracted(run: Run) -> None:
    run.track(type("Thing", (), {})())
"""
SCHEMAS = {
    "list": ["list"],
    "run": ["run"],
    "check": ["check", "checks"],
    "calibrate": ["calibrate"],
    "diff": ["diff"],
    "retainers": ["retainers"],
    "dominators": ["dominators"],
    "shape": ["shape"],
    "new": ["new"],
    "prove": ["prove"],
    "verify": ["verify"],
    "bisect": ["bisect"],
    "trend": ["trend"],
    "report": ["results", "investigation"],
    "snapshot info": ["snapshot"],
    "snapshot object": ["object"],
    "snapshot duplicates": ["duplicates"],
    "snapshot detached": ["detached"],
    "hotspots update": ["hotspots"],
    "live look": ["live"],
    "live doctor": ["live-doctor"],
}
"""By command: the documents that it prints."""


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """(name, command) of every command that takes ``--json``."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        elif any("--json" in parameter.opts for parameter in command.params):
            yield f"{before}{name}", command


def test_every_command_that_speaks_json_has_a_schema() -> None:
    assert dict(commands(typer.main.get_command(make_app()))).keys() == SCHEMAS.keys()
    for name in (name for names in SCHEMAS.values() for name in names):
        validator(name)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scenario, a snapshot of ours and one of V8's, two of each."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "quick.py").write_text(SCENARIO)
    (tmp_path / "scenarios" / "broken.py").write_text("from leakharness import Scenario\nscenario = Scenario(\n")
    v8.write(draw("root -> App -property:kept-> Leak"), tmp_path / "a.heapsnapshot")
    v8.write(draw("root -> App -property:kept-> Leak\nApp -> Leak#2 -> Part"), tmp_path / "b.heapsnapshot")
    for name, count in (("c", 1), ("d", 3)):
        file = V8File()
        for number in range(count):
            file.held(file.top(), "element", number, "string", "said twice", 100 + number)
        file.write(tmp_path / f"{name}.heapsnapshot")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(*arguments: str, codes: tuple[int, ...] = (0,)) -> Any:
    """The document that a command prints."""
    done = CliRunner().invoke(make_app(), [*arguments, "--json"])
    assert done.exit_code in codes, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("list", "list"),
        ("diff", "diff a.heapsnapshot b.heapsnapshot --min-kb 0"),
        ("diff", "diff a.heapsnapshot b.heapsnapshot --min-kb 0 --by path --rank retained"),
        ("diff", "diff c.heapsnapshot d.heapsnapshot --min-kb 0"),
        ("retainers", "retainers b.heapsnapshot --type Leak"),
        ("dominators", "dominators b.heapsnapshot"),
        ("dominators", "dominators d.heapsnapshot"),
        ("snapshot", "snapshot info b.heapsnapshot"),
        ("snapshot", "snapshot info d.heapsnapshot"),
        ("object", "snapshot object b.heapsnapshot ID"),
        ("duplicates", "snapshot duplicates d.heapsnapshot"),
        ("detached", "snapshot detached d.heapsnapshot"),
    ],
)
def test_snapshots_and_lists(project: Path, name: str, words: str) -> None:
    """Each printed by the command itself."""
    number = str(v8.read(project / "b.heapsnapshot").node_id[1])
    document = told(*words.replace("ID", number).split())
    validator(name).validate(document)
    assert document["schema"].removeprefix("leakharness.").removesuffix("/1") == name


def test_a_new_scenario_and_its_shape(project: Path) -> None:
    """From a function and from a snapshot; the shape of the first."""
    validator("new").validate(told("new", "fresh", "--from", "json:dumps"))
    validator("shape").validate(told("shape", "fresh"))
    (project / "scenarios" / "fresh.py").write_text(
        (project / "scenarios" / "fresh.py").read_text().replace("def closure_extracted", "def other", 1)
    )
    validator("new").validate(told("new", "held", "--from-snapshot", "b.heapsnapshot", "--type", "Leak"))


def test_results_and_what_is_made_of_them(project: Path) -> None:
    """A real run; ``report``, ``trend`` and ``verify`` of what is stored; calibrations of a fake measurement."""
    words = ("--iters", "5", "--warmup", "5", "--snapshots", "never", "--max-seconds", "0")
    document = told("run", "quick", *words, codes=(0, 3))
    validator("run").validate(document)
    (stored,) = (project / "reports").glob("*/run.json")
    results = told("report", str(stored.parent))
    validator("results").validate(results)
    assert results["results"][0]["scenario"] == "quick"
    validator("trend").validate(told("trend", "reports"))
    (project / "certificate.json").write_text(json.dumps(WRITTEN["check"]))
    validator("checks").validate({"schema": "leakharness.checks/1", "certificates": [WRITTEN["check"]] * 2})
    calibration = calibrate(None, Settings({}), repeats=1, measure=lambda *_: RESULT)  # type: ignore[arg-type]
    validator("calibrate").validate(json.loads(json.dumps(calibration.document())))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads processes of Linux")
def test_a_running_process() -> None:
    """Looked at twice, so that growth is told, too."""
    code = "import sys\nKEPT = [[] for _ in range(50)]\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        validator("live").validate(told("live", "look", str(process.pid), "--type", "list"))
        validator("live").validate(told("live", "look", str(process.pid), "--type", "list"))
        validator("live-doctor").validate(told("live", "doctor", str(process.pid)))
        process.kill()
