"""Run real, published leaks through `leakharness run` and say on which pairs its verdict is right.

    python tests/bench/leak_cases.py CASES_DIR [--slug X] [--venvs DIR] [--json OUT] [-- OPTIONS OF RUN]

CASES_DIR holds cases/*/case.toml and controls/*/case.toml, or is one of these two folders. A case names a
package, a leaky and a fixed version of it; case.py beside it makes one run in `run_once(track)`, sync or
async, with optional `setup()` and `teardown()`. Of a case the leaky side must FAIL and the fixed side must
PASS; of a control both sides must PASS.

Every side gets a virtual environment of its own (built once, named by a digest of its requirements) and a
generated scenario file beside it, and is judged from an empty folder with the judge's own defaults. Exit
code 0 only if every pair is right and the counter that case.toml names was among those that grew.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SIDES = ("leaky", "fixed")
BUILDS_AT_ONCE = 2  # pip is bound by the network and one core; more only makes builds slower on small machines
BUILD_TIMEOUT_S = 900
RUN_TIMEOUT_S = 600  # well over the judge's own time limit: a hang shows as its NOT_JUDGED, not as ours
DROPPED_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CASE_SIDE")

# case.toml's word for what shows the leak -> the counters of `run --json` that may show it
EVIDENCE_COUNTERS = {
    "tracked-instance": ("tracked",),
    "python-objects": ("objects",),
    "rss-native": ("blocks", "malloc_bytes", "mapped_bytes", "rss"),
    "fd": ("fds",),
    "thread": ("threads",),
    "child-process": ("children",),
    "task": ("tasks",),
}
# key of [measured.leaky] -> (counter of `run --json`, slope per run below which it is the sampler's noise)
MEASURED_COUNTERS = {
    "live": ("tracked", 0.05),
    "objs": ("objects", 0.5),
    "blocks": ("blocks", 1.0),
    "malloc": ("malloc_bytes", 64.0),
    "rss": ("rss", 256.0),
    "fds": ("fds", 0.05),
    "os_threads": ("threads", 0.05),
}
CLEAR_RATIO = 2.0  # a leaky slope counts as clear when it is this many times the fixed side's, plus the noise above


class BenchError(Exception):
    """A case that could not be read, built or run; the text says which and why."""


@dataclass(frozen=True)
class Case:
    """One case.toml with the folder that it was read from."""

    slug: str
    folder: Path
    is_control: bool
    package: str
    versions: dict[str, str]
    stdlib: bool
    pins: dict[str, tuple[str, ...]]
    evidence: str
    measured: dict[str, dict[str, float]]

    def requirements(self, side: str) -> tuple[str, ...]:
        """What pip installs for this side, pinned; empty for a case of the standard library."""
        if self.stdlib:
            return ()
        return (f"{self.package}=={self.versions[side]}", *self.pins[side])

    def must(self, side: str) -> str:
        return "FAIL" if side == "leaky" and not self.is_control else "PASS"

    def evidence_counters(self) -> tuple[str, ...]:
        """Counters of which at least one has to grow on the leaky side."""
        return () if self.is_control else EVIDENCE_COUNTERS.get(self.evidence, ())

    def clear_counters(self) -> tuple[str, ...]:
        """Counters whose measured slope on the leaky side stands clear of the fixed side's."""
        leaky, fixed = self.measured.get("leaky", {}), self.measured.get("fixed", {})
        return tuple(
            counter
            for key, (counter, noise) in MEASURED_COUNTERS.items()
            if not self.is_control and leaky.get(key, 0.0) > CLEAR_RATIO * abs(fixed.get(key, 0.0)) + noise
        )


