"""Readers of stored files against mutated ones: each input gives an answer or one usage error. Not collected by pytest.

    python tests/bench/fuzz_readers.py [--seconds 60] [--seed N] [READER...]

A good file of every kind is made first, then changed: bytes flipped, cut, repeated; or its JSON with values of another
type, keys left out, NaN, numbers of any size, nesting. What counts as a fault: any exception but an error of ours, a
message of more than one line or with control characters, more than 20 seconds of the processor. Prints inputs, answers,
refusals and faults of each reader, and the first fault of each kind with the file that shows it; exit 1 where there is
one.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from leakharness.errors import LeakHarnessError

SLOW_S, STUCK_S = 20, 180
"""Seconds of the processor, and of the clock, that an input may take: the machine may be busy, a reader may wait."""
LARGE = 10_000
WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, -(2**63), 10**400, 0.0, -0.5, 1e308, "", "x", "a\0b", "\ud800",
    "NaN", "../../../etc/passwd", "-r/etc/passwd", "\x1b[31m", "x\n::error::y", [], {}, [[]], [None], {"": None},
    [1, "a"], "y" * 5000,
)  # fmt: skip
TEXTS = (
    "",
    "{",
    "[]",
    "null",
    "NaN",
    "[1e999]",
    "[" * LARGE,
    '{"a":' * LARGE,
    "9" * 5000,
    "\0",
    "\ufeff{}",
    '"\\ud800"',
)


class _TooSlow(BaseException):
    pass


def places_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += [(*at, key), *places_of(item, (*at, key))]
    return found


def changed_document(rnd: random.Random, document: Any) -> Any:
    """``document`` with one to four of its places changed."""
    document = copy.deepcopy(document)
    for _ in range(rnd.randint(1, 4)):
        places = places_of(document)
        if not places:
            return rnd.choice(WRONG)
        place = rnd.choice(places)
        holder = document
        for key in place[:-1]:
            holder = holder[key]
        choice = rnd.random()
        if choice < 0.2:
            del holder[place[-1]]
        elif choice < 0.3:
            holder[place[-1]] = copy.deepcopy(rnd.choice([document, holder]))
        elif choice < 0.4 and isinstance(holder, dict):
            holder[rnd.choice(("new", "\0", "__class__", "a.b"))] = holder.pop(place[-1])
        else:
            holder[place[-1]] = copy.deepcopy(rnd.choice(WRONG))
    return document


def changed_bytes(rnd: random.Random, data: bytes) -> bytes:
    """``data`` with a few of its bytes changed, cut or repeated."""
    raw = bytearray(data)
    for _ in range(rnd.randint(1, 8)):
        at, to = sorted((rnd.randrange(len(raw) + 1), rnd.randrange(len(raw) + 1)))
        to = min(to, at + rnd.choice((1, 8, 1000, len(raw))))
        choice = rnd.randrange(5)
        if choice == 0 and raw:
            raw[min(at, len(raw) - 1)] = rnd.randrange(256)
        elif choice == 1:
            del raw[at:to]
        elif choice == 2:
            raw[at:at] = raw[at:to][:5000]
        elif choice == 3:
            raw[at:at] = rnd.choice((b"\0", b"\xff", b'"', b"{", b"]", b"-", b"e9", b"\n", b",,"))
        else:
            raw[at:to] = rnd.randbytes(min(16, to - at))
    return bytes(raw)


def changed(rnd: random.Random, data: bytes) -> bytes:
    choice = rnd.random()
    if choice < 0.05:
        return rnd.choice(TEXTS).encode("utf-8", "surrogatepass")
    if choice < 0.35:
        return changed_bytes(rnd, data)
    try:
        document = json.loads(data)
    except ValueError:
        lines = data.splitlines()
        if lines and lines[0].startswith(b"{"):
            at = rnd.randrange(len(lines))
            lines[at] = json.dumps(changed_document(rnd, json.loads(lines[at]))).encode()
            return b"\n".join(lines)
        return changed_bytes(rnd, data)
    return json.dumps(changed_document(rnd, document)).encode()


# -- good files


def result_document() -> dict[str, Any]:
    from leakharness.model import Detectable, Family, Growth, Reading, Retainer, RunResult

    result = RunResult(
        "s", "m", "FAIL", "PASS", "grows", reproduce="leakharness run s --mode m",
        tracked={"Session": {"born": 5, "retained": 5}},
        series=tuple(Reading(f"batch-{i}", 50 * i, {"objects": 50 * i, "rss": 4096 * i}) for i in range(3)),
        growth=(Growth("objects", 1.0, True, "grows", 0.5), Growth("rss", 0.0, False, "steady")),
        families=(Family("app.Session", 1.0, 56.0),),
        retainers=(Retainer("Session", 5, 100, ("sys.modules['app']", "f (app.py:3)"), "p", "5 kept", ("also",)),),
        allocations=({"file": "app.py", "line": 3, "source": "x = 1", "of": "Session"},),
        detectable=Detectable(0.1, 0.1, 0.1, 8.0), notes=("note",), opinions=("o",), blind={"fds": "why"}, detail="d",
    )  # fmt: skip
    document: dict[str, Any] = json.loads(json.dumps(result.document()))
    return document


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    from leakharness.proof.seal import digest

    with contextlib.suppress(Exception):
        document = {**document, "digest": digest(document)}
    return document


def certificate_document() -> dict[str, Any]:
    arm = result_document()
    asked = {"options": {"iters": 50}, "target": None, "python": None}
    source = {"role": "needs", "spec": "json", "files": {"json/__init__.py": "00"}}
    scenario = {"name": "embedded-run", "file": "packaged:embedded_run.py", "sha256": "00"}
    seal = {"leakharness": "0", "made": "", "platform": "p", "scenario": scenario, "asked": asked, "sources": [source]}
    seal |= {"shape": None, "packages": {"numpy": "1"}}
    return sealed({"schema": "leakharness.check/1", "scenario": "s", "certificate": "LEAK", "reason": "r",
                   "arms": [arm, {**arm, "must": "FAIL"}], "notes": [], "seal": seal})  # fmt: skip


def proof_document() -> dict[str, Any]:
    arm = result_document()
    side = {"asked": ["rev:HEAD"], "commit": None, "requirements": [], "source": "", "python": "x", "packages": {}}
    asked = {"options": {}, "target": None, "python": None, "before": ["rev:" + "0" * 40], "after": ["req:a==1"]}
    asked |= {"with": [], "mode": "production", "on_path": False, "wheels": None}
    certificate = certificate_document()
    return sealed({"schema": "leakharness.prove/1", "scenario": "s", "mode": "production", "verdict": "NOT_FIXED",
                   "reason": "r", "reproduce": "x", "before": {**side, "arms": [arm]}, "after": {**side, "arms": [arm]},
                   "controls": [arm], "paths": {"vanished": [], "remaining": arm["retainers"], "new": []},
                   "seal": {**certificate["seal"], "asked": asked}})  # fmt: skip


def trace_lines() -> bytes:
    row = {
        "schema": "leakharness.trace/1",
        "lane": "gw0",
        "pid": 5,
        "phase": "run",
        "file": "tests/test_a.py",
        "tests": 2,
    }
    row |= {"before": {"objects": 1, "blocks": 2}, "after": {"objects": 5, "blocks": 9}}
    row |= {"delta_rss_bytes": 2**26, "peak_rss_bytes": 2**27, "time": 1.5}
    rows = [row, {**row, "phase": "collect", "tests": 0}, {**row, "lane": "isolated-1", "file": "tests/test_b.py"}]
    return b"\n".join(json.dumps(one).encode() for one in rows)


def manifest_document() -> dict[str, Any]:
    from leakharness.suite.hotspots import Hotspot, Manifest

    document: dict[str, Any] = Manifest((Hotspot("tests/test_a.py", 50_000, 3, ("a",)),), 7, 2, ("b",)).document()
    return document


def snapshots(folder: Path) -> tuple[Path, Path]:
    """A raw capture of a small process of its own, and the heap snapshot made of it."""
    import subprocess

    from leakharness.heap.ingest import load_capture
    from leakharness.heap.v8_write import write

    program = (
        "import sys\nfrom leakharness.worker.capture import snapshot\n"
        "class Payload: pass\nkept = {'one': Payload(), 2: [Payload()]}\n"
        "snapshot.write_capture(sys.argv[1])\n"
    )
    raw, whole = folder / "good.capture", folder / "good.heapsnapshot"
    subprocess.run(
        [sys.executable, "-S", "-c", program, str(raw)], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    write(load_capture(raw).graph, whole)
    header = json.loads(whole.read_bytes())["snapshot"]
    whole.write_text(json.dumps(small_snapshot(header)))
    return raw, whole


def small_snapshot(header: dict[str, Any]) -> dict[str, Any]:
    """A heap of 20 nodes in the layout of ``header``: the root refers to a module, that to payloads in a row."""
    meta = header["meta"]
    strings = ["", "(root)", "module app", "app.Payload", "KEPT", "next"]
    nodes, edges = [], []
    for number in range(20):
        name = 1 if number == 0 else 2 if number == 1 else 3
        kind = meta["node_types"][0].index("synthetic" if number == 0 else "object")
        row = dict.fromkeys(meta["node_fields"], 0)
        row |= {"type": kind, "name": name, "id": 2 * number + 1, "self_size": 64, "edge_count": int(number < 19)}
        nodes += [row[field] for field in meta["node_fields"]]
        if number < 19:
            edge = {"type": meta["edge_types"][0].index("property"), "name_or_index": 4 if number < 2 else 5}
            edge["to_node"] = (number + 1) * len(meta["node_fields"])
            edges += [edge[field] for field in meta["edge_fields"]]
    ours = header.get("leakharness")
    if isinstance(ours, dict):  # what it says of nodes is of those that are not here
        header = {**header, "leakharness": {key: value for key, value in ours.items() if not isinstance(value, list)}}
    header = {**header, "node_count": 20, "edge_count": 19}
    return {"snapshot": header, "nodes": nodes, "edges": edges, "strings": strings}


def sample(kind: Any) -> Any:
    """A plain value of a type of the protocol, with one row in every list."""
    import types
    import typing

    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType, typing.Annotated, typing.Literal):
        return arguments[0] if origin is typing.Literal else sample(arguments[0])
    if origin is dict:
        return {"a": sample(arguments[1])}
    if origin is tuple:
        return [sample(one) for one in arguments if one is not ...]
    if hasattr(kind, "_fields"):
        return {name: sample(one) for name, one in typing.get_type_hints(kind, include_extras=True).items()}
    return {int: 3, str: "text", float: 1.5, bool: True}.get(kind)


def answer_lines() -> list[bytes]:
    """A line for every question that the tool asks, with an answer; one failure; one command."""
    from leakharness.worker import protocol

    questions = [value for value in vars(protocol).values() if isinstance(value, protocol.Question)]
    lines = [json.dumps({"to": one.op, "answer": sample(one.answer)}).encode() for one in questions]
    failure = {"kind": "not_judged", "reason": "r", "detail": "d"}
    lines.append(json.dumps({"to": questions[0].op, "failure": failure}).encode())
    return [*lines, json.dumps([questions[0].op, {"path": "x"}, 3]).encode()]


def baseline_document() -> dict[str, Any]:
    cause = {"fingerprint": "app.KEPT > list[*]", "target": "Session"}
    return {"schema": "leakharness.baseline/1", "causes": [cause], "tests": {"test_a.py::test_b": ["objects"]}}


PYPROJECT = b"""
[tool.leakharness]
iters = 50
max_seconds = 1.5
snapshots = "never"
python = "python3"
report_dir = "reports"
target = "a:b"
known = [{match = "a.B", reason = "c"}]
[tool.leakharness.trend-budget]
rise = 0.5
duration_s = 20
"""


# -- readers


def command(*words: str) -> None:
    """A command of ours, as far as errors become exit codes."""
    from leakharness.cli import make_app

    code = make_app()(list(words), prog_name="leakharness", standalone_mode=False)
    if code not in (None, 0, 1, 2, 3, 4):
        raise AssertionError(f"exit code {code!r}")


def read_report(path: Path) -> None:
    from leakharness.report.formats import FORMATS, read_documents, render_documents

    documents = read_documents([path])
    for name in (*FORMATS, "html"):
        render_documents(documents, name).encode()


def read_verify(path: Path) -> None:
    from leakharness.cli.prove import verification_block
    from leakharness.proof.seal import verify

    with mock.patch("leakharness.proof.seal.installed", return_value={"numpy": "1"}):
        verification_block(verify(path))


def read_sealed_anew(path: Path) -> None:
    """With a digest that fits, as anybody can make one."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(path.read_bytes())
        if isinstance(document, dict):
            path.write_text(json.dumps(sealed(document)))
    read_verify(path)


