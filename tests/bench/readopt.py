"""How long a node needs to come back: `python -m tests.bench.readopt`.

A durable node with many running containers, each with a readiness probe over HTTP, is killed with
-9 and started again, several times. Told is the time from the start of the new process until it
has taken on all containers (and the CPU of that, which a busy machine does not change much), and
until each has been probed again. Those probes are spread over a
period on purpose, so the second number is never below the larger part of one; the period is named.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

from supervisor.store import sqlite

PERIOD = 1  # seconds between two probes of one container
PATIENCE = 120.0


class Target:
    """Answers all probes, and remembers when each path was asked for first."""

    def __init__(self) -> None:
        self.asked: dict[str, float] = {}
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A node that is killed breaks off its requests.
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.setdefault(head.split()[1].decode(), time.perf_counter())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()
        writer.close()


def manifest(name: str, port: int) -> dict[str, object]:
    probe = {
        "httpGet": {"port": port, "path": f"/{name}"},
        "periodSeconds": PERIOD,
        "timeoutSeconds": 5,
    }
    container = {"name": "app", "command": ["sleep", "100000"], "readinessProbe": probe}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


class Life:
    """One process of the node."""

    def __init__(self, folder: str, errors: IO[bytes]) -> None:
        self._errors = errors
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            [os.path.join(os.path.dirname(sys.executable), "podvisor"), "serve", f"{folder}/pods"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
        )

    def until(self, condition: Callable[[], bool], what: str) -> float:
        """Wait for it; return the seconds since the start of the process."""
        while not condition():
            if self.process.poll() is not None or time.perf_counter() > self.begin + PATIENCE:
                self._errors.seek(0)
                sys.exit(f"no {what}: {self._errors.read().decode()[-2000:]}")
            time.sleep(0.001)
        return time.perf_counter() - self.begin

    def says(self, text: str) -> bool:
        size = os.fstat(self._errors.fileno()).st_size
        return text.encode() in os.pread(self._errors.fileno(), size, 0)

    def cpu(self) -> float:
        """Seconds of CPU that the process has taken, all its threads included."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            words = file.read().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)
        self.process.wait()


@contextlib.contextmanager
def life(folder: str) -> Iterator[Life]:
    with tempfile.TemporaryFile() as errors:
        node = Life(folder, errors)
        try:
            yield node
        finally:
            if node.process.poll() is None:
                node.end(signal.SIGTERM)


def ready(folder: str) -> int:
    """How many pods are ready, as the store has it."""
    path = f"{folder}/.podvisor/podvisor.db"
    if not os.path.exists(path):
        return 0
    return sum(
        all(c.ready for c in stored.record.status.container_statuses)
        and bool(stored.record.status.container_statuses)
        for stored in sqlite.read(path).pods
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--containers", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    count = options.containers
    target = Target()
    adopted: list[float] = []
    cpu: list[float] = []
    probed: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/pods")
        for number in range(count):
            with open(f"{folder}/pods/p{number}.json", "w", encoding="utf-8") as file:
                json.dump(manifest(f"p{number}", target.port), file)
        with life(folder) as node:
            node.until(lambda: len(target.asked) == count, "probe of every container")
            while ready(folder) < count:
                time.sleep(0.2)
            node.end(signal.SIGKILL)
        for number in range(options.kills):
            time.sleep(0.5)  # requests under way shall be over
            target.asked.clear()
            with life(folder) as node:
                adopted.append(node.until(lambda n=node: n.says("taken on again\n"), "adoption"))  # type: ignore[misc]
                cpu.append(node.cpu())
                node.until(lambda: len(target.asked) == count, "probe of every container")
                probed.append(sorted(at - node.begin for at in target.asked.values()))
                assert ready(folder) == count, "what was ready is ready"
                if number < options.kills - 1:
                    node.end(signal.SIGKILL)
    print(f"a node with {count} running containers, killed with -9 and started again:")
    taken, busy = statistics.median(adopted), statistics.median(cpu)
    print(f"  all taken on after        {taken:6.3f} s  (CPU {busy:.2f} s)")
    half = statistics.median(times[len(times) // 2] for times in probed)
    print(f"  half probed again after   {half:6.3f} s")
    last = statistics.median(times[-1] for times in probed)
    print(f"  all probed again after    {last:6.3f} s  (spread over a period of {PERIOD} s)")


if __name__ == "__main__":
    main()