def load_cases(root: Path, slugs: Sequence[str] = ()) -> list[Case]:
    """The cases below `root`, before the controls. Raises BenchError: there are none, a slug is unknown."""
    files = sorted(root.glob("cases/*/case.toml")) + sorted(root.glob("controls/*/case.toml"))
    files = files or sorted(root.glob("*/case.toml"))
    cases = [read_case(file) for file in files]
    if not cases:
        raise BenchError(f"{root}: no cases/*/case.toml, controls/*/case.toml or */case.toml")
    if unknown := set(slugs) - {case.slug for case in cases}:
        raise BenchError(f"{root}: no case {', '.join(sorted(unknown))}")
    return [case for case in cases if not slugs or case.slug in slugs]


def read_case(file: Path) -> Case:
    """Reads one case.toml. Raises BenchError when a key is missing."""
    with file.open("rb") as stream:
        raw: dict[str, Any] = tomllib.load(stream)
    try:
        shared = tuple(raw.get("extra_pins", ()))
        return Case(
            slug=raw["slug"],
            folder=file.parent.resolve(),
            is_control=file.parent.parent.name == "controls" or raw["slug"].startswith("ctl-"),
            package=raw["package"],
            versions={side: raw[side] for side in SIDES},
            stdlib=bool(raw.get("stdlib", False)),
            pins={side: shared + tuple(raw.get(f"extra_pins_{side}", ())) for side in SIDES},
            evidence=raw.get("evidence", ""),
            measured=raw.get("measured", {}),
        )
    except KeyError as missing:
        raise BenchError(f"{file}: no key {missing}") from None


# --- environments -------------------------------------------------------------------------------------------


def clean_environment(side: str) -> dict[str, str]:
    """The environment of every measured process: no foreign import path, and CASE_SIDE set."""
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED_VARIABLES}
    return {**kept, "CASE_SIDE": side}


