"""What can be read of a process, and why not: one line a check, each with its cure."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from leakharness.errors import UsageError
from leakharness.live.layouts import layout_of
from leakharness.live.look import look
from leakharness.live.memory import free_memory
from leakharness.live.process import YAMA, executable, find_target, resident_bytes, status_of
from leakharness.units import size

__all__ = ["Check", "examine", "room"]

SELF_TEST_SECONDS = 60.0
NEEDED = 3.0
"""Memory that a look takes, in times of what the process has: its copy, the graph and the paths through it."""
KNOWN_OBJECTS = """
import gc, json, sys
class Known:
    __slots__ = ("part",)
class Part:
    pass
HOLDERS = []
def hold(number):
    part = Part()
    def callback():
        return part
    HOLDERS.append(callback)
for number in range(50):
    hold(number)
print(json.dumps({}), file=sys.stderr, flush=True)
gc.collect()
gc.freeze()
gc.unfreeze()
counts = {}
for item in gc.get_objects():
    counts[type(item).__name__] = counts.get(type(item).__name__, 0) + 1
print(json.dumps({name: counts[name] for name in ("function", "cell", "Part", "type", "module")}), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Check:
    """One check: ``works`` is None for what only limits a command, not the look."""

    name: str
    works: bool | None
    text: str


def examine(pid: int) -> Iterator[Check]:
    """Check by check what works on ``pid``; stops at the first that makes a look impossible."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        yield Check("platform", False, "a look needs Linux on x86-64: take a snapshot inside the process instead")
        return
    yield Check("platform", True, "Linux on x86-64")
    yield from _namespaces(pid)
    try:
        target = find_target(pid)
    except UsageError as error:
        yield Check("memory", False, str(error))
        return
    yield Check("memory", True, "its memory may be read")
    yield from _tracing(pid)
    try:
        layout_of(target.version)
    except UsageError as error:
        yield Check("version", False, str(error))
        return
    yield Check("version", True, f"CPython {target.version[0]}.{target.version[1]}")
    yield room(pid)
    yield _self_test(pid)


def _namespaces(pid: int) -> Iterator[Check]:
    inner = status_of(pid).get("NSpid", "").split()
    if len(inner) > 1:
        yield Check(
            "namespace", None, f"in another PID namespace, where it is process {inner[-1]}; {pid} is right here"
        )


def _tracing(pid: int) -> Iterator[Check]:
    tracer = status_of(pid).get("TracerPid", "0")
    if tracer != "0":
        yield Check("pause", None, f"process {tracer} traces it (a debugger), so --pause does not work; a look does")
        return
    scope = YAMA.read_text().strip() if YAMA.exists() else "0"
    if scope not in ("", "0") and os.geteuid() != 0:
        cure = "start the service by `leakharness live run -- COMMAND`, or run as root"
        yield Check("pause", None, f"kernel.yama.ptrace_scope is {scope}: {cure}")
        return
    yield Check("pause", True, "its threads may be held for --pause")


def room(pid: int) -> Check:
    """Whether there is memory for a look at ``pid``."""
    resident = resident_bytes(pid)
    free = free_memory()
    if free is None:
        return Check("room", None, f"the process has {size(resident)}; how much is free here is not known")
    text = f"the process has {size(resident)}, a look takes about {size(NEEDED * resident)}, {size(free)} are free"
    if NEEDED * resident > free:
        return Check("room", False, f"{text}: look from a larger host, or give this container more memory")
    return Check("room", True, text)


def _self_test(pid: int) -> Check:
    """Known objects in a child of that very executable, read from outside and compared with what the child says."""
    program = f"/proc/{pid}/exe"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        child = subprocess.Popen(
            [program, "-I", "-S", "-c", KNOWN_OBJECTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
    except OSError as error:
        return Check("build", None, f"{executable(pid)} cannot be started here ({error.strerror}): not compared")
    with child:
        try:
            return _compared(child, executable(pid))
        finally:
            child.kill()


def _compared(child: subprocess.Popen[str], program: str) -> Check:
    import json
    import select

    assert child.stdout is not None
    if not select.select([child.stdout], [], [], SELF_TEST_SECONDS)[0]:
        return Check("build", None, f"a child of {program} did not answer: not compared")
    try:
        told: dict[str, int] = json.loads(child.stdout.readline())
    except ValueError:
        return Check("build", None, f"a child of {program} did not start: not compared")
    try:
        found = look(child.pid)
    except UsageError as error:
        return Check("build", False, f"a child of that executable cannot be read: {error}")
    counts: dict[str, int] = {}
    for family in found.families:
        name = family.type.rpartition(".")[2]
        counts[name] = counts.get(name, 0) + family.count
    wrong = [
        f"{name} {counts.get(name, 0)} for {count}" for name, count in told.items() if counts.get(name, 0) != count
    ]
    if wrong:
        return Check("build", False, f"this build has another layout: {', '.join(wrong)}; it cannot be read")
    groups = found.retainers(found.nodes_of("Part"))
    if len(groups) != 1 or groups[0].count != told["Part"] or "'part' of callback" not in groups[0].holding_edge:
        return Check("build", False, "this build has another layout: a closure of a known object was not found")
    return Check("build", True, f"known objects in a child of {program} were found as they are")
