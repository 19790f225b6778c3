"""From a real function of an installed package to a scenario that has its shape, runs, leaks, and is
clean when fixed.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leakharness.cli.shape import shape_lines
from leakharness.scenario.find import packaged_folder
from leakharness.shape import check_shape
from leakharness.shape.fixture import read_fixture

REAL = {
    "wait": "asyncio.tasks:_wait",
    "stagger": "asyncio.staggered:staggered_race",
    "poll": "zmq._future:_AsyncPoller.poll",
    "callback": "typer.main:get_callback",
    "tasks-table": "rich.progress:Progress.make_tasks_table",
}
"""An awaited future's callback, a coroutine that starts itself again, a poller's callbacks (two nested
functions that share state), a wrapper that is returned, and generator expressions.
"""
PROJECT = Path(__file__).parents[2]


def leakharness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "leakharness", *arguments], cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``new`` was run for each real function."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text((PROJECT / "pyproject.toml").read_text())
    for name, target in REAL.items():
        done = leakharness(folder, "new", name, "--from", target)
        assert done.returncode == 0, done.stderr
        assert "places to fill in" in done.stdout
    return folder


def file_of(project: Path, name: str) -> Path:
    return project / "scenarios" / f"{name.replace('-', '_')}.py"


@pytest.mark.parametrize("name", REAL)
def test_shape_accepts_what_new_wrote(project: Path, name: str) -> None:
    """SAME, in text that fits in 100 columns."""
    report = check_shape(str(file_of(project, name)), root=project)
    assert report.comparison.verdict == "SAME"
    assert str(report.suspect.target) == REAL[name]
    lines = shape_lines(report)
    assert lines[-1].startswith("SAME")
    assert max(map(len, lines[2:])) <= 100


def test_shape_exits_0_and_speaks_json(project: Path) -> None:
    """One document on stdout, and nothing else."""
    done = leakharness(project, "shape", "wait", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["schema"], document["verdict"]) == ("leakharness.shape/1", "SAME")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_it_runs_at_once_and_the_controls_hold(project: Path, name: str) -> None:
    """closure-inline FAILs and closure-extracted PASSes."""
    assert verdict_of_run(project, name, "closure-inline") == "FAIL"
    assert verdict_of_run(project, name, "closure-extracted") == "PASS"


def test_production_cannot_pass_before_it_is_filled_in(project: Path) -> None:
    """It imports the real function, and says that it does nothing with it."""
    assert verdict_of_run(project, "wait", "production") == "NOT_JUDGED"


def test_without_a_closure_nothing_is_held_in_its_place(tmp_path: Path) -> None:
    """What must FAIL passes until somebody says what keeps the objects: a hold of the harness would be no control."""
    (tmp_path / "plain.py").write_text("KEPT = {}\ndef remember(key):\n    KEPT[key] = [key]\n    return key\n")
    done = leakharness(tmp_path, "new", "plain-one", "--from", "plain:remember")
    assert "no closure of it keeps anything" in done.stdout
    assert "run.hold" not in file_of(tmp_path, "plain-one").read_text()
    assert verdict_of_run(tmp_path, "plain-one", "closure-inline") == "PASS"


def verdict_of_run(project: Path, name: str, mode: str) -> str:
    options = ("--iters", "10", "--batches", "3", "--snapshots", "never", "--scope-bytes", "20000", "--json")
    done = leakharness(project, "run", name, "--mode", mode, *options)
    return str(json.loads(done.stdout)["verdict"])


def test_the_files_are_formatted_and_clean(project: Path) -> None:
    """ruff format and ruff check have nothing to say, with this project's settings."""
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "scenarios"], cwd=project, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_files_are_typed(project: Path) -> None:
    """mypy --strict has nothing to say."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, sorted((project / "scenarios").glob("*.py")))],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


# mutations

Function = ast.FunctionDef | ast.AsyncFunctionDef


def nested_functions(node: Function) -> Iterator[tuple[Function, ast.Call]]:
    """Each nested function with its call of ``use``, which names what it captures."""
    for inner in ast.walk(node):
        if isinstance(inner, Function) and inner is not node:
            for item in ast.walk(inner):
                if isinstance(item, ast.Call) and ast.unparse(item.func) == "use":
                    yield inner, item
                    break


def names_given(call: ast.Call) -> list[str]:
    return [argument.id for argument in call.args if isinstance(argument, ast.Name)]


def drop_capture(node: Function, tracked: list[str]) -> bool:
    for inner in ast.walk(node):
        if not isinstance(inner, ast.Call) or ast.unparse(inner.func) != "use" or inner in top_calls(node):
            continue
        for argument in inner.args:
            if isinstance(argument, ast.Name) and argument.id in tracked:
                inner.args.remove(argument)
                return True
    return False


def add_capture(node: Function, tracked: list[str]) -> bool:
    calls = [call for call in ast.walk(node) if isinstance(call, ast.Call) and call not in top_calls(node)]
    for call in calls:
        if ast.unparse(call.func) == "use":
            call.args.append(ast.Name("added_local", ast.Load()))
            node.body.insert(0, ast.parse("added_local = object()").body[0])
            return True
    return False


def move_registration(node: Function, tracked: list[str]) -> bool:
    """Into a closure of its own that nobody calls: lexically elsewhere."""
    for body in bodies(node):
        for position, statement in enumerate(body):
            is_return = isinstance(statement, ast.Return) and statement.value is not None
            if is_return or ast.unparse(statement).startswith(("REGISTRY.", "wedged.")):
                moved = ast.parse("def elsewhere():\n    pass").body[0]
                assert isinstance(moved, ast.FunctionDef)
                moved.body = [statement]
                body[position] = moved
                return True
    return False


def drop_await(node: Function, tracked: list[str]) -> bool:
    for body in bodies(node):
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Await):
                body[body.index(statement)] = ast.Pass()
                return True
    return False


def bodies(node: Function) -> Iterator[list[ast.stmt]]:
    """The statement lists of the function itself, nested functions left out."""
    stack: list[ast.AST] = [node]
    while stack:
        item = stack.pop()
        for field in ("body", "orelse", "finalbody"):
            if isinstance(getattr(item, field, None), list):
                yield getattr(item, field)
                stack += [s for s in getattr(item, field) if not isinstance(s, Function | ast.ClassDef)]


def top_calls(node: Function) -> list[ast.AST]:
    return [statement.value for statement in node.body if isinstance(statement, ast.Expr)]


MUTATIONS: dict[str, Callable[[Function, list[str]], bool]] = {
    "drop a capture": drop_capture,
    "add a capture": add_capture,
    "move the registration": move_registration,
    "drop the await": drop_await,
}
WITHOUT_AWAIT = ("callback", "poll", "tasks-table")


def rename(node: Function) -> int:
    """Give every variable, parameter and nested function of the fixture another name; how many."""
    names: set[str] = set()
    for item in ast.walk(node):
        if isinstance(item, Function | ast.ClassDef) and item is not node:
            names.add(item.name)
        elif isinstance(item, ast.arg) and item.arg != "run":
            names.add(item.arg)
        elif isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store) and item.id != "wedged":
            names.add(item.id)
    for item in ast.walk(node):
        if isinstance(item, Function | ast.ClassDef) and item.name in names:
            item.name = f"renamed_{item.name}"
        elif isinstance(item, ast.arg | ast.keyword) and item.arg in names:
            item.arg = f"renamed_{item.arg}"
        elif isinstance(item, ast.Name) and item.id in names:
            item.id = f"renamed_{item.id}"
        elif isinstance(item, ast.Nonlocal):
            item.names = [f"renamed_{name}" if name in names else name for name in item.names]
    return len(names)


def fixture_node(project: Path, name: str) -> tuple[ast.Module, Function, list[str]]:
    report = check_shape(str(file_of(project, name)), root=project)
    tree = ast.parse(file_of(project, name).read_text())
    (node,) = [n for n in tree.body if isinstance(n, Function) and n.name == report.fixture.function]
    tracked = [
        ast.unparse(item.target)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and item.value is not None and "run.track" in ast.unparse(item.value)
    ]
    return tree, node, tracked


def verdict(project: Path, tmp_path: Path, tree: ast.Module) -> str:
    file = tmp_path / "mutant.py"
    file.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    return check_shape(str(file), root=project).comparison.verdict


@pytest.mark.parametrize("name", REAL)
def test_renaming_everything_is_the_same_shape(project: Path, tmp_path: Path, name: str) -> None:
    """Not one name of the original is left, and the shape is the same."""
    tree, node, _ = fixture_node(project, name)
    assert rename(node) >= 2
    assert verdict(project, tmp_path, tree) == "SAME"


@pytest.mark.parametrize("is_renamed", [False, True], ids=["", "renamed"])
@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", REAL)
def test_each_mutation_is_caught(project: Path, tmp_path: Path, name: str, mutation: str, is_renamed: bool) -> None:
    """A dropped or added capture, a moved registration, a dropped await: DRIFTED, renamed or not."""
    if mutation == "drop the await" and name in WITHOUT_AWAIT:
        pytest.skip("the original is no coroutine")
    tree, node, tracked = fixture_node(project, name)
    assert MUTATIONS[mutation](node, tracked), ast.unparse(node)
    if is_renamed:
        rename(node)
    assert verdict(project, tmp_path, tree) == "DRIFTED"


def test_the_answer_of_a_drifted_fixture(project: Path, tmp_path: Path) -> None:
    """Exit code 1; the text says what differs, where, and that it can hide the leak."""
    tree, node, tracked = fixture_node(project, "wait")
    assert drop_capture(node, tracked)
    file = tmp_path / "mutant.py"
    file.write_text(ast.unparse(tree))
    done = leakharness(project, "shape", str(file))
    assert done.returncode == 1
    assert "can HIDE the leak: _wait._on_completion: does not capture" in done.stdout
    assert "DRIFTED: 1 difference that matters; the fixture can hide the leak" in done.stdout
    document = json.loads(leakharness(project, "shape", str(file), "--json").stdout)
    assert document["can_hide"] is True
    assert [d["effect"] for d in document["differences"]] == ["hides"]


def test_usage_errors_are_one_line_and_exit_2(project: Path) -> None:
    """An existing file, an unknown function, an unknown mode."""
    for arguments, words in {
        ("new", "wait", "--from", "asyncio:wait"): "exists: choose another name, or overwrite it with --force",
        ("new", "other", "--from", "asyncio:nosuch"): "defines no function 'nosuch'",
        ("shape", "wait", "--mode", "nosuch"): "has no mode 'nosuch'",
    }.items():
        done = leakharness(project, *arguments)
        assert (done.returncode, words in done.stderr, done.stdout) == (2, True, ""), done.stderr
        assert done.stderr.count("\n") == 1


def test_a_copied_packaged_scenario_is_compared_by_its_name(tmp_path: Path) -> None:
    """A file of the gallery copied to ./scenarios: ``shape`` finds the one that ``run`` would."""
    (tmp_path / "scenarios").mkdir()
    shutil.copy(packaged_folder() / "pyzmq_poll_cancel.py", tmp_path / "scenarios")
    done = leakharness(tmp_path, "shape", "pyzmq-poll-cancel", "--json")
    answer = json.loads(done.stdout)
    assert answer["file"] == str(tmp_path / "scenarios" / "pyzmq_poll_cancel.py")
    assert done.returncode == {"SAME": 0, "DRIFTED": 1}[answer["verdict"]]


def test_another_target_and_mode_can_be_compared(project: Path) -> None:
    """--target and --mode: the fixture of one function is not the shape of another."""
    done = leakharness(project, "shape", "wait", "--target", "asyncio.tasks:shield", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["target"] == "asyncio.tasks:shield"
    extracted = check_shape(str(file_of(project, "wait")), mode="closure-extracted", root=project)
    assert extracted.comparison.can_hide
    declared = check_shape(str(file_of(project, "wait")), root=project).fixture.declared
    assert read_fixture(declared, None, "_wait").mode == "closure-inline"