def read_trace_file(path: Path) -> None:
    from leakharness.suite.trace import lanes_of, read_trace, summary_line, top_table

    lanes = lanes_of(read_trace(path))
    top_table(lanes)
    list(map(summary_line, lanes))
    command("hotspots", "update", "--trace", str(path), "--out", str(path.with_name("out.json")))


def read_manifest_file(path: Path) -> None:
    from leakharness.suite.hotspots import read_manifest

    read_manifest(path).document()


def read_settings(path: Path) -> None:
    from leakharness.report.trend import budget_from
    from leakharness.resolve import known_leaks, pyproject_options, resolve

    target = path.with_name("pyproject.toml")
    os.replace(path, target)
    settings = pyproject_options(target.parent)
    resolve({}, {}, settings)
    known_leaks([], settings)
    budget_from(settings.get("trend_budget", {}), "pyproject.toml")


def read_stored(path: Path) -> None:
    """As ``trend`` reads it, with its page."""
    page = path.with_name("page.html")
    command("trend", str(path), "--json", "--out", str(page))
    command("trend", str(path))


def read_answer(path: Path) -> None:
    """A line of the measured process, as the answer to every question; and as a command."""
    from leakharness.errors import NotJudged, UsageError
    from leakharness.worker import codec, protocol

    line = path.read_bytes()
    for question in vars(protocol).values():
        if isinstance(question, protocol.Question):
            try:
                json.dumps(codec.plain(codec.decode_answer(question, line, "reading"))).encode()
            except (NotJudged, UsageError) as exc:
                str(exc).encode()
    with contextlib.suppress(codec.BadLine):
        codec.decode_command(line)


