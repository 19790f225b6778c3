"""The public door, and who may import whom."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import leakharness

PACKAGE = Path(leakharness.__file__).parent
STANDARD = set(sys.stdlib_module_names)
PATIENT = ["__init__.py", "_version.py", "scenario/__init__.py", "scenario/declare.py", "errors.py", "model.py"]
PATIENT += ["options.py", "units.py", "scenario/never_set.py"]
"""What runs, or may run, in the measured process, beside everything in worker/."""
OPINIONS = {"objgraph", "guppy", "memray"}
"""Second opinions, imported in a forked copy where the measured environment happens to have them."""
BACKEND = {"never_set.py": {"trio"}, "trio_loop.py": {"trio"}}
"""What the scenario asks for by its ``backend``, and what only these files import, when it does."""


def imports(path: Path, *, top: bool = False) -> Iterator[tuple[str, int]]:
    """Every module that a file imports: (name, line). ``top``: only what importing the file itself imports."""
    tree = ast.parse(path.read_bytes())
    for node in _top(tree) if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield node.module or "", node.lineno
            if node.module == "leakharness":
                yield from ((f"leakharness.{alias.name}", node.lineno) for alias in node.names)


def _top(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run on import: not those in functions, nor under ``if TYPE_CHECKING``."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def files(*names: str) -> list[Path]:
    return [PACKAGE / name for name in names]


def test_the_public_names() -> None:
    """One small door, sorted; what is not here may change."""
    assert leakharness.__all__ == [
        "Certificate",
        "Growth",
        "Known",
        "LeakFound",
        "LeakHarnessError",
        "Mode",
        "NotJudged",
        "OptionError",
        "Run",
        "RunResult",
        "Scenario",
        "ScenarioError",
        "SnapshotError",
        "UnknownScenario",
        "UsageError",
        "check",
        "run",
    ]
    assert sorted(leakharness.__all__, key=lambda name: (name.islower(), name)) == leakharness.__all__


@pytest.mark.parametrize("name", leakharness.__all__)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    """It loads, has a docstring, and is listed by dir()."""
    value = getattr(leakharness, name)
    assert inspect.getdoc(value)
    assert name in dir(leakharness)


def test_no_other_name() -> None:
    """As any module: AttributeError."""
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        leakharness.nothing  # type: ignore[attr-defined]


def test_the_errors_are_one_tree_with_exit_codes() -> None:
    """Usage errors exit 2, a failed measurement 3; a leak is a failed assertion."""
    codes = {name: getattr(leakharness, name).exit_code for name in leakharness.__all__ if name.endswith("Error")}
    assert codes == {
        "LeakHarnessError": 3,
        "OptionError": 2,
        "ScenarioError": 2,
        "SnapshotError": 2,
        "UsageError": 2,
    }
    assert leakharness.UnknownScenario.exit_code == 2
    assert leakharness.NotJudged.exit_code == 3
    assert issubclass(leakharness.LeakFound, AssertionError)
    assert not issubclass(leakharness.LeakFound, leakharness.LeakHarnessError)


def test_the_package_is_typed() -> None:
    """PEP 561."""
    assert (PACKAGE / "py.typed").is_file()


PATIENT_FILES = files(*PATIENT) + sorted((PACKAGE / "worker").rglob("*.py"))


@pytest.mark.parametrize("path", PATIENT_FILES, ids=lambda path: path.name)
def test_the_measured_process_needs_the_standard_library_only(path: Path) -> None:
    """Not one import of anything else, not even inside a function; of ours only what may run there, too."""
    own = {f"leakharness.{name.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}" for name in PATIENT}
    own |= {"leakharness"}
    lazily = {"leakharness.api"} if path.name == "__init__.py" else set()  # for type checkers, and on first use
    foreign = [
        f"{path.name}:{line}: {name}"
        for name, line in imports(path)
        if name.split(".")[0] not in STANDARD | OPINIONS | BACKEND.get(path.name, set())
        and not name.startswith("leakharness.worker")
        and name not in own | lazily
        and not (
            name.startswith("leakharness.")
            and name.rpartition(".")[0] in own | {"leakharness"}
            and name.count(".") == 1
            and name.split(".")[1] in leakharness.__all__
        )
    ]
    assert foreign == []


def test_importing_the_public_names_of_a_scenario_is_cheap() -> None:
    """``from leakharness import Run, Scenario`` brings in a few small modules of ours and what is standard."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from leakharness import Run, Scenario\n"
        "print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] not in sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = ["_version", "errors", "options", "scenario", "scenario.declare", "scenario.never_set"]
    assert done.stdout.strip() == str(["leakharness", *(f"leakharness.{name}" for name in ours)])


