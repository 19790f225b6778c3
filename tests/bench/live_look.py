"""What a look at a running process costs: the time to the answer, the stop of the service, the tool's memory.

usage: live_look.py [--sizes 0.1 1 5] [--python PATH] [--ordinary] [--service]

For each size (in millions of tracked objects) a process is started and looked at, with and without --pause, beside
``py-spy dump`` (which reads stacks only) and ``memray attach`` (which injects a tracker) where those are at hand, the
probe's fork by ``sys.remote_exec`` where the interpreter has it, and the time that copying as much memory takes.
``--ordinary``: with bytes in the messages, so that an object has 230 bytes of memory in the middle, and not 120.
``--service`` asks a server on 127.0.0.1 for answers meanwhile and prints their p50, p99 and longest time, without a
look, with looks one after the other, and with looks that pause.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HEAP = """
import sys, time
class Message:
    def __init__(self, number):
        self.role, self.parts, self.text = "user", [number], "x" * int(sys.argv[2]) + str(number)
class Session:
    __slots__ = ("messages",)
    def __init__(self):
        self.messages = [Message(number) for number in range(20)]
SESSIONS = [Session() for _ in range(int(float(sys.argv[1]) * 1e6) // 42)]
"""
STILL = HEAP + "print('up', flush=True)\nwhile True:\n    time.sleep(0.05)\n"  # what injects code waits for bytecode
SERVER = (
    HEAP
    + """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"x" * 1000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
)
OTHERS = {
    "py-spy dump (stacks)": ("py-spy", "dump", "--pid", "{pid}"),
    "memray attach, 1 s": ("memray", "attach", "--duration", "1", "-o", "{folder}/{pid}.bin", "{pid}"),
}
"""What else is asked of a running process, where it is at hand."""
OTHERS_SECONDS = 20
ORDINARY = 210
"""Characters of each message, of which there is one for two objects: as in a service that has texts."""
REQUESTS = 1500


def started(python: str, code: str, size: float, text: int = 0) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([python, "-c", code, str(size), str(text)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def resident(pid: int) -> float:
    """MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def look(pid: int, folder: str, *words: str) -> tuple[dict[str, object], float, float]:
    """(the answer, seconds, MiB of the tool)."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "leakharness", "live", "look", str(pid), "--json", "--lane-dir", folder, *words]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out)
        _, _, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        out.seek(0)
        return json.load(out), seconds, usage.ru_maxrss / 1024


def copying(mebibytes: float) -> float:
    """Milliseconds that copying so much memory takes where both ends are there already: the fastest of five."""
    source, target = bytearray(int(mebibytes * 2**20)), bytearray(int(mebibytes * 2**20))
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        target[:] = source
        times.append((time.perf_counter() - begin) * 1000)
    return min(times[1:])


INJECTED = """
import sys, time
sys.path.insert(0, {package!r})
from leakharness.worker.capture.snapshot import snapshot
begin = time.perf_counter()
child = snapshot({out!r} + ".capture")
with open({out!r} + ".ms", "w") as file:
    file.write(str((time.perf_counter() - begin) * 1000))
"""
"""What the process runs for `injected`: its stop is the fork and what comes before it."""


def injected(pid: int, python: str, folder: str) -> tuple[float, float] | None:
    """(seconds until the capture of the process is there, its stop in ms) by sys.remote_exec; None without that."""
    out = f"{folder}/{pid}-injected"
    script = Path(out + ".py")
    script.write_text(INJECTED.format(package=str(Path(__file__).parents[2]), out=out))
    begin = time.monotonic()
    done = subprocess.run(
        [python, "-c", f"import sys; sys.remote_exec({pid}, {str(script)!r})"], capture_output=True, check=False
    )
    while done.returncode == 0 and time.monotonic() - begin < OTHERS_SECONDS:
        if Path(out + ".capture").exists() and Path(out + ".ms").exists():
            return time.monotonic() - begin, float(Path(out + ".ms").read_text())
        time.sleep(0.01)
    return None


def table(sizes: list[float], python: str, folder: str, text: int) -> None:
    print(f"{'objects':>9} {'target MiB':>10} {'way':24} {'answer s':>9} {'stop ms':>8} {'tool MiB':>9}")
    for size in sizes:
        process, _ = started(python, STILL, size, text)
        try:
            own = resident(process.pid)
            for name, words in (("live look", ()), ("live look --pause", ("--pause",))):
                answer, seconds, memory = look(process.pid, folder, *words)
                stop = float(str(answer["stopped_ms"]))
                print(f"{answer['objects']:>9} {own:>10.0f} {name:24} {seconds:>9.2f} {stop:>8.1f} {memory:>9.0f}")
            print(f"{'':>9} {own:>10.0f} {'copying so much (memcpy)':24} {'':>9} {copying(own):>8.1f}")
            forked = injected(process.pid, python, folder)
            if forked is not None:
                print(f"{'':>9} {own:>10.0f} {'remote_exec, own fork':24} {forked[0]:>9.2f} {forked[1]:>8.1f}")
            for name, command in OTHERS.items():
                program = shutil.which(command[0], path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
                if program is None:
                    continue
                begin = time.monotonic()
                words = [program, *(word.format(pid=process.pid, folder=folder) for word in command[1:])]
                try:
                    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=OTHERS_SECONDS)
                    said = "" if done.returncode == 0 else f" exit {done.returncode}: {done.stderr.strip()[-80:]!r}"
                except subprocess.TimeoutExpired:
                    said = " did not end"
                print(f"{'':>9} {own:>10.0f} {name:24} {time.monotonic() - begin:>9.2f}{said}")
        finally:
            process.kill()
            process.wait()


def latencies(port: int, stop: threading.Event | None) -> list[float]:
    """Milliseconds of REQUESTS requests, or of as many as fit until ``stop``."""
    connection, found = http.client.HTTPConnection("127.0.0.1", port, timeout=60), []
    while (len(found) < REQUESTS) if stop is None else not stop.is_set():
        begin = time.perf_counter()
        connection.request("GET", "/")
        connection.getresponse().read()
        found.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.002)
    return found


def while_looked_at(pid: int, port: int, folder: str, words: tuple[str, ...]) -> list[float]:
    """Times of the requests that were answered during three looks."""
    stop, times = threading.Event(), []
    client = threading.Thread(target=lambda: times.extend(latencies(port, stop)))
    client.start()
    for _ in range(3):
        look(pid, folder, *words)
    stop.set()
    client.join()
    return times


def service(size: float, python: str, folder: str) -> None:
    process, port = started(python, SERVER, size)
    try:
        print(f"\nrequests of a server with {size:g} million objects: p50 / p99 / longest, ms")
        for name, words in (("no look", None), ("live look", ()), ("live look --pause", ("--pause",))):
            times = (
                latencies(int(port), None) if words is None else while_looked_at(process.pid, int(port), folder, words)
            )
            cut = statistics.quantiles(times, n=100)
            print(f"  {name:20} {cut[49]:.2f} / {cut[98]:.2f} / {max(times):.2f}   ({len(times)} requests)")
    finally:
        process.kill()
        process.wait()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--sizes", nargs="*", type=float, default=[0.1, 1.0])
    options.add_argument("--python", default=sys.executable)
    options.add_argument("--ordinary", action="store_true")
    options.add_argument("--service", action="store_true")
    words = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table(words.sizes, words.python, folder, ORDINARY if words.ordinary else 0)
        if words.service:
            service(words.sizes[-1], words.python, folder)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU of all: {usage.ru_utime + usage.ru_stime:.1f} s")


if __name__ == "__main__":
    main()