def read_baseline(path: Path) -> None:
    import pytest

    from leakharness.errors import UsageError
    from leakharness.pytest_plugin.baseline import Baseline
    from leakharness.resolve import known_leaks

    try:
        found = Baseline.read(path)
    except pytest.UsageError as exc:
        raise UsageError(str(exc)) from None
    known_leaks(found.known(), {})


def read_snapshot(path: Path) -> None:
    command("snapshot", "info", str(path))
    command("retainers", str(path), "--type", "app.Payload")
    command("dominators", str(path))
    command("diff", str(path), str(path))


def read_lane(path: Path) -> None:
    lane = path.with_name("lane")
    lane.mkdir(exist_ok=True)
    os.replace(path, lane / "batch-1-77-20260101T000001Z.heapsnapshot")
    command("report", "investigate", "--lane-dir", str(lane), "--pid", "77")


def read_capture(path: Path) -> None:
    from leakharness.heap.ingest import load_capture
    from leakharness.heap.retainers import explain

    graph = load_capture(path).graph
    explain(graph, list(range(0, graph.node_count, max(1, graph.node_count // 10))))


Reader = Callable[[Path], None]


def readers(folder: Path) -> dict[str, tuple[list[bytes], Reader]]:
    raw, whole = (path.read_bytes() for path in snapshots(folder))
    lane = folder / "lane"
    lane.mkdir()
    (lane / "baseline-77-20260101T000000Z.heapsnapshot").write_bytes(whole)
    results = [json.dumps(made()).encode() for made in (result_document, certificate_document, proof_document)]
    return {
        "report": (results, read_report),
        "verify": (results[1:], read_verify),
        "verify, sealed anew": (results[1:], read_sealed_anew),
        "trace": ([trace_lines()], read_trace_file),
        "manifest": ([json.dumps(manifest_document()).encode()], read_manifest_file),
        "baseline": ([json.dumps(baseline_document()).encode()], read_baseline),
        "trend": (results[:2], read_stored),
        "answers": (answer_lines(), read_answer),
        "settings": ([PYPROJECT], read_settings),
        "snapshot": ([whole], read_snapshot),
        "lane": ([whole], read_lane),
        "capture": ([raw], read_capture),
    }


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise _TooSlow


def answer_of(reader: Reader, path: Path) -> tuple[str, str]:
    """("answered" | "refused" | the kind of fault, what it said)."""
    signal.setitimer(signal.ITIMER_PROF, SLOW_S)
    signal.alarm(STUCK_S)
    try:
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())), contextlib.redirect_stderr(io.StringIO()):
            reader(path)
        return "answered", ""
    except LeakHarnessError as exc:
        text = str(exc)
        clean = text.replace("\n", "").isprintable()
        return (
            ("refused", text)
            if clean and "\n" not in text
            else ("message of several lines or with controls", repr(text))
        )
    except _TooSlow:
        return "too slow", traceback.format_exc()
    except BaseException as exc:  # whatever it is, it is a fault
        last = traceback.extract_tb(exc.__traceback__)[-1]
        return f"{type(exc).__name__} at {Path(last.filename).name}:{last.lineno}", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def fuzz(name: str, good: list[bytes], reader: Reader, folder: Path, rnd: random.Random, seconds: float) -> int:
    """The faults found in ``seconds``; prints a line, and the first fault of each kind."""
    path, counts = folder / "input", Counter[str]()
    for data in good:
        path.write_bytes(data)
        kind, said = answer_of(reader, path)
        assert kind in ("answered", "refused"), f"{name}: the good file: {said}"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = changed(rnd, rnd.choice(good))
        path.write_bytes(data)
        kind, said = answer_of(reader, path)
        counts[kind] += 1
        if kind not in ("answered", "refused") and counts[kind] == 1:
            kept = Path(tempfile.gettempdir()) / f"fault-{name.replace(' ', '-').replace(',', '')}-{len(counts)}"
            kept.write_bytes(data)
            print(f"  {name}: {kind}: {kept}\n{said[-2000:]}", flush=True)
    faults = counts.total() - counts["answered"] - counts["refused"]
    print(f"{name:<20} {counts.total():>8,} inputs  {counts['answered']:>8,} answered  {counts['refused']:>8,} refused"
          f"  {faults:>5} faults", flush=True)  # fmt: skip
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="READER")
    parser.add_argument("--seconds", type=float, default=60, help="for each reader [60]")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _too_slow)
    here = os.getcwd()
    faults = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = readers(folder)
        os.chdir(folder)
        for name, (good, reader) in found.items():
            if not given.names or name in given.names:
                faults += fuzz(name, good, reader, folder, random.Random(given.seed), given.seconds)
        os.chdir(here)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
