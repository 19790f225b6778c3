"""The report of a test-memory investigation: a lane's snapshots, the traces beside them, and what they come to.

The facts come from ``heap.diff`` (which families grew and who holds them), from the snapshots in between (whether a
family rises again and again or came in one step), from modules imported meanwhile, and from traces (which test file).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakharness.suite.growing_file import FileRun, GrowingFile, file_runs, growing_file
from leakharness.suite.loaded_modules import by_package
from leakharness.suite.over_time import OverTime, spread
from leakharness.suite.trace import COMMAND_FILE, Lane, file_rows, lane_rows, lanes_of, read_trace, summary_line
from leakharness.units import signed_size, size

if TYPE_CHECKING:
    from leakharness.heap.diff import DiffRow

__all__ = ["FamilyGrowth", "Investigation", "investigate", "report_markdown"]

TOP = 12
MIN_KB = 64
HEAVY_BYTES = 4 * 2**20
"""A file that leaves this much behind, and is not where a leak was found, is named as one to isolate."""
PYTESTS_OWN = re.compile(r"Session\.(items|_setupstate|_collection_cache)\b|(Module|Package|Class|Function)\._node\b")
"""Steps of a path through what pytest keeps of every test that it collected."""
EARLY_TOP = 200
MOST_SUSPECTS = 3
CAME_AT_FIRST = 0.9
"""Share of a family's growth that must have come with the imports of the test files for it to be theirs."""
FEWEST_STRETCHES = 2
"""Stretches between snapshots without which nothing can be said to rise again, or to have come in one step."""
UNKNOWN = "held by C or unknown"
NODE_UNRECORDED = "(the command was not recorded; node --heapsnapshot-signal=SIGUSR2 takes such snapshots)"
ROOT_MODULE = re.compile(r"sys\.modules\['([^']+)'\]")


@dataclass(frozen=True)
class FamilyGrowth:
    """One growing family: how much, who holds it, what kind of growth that is and why."""

    type: str
    size_delta: int
    count_delta: int
    kind: str
    evidence: str
    path: tuple[str, ...]
    risen: int
    intervals: int
    """It rose in ``risen`` of ``intervals`` stretches between the snapshots that were read."""
    file: str | None = None
    """The test file that made it grow, where that is known; of what grew while no tests ran, the one whose module
    holds it."""
    sizes: tuple[int, ...] = ()
    """Shallow bytes of the type in each of the snapshots that were read."""
    grew_in: GrowingFile = field(default_factory=GrowingFile)

    @property
    def held(self) -> bool:
        """Whether a retainer path is known: then the class is proved, not guessed by name."""
        return bool(self.path) and not self.path[0].startswith(UNKNOWN)


