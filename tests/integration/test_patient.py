"""The measured process: the standard library, the scenario and our probe, whatever the tool's environment holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HEADER, PYTHONS, clean_environment

import leakharness

START = "import sys; sys.path = [p for p in sys.path if p]; from leakharness.__main__ import main; main()"
"""The tool, started so that the current folder is not on its own path."""

WITNESS = """
import json, os, subprocess, sys
s = Scenario("witness")
@s.mode("m", default=True, abort="none")
def m(run: Run) -> None:
    if run.index == 30:  # after the first snapshots
        modules, found = sorted(sys.modules), {}
        for name in ("numpy", "typer", "rich", "orjson", "jinja2", "pytest", "guppy", "objgraph"):
            try:
                __import__(name)
                found[name] = "imported"
            except ImportError as exc:
                found[name] = type(exc).__name__
        record = {
            "modules": modules, "path": sys.path, "found": found, "prefix": sys.prefix,
            "version": list(sys.version_info[:2]), "standard": sorted(sys.stdlib_module_names),
            "environ": dict(os.environ), "argv": sys.argv,
            "child": subprocess.run(["env"], capture_output=True, text=True).stdout,
        }
        with open("witness.json", "w") as file:
            json.dump(record, file)
"""


@pytest.fixture(scope="session", params=PYTHONS)
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing in it, not even pip."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([request.param, "-m", "venv", "--without-pip", str(folder)], check=True, env=clean_environment())
    return folder


@pytest.fixture(scope="session")
def witness(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Measures the witness in the bare environment, with more environment variables; returns what it saw."""

    def run(**env: str) -> Any:
        folder = tmp_path_factory.mktemp("witness")
        (folder / "case.py").write_text(HEADER + WITNESS)
        (folder / "leakharness").mkdir()  # a folder of the user's that is called like us
        (folder / "leakharness" / "__init__.py").write_text("raise RuntimeError('not this one')")
        words = ["case.py", "--python", str(bare), "--iters", "5", "--warmup", "10", "--json"]
        done = subprocess.run(
            [sys.executable, "-c", START, "run", *words],
            cwd=folder,
            env=clean_environment(**env),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {**json.loads((folder / "witness.json").read_text()), "folder": str(folder)}

    return run


@pytest.fixture(scope="session")
def seen(witness: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the witness saw in an environment with two variables of the user's."""
    lib = tmp_path_factory.mktemp("lib")
    return {**witness(OF_THE_USER="kept", PYTHONPATH=str(lib)), "lib": str(lib)}


@pytest.mark.slow
def test_nothing_of_ours_but_the_probe_is_there(seen: Any, bare: Path) -> None:
    """sys.modules holds the standard library, the scenario and the probe; nothing of the tool's can be imported.

    Not even a folder called like our package, in the current folder, is taken for it.
    """
    assert seen["prefix"] == str(bare)
    standard = {*seen["standard"], "__main__", "sitecustomize", "usercustomize", "_xxsubinterpreters"}
    ours = (
        "leakharness",
        "leakharness._version",
        "leakharness.scenario",
        "leakharness.scenario.declare",
        "leakharness.scenario.never_set",
        "leakharness.errors",
        "leakharness.options",
        "leakharness.worker",
        "scenarios.case",
    )
    foreign = [
        name
        for name in seen["modules"]
        if name.split(".")[0] not in standard and name not in ours and not name.startswith("leakharness.worker.")
    ]
    assert foreign == []
    assert set(seen["found"].values()) == {"ModuleNotFoundError"}


@pytest.mark.slow
def test_the_path_is_the_interpreters_own(seen: Any, bare: Path) -> None:
    """The current folder, then the interpreter's own; neither the tool's site-packages nor our package's folder."""
    package = Path(leakharness.__file__).parent
    assert seen["path"][0] == seen["folder"]
    assert str(package.parent) not in seen["path"]
    assert str(package) not in seen["path"]
    (site,) = [entry for entry in seen["path"] if "site-packages" in entry]
    assert site.startswith(str(bare))


def test_the_environment_is_left_alone(seen: Any) -> None:
    """What malloc is told at the start is not visible to the program or its children; everything else is kept."""
    assert "GLIBC_TUNABLES" not in seen["environ"]
    assert "GLIBC_TUNABLES" not in seen["child"]
    assert seen["environ"]["OF_THE_USER"] == "kept"
    assert seen["argv"] == ["-c"]


def test_pythonpath_is_kept(seen: Any) -> None:
    """The user's own folders are on the path."""
    assert seen["lib"] in seen["path"]
    assert seen["environ"]["PYTHONPATH"] == seen["lib"]


@pytest.mark.slow
def test_tunables_and_safe_path_of_the_user_stay(witness: Callable[..., Any]) -> None:
    """The variable is as it was; PYTHONSAFEPATH keeps the current folder off the path (from 3.11 on)."""
    seen = witness(GLIBC_TUNABLES="glibc.malloc.arena_max=2", PYTHONSAFEPATH="1")
    assert seen["environ"]["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2"
    assert (seen["folder"] in seen["path"]) == (tuple(seen["version"]) < (3, 11))


def test_the_interpreter_and_its_folder_are_the_same(
    bare: Path, tmp_path: Path, scenario_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--python takes the interpreter, or the folder of its virtual environment; the result names the interpreter."""
    path = scenario_file("s = Scenario('case')\n@s.mode('m', abort='none')\ndef m(run): pass\n")
    monkeypatch.chdir(tmp_path)
    inside = bare / "bin" / "python"
    for python in (bare, inside):
        result = leakharness.run(path, python=str(python), iters=5, warmup=5, snapshots="never")
        assert (result.verdict, result.executable) == ("PASS", str(inside))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["closure-extracted", "closure-inline"])
def test_embedded_run_in_a_bare_environment(
    mode: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole measurement, with evidence, needs nothing in the measured environment."""
    monkeypatch.chdir(tmp_path)
    result = leakharness.run("embedded-run", mode, python=str(bare), snapshots="on-fail")
    assert result.verdict == {"closure-extracted": "PASS", "closure-inline": "FAIL"}[mode], result.reason
    assert result.retained == {"closure-extracted": 0, "closure-inline": 250}[mode]
    assert bool(result.retainers) == (mode == "closure-inline")


def test_a_module_that_is_missing_there(
    bare: Path, tmp_path: Path, scenario_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``needs`` makes it NOT_JUDGED, with the hint; the tool's own numpy is no help."""
    path = scenario_file(
        """
        s = Scenario("case")
        @s.mode("m", abort="none", needs={"numpy": "pip install numpy"})
        def m(run):
            import numpy
        """
    )
    monkeypatch.chdir(tmp_path)
    result = leakharness.run(path, python=str(bare), snapshots="never")
    assert result.verdict == "NOT_JUDGED"
    assert f"needs the module 'numpy' in {bare / 'bin' / 'python'}: pip install numpy" in result.reason


@pytest.mark.slow
def test_all_leaves_out_what_needs_a_package_that_is_missing_there(
    bare: Path, tmp_path: Path, scenario_file: Callable[..., Path], quick_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a note; by its name it is NOT_JUDGED. A check of nothing at all is no success."""
    plain, lacking = "@s.mode('m', abort='none')\ndef m(run): pass\n", "@s.mode('m')\nasync def m(run): pass\n"
    scenario_file("s = Scenario('plain')\n" + plain, "scenarios/plain.py")
    scenario_file("s = Scenario('lacking', backend='trio')\n" + lacking, "scenarios/lacking.py")
    monkeypatch.setattr("leakharness.scenario.find.packaged_folder", lambda: tmp_path / "nothing")
    words = ("--python", str(bare), "--iters", "5", "--warmup", "10", "--quiet")
    done = quick_cli("check", "--all", *words)
    assert (done.code, "CERTIFIED  plain" in done.stdout) == (0, True), done.stdout
    assert (
        quick_cli("check", "plain", "scenarios/plain.py", "--json", *words)
        .document["schema"]
        .startswith("leakharness.check")
    )
    note = "lacking left out: trio is not installed where it is measured (pip install trio)"
    assert note in done.stderr
    assert quick_cli("check", "lacking", *words).code == 3
    (tmp_path / "scenarios" / "plain.py").unlink()
    assert quick_cli("check", "--all", *words).code == 3


def installed_scenarios(site: Path) -> None:
    """A tiny installed distribution that offers a scenario."""
    (site / "their_leaks").mkdir(parents=True)
    (site / "their_leaks" / "__init__.py").write_text("raise SystemExit('imported by the tool')\n")
    (site / "their_scenarios.py").write_text(
        "from leakharness import Scenario\n\n"
        "s = Scenario('theirs', summary='offered by a package')\n"
        "@s.mode('m', abort='none', must='PASS')\n"
        "def m(run): pass\n"
    )
    info = site / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[leakharness.scenarios]\ntheirs = their_scenarios\n")


def test_an_installed_packages_scenario(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Found by its entry point, from any folder, listed with its origin, and measured."""
    installed_scenarios(tmp_path / "site")
    env = {"PYTHONPATH": str(tmp_path / "site")}
    answer = cli("run", "theirs", "--iters", "5", "--warmup", "5", "--snapshots", "never", "--json", env=env)
    assert (answer.code, answer.document["verdict"]) == (0, "PASS"), answer.stderr
    rows = {row["name"]: row for row in cli("list", "--json", env=env).document["scenarios"]}
    assert rows["theirs"]["origin"] == "entry point"


@pytest.mark.slow
def test_from_a_built_wheel(tmp_path: Path) -> None:
    """Unpacked into a folder of its own, as installed: commands, packaged scenarios and the probe work from there."""
    root = Path(leakharness.__file__).parent.parent
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(root),
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot build here: {done.stderr[-200:]}")
    (wheel,) = tmp_path.glob("*.whl")
    site, folder = tmp_path / "site", tmp_path / "folder"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    assert (site / "leakharness" / "scenarios" / "embedded_run.py").is_file()
    assert (site / "leakharness" / "py.typed").is_file()
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import leakharness\n"
        f"assert leakharness.__file__.startswith({str(site)!r}), leakharness.__file__\n"
        "from leakharness.__main__ import main\n"
        "main()"
    )
    words = [sys.executable, "-c", code, "check", "embedded-run", "--json"]
    done = subprocess.run(words, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["certificate"] == "CERTIFIED"
    rows = [(arm["mode"], arm["tracked"]["retained"]) for arm in document["arms"]]
    assert rows == [("closure-extracted", 0), ("closure-inline", 250), ("synthetic-leak", 250)]


FREE_ITERATORS = """
import asyncio, faulthandler, gc, sys
from leakharness.worker.capture.snapshot import write_capture
from leakharness.worker.time_bounds import release_times

async def awaits_a_future():
    loop = asyncio.get_running_loop()
    settled = loop.create_future()
    loop.call_soon(settled.set_result, None)
    await settled

faulthandler.dump_traceback_later(20, exit=True)
for look in (release_times, lambda: write_capture(sys.argv[1])):
    asyncio.run(awaits_a_future())  # leaves an iterator on the list of free ones
    look()
    gc.unfreeze()
    gc.collect()
print("collected")
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_looks_inside_the_process_leave_a_modules_free_objects_alone(python: str, tmp_path: Path) -> None:
    """On 3.12 ``_asyncio`` shows its list of free iterators: asked for what it refers to, the list becomes a ring, in
    which the next collection never ends."""
    done = subprocess.run(
        [python, "-c", FREE_ITERATORS, str(tmp_path / "heap.capture")],
        cwd=Path(leakharness.__file__).parent.parent,
        env=clean_environment(PYTHONPATH=str(Path(leakharness.__file__).parent.parent)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "collected\n", done.stderr
