"""What the first commands of the README take, beside a harness of the same shape under node, which certifies nothing.

usage: first_command.py [--rounds 5]

Each round runs every row once, in turn, so that a busy machine slows all of them alike. Printed are the medians of wall
and of CPU seconds (of the command and all its processes), and both over those of node's run without snapshots.
Aims on two idle cores: a PASS without snapshots .4 s, an explained FAIL 1.0 s, a certificate 1.5 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

SCRIPT = Path(__file__).parent / "js" / "abort_harness.js"
RUN = (sys.executable, "-m", "leakharness", "run", "embedded-run", "--quiet")
NODE = ("node", "--expose-gc", str(SCRIPT))
BESIDE = "node: extracted"
ROWS: dict[str, tuple[Sequence[str], int]] = {
    BESIDE: ((*NODE, "extracted"), 0),
    "node: inline": ((*NODE, "inline"), 1),
    "node: extracted, six snapshots": ((*NODE, "extracted", "."), 0),
    "PASS without snapshots": ((*RUN, "--snapshots", "never"), 0),
    "PASS, six snapshots": (RUN, 0),
    "FAIL, explained": ((*RUN, "--mode", "closure-inline", "--snapshots", "never"), 1),
    "certificate": ((sys.executable, "-m", "leakharness", "check", "embedded-run", "--quiet"), 0),
    "list": ((sys.executable, "-m", "leakharness", "list"), 0),
    "python -c pass": ((sys.executable, "-c", "pass"), 0),
}
"""What is timed, and the exit code that it must have."""


def seconds(command: Sequence[str], code: int, folder: str) -> tuple[float, float]:
    """(wall, CPU) seconds of a command and of what it waits for."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != code:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode} and not {code}\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rows = {name: row for name, row in ROWS.items() if row[0][0] != "node" or shutil.which("node")}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            for name, (command, code) in rows.items():
                taken[name].append(seconds(command, code, folder))
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, medians of {given.rounds}")
    print(f"{'':<32}{'wall s':>8}{'CPU s':>8}{'wall x':>8}{'CPU x':>8}")
    median = {name: [statistics.median(column) for column in zip(*times, strict=True)] for name, times in taken.items()}
    wall_of_one, cpu_of_one = median.get(BESIDE, next(iter(median.values())))
    for name, (wall, cpu) in median.items():
        print(f"{name:<32}{wall:>8.2f}{cpu:>8.2f}{wall / wall_of_one:>8.1f}{cpu / cpu_of_one:>8.1f}")


if __name__ == "__main__":
    main()