@dataclass(frozen=True)
class Investigation:
    """Everything the report says."""

    command: str
    lane: str
    pid: int | None
    snapshots: int
    before: str
    after: str
    nodes: tuple[int, int]
    families: tuple[FamilyGrowth, ...]
    imported: tuple[tuple[str, int], ...]
    """(top-level package, modules imported between the two snapshots), most first."""
    lanes: tuple[Lane, ...]
    kind: str
    of_node: bool = False
    """Whether the lane is Node's: then nothing of pytest's is advised."""
    read: tuple[str, ...] = ()
    """Names of the snapshots that were read, first to last."""
    loaded_before: int = 0
    """Modules that had been loaded before the first snapshot: they cannot be what grew."""
    loaded_packages: tuple[tuple[str, int], ...] = ()
    """Those by package, as ``imported`` has them."""

    @property
    def leaks(self) -> list[FamilyGrowth]:
        return [f for f in self._held_objects if f.intervals >= FEWEST_STRETCHES]

    @property
    def seen_once(self) -> list[FamilyGrowth]:
        """Held runtime objects of which two snapshots show no more than that there are more of them."""
        return [f for f in self._held_objects if f.intervals < FEWEST_STRETCHES]

    @property
    def _held_objects(self) -> list[FamilyGrowth]:
        return [f for f in self.families if f.kind == "runtime-objects" and f.held]

    @property
    def module_growth(self) -> list[FamilyGrowth]:
        return [f for f in self.families if f.kind == "module-graph"]

    @property
    def unsettled(self) -> list[FamilyGrowth]:
        settled = (*self._held_objects, *self.module_growth)
        return [f for f in self.families if f not in settled]

    def document(self) -> dict[str, Any]:
        return {
            "schema": "leakharness.investigation/1",
            "command": self.command,
            "lane": self.lane,
            "pid": self.pid,
            "snapshots": self.snapshots,
            "before": self.before,
            "after": self.after,
            "nodes": list(self.nodes),
            "class": self.kind,
            "likely": _likely_word(self),
            "families": [
                {
                    "type": f.type,
                    "size_delta": f.size_delta,
                    "count_delta": f.count_delta,
                    "class": f.kind,
                    "evidence": f.evidence,
                    "path": list(f.path),
                    "rose_in": [f.risen, f.intervals],
                    "file": f.file,
                    "sizes": list(f.sizes),
                }
                for f in self.families
            ],
            "loaded_before": self.loaded_before,
            "loaded_packages": [{"package": name, "modules": count} for name, count in self.loaded_packages],
            "imported": [{"package": name, "modules": count} for name, count in self.imported],
            "lanes": [summary_line(lane) for lane in self.lanes],
            "read": list(self.read),
            "headline": _headline(self),
            "findings": _findings(self),
            "advice": _advice(self),
            "checked": _checks(self),
            "memory": {"lanes": lane_rows(self.lanes), "files": file_rows(self.lanes)},
        }


def investigate(
    lane_dir: Path,
    *,
    pid: int | None = None,
    traces: Sequence[Path] = (),
    command: str | None = None,
    top: int = TOP,
    min_kb: int = MIN_KB,
) -> Investigation:
    """Look into one lane. Raises SnapshotError without two snapshots of one PID, UsageError for a broken trace."""
    from leakharness.heap.diff import diff
    from leakharness.heap.lane import lane_of

    found = diff(lane_dir=lane_dir, pid=pid, top=top, min_kb=min_kb, by="path")
    rows = [row for path in traces for row in read_trace(path)]
    lanes, runs = lanes_of(rows), file_runs(rows, found.pair.pid)
    (lane,) = lane_of(lane_dir, found.pair.pid, found.pair.thread)
    snapshots = lane.snapshots
    read, over_time = spread(snapshots), OverTime()
    first, last = (over_time.modules(path) for path in (read[0], read[-1]))
    imported, loaded = by_package(last - first), by_package(first)
    not_recorded = (
        NODE_UNRECORDED if over_time.of_node else "pytest --leak-snapshots DIR (the command was not recorded)"
    )
    at_first: dict[tuple[str, str], int] = {}
    by_import: dict[str, int] = {}
    if len(snapshots) > 2:  # the second is taken when every test file is imported
        early = diff(snapshots[0], snapshots[1], top=EARLY_TOP, min_kb=min_kb, by="path")
        at_first = {(row.type, row.name): row.size_delta for row in early.rows}
    else:
        by_import = _left_by_imports(lanes, lane_dir.name)
    files = {name for lane in lanes for name in lane.files}

    def family(row: DiffRow) -> FamilyGrowth:
        return _family(row, read, _grew_in(row, read, snapshots, runs, over_time), files, over_time)

    return Investigation(
        command=command or _recorded_command(lane_dir) or not_recorded,
        lane=lane_dir.resolve().name,
        pid=found.pair.pid,
        snapshots=found.pair.snapshots,
        before=found.pair.before.name,
        after=found.pair.after.name,
        nodes=found.nodes,
        families=tuple(
            _by_trace(
                _by_imports(family(row), dict(imported), at_first.get((row.type, row.name), 0)),
                by_import,
            )
            for row in found.rows
        ),
        imported=tuple(imported),
        lanes=tuple(lanes),
        kind=found.kind,
        of_node=over_time.of_node,
        read=tuple(path.name for path in read),
        loaded_before=sum(count for _, count in loaded),
        loaded_packages=tuple(loaded),
    )


