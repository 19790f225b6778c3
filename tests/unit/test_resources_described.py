"""What descriptors and threads are called: of this very process, and from names of a heap's roots."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from leakharness.measure.resources_described import descriptors, sockets_of, threads

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@linux
def test_descriptors_by_kind(tmp_path: Path) -> None:
    """Five of a file are among the newest descriptors of this process; pytest may have newer ones of its own."""
    fence = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]  # so that no lower number is free
    name = tmp_path / "log"
    name.touch()
    opened = [os.open(name, os.O_RDONLY) for _ in range(5)]
    said = descriptors(os.getpid(), 20)
    for descriptor in (*opened, *fence):
        os.close(descriptor)
    assert f"5 {name}" in said
    assert f"{os.devnull}" in said


@linux
def test_sockets_by_where_they_lead() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            said = list(sockets_of(os.getpid()).values())
    assert said.count(f"socket listening on 127.0.0.1:{port}") == 1
    assert said.count(f"socket accepted on 127.0.0.1:{port}") == 1
    assert said.count(f"socket to 127.0.0.1:{port}") == 1


def test_threads_by_name_and_by_what_they_run() -> None:
    """The program's innermost frame; the main thread is none that came."""
    roots = [
        "sys.modules['app']",
        "thread MainThread: main (app.py:3) local 'x'",
        *(f"thread Thread-{i} (work): wait (threading.py:320) local 'self'" for i in range(4)),
        *(f"thread Thread-{i} (work): work (app.py:19) local 'self'" for i in range(4)),
        "thread pool_0: serve (app.py:40)",
    ]
    assert threads(roots) == "4 Thread-* (work), in work (app.py:19), 1 pool_0, in serve (app.py:40)"
