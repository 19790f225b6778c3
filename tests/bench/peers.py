"""The same leaks judged by other tools' rules and by leakharness, side by side in one run.

    python tests/bench/peers.py CASES_DIR [--rule NAME] [--slug X] [--json OUT] [-- OPTIONS OF RUN]

Cases and environments are those of leak_cases.py. A pair counts for a rule when both sides got the right
verdict: leaky FAIL and fixed PASS, of a control both PASS. The rules are in cases_peers/rules.py; psleak is
installed into a folder of its own, which is on the import path of the measured interpreter for its two arms
only.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import leak_cases
from cases_peers import rules
from leak_cases import SIDES, BenchError, Case, SideResult

OURS = "leakharness run"
RULES_FILE = Path(__file__).resolve().parent / "cases_peers" / "rules.py"
PSLEAK = "psleak"
PSLEAK_ENVIRONMENT = {
    "PYTHONMALLOC": "malloc",
    "PYTHONUNBUFFERED": "1",
}  # it skips its memory check without the first
RULE_TIMEOUT_S = 300  # psleak calls a case up to some 23,000 times


def install_psleak(root: Path, python: str) -> Path:
    """The folder that holds psleak and its psutil for the measured interpreter. Raises BenchError."""
    folder = leak_cases.venv_folder(root, python, [PSLEAK, "target"])
    if not (folder / "psleak.py").exists():
        pip = [python, "-m", "pip", "install", "--quiet", "--target", str(folder), PSLEAK]
        leak_cases.build_step(pip)
    return folder


def judge_by_rule(rule: str, case: Case, side: str, python: str, psleak_folder: Path) -> SideResult:
    """One rule on one side, in a fresh process, from an empty folder."""
    environment = leak_cases.clean_environment(side)
    if rule.startswith(PSLEAK):
        environment |= PSLEAK_ENVIRONMENT | {"PYTHONPATH": str(psleak_folder)}
    line = [python, "-P", str(RULES_FILE), rule, str(case.folder / "case.py")]
    must = case.must(side)
    with tempfile.TemporaryDirectory(prefix="leak-case-") as elsewhere:
        started = time.perf_counter()
        try:
            done = subprocess.run(
                line,
                capture_output=True,
                text=True,
                cwd=elsewhere,
                env=environment,
                timeout=RULE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            text = f"no verdict in {RULE_TIMEOUT_S} s"
            return SideResult(case.slug, side, must, "ERROR", text, RULE_TIMEOUT_S)
        wall_s = time.perf_counter() - started
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        said = " | ".join(done.stderr.strip().splitlines()[-2:])
        return SideResult(case.slug, side, must, "ERROR", f"exit {done.returncode}: {said}", wall_s)
    return SideResult(case.slug, side, must, answer["verdict"], answer["reason"], wall_s, answer["runs"])


def pairs_right(results: Sequence[SideResult]) -> int:
    slugs = {result.slug for result in results}
    return sum(all(result.right for result in results if result.slug == slug) for slug in slugs)


def print_table(by_rule: dict[str, list[SideResult]], controls: set[str]) -> None:
    width = max(map(len, by_rule))
    print(f"{'rule':{width}}  cases right  missed  alarms  no verdict  controls right  median s  longest s")
    for rule, results in by_rule.items():
        cases = [result for result in results if result.slug not in controls]
        looked_alike = [result for result in results if result.slug in controls]
        missed = sum(r.side == "leaky" and r.verdict == "PASS" for r in cases)
        alarms = sum(r.must == "PASS" and r.verdict == "FAIL" for r in results)
        silent = sum(r.verdict not in ("PASS", "FAIL") for r in results)
        right = f"{pairs_right(cases)} of {len(cases) // 2}"
        controlled = f"{pairs_right(looked_alike)} of {len(looked_alike) // 2}"
        median_s = statistics.median(result.wall_s for result in results)
        longest_s = max(result.wall_s for result in results)
        print(
            f"{rule:{width}}  {right:>11}  {missed:6}  {alarms:6}  {silent:10}  {controlled:>14}"
            f"  {median_s:8.2f}  {longest_s:9.2f}"
        )
    for rule, results in by_rule.items():
        wrong = [f"{r.slug} {r.side} {r.verdict}" for r in results if not r.right]
        print(f"\n{rule}: wrong on {', '.join(wrong) or 'none'}")


def main(argv: Sequence[str]) -> int:
    ours, options = leak_cases.split_options(argv)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    leak_cases.add_case_options(parser)
    names = [OURS, *rules.RULES]
    parser.add_argument("--rule", action="append", choices=names, help="only this rule; may be repeated")
    args = parser.parse_args(ours)
    command = shlex.split(args.leakharness) if args.leakharness else leak_cases.default_command()
    root = args.venvs.resolve()
    try:
        cases = leak_cases.load_cases(args.cases_dir, args.slug)
        interpreter = leak_cases.real_interpreter(args.python)
        pythons, unbuilt = leak_cases.build_all(cases, root, interpreter)
        psleak_folder = install_psleak(root, interpreter)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    built = [case for case in cases if all((case.slug, side) in pythons for side in SIDES)]
    chosen = args.rule or names

    def judge(turn: tuple[str, Case, str]) -> SideResult:
        rule, case, side = turn
        python = pythons[case.slug, side]
        if rule == OURS:
            result = leak_cases.judge_side(case, side, python, command, root, options)
        else:
            result = judge_by_rule(rule, case, side, python, psleak_folder)
        mark = "" if result.right else f"  WRONG: {result.reason}"
        print(f"{case.slug} {side} by {rule}: {result.verdict} {result.wall_s:.2f} s{mark}", file=sys.stderr)
        return result

    turns = [(rule, case, side) for case in built for side in SIDES for rule in chosen]
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(judge, turns))
    by_rule: dict[str, list[SideResult]] = {rule: [] for rule in chosen}
    for (rule, _, _), result in zip(turns, results, strict=True):
        by_rule[rule].append(result)
    print_table(by_rule, {case.slug for case in built if case.is_control})
    for (slug, side), reason in unbuilt.items():
        print(f"not built: {slug} {side}: {reason}")
    if args.json:
        table = {rule: [asdict(result) for result in results] for rule, results in by_rule.items()}
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