def report_markdown(found: Investigation) -> str:
    """The report: reproduce, what was compared, families, what it likely is, what to change, what was verified."""
    parts = [
        f"# Test memory: lane {found.lane}",
        _headline(found),
        f"## Reproduce\n\n```\n{found.command}\n```",
        _compared(found),
        _table(found),
        _listed("What it is likely to be", _findings(found)),
        _listed("What to change", _advice(found)),
        _listed("What was verified, and what was not", _checks(found)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _grew_in(
    row: DiffRow, read: Sequence[Path], snapshots: Sequence[Path], runs: Sequence[FileRun], over_time: OverTime
) -> GrowingFile:
    """The test file that made the family grow, where the trace says how many snapshots there were meanwhile."""
    from leakharness.heap.snapshot_names import parse_name

    numbered = {name.sequence: path for path in snapshots if (name := parse_name(path)) is not None}
    if not runs:
        return GrowingFile()
    at_hand = {*read, *snapshots[1:2]}  # the second is taken when every test file is imported
    numbers = [number for number, path in numbered.items() if path in at_hand]
    key = row.type, _type_of(row)
    return growing_file(
        row.size_delta, numbers, sorted(numbered), runs, lambda number: over_time.reading(numbered[number], key)
    )


def _family(
    row: DiffRow, read: Sequence[Path], grew: GrowingFile, files: Iterable[str], over_time: OverTime
) -> FamilyGrowth:
    """The family with its sizes over time, and its test file: the one whose tests made it grow, else, where it grew
    while none ran, the one whose module holds it."""
    key = row.type, _type_of(row)
    sizes = [over_time.reading(path, key)[0] for path in read]
    return FamilyGrowth(
        type=key[1],
        size_delta=row.size_delta,
        count_delta=row.count_delta,
        kind=row.classification.kind,
        evidence=row.classification.evidence,
        path=row.path,
        risen=sum(1 for a, b in itertools.pairwise(sizes) if b > a),
        intervals=max(0, len(sizes) - 1),
        file=grew.file or (None if grew.suspects else _file_of(row.path, files)),
        sizes=tuple(sizes),
        grew_in=grew,
    )


def _by_imports(family: FamilyGrowth, imported: Mapping[str, int], at_first: int) -> FamilyGrowth:
    """What the imports settle where neither name nor retainers do.

    What a module holds that came while the test files were imported, types of a package that was imported meanwhile,
    and objects that a module of it holds and that came in one step, belong to the module graph.
    """
    if any(PYTESTS_OWN.match(step) for step in family.path):
        return replace(family, kind="module-graph", evidence="pytest's own collected items")
    in_module = bool(family.path and ROOT_MODULE.match(family.path[0]))
    if in_module and at_first >= CAME_AT_FIRST * family.size_delta:
        return replace(
            family, kind="module-graph", evidence="came while the test files were imported, and no more since"
        )
    if family.evidence == "by name" and family.kind != "ambiguous":
        return family
    if family.file is None and not family.held and "." in family.type and family.type.partition(".")[0] in imported:
        return replace(family, kind="module-graph", evidence="its package was imported meanwhile")
    match = ROOT_MODULE.match(family.path[0]) if family.path else None
    one_step = family.risen <= 1 and family.intervals >= FEWEST_STRETCHES
    if family.file is None and match and match.group(1).partition(".")[0] in imported and one_step:
        return replace(family, kind="module-graph", evidence="held by a module imported meanwhile, in one step")
    return family


def _left_by_imports(lanes: Sequence[Lane], name: str) -> dict[str, int]:
    """Bytes that the import of each file left, as the trace of this lane says; where there is none, of any lane."""
    of_this = [lane for lane in lanes if lane.name == name] or lanes
    left: dict[str, int] = {}
    for lane in of_this:
        for file, row in lane.files.items():
            left[file] = max(left.get(file, 0), row["collect"])
    return left


def _by_trace(family: FamilyGrowth, by_import: dict[str, int]) -> FamilyGrowth:
    """What the trace settles: a module holds it, and the import of that file left that much behind.

    What is settled is taken off ``by_import``: one import accounts for its bytes once, largest family first.
    """
    left = by_import.get(family.file, 0) if family.file is not None and family.file != family.grew_in.file else 0
    if left < max(1.0, CAME_AT_FIRST * family.size_delta):
        return family
    by_import[str(family.file)] = max(0, left - family.size_delta)
    if family.kind == "module-graph":
        return family
    evidence = f"came with the import of its file, which left {size(left)} (trace)"
    return replace(family, kind="module-graph", evidence=evidence)


def _type_of(row: DiffRow) -> str:
    """The family's type: the end of a fingerprint."""
    from leakharness.heap.path_groups import OTHER_WAYS

    return row.name.rpartition(" -> ")[2].removesuffix(f" {OTHER_WAYS}")


def _file_of(path: Sequence[str], files: Iterable[str]) -> str | None:
    """The traced test file whose module is the root of ``path``."""
    match = ROOT_MODULE.match(path[0]) if path else None
    if match is None:
        return None
    module = match.group(1)
    for file in sorted(files):
        dotted = file.removesuffix(".py").replace("/", ".")
        if dotted == module or dotted.endswith("." + module):
            return file
    return None


def _recorded_command(lane_dir: Path) -> str | None:
    try:
        return (lane_dir.parent / COMMAND_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _likely_word(found: Investigation) -> str:
    leak, modules = bool(found.leaks), bool(found.module_growth or found.imported)
    if leak and modules:
        return "real leak and module growth"
    if found.seen_once and found.kind != "module-graph":
        return "undecided"
    return "real leak" if leak else "module growth" if modules else "undecided"


def _headline(found: Investigation) -> str:
    word = _likely_word(found)
    if found.leaks:
        worst = found.leaks[0]
        where = f" in {worst.file}" if worst.file else ""
        return f"Likely {word}: {size(worst.size_delta)} of {worst.type} more, held by {_holder(worst)}{where}."
    if found.seen_once and word == "undecided":
        worst = found.seen_once[0]
        return (
            f"Undecided: {size(worst.size_delta)} of {worst.type} more, held by {_holder(worst)}; two snapshots "
            "cannot tell a leak from what is made once."
        )
    if word == "module growth" and found.seen_once:
        once = sum(family.size_delta for family in found.seen_once)
        return (
            f"Likely module growth: what grew came with imports, but for {size(once)} of objects, of which two "
            "snapshots cannot tell a leak from what is made once."
        )
    if word == "module growth":
        return "Likely module growth: what grew came with imports, and no retained runtime objects were found."
    return "Undecided: no retainer settles what grew."


def _compared(found: Investigation) -> str:
    lines = [
        "## What was compared",
        "",
        f"- lane {found.lane}, PID {found.pid}, {found.snapshots} snapshots: `{found.before}` with `{found.after}`",
        f"- nodes: {found.nodes[0]:,} -> {found.nodes[1]:,} ({found.nodes[1] - found.nodes[0]:+,})",
    ]
    lines += [f"- `{summary_line(lane)}`" for lane in found.lanes]
    return "\n".join(lines)


def _table(found: Investigation) -> str:
    if not found.families:
        return "## Dominant retained families\n\nNone grew by enough to be listed."
    lines = [
        "## Dominant retained families",
        "",
        "| grew | objects | type | class | rose in | file |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for f in found.families:
        lines.append(
            f"| {signed_size(f.size_delta)} | {f.count_delta:+,} | `{f.type}` | {f.kind} ({f.evidence}) | "
            f"{f.risen} of {f.intervals} stretches | {f.file or '-'} |"
        )
    for f in (*found.leaks, *found.seen_once):
        lines += ["", f"Who holds `{f.type}`:", "", "```", *f.path, "```"]
    return "\n".join(lines)


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)])


def _findings(found: Investigation) -> list[str]:
    lines = []
    for f in found.leaks:
        again = "rises again and again" if f.risen > 1 else "came in one step, so it may be a cache that filled once"
        lines.append(
            f"likely real leak: `{f.type}` ({signed_size(f.size_delta)}), confirmed by its retainer path; it {again}"
            f"{_meanwhile(f)}"
        )
    for f in found.seen_once:
        lines.append(
            f"leak or made once: `{f.type}` ({signed_size(f.size_delta)}), confirmed by its retainer path, but there "
            "are only two snapshots"
        )
    for f in found.module_growth:
        lines.append(f"likely module growth: `{f.type}` ({signed_size(f.size_delta)}), {f.evidence}")
    loaded = f"{found.loaded_before} had been loaded before the first ({_most(found.loaded_packages)})"
    if found.imported:
        total = sum(count for _, count in found.imported)
        before = f"; {loaded}" if found.loaded_before else ""
        lines.append(
            f"module growth: {total} modules were imported between the two snapshots ({_most(found.imported)}){before}"
        )
    elif found.loaded_before:
        lines.append(f"no module was imported meanwhile: all {loaded}")
    for f in found.unsettled:
        lines.append(f"no label: `{f.type}` ({signed_size(f.size_delta)}): neither name nor retainers settle it")
    return lines


def _meanwhile(f: FamilyGrowth) -> str:
    """Which tests ran while it grew, where the trace says that."""
    if f.grew_in.file is not None:
        return f", and grew while {f.grew_in.file} ran"
    first = ", ".join(f.grew_in.suspects[:MOST_SUSPECTS])
    more = f" and {len(f.grew_in.suspects) - MOST_SUSPECTS} more" if len(f.grew_in.suspects) > MOST_SUSPECTS else ""
    return f", and grew while {first}{more} ran (a shorter --leak-snapshot-interval tells which)" if first else ""


def _most(packages: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in packages[:6])


def _advice(found: Investigation) -> list[str]:
    lines = []
    for f in found.leaks:
        lines.append(f"break the edge {_holder(f)} -> `{f.type}`: mend the clean-up{f' in {f.file}' if f.file else ''}")
    if found.seen_once:
        given = "" if found.lanes or found.of_node else " and give the trace of the run (--trace)"
        how = "" if found.of_node else " (a shorter --leak-snapshot-interval)"
        lines.append(f"first take more snapshots{how}{given}: two decide nothing")
    held = (*found.leaks, *found.seen_once)
    leaky = {*(f.file for f in held), *(file for f in held for file in f.grew_in.suspects)}
    for lane in (lane for lane in found.lanes if lane.name == found.lane):
        for name, left in lane.growers():
            if left >= HEAVY_BYTES and name not in leaky and found.imported:
                lines.append(
                    f"{name} leaves {size(left)} behind and holds no leak found here: isolate it (hotspots update)"
                )
    if found.imported and not found.leaks and not found.seen_once:
        lines.append("isolate the files that import this, or recycle the worker: nothing here is there to be mended")
    if not lines:
        lines.append("nothing yet: look at the families without a label with leakharness diff --by path")
    return list(dict.fromkeys(lines))


def _checks(found: Investigation) -> list[str]:
    lines = []
    lines.append(
        f"retainer paths were computed for {sum(f.held for f in found.families)} of {len(found.families)} families"
    )
    if found.snapshots < 3:
        lines.append("two snapshots tell growth from none, but not a leak from a cache that fills once: take more")
    if not found.lanes and not found.of_node:
        lines.append("no trace was given (--trace): which test file it is rests on module names alone")
    how = "the same snapshots again" if found.of_node else "leakharness check or @pytest.mark.leakcheck"
    lines.append(
        "snapshots cost memory and time: the run was not timed, and resident sizes of a run that takes snapshots "
        f"are higher than those of a plain one; confirm a fix with {how}"
    )
    return lines


def _holder(f: FamilyGrowth) -> str:
    """The step that holds the family's objects: the container closest to the root that names a place."""
    steps = [step for step in f.path[1:-1] if step]
    if f.path and f.path[0].startswith(("global", "(GC roots)", "Window")):  # of V8: the last store says most
        stores = [step for step in f.path[:-1] if step.endswith("[*]")]
        told = (stores or steps or list(f.path))[-1]
        place = f.path.index(told)
        nameless = told.startswith("(closure)") and place > 0  # an export of an ES module is a getter of no name
        return (f"{f.path[place - 1]} -> {told}" if nameless else told).removesuffix("[*]")
    return steps[0].removesuffix("[*]") if steps else (f.path[0] if f.path else UNKNOWN)