def real_interpreter(python: str) -> str:
    """The path of the interpreter behind a command or shim. Raises BenchError when it cannot be started."""
    try:
        probe = subprocess.run(
            [python, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"--python {python}: cannot be started: {error}") from None
    return probe.stdout.strip()


def venv_folder(root: Path, python: str, requirements: Sequence[str]) -> Path:
    key = "\n".join([python, *requirements])
    return root / hashlib.sha256(key.encode()).hexdigest()[:16]


def build_venv(folder: Path, python: str, requirements: Sequence[str]) -> None:
    """Makes the environment unless it is there. Raises BenchError with pip's last lines."""
    finished = folder / "requirements.txt"  # written last, so a build that was interrupted is not taken for a whole one
    if finished.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    build_step([python, "-m", "venv", str(folder)])
    if requirements:
        build_step([str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *requirements])
    finished.write_text("".join(f"{line}\n" for line in requirements))


def build_step(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=clean_environment("leaky"),
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{shlex.join(command)}: not done in {BUILD_TIMEOUT_S} s") from None
    if done.returncode:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise BenchError(f"{shlex.join(command)}: exit {done.returncode}: {tail}")


def build_all(
    cases: Iterable[Case], root: Path, python: str
) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], str]]:
    """Interpreters by (slug, side), and the reasons of those that could not be built."""
    wanted = {(case.slug, side): case.requirements(side) for case in cases for side in SIDES}
    folders = {requirements: venv_folder(root, python, requirements) for requirements in wanted.values()}

    def attempt(requirements: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
        try:
            build_venv(folders[requirements], python, requirements)
        except BenchError as error:
            return requirements, str(error)
        return requirements, ""

    with ThreadPoolExecutor(BUILDS_AT_ONCE) as pool:
        problems = dict(pool.map(attempt, folders))
    pythons = {key: str(folders[need] / "bin/python") for key, need in wanted.items() if not problems[need]}
    return pythons, {key: problems[need] for key, need in wanted.items() if problems[need]}


# --- scenarios ----------------------------------------------------------------------------------------------

SCENARIO = '''\
"""Generated: {slug}. case.py is loaded in the set-up: only the measured interpreter has its package."""
import importlib.util

from leakharness import Run, Scenario

scenario = Scenario({slug!r}, summary={summary!r})
case = None


def load_case():
    global case
    spec = importlib.util.spec_from_file_location("leak_case", {path!r})
    case = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)


@scenario.setup
{async_setup}def serve():
    load_case()
    {setup}
    yield
    {teardown}


@scenario.mode("case", default=True, must="PASS", abort="none")
{async_run}def one_run(run: Run) -> None:
    {await_run}case.run_once(run.track)
'''


def scenario_source(case: Case) -> str:
    """A scenario file of one mode that does what case.py does. Raises BenchError: there is no run_once."""
    is_async = functions_of(case.folder / "case.py")
    if "run_once" not in is_async:
        raise BenchError(f"{case.folder / 'case.py'}: no function run_once")
    in_loop = any(is_async.values())

    def call(name: str) -> str:
        if name not in is_async:
            return "pass"
        return f"await case.{name}()" if is_async[name] else f"case.{name}()"

    return SCENARIO.format(
        slug=case.slug,
        summary=f"{case.package}: {case.evidence}",
        path=str(case.folder / "case.py"),
        async_setup="async " if in_loop else "",
        setup=call("setup"),
        teardown=call("teardown"),
        async_run="async " if is_async["run_once"] else "",
        await_run="await " if is_async["run_once"] else "",
    )


def functions_of(file: Path) -> dict[str, bool]:
    """Which of setup, run_once, teardown a case defines, and whether each is async; read, not imported."""
    body = ast.parse(file.read_text(encoding="utf-8"), str(file)).body
    return {
        node.name: isinstance(node, ast.AsyncFunctionDef)
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in ("setup", "run_once", "teardown")
    }


# --- judging ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SideResult:
    """What the judge said of one side, once."""

    slug: str
    side: str
    must: str
    verdict: str  # PASS, FAIL, NOT_JUDGED, or ERROR when there was no verdict at all
    reason: str = ""
    wall_s: float = 0.0  # of the whole command, start-up included
    runs: int = 0
    grew: dict[str, float] = field(default_factory=dict)  # counter -> per run

    @property
    def right(self) -> bool:
        return self.verdict == self.must


def judge_side(
    case: Case, side: str, python: str, command: Sequence[str], work: Path, options: Sequence[str]
) -> SideResult:
    """Runs the judge once, from an empty folder, on a scenario file that lies beside that folder."""
    file = work / "scenarios" / f"{case.slug}-{side}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(scenario_source(case), encoding="utf-8")
    line = [*command, "run", str(file), "--python", python, "--json", "--snapshots", "never", *options]
    with tempfile.TemporaryDirectory(prefix="leak-case-") as elsewhere:
        started = time.perf_counter()
        try:
            done = subprocess.run(
                line,
                capture_output=True,
                text=True,
                cwd=elsewhere,
                env=clean_environment(side),
                timeout=RUN_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return SideResult(
                case.slug, side, case.must(side), "ERROR", f"no verdict in {RUN_TIMEOUT_S} s", RUN_TIMEOUT_S
            )
        wall_s = time.perf_counter() - started
    return side_result(case, side, done, wall_s)


def side_result(case: Case, side: str, done: subprocess.CompletedProcess[str], wall_s: float) -> SideResult:
    try:
        document = json.loads(done.stdout)
        grew = {row["counter"]: float(row["per_run"]) for row in document["growth"] if row["grows"]}
        verdict, reason, runs = document["verdict"], document["reason"], int(document["runs"])
    except (ValueError, KeyError, TypeError) as error:
        said = " | ".join(done.stderr.strip().splitlines()[-3:])
        text = f"exit {done.returncode}, no run document ({type(error).__name__}: {error}): {said}"
        return SideResult(case.slug, side, case.must(side), "ERROR", text, wall_s)
    expected_exit = {"PASS": 0, "FAIL": 1, "NOT_JUDGED": 3}.get(verdict)
    if done.returncode != expected_exit:
        text = f"says {verdict} but exits with {done.returncode}: {reason}"
        return SideResult(case.slug, side, case.must(side), "ERROR", text, wall_s)
    return SideResult(case.slug, side, case.must(side), verdict, reason, wall_s, runs, grew)


@dataclass(frozen=True)
class PairResult:
    """All repetitions of both sides of one case."""

    case: Case
    sides: dict[str, list[SideResult]]

    def verdict(self, side: str) -> str:
        """The verdict, or each one with its count where the repetitions disagree."""
        said = [result.verdict for result in self.sides[side]]
        if len(set(said)) == 1:
            return said[0]
        return " ".join(f"{verdict}×{said.count(verdict)}" for verdict in sorted(set(said)))

    def median_s(self, side: str) -> float:
        return statistics.median(result.wall_s for result in self.sides[side])

    def runs(self, side: str) -> int:
        return int(statistics.median(result.runs for result in self.sides[side]))

    def verdicts_right(self) -> bool:
        return all(result.right for results in self.sides.values() for result in results)

    def evidence_seen(self) -> bool:
        """Whether one of the counters that case.toml names grew, in every repetition of the leaky side."""
        wanted = self.case.evidence_counters()
        return not wanted or all(set(wanted) & set(result.grew) for result in self.sides["leaky"])

    def unseen(self) -> list[str]:
        """Counters that clearly grew when the case was measured and did not grow in some repetition here."""
        named = self.case.clear_counters()
        return [counter for counter in named if any(counter not in result.grew for result in self.sides["leaky"])]

    def right(self) -> bool:
        return self.verdicts_right() and self.evidence_seen()


def grown_text(grew: dict[str, float]) -> str:
    return ", ".join(f"{counter} {per_run:+.4g}" for counter, per_run in grew.items()) or "-"


def evidence_text(pair: PairResult) -> str:
    if pair.case.is_control:
        return "-"
    return "seen" if pair.evidence_seen() else "NOT SEEN"


def print_table(pairs: Sequence[PairResult]) -> None:
    """One line a pair, and below it one for each wrong verdict with the judge's own reason."""
    width = max(len(pair.case.slug) for pair in pairs)
    print(
        f"{'slug':{width}}  {'leaky':10} {'fixed':10} {'seconds':>11} {'runs':>11}  {'evidence':8}"
        "  grew per run on the leaky side"
    )
    for pair in pairs:
        seconds = "/".join(f"{pair.median_s(side):.2f}" for side in SIDES)
        runs = "/".join(str(pair.runs(side)) for side in SIDES)
        unseen = f"  [not seen: {', '.join(pair.unseen())}]" if pair.unseen() else ""
        print(
            f"{pair.case.slug:{width}}  {pair.verdict('leaky'):10} {pair.verdict('fixed'):10} {seconds:>11}"
            f" {runs:>11}  {evidence_text(pair):8}  {grown_text(pair.sides['leaky'][-1].grew)}{unseen}"
        )
        for result in (result for side in SIDES for result in pair.sides[side] if not result.right):
            print(f"{'':{width}}  ! {result.side} must {result.must}, is {result.verdict}: {result.reason}")
            print(f"{'':{width}}    grew: {grown_text(result.grew)}")


def print_totals(pairs: Sequence[PairResult], unbuilt: dict[tuple[str, str], str]) -> None:
    for kind, chosen in (
        ("cases", [pair for pair in pairs if not pair.case.is_control]),
        ("controls", [pair for pair in pairs if pair.case.is_control]),
    ):
        if chosen:
            right = sum(pair.verdicts_right() for pair in chosen)
            seen = sum(pair.evidence_seen() for pair in chosen)
            seconds = statistics.median(pair.median_s(side) for pair in chosen for side in SIDES)
            longest = max(pair.median_s(side) for pair in chosen for side in SIDES)
            print(
                f"{kind}: both verdicts right {right} of {len(chosen)},"
                f" evidence seen {seen} of {len(chosen)},"
                f" median {seconds:.2f} s a side, longest {longest:.2f} s"
            )
    for (slug, side), reason in unbuilt.items():
        print(f"not built: {slug} {side}: {reason}")


def default_command() -> list[str]:
    """The console script beside this interpreter, or the module where there is none."""
    script = Path(sys.executable).parent / "leakharness"
    return [str(script)] if script.exists() else [sys.executable, "-m", "leakharness"]


def measure(
    cases: Sequence[Case],
    pythons: dict[tuple[str, str], str],
    args: argparse.Namespace,
    options: Sequence[str],
) -> list[PairResult]:
    """Judges every side of every case that was built, `--repeat` times, `--jobs` at a time."""
    command = shlex.split(args.leakharness) if args.leakharness else default_command()
    buildable = [case for case in cases if all((case.slug, side) in pythons for side in SIDES)]
    turns = [(case, side) for _ in range(args.repeat) for case in buildable for side in SIDES]

    def judge(turn: tuple[Case, str]) -> SideResult:
        case, side = turn
        result = judge_side(case, side, pythons[case.slug, side], command, args.venvs, options)
        mark = "" if result.right else f"  WRONG: {result.reason}"
        print(f"{case.slug} {side}: {result.verdict} {result.wall_s:.2f} s{mark}", file=sys.stderr, flush=True)
        return result

    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(judge, turns))
    return [
        PairResult(case, {side: [r for r in results if (r.slug, r.side) == (case.slug, side)] for side in SIDES})
        for case in buildable
    ]


def document(pairs: Sequence[PairResult], unbuilt: dict[tuple[str, str], str]) -> dict[str, Any]:
    return {
        "pairs": [
            {
                "slug": pair.case.slug,
                "control": pair.case.is_control,
                "right": pair.right(),
                "evidence": pair.case.evidence,
                "evidence_seen": pair.evidence_seen(),
                "unseen": pair.unseen(),
                "sides": {side: [asdict(result) for result in pair.sides[side]] for side in SIDES},
            }
            for pair in pairs
        ],
        "unbuilt": [{"slug": slug, "side": side, "reason": reason} for (slug, side), reason in unbuilt.items()],
    }


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """The options that name the cases and their environments, shared with the comparison of other rules."""
    parser.add_argument("cases_dir", type=Path)
    parser.add_argument("--slug", action="append", default=[], help="only this case; may be given several times")
    parser.add_argument("--python", default="python3.11", help="interpreter of the environments [%(default)s]")
    parser.add_argument(
        "--venvs",
        type=Path,
        default=Path(tempfile.gettempdir()) / "leakvenvs",
        help="where they are kept [%(default)s]",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="sides measured at a time; seconds are only fair with 1 [%(default)s]",
    )
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    parser.add_argument("--leakharness", help="command under test [the console script of this interpreter]")


def split_options(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Ours and those after `--`."""
    if "--" not in argv:
        return list(argv), []
    at = list(argv).index("--")
    return list(argv[:at]), list(argv[at + 1 :])


def main(argv: Sequence[str]) -> int:
    ours, options = split_options(argv)
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], epilog="Options after -- go to leakharness run."
    )
    add_case_options(parser)
    parser.add_argument("--repeat", type=int, default=1, help="times that each side is judged [%(default)s]")
    parser.add_argument("--build-only", action="store_true", help="build the environments and stop")
    args = parser.parse_args(ours)
    args.venvs = args.venvs.resolve()
    try:
        cases = load_cases(args.cases_dir, args.slug)
        pythons, unbuilt = build_all(cases, args.venvs, real_interpreter(args.python))
        pairs = [] if args.build_only else measure(cases, pythons, args, options)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    if pairs:
        print_table(pairs)
    print_totals(pairs, unbuilt)
    if args.json:
        args.json.write_text(json.dumps(document(pairs, unbuilt), indent=1) + "\n")
    return 0 if not unbuilt and all(pair.right() for pair in pairs) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
