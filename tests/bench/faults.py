"""Minimal programs that a leak detector gets wrong easily: each against the right verdict and the right words.

    python tests/bench/faults.py FOLDER [--python PATH] [--iters N] [--busy N] [NAME...]

FOLDER holds one scenario file for each row of ROWS; each says in its docstring what it shows. A row is the file, the
mode ("" is the default), further words of the command, the verdict that is right, what the text must say (each part of
it somewhere, white space aside) and what it must not. Prints a line for each and exits 1 where one is not as it should
be. A file in FOLDER without a row is told.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TOO_LONG_S = 300
BUSY = "x = 0\nwhile True:\n    x = hash((x, 'busy')) % 1000003"


@dataclass(frozen=True)
class Row:
    """What is right of one file and mode. ``verdict``: the first word of the answer, ``A|B`` where both are."""

    file: str
    verdict: str
    mode: str = ""
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    command: str = "run"
    words: tuple[str, ...] = ()
    within_s: float = TOO_LONG_S
    """What the command may take, far above what it takes."""
    terminal: bool = False
    snapshots: bool = False
    """Whether no string of ``never`` may stand in a snapshot either."""


ROWS = (
    Row("atexit_not_named", "FAIL", says=("atexit",)),
    Row("born_at_cut", "FAIL", says=("culprit.py:4",)),
    Row("bounded_dict_cache_slow_run", "PASS"),
    Row("churn_blamed_for_leak", "PASS", "cache"),
    Row("churn_blamed_for_leak", "FAIL", "leak", says=("KEPT",), never=("list are held by CACHE",)),
    Row("hang_chain", "FAIL", says=("a chain of", "Node"), within_s=120),
    Row("hang_import", "NOT_JUDGED|leakharness:", command="check", words=("--timeout", "5"), within_s=60),
    Row("lru_bounded_first", "FAIL", says=("adapter",)),
    Row("lru_cache_fed_by_clock", "PASS", never=("390",)),
    Row("lru_full_is_pass", "PASS", says=("1,000 Session", "lru_cache(maxsize=1000)", "attachments"), never=("0/",)),
    Row("nj1_sigchld", "FAIL"),
    Row("only_must_fail", "NOT_JUDGED", command="check", says=("must PASS",)),
    Row(
        "otel_locks",
        "FAIL",
        says=("Meter (", "held by Provider.meters", "PROVIDER"),
        never=("_thread.lock are held",),
    ),
    Row("refcount_leak_blames_harness", "FAIL", "untracked", never=("held by harness",)),
    Row("refcount_leak_blames_harness", "FAIL", "tracked", says=("Reply",), never=("held by harness",)),
    Row("sawtooth_hides_leak", "FAIL", "leak", words=("--iters", "50")),
    Row("sawtooth_hides_leak", "FAIL", "leak"),
    Row("sawtooth_hides_leak", "PASS", "swing-only"),
    Row("sawtooth_hides_leak", "PASS", "swing-only", words=("--iters", "40")),
    Row("sec1_keys", "PASS", never=("AKIAIOSFODNN7EXAMPLE", "alice_smith", "deadbeef0123"), snapshots=True),
    Row("slow_no_birth", "FAIL", says=("born at",)),
    Row("tb1_surrogate", "PASS", never=("Traceback",)),
    Row("tb1b_label", "FAIL", never=("Traceback",)),
    Row("tb2_markup", "PASS", "x[/b]", says=("x[/b]",), never=("Traceback",), terminal=True),
    Row("tb2_markup", "PASS", "[red]y", says=("[red]y",), never=("Traceback",), terminal=True),
    Row("thread_ways", "FAIL", says=("thread", "work"), never=("more ways",)),
    Row("timer_due_soon", "PASS"),
    Row("ttl_cache", "PASS"),
    Row("weak_value_key_named", "FAIL", "leak", says=("REAL_HOLDER",)),
    Row("weak_value_key_named", "FAIL", "cycle", says=("REAL_HOLDER",)),
    Row("wf1_flush500", "PASS"),
    Row("wf2_flush1000", "PASS"),
    Row("wf3_labels", "PASS"),
    Row("wf4_hist", "PASS"),
    Row("wp10_floor_mmap", "FAIL", says=("mapped_bytes",)),
    Row("wp11_burst", "FAIL|PASS", says=("runs",)),
    Row("wp1_arena_rss", "FAIL", says=("rss",)),
    Row("wp2_hold_same", "FAIL", says=("Session",)),
    Row("wp3_swing", "FAIL|NOT_JUDGED"),
    Row("wp4_drain", "FAIL", says=("DONE",)),
    Row("wp5_daemons", "FAIL", says=("children",)),
    Row("wp6_capacity", "FAIL", says=("EVENTS",)),
    Row("wp7_memfd", "FAIL"),
    Row("wp8_known", "FAIL", "mmap", says=("mapped_bytes",)),
    Row("wp8_known", "FAIL", "malloc", says=("malloc_bytes",)),
    Row("wp8_known", "FAIL", "other", says=("OTHER",)),
    Row("wp8_known", "PASS", "hanging", says=("T-7",)),
    Row("wp8_known", "FAIL", "strings"),
    Row("wp8_known", "FAIL", "every20"),
    Row("wp8_known", "FAIL", "every60"),
    Row("wp8_known", "FAIL", "fd", says=("fds",)),
    Row("wp9_known_substring", "FAIL", says=("Transcript",)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="files or file:mode; default: all")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to measure in")
    parser.add_argument("--iters", help="for the rows that name none themselves")
    parser.add_argument("--busy", type=int, default=0, help="processes that work beside it [0]")
    options = parser.parse_args()
    rows = [row for row in ROWS if not options.names or {row.file, f"{row.file}:{row.mode}"} & {*options.names}]
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(options.busy)]
    try:
        wrong = [told(row, options) for row in rows].count(False)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    for path in sorted(options.folder.glob("*.py")):
        if path.stem not in {row.file for row in ROWS}:
            print(f"{path.name}: no row of the table says what is right")
    print(f"{len(rows) - wrong} of {len(rows)} as they should be")
    return int(wrong > 0)


def told(row: Row, options: argparse.Namespace) -> bool:
    """Run one row and print its line; whether it was right."""
    with tempfile.TemporaryDirectory() as folder:
        words = command_of(row, options, folder)
        began = time.monotonic()
        try:
            text = (on_terminal if row.terminal else piped)(words, 2 * TOO_LONG_S)
        except subprocess.TimeoutExpired:
            text = "still at work"
        seconds = time.monotonic() - began
        wrong = [*faults_of(row, text, seconds), *(kept_in(folder, row.never) if row.snapshots else ())]
    case = " ".join((row.file, row.mode, *row.words)).strip()
    first = re.search(r"^(PASS|FAIL|NOT_JUDGED|CERTIFIED|LEAK|INVALID|leakharness:)", text, re.MULTILINE)
    print(
        f"{'ok   ' if not wrong else 'WRONG'} {case:<48} {first[0] if first else '?':<12}{seconds:6.1f} s", flush=True
    )
    for one in wrong:
        print(f"        {one}")
    if wrong:
        print("\n".join(f"        | {line}" for line in text.splitlines()[:30]), flush=True)
    return not wrong


def command_of(row: Row, options: argparse.Namespace, folder: str) -> list[str]:
    words = [sys.executable, "-m", "leakharness", row.command, str(options.folder / f"{row.file}.py")]
    words += ["--report-dir", os.path.join(folder, "reports"), "--snap-dir", os.path.join(folder, "snapshots")]
    words += ["--python", options.python, *(("--mode", row.mode) if row.mode else ()), *row.words]
    if options.iters and "--iters" not in row.words:
        words += ["--iters", options.iters]
    return words


def faults_of(row: Row, text: str, seconds: float) -> list[str]:
    """What is not as the row says."""
    plain = " ".join(text.split())
    found = [] if re.search(rf"^({row.verdict})", text, re.MULTILINE) else [f"is not {row.verdict}"]
    found += [f"does not say {part!r}" for part in row.says if part not in plain]
    found += [f"says {part!r}" for part in row.never if part in plain]
    return found + ([f"takes {seconds:.0f} s"] if seconds > row.within_s else [])


def kept_in(folder: str, texts: Sequence[str]) -> list[str]:
    """Which of these stand in a file below ``folder``."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    if not any(path.suffix == ".heapsnapshot" for path in files):
        return ["no snapshot was written"]
    return [f"{path.name} holds {text!r}" for path in files for text in texts if text.encode() in path.read_bytes()]


def piped(words: list[str], seconds: float) -> str:
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    return done.stdout + done.stderr


def on_terminal(words: list[str], seconds: float) -> str:
    """What the command writes on a terminal, without the sequences that steer it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    data = b"".join(iter(reader_of(ours), b""))
    os.close(ours)
    process.wait(seconds)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", data.decode(errors="replace"))


def reader_of(descriptor: int) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            return b""

    return read


if __name__ == "__main__":
    sys.exit(main())