LAYERS: dict[str, str] = {
    "_version": "",
    "errors": "",
    "units": "",
    "places": "",
    "printable": "",
    "documents": "errors printable",
    "page_documents": "",
    "scratch": "errors",
    "sensitivity": "",
    "options": "errors",
    "options_reference": "options",
    "model": "options units",
    "excerpts": "model places units",
    "scenario": "errors options",
    "resolve": "errors model options scenario",
    "report": "documents errors model page_documents places units printable",
    "store": "errors model report printable",
    "judge": "model units",
    "worker": "errors scenario",
    "heap": "errors units worker",
    "explorer": "heap units printable",
    "page_material": "documents errors excerpts heap model page_documents report units",
    "shape": "errors scenario",
    "watch": "worker",
    "suite": "documents errors heap store units printable",
    "live": "errors heap model scratch store units worker printable",
    "measure": "errors excerpts heap judge model options resolve scenario scratch sensitivity store units worker "
    "printable",
    "proof": "_version documents errors excerpts heap measure model options printable report resolve scenario scratch "
    "shape store units worker",
    "api": "errors measure model options proof scenario",
    "pytest_plugin": "api documents errors heap measure model options page_material proof report resolve scenario "
    "sensitivity store suite units worker printable",
    "cli": "_version api documents errors explorer heap live measure model options page_material proof report resolve "
    "scenario shape store suite units printable",
}
"""Who may import whom: each package or module of ours, from the ground up, and what it may know. A line names only
what stands above it, so that there is no circle. A name that is not here is a new part: give it its line."""


def part_of(path: Path) -> str:
    """The package, or the module of the top level, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("part", LAYERS)
def test_the_layers_are_in_order(part: str) -> None:
    """A part knows only what stands above it in the table."""
    order = list(LAYERS)
    assert set(LAYERS[part].split()) <= set(order[: order.index(part)])


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PACKAGE.rglob("*.py")) if part_of(path) not in ("__init__", "__main__", "scenarios")],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_imports_look_down_only(path: Path) -> None:
    """Of ours, a file imports its own part and those that the table names; also inside functions and for types."""
    part = part_of(path)
    known = {part, *LAYERS[part].split()}
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for name, line in imports(path)
        if name.startswith("leakharness.")
        and name.split(".")[1] not in known
        and not (name.count(".") == 1 and name.split(".")[1] in leakharness.__all__)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("part", "banned"),
    [
        ("measure", "typer pytest rich"),
        ("judge", "gc os sys pathlib subprocess time"),
        ("model", "gc os sys pathlib subprocess"),
        ("options", "typer pytest gc os sys pathlib subprocess"),
        ("resolve", "typer pytest"),
        ("scenario/declare", "pathlib subprocess"),
        ("heap", "typer rich pytest subprocess"),
        ("suite", "typer rich pytest"),
        ("proof", "typer rich pytest"),
        ("api", "typer rich pytest"),
        ("store", "typer rich"),
        ("report", "os sys subprocess typer"),
        ("shape", "typer rich pytest"),
    ],
)
def test_what_a_part_knows_of_the_outside(part: str, banned: str) -> None:
    """Measuring knows neither terminal nor pytest; the judge and the values know no machine at all."""
    place = PACKAGE / part
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in (sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")])
        for name, line in imports(path)
        if name.split(".")[0] in banned.split()
    ]
    assert found == []


@pytest.mark.parametrize("file", ["loop", "batches", "judging", "warm_up", "bounded", "census", "measurement"])
def test_the_loop_opens_no_file(file: str) -> None:
    """What it needs of the outside is passed in."""
    tree = ast.parse((PACKAGE / "measure" / f"{file}.py").read_bytes())
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called & {"open", "print", "os.open", "Path"} == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.name)
def test_commands_import_heavy_things_when_they_run(path: Path) -> None:
    """Printing help costs typer and nothing else."""
    light = {"typer", "typing", "__future__", "importlib", "pathlib", "collections", "leakharness", "os", "sys", "json"}
    light |= {"functools", "inspect", "io", "contextlib", "re"}  # typer itself needs them
    if path.name == "terminal.py":  # itself imported by commands that run
        light |= {"threading"}
    heavy = [
        f"{path.name}:{line}: {name}"
        for name, line in imports(path, top=True)
        if name.split(".")[0] not in light or name in ("leakharness.heap", "leakharness.measure.loop")
    ]
    assert heavy == []


MOST_LINES = 520
"""Lines of a file: what a reader takes in at a sitting, and some room for the last change."""
MOST_LINES_OF_A_FUNCTION = 60
REASON = "Long because"
"""How the docstring of a longer function begins the sentence that gives its reason."""


def too_long(path: Path) -> list[str]:
    """What in a file is longer than it may be, with its place and length."""
    text = path.read_text("utf-8")
    lines = text.count("\n")
    found = [f"{path.name}: {lines} lines"] if lines > MOST_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_LINES_OF_A_FUNCTION and REASON not in (ast.get_docstring(node) or ""):
                found.append(f"{path.name}:{node.lineno}: {node.name} has {length} lines and gives no reason")
    return found


@pytest.mark.parametrize(
    "path",
    sorted(PACKAGE.rglob("*.py")),
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_files_and_functions_can_be_read_at_a_sitting(path: Path) -> None:
    """A file of at most 520 lines; a function of at most 60, or one whose docstring says "Long because ..."."""
    assert too_long(path) == []


def test_what_is_too_long_is_noticed(tmp_path: Path) -> None:
    """A file of 521 lines, and a function of 61 without a reason; with one it may stay."""
    function = "def f():\n    '''{}'''\n" + "    x = 1\n" * 59
    file = tmp_path / "long.py"
    file.write_text(function.format("Adds."))
    assert too_long(file) == ["long.py:1: f has 61 lines and gives no reason"]
    file.write_text(function.format("Adds. Long because the steps share their state."))
    assert too_long(file) == []
    file.write_text("x = 1\n" * 521)
    assert too_long(file) == ["long.py: 521 lines"]
