"""Requests of a real service (uvicorn, FastAPI, a listener that leaks) while `leakharness live` looks at it.

usage: live_service.py [--python PATH] [--objects MILLIONS] [--clients N] [--seconds S]

PATH is an interpreter with uvicorn and fastapi (this one by default). In one run: the requests' p50, p99 and longest
time without a look, with looks one after the other, and with looks that pause; then what the last look said.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

APP = """
import asyncio, sys
from fastapi import FastAPI, Request
import uvicorn

class Message:
    def __init__(self, number):
        self.role, self.parts, self.text = "user", [number], str(number)

class Transcript:
    def __init__(self, path):
        self.path, self.messages = path, [Message(number) for number in range(3)]

app = FastAPI()
LISTENERS = []
HISTORY = [Message(number) for number in range(int(float(sys.argv[1]) * 1e6) // 2)]

@app.get("/{name}")
async def answer(name: str, request: Request):
    transcript = Transcript(request.url.path)
    def on_shutdown():
        return transcript
    LISTENERS.append(on_shutdown)
    await asyncio.sleep(0)
    return {"name": name, "messages": len(transcript.messages)}

config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False)
server = uvicorn.Server(config)

async def main():
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await task

asyncio.run(main())
"""
PAUSE_S = 0.002


class Load:
    """Clients that ask one request after the other, each on a connection of its own."""

    def __init__(self, port: int, clients: int) -> None:
        self.times: list[float] = []
        self.failed = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(port,)) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not self._stop.is_set():
            begin = time.perf_counter()
            connection.request("GET", "/chat")
            response = connection.getresponse()
            response.read()
            self.times.append((time.perf_counter() - begin) * 1000)
            self.failed += response.status != 200
            time.sleep(PAUSE_S)

    def told(self) -> str:
        """p50 / p99 / longest, in ms."""
        cut = statistics.quantiles(self.times, n=100)
        longest = max(self.times)
        return f"{cut[49]:7.2f} {cut[98]:7.2f} {longest:8.2f}   {len(self.times)} requests, {self.failed} failed"


def look(pid: int, folder: str, *words: str) -> dict[str, object]:
    command = [sys.executable, "-m", "leakharness", "live", "look", str(pid), "--json", "--lane-dir", folder, *words]
    found: dict[str, object] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--python", default=sys.executable)
    options.add_argument("--objects", type=float, default=0.45)
    options.add_argument("--clients", type=int, default=2)
    options.add_argument("--seconds", type=float, default=10)
    words = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "gateway.py"
        app.write_text(APP)
        service = subprocess.Popen([words.python, str(app), str(words.objects)], stdout=subprocess.PIPE, text=True)
        try:
            assert service.stdout is not None
            port = int(service.stdout.readline())
            answer: dict[str, object] = {}
            print(f"{'':20} {'p50':>7} {'p99':>7} {'longest':>8}   ms")
            for name, more in (
                ("no look", None),
                ("live look", ()),
                ("live look --pause", ("--pause",)),
                ("no look", None),
            ):
                looks, stops = 0, []
                with Load(port, words.clients) as load:
                    end = time.monotonic() + words.seconds
                    while time.monotonic() < end:
                        if more is None:
                            time.sleep(0.1)
                            continue
                        answer = look(service.pid, folder, *more)
                        looks, stops = looks + 1, [*stops, float(str(answer["stopped_ms"]))]
                held = f", {looks} looks, held {max(stops):.0f} ms at most" if looks else ""
                print(f"{name:20} {load.told()}{held}", flush=True)
            print(f"{answer['objects']} objects, {answer['torn']} torn; the service goes on: {service.poll() is None}")
            retainers = answer["retainers"]
            assert isinstance(retainers, list)
            for group in retainers[:4]:
                print(group["sentence"])
        finally:
            service.kill()
            service.wait()


if __name__ == "__main__":
    main()
