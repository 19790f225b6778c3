"""What descriptors and threads that grow are: from /proc of the measured process, and from the roots of its heap."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

__all__ = ["descriptors", "sockets_of", "threads"]

MOST_KINDS = 3
"""Kinds that are named, the most frequent first."""
INODE = re.compile(r"socket:\[(\d+)\]")
LISTENING = 0x0A
"""TCP_LISTEN (include/net/tcp_states.h)."""


def descriptors(pid: int, came: int) -> str:
    """The ``came`` newest descriptors of a process by kind, "40 pipe, 2 /tmp/log": a file by its name, a socket by
    where it leads. Empty where /proc does not tell."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        numbers = sorted(map(int, os.listdir(folder)), reverse=True)
    except (OSError, ValueError):
        return ""
    links: list[str] = []
    for number in numbers:
        with contextlib.suppress(OSError):  # closed since; or of this listing itself, where it is of this process
            links.append(os.readlink(folder / str(number)))
    del links[came:]
    sockets = sockets_of(pid) if any(INODE.fullmatch(link) for link in links) else {}
    return _by_kind(_kind(link, sockets) for link in links)


def threads(roots: Sequence[str]) -> str:
    """Threads by name and by what they run, "40 Thread-* (work), in work (app.py:12)", from the names of a heap's
    roots, ``thread NAME: FRAME``. Empty where there is the main thread only."""
    frames: dict[str, str] = {}
    for root in roots:
        found = re.match(r"thread (.+?): (.+? \(.+?:\d+\))(?: .*)?$", root)
        if found and not re.search(r"\((threading|queue|selectors)\.py:\d+\)$", found[2]):
            frames.setdefault(found[1], found[2])
    frames.pop("MainThread", None)
    return _by_kind(f"{re.sub(r'-[0-9]+(?= |$)', '-*', name)}, in {frame}" for name, frame in frames.items())


def sockets_of(pid: int) -> Mapping[str, str]:
    """``{inode: "socket to 10.0.0.1:443"}`` of the network namespace of a process."""
    found: dict[str, str] = {}
    served: set[str] = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for row in _rows(pid, table):
            words = row.split()
            local, remote, state, inode = words[1], words[2], int(words[3], 16), words[9]
            if state == LISTENING and table.startswith("tcp"):
                served.add(local)
                found[inode] = f"socket listening on {_address(local)}"
            elif local in served:  # listening sockets come first
                found[inode] = f"socket accepted on {_address(local)}"
            else:
                found[inode] = f"socket to {_address(remote)}"
    for row in _rows(pid, "unix"):
        words = row.split()
        found[words[6]] = f"unix socket {words[7]}" if len(words) > 7 else "unix socket"
    return found


def _rows(pid: int, table: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/net/{table}").read_text("utf-8", "replace").splitlines()[1:]
    except OSError:
        return []


def _address(words: str) -> str:
    """``0100007F:1F90`` as 127.0.0.1:8080: each four bytes are in the order of the machine (proc_pid_net(5))."""
    host, _, port = words.partition(":")
    packed = b"".join(struct.pack("=I", int(host[at : at + 8], 16)) for at in range(0, len(host), 8))
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    name = socket.inet_ntop(family, packed)
    return f"{name}:{int(port, 16)}" if family == socket.AF_INET else f"[{name}]:{int(port, 16)}"


def _kind(link: str, sockets: Mapping[str, str]) -> str:
    of_socket = INODE.fullmatch(link)
    if of_socket:
        return sockets.get(of_socket[1], "socket that leads nowhere")
    return re.sub(r":\[\d+\]$", "", link).removeprefix("anon_inode:").strip("[]")


def _by_kind(kinds: Iterable[str]) -> str:
    rows = Counter(kinds).most_common()
    shown = [f"{count} {kind}" for kind, count in rows[:MOST_KINDS]]
    more = sum(count for _, count in rows[MOST_KINDS:])
    return ", ".join([*shown, f"{more} more"] if more else shown)
