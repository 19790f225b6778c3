"""False alarms: clean scenarios through the command line, many times, half of them beside two busy processes.

    python tests/bench/false_alarms.py [--runs 300] [--scenario NAME ...] [--python PATH]

Takes every scenario that can be named from here, in its default mode (which must PASS), in turn. Prints a row for
each: how often PASS, FAIL and NOT_JUDGED, quiet and loaded. Exits 0 if none FAILed, at most 1 % were not judged, and
references were judged in every run and alarmed in none. In how many runs they stood still to the last unit is said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import Any

from leakharness.scenario.find import all_scenarios

BUSY_PROCESSES = 2
MOST_NOT_JUDGED = 0.01
LOST = ("references", "given_away")
BUSY = "x = 0\nwhile True:\n    x = hash((x, 'busy')) % 1000003"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--scenario", action="append", help="a name or a file; default: every one that has a name")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to measure in")
    options = parser.parse_args()
    names = options.scenario or [found.name for found in all_scenarios() if found.name]
    verdicts: dict[tuple[str, str], Counter[str]] = {}
    seconds: list[float] = []
    wrong: list[str] = []
    unjudged: list[str] = []
    moved: list[str] = []
    with tempfile.TemporaryDirectory() as reports:
        for load in ("quiet", "loaded"):
            beside = BUSY_PROCESSES if load == "loaded" else 0
            busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(beside)]
            try:
                for index in range(options.runs // 2):
                    name = names[index % len(names)]
                    start = time.monotonic()
                    verdict, reason, unseen, stray = run(name, options.python, reports)
                    seconds.append(time.monotonic() - start)
                    verdicts.setdefault((name, load), Counter())[verdict] += 1
                    if verdict != "PASS":
                        wrong.append(f"{name} ({load}): {verdict}: {reason}")
                    unjudged += [f"{name} ({load}): {unseen}"] if unseen else []
                    moved += [f"{name} ({load}): {stray}"] if stray else []
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
    print(f"{'scenario':<32}{'load':<8}{'PASS':>6}{'FAIL':>6}{'NOT_JUDGED':>12}")
    for (name, load), count in sorted(verdicts.items()):
        print(f"{name[-31:]:<32}{load:<8}{count['PASS']:>6}{count['FAIL']:>6}{count['NOT_JUDGED']:>12}")
    total = sum(verdicts.values(), Counter())
    print(
        f"{total.total() if hasattr(total, 'total') else sum(total.values())} runs: {dict(total)}, "
        f"median {sorted(seconds)[len(seconds) // 2]:.2f} s"
    )
    judged, still = len(seconds) - len(unjudged), len(seconds) - len(unjudged) - len(moved)
    print(f"references: judged and steady in {judged} of {len(seconds)} runs, without any movement in {still}")
    print("\n".join(wrong + unjudged + moved))
    too_many = total["FAIL"] > 0 or total["NOT_JUDGED"] > MOST_NOT_JUDGED * sum(total.values())
    return int(too_many or bool(unjudged))


def unjudged_references(document: dict[str, Any]) -> str:
    """Why references were not judged and found steady, or ""."""
    states = {row["counter"]: row["rule"].partition(":")[0] for row in document["growth"] if row["counter"] in LOST}
    if states == dict.fromkeys(LOST, "steady"):
        return ""
    return f"references are {states or document['blind'].get('references', 'not judged')}"


def moved_references(document: dict[str, Any]) -> str:
    """Readings in which they differ from the baseline, or ""."""
    values = [(row["label"], name, row[name]) for row in document["series"] for name in LOST if row.get(name)]
    return f"references moved: {values}" if values else ""


def run(name: str, python: str, reports: str) -> tuple[str, str, str, str]:
    """(verdict, reason, why references were not judged, where they moved) of one run of the command."""
    command = [sys.executable, "-m", "leakharness", "run", name, "--json", "--snapshots", "never"]
    command += ["--report-dir", reports, "--python", python]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        document = json.loads(done.stdout)
    except ValueError:
        return f"exit {done.returncode}", done.stderr.strip()[-300:], "no document", ""
    return document["verdict"], document["reason"], unjudged_references(document), moved_references(document)


if __name__ == "__main__":
    sys.exit(main())
