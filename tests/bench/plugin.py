"""What the pytest plugin costs, unused and used, and the whole investigation on a suite of 30 files.

    python tests/bench/plugin.py unused|used|story [rounds]
    python tests/bench/plugin.py checked|heap [tests]

``unused``: 2,000 trivial tests with the plugin and with ``-p no:leakharness``, alternating. ``used``: the 30-file suite
plain, with ``--leak-trace`` and with ``--leak-snapshots`` every 5 seconds, as ratios. ``story``: trace, manifest,
isolation and the investigation's reports. ``checked``: CPU seconds of ``--leakcheck`` for 1,000 trivial tests and for
100 of 5 ms. ``heap``: milliseconds of one check beside .1, 1 and 5 million objects, which should be flat.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

QUIET = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly")
TESTS, FILES = 2_000, 20
LIGHT_FILES = 28
LEAKY = """
    import pytest
    REGISTRY = []
    class Connection:
        def __init__(self):
            self.buffer = bytearray(b"x") * 500_000
    @pytest.fixture
    def connection():
        made = Connection()
        REGISTRY.append(made)
        return made
    @pytest.mark.parametrize("i", range(60))
    def test_uses(connection, i):
        assert connection.buffer
"""
HEAVY = """
    TABLE = {number: str(number) * 8 for number in range(500_000)}
    def test_heavy():
        assert TABLE[7]
"""
LIGHT = """
    import time
    import pytest
    @pytest.mark.parametrize("i", range(20))
    def test_light(i):
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            sorted(range(1000), reverse=True)
"""


def trivial_suite(folder: Path) -> None:
    """2,000 tests that do nothing, in 20 files."""
    each = TESTS // FILES
    for number in range(FILES):
        body = "\n".join(f"def test_{i}(): pass" for i in range(each))
        (folder / f"test_trivial{number}.py").write_text(body)
    (folder / "pytest.ini").write_text("[pytest]\n")


def sample_suite(folder: Path) -> None:
    """30 files: one fixture leaks, one module is heavy, the others work for a while."""
    files = {"test_leaky.py": LEAKY, "test_heavy.py": HEAVY}
    files.update({f"test_light{number:02}.py": LIGHT for number in range(LIGHT_FILES)})
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text))
    (folder / "pytest.ini").write_text("[pytest]\n")


def seconds(folder: Path, *words: str) -> tuple[float, float]:
    """(wall, CPU) seconds of one pytest run and its children."""
    import resource

    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "pytest", *QUIET, *words], cwd=folder, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(folder: Path, rounds: int, *kinds: tuple[str, tuple[str, ...]]) -> None:
    """Alternate, and print medians; the first kind is what the others are compared with."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in kinds}
    for _, words in kinds:
        seconds(folder, *words)  # compiled and cached
    for _ in range(rounds):
        for name, words in kinds:
            taken[name].append(seconds(folder, *words))
    base = [statistics.median(column) for column in zip(*taken[kinds[0][0]], strict=True)]
    for name, rows in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        least = min(cpu for _, cpu in rows)
        print(
            f"{name:<22} wall {wall:6.2f} s ({wall / base[0]:.2f}x)  CPU {cpu:6.2f} s ({cpu / base[1]:.2f}x)  "
            f"least CPU {least:.3f} s"
        )


FIVE_MS = """
    import time
    import pytest
    @pytest.mark.parametrize("i", range({tests}))
    def test_five_ms(i):
        end = time.process_time() + 0.005
        while time.process_time() < end:
            pass
"""
LARGE_HEAP = """
    import pytest
    HEAP = [[] for _ in range({objects})]
    @pytest.mark.parametrize("i", range({tests}))
    def test_trivial(i):
        pass
"""


def checked(folder: Path, tests: int) -> None:
    """What one check costs, above the same tests without it."""
    (folder / "test_trivial.py").write_text("\n".join(f"def test_{i}(): pass" for i in range(tests)))
    (folder / "test_five_ms.py").write_text(textwrap.dedent(FIVE_MS.format(tests=max(1, tests // 10))))
    for name in ("test_trivial.py", "test_five_ms.py"):
        _, plain = seconds(folder, name)
        wall, cpu = seconds(folder, name, "--leakcheck")
        print(f"{name:<18} plain CPU {plain:6.2f} s  --leakcheck CPU {cpu:6.2f} s, wall {wall:6.2f} s")


def beside_a_large_heap(folder: Path, tests: int) -> None:
    """Milliseconds of one check, by the size of the heap that is there already."""
    for objects in (0, 100_000, 1_000_000, 5_000_000):
        (folder / "test_large.py").write_text(textwrap.dedent(LARGE_HEAP.format(objects=objects, tests=tests)))
        _, plain = seconds(folder, "test_large.py")
        _, cpu = seconds(folder, "test_large.py", "--leakcheck")
        print(f"{objects:>9,} objects: {(cpu - plain) / tests * 1000:6.1f} ms a check")


def story(folder: Path) -> None:
    """Trace, manifest, isolation, snapshots, report."""
    tool = [sys.executable, "-m", "leakharness"]
    pytest = [sys.executable, "-m", "pytest", *QUIET]
    steps = [
        [*pytest, "-n2", "--leak-trace=trace.jsonl", "--leak-snapshots=snaps", "--leak-snapshot-interval=5"],
        [*tool, "hotspots", "update", "--trace", "trace.jsonl"],
        [*pytest, "-n2", "--leak-isolate=reports/hotspots.json"],
        *(
            [*tool, "report", "investigate", "--lane-dir", f"snaps/{lane}", "--trace", "trace.jsonl"]
            for lane in ("gw0", "gw1")
        ),
    ]
    for step in steps:
        print("$", " ".join(step[1:]))
        done = subprocess.run(step, cwd=folder, capture_output=True, text=True, check=False)
        print(done.stdout[-6000:], done.stderr[-1000:])


def main() -> None:
    what, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if what == "unused":
            trivial_suite(folder)
            compare(folder, rounds, ("without", ("-p", "no:leakharness")), ("with, unused", ()))
            return
        if what in ("checked", "heap"):
            (folder / "pytest.ini").write_text("[pytest]\n")
            given = int(sys.argv[2]) if len(sys.argv) > 2 else 0
            checked(folder, given or TESTS // 2) if what == "checked" else beside_a_large_heap(folder, given or 100)
            return
        sample_suite(folder)
        if what == "story":
            story(folder)
            return
        compare(
            folder,
            rounds,
            ("plain", ("-n2",)),
            ("--leak-trace", ("-n2", "--leak-trace=trace.jsonl")),
            ("--leak-snapshots, 5 s", ("-n2", "--leak-snapshots=snaps", "--leak-snapshot-interval=5")),
        )


if __name__ == "__main__":
    main()
